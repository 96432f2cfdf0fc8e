"""tests/launcher.py: what it forks is a process as any other."""

import concurrent.futures
import os
import signal
import subprocess
import sys

import launcher
import pytest

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no subreaper')

PROGRAM = """
import os, sys, signal, threading
print(__name__, sys.argv, sys.path[0], os.getcwd(), os.environ['WORD'], os.environ.get('PWD'))
print(input(), sys.stdout.isatty(), threading.current_thread() is threading.main_thread())
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
print(sorted(int(name) for name in os.listdir('/proc/self/fd'))[:-1])
print('an error', file=sys.stderr)
sys.exit(3)
"""


def started(kind, *command, cwd):
    command = command if kind is launcher.Process else (sys.executable, *command)
    pipes = dict.fromkeys(['stdin', 'stdout', 'stderr'], subprocess.PIPE)
    return kind(
        command, cwd=str(cwd), env={'WORD': 'word'}, universal_newlines=True, bufsize=1, **pipes
    )


def test_a_program_finds_what_it_would_if_python_had_been_started_with_it(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text(PROGRAM)
    said = []
    for kind in subprocess.Popen, launcher.Process:
        process = started(kind, str(path), 'a word', '--more', cwd=tmp_path)
        said.append((*process.communicate('a line\n', timeout=60), process.returncode))
    assert said[0] == said[1]
    assert said[0][1:] == ('an error\n', 3)


def test_a_module_is_found_in_the_folder_that_it_is_started_in(tmp_path):
    (tmp_path / 'my_module.py').write_text('import sys\nprint(__name__, sys.argv[1:])')
    process = started(launcher.Process, '-m', 'my_module', 'word', cwd=tmp_path)
    assert process.communicate(timeout=60) == ("__main__ ['word']\n", '')
    assert process.returncode == 0


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it_and_is_its_status(tmp_path, number):
    path = tmp_path / 'program.py'
    path.write_text('import time\nprint("begun", flush=True)\ntime.sleep(60)')
    process = started(launcher.Process, str(path), cwd=tmp_path)
    assert process.stdout.readline() == 'begun\n'
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    process.communicate()


def test_what_was_started_before_is_left_alone_by_what_is_started_after(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text('print(input())')
    processes = [started(launcher.Process, str(path), cwd=tmp_path) for _ in range(3)]
    assert len({process.pid for process in processes} | {os.getpid()}) == 4
    said = [process.communicate(f'{k}\n', timeout=60)[0] for k, process in enumerate(processes)]
    assert said == ['0\n', '1\n', '2\n']


@pytest.mark.long
def test_threads_may_start_them_at_the_same_time(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text('import sys\nprint(sys.argv[1], input())')

    def run(k):
        process = started(launcher.Process, str(path), str(k), cwd=tmp_path)
        return process.communicate(f'{k}\n', timeout=60)[0]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(40))) == [f'{k} {k}\n' for k in range(40)]
