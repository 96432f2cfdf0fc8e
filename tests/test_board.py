"""What TensorBoard shows of a run, read as TensorBoard reads it."""

import math
import os

from backstage import tf, workers
from backstage.board import Board

import numpy as np
import pytest
from conftest import history, parse, run_script
from runs import ARGUMENTS, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytest_plugins = 'runs'


def shown(temp):
    """Return what TensorBoard has read of the run in a folder, as an EventAccumulator."""
    everything = {'scalars': 0, 'tensors': 0, 'graph': 1}
    return EventAccumulator(os.path.join(str(temp), 'board'), everything).Reload()


def scalars(board, tag):
    """Return a dict from iterations to values."""
    events = board.Scalars(tag)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events)  # each once
    return values


def texts(board, name):
    """Return a dict from iterations to texts."""
    return {
        event.step: tf.make_ndarray(event.tensor_proto).item().decode()
        for event in board.Tensors(f'{name}/text_summary')
    }


@pytest.fixture(scope='module')
def run(begun_once):
    """The folder of a run, and what TensorBoard has read of it."""
    return begun_once / 'temp', shown(begun_once / 'temp')


def test_the_losses_are_those_of_the_history_and_have_their_perplexities(run):
    temp, board = run
    past = history(temp)
    training, held_out = scalars(board, 'loss/training'), scalars(board, 'loss/held_out')
    assert list(training) == [10, 20, 30, 40, 50, 60]
    losses = [past['losses'][iteration - 1] for iteration in training]
    np.testing.assert_allclose([*training.values()], losses, rtol=1e-6)
    np.testing.assert_allclose(sorted(held_out.items()), past['held_out_losses'], rtol=1e-6)
    for tag, values in ('loss/training', training), ('loss/held_out', held_out):
        perplexities = scalars(board, f'{tag}_perplexity')
        expected = {iteration: math.exp(loss) for iteration, loss in values.items()}
        assert perplexities == pytest.approx(expected, rel=1e-5)


def test_the_gradient_the_rate_and_the_speed_are_there_with_each_training_loss(run):
    _, board = run
    for name in 'gradient_norm', 'learning_rate', 'characters_per_second':
        values = scalars(board, f'training/{name}')
        assert list(values) == [10, 20, 30, 40, 50, 60]
        assert min(values.values()) > 0
    rates = {iteration: 0.12 * iteration / 100 for iteration in range(10, 61, 10)}
    assert scalars(board, 'training/learning_rate') == pytest.approx(rates)


def test_the_samples_and_the_settings_are_there_as_they_are(run):
    _, board = run
    samples, settings = texts(board, 'samples'), texts(board, 'settings')
    assert (list(samples), list(settings)) == ([60], [0])
    assert [line[:17] for line in samples[60].split('\n')] == [
        '    thou art more', '    to be or not ', '    wherefore art'
    ]  # fmt: skip
    assert '    rnn_size = 16\n' in settings[0]
    assert "    text_file = 'short.txt'\n" in settings[0]


def test_the_weights_are_there_as_histograms_whenever_the_model_is_measured(run):
    temp, board = run
    reader = tf.train.load_checkpoint(str(temp / 'model-60'))
    kernels = [f'cell_{layer}/basic_lstm_cell/kernel' for layer in range(2)]
    for name in ('embedding_mat', 'W', 'b', *(f'rnn/multi_rnn_cell/{name}' for name in kernels)):
        events = board.Tensors(f'lstm_model/{name}/histogram_summary')
        assert [event.step for event in events] == [50, 60]
        buckets = tf.make_ndarray(events[1].tensor_proto)  # left, right, count
        weights = reader.get_tensor(f'lstm_model/{name}')
        np.testing.assert_allclose(buckets[0, 0], weights.min())
        np.testing.assert_allclose(buckets[-1, 1], weights.max())
        assert buckets[:, 2].sum() == weights.size


def test_the_graph_is_there(run):
    names = {node.name for node in run[1].Graph().node}
    assert {'lstm_model/x_data', 'lstm_model/W', 'carried_state'} <= names


def test_a_run_that_goes_on_shows_both_its_parts(begun):
    status, _, errors = run_here(*ARGUMENTS, '--max_iterations=70', cwd=begun)
    assert (status, errors) == (0, '')
    board = shown(begun / 'temp')
    assert list(scalars(board, 'loss/training')) == [10, 20, 30, 40, 50, 60, 70]
    assert list(texts(board, 'settings')) == [0, 60]


def test_what_led_to_a_loss_that_is_no_number_is_there(folder):
    wild = ('--learning_rate=1', '--weight_decay=10', '--warmup_iterations=0', '--log_every=1')
    status, _, errors = run_script(*ARGUMENTS, *wild, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    iteration = int(errors.split('at iteration ')[1].split(';')[0])
    assert list(scalars(shown(folder / 'temp'), 'loss/training')) == [*range(1, iteration)]


@pytest.fixture
def board_of(tmp_path):
    """Return a function that opens the Board of a run of so many iterations."""

    def open_board(done):
        graph = tf.Graph()
        with graph.as_default():
            tf.get_variable('weight', [2])
        return Board(parse(f'--temp_dir={tmp_path}'), graph, done, has_more=True)

    return open_board


def test_what_comes_again_after_a_kill_is_not_shown_twice(board_of, tmp_path):
    for done, loss in (0, 3.0), (5, 2.0):
        board = board_of(done)
        for iteration in range(done + 1, done + 10):
            board.add_step(iteration, loss, 1.0, 0.1)
        board.close()  # the next begins in the same second, and does not empty the file of this one
    expected = {**dict.fromkeys(range(1, 6), 3.0), **dict.fromkeys(range(6, 15), 2.0)}
    assert scalars(shown(tmp_path), 'loss/training') == expected


def test_a_loss_beyond_all_bounds_and_a_text_that_is_no_utf8_are_shown_too(board_of, tmp_path):
    board = board_of(0)
    board.add_step(1, 1e9, 1.0, 0.1)
    board.add_texts(1, 'samples', ['one\ntwo', '\udcff'])
    board.close()
    assert scalars(shown(tmp_path), 'loss/training') == {1: 1e9}
    assert texts(shown(tmp_path), 'samples') == {1: '    one\n    two\n    ?'}


def test_the_speed_is_that_since_the_step_before(board_of, tmp_path, monkeypatch):
    times = iter([100.0, 102.0, 102.5])
    monkeypatch.setattr('time.perf_counter', lambda: next(times))
    board = board_of(7)
    board.add_step(10, 1.0, 1.0, 0.1)
    board.add_step(12, 1.0, 1.0, 0.1)
    board.close()
    speeds = scalars(shown(tmp_path), 'training/characters_per_second')
    assert speeds == {10: 3 * 5000 / 2, 12: 2 * 5000 / 0.5}


def test_only_the_first_worker_writes(board_of, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, 'is_first', lambda: False)
    board = board_of(0)
    board.add_step(1, 1.0, 1.0, 0.1)
    board.add_texts(1, 'samples', ['so'])
    board.close()
    assert list(tmp_path.iterdir()) == []
