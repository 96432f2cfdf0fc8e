"""benchmarks/: the recipe that the script is compared with, and the measurements."""

import copy
import json
import os
import subprocess
import sys
import types

from backstage import tf

import numpy as np
import pytest
from conftest import ROOT, SMALL, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import against
import benchmark
import operations
import recipe
import shared
import steps

pytestmark = pytest.mark.long


def test_each_program_finds_its_imports_without_pythonpath():
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    code = 'import sys, runpy\nfor name in sys.argv[1:]: runpy.run_path(name, run_name="imported")'
    programs = {path.name for path in (ROOT / 'benchmarks').glob('*.py')}
    programs -= {'nanogpt.py', 'peer_jax.py', 'peer_torch.py', 'torture.py'}
    for some in ['torture.py'], sorted(programs):  # torture.py adds tests/ to the path
        command = [sys.executable, '-c', code, *some]
        subprocess.run(command, check=True, cwd=str(ROOT / 'benchmarks'), env=environment)


def test_the_recipe_shares_one_kernel_learns_and_draws():
    ids = np.random.RandomState(0).randint(3, size=(1, 1))
    started = recipe.started(parse('--rnn_size=8'), 3, 1, 1)
    with tf.Graph().as_default(), started as (session, model):
        shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
        state = session.run(model.initial_state)
        losses = [model.train_step(session, ids, ids, state)[0] for _ in range(200)]
        drawn = model.draw(session, 50, np.random.RandomState(0))
    assert [shape for name, shape in shapes.items() if name.endswith('kernel')] == [[16, 32]]
    assert shapes['lstm_vars/embedding'] == [3, 8]  # as wide as the cells
    assert losses[-1] < losses[0]
    assert len(drawn) == 50 and set(drawn) <= {0, 1, 2}


def test_the_recipe_wraps_targets_around_and_shuffles_batches():
    ids = np.arange(4 * 5 * 30 + 3)
    batches = list(recipe.training_batches(ids, 4, 5, epochs=2, seed=1))
    assert [epoch for epoch, _, _ in batches] == [1] * 30 + [2] * 30
    firsts = [x[0, 0] for _, x, _ in batches]
    assert sorted(firsts[:30]) == sorted(firsts[30:]) == list(range(0, 150, 5))
    assert firsts[:30] != firsts[30:] != sorted(firsts[30:])
    assert all((y == np.roll(x, -1, axis=1)).all() for _, x, y in batches)


def test_the_recipe_writes_a_history_like_the_script(short_text, tmp_path):
    where = f'--text_file={short_text}', f'--temp_dir={tmp_path}/run', '--epochs=1'
    with tf.Graph().as_default():
        benchmark.learn_recipe(*SMALL, *where)
    losses, held_out_losses = shared.read_history(tmp_path / 'run')
    assert losses[-1] < losses[0]
    assert held_out_losses == [(len(losses), pytest.approx(3, abs=1))]
    more = '--learning_rate=0.01', '--max_iterations=40', '--save_every=30', '--last=500'
    with tf.Graph().as_default():
        benchmark.learn_recipe(*SMALL, *where, *more)
    higher, held_out_losses = shared.read_history(tmp_path / 'run')
    assert [iteration for iteration, _ in held_out_losses] == [30, 40]
    assert higher[0] == losses[0] and higher[39] < losses[39]  # the rate is twenty times as high
    last = json.loads((tmp_path / 'run' / 'more.json').read_text())['last']
    assert last == pytest.approx(3, abs=1) and last != held_out_losses[-1][1]
    with pytest.raises(SystemExit, match='--last must be less than the held-out part'):
        benchmark.learn_recipe(*SMALL, *where, '--last=1000000')  # some of it was learned


def test_a_step_multiplies_by_each_weight_once_forward_and_twice_backward():
    settings = parse(*SMALL)
    with tf.Graph().as_default():
        script.build_models(settings, shared.VOCAB_SIZE)
        sizes = {v.op.name: v.shape.num_elements() for v in tf.trainable_variables()}
    weights = sum(size for name, size in sizes.items() if name.endswith(('kernel', '/W')))
    read = settings.batch_size * settings.training_seq_len
    assert 3 * 2 * weights * read == shared.multiplications(settings)


STEPS = [name for name in vars(steps) if name.endswith('_steps')]
STEPS.remove('variant_steps')  # it replaces parts of the script: see test_results.py


@pytest.mark.parametrize('name', [*STEPS, 'draw_hundred', 'recipe_draws'])
def test_each_kind_of_step_can_be_repeated(name, short_text, monkeypatch):
    monkeypatch.setattr(steps, 'DRAWN', 100)
    first = ['3000'] if name == 'save_steps' else []
    with tf.Graph().as_default():
        taken = getattr(steps, name)(*first, *SMALL, f'--text_file={short_text}')
        for _ in range(3):
            next(taken)
        taken.close()


def test_output_and_saves_are_given_as_a_share_of_training_time(monkeypatch):
    medians = 0.5, 0.25, 0.125, 0.02, 0.6  # save, held-out loss, samples, TensorBoard, late save
    steppers = [types.SimpleNamespace(median=median) for median in medians]
    monkeypatch.setattr(benchmark, 'measure', lambda *_, seconds: steppers)
    rows = benchmark.interval_rows(0.01, 2000)
    whole = 3 * (0.5 + 0.25 + 0.02) + 4 * 0.125
    assert rows[0][1:4] == (f'{whole:.0f}', '20, the training', f'{whole / 20:.1%}')
    assert rows[1][1] == '0.1' and rows[2][3] == '1.20 x'


def test_learning_rows_say_when_the_recipes_final_loss_is_reached():
    ours, theirs = [[100, 2.0], [200, 1.5], [300, 1.4]], [[500, 1.6], [1000, 1.5]]
    time_row, loss_row = benchmark.learning_rows(ours, theirs, 0.1, 0.2)
    assert time_row[1:4] == ('20', "200, the recipe's 10 epochs", '1/10')
    assert loss_row[3] == '0.100 lower'


def test_the_witness_reports_the_first_difference_of_two_checkouts(short_text):
    arguments = (*SMALL, f'--text_file={short_text}', '--save_every=2', '--eval_every=2')
    ours = against.learned(ROOT, ['--max_iterations=2', '--max_iterations=4'], *arguments)
    theirs = copy.deepcopy(ours)
    theirs['losses'][2] = np.nextafter(theirs['losses'][2], 9)
    theirs['samples'].pop()
    assert against.compare_bits(ours, theirs) == (
        '4 losses DIFFERENT from number 3 on, 2 held-out losses the same, '
        '12 samples DIFFERENT from number 12 on'
    )


def test_the_operations_of_a_training_step_are_timed(short_text, capfd):
    operations.profile(*SMALL, f'--text_file={short_text}')
    output = capfd.readouterr().out
    assert 'MatMul' in output and 'LSTMBlockCellGrad' in output
