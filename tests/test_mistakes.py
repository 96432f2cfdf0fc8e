"""docs/: the script with each of the mistakes that published versions of the recipe make."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SMALL, run_script, script

ITERATIONS = 6

# Makes a mistake, trains, and shows a batch of the last texts' ids and the sum of two counts. Each
# needs a process of its own, since it replaces functions of the script.
PROGRAM = """
import json, pathlib, sys
import mistakes
name, folder, *arguments = sys.argv[1:]
mistakes.RUNS, mistakes.ARGUMENTS = pathlib.Path(folder), tuple(arguments)
status = mistakes.train(name)
x, y = mistakes.script.read_batch(mistakes.np.arange(100), 3, 4, 0, 0)
print(json.dumps([x.tolist(), y.tolist()]))
sys.exit(status)
"""


@pytest.fixture(scope='module')
def runs(works, tmp_path_factory):
    """A folder with a short run of each mistake and of the script itself, and their batches."""
    folder = tmp_path_factory.mktemp('mistakes')
    text = folder / 'short.txt'
    text.write_bytes(works[2_000_000:2_020_000])
    arguments = (
        *(*SMALL, '--embedding_size=16', f'--text_file={text}'),
        *(f'--max_iterations={ITERATIONS}', '--save_every=3'),
    )
    status, _, errors = run_script(*arguments, f'--temp_dir={folder}/script', cwd=folder)
    assert (status, errors) == (0, '')
    batches = {}
    for name in (
        *('no_mistake', 'share_one_cell', 'delete_line_ends', 'wrap_targets', 'shuffle_batches'),
    ):
        result = subprocess.run(
            [sys.executable, '-c', PROGRAM, name, str(folder), *arguments],
            check=True,
            cwd=str(ROOT / 'docs'),
            env={**os.environ, 'MPLBACKEND': 'Agg'},
            stdout=subprocess.PIPE,
        )
        batches[name] = json.loads(result.stdout.decode().splitlines()[-1])
    return folder, batches


def history(runs, name):
    return json.loads((runs[0] / name / 'history.json').read_text())


def text_of(runs, name):
    ids = np.fromfile(str(runs[0] / name / 'text.ids'), np.uint8)
    return script.decode(ids, [script.UNKNOWN, *script.CHARACTERS])


def kernels(runs, name):
    path = script.checkpoints(str(runs[0] / name))[-1]
    names = [variable for variable, _ in script.tf.train.list_variables(path)]
    return [variable for variable in names if variable.endswith('lstm_cell/kernel')]


def test_without_a_mistake_a_run_is_one_of_the_script(runs):
    assert history(runs, 'no_mistake') == history(runs, 'script')
    x, y = np.array(runs[1]['no_mistake'])
    np.testing.assert_array_equal(y, x + 1)
    assert len(kernels(runs, 'no_mistake')) == 3


def test_a_shared_cell_has_one_kernel_and_learns(runs):
    assert len(kernels(runs, 'share_one_cell')) == 1
    losses = history(runs, 'share_one_cell')['losses']
    assert losses[-1] < losses[0] < math.log(40) + 1


def test_without_line_ends_words_run_together_and_the_held_out_text_is_still_the_right_one(runs):
    right, wrong = text_of(runs, 'no_mistake'), text_of(runs, 'delete_line_ends')
    assert len(wrong) < len(right) - 300
    assert wrong.replace(' ', '') == right.replace(' ', '')
    iterations = [i for i, _ in history(runs, 'delete_line_ends')['held_out_losses']]
    assert iterations == [3, ITERATIONS]


def test_wrapped_targets_end_each_row_with_its_first_character(runs):
    x, y = np.array(runs[1]['wrap_targets'])
    np.testing.assert_array_equal(y, np.concatenate([x[:, 1:], x[:, :1]], axis=1))


def test_shuffled_batches_begin_elsewhere_in_all_streams(runs):
    x, y = np.array(runs[1]['shuffle_batches'])
    right, _ = np.array(runs[1]['no_mistake'])
    distance = x - right
    assert (distance == distance[0, 0]).all() and distance[0, 0] % 4 == 0
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize(
    'name', ['share_one_cell', 'delete_line_ends', 'wrap_targets', 'shuffle_batches']
)
def test_each_mistake_changes_what_is_learned(name, runs):
    losses, right = history(runs, name)['losses'], history(runs, 'no_mistake')['losses']
    assert len(losses) == len(right) == ITERATIONS
    assert losses != right
