"""Text: from characters to ids. Three editions of one sonnet, and texts of other kinds."""

import functools
import os
import pathlib
import zlib

from backstage import folder, reading, running
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import IX2VOCAB, SMALL, encode, parse, script
from test_reading import EDITION_1994, EDITION_TODAY, PLAIN

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


@pytest.mark.parametrize('size', [1, 2, 3, 10, 100, 1000])
def test_no_two_spaces_meet_where_one_piece_ends_and_the_next_begins(read, size, monkeypatch):
    in_pieces = functools.partial(reading.file_pieces, size=size)
    monkeypatch.setattr(reading, 'file_pieces', in_pieces)
    assert read(PLAIN) == CLEANED
    assert read('\n\n so \n\n \n\n\n it  \n\n begins') == 'so it begins'
    marks = '*** {} OF THE PROJECT GUTENBERG EBOOK X ***\n'
    assert read(f'so\n\n{marks.format("END")}{marks.format("START")}\nlong') == 'so long'
    assert read('\n\n so \n\n ', clean_text=False) == '\n\n so \n\n '


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


def test_a_text_to_begin_with_is_encoded_as_the_text_to_learn_is():
    assert script.encode('To--BE\n\n\u5510', IX2VOCAB, True).tolist() == [
        [IX2VOCAB.index(character) for character in 'to--be ']
    ]
    ids = script.encode('bBa', ['unknown', 'a', 'b'], False)
    assert (ids.tolist(), ids.dtype) == ([[2, 0, 1]], np.int32)
    assert script.decode(ids[0], ['unknown', 'a', 'b']) == 'b\ufffda'


@pytest.fixture
def small(short_text, tmp_path):
    """Settings of a small model, a text of its own, and an empty folder."""
    (tmp_path / 'temp').mkdir()
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}')
    return parse(*arguments, f'--temp_dir={tmp_path}/temp')


def prepare(settings):
    with folder.only_run_in(settings, script.__file__):
        result = script.prepare_text(settings)
        folder.settle_text(settings.temp_dir, True)
        return result


def test_preparing_a_text_leaves_its_ids_and_says_what_it_is(small, capsys):
    small.held_out = 0.25
    ix2vocab, split, text = prepare(small)
    ids = np.fromfile(f'{small.temp_dir}/text.ids', np.uint8)
    unseen = sorted({*range(40)} - {*ids[:split]})
    np.testing.assert_array_equal(ids, encode(small.text_file, True, ix2vocab))
    assert (ix2vocab, split) == (IX2VOCAB, int(len(ids) * 0.75))
    assert text == {'text_crc': zlib.crc32(ids), 'unseen': unseen}
    assert sorted(os.listdir(small.temp_dir)) == ['lock', 'text.ids']
    assert capsys.readouterr().out.split('\n') == [
        f'Text: {small.text_file}, as text_file says',
        'Building Shakespeare Vocab by Characters',
        'Vocabulary Length = 40',
        f'{split:,} characters to learn, {len(ids) - split:,} held out',
        '',
    ]


def test_how_many_characters_are_rare_is_told(small, tmp_path, capsys):
    small.text_file, small.clean_text = str(tmp_path / 'rare.txt'), False
    (tmp_path / 'rare.txt').write_text('so it begins ' * 1000 + 'XYZ', encoding='utf-8')
    prepare(small)
    output = capsys.readouterr().out
    assert "\n3 of all characters are rare and read as 'unknown'\n" in output
    (told,) = [line for line in output.split('\n') if line.startswith("The text 'thou art more'")]
    assert told == "The text 'thou art more' has 'ahmru', read as 'unknown': too rare"


def test_what_only_the_held_out_part_has_is_not_learned(small, tmp_path):
    small.text_file, small.clean_text = str(tmp_path / 'two.txt'), False
    (tmp_path / 'two.txt').write_text('so it begins ' * 1000 + 'and ends ' * 50, encoding='utf-8')
    ix2vocab, _, text = prepare(small)
    assert [ix2vocab[ix] for ix in text['unseen'][1:]] == ['a', 'd']
    assert text['unseen'][0] == 0


def test_a_text_of_which_only_rare_characters_could_be_learned_is_refused(small, tmp_path):
    small.text_file, small.clean_text = str(tmp_path / 'rare.txt'), False
    text = ''.join(map(chr, range(0x4E00, 0x4E00 + 4000))) + 'so it ends ' * 10
    (tmp_path / 'rare.txt').write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match='all characters of the part to learn are rare ones'):
        prepare(small)
    assert os.listdir(small.temp_dir) == ['lock']


@pytest.mark.parametrize('text', ['too short', 'a' * 10_000, ''])
def test_a_text_that_is_refused_leaves_no_ids(small, tmp_path, text):
    small.text_file = str(tmp_path / 'other.txt')
    (tmp_path / 'other.txt').write_text(text)
    with pytest.raises(UserError, match=r'other\.txt has'):
        prepare(small)
    assert os.listdir(small.temp_dir) == ['lock']


def test_texts_that_differ_in_one_character_are_told_apart(small, tmp_path, short_text):
    text = short_text.read_bytes()
    crcs = []
    for changed in text, text.replace(b'e', b'o', 1), text:
        (tmp_path / 'copy.txt').write_bytes(changed)
        small.text_file = str(tmp_path / 'copy.txt')
        crcs.append(prepare(small)[2]['text_crc'])
        (pathlib.Path(small.temp_dir) / 'text.ids').unlink()  # there is no run that it is of
    assert crcs[0] == crcs[2] != crcs[1]


def test_training_reads_the_ids_from_the_disk(small, monkeypatch):
    small.max_iterations, read_batch = 2, script.read_batch
    read = []
    monkeypatch.setattr(
        script, 'read_batch', lambda ids, *more: read.append(ids) or read_batch(ids, *more)
    )
    with folder.only_run_in(small, script.__file__) as run_folder:
        assert script.train(small, running.Stop(), run_folder)[1] == 0
    assert len(read) == 2
    for ids in read:
        assert isinstance(ids, np.memmap) and not ids.flags.writeable
        assert ids.filename == os.path.join(small.temp_dir, 'text.ids')
