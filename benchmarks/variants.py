"""Train the script with one thing in it replaced: what was tried to make the model better.

    python benchmarks/variants.py NAME[,NAME ...] [a setting, such as --rnn_size=256 ...]

NAME is a function of VARIANTS; `NAME=0.2=0.9` passes numbers to it. results.py compares them.
"""

import functools
import sys

from shared import script

# isort: split
from backstage import lstm, tf

import numpy as np

read_batch, layer_of, unroll = script.read_batch, lstm.layer_of, lstm.Stack.unroll


def noise(shape, number):
    """Return numbers from 0 up to 1 that follow from the iteration and from a number: float32."""
    iteration = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    return tf.random.stateless_uniform(shape, [number, iteration])


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
        mask = tf.floor(noise([units, 4 * units], next(number)) + keep) / keep
        return layer_of(kernel * tf.concat([tf.ones([width, 4 * units]), mask], axis=0), bias)

    lstm.layer_of = dropped


def drop_input(keep):
    """Drop numbers of the embedding too, with one mask for a batch (Gal and Ghahramani, 2016)."""

    def unroll_dropped(stack, inputs, state, masks=None):
        mask = tf.floor(noise(inputs.shape[1:], 0) + keep) / keep
        return unroll(stack, inputs * mask, state, masks)

    lstm.Stack.unroll = unroll_dropped


def drop_characters(keep):
    """Drop whole characters of the input: their embedding is 0 wherever they are in the batch."""

    def unroll_dropped(stack, inputs, state, masks=None):
        mask = tf.floor(noise([*inputs.shape[:2], 1], 0) + keep) / keep
        return unroll(stack, inputs * mask, state, masks)

    lstm.Stack.unroll = unroll_dropped


def orthogonal(matrices):
    """Return matrices [number, rows, columns] with all singular values near 1 (Newton-Schulz)."""
    x = matrices / (tf.norm(matrices, axis=[1, 2], keepdims=True) + 1e-7)
    for _ in range(5):
        a = tf.matmul(x, x, transpose_a=True)  # [number, columns, columns]
        x = 3.4445 * x + tf.matmul(x, -4.7750 * a + 2.0315 * tf.matmul(a, a))
    return x


def muon(scale, momentum):
    """Step the kernels by orthogonalized momentum, each gate by itself; the rest by Adam.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. `scale` is the
    root mean square of a step at a learning rate of 1, as in Liu et al., "Muon is Scalable for LLM
    Training", 2025. `momentum` is the share of the last step's momentum that stays.
    """
    adam = tf.train.AdamOptimizer

    class Muon:
        def __init__(self, rate):
            self.rate = rate

        def apply_gradients(self, pairs, iteration):
            pairs, steps = list(pairs), []
            for gradient, variable in pairs:
                if 'kernel' not in variable.op.name:
                    continue
                rows, columns = variable.shape.as_list()
                units = columns // 4
                with tf.variable_scope('muon', reuse=tf.AUTO_REUSE):
                    velocity = tf.get_variable(
                        variable.op.name.replace('/', '_'), variable.shape, trainable=False,
                        initializer=tf.zeros_initializer(),
                    )  # fmt: skip
                after = tf.assign(velocity, momentum * velocity + gradient)
                gates = tf.reshape(gradient + momentum * after, [rows, 4, units])
                step = orthogonal(tf.transpose(gates, [1, 0, 2]))
                step = tf.reshape(tf.transpose(step, [1, 0, 2]), [rows, columns])
                size = scale * max(rows, units) ** 0.5 * self.rate
                steps.append(tf.assign_sub(variable, size * step))
            others = [pair for pair in pairs if 'kernel' not in pair[1].op.name]
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
        left = (num_iterations + 1 - iteration) / (num_iterations + 1 - settings.warmup_iterations)
        highest = script.highest_rate(settings)
        return min(cosine(iteration, 10**9, settings), highest * left)

    script.learning_rate_at = rate_at


VARIANTS = {
    each.__name__: each
    for each in (any_offset, drop_recurrent, drop_input, drop_characters, muon, adam, linear)
}


def replace(names):
    """Replace what NAME[,NAME ...] say."""
    for each in names.split(','):
        name, *number = each.split('=')
        VARIANTS[name](*map(float, number))


def main(names, *arguments):
    replace(names)
    return script.main(arguments)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
