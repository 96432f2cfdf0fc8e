"""What makes training fast on a CPU, in the place of what TensorFlow has.

`static_rnn` stands for `tf.nn.static_rnn`, `gradients` for `tf.gradients`, and `new_graph` for
`tf.Graph`. They compute the same. The first two go together: `tf.gradients` finds no gradient for a
kernel that went through this `static_rnn`.
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


def static_rnn(cell, inputs, state):
    """Run a cell over time, as `tf.nn.static_rnn` does, at a pace that keeps all cores busy.

    Layer 2 can read character 1 while layer 1 reads character 2, so the layers run side by side.
    TensorFlow, left to itself, lets the first layer run far ahead; at the end the last layer
    works alone, and all cores but one wait. Therefore a character is not begun before the one
    `cores` places earlier is through all layers: as many are on their way as there are cores.

    Args:
      cell: tf.contrib.rnn.MultiRNNCell.
      inputs: list of float32 [batch, input], one for each time step.
      state: tuple of LSTMStateTuple.

    Returns:
      A list of float32 [batch, rnn_size], one for each time step, and the final state.
    """
    cores = machine.available_cores()
    outputs = []
    own_gradient = tf.get_default_graph().gradient_override_map({'MatMul': 'MatMulByCopy'})
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


@tf.RegisterGradient('MatMulByCopy')
def matmul_gradient(operation, gradient):
    """The gradient of x [batch, in] times kernel [in, out], to x alone; `gradients` does the rest.

    TensorFlow's multiplies by the kernel read sideways, which on a CPU takes twice as long. Here
    a transposed copy is made first. All time steps ask for the same copy; the session sees that
    and makes one.
    """
    kernel = operation.inputs[1]
    return tf.matmul(gradient, tf.transpose(kernel, [1, 0])), None


def gradients(loss, variables):
    """Return what `tf.gradients` would, sooner where a layer has gone through `static_rnn`.

    The kernel of a layer is used at each time step, so its gradient is a sum over time of products:
    input of the step, transposed, times gradient of its gates. A few steps at once make one.

    Args:
      loss: float32 scalar.
      variables: list of tf.Variable. The kernels among them are used by `static_rnn` alone.

    Returns:
      A list as `tf.gradients` returns it.
    """
    uses = _uses_over_time(loss.graph)
    others = [variable for variable in variables if variable.value().name not in uses]
    gates = list(dict.fromkeys(gate for steps in uses.values() for _, gate in steps))
    found = dict(zip([*others, *gates], tf.gradients(loss, [*others, *gates])))

    def of(variable):
        steps = uses.get(variable.value().name)
        if not steps:
            return found[variable]
        of_gates = grouped([found[gate] for _, gate in steps])
        if variable.shape.ndims == 1:  # a bias
            return tf.add_n([tf.reduce_sum(g, axis=0) for g in of_gates])
        inputs = grouped([x for x, _ in steps])
        return tf.add_n([tf.matmul(x, g, transpose_a=True) for x, g in zip(inputs, of_gates)])

    return [of(variable) for variable in variables]


def _uses_over_time(graph):
    """Return a dict from the name of each kernel and bias in `static_rnn` to its uses.

    They are pairs in the order of time: the input of a step, and its gates before the bias, float32
    [batch, 4 * rnn_size].
    """
    uses = collections.defaultdict(list)
    products = set()
    for operation in graph.get_operations():  # (`consumers()` would give them in any order)
        if operation.type == 'MatMul' and '_gradient_op_type' in operation.node_def.attr:
            x, kernel = operation.inputs
            uses[kernel.name].append((x, operation.outputs[0]))
            products.add(operation)
        elif operation.type == 'BiasAdd' and operation.inputs[0].op in products:
            gates, bias = operation.inputs
            uses[bias.name].append((gates, gates))
    return uses
