"""What the models of PyTorch and JAX share that the script is measured against. NumPy alone.

A model has the shape of the script's: an embedding, LSTM layers, a matrix to the logits of 40
characters, the mean cross-entropy, truncated back-propagation with the state carried on, gradients
clipped to a global norm of 5, Adam. It has no residual connections, no decay, and no averages.
"""

import argparse
import sys

import numpy as np
from turns import serve

VOCAB_SIZE = 40
MAX_GRADIENT_NORM = 5.0
LEARNING_RATE = 0.002
SHAPE = {
    'rnn_size': 128, 'num_layers': 3, 'embedding_size': 32, 'batch_size': 100,
    'training_seq_len': 50,
}  # fmt: skip


def random_weights(settings, random):
    """Return weights that both models take, a dict from names to float32 arrays.

    The four parts of a layer are the gates for input, forgetting and what is written (tanh), and
    that for output: x [4 * rnn_size, width], h [4 * rnn_size, rnn_size], b [4 * rnn_size].
    """
    n, widths = settings.rnn_size, [settings.embedding_size]
    shapes = {
        'embedding': (VOCAB_SIZE, settings.embedding_size),
        'W': (VOCAB_SIZE, n),
        'b': VOCAB_SIZE,
    }
    for layer in range(settings.num_layers):
        shapes.update(
            {f'x{layer}': (4 * n, widths[-1]), f'h{layer}': (4 * n, n), f'b{layer}': 4 * n}
        )
        widths.append(n)
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def loss_of(weights, num_layers, x, y):
    """Return the mean cross-entropy in nats, by NumPy in float64, from an empty memory.

    Args:
      x, y: integers [time, batch].
    """

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    inputs = weights['embedding'][x].astype(np.float64)
    for layer in range(num_layers):
        h = c = np.zeros((x.shape[1], weights[f'h{layer}'].shape[1]))
        outputs = []
        for step in inputs:
            z = step @ weights[f'x{layer}'].T + h @ weights[f'h{layer}'].T + weights[f'b{layer}']
            write, forget, new, output = np.split(z, 4, axis=1)
            c = sigmoid(forget) * c + sigmoid(write) * np.tanh(new)
            h = sigmoid(output) * np.tanh(c)
            outputs.append(h)
        inputs = np.stack(outputs)
    logits = inputs @ weights['W'].T + weights['b']
    of_target = np.take_along_axis(logits, y[..., None], axis=2)[..., 0]
    return np.mean(np.log(np.exp(logits).sum(axis=2)) - of_target)


def check(begin):
    """Return the loss of a model after 20 steps; raise if that of the first is not NumPy's.

    Args:
      begin: function of settings, weights and batches, which yields once ready and then the loss of
        each step.
    """
    settings = argparse.Namespace(**{**SHAPE, 'rnn_size': 16, 'batch_size': 4})
    random = np.random.RandomState(0)
    weights = random_weights(settings, random)
    x, y = random.randint(VOCAB_SIZE, size=(2, settings.training_seq_len, settings.batch_size))
    steps = begin(settings, weights, [(x, y)] * 20)
    next(steps)
    losses = [float(next(steps)) for _ in range(20)]
    np.testing.assert_allclose(losses[0], loss_of(weights, settings.num_layers, x, y), rtol=1e-5)
    assert losses[-1] < losses[0], losses  # it learns the batch
    return losses[-1]


def batches(settings):
    """Yield random batches, integers [time, batch] and the next ones, without end."""
    random = np.random.RandomState(0)
    shape = settings.training_seq_len + 1, settings.batch_size
    made = [random.randint(VOCAB_SIZE, size=shape) for _ in range(10)]
    while True:
        for ids in made:
            yield ids[:-1], ids[1:]


def main(kinds, **besides):
    """Take steps of a kind as turns.Stepper asks for them, or check all and print their losses.

    Args:
      kinds: dict from names to functions as `check` takes one.
      besides: others, which train nothing.
    """
    kind, *arguments = sys.argv[1:]
    if kind == 'check':
        for begin in kinds.values():
            print(check(begin))
        return
    parser = argparse.ArgumentParser()
    for name, default in SHAPE.items():
        parser.add_argument(f'--{name}', type=int, default=default)
    settings = parser.parse_args(arguments)
    weights = random_weights(settings, np.random.RandomState(1))
    steps = {**kinds, **besides}[kind](settings, weights, batches(settings))
    serve(steps)
