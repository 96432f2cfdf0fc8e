"""Letters: brought to ASCII, and shown in a terminal."""

import io
import os
import unicodedata

from backstage import letters

import pytest


@pytest.mark.parametrize(
    'text, folded',
    [
        ('\N{LEFT SINGLE QUOTATION MARK}Tis', "'Tis"),
        ('Stay\N{EM DASH}go, 1599\N{EN DASH}1601', 'Stay--go, 1599-1601'),
        ('Cæsar, ŒUVRE, ſo, oﬃce', 'Caesar, OEUVRE, so, office'),
        ('Straße, Ørsted, Þor, łuk', 'Strasse, Orsted, THor, luk'),
        ('banishèd E\N{COMBINING ACUTE ACCENT}', 'banished E'),
        ('soft\N{SOFT HYPHEN}ly', 'softly'),
        ('no\N{NO-BREAK SPACE}break \u5510\u8a69', 'no break   '),
        ('\x00 to be,\r\n\tOR_NOT [~]\x7f', '\x00 to be,\r\n\tOR_NOT [~]\x7f'),
    ],
)
def test_folding_keeps_case_and_ascii_and_brings_all_else_to_it(text, folded):
    assert letters.fold_to_ascii(text) == folded


def test_every_character_of_unicode_folds_to_ascii():
    for code in range(0, 0x110000, 83):
        assert all(ord(one) < 128 for one in letters.fold.__wrapped__(chr(code)))


OBEYED = '\x00 \x07 \x1b[31m \r \x7f \x9b2J \x85 \u202e \u2066 \t\n é \u05d0\u200f 唐'


def test_a_terminal_gets_symbols_for_what_it_would_obey_and_a_pipe_or_a_file_the_exact_text():
    shown = '␀ ␇ ␛[31m ␍ ␡ \ufffd2J \ufffd \ufffd \ufffd \t\n é \u05d0\u200f 唐'
    terminal, pipe = os.openpty(), os.pipe()
    for ends, expected in (terminal, shown), (pipe, OBEYED):
        with open(ends[0], 'rb'), open(ends[1], 'w') as file:
            assert letters.shown(OBEYED, file) == expected
    assert letters.shown(OBEYED, io.StringIO()) == OBEYED


def test_no_control_character_but_tab_and_line_end_comes_to_a_terminal():
    with open(os.openpty()[1], 'w') as terminal:
        shown = letters.shown(''.join(map(chr, range(0x3000))), terminal)
    controls = [one for one in shown if unicodedata.category(one) == 'Cc']
    assert controls == ['\t', '\n']
    directions = {unicodedata.bidirectional(one) for one in shown}
    assert not directions & {'LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI', 'PDI'}
