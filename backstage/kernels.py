"""The kernel of an LSTM layer: what is multiplied by it at a step, and the way back.

Who uses a part of a kernel, or makes what others use too, notes it in a collection of the graph.
"""

from backstage import tf

# A core multiplies by so many columns at its highest rate, and by 1,024 at half of that.
COLUMNS = 256


def made_once(name, make):
    """Return a list of tensors that the graph has by a name; if there is none, make it."""
    tensors = tf.get_collection_ref(name)
    tensors[:] = tensors or make()
    return tensors


def parts_of(kernel, pieces=1):
    """Return the rows of a kernel for the inputs, in pieces by columns, and those for the state.

    Args:
      kernel: float32 [input + rnn_size, 4 * rnn_size].

    Returns a list of 2 * pieces tensors.
    """

    def split():
        rows, columns = kernel.shape.as_list()
        halves = tf.split(kernel, [rows - columns // 4, columns // 4])
        return [piece for half in halves for piece in tf.split(half, pieces, axis=1)]

    return made_once(f'parts of {kernel.name}', split)


def step_of_block(cell, inputs, block, state):
    """Compute a step of a large BasicLSTMCell: what the inputs add to its gates for a whole block.

    Each gate has a product of its own, or two. `inputs` is one of the block, a list of float32
    [batch, input], one for each time step of it.
    """
    in_halves = cell.output_size >= 2 * COLUMNS and cell.output_size % 2 == 0
    pieces = 8 if in_halves else 4
    parts = parts_of(cell._kernel.value(), pieces)

    def of_inputs():
        rows, biases = tf.concat(block, axis=0), tf.split(cell._bias, pieces)
        products = [tf.matmul(rows, part) for part in parts[:pieces]]
        gates = [tf.nn.bias_add(product, bias) for product, bias in zip(products, biases)]
        return list(zip(*[tf.split(gate, len(block)) for gate in gates]))

    place = [one.name for one in block].index(inputs.name)
    begun = made_once(f'gates of {block[0].name}', of_inputs)[place]
    gates = [gate + tf.matmul(state.h, part) for gate, part in zip(begun, parts[pieces:])]
    if in_halves:
        gates = [tf.concat(halves, axis=1) for halves in zip(gates[::2], gates[1::2])]
    i, j, f, o = gates
    c = state.c * tf.sigmoid(f + cell._forget_bias) + tf.sigmoid(i) * tf.tanh(j)
    h = tf.sigmoid(o) * tf.tanh(c)
    return h, tf.contrib.rnn.LSTMStateTuple(c, h)


# --- The way back --------------------------------------------------------------------------------


def gradient_of_rows(rows, part, of_gates):
    """Return the gradient of what was multiplied by a part of a kernel; `gradients` does the rest.

    To read a kernel sideways takes twice as long as this: a copy is transposed, once for all steps.
    """
    tf.add_to_collection(f'uses of {part.name}', (rows, of_gates))
    (copy,) = made_once(f'transpose of {part.name}', lambda: [tf.transpose(part)])
    return tf.matmul(of_gates, copy)


@tf.RegisterGradient('OfProduct')
def gradient_of_product(product, of_gates):
    """The gradient of a MatMul of rows and a part of a kernel, to the rows."""
    return gradient_of_rows(*product.inputs, of_gates), None


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
    tf.add_to_collection(f'uses of {bias.name}', back.dicfo)  # float32 [batch, 4 * rnn_size]
    of_x, of_h = (
        gradient_of_rows(rows, part, back.dicfo) for rows, part in zip((x, h), parts_of(kernel))
    )
    return [of_x, back.cs_prev_grad, of_h] + [None] * 5
