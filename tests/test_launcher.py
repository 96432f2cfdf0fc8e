"""tests/launcher.py: what it forks is a process as any other."""

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


def test_a_program_finds_what_it_would_if_python_had_been_started_with_it(tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    for command in [str(tmp_path / 'program.py')], ['-m', 'program']:
        said = []
        for kind, before in (subprocess.Popen, [sys.executable]), (launcher.Process, []):
            pipes = dict.fromkeys(['stdin', 'stdout', 'stderr'], subprocess.PIPE)
            process = kind(
                [*before, *command, 'a word', '--more'], cwd=str(tmp_path), env={'WORD': 'word'},
                universal_newlines=True, **pipes,
            )  # fmt: skip
            said.append((*process.communicate('a line\n', timeout=60), process.returncode))
        assert said[0][1:] == ('an error\n', 3)
        assert said[0] == said[1]
