"""Runs of the script that tests start, disturb and resume, and one that nothing disturbs.

A pytest plugin. Test modules import it before pytest loads it, hence PYTEST_DONT_REWRITE.
"""

import contextlib
import io
import os
import shutil

from backstage import running

import matplotlib
import pytest
from conftest import SMALL, content, run_script, script
from matplotlib import pyplot

ARGUMENTS = (
    *SMALL, '--num_layers=2', '--batch_size=24', '--training_seq_len=4', '--text_file=short.txt',
    '--epochs=2', '--save_every=50', '--eval_every=60',
)  # fmt: skip
BEGUN = 60  # iterations of `begun`, a run with checkpoints at 50 and 60


def samples(output):
    return [line for line in output.split('\n') if line.startswith(script.prime_texts[0])]


def run_here(*arguments, cwd):
    """Do what `run_script` does, but in this process, which is faster."""
    return call_here(script.main, *arguments, cwd=cwd)


def call_here(main, *arguments, cwd):
    """Call the `main` of a program; return (exit status, standard output, standard error)."""
    output, errors = io.TextIOWrapper(io.BytesIO(), encoding='utf-8'), io.StringIO()
    matplotlib.use('Agg')  # opens no window
    before = os.getcwd()
    os.chdir(str(cwd))
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = running.run(main, list(map(str, arguments)))
    finally:
        os.chdir(before)
        pyplot.close('all')  # the plots that the program would have shown
    output.seek(0)
    return status, output.read(), errors.getvalue()


@pytest.fixture(scope='session')
def undisturbed(tmp_path_factory, works):
    """The folder and the output of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp('undisturbed')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    status, output, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


@pytest.fixture
def folder(tmp_path, works):
    """A folder with the text of the undisturbed run."""
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    return tmp_path


@pytest.fixture(scope='session')
def begun_once(tmp_path_factory, works):
    folder = tmp_path_factory.mktemp('begun')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    status, _, errors = run_here(*ARGUMENTS, f'--max_iterations={BEGUN}', cwd=folder)
    assert (status, errors) == (0, '')
    return folder


@pytest.fixture
def begun(begun_once, tmp_path):
    """The folder of a run of 60 iterations, for the test to damage and resume."""
    shutil.copytree(str(begun_once), str(tmp_path / 'begun'))
    return tmp_path / 'begun'


def wait_for(process, text):
    """Read the output of a process up to a line that begins with this text."""
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(f'no line {text}: {process.stderr.read()}')


def finish(folder, undisturbed):
    """Resume the run in a folder, compare its end with the undisturbed run; return its output."""
    status, output, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors) == (0, '')
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')
    assert len(list((folder / 'temp' / 'best').glob('*.index'))) == 1
    drawn, expected = samples(output), samples(undisturbed[1])
    assert drawn == expected[len(expected) - len(drawn) :]
    return output
