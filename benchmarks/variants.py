"""Train the script with one thing in it replaced: what was tried to make the model better.

    python benchmarks/variants.py NAME[,NAME ...] [a setting, such as --rnn_size=256 ...]

NAME is a function of VARIANTS; `NAME=0.2=0.9` passes numbers to it. results.py compares them.
"""

import functools
import sys

from shared import script

# isort: split
from backstage import lstm, running, tf

import numpy as np

layer_of = lstm.layer_of


def any_offset():
    """Let the streams of an epoch begin anywhere, and the text go on after its end from its start.

    The script moves them by less than `training_seq_len` characters, so that an epoch has nearly
    the same windows, side by side, as the one before.
    """

    def read_wrapped(ids, batch_size, training_seq_len, offset, number, rows=slice(None)):
        num_batches = script.batches_per_epoch(len(ids), batch_size, training_seq_len)
        streams = offset + np.arange(batch_size) * num_batches * training_seq_len
        columns = number * training_seq_len + np.arange(training_seq_len + 1)
        window = ids[(streams[rows, None] + columns) % len(ids)]
        return window[:, :-1], window[:, 1:]

    script.read_batch = read_wrapped
    script.stream_offset = lambda seed, epoch, _: np.random.RandomState([seed, epoch]).randint(1e6)


def drop_recurrent(keep):
    """Drop weights that lead from h to the gates, the same for all steps of a batch (DropConnect).

    Merity, Keskar and Socher, "Regularizing and Optimizing LSTM Language Models", 2018.
    """
    number = iter(range(1, 1000))

    def dropped(kernel, bias):
        units = bias.shape[0].value // 4
        width = kernel.shape[0].value - units
        iteration = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
        noise = tf.random.stateless_uniform([units, 4 * units], [next(number), iteration])
        mask = tf.floor(noise + keep) / keep
        return layer_of(kernel * tf.concat([tf.ones([width, 4 * units]), mask], axis=0), bias)

    lstm.layer_of = dropped


# Odd polynomials that move singular values near 1, one after the other: five by Jordan et al., and
# three that bring all values from 0.01 to 1 into 0.73 to 1.27, found as in Amsel et al., "The Polar
# Express", 2025.
FIVE = [(3.4445, -4.7750, 2.0315)] * 5
THREE = [(8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)]


def orthogonal(matrices, polynomials):
    """Return matrices [number, rows, columns], rows <= columns, with singular values near 1."""
    x = matrices / (tf.norm(matrices, axis=[1, 2], keepdims=True) + 1e-7)
    for a, b, c in polynomials:
        square = tf.matmul(x, x, transpose_b=True)  # [number, rows, rows]
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return x


def muon(scale, momentum, columns=None):
    """Step the kernels by orthogonalized momentum, each gate by itself; the rest by Adam.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. `scale` is the
    root mean square of a step at a learning rate of 1, as in Liu et al., "Muon is Scalable for LLM
    Training", 2025. `momentum` is the share of the last step's momentum that stays. With `columns`,
    a divisor of those of a gate, blocks of so many are orthogonalized, in three steps: with 64, an
    iteration of the default shape takes 1 % longer than with Adam.
    """
    adam = tf.train.AdamOptimizer

    class Muon:
        def __init__(self, rate):
            self.rate = rate

        def step(self, gradient, kernel):
            rows, width = kernel.shape.as_list()
            block = int(columns or width // 4)
            with tf.variable_scope('muon', reuse=tf.AUTO_REUSE):
                zeros, name = tf.zeros_initializer(), kernel.op.name.replace('/', '_')
                mean = tf.get_variable(name, kernel.shape, None, zeros, trainable=False)
            ahead = gradient + momentum * tf.assign(mean, momentum * mean + gradient)
            blocks = tf.reshape(tf.transpose(ahead), [-1, block, rows])
            blocks = orthogonal(blocks, THREE if columns else FIVE)
            step = tf.transpose(tf.reshape(blocks, [width, rows]))
            return tf.assign_sub(kernel, scale * max(rows, block) ** 0.5 * self.rate * step)

        def apply_gradients(self, pairs, iteration):
            pairs = list(pairs)
            steps = [self.step(g, v) for g, v in pairs if 'kernel' in v.op.name]
            others = [(g, v) for g, v in pairs if 'kernel' not in v.op.name]
            with tf.control_dependencies(steps):
                return adam(self.rate).apply_gradients(others, iteration)

    tf.train.AdamOptimizer = Muon


def adam(beta2):
    """Step by Adam with another memory of the squares of gradients."""
    tf.train.AdamOptimizer = functools.partial(tf.train.AdamOptimizer, beta2=beta2)


def linear():
    """Let the learning rate fall in a line instead of a cosine (Bergsma et al., 2025)."""
    cosine = script.learning_rate_at

    def rate_at(iteration, num_iterations, settings):
        warmup = settings.warmup_iterations
        if iteration <= warmup:
            return cosine(iteration, num_iterations, settings)
        left = (num_iterations + 1 - iteration) / (num_iterations + 1 - warmup)
        return script.highest_rate(settings) * left

    script.learning_rate_at = rate_at


VARIANTS = {each.__name__: each for each in (any_offset, drop_recurrent, muon, adam, linear)}


def replace(names):
    """Replace what NAME[,NAME ...] say."""
    for each in names.split(','):
        name, *number = each.split('=')
        VARIANTS[name](*map(float, number))


def main(arguments):
    names, *arguments = arguments
    replace(names)
    return script.main(arguments)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
