"""Text: from characters to ids. Three editions of one sonnet, and texts of other kinds."""

import numpy as np
import pytest
from conftest import encode, script

# The wording of Project Gutenberg's eBook 100 as it was from 1994 on: UTF-8 with a byte order
# mark, CRLF, a licence with an end mark of its own, and copyright notices between the works.
NOTICE = """<<THIS ELECTRONIC VERSION OF THE COMPLETE WORKS OF WILLIAM
SHAKESPEARE IS COPYRIGHT 1990-1993 BY WORLD LIBRARY, INC., AND IS
PROVIDED BY PROJECT GUTENBERG ETEXT OF ILLINOIS BENEDICTINE COLLEGE
WITH PERMISSION.  ELECTRONIC AND MACHINE READABLE COPIES MAY BE
DISTRIBUTED SO LONG AS SUCH COPIES (1) ARE FOR YOUR OR OTHERS
PERSONAL USE ONLY, AND (2) ARE NOT DISTRIBUTED OR USED
COMMERCIALLY.  PROHIBITED COMMERCIAL DISTRIBUTION INCLUDES BY ANY
SERVICE THAT CHARGES FOR DOWNLOAD TIME OR FOR MEMBERSHIP.>>
"""
EDITION_1994 = f"""\N{BYTE ORDER MARK}The Project Gutenberg EBook of The Complete Works

*** START OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

Produced by World Library, Inc.

***** SMALL PRINT! for COMPLETE SHAKESPEARE *****

This "Small Print!" by Charles B. Kramer, Attorney
****   SMALL PRINT! FOR __ COMPLETE SHAKESPEARE ****
["Small Print" V.12.08.93]

{NOTICE}
THE SONNETS

                     18
  Shall I compare thee to a summer's day?
  Thou art more lovely and more temperate:
  Rough winds do shake the darling buds of May,
  And summer's lease hath all too short a date:

{NOTICE}

  Feed'st thy light's flame with self-substantial fuel--ay,
  The Aegean and its Phoebus, "Francais"
THE END

{NOTICE}

End of this Etext of The Complete Works of William Shakespeare

*** END OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

***** This file should be named 100.txt or 100.zip *****
""".replace('\n', '\r\n')

# Today's wording: typographic quotes, dashes, ligatures and accents, underscores for italics.
EDITION_TODAY = """The Project Gutenberg eBook of The Complete Works of William Shakespeare

*** START OF THE PROJECT GUTENBERG EBOOK THE COMPLETE WORKS OF
WILLIAM SHAKESPEARE ***

THE SONNETS

                    18

Shall I compare thee to a summer’s day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer’s lease hath all too short a date:
Feed’st thy light’s ﬂame with self‐substantial fuel—ay,
The Ægean and its Phœbus, “_Français_”
THE END

*** END OF THE PROJECT GUTENBERG EBOOK THE COMPLETE WORKS OF WILLIAM SHAKESPEARE ***

Updated editions will replace the previous one. Section 1. Café
"""

PLAIN = """THE SONNETS

18

Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Feed'st thy light's flame with self-substantial fuel--ay,
The Aegean and its Phoebus, "Francais"
THE END
"""

CLEANED = (
    "the sonnets 18 shall i compare thee to a summer's day thou art more lovely and more "
    "temperate rough winds do shake the darling buds of may and summer's lease hath all too "
    "short a date feed'st thy light's flame with self-substantial fuel--ay the aegean and its "
    'phoebus francais the end '
)


@pytest.fixture
def read(tmp_path):
    """Write a text to a file and read it as the script does."""

    def write_and_read(text, clean_text=True):
        path = tmp_path / 'text.txt'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ''.join(script.read_text(path, clean_text))

    return write_and_read


@pytest.mark.parametrize('edition', [EDITION_1994, EDITION_TODAY, PLAIN])
def test_the_three_editions_come_out_the_same(read, edition):
    assert read(edition) == CLEANED


@pytest.mark.parametrize('edition', [EDITION_1994, EDITION_TODAY, PLAIN])
def test_the_vocabulary_is_the_same_40_symbols_whatever_the_edition(tmp_path, edition):
    (tmp_path / 'text.txt').write_text(edition, encoding='utf-8')
    ix2vocab = script.build_vocab(tmp_path / 'text.txt', clean_text=True, min_word_freq=5)
    assert ix2vocab == ['unknown', *" '-0123456789abcdefghijklmnopqrstuvwxyz"]
    assert len(ix2vocab) == 40


def test_the_real_text_uses_all_39_characters_and_no_other(tmp_path, works):
    (tmp_path / 'works.txt').write_bytes(works)
    pieces = list(script.read_text(tmp_path / 'works.txt', clean_text=True))
    text = ''.join(pieces)
    assert len(pieces) > 1
    assert ''.join(sorted(set(text))) == script.CHARACTERS
    assert '  ' not in text
    assert 'to be or not to be --that is the question' in text
    assert 'gutenberg' not in text


def test_a_line_end_becomes_a_space_and_words_stay_apart(read):
    assert read('to be\r\nor not\n\n  to\rbe') == 'to be or not to be'


@pytest.mark.parametrize(
    'text, cleaned',
    [
        ('\N{LEFT SINGLE QUOTATION MARK}tis', "'tis"),
        ('o\N{RIGHT SINGLE QUOTATION MARK}er', "o'er"),
        ('stay\N{EM DASH}go', 'stay--go'),
        ('1599\N{EN DASH}1601', '1599-1601'),
        ('well\N{NON-BREAKING HYPHEN}met', 'well-met'),
        ('Cæsar, ŒUVRE, ſo, oﬃce', 'caesar oeuvre so office'),
        ('banishèd façade e\N{COMBINING ACUTE ACCENT}', 'banished facade e'),
        ('Straße, Ørsted', 'strasse orsted'),
        ('soft\N{SOFT HYPHEN}ly zero\N{ZERO WIDTH SPACE}width', 'softly zerowidth'),
        ('no\N{NO-BREAK SPACE}break\N{HORIZONTAL ELLIPSIS}now', 'no break now'),
        ('ay, [Exit.] & _go_; "so"', 'ay exit go so '),
        ('to \u5510\u8a69 be', 'to be'),
        ('', ''),
        ('\n', ' '),
    ],
)
def test_characters_fold_to_their_ascii_form_before_anything_is_dropped(text, cleaned):
    assert script.clean(text) == cleaned


def test_the_licences_of_the_1990s_are_cut(read):
    text = (
        '**Welcome To The World of Free Plain Vanilla Electronic Texts**\n'
        '*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n'
        'Call me Ishmael.\n\n'
        'End of The Project Gutenberg Etext of Moby Dick\n'
    )
    assert read(text) == 'call me ishmael '


def test_a_trailer_that_names_only_the_etext_is_cut(read):
    assert read('Call me Ishmael.\nEnd of The Etext of Moby Dick\n') == 'call me ishmael '


def test_works_one_after_the_other_each_lose_their_header_and_licence(read):
    work = 'header\n*** START OF THE PROJECT GUTENBERG EBOOK {0} ***\nwork {0}\n{1}'
    end = '*** END OF THE PROJECT GUTENBERG EBOOK {} ***\nlicence\n'
    text = ''.join(work.format(name, end.format(name)) for name in 'abc')
    assert read(text) == 'work a work b work c '


def test_a_mark_late_in_a_text_without_an_end_before_it_is_part_of_the_text(read):
    quoted = '*** START OF THE PROJECT GUTENBERG EBOOK X ***\n'
    assert read('word ' * 20_000 + '\n' + quoted + 'more').startswith('word word')


@pytest.mark.parametrize('size', [1, 2, 3, 10, 100, 1000])
def test_reading_in_pieces_of_any_size_gives_the_same_text(tmp_path, size):
    (tmp_path / 'text.txt').write_text(PLAIN)
    assert ''.join(script.read_pieces(tmp_path / 'text.txt', size)) == PLAIN
    assert ''.join(script.clean_pieces(script.read_pieces(tmp_path / 'text.txt', size))) == CLEANED


@pytest.mark.parametrize('size', range(2000, 4000, 97))
def test_no_mark_or_notice_is_lost_where_one_piece_ends_and_the_next_begins(tmp_path, size):
    (tmp_path / 'text.txt').write_bytes(EDITION_1994.encode())
    pieces = script.cut_gutenberg(script.read_pieces(tmp_path / 'text.txt', size))
    pieces = (script.COPYRIGHT_NOTICE.sub('', piece) for piece in pieces)
    assert ''.join(script.clean_pieces(pieces)) == CLEANED


def test_pieces_stay_small_where_a_text_has_no_line_ends(tmp_path):
    (tmp_path / 'text.txt').write_text('a b ' * 2_000_000)
    lengths = [len(piece) for piece in script.read_pieces(tmp_path / 'text.txt', 1000)]
    assert sum(lengths) == 8_000_000
    assert max(lengths) < 2_000_000


def test_without_cleaning_the_text_stays_as_it_is(read):
    text = 'KING.\n  Nun, Käthchen — wohlan!\n\nЧто делать? 你好\n'
    assert read(text, clean_text=False) == text


def test_without_cleaning_gutenbergs_own_words_go_all_the_same(read):
    text = read(EDITION_1994, clean_text=False)
    assert 'Thou art more lovely and more temperate:\n' in text
    assert not any(word in text for word in ('GUTENBERG', 'Small Print', 'ELECTRONIC VERSION'))


def test_without_cleaning_rare_characters_become_unknown(tmp_path):
    path = tmp_path / 'text.txt'
    path.write_text('ааааа' + 'b' * 7 + '漢漢漢漢' + '\n' * 5 + 'Z', encoding='utf-8')
    ix2vocab = script.build_vocab(path, clean_text=False, min_word_freq=5)
    assert ix2vocab == ['unknown', '\n', 'b', 'а']
    ids = encode(path, False, ix2vocab)
    assert ids.tolist() == [3] * 5 + [2] * 7 + [0] * 4 + [1] * 5 + [0]


def test_ids_name_the_characters_of_the_whole_text(tmp_path, works):
    path = tmp_path / 'works.txt'
    path.write_bytes(works)
    ix2vocab = script.build_vocab(path, True, 5)
    ids = encode(path, True, ix2vocab)
    text = ''.join(script.read_text(path, clean_text=True))
    assert script.decode(ids, ix2vocab) == text
    assert ids.dtype == np.uint8


def test_a_large_vocabulary_has_wider_ids(tmp_path):
    path = tmp_path / 'text.txt'
    characters = [chr(0x4E00 + i) for i in range(300)]
    path.write_text(''.join(characters), encoding='utf-8')
    ix2vocab = script.build_vocab(path, False, 1)
    ids = encode(path, False, ix2vocab)
    assert (ids.dtype, ids.tolist()) == (np.uint16, list(range(1, 301)))


def test_training_reads_the_ids_from_the_disk(settings, short_text):
    settings.text_file, settings.training_seq_len = str(short_text), 10
    path, ix2vocab = script.prepare_vocab(settings)
    script.prepare_ids(path, ix2vocab, settings, script.ALONE)
    ids, _ = script.open_ids(ix2vocab, settings)
    assert isinstance(ids, np.memmap)
    assert not ids.flags.writeable
