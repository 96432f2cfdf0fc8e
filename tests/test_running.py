"""Running a program: how it is stopped, and the one line that it says when something is wrong."""

import io
import os
import resource
import signal
import sys
import time

from backstage import running, tf, workers
from backstage.settings import UserError

import pytest
from conftest import parse, script, start_script
from runs import ARGUMENTS, finish, run_here, wait_for

pytest_plugins = 'runs'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on_to_the_same_end(folder, undisturbed, number):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(number)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (128 + number, '')
    stopped = int(output.split('Stopped after iteration ')[1].split('.')[0])
    assert stopped >= 83
    assert (folder / 'temp' / 'loss.png').exists()
    assert f'Continuing after iteration {stopped}, from' in finish(folder, undisturbed)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_in_the_middle_of_an_iteration(folder, number):
    """An iteration takes more than a second here, and both signals come in its first half."""
    arguments = ('--num_layers=1', '--rnn_size=1500', '--training_seq_len=30', '--log_every=1')
    process = start_script('--text_file=short.txt', *arguments, cwd=folder)
    wait_for(process, 'Iteration: 1,')
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + number, '')
    assert errors == 'stacked_lstm_shakespeare.py: stopped at once.\n'


def test_ctrl_c_before_the_first_iteration_is_no_traceback(folder):
    process = start_script(*ARGUMENTS, cwd=folder)
    wait_for(process, 'Run: ')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors in ('', 'stacked_lstm_shakespeare.py: stopped.\n')


def test_ctrl_c_while_the_graph_is_built_stops_the_run_after_its_first_iteration(
    folder, monkeypatch
):
    build_models = script.build_models

    def build_late(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return build_models(*arguments)

    monkeypatch.setattr(script, 'build_models', build_late)
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors) == (130, '')
    assert 'Stopped after iteration 1.' in output
    assert tf.train.latest_checkpoint(str(folder / 'temp')).endswith('model-1')


@pytest.mark.parametrize('number', running.Stop.SIGNALS)
def test_a_signal_is_noted_while_a_stop_listens_and_does_what_it_did_before_and_afterwards(number):
    before = [signal.getsignal(number) for number in running.Stop.SIGNALS]
    with running.Stop() as stop:
        assert [signal.getsignal(number) for number in running.Stop.SIGNALS] == before
        stop.listen()
        assert not stop.signal
        os.kill(os.getpid(), number)
        began = time.monotonic()
        while not stop.signal:
            assert time.monotonic() - began < 10
        assert (stop.signal, stop.status) == (number, 128 + number)
    assert [signal.getsignal(number) for number in running.Stop.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def test_ctrl_c_before_a_stop_listens_is_not_held_back():
    with pytest.raises(KeyboardInterrupt), running.Stop():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def test_a_program_that_another_worker_stopped_ends_as_at_a_sigterm():
    assert running.Stop().status == 143


def test_a_worker_that_is_not_the_first_ends_well_since_the_first_still_saves(monkeypatch):
    monkeypatch.setattr(running.workers, 'is_first', lambda: False)
    assert running.Stop().status == 0


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(folder):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 1,')
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    'error, status, words',
    [
        (UserError('it is\nwrong'), 2, 'it is wrong.'),
        (FileNotFoundError(2, 'No such file', 'my.txt'), 2, "[Errno 2] No such file: 'my.txt'."),
        (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'why'), 2, "'utf-8' codec can't decode byte"),
        (MemoryError(), 2, 'memory is full; lower rnn_size'),
        (tf.errors.ResourceExhaustedError(None, None, 'OOM'), 2, 'memory is full; lower rnn_size'),
        (
            tf.errors.InternalError(None, None, 'no cuDNN\nin node X'),
            *(2, 'TensorFlow failed: no cuDNN.'),
        ),
        (
            tf.errors.InvalidArgumentError(None, None, 'node X\nOriginal error: no size\n at Y'),
            *(2, 'TensorFlow failed: no size.'),
        ),
        (KeyboardInterrupt(), 130, 'stopped.'),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(error, status, words, monkeypatch, capsys):
    def main(arguments):
        assert arguments == ['--seed=1']
        raise error

    monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
    assert running.run(main, ['--seed=1']) == status
    output, errors = capsys.readouterr()
    assert (output, errors.count('\n')) == ('', 1)
    assert errors.startswith(f'test_running.py: {words}')


def write_with_tensorflow(path):
    with tf.io.gfile.GFile(path, 'w') as file:
        file.write('so')


def test_a_disk_that_is_full_is_not_taken_for_a_memory_that_is(capsys):
    assert running.run(write_with_tensorflow, '/dev/full') == 2
    errors = capsys.readouterr().err
    assert errors == ('test_running.py: TensorFlow failed: /dev/full; No space left on device.\n')


def test_too_many_open_files_are_not_taken_for_a_memory_that_is_full(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        status = running.run(write_with_tensorflow, f'{tmp_path}/file')
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert status == 2
    assert capsys.readouterr().err.endswith('/file; Too many open files.\n')


def test_a_mistake_in_the_program_itself_is_not_hidden(monkeypatch):
    def main(_):
        raise ZeroDivisionError

    monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
    with pytest.raises(ZeroDivisionError):
        running.run(main, [])


def test_output_is_there_line_by_line_and_what_a_terminal_cannot_show_is_a_question_mark(
    monkeypatch,
):
    output = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(output, encoding='ascii'))

    def main(_):
        print('Кот, a cat')
        assert output.getvalue() == b'???, a cat\n'
        return 7

    assert running.run(main, []) == 7


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    'errors, is_first, is_shown',
    [(Terminal(), True, True), (io.StringIO(), True, False), (Terminal(), False, False)],
    ids=['in a terminal', 'elsewhere', 'on another worker than the first'],
)
def test_a_progress_bar_counts_characters_in_a_terminal(errors, is_first, is_shown, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', errors)
    monkeypatch.setattr(workers, 'is_first', lambda: is_first)
    bar = running.progress_bar(20, 80, parse('--batch_size=10', '--training_seq_len=5'))
    bar.update(1000)
    bar.close()
    assert ('2.00k/4.00k' in errors.getvalue()) == is_shown
    assert bool(errors.getvalue()) == is_shown


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -float('inf')])
def test_a_loss_or_a_gradient_that_is_no_number_is_told_with_its_iteration(number):
    for pair in (number, 1.0), (1.0, number):
        with pytest.raises(UserError, match=r'at iteration 12; .*--restart and a lower'):
            running.check_finite(12, *pair)
    running.check_finite(12, 1e30, 0.0)


def test_a_run_whose_loss_is_no_number_any_more_ends_and_the_advice_helps(folder):
    # Each step makes a weight -9 times what it was.
    wild = ('--learning_rate=1', '--weight_decay=10', '--warmup_iterations=0', '--save_every=10')
    status, output, errors = run_here(*ARGUMENTS, *wild, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'nothing was saved after the last checkpoint' in errors
    iteration = int(errors.split('at iteration ')[1].split(';')[0])
    newest = tf.train.latest_checkpoint(str(folder / 'temp'))
    assert newest.endswith(f'model-{(iteration - 1) // 10 * 10}')
    arguments = ('--restart', '--learning_rate=0.01', '--max_iterations=20')
    status, output, errors = run_here(*ARGUMENTS, *arguments, cwd=folder)
    assert (status, errors) == (0, '')
    assert 'The earlier run is now in' in output


def test_a_held_out_loss_that_is_no_number_ends_a_run_before_it_is_saved(folder, monkeypatch):
    monkeypatch.setattr(script, 'measure', lambda *_: [float('nan')])
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the loss is nan' in errors and 'at iteration 50;' in errors
    assert 'Held-out loss' not in output
    assert not list((folder / 'temp').glob('model-*'))
