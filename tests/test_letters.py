"""Letters: brought to ASCII."""

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
