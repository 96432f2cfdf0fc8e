"""The model: the LSTM stack against an independent one in NumPy, the training step, samples."""

from backstage import tf

import numpy as np
import pytest
from conftest import (
    BATCH,
    TIME,
    UNITS,
    VOCAB,
    Stack,
    log_softmax,
    lstm_logits,
    lstm_losses,
    read_lstm,
)


@pytest.fixture(scope='module')
def built():
    return Stack()


@pytest.fixture
def stack(built):
    """A Stack, reset after other tests."""
    built.reset()
    return built


@pytest.mark.parametrize('num_layers, residual', [(1, True), (2, False), (3, True)])
def test_logits_state_and_loss_match_an_independent_implementation(num_layers, residual):
    stack = Stack(num_layers, residual=residual)
    stack.x[:, -1] = 0  # 'unknown' can be read and measured
    lstm = read_lstm(stack.values(), residual)
    expected_logits, expected_state = lstm_logits(lstm, stack.x, stack.state)
    expected_losses, _ = lstm_losses(lstm, stack.x, stack.y, stack.state)
    for logits, model in (
        (stack.logits(), stack.model),
        (stack.run(stack.reader.logits, stack.reader), stack.reader),
    ):
        np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
        state = stack.run(model.final_state, model)
        np.testing.assert_allclose(state, expected_state, atol=1e-5)
    losses = stack.run(stack.reader.losses, stack.reader)
    np.testing.assert_allclose(losses, expected_losses, atol=1e-5)
    np.testing.assert_allclose(stack.run(stack.model.cost), expected_losses.mean(), atol=1e-5)


def test_each_layer_has_its_own_kernel_and_every_kernel_gets_gradients(stack):
    assert isinstance(stack.model.lstm_cell, tf.contrib.rnn.MultiRNNCell)
    names = [f'lstm_model/rnn/multi_rnn_cell/cell_{k}/basic_lstm_cell/kernel' for k in range(3)]
    for model in stack.model, stack.reader:
        assert [kernel.op.name for kernel, _ in model.stack.weights] == names
    kernels = [kernel for kernel, _ in stack.model.stack.weights]
    stack.session.run(stack.initialize)
    values = stack.session.run(kernels)
    assert not np.allclose(values[1], values[2])
    for gradient in stack.run([stack.gradients[stack.variables.index(v)] for v in kernels]):
        assert np.abs(gradient).max(axis=1).all()


# --- The training step ---------------------------------------------------------------------------


def test_gradients_are_clipped_by_their_global_norm():
    stack = Stack(max_gradient_norm=0.01)
    gradients = stack.run(stack.gradients)
    squares = [np.sum(np.square(gradient, dtype=np.float64)) for gradient in gradients]
    with stack.graph.as_default():
        moments = [v for v in tf.global_variables() if v.op.name == 'lstm_model/lstm_model/W/Adam']
    feed = {stack.model.learning_rate: 0.1}
    norm, _ = stack.run([stack.model.gradient_norm, stack.model.train_op], feed=feed)
    assert norm > 0.01
    np.testing.assert_allclose(norm, np.sqrt(sum(squares)), rtol=1e-5)
    # After the first step Adam's first moment is a tenth of the clipped gradient.
    gradient = gradients[[v.op.name for v in stack.variables].index('lstm_model/W')]
    np.testing.assert_allclose(stack.run(moments[0]), 0.1 * gradient * 0.01 / norm, rtol=1e-4)


def test_a_training_step_is_adam_at_the_fed_rate_with_decay_of_all_weights():
    stack = Stack(weight_decay=0.5, max_gradient_norm=1e9)
    stack.x[:] = np.maximum(stack.x, 2)  # ids 0 and 1 get no gradient, but decay too
    expected = {name: value.astype(np.float64) for name, value in stack.values().items()}
    mean, mean_square = dict.fromkeys(expected, 0), dict.fromkeys(expected, 0)
    for step in range(1, 6):
        # Adam (Kingma and Ba, 2015), and a decay of the rate times 0.5 times the weight
        # (Loshchilov and Hutter, 2019)
        for name, gradient in zip(expected, map(np.float64, stack.run(stack.gradients))):
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            mean_square[name] = 0.999 * mean_square[name] + 0.001 * gradient**2
            unbiased = mean[name] / (1 - 0.9**step)
            unbiased_square = mean_square[name] / (1 - 0.999**step)
            expected[name] *= 1 - 0.25 * 0.5
            expected[name] -= 0.25 * unbiased / (np.sqrt(unbiased_square) + 1e-8)
        stack.run(stack.model.train_op, feed={stack.model.learning_rate: 0.25})
        for name, value in stack.values().items():
            # If a gradient is nearly 0, rounding decides how far Adam goes.
            atol = 0.02 if 'rnn' in name else 1e-3
            np.testing.assert_allclose(value, expected[name], atol=atol, err_msg=name)


def dropped_masks(iteration, keep_prob, seed):
    noise = tf.random.stateless_uniform([3, BATCH, UNITS], [seed, iteration])
    with tf.Session() as session:
        return (session.run(noise) < 1 - keep_prob).astype(float)


def test_dropout_masks_last_an_iteration_and_are_off_when_measuring():
    stack = Stack(keep_prob=0.6, seed=9)
    lstm = read_lstm(stack.values())
    for iteration in (0, 1):
        masks = (1 - dropped_masks(iteration, 0.6, seed=9)) / 0.6
        logits, _ = lstm_logits(lstm, stack.x, stack.state, masks)
        np.testing.assert_allclose(stack.logits(), logits, atol=1e-4)
        assert 0.2 < (masks == 0).mean() < 0.6
        stack.model.iteration.load(1, stack.session)
    whole, _ = lstm_logits(lstm, stack.x, stack.state)
    np.testing.assert_allclose(stack.run(stack.reader.logits, stack.reader), whole, atol=1e-4)


# --- Samples -------------------------------------------------------------------------------------


def sample(stack, prime, num, temperature, seed=1, state=None):
    random = [np.random.RandomState([seed, stream]) for stream in range(len(prime))]
    return stack.reader.sample(stack.session, prime, num, temperature, random, state)


def known(logits):
    """Return logits, floats [..., vocabulary], with -inf for 'unknown'."""
    return np.append(np.full_like(logits[..., :1], -np.inf), logits[..., 1:], axis=-1)


def next_logits(stack):
    """Return the logits after the first text, floats [vocabulary], with -inf for 'unknown'."""
    state = np.zeros_like(stack.state)[:, :, :1]
    return known(lstm_logits(read_lstm(stack.values()), stack.x[:1], state)[0])[0, -1]


@pytest.mark.parametrize('top_k', [0, 2, VOCAB])
def test_only_learned_characters_are_drawn_and_top_k_keeps_the_likeliest(top_k):
    stack = Stack(top_k=top_k, unseen=[2, 4])
    stack.model.b.load(np.array([50, 0, 50, 0, 50] + [0] * (VOCAB - 5)), stack.session)
    learned = [1, 3, *range(5, VOCAB)]
    likeliest = sorted(learned, key=next_logits(stack).__getitem__)[::-1]
    prime = np.tile(stack.x[:1], (500, 1))
    for temperature in 0, 5, 1e9:
        sampled, _ = sample(stack, prime, 20, temperature)
        assert set(sampled.flat) <= set(learned)
        # Characters that are never drawn do not count towards top_k.
        allowed = min(top_k or VOCAB, VOCAB - 3) if temperature else 1
        assert set(sampled[:, 0]) == set(likeliest[:allowed])


def test_a_low_temperature_draws_the_likeliest_character(stack):
    lstm = read_lstm(stack.values())
    text = stack.x.copy()
    for _ in range(20):
        logits, _ = lstm_logits(lstm, text, np.zeros_like(stack.state))
        text = np.concatenate([text, known(logits[:, -1:]).argmax(axis=-1)], axis=1)
    sampled, state = sample(stack, stack.x, 20, 1e-3)
    np.testing.assert_array_equal(sampled, text[:, TIME:])
    # The model has not read the last character drawn, so a text can continue from this state.
    _, expected = lstm_logits(lstm, text[:, :-1], np.zeros_like(stack.state))
    np.testing.assert_allclose(state, expected, atol=1e-4)


def test_draws_follow_the_probabilities_of_the_softmax(stack):
    draws, random = 20_000, np.random.RandomState(1)
    prime = np.tile(stack.x[:1], (draws, 1))
    for temperature in 0.5, 1.0, 2.0:
        sampled, _ = stack.reader.sample(stack.session, prime, 1, temperature, [random] * draws)
        expected = np.exp(log_softmax(next_logits(stack) / temperature))
        frequencies = np.bincount(sampled[:, 0], minlength=VOCAB) / draws
        deviation = np.sqrt(expected * (1 - expected) / draws)
        assert (np.abs(frequencies - expected) < 5 * deviation + 1e-4).all()


def test_the_largest_random_number_draws_the_last_possible_character(stack):
    last = VOCAB - 3
    stack.model.W.load(np.zeros((UNITS, VOCAB)), stack.session)
    stack.model.b.load(np.array([0.0] * (last + 1) + [-1e9] * (VOCAB - last - 1)), stack.session)
    for noise, expected in (0, 1), (1 - 2**-23, last):
        feed = {stack.reader.prime: stack.x, stack.reader.temperature: 1.0}
        feed[stack.reader.noise] = np.full([BATCH, 5], noise)
        drawn = stack.session.run(stack.reader.sampled, feed)
        np.testing.assert_array_equal(drawn, np.full([BATCH, 5], expected))


def test_a_sample_is_the_same_alone_in_pieces_and_beside_others(stack):
    prime = np.tile(stack.x, (7, 1))
    whole, _ = sample(stack, prime, 50, 1.0)
    np.testing.assert_array_equal(sample(stack, prime, 50, 1.0)[0], whole)
    assert (sample(stack, prime, 50, 1.0, seed=2)[0] != whole).mean() > 0.3
    assert (whole[0, 1:] != whole[0, :-1]).mean() > 0.3  # each position has its own draw
    for stream in 0, 1, 17:
        random, pieces = [np.random.RandomState([1, stream])], [prime[stream : stream + 1]]
        state = None
        for num in 10, 1, 39:
            drawn, state = stack.reader.sample(
                stack.session,
                pieces[-1][:, -TIME if state is None else -1 :],
                num,
                1.0,
                random,
                state,
            )
            pieces.append(drawn)
        np.testing.assert_array_equal(np.concatenate(pieces[1:], axis=1)[0], whole[stream])
