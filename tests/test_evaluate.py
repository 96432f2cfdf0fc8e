"""tools.evaluate: how well a trained model predicts a text."""

import argparse
import csv
import io
import re
import sys
import zlib

from tools import evaluate

import numpy as np
import pytest
from conftest import IX2VOCAB, change, encode, history, lstm_logits, lstm_losses, parse, script

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def table(output):
    """Return the rows of a CSV table: list of dict."""
    return list(csv.DictReader(io.StringIO(output)))


def in_numpy(lstm, ids):
    """Return the loss of each character after the first, and whether it was the likeliest."""
    x, y, state = ids[None, :-1], ids[None, 1:], np.zeros((3, 2, 1, 16))
    losses, _ = lstm_losses(lstm, x, y, state)
    logits, _ = lstm_logits(lstm, x, state)
    return losses[0], (logits.argmax(axis=2) == y)[0]


def test_the_loss_of_each_of_several_texts_is_that_of_a_numpy_model(copy, tmp_path, works, use):
    paths, expected = [tmp_path / f'{length}.txt' for length in (2, 39, 450, 3000)], []
    for path in paths:
        path.write_bytes(works[3_000_000:].replace(b'\n', b' ')[: int(path.stem)])
        ids = encode(path, True, IX2VOCAB).astype(int)
        expected.append([part.mean() for part in in_numpy(copy.lstm(copy.best), ids)])
    for batch_size in 8, 1000:  # one stream, or as many as the text is long enough for
        change(copy.temp, batch_size=batch_size)
        output = use(evaluate, copy, '--csv', '--text_files', *paths)[1]
        found = [[float(row['nats']), float(row['accuracy'])] for row in table(output)]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert [row['text'] for row in table(output)] == list(map(str, paths))


@pytest.mark.parametrize('num_ids', [100, 500, 10_000, 238_714])
@pytest.mark.parametrize('start', [1, 50, 99])
def test_each_stream_warms_up_long_enough_or_from_the_first_character(num_ids, start):
    run = parse()
    streams, warm_up = evaluate.streams_and_warm_up(num_ids, start, run)
    assert 1 <= streams <= run.batch_size
    starts = start + np.arange(streams) * -(-(num_ids - start) // streams)
    assert (starts[1:] > max(200, run.training_seq_len)).all()
    # The first stream warms up from the first character; `measure` skips what comes before it.
    assert starts[0] in (1, warm_up + 1)


def test_by_default_the_held_out_part_is_evaluated_as_in_training(copy, use):
    (copy.folder / 'moved.txt').rename(copy.folder / 'short.txt')
    in_training = min(loss for _, loss in history(copy.temp)['held_out_losses'])
    ids = encode(copy.folder / 'short.txt', True, IX2VOCAB).astype(int)
    start = int(len(ids) * 0.95)
    expected = in_numpy(copy.lstm(copy.best), ids)[0][start - 1 :].mean()
    # Training warms up each of its 8 streams of 24 characters on only 12 characters.
    assert abs(expected - in_training) < 0.01
    for arguments in [], ['--text_file=./short.txt']:  # never the part that was trained on
        status, output, errors = use(evaluate, copy, *arguments)
        assert (status, errors) == (0, '')
        loss, bits = re.search(r'Loss: ([\d.]+) nats, ([\d.]+) bits', output).groups()
        assert abs(float(loss) - expected) < 1e-4
        assert abs(float(bits) - expected / np.log(2)) < 2e-4
        assert f'Characters: {len(ids) - start}, the held-out part of' in output


def test_a_run_can_be_evaluated_from_any_folder_and_is_not_changed(trained, tmp_path, use):
    expected, before = use(evaluate, trained)[1].splitlines()[1:], trained.content()
    status, output, errors = use(evaluate, tmp_path, f'--temp_dir={trained.temp}')
    assert (status, output.splitlines()[1:], errors) == (0, expected, '')
    assert trained.content() == before and not any(tmp_path.iterdir())


def test_lines_need_the_text_file_of_the_run_and_not_just_its_ids(copy, use):
    status, output, errors = use(evaluate, copy, '--lines')
    assert (status, output) == (2, '')
    assert 'was trained on is not in short.txt. Set text_file to it, or to another text' in errors
    (copy.folder / 'moved.txt').rename(copy.folder / 'short.txt')
    expected = use(evaluate, copy, '--lines', '--text_file=short.txt')[1]
    assert use(evaluate, copy, '--lines')[1] == expected != ''


@pytest.fixture(scope='module')
def learned(tmp_path_factory, works):
    """The settings and the ids of a run that has learned 20,000 characters. It has no model."""
    folder = tmp_path_factory.mktemp('learned')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    run = parse(f'--temp_dir={folder}')
    rows = np.repeat(np.uint8([IX2VOCAB.index('-'), 0]), 200)  # a ruled line; unknown characters
    ids = np.concatenate([rows, encode(folder / 'short.txt', True, IX2VOCAB)])
    ids.tofile(str(folder / 'text.ids'))
    run.text_crc = zlib.crc32(ids)
    split, shape = script.held_out_begin(len(ids), run.held_out), (100, 50)
    run.num_batches = script.batches_per_epoch(split, *shape)
    return run, ids


def test_the_learned_share_of_a_text_is_found(learned, works):
    run, ids = learned
    text = script.decode(ids[400:], IX2VOCAB)
    for edited, least, most in [
        (text + 'and more', 0.9, 1),  # not all, because of the held-out part
        (text[: len(text) // 2] + 'and other words than those that follow here ' * 220, 0.4, 0.6),
        (text.replace('the', 'teh'), 0.1, 0.9),
        (text[-900:], 0, 0),  # held out
        (works[3_000_000:3_020_000].decode(), 0, 0),
        *[(some, 0, 0) for some in ('-' * 500, '\u2603' * 500, 'to be or not to be', '')],
    ]:
        found = script.encode(edited, IX2VOCAB, False)[0].astype(np.uint8)
        assert least <= evaluate.learned_share(found, run) <= most, edited


def test_without_a_searchable_text_the_learned_share_is_zero(learned, tmp_path, monkeypatch):
    run, ids = argparse.Namespace(**{**vars(learned[0]), 'temp_dir': str(tmp_path)}), learned[1]
    path = tmp_path / 'text.ids'
    assert evaluate.learned_share(ids, run) == 0  # there is no file
    for data, is_known in (b'', False), (ids[:-1].tobytes(), False), (ids.tobytes(), True):
        path.write_bytes(data)
        assert (evaluate.learned_share(ids, run) > 0.9) == is_known
    monkeypatch.setattr(evaluate, 'SEARCHED', 1000)
    assert evaluate.learned_share(ids, run) == 0


def test_the_learned_share_is_reported_for_texts_and_for_lines(trained, tmp_path, use):
    text = (trained.folder / 'moved.txt').read_text()
    (tmp_path / 'other.txt').write_text(f'\n\n{text}and more')
    file = f'--text_file={tmp_path}/other.txt'
    whole, lines = use(evaluate, trained, file), use(evaluate, trained, file, '--lines')
    assert whole[::2] == (0, '') and lines[0] == 0 and 'Learned' not in lines[1]
    for said, what in (whole[1], 'it'), (lines[2], r'the first \d+ lines'):
        assert int(re.search(rf'Learned: (\d+)% of {what} was', said).group(1)) > 80


ODD_LINES = '', 'a', 'to', 'x' * 99, 'what light ' * 10, '-', 'and ' * 1200, 'so it is', '...'


def test_each_line_has_the_same_loss_as_alone(trained, tmp_path, use):
    text = '\r\n'.join(ODD_LINES)  # the last line has no line end
    (tmp_path / 'lines.txt').write_bytes(text.encode())
    arguments = ('--lines', '--csv', f'--text_file={tmp_path}/lines.txt')
    status, output, errors = use(evaluate, trained, *arguments)
    assert (status, 'Model: ' in errors) == (0, True)
    rows = table(output)
    assert [row['content'] for row in rows] == list(ODD_LINES)
    assert [int(row['line']) for row in rows] == list(range(1, 10))
    lstm = trained.lstm(trained.best)
    for line, row in zip(ODD_LINES, rows):
        ids = script.encode(line.strip(), IX2VOCAB, True)[0]
        ids = ids if ids.any() and line != '...' else ids[:0]
        assert int(row['characters']) == len(script.clean(line).strip())
        if not row['nats']:
            assert line in ('', '...')
            continue
        losses, _ = in_numpy(lstm, np.append(1, ids))  # each line begins after a space
        assert abs(float(row['nats']) - losses.mean()) < 1e-4
        assert abs(float(row['bits']) - losses.mean() / np.log(2)) < 2e-4
        assert abs(float(row['perplexity']) / np.exp(losses.mean()) - 1) < 1e-3
    output = use(evaluate, trained, *arguments[::2])[1]
    expected = [
        f'{float(row["nats"]):.4f} {line}' for line, row in zip(ODD_LINES, rows) if row['nats']
    ]
    assert output.splitlines() == expected


def test_only_the_table_has_blank_lines_and_it_counts_unknown_characters(copy, use):
    change(copy.temp, clean_text=False)
    text = '\n\n   \n\t\nto be \N{SNOWMAN}\n\nor not\n \n'
    (copy.folder / 'lines.txt').write_text(text, encoding='utf-8')
    printed = use(evaluate, copy, '--lines', '--text_file=lines.txt')[1]
    assert re.fullmatch('\\d\\.\\d{4} to be \N{SNOWMAN}\n\\d\\.\\d{4} or not\n', printed)
    rows = table(use(evaluate, copy, '--lines', '--csv', '--text_file=lines.txt')[1])
    assert [row['line'] for row in rows] == list('12345678')
    assert [row['unknown'] for row in rows] == list('00011000')  # a tab is unknown too
    assert 'all of lines.txt; ' in use(evaluate, copy, '--text_file=lines.txt')[1]


@pytest.mark.long
def test_control_characters_are_replaced_in_a_terminal_and_exact_elsewhere(
    trained, tmp_path, use, monkeypatch
):
    (tmp_path / 'lines.txt').write_text('to \x1b[2Jbe\x07', encoding='utf-8')
    arguments = ['--lines', f'--text_file={tmp_path}/lines.txt']
    for more in [], ['--csv']:
        assert use(evaluate, trained, *arguments, *more)[1].endswith('to \x1b[2Jbe\x07\n')
        with monkeypatch.context() as patch:
            patch.setattr(sys.stdout, 'isatty', lambda: True)
            printed = use(evaluate, trained, *arguments, *more)[1]
        assert printed.endswith('to ␛[2Jbe␇\n') and '\x1b' not in printed


@pytest.mark.long
def test_many_lines_keep_their_order_in_any_block_size(trained, tmp_path, works, use, monkeypatch):
    verses = works[3_000_000:3_020_000].decode('ascii', 'replace').splitlines()
    (tmp_path / 'lines.txt').write_text('\n'.join(verses))
    arguments = ('--lines', '--csv', f'--text_file={tmp_path}/lines.txt')
    expected = use(evaluate, trained, *arguments)[1]
    monkeypatch.setattr(evaluate, 'BLOCK', 7)
    monkeypatch.setattr(evaluate, 'STREAMS', 2)
    monkeypatch.setattr(evaluate, 'PIECE', 5)
    rows = [table(expected), table(use(evaluate, trained, *arguments)[1])]
    assert [row['content'] for row in rows[0]] == verses == [row['content'] for row in rows[1]]
    for one, other in zip(*rows):
        assert (one['nats'] == '') == (other['nats'] == '')
        assert abs(float(one['nats'] or 0) - float(other['nats'] or 0)) < 1e-5
