"""Running a program: how it is stopped, and the one line that it says when something is wrong."""

import fcntl
import io
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time

from backstage import running, tf
from backstage.settings import UserError

import pytest
from conftest import (
    ROOT,
    SCRIPT,
    SMALL,
    content,
    end,
    run_script,
    script,
    start,
    start_script,
    start_tool,
)
from runs import ARGUMENTS, finish, run_here, wait_for

pytest_plugins = ['runs', 'trained_model']


ASKED = (
    'stacked_lstm_shakespeare.py: stopping, once the run is saved; a second one stops it now, '
    'unsaved.\n'
)


@pytest.mark.parametrize('number', list(running.SIGNALS))
def test_a_signal_saves_and_the_same_command_goes_on_to_the_same_end(folder, undisturbed, number):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(number)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (128 + number, ASKED)
    stopped = int(output.split('Stopped after iteration ')[1].split('.')[0])
    assert stopped >= 83
    assert output.endswith('. The same command goes on from there\n')
    assert (folder / 'temp' / 'loss.png').exists()
    assert f'Continuing after iteration {stopped}, from' in finish(folder, undisturbed)


def test_what_goes_on_from_a_run_that_began_anew_is_the_command_without_that(folder, monkeypatch):
    build_models = script.build_models

    def build_late(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return build_models(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(script, 'build_models', build_late)
        _, output, _ = run_here(*ARGUMENTS, '--restart', cwd=folder)
    said = output.splitlines()[-1]
    assert said == (
        'Stopped after iteration 1. The same command, with --restart=False, goes on from there'
    )
    more = ('--restart', '--restart=False', '--max_iterations=2')
    assert 'Continuing after iteration 1' in run_here(*ARGUMENTS, *more, cwd=folder)[1]


def test_a_second_ctrl_c_ends_at_once_in_the_middle_of_an_iteration(folder):
    """An iteration takes more than a second here, and both come in its first half."""
    arguments = ('--num_layers=1', '--rnn_size=2000', '--training_seq_len=30', '--log_every=1')
    process = start_script('--text_file=short.txt', *arguments, cwd=folder)
    wait_for(process, 'Iteration: 1,')
    for _ in range(2):
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, '')
    assert errors == ASKED + 'stacked_lstm_shakespeare.py: stopped, unsaved.\n'


BUSY = """
import sys, time
from backstage import running
with running.Stop() as stop:
    stop.listen()
    print('busy', flush=True)
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        time.sleep(0.1)
sys.exit(stop.status)
"""


@pytest.mark.parametrize('number', list(running.SIGNALS))
def test_a_stop_that_is_delivered_twice_is_one(number):
    process = start(sys.executable, '-c', BUSY, '1', cwd=ROOT)
    wait_for(process, 'busy')
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.05)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (128 + number, 1)


@pytest.mark.parametrize('number', [n for n, s in running.SIGNALS.items() if s < 10])
def test_a_stop_that_is_repeated_later_ends_the_process_at_once(number):
    process = start(sys.executable, '-c', BUSY, '60', cwd=ROOT)
    wait_for(process, 'busy')
    process.send_signal(number)
    time.sleep(running.SIGNALS[number] + 0.3)
    process.send_signal(number)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (128 + number, 2)
    assert errors.endswith(': stopped, unsaved.\n')


def test_a_second_ctrl_c_ends_a_run_whose_output_nobody_reads(folder):
    """As where a pager waits: the pipe is full, and the run waits in the middle of a line."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *ARGUMENTS, '--log_every=1', '--epochs=1000'],
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    fcntl.fcntl(process.stdout, 1031, 4096)  # F_SETPIPE_SZ
    waiting, before = b'', None
    while waiting != before or not any(waiting):
        before = waiting
        time.sleep(5)
        waiting = fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    try:
        assert process.wait(timeout=10) == 130
    finally:
        process.kill()
        process.stdout.close()


def test_the_two_signals_of_timeout_and_make_are_one(folder, undisturbed):
    (folder / 'venv').mkdir()
    (folder / 'venv' / 'installed').write_text('')
    arguments = ' '.join([*ARGUMENTS, '--log_every=1', f'--temp_dir={folder}/temp'])
    arguments = arguments.replace('short.txt', f'{folder}/short.txt')
    make = ['make', '--no-print-directory', '-C', ROOT, '-o', f'{folder}/venv/installed', 'train']
    make += [f'VENV={folder}/venv', f'PYTHON={sys.executable}', f'ARGS={arguments}']
    process = start('timeout', '600', *make, cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(signal.SIGTERM)  # it passes that on to make, and make to its program
    _, output, errors = end(process)
    assert 'Stopped after iteration' in output
    assert ASKED in errors and 'stopped, unsaved.' not in errors
    assert 'Continuing after iteration' in finish(folder, undisturbed)


def test_a_signal_that_nohup_ignores_stays_ignored(folder):
    process = start_script(
        *ARGUMENTS, '--log_every=1', cwd=folder, python=('nohup', sys.executable)
    )
    wait_for(process, 'Iteration: 5,')
    process.send_signal(signal.SIGHUP)
    wait_for(process, 'Iteration: 105,')
    process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (143, 1)


def test_sigusr1_saves_and_the_run_goes_on_to_the_same_end(folder, undisturbed):
    """As Slurm sends it some time before the end, with --signal=USR1@60."""
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    for iteration in 83, 120:
        wait_for(process, f'Iteration: {iteration},')
        process.send_signal(signal.SIGUSR1)
    wait_for(process, 'Saved at iteration 1')
    names = {path.name for path in (folder / 'temp').glob('model-*.index')}
    _, errors = process.communicate()
    assert process.returncode == 0
    assert errors == 'stacked_lstm_shakespeare.py: saving, after this iteration.\n' * 2
    assert len(names - {f'model-{n}.index' for n in (50, 100, 150)}) > 0
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


def test_a_run_that_is_killed_after_sigusr1_goes_on_from_there(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(signal.SIGUSR1)
    wait_for(process, 'Saved at iteration')
    process.kill()
    process.communicate()
    output = finish(folder, undisturbed)
    assert 83 <= int(output.split('Continuing after iteration ')[1].split(',')[0]) < 100


@pytest.mark.parametrize('program', [[str(SCRIPT)], ['-m', 'tools.sample']], ids=['script', 'tool'])
def test_sigusr1_during_the_start_ends_nothing(program, tmp_path):
    (tmp_path / 'tensorflow.py').write_text(
        "print('begun', flush=True); import time; time.sleep(1); raise ImportError('it went on')"
    )
    process = subprocess.Popen(
        [sys.executable, *program], cwd=str(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'},
    )  # fmt: skip
    assert process.stdout.readline() == b'begun\n'
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, b'it went on' in errors) == (2, True)


def test_sigusr1_before_training_and_in_a_tool_ends_nothing(folder, trained):
    process = start_script(*ARGUMENTS, '--max_iterations=3', cwd=folder)
    wait_for(process, 'Vocabulary')
    process.send_signal(signal.SIGUSR1)
    assert end(process)[0] == 0
    process = start_tool('sample', '--sample_length=2000', cwd=trained.folder)
    process.stdout.read(5)
    process.send_signal(signal.SIGUSR1)
    status, output, errors = end(process)
    assert (status, errors, len(output) > 2000) == (0, '', True)


def test_the_reminders_of_a_limit_of_time_do_not_end_a_save(folder, undisturbed):
    """The system sends SIGXCPU each second, once the soft limit is reached."""
    process = start(sys.executable, '-c', BUSY, '5', cwd=ROOT)
    wait_for(process, 'busy')
    for _ in range(4):
        process.send_signal(signal.SIGXCPU)
        time.sleep(1)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (128 + signal.SIGXCPU, 1)


def test_a_traceback_is_shown_to_those_who_ask_for_it(folder):
    status, _, errors = run_script(*ARGUMENTS, '--text_file=none', cwd=folder, SHOW_TRACEBACK='1')
    assert status == 2
    assert 'Traceback (most recent call last)' in errors and 'in file_pieces' in errors
    assert errors.splitlines()[-1].startswith('stacked_lstm_shakespeare.py: none cannot be read')


def test_a_terminal_that_is_closed_saves(folder, undisturbed):
    """As when the connection of ssh is lost: a SIGHUP, and nobody takes the output any more."""
    pid, terminal = pty.fork()
    if pid == 0:  # the child, whose terminal it is
        os.chdir(str(folder))
        arguments = [sys.executable, str(SCRIPT), *ARGUMENTS, '--log_every=1']
        os.execve(sys.executable, arguments, {**os.environ, 'MPLBACKEND': 'Agg'})
    output = b''
    while b'Iteration: 83,' not in output:
        output += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 128 + signal.SIGHUP
    assert 'Continuing after iteration' in finish(folder, undisturbed)


def test_a_stop_while_the_held_out_text_is_measured_is_heard_and_that_is_made_up_for(
    folder, undisturbed, monkeypatch
):
    measure = script.measure

    def measure_late(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        while not arguments[-1].signal:
            time.sleep(0.01)
        return measure(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(script, 'measure', measure_late)
        status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (130, 1)
    assert 'Held-out' not in output
    assert 'Stopped after iteration 50.' in output
    assert 'Continuing after iteration 50' in finish(folder, undisturbed)


def test_a_long_measurement_is_given_up_in_a_moment(folder, works):
    (folder / 'long.txt').write_bytes(works)
    arguments = (*SMALL, '--text_file=long.txt', '--held_out=0.8', '--save_every=1')
    process = start_script(*arguments, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 1,')
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert (status, errors) == (130, ASKED)
    assert time.monotonic() - began < 20  # it would take minutes


def test_a_stop_while_samples_are_drawn_is_heard(folder):
    arguments = (*ARGUMENTS, '--eval_every=3', '--log_every=1', '--sample_length=1000000')
    process = start_script(*arguments, cwd=folder)
    wait_for(process, 'Iteration: 3,')
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert (status, errors) == (130, ASKED)
    assert time.monotonic() - began < 20


def test_ctrl_c_before_the_first_iteration_is_no_traceback(folder):
    process = start_script(*ARGUMENTS, cwd=folder)
    wait_for(process, 'Run: ')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    stopping = 'stopping, once the run is saved; a second one stops it now, unsaved'
    said = ['', *(f'stacked_lstm_shakespeare.py: {what}.\n' for what in ('stopped', stopping))]
    assert errors in said


def test_ctrl_c_while_the_graph_is_built_stops_the_run_after_its_first_iteration(
    folder, monkeypatch
):
    build_models = script.build_models

    def build_late(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return build_models(*arguments)

    monkeypatch.setattr(script, 'build_models', build_late)
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (130, 1)
    assert 'Stopped after iteration 1.' in output
    assert tf.train.latest_checkpoint(str(folder / 'temp')).endswith('model-1')


@pytest.mark.parametrize('number', running.SIGNALS)
def test_a_signal_is_noted_while_a_stop_listens_and_does_what_it_did_before_and_afterwards(number):
    before = [signal.getsignal(number) for number in running.SIGNALS]
    with running.Stop() as stop:
        assert [signal.getsignal(number) for number in running.SIGNALS] == before
        stop.listen()
        assert not stop.signal
        os.kill(os.getpid(), number)
        began = time.monotonic()
        while not stop.signal:
            assert time.monotonic() - began < 10
        assert (stop.signal, stop.status) == (number, 128 + number)
    assert [signal.getsignal(number) for number in running.SIGNALS] == before
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


def test_a_reader_that_goes_away_does_not_end_a_run(folder, undisturbed):
    """As `head` does, or `tee` at Ctrl-C."""
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 1,')
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(timeout=60) == 0
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


def test_ctrl_c_saves_also_where_it_ends_the_reader_first(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert 'Continuing after iteration' in finish(folder, undisturbed)


def test_a_log_on_a_full_disk_does_not_end_a_run(folder, undisturbed):
    with open('/dev/full', 'w') as full:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *ARGUMENTS],
            cwd=str(folder),
            env={**os.environ, 'MPLBACKEND': 'Agg'},
            stdout=full,
            stderr=full,
        )
    assert process.wait(timeout=120) == 0
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


def test_what_a_tool_writes_to_a_reader_that_has_gone_ends_it_quietly(trained):
    # More than a pipe holds, so that it still writes when nobody reads any more.
    process = start_tool('sample', '--prime_text=so', '--num_samples=5000', cwd=trained.folder)
    process.stdout.read(10)
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
        (
            tf.errors.InternalError(
                None, None, "Graph execution error:\n\nDetected at\n f\nNode: 'a/b'\nno room\n at"
            ),
            *(2, 'TensorFlow failed: no room.'),
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


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&- 2>&-', '2>/dev/full'])
def test_a_stream_that_is_closed_or_full_changes_no_status(folder, closed):
    probe = (
        'import sys; from backstage import running; from backstage.settings import UserError\n'
        'def main(arguments):\n'
        '    print("out", sys.stdin.isatty(), sys.stdin.read())\n'
        '    raise UserError("so")\n'
        'sys.exit(running.run(main, []))'
    )
    command = f'exec "$0" -c "$1" {closed}'
    status, output, errors = end(start('bash', '-c', command, sys.executable, probe, cwd=folder))
    assert status == 2
    assert output == ('' if '>&-' in closed.split() else 'out False \n')
    assert errors == ('' if '2>' in closed else '-c: so.\n'.replace('-c', '<string>'))


def test_training_needs_neither_input_nor_output(folder):
    command = 'exec "$0" "$@" <&- >&- 2>&-'
    arguments = (sys.executable, SCRIPT, *ARGUMENTS, '--max_iterations=20')
    assert end(start('bash', '-c', command, *arguments, cwd=folder)) == (0, '', '')
    assert (folder / 'temp' / 'model-20.index').exists()


def test_a_stream_that_cannot_be_told_how_to_write_is_taken_as_it_is(monkeypatch):
    class Notebook(io.StringIO):
        """What a notebook has in the place of standard output: no file, and no `reconfigure`."""

    monkeypatch.setattr(sys, 'stdout', Notebook())
    assert running.run(lambda _: print('so') or 0, []) == 0
    assert sys.stdout.getvalue() == 'so\n'


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
    assert 'The earlier run, of 30 iterations, is in' in output


def test_a_held_out_loss_that_is_no_number_ends_a_run_before_it_is_saved(folder, monkeypatch):
    monkeypatch.setattr(script, 'measure', lambda *_: [float('nan')])
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the loss is nan' in errors and 'at iteration 50;' in errors
    assert 'Held-out loss' not in output
    assert not list((folder / 'temp').glob('model-*'))
