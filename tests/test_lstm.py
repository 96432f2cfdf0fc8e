"""backstage/lstm.py: a stack of layers computes what TensorFlow's own would, and its gradient."""

from backstage import lstm, machine, tf

import numpy as np
import pytest
from conftest import (
    BATCH,
    LSTM,
    TIME,
    UNITS,
    VOCAB,
    Stack,
    log_softmax,
    lstm_logits,
    lstm_losses,
    read_lstm,
    script,
    sigmoid,
)

MODELS = [
    {}, {'residual': False}, {'num_layers': 1}, {'keep_prob': 0.6},
    {'keep_prob': 0.6, 'residual': False}, {'training_seq_len': 1}, {'training_seq_len': 12},
]  # fmt: skip
# Whether a layer is built as a large one, and with rows that are padded
WAYS = (False, False), (True, True), (False, True), (True, False)
CASES = [(model, way) for model in MODELS for way in WAYS[: 2 if model else 4]]


def build_as(monkeypatch, is_large, is_padded):
    """Let a small model be built as one of another size is."""
    monkeypatch.setattr(lstm, 'BLOCKS', 3)
    monkeypatch.setattr(lstm, 'LARGE', 1 if is_large else 10_000)
    monkeypatch.setattr(lstm, 'COLUMNS', UNITS if is_padded else 10_000)


@pytest.fixture(params=WAYS[:2], ids=['usual', 'large'])
def size(request, monkeypatch):
    build_as(monkeypatch, *request.param)


def masks_of(settings, layers):
    """Return what dropout multiplies the output of each layer by, in the first iteration."""
    keep_prob = settings.get('keep_prob', 1)
    noise = tf.random.stateless_uniform([layers, BATCH, UNITS], [1, 0])
    with tf.Session() as session:
        return np.floor(session.run(noise).astype(np.float64) + keep_prob) / keep_prob


def numpy_gradients(model, x, y, state, masks):
    """Return the gradients of the mean loss to embedding, kernels, biases, W and b, by hand.

    Back-propagation through time, after the equations of the forward pass.
    """
    layers, units, tape, outputs = len(model.kernels), UNITS, [], []
    c, h = (list(part) for part in np.swapaxes(state, 0, 1))
    for characters in x.T:
        below = model.embedding[characters]
        for layer, (kernel, bias) in enumerate(zip(model.kernels, model.biases)):
            joined = np.concatenate([below, h[layer]], axis=1)
            i, j, f, o = np.split(joined @ kernel + bias, 4, axis=1)
            i, j, f, o = sigmoid(i), np.tanh(j), sigmoid(f + 1), sigmoid(o)
            before, c[layer] = c[layer], f * c[layer] + i * j
            h[layer] = o * np.tanh(c[layer])
            tape.append((layer, joined, before, i, j, f, o, np.tanh(c[layer])))
            output = h[layer] * masks[layer]
            below = output + below if model.residual and layer else output
        outputs.append(below)
    logits = np.stack(outputs, axis=1) @ model.W + model.b
    of_logits = np.exp(log_softmax(logits))
    np.put_along_axis(
        of_logits, y[..., None], np.take_along_axis(of_logits, y[..., None], 2) - 1, 2
    )
    of_logits /= x.size
    of_kernels = [np.zeros_like(kernel) for kernel in model.kernels]
    of_biases = [np.zeros_like(bias) for bias in model.biases]
    of_embedding, of_c, of_h = np.zeros_like(model.embedding), [0] * layers, [0] * layers
    time = x.shape[1]
    for layer, joined, before, i, j, f, o, tanh_c in reversed(tape):
        if layer == layers - 1:
            time -= 1
            of_output = of_logits[:, time] @ model.W.T
        of_this_h = of_output * masks[layer] + of_h[layer]
        of_this_c = of_c[layer] + of_this_h * o * (1 - tanh_c**2)
        of_gates = np.concatenate(
            [
                of_this_c * j * i * (1 - i), of_this_c * i * (1 - j**2),
                of_this_c * before * f * (1 - f), of_this_h * tanh_c * o * (1 - o),
            ],
            axis=1,
        )  # fmt: skip
        of_kernels[layer] += joined.T @ of_gates
        of_biases[layer] += of_gates.sum(axis=0)
        of_joined = of_gates @ model.kernels[layer].T
        of_c[layer], of_h[layer] = of_this_c * f, of_joined[:, -units:]
        below = of_joined[:, :-units]
        of_output = below + of_output if model.residual and layer else below
        if layer == 0:
            np.add.at(of_embedding, x[:, time], of_output)
    flat = np.stack(outputs, axis=1).reshape(-1, units)
    of_W = flat.T @ of_logits.reshape(-1, VOCAB)
    return [of_embedding, *of_kernels, *of_biases, of_W, of_logits.sum(axis=(0, 1))]


def in_order(stack, gradients):
    """Return gradients of the variables of a model in the order of `numpy_gradients`."""
    ends = ['embedding_mat'], ['kernel'], ['bias'], ['/W'], ['/b']
    by_name = dict(zip((v.op.name for v in stack.variables), gradients))
    return [by_name[name] for (end,) in ends for name in by_name if name.endswith(end)]


def assert_close(found, expected, tolerance=2e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize('settings, way', CASES, ids=str)
def test_outputs_state_and_gradients_are_those_of_numpy(settings, way, monkeypatch):
    build_as(monkeypatch, *way)
    stack = Stack(**settings)
    model = read_lstm(stack.values(), settings.get('residual', True))
    masks = masks_of(settings, len(model.kernels))
    logits, state = lstm_logits(model, stack.x, stack.state, masks)
    np.testing.assert_allclose(stack.logits(), logits, atol=1e-4)
    np.testing.assert_allclose(stack.run(stack.model.final_state), state, atol=1e-4)
    expected = numpy_gradients(model, stack.x, stack.y, stack.state, masks)
    assert_close(in_order(stack, stack.run(stack.gradients)), expected)


@pytest.mark.parametrize('settings', [{}, {'residual': False}, {'num_layers': 1}], ids=str)
def test_the_gradient_is_that_of_finite_differences(settings):
    stack = Stack(**settings)
    model = read_lstm(stack.values(), settings.get('residual', True))
    gradients = in_order(stack, stack.run(stack.gradients))
    random = np.random.RandomState(0)
    directions = [random.normal(size=gradient.shape) for gradient in gradients]

    def loss(step):
        weights = [model.embedding, *model.kernels, *model.biases, model.W, model.b]
        moved = [weight + step * way for weight, way in zip(weights, directions)]
        layers = len(model.kernels)
        parts = moved[0], moved[1 : 1 + layers], moved[1 + layers : -2], *moved[-2:]
        losses, _ = lstm_losses(LSTM(*parts, model.residual), stack.x, stack.y, stack.state)
        return losses.mean()

    found = sum((gradient * way).sum() for gradient, way in zip(gradients, directions))
    np.testing.assert_allclose(found, (loss(1e-5) - loss(-1e-5)) / 2e-5, rtol=1e-4)


def test_asked_twice_it_gives_the_same_and_with_a_second_loss_their_sum(size):
    stack = Stack()
    with stack.graph.as_default():
        cost, state = stack.model.cost, tf.reduce_sum(tf.square(stack.model.final_state))
        once, twice = (tf.gradients(cost, stack.variables) for _ in range(2))
        both = tf.gradients([cost, state], stack.variables)
        second = tf.gradients(state, stack.variables[:1] + stack.variables[3:])
        once, twice, both, second = (
            list(map(tf.convert_to_tensor, some)) for some in (once, twice, both, second)
        )
    once, twice, both, second = stack.run([once, twice, both, second])
    for one, other in zip(once, twice):
        np.testing.assert_array_equal(one, other)
    second[1:1] = [0, 0]  # W and b do not come into it
    assert_close(both, [one + other for one, other in zip(once, second)], 1e-4)


@pytest.mark.parametrize(
    'optimizer',
    [
        lambda: tf.train.GradientDescentOptimizer(0.1),
        lambda: tf.train.MomentumOptimizer(0.1, 0.9),
        lambda: tf.train.RMSPropOptimizer(0.01),
        lambda: tf.train.AdagradOptimizer(0.1),
    ],
    ids=['descent', 'momentum', 'rmsprop', 'adagrad'],
)
def test_any_optimizer_moves_every_variable(optimizer):
    stack = Stack()
    before = stack.values()
    with stack.graph.as_default():
        step = optimizer().minimize(stack.model.cost, var_list=stack.variables)
        known = set(stack.variables)
        fresh = [v for v in tf.global_variables() if v not in known]
        stack.session.run(tf.variables_initializer(fresh))
    stack.run(step)
    for name, value in stack.values().items():
        assert np.abs(value - before[name]).max() > 1e-6, name


def test_one_kernel_that_all_layers_share_gets_the_sum_of_their_gradients(size):
    """The first of the five classic mistakes: [cell] * 3."""
    random = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
        kernel = tf.Variable(random.normal(size=[2 * UNITS, 4 * UNITS]).astype(np.float32))
        bias = tf.Variable(random.normal(size=4 * UNITS).astype(np.float32))
        copies = [(tf.identity(kernel), tf.identity(bias)) for _ in range(3)]
        inputs = tf.constant(random.normal(size=[TIME, BATCH, UNITS]), tf.float32)

        def gradients(weights, wanted):
            stack = lstm.Stack(weights, residual=True)
            outputs, _ = stack.unroll(inputs, stack.zero_state(BATCH, tf.float32))
            return tf.gradients(tf.reduce_sum(tf.concat(outputs, axis=0)), wanted)

        shared = gradients([(kernel, bias)] * 3, [kernel, bias])
        apart = gradients(copies, [*copies[0], *copies[1], *copies[2]])
        session.run(tf.global_variables_initializer())
        shared, apart = session.run([shared, apart])
    assert_close(shared, [sum(apart[::2]), sum(apart[1::2])])


def test_tensorflow_reads_the_same_from_its_own_cells():
    """A MultiRNNCell of the very cells, as anybody would unroll it."""
    stack = Stack()
    with stack.graph.as_default(), tf.variable_scope('lstm_model', reuse=True):
        cells = [tf.contrib.rnn.BasicLSTMCell(UNITS) for _ in range(3)]
        upper = [tf.contrib.rnn.ResidualWrapper(cell) for cell in cells[1:]]
        outputs, _ = tf.nn.static_rnn(
            tf.contrib.rnn.MultiRNNCell([cells[0], *upper]),
            tf.unstack(tf.nn.embedding_lookup(stack.model.embedding_mat, stack.x), axis=1),
            script.unpack_state(tf.constant(stack.state, tf.float32)),
            scope='rnn',
        )
        logits = tf.tensordot(tf.stack(outputs, axis=1), stack.model.W, 1) + stack.model.b
    np.testing.assert_allclose(stack.logits(), stack.session.run(logits), atol=1e-5)


def test_no_more_blocks_are_on_their_way_through_the_layers_than_there_are_cores(monkeypatch):
    for cores in 1, 2, 3, TIME + 1:
        monkeypatch.setattr(machine, 'available_cores', lambda cores=cores: cores)
        with tf.Graph().as_default() as graph:
            weights = tf.zeros([2 * UNITS, 4 * UNITS]), tf.zeros([4 * UNITS])
            stack = lstm.Stack([weights] * 2, residual=True)
            stack.unroll(tf.zeros([TIME, BATCH, UNITS]), stack.zero_state(BATCH, tf.float32))
        begun = [op for op in graph.get_operations() if op.name.startswith('begin')]
        waiting = [len(op.control_inputs) for op in begun]
        assert waiting == [0] * min(cores, TIME) + [1] * max(0, TIME - cores)


@pytest.mark.parametrize(
    'time, lengths', [(1, [1]), (12, [1] * 12), (50, [5] * 10), (55, [6] * 9 + [1])]
)
def test_a_batch_is_split_into_about_ten_blocks(time, lengths):
    steps = np.random.RandomState(0).normal(size=(time, 3, 2))
    with tf.Graph().as_default(), tf.Session() as session:
        blocks = session.run(lstm.split(tf.constant(steps)))
    assert [len(block) for block in blocks] == lengths
    np.testing.assert_array_equal(np.concatenate(blocks), steps)


@pytest.mark.parametrize('columns, padded', [(512, 528), (1024, 1040), (500, 500)])
def test_rows_2_kb_apart_are_padded_with_zeros(columns, padded):
    for shape in [3, columns], [columns]:
        values = np.random.RandomState(0).normal(size=shape)
        with tf.Graph().as_default(), tf.Session() as session:
            result = session.run(lstm.padded(tf.constant(values, tf.float32)))
        np.testing.assert_array_equal(result[..., :columns], np.float32(values))
        assert result.shape[-1] == padded
        assert not result[..., columns:].any()


def test_weights_begin_as_the_seed_and_their_names_say_whatever_else_is_in_the_graph():
    def begin(name, seed, operations):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            for _ in range(operations):
                tf.random.uniform([])
            with tf.variable_scope('lstm_model', custom_getter=lstm.weights_by_name):
                variable = tf.get_variable(name, [3, 4])
            session.run(variable.initializer)
            return session.run(variable)

    np.testing.assert_array_equal(begin('W', 1, 0), begin('W', 1, 5))
    assert not np.array_equal(begin('W', 1, 0), begin('W', 2, 0))
    assert not np.array_equal(begin('W', 1, 0), begin('V', 1, 0))
    assert np.abs(begin('W', 1, 0)).max() < np.sqrt(6 / (3 + 4))  # Glorot and Bengio, 2010
