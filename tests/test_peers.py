"""benchmarks/peers.py: how the script is measured beside PyTorch and JAX. (`make peers` itself
compares their models with NumPy before it measures.)"""

import argparse
import sys

import numpy as np
from conftest import LSTM, ROOT, lstm_losses

sys.path.insert(0, str(ROOT / 'benchmarks'))

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


RATES = {
    'ours': (200.0, 300.0), 'ours_tf2': (220.0, 900.0), 'lstm': (100.0, 1000.0),
    'compiled_lstm': (125.0, 1100.0), 'scan_1': (80.0, 500.0),
}  # fmt: skip


def test_ours_is_compared_with_the_fastest_of_each_other():
    (row,) = peers.rows_of_shapes({('--rnn_size=64',): RATES})
    assert row[0] == '--rnn_size=64'
    assert row[-3:] == ('1.60 x', '2.50 x', '300 / 1,000 / 500')


def test_every_kind_is_started_with_its_own_python():
    started = []

    class Stepper:
        def __init__(self, name, *arguments, python, program='benchmark.py'):
            started.append((name, arguments, python, str(program)))

    real, peers.Stepper = peers.Stepper, Stepper
    try:
        for kind in peers.KINDS:
            peers.stepper(kind, ['one', 'two', 'torch', 'jax'], '--rnn_size=64')
    finally:
        peers.Stepper = real
    names, arguments, pythons, programs = zip(*started)
    assert names == ('script_steps', 'script_steps', 'recipe_steps', *list(peers.KINDS)[3:])
    assert set(arguments) == {('--rnn_size=64',)}
    assert pythons == ('one', 'two', 'one', *['torch'] * 3, *['jax'] * 3)
    assert all('peer_torch' in program for program in programs[3:6])
    assert all('peer_jax' in program for program in programs[6:])
