"""What makes training fast on a CPU, in the place of what TensorFlow has.

`in_one_operation` changes how a BasicLSTMCell computes; `static_rnn` stands for
`tf.nn.static_rnn`, `gradients` for `tf.gradients`, and `new_graph` for `tf.Graph`. They compute the
same. `tf.gradients` finds no gradient for a kernel that went through this `static_rnn`.
"""

import contextlib

from backstage import machine, tf

# A large matrix product is faster than several small ones and the sum of their results: from about
# so many rows on it has the full speed of a core. But what it reads should be in the core's cache.
ROWS = 500
LARGE = 256  # units; with so many, that is worth some more operations in each step


def in_this_thread():
    """Return the tf.RunOptions for a loop of short steps, which is faster in the calling thread."""
    return tf.RunOptions(inter_op_thread_pool=-1)


@contextlib.contextmanager
def new_graph():
    """A tf.Graph to build in."""
    new = tf.Graph()
    from tensorflow.python.util import deprecation

    # To look for deprecated arguments takes TensorFlow a fifth of the time to build a graph.
    with deprecation.silence(), new.as_default() as graph:
        yield graph


def in_one_operation(cells):
    """Let each BasicLSTMCell compute a step by TensorFlow's LSTMBlockCell, of the same weights.

    It stands for some fifteen, and its gradient for thirty: a graph is built in half the time.
    """

    from backstage.kernels import step_of_block

    def call_of(cell):
        @tf.autograph.experimental.do_not_convert  # which would take longer than the call
        def call(inputs, state):
            block = tf.get_collection(f'block of {inputs.name}')
            if block:
                return step_of_block(cell, inputs, block, state)
            no_peephole = tf.zeros([cell.output_size])
            step = tf.raw_ops.LSTMBlockCell(
                x=inputs, cs_prev=state.c, h_prev=state.h, w=cell._kernel, b=cell._bias,
                wci=no_peephole, wcf=no_peephole, wco=no_peephole,
                forget_bias=cell._forget_bias, cell_clip=-1.0, use_peephole=False,
            )  # fmt: skip
            return step.h, tf.contrib.rnn.LSTMStateTuple(step.cs, step.h)

        return call

    for cell in cells:
        cell.call = call_of(cell)


def static_rnn(cell, inputs, state):
    """Run a cell over time, as `tf.nn.static_rnn` does, at a pace that keeps all cores busy.

    Layer 2 can read character 1 while layer 1 reads character 2, so the layers run side by side.
    TensorFlow, left to itself, lets the first layer run far ahead; at the end the last layer
    works alone, and all cores but one wait. Therefore a character is not begun before the one
    `cores` places earlier is through all layers: as many are on their way as there are cores. (A
    large model reads blocks of characters so.)

    Args:
      cell: tf.contrib.rnn.MultiRNNCell, of cells that went through `in_one_operation`.
      inputs: list of float32 [batch, input], one for each time step.
      state: tuple of LSTMStateTuple.

    Returns a list of float32 [batch, rnn_size], one for each time step, and the final state.
    """
    cores, graph = machine.available_cores(), tf.get_default_graph()
    is_large = cell.output_size >= LARGE
    length = steps_at_once(inputs) if is_large else 1
    outputs, state = [], list(state)
    own_gradients = {'LSTMBlockCell': 'OfStep', 'MatMul': 'OfProduct'}
    scope = tf.variable_scope('rnn/multi_rnn_cell', reuse=tf.AUTO_REUSE)  # as MultiRNNCell has it
    with scope, graph.gradient_override_map(own_gradients):
        for begin in range(0, len(inputs), length):
            before = begin - (cores - 1) * length - 1
            with tf.control_dependencies(outputs[before : before + 1] if before >= 0 else []):
                block = [tf.identity(x) for x in inputs[begin : begin + length]]
            for layer, one in enumerate(cell._cells):
                with tf.variable_scope(f'cell_{layer}'):
                    above = []
                    for x in block:
                        if is_large:
                            graph.get_collection_ref(f'block of {x.name}')[:] = block
                        output, state[layer] = one(x, state[layer])
                        above.append(output)
                    block = above
            outputs += block
    return outputs, tuple(state)


def steps_at_once(steps):
    """Return how many of a list of tensors [batch, ...] have about ROWS rows together."""
    return max(1, round(ROWS / max(step.shape[0].value for step in steps)))


def grouped(steps):
    """Return a list of tensors [batch, ...], one for each time step, as fewer, taller ones."""
    number = steps_at_once(steps)
    return [tf.concat(steps[i : i + number], axis=0) for i in range(0, len(steps), number)]


# --- Gradients -----------------------------------------------------------------------------------


def gradients(loss, variables):
    """Return what `tf.gradients` would, sooner where a layer has gone through `static_rnn`.

    The kernel of a layer is used at each time step, so its gradient is a sum over time of products:
    what was multiplied by it, transposed, times the gradient of the gates. Some steps make one.

    Args:
      loss: float32 scalar.
      variables: list of tf.Variable. The kernels among them are used by `static_rnn` alone.

    Returns a list as `tf.gradients` returns it.
    """
    from backstage.kernels import lengthened

    found = tf.gradients(loss, variables)  # None for those of the layers

    def of_kernel(uses):
        xs, hs, gates = map(grouped, zip(*uses))
        products = [
            tf.matmul(tf.concat([x, h], axis=1), lengthened(g), transpose_a=True)
            for x, h, g in zip(xs, hs, gates)
        ]
        return tf.add_n(products)

    def of(variable):
        name, (*_, columns) = variable.value().name, variable.shape.as_list()
        uses, gates = (tf.get_collection(f'{what} of {name}') for what in ('uses', 'gates'))
        if uses:
            return tf.slice(of_kernel(uses), [0, 0], [-1, columns])
        return tf.add_n([tf.reduce_sum(g, axis=0) for g in grouped(gates)]) if gates else None

    return [gradient if gradient is not None else of(v) for v, gradient in zip(variables, found)]
