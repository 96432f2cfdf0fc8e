"""docs/: the script with each of the mistakes that published versions of the recipe make."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script, script

tf = script.tf

pytestmark = pytest.mark.xdist_group('mistakes')  # so that `runs` is made in one process only

ITERATIONS = 6

# Makes a mistake, trains, and shows a batch of the ids 0 to 99. Each needs a process of its own,
# since it replaces functions of the script.
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
        *(f'--text_file={text}', '--batch_size=8', '--training_seq_len=12'),
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
    names = [variable for variable, _ in tf.train.list_variables(path)]
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


def test_without_line_ends_words_run_together(runs):
    right, wrong = text_of(runs, 'no_mistake'), text_of(runs, 'delete_line_ends')
    assert len(wrong) < len(right)
    assert wrong.replace(' ', '') == right.replace(' ', '')


def test_what_learned_without_line_ends_is_measured_on_the_right_text(runs):
    folder = str(runs[0] / 'delete_line_ends')
    settings = script.read_run_settings([f'--temp_dir={folder}'], folder)
    with tf.Graph().as_default(), tf.Session() as session:
        sampler, saver = script.build_sampler(settings, 40)
        saver.restore(session, script.checkpoints(folder)[-1])
        settings.temp_dir = str(runs[0] / 'no_mistake')
        ids, split = script.open_ids([script.UNKNOWN, *script.CHARACTERS], settings)
        shape = settings.batch_size, settings.training_seq_len
        what = [sampler.losses]
        (loss,) = script.measure(session, sampler, what, ids, split, *shape, script.ALONE)
    np.testing.assert_allclose(loss, history(runs, 'delete_line_ends')['held_out_losses'][-1][1])


def test_wrapped_targets_end_each_row_with_its_first_character(runs):
    x, y = np.array(runs[1]['wrap_targets'])
    np.testing.assert_array_equal(y, np.concatenate([x[:, 1:], x[:, :1]], axis=1))


def test_shuffled_batches_begin_elsewhere_in_all_streams(runs):
    x, y = np.array(runs[1]['shuffle_batches'])
    right, _ = np.array(runs[1]['no_mistake'])
    distance = x - right
    assert (distance == distance[0, 0]).all()
    assert distance[0, 0] != 0 and distance[0, 0] % 4 == 0
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize(
    'name', ['share_one_cell', 'delete_line_ends', 'wrap_targets', 'shuffle_batches']
)
def test_each_mistake_changes_what_is_learned(name, runs):
    losses, right = history(runs, name)['losses'], history(runs, 'no_mistake')['losses']
    assert len(losses) == len(right) == ITERATIONS
    assert losses != right
