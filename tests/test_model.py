"""Model: the stack of LSTMs against an independent one in NumPy."""

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
    script,
)


@pytest.fixture
def stack():
    with tf.Session().as_default():
        yield Stack()


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('num_layers', [1, 2, 3, 5])
def test_outputs_state_and_loss_are_those_of_an_independent_implementation(num_layers, residual):
    stack = Stack(num_layers, residual=residual)
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


def test_there_are_three_different_kernels_and_all_receive_gradients(stack):
    kernels = [v for v in stack.variables if v.op.name.endswith('kernel')]
    assert [v.shape.as_list() for v in kernels] == [
        [2 + UNITS, 4 * UNITS], [2 * UNITS, 4 * UNITS], [2 * UNITS, 4 * UNITS]
    ]  # fmt: skip
    stack.session.run(stack.initialize)
    values = stack.session.run(kernels)
    assert not np.allclose(values[1], values[2])
    gradients = stack.run([stack.gradients[stack.variables.index(v)] for v in kernels])
    for gradient in gradients:
        assert np.abs(gradient).max(axis=1).all()


def test_the_weights_are_those_of_distinct_basic_lstm_cells_in_a_multi_rnn_cell(stack):
    assert isinstance(stack.model.lstm_cell, tf.contrib.rnn.MultiRNNCell)
    names = [f'lstm_model/rnn/multi_rnn_cell/cell_{k}/basic_lstm_cell/' for k in range(3)]
    weights = [(name + 'kernel', name + 'bias') for name in names]
    for model in stack.model, stack.reader:
        assert [tuple(v.op.name for v in pair) for pair in model.stack.weights] == weights


def test_two_windows_with_the_state_carried_over_are_one_long_window(stack):
    first = stack.run(stack.model.final_state)
    lstm = read_lstm(stack.values())
    both = np.concatenate([stack.x, stack.y], axis=1)
    expected, expected_state = lstm_logits(lstm, both, stack.state)
    stack.state, stack.x = first, stack.y
    np.testing.assert_allclose(stack.logits(), expected[:, TIME:], atol=1e-5)
    state = stack.run(stack.model.final_state)
    np.testing.assert_allclose(state, expected_state, atol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    stack = Stack(max_gradient_norm=0.01)
    gradients = stack.run(stack.gradients)
    squares = [np.sum(np.square(getattr(g, 'values', g), dtype=np.float64)) for g in gradients]
    with stack.graph.as_default():
        moments = [v for v in tf.global_variables() if v.op.name == 'lstm_model/lstm_model/W/Adam']
    feed = {stack.model.learning_rate: 0.1}
    norm, _ = stack.run([stack.model.gradient_norm, stack.model.train_op], feed=feed)
    assert norm > 0.01
    np.testing.assert_allclose(norm, np.sqrt(sum(squares)), rtol=1e-5)
    # After its first step Adam's first moment is a tenth of the gradient that it was given.
    gradient = gradients[[v.op.name for v in stack.variables].index('lstm_model/W')]
    np.testing.assert_allclose(stack.run(moments[0]), 0.1 * gradient * 0.01 / norm, rtol=1e-4)


@pytest.mark.parametrize('name', ['lstm_model/W', 'lstm_model/embedding_mat'])
def test_steps_are_those_of_adam_with_the_rate_that_is_fed_and_decay_all_weights(name):
    stack = Stack(weight_decay=0.5, max_gradient_norm=1e9)
    place = [v.op.name for v in stack.variables].index(name)
    expected = stack.values()[name].astype(np.float64)
    mean, mean_square = 0, 0
    for step in range(1, 6):
        # Kingma and Ba, 2015, and the decay: the rate times 0.5 times the weight (Loshchilov and
        # Hutter, 2019)
        gradient = stack.run(stack.gradients[place]).astype(np.float64)
        mean = 0.9 * mean + 0.1 * gradient
        mean_square = 0.999 * mean_square + 0.001 * gradient**2
        unbiased, unbiased_square = mean / (1 - 0.9**step), mean_square / (1 - 0.999**step)
        expected *= 1 - 0.25 * 0.5
        expected -= 0.25 * unbiased / (np.sqrt(unbiased_square) + 1e-8)
        stack.run(stack.model.train_op, feed={stack.model.learning_rate: 0.25})
        np.testing.assert_allclose(stack.values()[name], expected, atol=1e-3)


def test_the_embedding_of_a_character_that_is_not_in_the_batch_decays_too():
    stack = Stack(weight_decay=0.5)
    before = stack.values()['lstm_model/embedding_mat']
    feed = {stack.model.x_data: np.ones_like(stack.x), stack.model.y_output: stack.y,
            stack.model.initial_state: stack.state, stack.model.learning_rate: 0.25}  # fmt: skip
    stack.session.run(stack.model.train_op, feed)
    after = stack.values()['lstm_model/embedding_mat']
    np.testing.assert_allclose(after[2:], before[2:] * (1 - 0.25 * 0.5), rtol=1e-6)


def test_the_sampler_has_the_variables_of_the_model(stack):
    assert len(stack.variables) == 3 + 2 * 3
    assert stack.reader.W is stack.model.W
    assert stack.reader.embedding_mat is stack.model.embedding_mat


def sample(stack, prime, num, temperature, seed=1, state=None):
    random = [np.random.RandomState([seed, stream]) for stream in range(len(prime))]
    return stack.reader.sample(stack.session, prime, num, temperature, random, state)


def known(logits):
    """Return logits, floats [..., vocabulary], at which 'unknown' has no chance."""
    return np.append(np.full_like(logits[..., :1], -np.inf), logits[..., 1:], axis=-1)


@pytest.mark.parametrize('top_k', [0, 1, 3, VOCAB])
@pytest.mark.parametrize('temperature', [0, 5, 1e9])
def test_what_is_unknown_is_never_drawn_however_likely_it_is(top_k, temperature):
    stack = Stack(top_k=top_k)
    stack.model.b.load(np.array([50] + [0] * (VOCAB - 1)), stack.session)
    sampled, _ = sample(stack, np.tile(stack.x[:1], (500, 1)), 20, temperature)
    assert sampled.min() > 0
    # It does not take up the place of one of the likeliest.
    allowed = min(top_k or VOCAB, VOCAB - 1) if temperature else 1
    assert len(set(sampled[:, 0])) == allowed


@pytest.mark.parametrize('temperature', [0, 5])
def test_what_was_not_learned_is_never_drawn_however_likely_it_is(temperature):
    stack = Stack(unseen=[2, 4])
    stack.model.b.load(np.array([50, 0, 50, 0, 50] + [0] * (VOCAB - 5)), stack.session)
    sampled, _ = sample(stack, np.tile(stack.x[:1], (500, 1)), 20, temperature)
    expected = set(range(1, VOCAB)) - {2, 4}
    assert set(sampled.flat) == expected if temperature else set(sampled.flat) < expected


def test_what_is_unknown_can_be_read_and_is_measured_all_the_same(stack):
    stack.x[:, -1] = 0
    logits, _ = lstm_logits(read_lstm(stack.values()), stack.x, stack.state)
    np.testing.assert_allclose(stack.run(stack.reader.logits, stack.reader), logits, atol=1e-4)


def test_at_a_low_temperature_the_likeliest_character_follows(stack):
    lstm = read_lstm(stack.values())
    text = stack.x.copy()
    for _ in range(20):
        logits, _ = lstm_logits(lstm, text, np.zeros_like(stack.state))
        text = np.concatenate([text, known(logits[:, -1:]).argmax(axis=-1)], axis=1)
    sampled, state = sample(stack, stack.x, 20, 1e-3)
    np.testing.assert_array_equal(sampled, text[:, TIME:])
    # The last character drawn has not been read yet, so a text can go on from this state.
    _, expected = lstm_logits(lstm, text[:, :-1], np.zeros_like(stack.state))
    np.testing.assert_allclose(state, expected, atol=1e-4)


def test_only_the_likeliest_characters_are_drawn_if_so_many_are_asked_for():
    stack = Stack(top_k=3)
    sampled, _ = sample(stack, np.tile(stack.x[:1], (2000, 1)), 1, 5.0)
    logits, _ = lstm_logits(
        read_lstm(stack.values()), stack.x[:1], np.zeros_like(stack.state)[:, :, :1]
    )
    assert set(sampled[:, 0]) == set(np.argsort(known(logits)[0, -1])[-3:])


def dropped_masks(iteration, keep_prob, seed):
    noise = tf.random.stateless_uniform([3, BATCH, UNITS], [seed, iteration])
    with tf.Session() as session:
        return (session.run(noise) < 1 - keep_prob).astype(float)


def test_dropout_leaves_out_the_same_units_at_all_time_steps_and_others_at_each_iteration():
    stack = Stack(keep_prob=0.6, seed=9)
    lstm = read_lstm(stack.values())
    for iteration in (0, 1):
        masks = (1 - dropped_masks(iteration, 0.6, seed=9)) / 0.6
        logits, _ = lstm_logits(lstm, stack.x, stack.state, masks)
        np.testing.assert_allclose(stack.logits(), logits, atol=1e-4)
        assert 0.2 < (masks == 0).mean() < 0.6
        stack.model.iteration.load(1, stack.session)


def test_nothing_is_left_out_when_measuring(stack):
    careless = Stack(keep_prob=0.6)
    for one in (stack, careless):
        logits, _ = lstm_logits(read_lstm(one.values()), one.x, one.state)
        np.testing.assert_allclose(one.run(one.reader.logits, one.reader), logits, atol=1e-4)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_characters_are_drawn_with_the_probabilities_of_the_softmax(stack, temperature):
    draws = 20_000
    sampled, _ = sample(stack, np.tile(stack.x[:1], (draws, 1)), 1, temperature)
    logits, _ = lstm_logits(
        read_lstm(stack.values()), stack.x[:1], np.zeros_like(stack.state)[:, :, :1]
    )
    expected = np.exp(log_softmax(known(logits)[0, -1] / temperature))
    frequencies = np.bincount(sampled[:, 0], minlength=VOCAB) / draws
    deviation = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(frequencies - expected) < 5 * deviation + 1e-4).all()


def test_the_largest_random_number_draws_the_last_character_that_has_a_chance(stack):
    last = VOCAB - 3
    stack.model.W.load(np.zeros((UNITS, VOCAB)), stack.session)
    stack.model.b.load(np.array([0.0] * (last + 1) + [-1e9] * (VOCAB - last - 1)), stack.session)
    for noise, expected in (0, 1), (1 - 2**-23, last):
        feed = {stack.reader.prime: stack.x, stack.reader.temperature: 1.0}
        feed[stack.reader.noise] = np.full([BATCH, 5], noise)
        drawn = stack.session.run(stack.reader.sampled, feed)
        np.testing.assert_array_equal(drawn, np.full([BATCH, 5], expected))


def test_the_same_seed_draws_the_same_text_and_another_one_another(stack):
    first, _ = sample(stack, stack.x, 50, 1.0, seed=1)
    again, _ = sample(stack, stack.x, 50, 1.0, seed=1)
    other, _ = sample(stack, stack.x, 50, 1.0, seed=2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.3


def test_a_text_is_drawn_alone_as_it_is_beside_others(stack):
    prime = np.tile(stack.x, (20, 1))
    together, _ = sample(stack, prime, 50, 1.0)
    random = [np.random.RandomState([1, stream]) for stream in range(len(prime))]
    for stream in 0, 1, 17:
        alone, _ = stack.reader.sample(
            stack.session, prime[stream : stream + 1], 50, 1.0, random[stream : stream + 1]
        )
        np.testing.assert_array_equal(alone[0], together[stream])


def test_random_numbers_follow_from_the_seeds_the_prime_and_the_number_of_the_sample():
    def numbers(prime, number, *seeds):
        random = script.random_of(np.array([prime], np.int32), number, *seeds)
        return tuple(random.randint(2**23, size=5))

    places = [([1, 2], 0, 1), ([2, 1], 0, 1), ([1], 0, 1), ([1, 2], 1, 1), ([1, 2], 0, 2)]
    places += [([1, 2], 0, 1, 500), ([1, 2], 0, 500, 1)]
    drawn = [numbers(*place) for place in places]
    assert drawn == [numbers(*place) for place in places]
    assert len(set(drawn)) == len(places)


def test_the_draw_of_each_position_is_one_of_its_own(stack):
    stack.model.W.load(np.zeros((UNITS, VOCAB)), stack.session)
    stack.model.b.load(np.zeros(VOCAB), stack.session)
    sampled, _ = sample(stack, stack.x[:1], 2000, 1.0)
    repeats = (sampled[0, 1:] == sampled[0, :-1]).mean()
    assert abs(repeats - 1 / (VOCAB - 1)) < 0.05


def test_a_text_drawn_in_pieces_is_the_text_drawn_at_once(stack):
    whole, _ = sample(stack, stack.x, 30, 1.0)
    random = [np.random.RandomState([1, stream]) for stream in range(BATCH)]
    pieces, prime, state = [], stack.x, None
    for num in 10, 1, 19:
        drawn, state = stack.reader.sample(stack.session, prime, num, 1.0, random, state)
        pieces.append(drawn)
        prime = drawn[:, -1:]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
