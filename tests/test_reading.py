"""Reading: a file in pieces, without what Project Gutenberg wrote around a work, and in ASCII."""

import functools
import io
import unicodedata

from backstage import reading
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import IX2VOCAB, parse, script

# The wording of Project Gutenberg's eBook 100 as it was from 1994 on: UTF-8 with a byte order
# mark, CRLF, a licence with an end mark of its own, and copyright notices between the works.
NOTICE = """<<THIS ELECTRONIC VERSION OF THE COMPLETE WORKS OF WILLIAM
SHAKESPEARE IS COPYRIGHT 1990-1993 BY WORLD LIBRARY, INC., AND IS
PROVIDED BY PROJECT GUTENBERG ETEXT OF ILLINOIS BENEDICTINE COLLEGE
WITH PERMISSION.  ELECTRONIC AND MACHINE READABLE COPIES MAY BE
DISTRIBUTED SO LONG AS SUCH COPIES (1) ARE FOR YOUR OR OTHERS
PERSONAL USE ONLY, AND (2) ARE NOT DISTRIBUTED OR USED
COMMERCIALLY.  PROHIBITED COMMERCIAL DISTRIBUTION INCLUDES BY ANY
SERVICE THAT CHARGES FOR DOWNLOAD TIME OR FOR MEMBERSHIP.>>"""
WORK_1994 = """
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


"""
EDITION_1994 = f"""\N{BYTE ORDER MARK}The Project Gutenberg EBook of The Complete Works

*** START OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

Produced by World Library, Inc.

***** SMALL PRINT! for COMPLETE SHAKESPEARE *****

This "Small Print!" by Charles B. Kramer, Attorney
****   SMALL PRINT! FOR __ COMPLETE SHAKESPEARE ****
["Small Print" V.12.08.93]
{WORK_1994.format(NOTICE=NOTICE)}\
End of this Etext of The Complete Works of William Shakespeare

*** END OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

***** This file should be named 100.txt or 100.zip *****
""".replace('\n', '\r\n')

# Today's wording: typographic quotes, dashes, ligatures and accents, underscores for italics.
WORK_TODAY = """
THE SONNETS

                    18

Shall I compare thee to a summer’s day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer’s lease hath all too short a date:
Feed’st thy light’s ﬂame with self‐substantial fuel—ay,
The Ægean and its Phœbus, “_Français_”
THE END

"""
EDITION_TODAY = f"""The Project Gutenberg eBook of The Complete Works of William Shakespeare

*** START OF THE PROJECT GUTENBERG EBOOK THE COMPLETE WORKS OF
WILLIAM SHAKESPEARE ***
{WORK_TODAY}\
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

# Each edition, and what is to be left of it.
EDITIONS = [
    (EDITION_1994, WORK_1994.format(NOTICE='')),
    (EDITION_TODAY, WORK_TODAY),
    (PLAIN, PLAIN),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'text.txt'


@pytest.fixture
def read(path):
    """Write a text to a file and read the work in it."""

    def write_and_read(text):
        path.write_bytes(text.encode())
        return ''.join(reading.read_pieces(path))

    return write_and_read


@pytest.mark.parametrize('edition, work', EDITIONS, ids=['1994', 'today', 'plain'])
def test_of_each_edition_the_work_is_left_and_nothing_else(read, edition, work):
    assert read(edition) == work


def test_the_licences_of_the_1990s_are_cut(read):
    text = (
        '**Welcome To The World of Free Plain Vanilla Electronic Texts**\n'
        '*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n'
        'Call me Ishmael.\n\n'
        'End of The Project Gutenberg Etext of Moby Dick\n'
    )
    assert read(text) == '\nCall me Ishmael.\n\n'


def test_a_trailer_that_names_only_the_etext_is_cut(read):
    assert read('Call me Ishmael.\nEnd of The Etext of Moby Dick\n') == 'Call me Ishmael.\n'


@pytest.fixture
def in_pieces(monkeypatch):
    """Let files be read in pieces of this size."""
    whole = reading.file_pieces
    return lambda size: monkeypatch.setattr(
        reading, 'file_pieces', functools.partial(whole, size=size)
    )


def test_words_of_a_mark_that_are_no_mark_are_part_of_the_text(read):
    text = 'PROJECT GUTENBERG, he said.\nThe End of The Etext\n*** START *** <<THIS>>\n'
    assert read(text) == text


@pytest.mark.parametrize('size', range(2000, 4000, 97))
def test_no_mark_or_notice_is_lost_where_one_piece_ends_and_the_next_begins(read, in_pieces, size):
    in_pieces(size)
    edition, work = EDITIONS[0]
    assert read(edition) == work


@pytest.mark.parametrize('size', [1, 2, 3, 10, 100, 1000])
def test_reading_in_pieces_of_any_size_gives_the_same_text(path, size):
    path.write_text(PLAIN)
    pieces = list(reading.file_pieces(path, size))
    assert ''.join(pieces) == PLAIN
    assert (len(pieces) > 1) == (size < 1000)


def test_a_byte_order_mark_is_no_part_of_a_text_and_all_line_ends_are_one(path):
    path.write_bytes('\ufeffto be\r\nor not\rto be\n'.encode())
    assert list(reading.file_pieces(path)) == ['to be\nor not\nto be\n']


def test_pieces_stay_small_where_a_text_has_no_line_ends(path):
    path.write_text('a b ' * 2_000_000)
    lengths = [len(piece) for piece in reading.file_pieces(path, 1000)]
    assert sum(lengths) == 8_000_000
    assert max(lengths) < 2_000_000


ACCENTS = (
    'Ist der Zügel lösbar? \u1e69\u0323 \u1eb5 한국어 \u0915\u093c\u09c7\u09be \u212b '
    'a\u0323\u0307e\u0301\u0302 \u0301so'
)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
@pytest.mark.parametrize('size', [1, 2, 3, 7, 1000])
def test_composed_and_decomposed_letters_are_the_same_wherever_a_piece_ends(path, size, form):
    text = ACCENTS.replace(' ', '\n') + ACCENTS.replace(' ', '') * 2000  # in part one endless line
    path.write_text(unicodedata.normalize(form, text), encoding='utf-8')
    composed = unicodedata.normalize('NFC', text)
    assert ''.join(reading.file_pieces(path, size)) == composed
    assert composed != unicodedata.normalize('NFD', text)
    cleaned = ''.join(script.read_text(path, True))
    assert cleaned == script.clean(unicodedata.normalize('NFD', text))


def test_a_text_of_nothing_but_accents_is_read_in_pieces_too(path):
    path.write_text('e' + '\u0301' * 50_000, encoding='utf-8')
    pieces = list(reading.file_pieces(path, 1000))
    assert ''.join(pieces) == 'é' + '\u0301' * 49_999
    assert max(map(len, pieces)) < 20_000


def test_a_text_to_begin_with_is_composed_as_the_text_to_learn_is(capsys):
    vocabulary = ['unknown', 'e', 'é']
    for text in 'éx', 'e\u0301x':
        ids = script.encode(text, vocabulary, False)
        assert ids.tolist() == [[2, 0]]
        reading.check_prime(text, ids, vocabulary, [])
        assert "has 'x', read as 'unknown'" in capsys.readouterr().out


@pytest.mark.parametrize('batch_size, seq_len, held_out', [(8, 12, 0.05), (1, 1, 0.5), (3, 7, 0.9)])
def test_a_text_is_long_enough_if_one_batch_fits_and_the_length_named_is(
    batch_size, seq_len, held_out
):
    shape = f'--batch_size={batch_size}', f'--training_seq_len={seq_len}'
    settings = parse(*shape, f'--held_out={held_out}')

    def needed(num_ids):
        """Return the number of characters that the refusal of such a text names; None without."""
        split = script.held_out_begin(num_ids, held_out)
        fits = script.batches_per_epoch(split, batch_size, seq_len) >= 1
        counts = np.array([0, num_ids - 1, 1])
        try:
            reading.check_text('a.txt', counts, split, settings, reading.Counter(visible=1, kept=1))
        except UserError as error:
            assert not fits
            begin, _, end = str(error).partition(f' {batch_size} x {seq_len} ')
            assert begin == f'a.txt has {num_ids:,} characters, and for one batch of'
            return int(end.split(' are needed')[0].replace(',', ''))
        assert fits
        return None

    longest = needed(2)
    assert {needed(n) for n in range(2, longest - 1)} == {longest}
    assert {needed(n) for n in range(longest, 2 * longest)} == {None}


@pytest.mark.parametrize(
    'data, words',
    [
        (b'', 'has no text, and'),
        ('\ufeff'.encode(), 'has no text, and'),
        (b' \n\t' * 2000, 'has no text, and'),
        (EDITION_TODAY.replace(WORK_TODAY, '').encode(), 'has no text, and'),
        (b'a' * 9000, 'has the same symbol throughout, and'),
        (b'abc', r'has 3 characters, and for one batch of 100 x 50 \S+ are needed. Take a longer'),
    ],
    ids=['nothing', 'a byte order mark', 'blanks', 'a licence', 'one letter', 'three letters'],
)
@pytest.mark.parametrize('clean_text', [True, False])
@pytest.mark.parametrize('min_word_freq', [1, 5])
def test_what_is_advised_for_next_to_no_text_can_be_followed(
    path, data, words, clean_text, min_word_freq
):
    path.write_bytes(data)
    settings = parse(f'--text_file={path}', f'--temp_dir={path.parent}')
    settings.clean_text, settings.min_word_freq = clean_text, min_word_freq
    with pytest.raises(UserError, match=f'text.txt {words}'):
        script.prepare_text(settings)


def test_that_all_characters_are_rare_is_told_where_there_are_enough_of_them(path):
    path.write_text(''.join(map(chr, range(0x4E00, 0x5600))) * 3, encoding='utf-8')
    settings = parse('--batch_size=9', f'--text_file={path}', f'--temp_dir={path.parent}')
    settings.clean_text, settings.prime_texts = False, ['\u4e00']
    with pytest.raises(UserError, match=r'text.txt occurs 5 times\. Lower min_word_freq'):
        script.prepare_text(settings)
    settings.min_word_freq = 3
    script.prepare_text(settings)


def test_where_no_batch_is_small_enough_only_a_longer_text_is_advised():
    settings, seen = (
        parse('--batch_size=1', '--training_seq_len=1'),
        reading.Counter(visible=1, kept=1),
    )
    with pytest.raises(UserError, match=r'of 1 x 1 3 are needed\. Take a longer text$'):
        reading.check_text('a.txt', np.array([0, 1, 1]), 1, settings, seen)
    reading.check_text('a.txt', np.array([0, 1, 2]), 2, settings, seen)


def test_characters_of_a_prime_text_that_a_model_does_not_know_are_told_where_wanted(capsys):
    vocabulary = ['unknown', 'o', 's']
    reading.check_prime('sos', np.array([[2, 1, 2]]), vocabulary, [])
    assert capsys.readouterr().out == ''
    told = "The text 'sox, so' has ' ,x', read as 'unknown': too rare\n"
    for file in None, io.StringIO():
        reading.check_prime('sox, so', np.array([[2, 1, 0, 0, 0, 2, 1]]), vocabulary, [], file)
        assert (file.getvalue() if file else capsys.readouterr().out) == told
    assert capsys.readouterr().out == ''


def test_characters_of_a_prime_text_that_a_model_has_never_read_are_told(path, capsys):
    vocabulary = ['unknown', 'o', 's', '7', 'z']
    reading.check_prime('so 7', np.array([[2, 1, 3]]), vocabulary, [0, 3, 4])
    told = "The text 'so 7' has '7', which the model has never read\n"
    assert capsys.readouterr().out == told
    # The part to learn has no 7, and the held-out part does not count.
    path.write_text('so ' * 1000 + '7' * 20)
    settings = parse('--batch_size=2', f'--text_file={path}', f'--temp_dir={path.parent}')
    settings.prime_texts = ['so 7', 'so']
    script.prepare_text(settings)
    assert [line for line in capsys.readouterr().out.splitlines(True) if 'never' in line] == [told]


def test_a_prime_text_of_which_nothing_is_left_is_refused():
    with pytest.raises(UserError, match="the text '\u0301' has no character to begin with"):
        reading.check_prime('\u0301', script.encode('\u0301', IX2VOCAB, True), IX2VOCAB, [])


RUSSIAN = 'Мой дядя самых честных правил,\nКогда не в шутку занемог, 1823\n'
CODE = 'def f(x):\n    return {"a": [x[0], (x + 1) ** 2], "b": f(x / 2) if x > 1 else None}\n'
JSON = '{"name": "a", "list": [1, 2, 3], "x": {"y": null, "z": true}}\n'
MUSIC = 'X:1\nT:Speed the Plough\nM:4/4\nK:G\n|:GABc dedB|dedB dedB|c2ec B2dB|c2A2 A2BA|\n'
CHINESE = '\u6bcf\u500b\u4eba' * 20 + 'one\n'
FRENCH = (
    '« Monsieur, répondit Candide, que me conseillez-vous ? » Il y avait en Westphalie, dans le '
    'château de monsieur le baron, un jeune garçon à qui la nature avait donné les mœurs les plus '
    'douces. Sa physionomie annonçait son âme, et l’on dînait de bonne heure\u2026\n'
)
GERMAN = (
    '»Was ist mit mir geschehen?« dachte er. Es war kein Traum. Sein Zimmer, ein richtiges, nur '
    'etwas zu kleines Menschenzimmer, lag ruhig zwischen den vier wohlbekannten Wänden.\n'
)
ENGLISH = (
    'KING. How now! What news? He said so, and was gone; the rest is silence, and nothing but '
    'what we have heard so often from our elders, and they from theirs in the days of old.\n'
)


def left_out(text, path):
    """Return the share that cleaning leaves out, where it is worth a word."""
    path.write_text(text, encoding='utf-8')
    seen = reading.Counter()
    for _ in script.read_text(path, True, seen):
        pass
    return round(reading.left_out(seen), 2)


LEFT_OUT = {
    'Russian': (RUSSIAN, 0.92),
    'Chinese': (CHINESE, 0.95),
    'code': (CODE, 0.44),
    'JSON': (JSON, 0.55),
    'music': (MUSIC, 0.17),
    'a snowman': ('\u2603', 1),
    'a mixture': (ENGLISH * 10 + RUSSIAN * 6, 0.21),
    'French': (FRENCH * 10, 0),
    'German': (GERMAN * 10, 0),
    'English': (ENGLISH * 10, 0),
    'plain': (PLAIN, 0),
    'nothing': ('', 0),
    'blanks': (' \n', 0),
}


@pytest.mark.parametrize('name', LEFT_OUT)
def test_what_cleaning_leaves_out_counts_where_it_is_more_than_the_marks_of_prose(path, name):
    text, share = LEFT_OUT[name]
    assert left_out(text, path) == share


def test_of_the_works_of_shakespeare_and_of_any_scene_of_them_little_is_left_out(path, works):
    assert left_out(works.decode(), path) == 0
    for begin in range(0, len(works), 500_000):
        assert left_out(works[begin : begin + 30_000].decode(), path) == 0


def test_the_share_that_is_left_out_is_told_and_how_to_keep_it(path, capsys):
    path.write_text(RUSSIAN * 500, encoding='utf-8')
    folder = path.parent
    settings = parse('--batch_size=2', f'--text_file={path}', f'--temp_dir={folder}')
    script.prepare_text(settings)
    told = (
        "Left out: 92% of the characters, as a clean text has letters of a-z, digits, - and ' only"
    )
    advice = '. To learn all of them: --clean_text=False\n'
    assert capsys.readouterr().out.count(told + advice) == 1
    settings.clean_text, settings.prime_texts = False, ['Мой']
    script.prepare_text(settings)
    assert 'Left out' not in capsys.readouterr().out


@pytest.mark.parametrize('text', [RUSSIAN * 5, '\u5510\u8a69' * 500, '1\u5510' * 500])
def test_where_nothing_is_left_to_learn_because_of_cleaning_the_sentence_says_so(path, text):
    path.write_text(text, encoding='utf-8')
    with pytest.raises(
        UserError, match=r', or --clean_text=False: \d+% of its characters were left'
    ):
        script.prepare_text(parse(f'--text_file={path}', f'--temp_dir={path.parent}'))
