"""A stack of LSTM layers: a single step, and the unroll over a batch with its backward pass.

It computes the same as a MultiRNNCell of BasicLSTMCells, with their weights (Zaremba, Sutskever and
Vinyals, "Recurrent Neural Network Regularization", 2014). By default, TensorFlow uses fifteen
operations for a step of a layer and thirty for its gradient. Here, one operation reads several
steps, and the gradient is written by hand. The graph builds and runs faster.
"""

import collections
import functools
import math
import zlib

from backstage import machine, tf

# A batch is split along time into up to BLOCKS blocks. More blocks make the operations small; fewer
# leave cores idle. A block has at least HALF as many rows as a layer has units: with fewer, the
# kernel gradient spends most of its time on memory access.
BLOCKS, HALF = 10, 0.5
LARGE = 512  # units; from here on, one product for the inputs of several steps outweighs its copies
FORGET_BIAS = 1.0  # as in BasicLSTMCell (Jozefowicz et al., 2015)
FORWARD = {'forget_bias': FORGET_BIAS, 'cell_clip': -1.0}  # -1: c is not clipped
# Matrix rows that are a multiple of 2 kB apart compete for the same few lines of the cache, and a
# product takes up to 1.5 times as long. Padding each row by 16 numbers avoids this.
COLUMNS, PADDING = 512, 16

# The values of a step that the gradient needs: the gates i, f and o, the new content ci, the memory
# cs, and its tanh co. Each is a list of float32 [batch, units], one for each step.
Gates = collections.namedtuple('Gates', 'i cs f o ci co')


class Stack:
    """Stacked layers: a cell that `tf.nn.dynamic_rnn` accepts, and `unroll`.

    Args:
      weights: list of (kernel, bias), one for each layer, laid out as in a BasicLSTMCell: float32
        [width + units, 4 * units] and [4 * units].
      residual: bool, whether each layer but the first adds its input to its output.
    """

    def __init__(self, weights, residual):
        self.weights, self.residual = weights, residual
        self.output_size = units = weights[0][1].shape[0].value // 4
        self.state_size = (tf.contrib.rnn.LSTMStateTuple(units, units),) * len(weights)

    def zero_state(self, batch_size, dtype):
        """Return the state before the first step: zeros."""
        return tf.nest.map_structure(lambda n: tf.zeros([batch_size, n], dtype), self.state_size)

    def __call__(self, inputs, state):
        """Return the output of one step, float32 [batch, units], and the state after it."""
        after = []
        for number, (weights, (c, h)) in enumerate(zip(self.weights, state)):
            cell = cell_arguments(*weights)
            step = tf.raw_ops.LSTMBlockCell(x=inputs, cs_prev=c, h_prev=h, **cell, **FORWARD)
            after.append(tf.contrib.rnn.LSTMStateTuple(step.cs, step.h))
            inputs = step.h + inputs if self.residual and number else step.h
        return inputs, tuple(after)

    def unroll(self, inputs, state, masks=None):
        """Read all steps of a batch. The result is differentiable.

        The layers work in parallel: the second reads a block of steps while the first reads the
        next block. By default, TensorFlow would let the first layer run far ahead. At the end, the
        last layer would work alone on one core. So a block waits until the block `cores` places
        earlier has passed all layers.

        Args:
          inputs: float32 [time, batch, width].
          state: tuple of LSTMStateTuple, c and h of each layer.
          masks: float32 [layers, batch, units], dropout masks by which the outputs of each layer
            are multiplied at every step; None for no dropout.

        Returns:
          The outputs, a list of float32 [steps, batch, units], and the state after the last step.
        """
        time, batch, _ = inputs.shape.as_list()
        blocks = max(1, min(BLOCKS, round(time * batch / (HALF * self.output_size))))
        length = math.ceil(time / blocks)
        lengths = [min(length, time - begin) for begin in range(0, time, length)]
        cores, outputs, state = machine.available_cores(), [], list(state)
        layers = [layer_of(*weights) for weights in self.weights]
        for earlier, block in enumerate(tf.split(inputs, lengths), -cores):
            with tf.control_dependencies(outputs[earlier : earlier + 1] if earlier >= 0 else []):
                below = tf.identity(block, 'begin')
            for number, read in enumerate(layers):
                above, *after = read(below, *state[number])
                state[number] = tf.contrib.rnn.LSTMStateTuple(*after)
                if masks is not None:
                    above *= masks[number]
                below = above + below if self.residual and number else above
            outputs.append(below)
        return outputs, tuple(state)


def rows_of(steps):
    """Return a tensor [steps, batch, columns] as a matrix [steps * batch, columns]."""
    return tf.reshape(steps, [-1, steps.shape[2].value])


# --- One layer -----------------------------------------------------------------------------------


def layer_of(kernel, bias):
    """Return a differentiable function that reads several steps with an LSTM layer.

    `kernel` and `bias` are float32 [width + units, 4 * units] and [4 * units]. The function
    takes inputs, float32 [steps, batch, width], and c and h, float32 [batch, units]. It returns
    outputs, float32 [steps, batch, units], and c and h after the last step.
    """
    kernel, bias = tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias)
    units = bias.shape[0].value // 4
    width = kernel.shape[0].value - units
    kernel_x, kernel_h = tf.split(kernel, [width, units])
    # A product with a transposed copy takes half the time of a product that transposes on the fly.
    transposed_x, transposed_h = padded(tf.transpose(kernel_x)), padded(tf.transpose(kernel_h))
    cell = cell_arguments(kernel, bias)
    if units < LARGE:
        forward = functools.partial(forward_by_block, cell)
    else:
        forward = functools.partial(forward_by_step, padded(kernel_x), padded(kernel_h), bias)

    @tf.custom_gradient
    def read(x, c, h, kernel, bias):
        outputs, gates = forward(x, c, h)

        def backward(d_outputs, d_c, d_h):  # d_x is the gradient of the cost with respect to x
            xs, cs, hs = tf.unstack(x), [c, *gates.cs], [h, *tf.unstack(outputs)]
            d_gates = []
            for step, d_output in reversed(list(enumerate(tf.unstack(d_outputs)))):
                of_step = {name: values[step] for name, values in gates._asdict().items()}
                gradient = tf.raw_ops.LSTMBlockCellGrad(
                    x=xs[step], cs_prev=cs[step], h_prev=hs[step], cs_grad=d_c,
                    h_grad=d_output + d_h, **of_step, **cell,
                )  # fmt: skip
                d_c, d_h = gradient.cs_prev_grad, product(gradient.dicfo, transposed_h, units)
                d_gates.insert(0, gradient.dicfo)
            # One product for all steps is faster than a product for each step and their sum.
            d_gates = tf.concat(d_gates, axis=0)
            d_x = tf.reshape(product(d_gates, transposed_x, width), x.shape)
            x_and_h = tf.concat([rows_of(x), tf.concat(hs[:-1], axis=0)], axis=1)
            d_kernel = product(x_and_h, padded(d_gates), 4 * units, transpose_a=True)
            return d_x, d_c, d_h, d_kernel, tf.raw_ops.BiasAddGrad(out_backprop=d_gates)

        return (outputs, gates.cs[-1], outputs[-1]), backward

    return lambda x, c, h: read(x, c, h, kernel, bias)


def cell_arguments(kernel, bias):
    """Return the arguments that all operations of an LSTM layer share."""
    no_peephole = tf.zeros([bias.shape[0].value // 4])
    names = dict.fromkeys(['wci', 'wcf', 'wco'], no_peephole)
    return {'w': kernel, 'b': bias, **names, 'use_peephole': False}


def forward_by_block(cell, x, c, h):
    """Return the outputs of several steps, float32 [steps, batch, units], and their Gates."""
    steps = tf.constant(x.shape[0].value, tf.int64)
    *gates, outputs = tf.raw_ops.BlockLSTM(
        seq_len_max=steps, x=x, cs_prev=c, h_prev=h, **cell, **FORWARD
    )
    return outputs, Gates(*map(tf.unstack, gates))


def forward_by_step(kernel_x, kernel_h, bias, x, c, h):
    """Do the same for a large layer, with a single product for the inputs of all steps.

    `kernel_x` and `kernel_h` are the rows of the kernel for the inputs and for h, both `padded`.
    """
    units = c.shape[1].value
    from_x = tf.nn.bias_add(tf.matmul(rows_of(x), kernel_x), padded(bias))
    outputs, gates = [], []
    for from_x_of_step in tf.split(from_x, x.shape[0].value):
        sums = from_x_of_step + tf.matmul(h, kernel_h)
        padding = sums.shape[1].value - 4 * units
        i, ci, f, o, _ = tf.split(sums, [units] * 4 + [padding], axis=1)
        i, ci, f, o = tf.sigmoid(i), tf.tanh(ci), tf.sigmoid(f + FORGET_BIAS), tf.sigmoid(o)
        c = f * c + i * ci
        co = tf.tanh(c)
        h = o * co
        outputs.append(h)
        gates.append((i, c, f, o, ci, co))
    return tf.stack(outputs), Gates(*zip(*gates))


def product(rows, matrix, columns, **how):
    """Return a matrix product without the extra columns of a `padded` matrix."""
    result = tf.matmul(rows, matrix, **how)
    return result if result.shape[1].value == columns else tf.slice(result, [0, 0], [-1, columns])


def padded(matrix):
    """Return a matrix or vector. If it makes products faster, zeros are appended to each row."""
    *rows, columns = matrix.shape.as_list()
    if columns % COLUMNS:
        return matrix
    return tf.concat([matrix, tf.zeros([*rows, PADDING])], axis=-1)


# --- Random numbers that depend only on the seed and on where they are used ----------------------


def weights_by_name(getter, name, *arguments, initializer=None, **more):
    """Get a variable (a custom_getter). Its initial values depend only on the seed and its name.

    TensorFlow's own seeds depend on how many operations the graph already has. The default
    initializer is `glorot_uniform_initializer`.
    """
    initializer = tf.glorot_uniform_initializer() if initializer is None else initializer
    if callable(initializer):  # else a value
        initializer.seed = zlib.crc32(name.encode()) % 2**31
    return getter(name, *arguments, initializer=initializer, **more)


def noise(prime, num, seed):
    """Return a tensor of random numbers from 0 up to 1 for sampling, float32 [streams, num].

    Those of a stream depend on the seed, int32 [2], on its row of `prime`, int32 [streams,
    characters], and on how many earlier rows are equal to it, but on nothing else in the batch.
    """
    words = tf.concat([tf.tile(seed[None], [tf.shape(prime)[0], 1]), prime], axis=1)
    begins = tf.strings.reduce_join(tf.as_string(words), axis=1, separator=' ')
    begins = tf.strings.to_hash_bucket_fast(begins, 2**31)
    is_same = tf.cast(tf.equal(begins[:, None], begins), tf.int64)  # [streams, streams]
    numbers = tf.reduce_sum(tf.linalg.band_part(is_same, -1, 0), axis=1)

    def draw(seeds):  # with an operation of 1.15, which can then load what a 2.x exports
        return tf.raw_ops.StatelessRandomUniform(shape=[num], seed=seeds, dtype=tf.float32)

    return tf.map_fn(draw, tf.stack([begins, numbers], axis=1), tf.float32)
