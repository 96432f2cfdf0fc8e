"""backstage/interrupts.py: what Ctrl-C does where nothing has to be saved."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from backstage import running, tf

import pytest
from conftest import ROOT, SCRIPT

STOPPED = 'test_interrupts.py: stopped.\n'


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10):  # Python calls a handler only between two steps of its own
        time.sleep(0.01)


# Begin to import TensorFlow, and lose the KeyboardInterrupt, as some of its C functions do.
LOSING = """
import time
print('begun', flush=True)
try:
    time.sleep(60)
except BaseException:
    time.sleep(60)
"""


@pytest.mark.parametrize('program', [[str(SCRIPT)], ['-m', 'tools.sample']], ids=len)
def test_ctrl_c_while_tensorflow_is_imported_ends_the_process_without_a_word(program, tmp_path):
    (tmp_path / 'tensorflow.py').write_text(LOSING)
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=str(ROOT),
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b'begun\n'
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.communicate(timeout=60) == (b'', b'')
    assert process.returncode == -signal.SIGINT  # for which a shell has 130
    assert time.monotonic() - began < 30


def test_so_it_does_through_a_symbolic_link_and_not_where_it_is_ignored(tmp_path):
    (tmp_path / 'tensorflow.py').write_text(
        'import os, signal; os.kill(os.getpid(), signal.SIGINT); raise ImportError("it goes on")'
    )
    (tmp_path / 'link.py').symlink_to(SCRIPT)
    command = ['env', f'PYTHONPATH={tmp_path}', sys.executable, 'link.py']
    found = subprocess.run(command, check=False, cwd=str(tmp_path), stderr=subprocess.PIPE)
    assert (found.returncode, found.stderr) == (-signal.SIGINT, b'')
    command = ['sh', '-c', 'trap "" INT; exec "$@"', 'sh', *command]
    found = subprocess.run(command, check=False, cwd=str(tmp_path), stderr=subprocess.PIPE)
    assert (found.returncode, b'it goes on' in found.stderr) == (2, True)


CATCHING = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
import stacked_lstm_shakespeare
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print('caught')
"""


def test_a_program_of_another_kind_that_imports_the_script_catches_ctrl_c_itself():
    for folder in ROOT, ROOT / 'tools':
        command = [sys.executable, '-c', CATCHING]
        assert subprocess.check_output(command, cwd=str(folder), timeout=60) == b'caught\n'
    # A file of a user beside the script: this process must not write there, but Python can be told.
    told = f'__file__ = {str(ROOT / "mine.py")!r}\n{CATCHING}'
    command = [sys.executable, '-c', told]
    assert subprocess.check_output(command, timeout=60) == b'caught\n'


def test_the_prompt_of_python_i_outlives_ctrl_c():
    typed = 'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint(6 * 7)\n'
    found = subprocess.run(
        [sys.executable, '-i', str(SCRIPT), '--help'],
        check=False,
        input=typed.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert (found.returncode, found.stdout.endswith(b'42\n')) == (0, True)
    assert b'KeyboardInterrupt' in found.stderr


def test_ctrl_c_ends_a_program_at_once(capsys):
    def main(_):
        done.append('before')
        press_ctrl_c()
        done.append('after')

    done = []
    assert running.run(main, []) == 130
    assert (done, capsys.readouterr()[1]) == (['before'], STOPPED)


def test_ctrl_c_in_a_call_of_tensorflow_ends_the_program_after_that_call(capsys):
    def called_by_tensorflow(number):
        press_ctrl_c()
        done.append(number)
        return number

    def main(_):
        number = tf.nest.map_structure(called_by_tensorflow, [1, [2]])
        done.append(number)

    done = []
    assert running.run(main, []) == 130
    assert (done, capsys.readouterr()[1]) == ([1, 2], STOPPED)
    assert sys.gettrace() is None


def test_also_where_that_call_makes_another(capsys):
    def call_again(number):
        tf.nest.map_structure(lambda _: press_ctrl_c(), [number])
        done.append(number)

    done = []
    assert running.run(lambda _: tf.nest.map_structure(call_again, [1, 2]), []) == 130
    assert (done, capsys.readouterr()[1]) == ([1, 2], STOPPED)


def test_ctrl_c_in_the_last_call_of_a_function_is_not_lost(capsys):
    def main(_):
        return tf.nest.map_structure(lambda _: press_ctrl_c(), [1])

    assert running.run(main, []) == 130
    assert capsys.readouterr()[1] == STOPPED


def test_ctrl_c_counts_more_than_a_failure_of_the_call_that_it_came_in(capsys):
    def fail(_):
        press_ctrl_c()
        raise ValueError('this is no number')

    assert running.run(lambda _: tf.nest.map_structure(fail, [1]), []) == 130
    assert capsys.readouterr()[1] == STOPPED


def test_a_dictionary_that_is_fed_and_python_is_called_for_does_not_lose_ctrl_c(capsys):
    """The C function that looks at what is fed calls `__class__`, and takes no error of it."""

    class Key:
        @property
        def __class__(self):
            press_ctrl_c()
            return Key

    def main(_):
        with tf.Graph().as_default(), tf.Session() as session, contextlib.suppress(TypeError):
            session.run(tf.constant(1), {Key(): 1})
        return 0

    assert running.run(main, []) == 130
    assert capsys.readouterr()[1] == STOPPED


@pytest.mark.parametrize('handler', [signal.SIG_DFL, signal.default_int_handler])
def test_a_program_takes_ctrl_c_and_gives_it_back(handler):
    def main(_):
        assert callable(signal.getsignal(signal.SIGINT))  # or else it would end the tests
        press_ctrl_c()

    earlier = signal.signal(signal.SIGINT, handler)
    try:
        assert running.run(main, []) == 130
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_a_program_leaves_ctrl_c_alone_where_it_is_ignored():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert running.run(lambda _: press_ctrl_c() or 7, []) == 7
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_a_program_runs_in_a_thread_of_its_own():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(running.run(lambda _: 7, [])))
    thread.start()
    thread.join()
    assert statuses == [7]
