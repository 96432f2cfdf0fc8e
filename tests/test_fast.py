"""What makes training fast: it computes what TensorFlow's own would."""

from backstage import fast, kernels, machine, tf

import numpy as np
import pytest
from conftest import BATCH, TIME, UNITS, Stack, script


def as_matrices(gradients):
    """Return gradients of which that of the embedding is no list of rows any more."""
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


SIZES = 'single steps', 'longer single steps', 'blocks', 'longer blocks'


@pytest.fixture(params=SIZES)
def size(request, monkeypatch):
    """Let a model be built as one of the usual size is, or as a large one is."""
    monkeypatch.setattr(fast, 'ROWS', 5 * BATCH)
    monkeypatch.setattr(fast, 'LARGE', 1 if 'blocks' in request.param else 10_000)
    # Whether the lines of matrices are made longer
    monkeypatch.setattr(kernels, 'LINE', UNITS if 'longer' in request.param else 10_000)
    return request.param


def products(stack):
    """Return how many products of matrices the training model has in its cells, on the way up."""
    operations = stack.graph.get_operations()
    kinds = [op.type for op in operations if op.name.startswith('lstm_model/rnn/multi_rnn')]
    return {kind: kinds.count(kind) for kind in ('LSTMBlockCell', 'MatMul') if kind in kinds}


@pytest.mark.parametrize('time', [1, 4, 5, 12])
def test_the_fast_gradient_is_tensorflows_own_to_the_rounding_of_float32(time, size):
    stack = Stack(training_seq_len=time)
    with stack.graph.as_default(), tf.variable_scope('lstm_model', reuse=True):
        # The same stack as anybody would build it, with the gradients that TensorFlow makes.
        cells = [tf.contrib.rnn.BasicLSTMCell(UNITS) for _ in range(3)]
        upper = [tf.contrib.rnn.ResidualWrapper(cell) for cell in cells[1:]]
        outputs, _ = tf.nn.static_rnn(
            tf.contrib.rnn.MultiRNNCell([cells[0], *upper]),
            tf.unstack(tf.nn.embedding_lookup(stack.model.embedding_mat, stack.x), axis=1),
            script.unpack_state(tf.constant(stack.state, tf.float32)),
            scope='rnn',
        )
        logits = tf.tensordot(tf.stack(outputs, axis=1), stack.model.W, 1) + stack.model.b
        cost = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=stack.y, logits=logits)
        )
        own = as_matrices(tf.gradients(cost, stack.variables))
    gradients = zip(stack.variables, stack.run(stack.gradients), stack.session.run(own))
    for variable, mine, theirs in gradients:
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(mine, theirs, atol=1e-6 * scale, rtol=1e-5, err_msg=variable)


def learned(**settings):
    """Return all weights of a small model before and after five steps of training, and the losses.

    The steps are of seven characters: more than one group, and more than there are cores.
    """
    stack = Stack(training_seq_len=7, **settings)
    before = stack.values()
    losses, feed = [], {stack.model.learning_rate: 0.05}
    for _ in range(5):
        wanted = [stack.model.cost, stack.model.final_state, stack.model.train_op]
        loss, stack.state, _ = stack.run(wanted, feed=feed)
        losses.append(loss)
        stack.x, stack.y = stack.y, (stack.x + stack.y) % 7
    return before, stack.values(), losses


@pytest.mark.parametrize('size', SIZES[::3], indirect=True)
@pytest.mark.parametrize(
    'settings', [{}, {'num_layers': 1}, {'residual': False}, {'keep_prob': 0.6}], ids=str
)
def test_with_the_plain_functions_of_tensorflow_the_same_is_learned(settings, size, monkeypatch):
    monkeypatch.setattr(machine, 'available_cores', lambda: 2)
    before, weights, losses = learned(**settings)
    replaced = []

    def static_rnn(cell, inputs, state):
        replaced.append('static_rnn')
        return tf.nn.static_rnn(cell, inputs, state)

    def gradients(loss, variables):
        replaced.append('gradients')
        return tf.gradients(loss, variables)

    monkeypatch.setattr(fast, 'in_one_operation', lambda cells: replaced.append('cells'))
    monkeypatch.setattr(fast, 'static_rnn', static_rnn)
    monkeypatch.setattr(fast, 'gradients', gradients)
    _, plain_weights, plain_losses = learned(**settings)
    assert replaced == ['cells', 'static_rnn', 'gradients', 'cells']
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-5)
    assert set(weights) == set(plain_weights)
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, plain_weights[name], atol=1e-5, err_msg=name)
        assert np.median(np.abs(weight - before[name])) > 0.01  # so much was learned


def test_no_more_characters_are_on_their_way_through_the_layers_than_there_are_cores(monkeypatch):
    for cores in 1, 2, 3, TIME + 1:
        monkeypatch.setattr(machine, 'available_cores', lambda cores=cores: cores)
        graph, cell = Stack().graph, 'lstm_model/rnn/multi_rnn_cell'
        begun = [op for op in graph.get_operations() if op.name.startswith(f'{cell}/Ident')]
        waiting = [len(op.control_inputs) for op in begun]
        assert waiting == [0] * min(cores, TIME) + [1] * max(0, TIME - cores)


def test_a_large_model_multiplies_the_inputs_of_some_steps_at_once(size):
    """A product for each block and layer, and one for each step."""
    expected = {'MatMul': 3 * 3 + 3 * 12} if 'blocks' in size else {'LSTMBlockCell': 36}
    assert products(Stack(training_seq_len=12)) == expected


@pytest.mark.parametrize(
    'shape, longer', [([3, 512], [3, 528]), ([1024], [1040]), ([3, 500], None)]
)
def test_lines_2_kb_apart_are_made_longer_by_zeros(shape, longer):
    values = np.random.RandomState(0).normal(size=shape)
    with tf.Graph().as_default(), tf.Session() as session:
        result = session.run(kernels.lengthened(tf.constant(values)))
    np.testing.assert_array_equal(result[..., : shape[-1]], values)
    assert list(result.shape) == (longer or shape)
    assert not result[..., shape[-1] :].any()


@pytest.mark.parametrize('number', [1, 5, 12])
def test_grouped_steps_have_about_so_many_rows(number, monkeypatch):
    monkeypatch.setattr(fast, 'ROWS', 16)
    steps = np.random.RandomState(0).normal(size=(number, 3, 2))
    with tf.Graph().as_default(), tf.Session() as session:
        groups = session.run(fast.grouped([tf.constant(step) for step in steps]))
    assert [len(group) // 3 for group in groups] == {1: [1], 5: [5], 12: [5, 5, 2]}[number]
    np.testing.assert_array_equal(np.concatenate(groups), np.concatenate(steps))
