"""benchmarks/mistakes.py: the script with mistakes that published versions of the recipe make."""

import json
import math
import os
import subprocess
import sys

from backstage import tf

import numpy as np
import pytest
from conftest import IX2VOCAB, ROOT, SMALL, history, lstm_losses, read_lstm, run_script, script

# One group, so that only one process makes `runs`.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group('mistakes')]

ITERATIONS = 6

# Trains with a mistake, and prints a batch of the ids 0 to 99. A mistake replaces functions of the
# script, so each needs its own process.
PROGRAM = """
import json, pathlib, sys
import mistakes
name, folder, *arguments = sys.argv[1:]
mistakes.RIGHT = pathlib.Path(folder, 'no_mistake')
status = mistakes.train(name, *arguments, f'--temp_dir={folder}/{name}')
x, y = mistakes.script.read_batch(mistakes.np.arange(100), 3, 4, 0, 0)
print(json.dumps([x.tolist(), y.tolist()]))
sys.exit(status)
"""
NAMES = 'no_mistake', 'share_one_cell', 'delete_line_ends', 'wrap_targets', 'shuffle_batches'


@pytest.fixture(scope='module')
def runs(works, tmp_path_factory):
    """A folder with a short run of the script and of each of NAMES, and the batches of NAMES."""
    folder = tmp_path_factory.mktemp('mistakes')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    arguments = (
        *SMALL, '--embedding_size=16', f'--text_file={folder}/short.txt',
        f'--max_iterations={ITERATIONS}', '--save_every=3',
    )  # fmt: skip
    assert run_script(*arguments, f'--temp_dir={folder}/script', cwd=folder)[0] == 0
    batches = {}
    for name in NAMES:
        output = subprocess.check_output(
            [sys.executable, '-c', PROGRAM, name, str(folder), *arguments],
            cwd=str(ROOT / 'benchmarks'),
            env={**os.environ, 'MPLBACKEND': 'Agg'},
        )
        batches[name] = np.array(json.loads(output.decode().splitlines()[-1]))
    return folder, batches


def weights(runs, name):
    """Return the averaged weights of the newest checkpoint of a run: a dict from names."""
    reader = tf.train.load_checkpoint(str(runs[0] / name / f'model-{ITERATIONS}'))
    average = '/ExponentialMovingAverage'
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith(average)]
    return {n[: -len(average)]: reader.get_tensor(n) for n in names}


def test_no_mistake_equals_the_script_and_each_mistake_changes_the_losses(runs):
    learned = [history(runs[0] / name)['losses'] for name in NAMES]
    assert history(runs[0] / 'no_mistake') == history(runs[0] / 'script')
    assert {len(losses) for losses in learned} == {ITERATIONS}
    assert len(set(map(tuple, learned))) == len(NAMES)


def test_a_shared_cell_has_one_kernel(runs):
    for name, number in ('no_mistake', 3), ('share_one_cell', 1):
        assert sum(variable.endswith('kernel') for variable in weights(runs, name)) == number


def test_without_line_ends_words_run_together(runs):
    right, wrong = (
        script.decode(np.fromfile(str(runs[0] / name / 'text.ids'), np.uint8), IX2VOCAB)
        for name in ('no_mistake', 'delete_line_ends')
    )
    assert len(wrong) < len(right)
    assert wrong.replace(' ', '') == right.replace(' ', '')


@pytest.mark.parametrize('name', ['share_one_cell', 'delete_line_ends'])
def test_each_mistake_is_measured_on_the_right_text_with_averaged_weights(name, runs):
    lstm = read_lstm(weights(runs, name))
    if name == 'share_one_cell':
        lstm = lstm._replace(kernels=lstm.kernels * 3, biases=lstm.biases * 3)
    ids = np.fromfile(str(runs[0] / 'no_mistake' / 'text.ids'), np.uint8)
    start = script.held_out_begin(len(ids), script.held_out)
    # Eight streams, each of which warms up on twelve characters
    length = math.ceil((len(ids) - start) / 8)
    targets = start + length * np.arange(8)[:, None] + np.arange(-12, length)
    at = np.minimum(targets, len(ids) - 1)
    losses, _ = lstm_losses(lstm, ids[at - 1], ids[at], np.zeros([3, 2, 8, 16]))
    loss = losses[:, 12:][targets[:, 12:] < len(ids)].mean()
    measured = history(runs[0] / name)['held_out_losses'][-1][1]
    np.testing.assert_allclose(loss, measured, rtol=1e-5)


def test_targets_wrap_around_in_each_row_and_batches_are_shuffled(runs):
    (right, _), (x, y) = runs[1]['no_mistake'], runs[1]['wrap_targets']
    np.testing.assert_array_equal(x, right)
    np.testing.assert_array_equal(y, np.roll(x, -1, axis=1))
    x, y = runs[1]['shuffle_batches']
    (distance,) = set((x - right).flatten())
    assert distance != 0 and distance % 4 == 0
    np.testing.assert_array_equal(y, x + 1)
