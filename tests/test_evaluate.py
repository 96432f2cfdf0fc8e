"""tools.evaluate: how well a trained model predicts a text."""

import json
import re

from tools import evaluate

import numpy as np
import pytest
from conftest import IX2VOCAB, encode, history, lstm_logits, lstm_losses, run_tool

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def figures(output):
    """Return the loss and the accuracy that were printed."""
    loss = re.search(r'Loss: ([\d.]+) nats', output).group(1)
    accuracy = re.search(r'Accuracy: ([\d.]+)%', output).group(1)
    return float(loss), float(accuracy) / 100


def in_numpy(lstm, ids):
    """Return the loss of each character but the first, and whether it was the likeliest one."""
    x, y, state = ids[None, :-1], ids[None, 1:], np.zeros((3, 2, 1, 16))
    losses, _ = lstm_losses(lstm, x, y, state)
    logits, _ = lstm_logits(lstm, x, state)
    return losses[0], (logits.argmax(axis=2) == y)[0]


def test_the_whole_of_another_text_is_evaluated_in_one_stream_if_asked(
    trained, tmp_path, works, use
):
    before = trained.content()
    text = tmp_path / 'other.txt'
    text.write_bytes(works[3_000_000:3_001_000])
    status, output, errors = use(evaluate, trained, f'--text_file={text}', '--streams=1')
    assert (status, errors) == (0, '')
    assert trained.content() == before
    ids = encode(text, True, IX2VOCAB).astype(int)
    losses, hits = in_numpy(trained.lstm(trained.best), ids)
    loss, accuracy = figures(output)
    assert abs(loss - losses.mean()) < 1e-4
    assert abs(accuracy - hits.mean()) < 1e-4
    assert f'Model: {trained.best}\n' in output
    assert f'Characters: {ids.size - 1:,}, all of {text}; 0 unknown' in output
    assert f'{loss / np.log(2):.2f}'[:-1] in output.split('nats, ')[1]


def test_each_of_several_streams_begins_anew_where_there_is_little_text_before_it(
    trained, tmp_path, use
):
    text = tmp_path / 'other.txt'
    text.write_text('what light is there')
    ids = encode(text, True, IX2VOCAB).astype(int)
    lstm = trained.lstm(trained.best)
    expected = [
        in_numpy(lstm, ids)[0].mean(),
        np.concatenate([in_numpy(lstm, part)[0] for part in (ids[:10], ids[9:])]).mean(),
    ]
    assert abs(expected[0] - expected[1]) > 0.01
    for streams, loss in enumerate(expected, 1):
        output = use(evaluate, trained, f'--text_file={text}', f'--streams={streams}')[1]
        assert abs(figures(output)[0] - loss) < 1e-4


def test_without_a_text_the_held_out_part_is_evaluated_as_in_training(copy, use):
    (copy.folder / 'moved.txt').rename(copy.folder / 'short.txt')
    past = history(copy.temp)
    expected = min(loss for _, loss in past['held_out_losses'])
    results = [
        run_tool('evaluate', cwd=copy.folder),
        use(evaluate, copy, '--text_file=./short.txt'),  # never what was trained on
    ]
    for status, output, errors in results:
        assert (status, errors) == (0, '')
        assert abs(figures(output)[0] - expected) < 1e-4
        assert 'the held-out part of' in output


def test_a_text_that_has_gone_is_told(trained, use):
    status, _, errors = use(evaluate, trained)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'short.txt cannot be read' in errors


def test_a_text_that_has_changed_since_is_not_taken_for_the_one_that_was_learned(copy, use):
    text = (copy.folder / 'moved.txt').read_text()
    (copy.folder / 'short.txt').write_text(text + 'and more')
    status, _, errors = use(evaluate, copy)
    assert (status, errors.count('\n')) == (2, 1)
    assert f'short.txt is not the text that the model in {copy.best}' in errors
    output = use(evaluate, copy, '--text_file=short.txt')[1]  # as the sentence advises
    assert 'all of short.txt' in output


def test_more_streams_than_characters_need_no_more_memory(trained, tmp_path, use):
    (tmp_path / 'other.txt').write_text('what light is there')
    results = [
        use(evaluate, trained, f'--text_file={tmp_path}/other.txt', f'--streams={streams}')
        for streams in (18, 1_000_000)
    ]
    assert results[0] == results[1] and results[0][0] == 0


def test_characters_that_the_model_does_not_know_are_counted(copy, use):
    path = copy.temp / 'settings.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'clean_text': False}))
    (copy.folder / 'other.txt').write_text('to be \N{SNOWMAN} or \N{SNOWMAN}', encoding='utf-8')
    _, output, _ = use(evaluate, copy, '--text_file=other.txt')
    assert 'Characters: 11, all of other.txt; 2 unknown' in output
