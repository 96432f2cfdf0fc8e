"""What makes training fast on a CPU, in the place of what TensorFlow has.

`in_one_operation` changes how a BasicLSTMCell computes; `static_rnn` stands for
`tf.nn.static_rnn`, `gradients` for `tf.gradients`, and `new_graph` for `tf.Graph`. They compute the
same. `static_rnn` and `gradients` go together: `tf.gradients` finds no gradient for a kernel that
went through this `static_rnn`.
"""

import collections
import contextlib

from backstage import machine, tf

from tensorflow.python.util import deprecation


@contextlib.contextmanager
def new_graph():
    """A tf.Graph to build in."""
    # To look for deprecated arguments takes TensorFlow a fifth of the time to build a graph.
    with deprecation.silence(), tf.Graph().as_default() as graph:
        yield graph


def in_one_operation(cells):
    """Let each BasicLSTMCell compute a step by TensorFlow's LSTMBlockCell, of the same weights.

    It stands for some fifteen operations, and its gradient for thirty. So a graph of many steps is
    built in half the time.
    """

    def call_of(cell):
        @tf.autograph.experimental.do_not_convert  # which would take longer than the call
        def call(inputs, state):
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
    `cores` places earlier is through all layers: as many are on their way as there are cores.

    Args:
      cell: tf.contrib.rnn.MultiRNNCell, of cells that went through `in_one_operation`.
      inputs: list of float32 [batch, input], one for each time step.
      state: tuple of LSTMStateTuple.

    Returns:
      A list of float32 [batch, rnn_size], one for each time step, and the final state.
    """
    cores = machine.available_cores()
    outputs = []
    own_gradient = tf.get_default_graph().gradient_override_map({'LSTMBlockCell': 'OfOneStep'})
    with tf.variable_scope('rnn', reuse=tf.AUTO_REUSE), own_gradient:
        for step, x in enumerate(inputs):
            with tf.control_dependencies([outputs[step - cores]] if step >= cores else []):
                x = tf.identity(x)  # noqa: PLW2901
            output, state = cell(x, state)
            outputs.append(output)
    return outputs, state


def grouped(steps):
    """Return a list of tensors [batch, n], one for each time step, as fewer, taller ones.

    One large matrix product is faster than several small ones and the sum of their results, but
    what it reads should still be in a core's cache: five time steps were the fastest.
    """
    return [tf.concat(steps[i : i + 5], axis=0) for i in range(0, len(steps), 5)]


@tf.RegisterGradient('OfOneStep')
def gradient_of_step(step, *gradients_of_outputs):
    """The gradient of an LSTMBlockCell to its inputs and its state; `gradients` does the rest.

    That of its gates is multiplied by the kernel. To read the kernel sideways takes twice as long
    on a CPU as this: transposed copies are made first, of the part for the inputs and of that for
    the state, once for all time steps.
    """
    x, c, h, kernel, *peepholes, bias = step.inputs
    names = ['i', 'cs', 'f', 'o', 'ci', 'co', 'h']  # of its outputs
    outputs = dict(zip(names, step.outputs))
    of_outputs = dict(zip(names, gradients_of_outputs))
    del outputs['h']
    back = tf.raw_ops.LSTMBlockCellGrad(
        x=x, cs_prev=c, h_prev=h, w=kernel, b=bias, **dict(zip(['wci', 'wcf', 'wco'], peepholes)),
        **outputs, cs_grad=of_outputs['cs'], h_grad=of_outputs['h'], use_peephole=False,
    )  # fmt: skip
    copies = f'transposed parts of {kernel.name}'
    if not tf.get_collection(copies):
        for part in tf.split(kernel, [x.shape[1].value, h.shape[1].value]):
            tf.add_to_collection(copies, tf.transpose(part))
    of_x, of_h = [tf.matmul(back.dicfo, part) for part in tf.get_collection(copies)]
    return [of_x, back.cs_prev_grad, of_h] + [None] * 5


def gradients(loss, variables):
    """Return what `tf.gradients` would, sooner where a layer has gone through `static_rnn`.

    The kernel of a layer is used at each time step, so its gradient is a sum over time of products:
    input and state of the step, transposed, times gradient of its gates. A few steps at once make
    one of each.

    Args:
      loss: float32 scalar.
      variables: list of tf.Variable. The kernels among them are used by `static_rnn` alone.

    Returns:
      A list as `tf.gradients` returns it.
    """
    found = tf.gradients(loss, variables)  # None for those of the layers
    steps = collections.defaultdict(list)  # by the names of their kernel and bias
    for operation in loss.graph.get_operations():
        if operation.type == 'LSTMBlockCellGrad':
            x, _, h, kernel, *_ = operation.inputs
            of_gates = operation.outputs[1]  # float32 [batch, 4 * rnn_size]
            steps[kernel.name].append((x, h, of_gates))
            steps[operation.inputs[7].name].append((x, h, of_gates))

    def of(variable):
        xs, hs, gates = [grouped(tensors) for tensors in zip(*steps[variable.value().name])]
        if variable.shape.ndims == 1:  # a bias
            return tf.add_n([tf.reduce_sum(g, axis=0) for g in gates])
        parts = [
            [tf.matmul(x, g, transpose_a=True) for x, g in zip(rows, gates)] for rows in (xs, hs)
        ]
        return tf.concat([tf.add_n(products) for products in parts], axis=0)

    return [of(v) if v.value().name in steps else g for v, g in zip(variables, found)]
