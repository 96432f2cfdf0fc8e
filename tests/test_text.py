"""From characters to ids: two editions of one sonnet, and other texts."""

import functools
import os
import pathlib
import zlib

from backstage import folder, reading
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import IX2VOCAB, SMALL, encode, parse, script

PLAIN = """THE SONNETS

18

Shall I compare thee to a summer's day?
Feed'st thy light's flame with self-substantial fuel--ay,
The Aegean and its Phoebus, "Francais"
THE END
"""
# Typographic quotes, dashes, ligatures and accents, underscores for italics
TODAY = """The Project Gutenberg eBook of The Complete Works of William Shakespeare

*** START OF THE PROJECT GUTENBERG EBOOK THE COMPLETE WORKS OF
WILLIAM SHAKESPEARE ***

THE SONNETS

                    18

Shall I compare thee to a summer’s day?
Feed’st thy light’s ﬂame with self‐substantial fuel—ay,
The Ægean and its Phœbus, “_Français_”
THE END

*** END OF THE PROJECT GUTENBERG EBOOK THE COMPLETE WORKS OF WILLIAM SHAKESPEARE ***

Updated editions will replace the previous one. Section 1. Café
"""
CLEANED = (
    "the sonnets 18 shall i compare thee to a summer's day feed'st thy light's flame with "
    'self-substantial fuel--ay the aegean and its '
    'phoebus francais the end '
)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a text to a file and reads it as the script does."""

    def write_and_read(text, clean_text=True):
        (tmp_path / 'text.txt').write_bytes(text.encode())
        return ''.join(script.read_text(tmp_path / 'text.txt', clean_text))

    return write_and_read


@pytest.mark.parametrize('edition', [TODAY, PLAIN])
def test_both_editions_give_the_same_text_and_the_same_40_symbols(read, tmp_path, edition):
    assert read(edition) == CLEANED
    ix2vocab = script.build_vocab(tmp_path / 'text.txt', clean_text=True, min_word_freq=5)
    assert ix2vocab == ['unknown', *" '-0123456789abcdefghijklmnopqrstuvwxyz"]
    assert len(ix2vocab) == 40


def test_the_real_text_uses_exactly_39_characters_and_its_ids_decode_to_it(tmp_path, works):
    path = tmp_path / 'works.txt'
    path.write_bytes(works)
    pieces = list(script.read_text(path, clean_text=True))
    text = ''.join(pieces)
    assert len(pieces) > 1
    assert ''.join(sorted(set(text))) == script.CHARACTERS
    assert '  ' not in text
    assert 'to be or not to be --that is the question' in text
    assert 'gutenberg' not in text
    ids = encode(path, True, IX2VOCAB)
    assert script.decode(ids, IX2VOCAB) == text
    assert ids.dtype == np.uint8


@pytest.mark.parametrize(
    'text, cleaned',
    [
        ('Cæsar, ŒUVRE, ſo, oﬃce', 'caesar oeuvre so office'),
        ('ay, [Exit.] & _go_; "so"', 'ay exit go so '),
        ('to be\r\nor \u5510\u8a69\n\n  to\rbe', 'to be or to be'),
        ('', ''),
    ],
)
def test_characters_fold_to_their_ascii_form_before_anything_is_dropped(text, cleaned):
    assert script.clean(text) == cleaned


@pytest.mark.parametrize('size', [1, 2, 10, 100])
def test_there_is_no_double_space_between_pieces(read, size, monkeypatch):
    in_pieces = functools.partial(reading.file_pieces, size=size)
    monkeypatch.setattr(reading, 'file_pieces', in_pieces)
    assert read(PLAIN) == CLEANED
    assert read('\n\n so \n\n \n\n\n it  \n\n begins') == 'so it begins'
    marks = '*** {} OF THE PROJECT GUTENBERG EBOOK X ***\n'
    assert read(f'so\n\n{marks.format("END")}{marks.format("START")}\nlong') == 'so long'
    assert read('\n\n so \n\n ', clean_text=False) == '\n\n so \n\n '


def test_without_cleaning_a_text_loses_only_gutenbergs_own_words(read):
    text = 'KING.\n  Nun, Käthchen — wohlan!\n\nЧто делать? 你好\n'
    assert read(text, clean_text=False) == text
    text = read(TODAY, clean_text=False)
    assert 'Feed’st thy light’s ﬂame' in text and 'utenberg' not in text.lower()


def test_without_cleaning_rare_characters_are_unknown_and_ids_may_be_wider(tmp_path):
    path = tmp_path / 'text.txt'
    path.write_text('ааааа' + 'b' * 7 + '漢漢漢漢' + '\n' * 5 + 'Z', encoding='utf-8')
    ix2vocab = script.build_vocab(path, clean_text=False, min_word_freq=5)
    assert ix2vocab == ['unknown', '\n', 'b', 'а']
    ids = encode(path, False, ix2vocab)
    assert ids.tolist() == [3] * 5 + [2] * 7 + [0] * 4 + [1] * 5 + [0]
    path.write_text(''.join(chr(0x4E00 + i) for i in range(300)), encoding='utf-8')
    ids = encode(path, False, script.build_vocab(path, False, 1))
    assert (ids.dtype, ids.tolist()) == (np.uint16, list(range(1, 301)))


def test_a_prime_text_is_encoded_like_the_text_to_learn():
    ids = script.encode('To--BE\n\n\u5510', IX2VOCAB, True)
    assert ids.tolist() == [[IX2VOCAB.index(character) for character in 'to--be ']]
    for text in 'béx', 'be\u0301x':
        ids = script.encode(text, ['unknown', 'é', 'b'], False)
        assert (ids.tolist(), ids.dtype) == ([[2, 1, 0]], np.int32)
    assert script.decode(ids[0], ['unknown', 'é', 'b']) == 'bé\ufffd'


@pytest.fixture
def small(short_text, tmp_path):
    """Settings of a small model with a text file and an empty temp_dir."""
    (tmp_path / 'temp').mkdir()
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}')
    return parse(*arguments, f'--temp_dir={tmp_path}/temp')


def prepare(settings, text=None):
    """Prepare the text of a run, or this text without cleaning."""
    if text is not None:
        path = pathlib.Path(settings.temp_dir).parent / 'other.txt'
        path.write_text(text, encoding='utf-8')
        settings.text_file, settings.clean_text = str(path), False
    with folder.only_run_in(settings, script.__file__):
        result = script.prepare_text(settings)
        folder.settle_text(settings.temp_dir, True)
        return result


def test_preparing_a_text_writes_its_ids_and_describes_it(small, capsys):
    small.held_out = 0.25
    ix2vocab, split, text = prepare(small)
    ids = np.fromfile(f'{small.temp_dir}/text.ids', np.uint8)
    unseen = sorted({*range(40)} - {*ids[:split]})
    np.testing.assert_array_equal(ids, encode(small.text_file, True, ix2vocab))
    assert (ix2vocab, split) == (IX2VOCAB, int(len(ids) * 0.75))
    assert text == {'text_crc': zlib.crc32(ids), 'unseen': unseen}
    assert sorted(os.listdir(small.temp_dir)) == ['lock', 'text.ids']
    assert capsys.readouterr().out.split('\n') == [
        f'Text: {small.text_file}, from text_file',
        'Building Shakespeare Vocab by Characters',
        'Vocabulary Length = 40',
        f'{split:,} characters to learn, {len(ids) - split:,} held out',
        '',
    ]


def test_a_refused_text_leaves_no_ids(small):
    rare = ''.join(map(chr, range(0x4E00, 0x4E00 + 4000))) + 'so it ends ' * 10
    for text, words in ('short', r'other\.txt has'), (rare, 'held-out part are rare'):
        with pytest.raises(UserError, match=words):
            prepare(small, text)
        assert os.listdir(small.temp_dir) == ['lock']
