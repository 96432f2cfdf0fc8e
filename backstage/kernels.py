"""The kernel of an LSTM layer: what is multiplied by it at a step, and the way back.

Who makes something that others use too notes it in a collection of the graph.
"""

from backstage import tf

# The lines of a matrix that are 2 kB apart, or a multiple of that, all want the same few places of
# a core's cache: a product with it is slower, by up to a half. With 16 numbers more it is not.
LINE, MORE = 512, 16  # numbers, of 4 bytes


def made_once(name, make):
    """Return what the graph has by a name; if there is nothing, make it."""
    found = tf.get_collection_ref(name)
    found[:] = found or [make()]
    return found[0]


def lengthened(matrix):
    """Return a matrix, or a vector, with zeros at the end of each line if they make it faster."""
    *rows, columns = matrix.shape.as_list()
    more = MORE if columns % LINE == 0 else 0
    return tf.pad(matrix, [[0, 0]] * len(rows) + [[0, more]]) if more else matrix


def halves_of(kernel):
    """Return the rows of a kernel for the inputs, and those for the state.

    Args:
      kernel: float32 [input + rnn_size, 4 * rnn_size].
    """
    rows, columns = kernel.shape.as_list()
    sizes = [rows - columns // 4, columns // 4]
    return made_once(f'halves of {kernel.name}', lambda: tf.split(kernel, sizes))


def step_of_block(cell, inputs, block, state):
    """Compute a step of a large BasicLSTMCell: what the inputs add to its gates for a whole block.

    `inputs` is one of the block, a list of float32 [batch, input], one for each time step of it.
    """
    n, kernel = cell.output_size, cell._kernel.value()
    of_x, of_h = made_once(
        f'longer halves of {kernel.name}', lambda: [lengthened(half) for half in halves_of(kernel)]
    )

    def of_inputs():
        gates = tf.matmul(tf.concat(block, axis=0), of_x)
        return tf.split(tf.nn.bias_add(gates, lengthened(cell._bias)), len(block))

    place = [one.name for one in block].index(inputs.name)
    begun = made_once(f'gates of {block[0].name}', of_inputs)[place]
    product = tf.matmul(state.h, of_h)
    tf.add_to_collection(f'step of {product.op.name}', (kernel, inputs))
    sizes = [n] * 4 + [product.shape[1].value - 4 * n]
    i, j, f, o, _ = tf.split(begun + product, sizes, axis=1)
    c = state.c * tf.sigmoid(f + cell._forget_bias) + tf.sigmoid(i) * tf.tanh(j)
    h = tf.sigmoid(o) * tf.tanh(c)
    return h, tf.contrib.rnn.LSTMStateTuple(c, h)


# --- The way back --------------------------------------------------------------------------------


def multiply_back(of_gates, half):
    """Return the gradient of what was multiplied by a half of a kernel, from that of the gates.

    To read a kernel sideways takes twice as long as this: a copy is transposed, once for all steps.
    """
    columns = half.shape[0].value
    copy = made_once(f'transpose of {half.name}', lambda: lengthened(tf.transpose(half)))
    product = tf.matmul(of_gates, copy)
    is_longer = product.shape[1].value > columns
    return tf.slice(product, [0, 0], [-1, columns]) if is_longer else product


@tf.RegisterGradient('OfProduct')
def gradient_of_product(product, of_gates):
    """The gradient of a MatMul of rows and a half of a kernel, to the rows."""
    rows, half = product.inputs
    for kernel, x in tf.get_collection(f'step of {product.name}'):
        tf.add_to_collection(f'uses of {kernel.name}', (x, rows, of_gates))
    return multiply_back(of_gates, half), None


@tf.RegisterGradient('OfStep')
def gradient_of_step(step, *gradients_of_outputs):
    """The gradient of an LSTMBlockCell to its inputs and its state."""
    x, c, h, kernel, *peepholes, bias = step.inputs
    names = ['i', 'cs', 'f', 'o', 'ci', 'co', 'h']  # of its outputs
    outputs = dict(zip(names[:-1], step.outputs))
    of_outputs = dict(zip(names, gradients_of_outputs))
    back = tf.raw_ops.LSTMBlockCellGrad(
        x=x, cs_prev=c, h_prev=h, w=kernel, b=bias, **dict(zip(['wci', 'wcf', 'wco'], peepholes)),
        **outputs, cs_grad=of_outputs['cs'], h_grad=of_outputs['h'], use_peephole=False,
    )  # fmt: skip
    # dicfo is that of the gates, float32 [batch, 4 * rnn_size]
    tf.add_to_collection(f'gates of {bias.name}', back.dicfo)
    tf.add_to_collection(f'uses of {kernel.name}', (x, h, back.dicfo))
    of_x, of_h = (multiply_back(back.dicfo, half) for half in halves_of(kernel))
    return [of_x, back.cs_prev_grad, of_h] + [None] * 5
