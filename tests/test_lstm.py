"""backstage/lstm.py: the outputs, the state and the gradients of a stack of layers."""

from backstage import lstm, machine, tf

import numpy as np
import pytest
from conftest import (
    BATCH,
    TIME,
    UNITS,
    Stack,
    log_softmax,
    lstm_logits,
    read_lstm,
)

USUAL, LARGE, PADDED, LARGE_PADDED = (False, False), (True, False), (False, True), (True, True)
MODELS = [  # settings, and how layers are built
    ({}, [USUAL, PADDED]),
    ({'residual': False}, [LARGE_PADDED]),
    ({'keep_prob': 0.6}, [LARGE]),
    ({'training_seq_len': 1}, [USUAL]),
    ({'training_seq_len': 12, 'num_layers': 1}, [LARGE_PADDED]),
]


def build_as(monkeypatch, is_large, is_padded):
    """Build small models as if they were large, or as if their rows needed padding."""
    monkeypatch.setattr(lstm, 'BLOCKS', 3)
    monkeypatch.setattr(lstm, 'LARGE', 1 if is_large else 10_000)
    monkeypatch.setattr(lstm, 'COLUMNS', UNITS if is_padded else 10_000)


def masks_of(settings, layers):
    """Return the dropout masks of the first iteration: factors of each layer's output."""
    keep_prob = settings.get('keep_prob', 1)
    noise = tf.random.stateless_uniform([layers, BATCH, UNITS], [1, 0])
    with tf.Session() as session:
        return np.floor(session.run(noise).astype(np.float64) + keep_prob) / keep_prob


def slopes_of(loss, weights):
    """Return random directions for each array, and the slopes of a loss along them: pairs."""
    random, found = np.random.RandomState(0), []
    for number, weight in enumerate(weights):
        directions = random.normal(size=(4, *weight.shape))
        moved = [[*weights], [*weights]]
        slopes = []
        for direction in directions:
            for step, some in zip((1e-5, -1e-5), moved):
                some[number] = weight + step * direction
            slopes.append((loss(moved[0]) - loss(moved[1])) / 2e-5)
        found.append((directions, slopes))
    return found


@pytest.mark.parametrize('settings, ways', MODELS, ids=str)
def test_outputs_state_and_gradients_match_numpy(settings, ways, monkeypatch):
    residual, slopes = settings.get('residual', True), None
    for way in ways:
        build_as(monkeypatch, *way)
        stack = Stack(**settings)
        values = {name: np.float64(value) for name, value in stack.values().items()}
        model = read_lstm(values, residual)
        masks = masks_of(settings, len(model.kernels))

        def loss(weights, stack=stack, values=values, masks=masks):
            moved = read_lstm(dict(zip(values, weights)), residual)
            logits, _ = lstm_logits(moved, stack.x, stack.state, masks)
            return -np.take_along_axis(log_softmax(logits), stack.y[..., None], axis=2).mean()

        logits, state = lstm_logits(model, stack.x, stack.state, masks)
        np.testing.assert_allclose(stack.logits(), logits, atol=1e-4)
        np.testing.assert_allclose(stack.run(stack.model.final_state), state, atol=1e-4)
        slopes = slopes or slopes_of(loss, list(values.values()))
        for gradient, (directions, expected) in zip(stack.run(stack.gradients), slopes):
            found = [(gradient * direction).sum() for direction in directions]
            atol = 2e-5 * np.sqrt(np.square(gradient).sum())
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.fixture(params=[USUAL, LARGE_PADDED], ids=['usual', 'large'])
def size(request, monkeypatch):
    build_as(monkeypatch, *request.param)


def assert_close(found, expected, tolerance=2e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def test_gradients_are_reproducible_and_two_losses_add_up(size):
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
    second[1:1] = [0, 0]  # the state does not depend on W and b
    assert_close(both, [one + other for one, other in zip(once, second)], 1e-4)


@pytest.mark.parametrize(
    'optimizer',
    [
        lambda: tf.train.GradientDescentOptimizer(0.1),
        lambda: tf.train.RMSPropOptimizer(0.01),
    ],
    ids=['descent', 'rmsprop'],
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


def test_a_kernel_that_all_layers_share_gets_the_sum_of_their_gradients(size):
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


def test_at_most_one_block_per_core_is_in_flight(monkeypatch):
    for cores in 1, 2, 3, TIME + 1:
        monkeypatch.setattr(machine, 'available_cores', lambda cores=cores: cores)
        with tf.Graph().as_default() as graph:
            weights = tf.zeros([2 * UNITS, 4 * UNITS]), tf.zeros([4 * UNITS])
            stack = lstm.Stack([weights] * 2, residual=True)
            stack.unroll(tf.zeros([TIME, BATCH, UNITS]), stack.zero_state(BATCH, tf.float32))
        begun = [op for op in graph.get_operations() if op.name.startswith('begin')]
        waiting = [len(op.control_inputs) for op in begun]
        assert waiting == [0] * min(cores, TIME) + [1] * max(0, TIME - cores)


@pytest.mark.parametrize('columns, padded', [(512, 528), (1024, 1040), (500, 500)])
def test_rows_2_kb_apart_are_padded_with_zeros(columns, padded):
    for shape in [3, columns], [columns]:
        values = np.random.RandomState(0).normal(size=shape)
        with tf.Graph().as_default(), tf.Session() as session:
            result = session.run(lstm.padded(tf.constant(values, tf.float32)))
        np.testing.assert_array_equal(result[..., :columns], np.float32(values))
        assert result.shape[-1] == padded
        assert not result[..., columns:].any()


def test_initial_weights_depend_only_on_the_seed_and_their_name():
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


def test_each_sample_of_each_prime_has_its_own_noise():
    primes = np.arange(300).reshape(-1, 1) % 150  # each one twice
    with tf.Graph().as_default(), tf.Session() as session:
        noise = session.run(lstm.noise(tf.constant(primes, tf.int32), 4, tf.constant([1, 2])))
    assert len(np.unique(noise, axis=0)) == 300
    assert (noise >= 0).all() and (noise < 1).all()
