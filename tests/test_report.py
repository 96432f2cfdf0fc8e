"""What a run shows: lines, progress bars, and TensorBoard, read with TensorBoard's own reader."""

import argparse
import io
import math
import os
import resource
import shlex
import sys

from backstage import machine, report, tf, workers

import numpy as np
import pytest
from conftest import ROOT, SMALL, history, parse, run_script, script
from runs import ARGUMENTS, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytest_plugins = 'runs'
pytestmark = pytest.mark.xdist_group('runs')


@pytest.mark.parametrize(
    'ratio, keep_prob, better',
    [
        (3, 1, ''), (3.5, 1, 0.93), (3.5, 0.95, ''), (8.5, 0.93, 0.85), (8.5, 0.9, ''),
        (50.5, 0.85, 0.7), (120.5, 0.7, 0.5), (1e6, 0.5, ''),
    ],
)  # fmt: skip
def test_dropout_is_advised_if_a_run_may_overfit(ratio, keep_prob, better):
    settings = parse(*SMALL, '--num_layers=1', f'--keep_prob={keep_prob}')  # 2,600 parameters
    batch = settings.batch_size * settings.training_seq_len
    for each in 0.5, 2:
        settings.max_iterations = num_iterations = ratio * each * 2600 * each / batch
        plan = settings, 40, int(2600 * each), num_iterations, 0.02
        size, _, *advice = report.describe_plan(*plan)
        assert size == f'Model: 2,600 parameters, {each:.1f} characters per parameter'
        wanted = f'Advice: --keep_prob={better} may predict better'
        assert advice == ([wanted] if better else [])


@pytest.mark.parametrize(
    'characters, arguments, advice',
    [
        (4_500_000, [], ''),
        (1_800_000, [], ''),
        (1_700_000, [], '--batch_size=50'),
        (1_700_000, ['--max_iterations=300'], ''),
        (4_500_000, ['--epochs=2'], ''),
        (500_000, ['--epochs=2'], '--batch_size=25'),
        (1_000_000, [], '--batch_size=50 --keep_prob=0.93'),
        (1_000_000, ['--batch_size=50', '--keep_prob=0.93'], ''),
        (300_000, ['--keep_prob=0.7'], '--batch_size=25 --epochs=20'),
        (10_000, ['--keep_prob=0.5', '--batch_size=20'], '--epochs=40'),
        (10_000, ['--keep_prob=0.5', '--batch_size=20', '--epochs=21'], ''),
    ],
)
def test_a_short_text_gets_smaller_batches_and_then_more_epochs(characters, arguments, advice):
    settings = parse(*arguments)
    iterations = script.batches_per_epoch(characters, settings.batch_size, 50) * settings.epochs
    iterations = min(iterations, settings.max_iterations or iterations)
    _, run, *lines = report.describe_plan(settings, 40, characters, iterations, 0.03)
    assert run.startswith(f'Run: {iterations:,} iterations of {settings.batch_size} x 50 charac')
    assert lines == ([f'Advice: {advice} may predict better'] if advice else [])


@pytest.mark.parametrize('number', [1, 2, 3])
def test_who_follows_the_advice_gets_no_other_and_each_worker_as_many_streams(number, monkeypatch):
    monkeypatch.setattr(report.workers, 'count', lambda: number)
    random = np.random.RandomState(0)
    for _ in range(300):
        characters, epochs = int(10 ** random.uniform(4.6, 7)), random.randint(1, 60)
        batch_size, keep_prob = number * random.randint(1, 200), random.choice([1, 0.9, 0.7])
        arguments = [f'--batch_size={batch_size}', f'--epochs={epochs}', f'--keep_prob={keep_prob}']
        for turn in 'advised', 'followed':
            settings = parse(*arguments)
            shape = settings.batch_size, settings.training_seq_len
            iterations = script.batches_per_epoch(characters, *shape) * settings.epochs
            _, _, *advice = report.describe_plan(settings, 40, characters, iterations, 0.03)
            assert turn == 'advised' or not advice
            arguments += [word for line in advice for word in line.split() if word.startswith('--')]
            assert parse(*arguments).batch_size % number == 0


def end_of(capsys, **changes):
    """Return the lines that a run prints at its end."""
    run = {'losses': [1.0], 'last': 1, 'held_out_losses': [], 'best': None, 'plot': ''}
    run['settings'] = parse()
    report.print_end(argparse.Namespace(**{**run, **changes}))
    return capsys.readouterr().out.splitlines()


def test_losses_are_in_nats_bits_and_perplexity_and_the_best_is_the_saved_one(capsys):
    held_out = [(50, 1.0), (60, math.log(8))]
    _, final, best, *_ = end_of(capsys, held_out_losses=held_out, best=(40, 1.5))
    assert final == (
        'Final held-out loss: 2.0794 nats, 3.0000 bits per character, perplexity 8.000'
    )
    assert best.startswith('Best held-out loss, at iteration 40: 1.5000 nats')


def test_the_final_loss_is_the_mean_of_the_last_tenth_or_100_known_losses(capsys):
    for length, width in (1, 1), (30, 3), (995, 100), (9070, 100):
        final, *_ = end_of(capsys, losses=[9.0] * (length - width) + [2.0] * width)
        assert final.startswith(f'Final loss, mean of the last {width} iterations: 2.0000 nats')
    final, *_ = end_of(capsys, losses=[9.0] * 950 + [math.nan] * 98 + [1.0, 2.0])
    assert final.startswith('Final loss, mean of the last 2 iterations: 1.5000 nats')
    assert 'loss' not in ''.join(end_of(capsys, losses=[math.nan] * 5))


def test_printed_commands_work_in_any_folder_and_with_any_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *_, first, second = end_of(capsys, settings=parse("--temp_dir=temp/a b's"))
    words = shlex.split(first.split(': ', 1)[1])
    assert words == [sys.executable, f'{ROOT}/tools/sample.py', f"--temp_dir={tmp_path}/temp/a b's"]
    assert shlex.split(second.split(': ', 1)[1]) == [sys.executable, f'{ROOT}/tools']


# --- Progress bars -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_counts_characters_in_the_terminal_of_worker_0(monkeypatch):
    for errors, is_first in (Terminal(), True), (io.StringIO(), True), (Terminal(), False):
        monkeypatch.setattr(sys, 'stderr', errors)
        monkeypatch.setattr(workers, 'is_first', lambda is_first=is_first: is_first)
        bar = report.progress_bar(20, 80, parse('--batch_size=10', '--training_seq_len=5'))
        bar.update(1000)
        bar.close()
        is_shown = errors.isatty() and is_first
        assert ('2.00k/4.00k' in errors.getvalue()) == bool(errors.getvalue()) == is_shown


# --- TensorBoard ---------------------------------------------------------------------------------


def shown(temp):
    """Return what TensorBoard reads of the run in a folder: an EventAccumulator."""
    everything = {'scalars': 0, 'tensors': 0, 'graph': 1}
    return EventAccumulator(os.path.join(str(temp), 'board'), everything).Reload()


def scalars(board, tag):
    """Return a dict from iterations to values."""
    events = board.Scalars(tag)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events)  # no iteration comes twice
    return values


def texts(board, name):
    """Return a dict from iterations to texts."""
    return {
        event.step: tf.make_ndarray(event.tensor_proto).item().decode()
        for event in board.Tensors(f'{name}/text_summary')
    }


@pytest.fixture(scope='module')
def run(begun_once):
    """The folder of a run, and what TensorBoard reads of it."""
    return begun_once / 'temp', shown(begun_once / 'temp')


def test_tensorboard_shows_losses_learning_rate_speed_and_gradient_norm(run):
    temp, board = run
    past, iterations = history(temp), [10, 20, 30, 40, 50, 60]
    training, held_out = scalars(board, 'loss/training'), scalars(board, 'loss/held_out')
    losses = {iteration: past['losses'][iteration - 1] for iteration in iterations}
    assert training == pytest.approx(losses, rel=1e-6)
    assert held_out == pytest.approx(dict(past['held_out_losses']), rel=1e-6)
    expected = {iteration: math.exp(loss) for iteration, loss in held_out.items()}
    assert scalars(board, 'loss/held_out_perplexity') == pytest.approx(expected, rel=1e-5)
    for name in 'gradient_norm', 'learning_rate', 'characters_per_second':
        values = scalars(board, f'training/{name}')
        assert list(values) == iterations and min(values.values()) > 0
    rates = {iteration: 0.12 * iteration / 100 for iteration in iterations}
    assert scalars(board, 'training/learning_rate') == pytest.approx(rates)


def test_tensorboard_shows_the_graph_samples_and_settings(run):
    _, board = run
    assert {'lstm_model/x_data', 'lstm_model/W'} <= {node.name for node in board.Graph().node}
    samples, settings = texts(board, 'samples'), texts(board, 'settings')
    assert (list(samples), list(settings)) == ([60], [0])
    assert [line[:17] for line in samples[60].split('\n')] == [
        '    thou art more', '    to be or not ', '    wherefore art'
    ]  # fmt: skip
    assert "    text_file = 'short.txt'\n" in settings[0]


def test_tensorboard_shows_histograms_of_all_parameters(run):
    temp, board = run
    reader = tf.train.load_checkpoint(str(temp / 'model-60'))
    shapes, average = reader.get_variable_to_shape_map(), '/ExponentialMovingAverage'
    number = sum(np.prod(shape) for name, shape in shapes.items() if name.endswith(average))
    assert machine.count_parameters(parse(*ARGUMENTS), vocab_size=40) == number
    for name in 'embedding_mat', 'W', 'rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel':
        events = board.Tensors(f'lstm_model/{name}/histogram_summary')
        assert [event.step for event in events] == [50, 60]
        buckets = tf.make_ndarray(events[1].tensor_proto)  # left, right, count
        weights = reader.get_tensor(f'lstm_model/{name}')
        np.testing.assert_allclose(buckets[[0, -1], [0, 1]], [weights.min(), weights.max()])
        assert buckets[:, 2].sum() == weights.size


@pytest.mark.long
def test_a_resumed_run_shows_both_its_parts(begun):
    assert run_here(*ARGUMENTS, '--max_iterations=70', cwd=begun)[::2] == (0, '')
    board = shown(begun / 'temp')
    assert list(scalars(board, 'loss/training')) == [10, 20, 30, 40, 50, 60, 70]
    assert list(texts(board, 'settings')) == [0, 60]


@pytest.mark.long
def test_tensorboard_shows_the_losses_before_one_that_is_not_finite(folder):
    wild = ('--learning_rate=1', '--weight_decay=10', '--warmup_iterations=0', '--log_every=1')
    status, _, errors = run_script(*ARGUMENTS, *wild, cwd=folder)
    assert status == 2 and 'Start over with --restart' in errors
    iteration = int(errors.split('at iteration ')[1].split(',')[0])
    assert list(scalars(shown(folder / 'temp'), 'loss/training')) == [*range(1, iteration)]


@pytest.fixture
def board_of(tmp_path):
    """Return a function that opens the Board of a run after this many iterations."""

    def open_board(done):
        graph = tf.Graph()
        with graph.as_default():
            tf.get_variable('weight', [2])
        return report.Board(parse(f'--temp_dir={tmp_path}'), graph, done, has_more=True)

    return open_board


def test_iterations_repeated_after_a_kill_are_shown_once(board_of, tmp_path):
    for done, loss in (0, 3.0), (5, 2.0):
        board = board_of(done)
        for iteration in range(done + 1, done + 10):
            board.add_step(iteration, loss, 1.0, 0.1)
        board.close()  # the next begins in the same second, and must not empty this file
    expected = {**dict.fromkeys(range(1, 6), 3.0), **dict.fromkeys(range(6, 15), 2.0)}
    assert scalars(shown(tmp_path), 'loss/training') == expected


def test_a_huge_loss_and_invalid_utf8_are_shown_too(board_of, tmp_path, monkeypatch):
    for is_first in True, False:  # only the first worker writes
        monkeypatch.setattr(workers, 'is_first', lambda is_first=is_first: is_first)
        board = board_of(0)
        board.add_step(1, 1e9, 1.0, 0.1)
        board.add_texts(1, 'samples', ['one\ntwo', '\udcff'])
        board.close()
    assert scalars(shown(tmp_path), 'loss/training') == {1: 1e9}
    assert texts(shown(tmp_path), 'samples') == {1: '    one\n    two\n    ?'}


def test_if_nothing_can_be_written_one_line_says_so(board_of, tmp_path, capsys):
    told = 'No more of this run is written for TensorBoard: '
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for moment in 'the folder', 'a full disk':
        if moment == 'the folder':
            (tmp_path / 'board').symlink_to('nowhere')
            board = board_of(0)
            (tmp_path / 'board').unlink()
        else:
            board = board_of(0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            for iteration in 1, 2:
                board.add_texts(iteration, 'samples', ['x' * 100_000])
            board.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        output, errors = capsys.readouterr()
        assert (output.count('\n'), output.startswith(told), errors) == (1, True, '')


OBEYED = '\x00 \x07 \x1b[31m \r \x7f \x9b2J \x85 \u202e \u2066 \t\n é \u05d0\u200f 唐'


def test_control_characters_are_replaced_in_a_terminal_and_exact_in_a_pipe():
    shown = '␀ ␇ ␛[31m ␍ ␡ \ufffd2J \ufffd \ufffd \ufffd \t\n é \u05d0\u200f 唐'
    terminal, pipe = os.openpty(), os.pipe()
    for ends, expected in (terminal, shown), (pipe, OBEYED):
        with open(ends[0], 'rb'), open(ends[1], 'w') as file:
            assert report.shown(OBEYED, file) == expected
