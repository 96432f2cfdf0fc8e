"""benchmarks/peers.py: how the script is measured beside PyTorch and JAX. (`make peers` itself
compares their models with NumPy before it measures.)"""

import argparse
import pathlib
import sys

import conftest
import numpy as np
import pytest
from conftest import LSTM, ROOT, lstm_losses, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import benchmark
import peer
import peers


def test_the_loss_that_all_are_compared_with_is_that_of_the_scripts_cells():
    settings = argparse.Namespace(**{**peer.SHAPE, 'rnn_size': 8, 'batch_size': 3})
    random = np.random.RandomState(0)
    weights = peer.random_weights(settings, random)
    x, y = random.randint(peer.VOCAB_SIZE, size=(2, 20, 3))
    ours = peer.loss_of(weights, settings.num_layers, x, y)
    # BasicLSTMCell has the gates in another order, and adds 1 to that of forgetting.
    kernels, biases = [], []
    for layer in range(3):
        parts = [weights[f'{part}{layer}'].reshape(4, 8, -1) for part in 'xhb']
        kernel = np.concatenate([part[[0, 2, 1, 3]].reshape(32, -1).T for part in parts[:2]])
        bias = parts[2].reshape(4, 8)[[0, 2, 1, 3]] - [[0], [0], [1], [0]]
        kernels.append(kernel)
        biases.append(bias.flatten())
    lstm = LSTM(weights['embedding'], kernels, biases, weights['W'].T, weights['b'], False)
    losses, _ = lstm_losses(lstm, x.T, y.T, np.zeros((3, 2, 3, 8)))
    np.testing.assert_allclose(ours, losses.mean(), rtol=1e-5)


# Seconds per step and memory in MB
MEASURED = {
    'ours': (2.0, 300.0), 'ours_tf2': (1.6, 900.0), 'lstm': (5.0, 1000.0),
    'compiled_lstm': (4.0, 1100.0), 'scan_1': (8.0, 500.0),
}  # fmt: skip


def cells(table):
    """Return the head and the first row of a Markdown table: lists of str."""
    head, _, row, *_ = [line.strip('| ').split(' | ') for line in table.splitlines()]
    return head, row


def test_the_models_that_are_compared_have_the_scripts_default_shape():
    assert {name: getattr(script, name) for name in peer.SHAPE} == peer.SHAPE
    assert peer.VOCAB_SIZE == benchmark.VOCAB_SIZE
    assert script.max_gradient_norm == peer.MAX_GRADIENT_NORM


def test_each_model_takes_the_shapes_that_the_script_takes(monkeypatch, capsys):
    def begin(settings, weights, batches):
        x, y = next(batches)
        given.append((vars(settings), x.shape, y.shape, weights['h0'].shape))
        while True:
            yield 1.0

    for shape in peers.SHAPES:
        given = []
        monkeypatch.setattr(sys, 'argv', ['peer.py', 'kind', *shape])
        monkeypatch.setattr(sys, 'stdin', ['2\n', '1\n'])
        peer.main({'kind': begin})
        settings = conftest.parse(*shape)
        batch = settings.training_seq_len, settings.batch_size
        kernel = 4 * settings.rnn_size, settings.rnn_size
        own = {name: getattr(settings, name) for name in peer.SHAPE}
        assert given == [(own, batch, batch, kernel)]
        for line in capsys.readouterr().out.splitlines():
            seconds, kilobytes = map(float, line.split())
            assert 0 < seconds < 1 and kilobytes > 10_000


def test_ours_is_compared_with_the_fastest_of_each_other():
    shape = '--rnn_size=64', '--batch_size=10'
    head, row = cells(peers.table_of_shapes({shape: MEASURED}))
    assert len(head) == len(row)
    assert row[:4] == ['--rnn_size=64 --batch_size=10', '250', '312', '100']
    assert row[-3:] == ['2.00 x', '4.00 x', '300 / 1,000 / 500']
    head, row = cells(peers.table_of_default(MEASURED))
    assert len(head) == len(row)
    assert row == ['the script', '2,500', '1.00 x', '300']


def test_the_arithmetic_of_a_step_is_set_against_the_fastest_product_of_all():
    shape = ('--rnn_size=512',)
    products = {'product_ours': (0.2, 1), 'product_ours_tf2': (0.1, 1), 'product': (0.4, 1)}
    head, row = cells(peers.table_of_products({shape: {**MEASURED, **products}}))
    assert len(head) == len(row)
    assert row[1:4] == ['86', '172', '43']  # 2 * 2048**3 / 0.1 is 172e9
    step = benchmark.multiplications(conftest.parse(*shape)) / 2.0 / 1e9
    assert row[4] == f'{step:,.0f}, {step / 171.8:.0%}'


def test_models_that_learn_differently_are_not_measured(tmp_path):
    def program(name, *losses):
        (tmp_path / name).write_text(f'for loss in {losses}: print(loss)\n')
        return sys.executable, str(tmp_path / name)

    one, same, other = (
        program(f'{loss}.py', 3.6, loss) for loss in (3.6, 3.60005, 3.605)
    )  # fmt: skip
    peers.check([one, same])
    with pytest.raises(RuntimeError, match='learn differently'):
        peers.check([one, other])


def test_every_kind_is_started_with_its_own_python(monkeypatch):
    started = {}

    def start(name, *arguments, python, program=('benchmark.py',)):
        assert arguments == ('--rnn_size=64',)
        started[kind] = name, python, pathlib.Path(program[0]).name

    monkeypatch.setattr(peers, 'Stepper', start)
    for kind in [*peers.KINDS, *peers.PRODUCTS]:
        peers.stepper(kind, ['one', 'two', 'torch', 'jax'], '--rnn_size=64')
    of_torch = 'lstm', 'compiled_lstm', 'compiled_unrolled', 'product'
    assert started == {
        'ours': ('script_steps', 'one', 'benchmark.py'),
        'ours_tf2': ('script_steps', 'two', 'benchmark.py'),
        'recipe': ('recipe_steps', 'one', 'benchmark.py'),
        'product_ours': ('product_steps', 'one', 'benchmark.py'),
        'product_ours_tf2': ('product_steps', 'two', 'benchmark.py'),
        **{kind: (kind, 'torch', 'peer_torch.py') for kind in of_torch},
        **{kind: (kind, 'jax', 'peer_jax.py') for kind in ('scan_1', 'scan_2', 'scan_5')},
    }
