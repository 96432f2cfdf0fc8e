"""Running a program: how to stop it, and the one line that it prints if something goes wrong."""

import fcntl
import io
import os
import pty
import signal
import subprocess
import sys
import termios
import time

from backstage import running, tf
from backstage.settings import UserError

import pytest
from conftest import ROOT, SCRIPT, end, script, start, start_script
from runs import ARGUMENTS, finish, run_here, wait_for

pytest_plugins = ['runs', 'trained_model']


# --- Before a run listens, and in a tool ---------------------------------------------------------

# Loses a KeyboardInterrupt, as some C functions of TensorFlow do.
LOSING = """
import time
print('begun', flush=True)
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


@pytest.mark.parametrize(
    'program, package',
    [([str(SCRIPT)], 'tensorflow'), (['-m', 'tools.sample'], 'difflib')],
    ids=len,
)
def test_before_a_run_listens_ctrl_c_ends_it_and_sigusr1_does_nothing(program, package, tmp_path):
    (tmp_path / f'{package}.py').write_text(LOSING)
    process = subprocess.Popen(
        [sys.executable, *program], cwd=str(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'},
    )  # fmt: skip
    assert process.stdout.readline() == b'begun\n'
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b'', b'')
    assert process.returncode == -signal.SIGINT  # which a shell reports as 130


def test_ctrl_c_works_through_a_symbolic_link_unless_it_is_ignored(tmp_path):
    (tmp_path / 'tensorflow.py').write_text(
        'import os, signal; os.kill(os.getpid(), signal.SIGINT); raise ImportError("it goes on")'
    )
    (tmp_path / 'link.py').symlink_to(SCRIPT)
    command = ['env', f'PYTHONPATH={tmp_path}', sys.executable, 'link.py']
    status, _, errors = end(start(*command, cwd=tmp_path))
    assert (status, errors) == (-signal.SIGINT, '')
    status, _, errors = end(start('sh', '-c', 'trap "" INT; "$@"', 'sh', *command, cwd=tmp_path))
    assert (status, 'it goes on' in errors) == (2, True)


def test_the_prompt_of_python_i_survives_ctrl_c():
    typed = b'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint(6 * 7)\n'
    command = [sys.executable, '-i', str(SCRIPT), '--help']
    process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1)
    output, errors = process.communicate(typed, timeout=30)
    assert (process.returncode, output.endswith(b'42\n')) == (0, True)
    assert b'KeyboardInterrupt' in errors


# --- Once it listens -----------------------------------------------------------------------------

ASKED = (
    'stacked_lstm_shakespeare.py: saving, then stopping; a second signal stops now without '
    'saving.\n'
)


def test_a_stopped_and_then_killed_run_resumes_to_the_same_end(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (130, ASKED)
    stopped = int(output.split('Stopped after iteration ')[1].split('.')[0])
    assert stopped >= 83
    assert output.endswith('. The same command resumes it\n')
    assert (folder / 'temp' / 'loss.png').exists()
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, f'Resuming after iteration {stopped}, from')
    wait_for(process, 'Held-out loss')
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 'Resuming after iteration' in finish(folder, undisturbed)


BUSY = """
import sys, time
from backstage import running
with running.Stop() as stop:
    stop.listen()
    print('busy', flush=True)
    while not stop.signal:
        time.sleep(0.05)
        if stop.wants_save():
            print('saved', flush=True)
    time.sleep(float(sys.argv[1]))
sys.exit(stop.status)
"""


def start_busy(seconds, *before):
    process = start(*before, sys.executable, '-c', BUSY, seconds, cwd=ROOT)
    wait_for(process, 'busy')
    return process


@pytest.mark.parametrize(
    'number, seconds', [(signal.SIGINT, 0), (signal.SIGTERM, 0.5), (signal.SIGXCPU, 1)]
)
def test_a_signal_that_arrives_twice_counts_once(number, seconds):
    """Make and `timeout` forward signals, and the system sends SIGXCPU every second."""
    process = start_busy(0.5 + seconds)
    process.send_signal(number)
    time.sleep(seconds)
    process.send_signal(number)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (128 + number, 1)


def test_a_signal_that_is_repeated_later_ends_the_process_at_once():
    process = start_busy(60)
    process.send_signal(signal.SIGINT)
    time.sleep(running.SIGNALS[signal.SIGINT] + 0.3)
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (130, 2)
    assert errors.endswith(': stopped without saving.\n')


def test_sigusr1_asks_for_a_save_each_time_and_does_not_stop_the_run():
    process = start_busy(0)
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        wait_for(process, 'saved')
    process.kill()
    assert end(process) == (-signal.SIGKILL, '', '-c: saving after this iteration.\n' * 2)


def test_nohup_stays_in_force_but_a_background_job_hears_ctrl_c():
    process = start_busy(0, 'sh', '-c', 'trap "" INT HUP; exec "$@"', 'sh')
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (130, 1)


def test_signals_have_their_usual_effect_except_while_a_stop_listens():
    before = [signal.getsignal(number) for number in running.SIGNALS]
    for number in running.SIGNALS:
        with running.Stop() as stop:
            assert [signal.getsignal(number) for number in running.SIGNALS] == before
            stop.listen()
            assert not stop.signal
            os.kill(os.getpid(), number)
            began = time.monotonic()
            while not stop.signal:
                assert time.monotonic() - began < 60
            assert (stop.signal, stop.status) == (number, 128 + number)
        assert [signal.getsignal(number) for number in running.SIGNALS] == before
        assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_the_exit_status_of_several_workers(monkeypatch):
    assert running.Stop().status == 143  # another worker got the signal
    monkeypatch.setattr(running.workers, 'is_first', lambda: False)
    assert (
        running.Stop().status == 0
    )  # otherwise the launcher would end the first worker while it saves


@pytest.mark.long
def test_a_second_ctrl_c_ends_a_run_in_the_middle_of_an_iteration(folder):
    """An iteration takes more than a second here. Both signals come in its first half."""
    arguments = ('--num_layers=1', '--rnn_size=2000', '--training_seq_len=30', '--log_every=1')
    process = start_script('--text_file=short.txt', *arguments, cwd=folder)
    wait_for(process, 'Iteration: 1,')
    for _ in range(2):
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, '')
    assert errors == ASKED + 'stacked_lstm_shakespeare.py: stopped without saving.\n'


@pytest.mark.long
def test_what_sigusr1_has_saved_survives_a_kill(folder, undisturbed):
    """Slurm sends it shortly before the time limit, with --signal=USR1@60."""
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(signal.SIGUSR1)
    wait_for(process, 'Saved at iteration')
    process.kill()
    process.communicate()
    output = finish(folder, undisturbed)
    assert int(output.split('Resuming after iteration ')[1].split(',')[0]) >= 83


@pytest.mark.long
def test_closing_the_terminal_saves_the_run(folder, undisturbed):
    """The same happens when an ssh connection is lost: a SIGHUP, and nobody reads the output."""
    pid, terminal = pty.fork()
    if pid == 0:  # the child, which owns the terminal
        os.chdir(str(folder))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        arguments = [sys.executable, str(SCRIPT), *ARGUMENTS, '--log_every=1']
        os.execve(sys.executable, arguments, {**os.environ, 'MPLBACKEND': 'Agg'})
    output = b''
    while b'Iteration: 83,' not in output:
        output += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 128 + signal.SIGHUP
    assert 'Resuming after iteration' in finish(folder, undisturbed)


@pytest.mark.long
def test_a_stop_interrupts_the_held_out_loss_which_is_measured_later(
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
    assert 'Resuming after iteration 50' in finish(folder, undisturbed)


@pytest.mark.long
def test_a_stop_interrupts_long_samples(folder):
    more = ('--log_every=1', '--eval_every=3', '--sample_length=1000000')
    process = start_script(*ARGUMENTS, *more, cwd=folder)
    wait_for(process, 'Iteration: 3,')
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, _, errors = end(process)
    assert (status, errors) == (130, ASKED)
    assert time.monotonic() - began < 20


# --- Output that nobody reads --------------------------------------------------------------------

# A run or a tool that prints many lines.
PRINTING = """
import contextlib, sys
from backstage import running
def main(arguments):
    with running.Stop() if sys.argv[1] == 'run' else contextlib.ExitStack() as stop:
        if sys.argv[1] == 'run': stop.listen()
        for _ in range(int(sys.argv[2])): print('more than a pipe holds')
        print('and no line end', end='')
    return 7
sys.exit(running.run(main, []))
"""


@pytest.mark.parametrize('kind, status', [('run', 7), ('tool', 1)])
def test_a_closed_pipe_ends_a_tool_quietly_and_does_not_end_a_run(kind, status):
    command = sys.executable, '-c', PRINTING, kind, 10_000
    process = start(*command, cwd=ROOT, PYTHONUNBUFFERED='')
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(timeout=60) == status


def test_a_log_on_a_full_disk_does_not_end_a_run(tmp_path):
    command = 'exec "$0" -c "$1" run 10000 >/dev/full 2>&1'
    shell = 'sh', '-c', command, sys.executable, PRINTING
    assert end(start(*shell, cwd=ROOT, PYTHONUNBUFFERED=''))[0] == 7


def test_a_second_ctrl_c_ends_a_run_that_waits_for_a_reader():
    """A pager can cause this: the pipe is full, and the run waits in the middle of a line."""
    command = [sys.executable, '-c', PRINTING, 'run', str(10**9)]
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=-1, stderr=subprocess.STDOUT)
    before, waiting = None, b''
    while waiting != before or not any(waiting):
        time.sleep(0.5)
        before, waiting = waiting, fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    try:
        assert process.wait(timeout=10) == 130
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize('closed', ['>&-', '<&- >&- 2>&-', '2>/dev/full'])
def test_a_closed_or_full_stream_does_not_change_the_exit_status(tmp_path, closed):
    probe = (
        'import sys; from backstage import running; from backstage.settings import UserError\n'
        'def main(arguments):\n'
        '    print("out", sys.stdin.isatty(), sys.stdin.read())\n'
        '    raise UserError("so")\n'
        'sys.exit(running.run(main, []))'
    )
    command = f'exec "$0" -c "$1" {closed}'
    status, output, errors = end(start('bash', '-c', command, sys.executable, probe, cwd=tmp_path))
    assert status == 2
    assert output == ('' if '>&-' in closed.split() else 'out False \n')
    assert errors == ('' if '2>' in closed else '-c: so.\n'.replace('-c', '<string>'))


def test_output_comes_line_by_line_with_question_marks_if_it_cannot_be_shown(monkeypatch):
    output = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(output, encoding='ascii'))

    def main(_):
        print('Кот, a cat')
        assert output.getvalue() == b'???, a cat\n'
        return 7

    assert running.run(main, []) == 7
    monkeypatch.setattr(sys, 'stdout', io.StringIO())  # as in a notebook: no `reconfigure`
    assert running.run(lambda _: print('so') or 0, []) == 0
    assert sys.stdout.getvalue() == 'so\n'


# --- What goes wrong -----------------------------------------------------------------------------


def failures():
    """Yield an error, and the beginning of the line about it."""
    yield UserError('it is\nwrong'), 'it is wrong.'
    yield FileNotFoundError(2, 'No such file', 'my.txt'), "[Errno 2] No such file: 'my.txt'."
    yield UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'why'), "'utf-8' codec can't decode byte"
    yield RuntimeError("can't start new thread"), "can't start new thread. There is too little mem"
    yield MemoryError(), 'out of memory. Lower rnn_size'
    yield tf.errors.ResourceExhaustedError(None, None, 'OOM'), 'out of memory. Lower rnn_size'
    for said in 'file; Too many open files', '/dev/full; No space left on device':
        yield tf.errors.ResourceExhaustedError(None, None, said), f'TensorFlow failed: {said}.'
    for said in (
        'node X\nOriginal error: no room\n at Y',
        "Graph execution error:\n\nDetected at\n f\nNode: 'a/b'\nno room\n at",
    ):
        yield tf.errors.InternalError(None, None, said), 'TensorFlow failed: no room.'


@pytest.mark.parametrize('error, words', failures(), ids=lambda value: type(value).__name__)
def test_an_error_is_one_line_after_a_traceback_if_show_traceback_is_set(
    error, words, monkeypatch, capsys
):
    def main(arguments):
        raise error

    monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
    assert running.run(main, []) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count('\n')) == ('', 1)
    assert errors.startswith(f'test_running.py: {words}')
    monkeypatch.setenv('SHOW_TRACEBACK', '1')
    assert running.run(main, []) == 2
    told = capsys.readouterr().err
    assert told.startswith('Traceback (most recent call last):') and told.endswith(errors)


@pytest.mark.parametrize('error', [ZeroDivisionError(), RuntimeError('so')], ids=repr)
def test_a_bug_in_the_program_is_not_hidden(error, monkeypatch):
    def main(_):
        raise error

    monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
    with pytest.raises(type(error)):
        running.run(main, [])


@pytest.mark.parametrize('number', [float('nan'), float('inf'), -float('inf')])
def test_a_loss_or_gradient_that_is_not_finite_is_reported_with_its_iteration(number):
    for pair in (number, 1.0), (1.0, number):
        with pytest.raises(
            UserError, match=r'at iteration 12, .*--restart and a learning_rate below'
        ):
            running.check_finite(12, *pair)
    running.check_finite(12, 1e30, 0.0)


def test_a_held_out_loss_that_is_not_finite_ends_a_run_before_it_is_saved(folder, monkeypatch):
    monkeypatch.setattr(script, 'measure', lambda *_: [float('nan')])
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'at iteration 50, the loss is nan' in errors
    assert 'Held-out loss' not in output
    assert not list((folder / 'temp').glob('model-*'))
