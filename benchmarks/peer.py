"""What the models in PyTorch and JAX share. It needs only NumPy.

The models have the shape of the script's: an embedding, LSTM layers, a matrix to the logits of 40
characters, the mean cross-entropy, truncated BPTT with the state carried over, gradients clipped to
a global norm of 5, and Adam. They have no residual connections, weight decay or weight averages.
"""

import argparse
import itertools
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


def random_weights(settings):
    """Return weights for both models, float32 arrays by their names in PyTorch.

    Each array of a layer has four parts: the input gate, the forget gate, the new values (tanh),
    and the output gate. weight_ih is [4 * rnn_size, width], weight_hh [4 * rnn_size, rnn_size].
    """
    n, width = settings.rnn_size, settings.embedding_size
    shapes = {'embedding.weight': (VOCAB_SIZE, width)}
    shapes.update({'linear.weight': (VOCAB_SIZE, n), 'linear.bias': (VOCAB_SIZE,)})
    for layer in range(settings.num_layers):
        shapes[f'lstm.weight_ih_l{layer}'] = 4 * n, n if layer else width
        shapes[f'lstm.weight_hh_l{layer}'] = 4 * n, n
        shapes[f'lstm.bias_ih_l{layer}'] = (4 * n,)
    random = np.random.RandomState(1)
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def batches(settings, number=10):
    """Yield (x, y), integers [time, batch], from `number` random batches over and over."""
    shape = number, settings.training_seq_len + 1, settings.batch_size
    made = np.random.RandomState(0).randint(VOCAB_SIZE, size=shape)
    return itertools.cycle([(ids[:-1], ids[1:]) for ids in made])


def main(kinds, **besides):
    """Take steps of a kind as turns.Stepper asks for them. "check" prints what all kinds learn.

    Args:
      kinds: dict from names to functions of settings, weights and batches. They yield once when
        they are ready, and then the loss of each step.
      besides: other functions, which train nothing.
    """
    kind, *arguments = sys.argv[1:]
    parser = argparse.ArgumentParser()
    for name, default in SHAPE.items():
        parser.add_argument(f'--{name}', type=int, default=default)
    settings = parser.parse_args(arguments)
    weights = random_weights(settings)
    if kind != 'check':
        serve({**kinds, **besides}[kind](settings, weights, batches(settings)))
        return
    for begin in kinds.values():
        steps = begin(settings, weights, batches(settings, number=1))
        _, first, *_, last = itertools.islice(steps, 21)
        print(first, last)
