"""benchmarks/: the recipe that the script is measured against, and how it is measured."""

import copy
import os
import subprocess
import sys
import types

from backstage import tf

import numpy as np
import pytest
from conftest import ROOT, SMALL, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import benchmark
import operations
import products
import recipe
import shared
import steps
import witness

pytestmark = pytest.mark.long


def test_the_recipe_has_one_kernel_for_all_three_layers_and_an_embedding_as_wide_as_the_cells():
    with tf.Graph().as_default():
        recipe.Recipe(8, 3, batch_size=4, training_seq_len=5, vocab_size=7)
        shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
    kernels = [shape for name, shape in shapes.items() if name.endswith('kernel')]
    assert kernels == [[16, 32]]
    assert shapes['lstm_vars/embedding'] == [7, 8]


def test_each_program_finds_what_it_imports_with_its_own_folder_alone():
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    code = 'import sys, runpy\nfor name in sys.argv[1:]: runpy.run_path(name, run_name="imported")'
    elsewhere = 'peer_jax.py', 'peer_torch.py', 'torture.py'  # this one is beside the tests
    programs = [path.name for path in (ROOT / 'benchmarks').glob('*.py')]
    command = [sys.executable, '-c', code, *(name for name in programs if name not in elsewhere)]
    subprocess.run(command, check=True, cwd=str(ROOT / 'benchmarks'), env=environment)
    command = [sys.executable, '-c', code, 'torture.py']
    subprocess.run(command, check=True, cwd=str(ROOT / 'benchmarks'), env=environment)


def test_the_recipes_targets_wrap_around_in_each_row_and_its_batches_are_shuffled():
    ids = np.arange(4 * 5 * 30 + 3)
    batches = list(recipe.training_batches(ids, 4, 5, epochs=2, seed=1))
    assert [epoch for epoch, _, _ in batches] == [1] * 30 + [2] * 30
    firsts = [x[0, 0] for _, x, _ in batches]
    assert sorted(firsts[:30]) == sorted(firsts[30:]) == list(range(0, 150, 5))
    assert firsts[:30] != firsts[30:] != sorted(firsts[30:])
    for _, x, y in batches:
        np.testing.assert_array_equal(y, np.concatenate([x[:, 1:], x[:, :1]], axis=1))


def test_the_recipe_learns_and_draws():
    ids = np.random.RandomState(0).randint(3, size=(1, 1))
    with tf.Graph().as_default(), tf.Session() as session:
        model = recipe.Recipe(8, 3, batch_size=1, training_seq_len=1, vocab_size=3)
        session.run(tf.global_variables_initializer())
        state = session.run(model.initial_state)
        losses = [model.train_step(session, ids, ids, state)[0] for _ in range(200)]
        drawn = model.draw(session, 50, np.random.RandomState(0))
    assert losses[-1] < losses[0]
    assert len(drawn) == 50 and set(drawn) <= {0, 1, 2}


def test_the_arithmetic_of_a_step_has_each_weight_once_forward_and_twice_backward(settings):
    with tf.Graph().as_default():
        script.build_models(settings, shared.VOCAB_SIZE)
        sizes = {v.op.name: v.shape.num_elements() for v in tf.trainable_variables()}
    weights = sum(size for name, size in sizes.items() if name.endswith(('kernel', '/W')))
    read = settings.batch_size * settings.training_seq_len
    assert 3 * 2 * weights * read == shared.multiplications(settings)


STEPS = {
    'script_steps': [], 'default_steps': [], 'recipe_steps': [], 'build_steps': [],
    'prepare_steps': [], 'held_out_steps': [], 'sample_steps': [], 'save_steps': ['3000'],
    'board_steps': ['scalars'], 'draw_hundred': [], 'recipe_draws': [], 'product_steps': [],
}  # fmt: skip


@pytest.mark.parametrize('name', STEPS)
def test_each_kind_of_step_can_be_taken_again_and_again(name, short_text, monkeypatch):
    monkeypatch.setattr(steps, 'DRAWN', 100)
    arguments = [] if name == 'board_steps' else [*SMALL, f'--text_file={short_text}']
    with tf.Graph().as_default():
        taken = getattr(steps, name)(*STEPS[name], *arguments)
        for _ in range(3):
            next(taken)
        taken.close()


def test_what_a_run_shows_and_saves_is_told_as_a_share_of_its_time(monkeypatch):
    def measure(turns, *commands, seconds):
        medians = [0.5, 0.25, 0.125, 0.001, 0.01, 0.02, 0.6]  # the last is that of a late save
        assert len(commands) == len(medians)
        return [types.SimpleNamespace(median=median) for median in medians], 100.0

    monkeypatch.setattr(benchmark, 'measure', measure)
    rows = benchmark.measure_intervals(0.01, 2000)
    whole = 3 * 0.5 + 3 * 0.25 + 4 * 0.125 + 200 * 0.001 + 4 * 0.01 + 3 * 0.02
    assert rows[0][1:4] == (f'{whole:.0f}', '20, the training', f'{whole / 20:.1%}')
    assert rows[1][1] == '0.3'
    assert rows[2][1:4] == ('0.600', '0.500, one at 3,000', '1.20 x')
    assert {len(row) for row in rows} == {len(benchmark.HEAD)}


def test_the_recipe_leaves_a_history_as_the_script_does(short_text, tmp_path):
    where = f'--text_file={short_text}', f'--temp_dir={tmp_path}/run', '--epochs=1'
    with tf.Graph().as_default():
        benchmark.learn_recipe(*SMALL, *where)
    losses, held_out_losses = shared.read_history(tmp_path / 'run')
    assert losses[-1] < losses[0]
    ((last, held_out),) = held_out_losses
    assert last == len(losses) > 100 and 2 < held_out < 4


def test_the_learning_rows_name_the_first_time_that_the_recipes_last_loss_is_reached():
    ours, theirs = [[100, 2.0], [200, 1.5], [300, 1.4]], [[500, 1.6], [1000, 1.5]]
    time_row, loss_row = benchmark.learning_rows(ours, theirs, 0.1, 0.2)
    assert time_row[1:4] == ('20', "200, the recipe's 10 epochs", '1/10')
    assert loss_row[3] == '0.100 lower'
    never, _ = benchmark.learning_rows([[100, 2.0]], theirs, 0.1, 0.2)
    assert never[1] == 'inf'


def test_the_witness_tells_where_what_two_versions_learned_differs(short_text):
    arguments = (*SMALL, f'--text_file={short_text}', '--save_every=2', '--eval_every=2')
    ours = witness.train(ROOT, ['--max_iterations=2', '--max_iterations=4'], *arguments)
    assert witness.compare(ours, copy.deepcopy(ours)) == (
        True,
        '4 losses the same, 2 held-out losses the same, 12 samples the same',
    )
    theirs = copy.deepcopy(ours)
    theirs['losses'][2] = np.nextafter(theirs['losses'][2], 9)
    theirs['samples'].pop()
    assert witness.compare(ours, theirs) == (
        False,
        '4 losses DIFFERENT from number 3 on, 2 held-out losses the same, '
        '12 samples DIFFERENT from number 12 on',
    )


def test_each_way_to_multiply_by_a_kernel_is_measured():
    for units in 4, 96, 128:
        for way, sizes in products.ways(units).items():
            assert sum(sizes) == 4 * units + 16 * (way == '16 columns more')
    rates = products.measure(units=8, batch=3, turns=2)
    assert list(rates) == ['all gates', '16 columns more', 'pieces of 256']
    assert all(0 < rate < 1000 for rate in rates.values())


def test_each_operation_of_a_training_step_is_timed():
    shape = '--num_layers=3', '--rnn_size=64', '--batch_size=20', '--training_seq_len=5'
    taken = operations.trace(parse(*shape))
    layers = [seconds for (kind, _), seconds in taken.items() if 'LSTM' in kind]
    assert len(layers) >= 2 * 3  # each layer forward and backward
    assert all(1e-6 <= seconds < 0.1 for seconds in layers)
