"""README: every command in it is run as it stands there, in that order, on a smaller model."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import requests
import tensorflow
from conftest import ROOT, SCRIPT

pytestmark = [pytest.mark.long, pytest.mark.xdist_group('readme')]

README = (ROOT / 'README.md').read_text(encoding='utf-8')
PROGRAMS = 'printf|python|python3.7|make|pip|head|horovodrun|tensorflow_model_server|\\.'
COMMANDS = re.findall(rf'^    ((?:{PROGRAMS}) .*)', README, re.MULTILINE)
# The Python of README, for TensorFlow 1.15, and what takes the place of its last lines in a 2.x
LINES, TODAYS_LINES = (
    re.findall(r'^    (?:>>>|\.\.\.) (.*)', part, re.MULTILINE)
    for part in README.split("With today's TensorFlow, from the fourth line on:")
)

DOCS = [f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md')]

# What has to be there already where a test runs; `make` makes it so.
SETTING_UP = 'python3.7 -m venv .venv', '. .venv/bin/activate', 'pip install -r requirements.txt'
# (tests/workers.py runs what horovodrun starts, and tests/test_export.py the other runtimes.)
NOT_HERE = re.compile('horovodrun|tensorflow_model_server|python -m tf2onnx')


def run(*command, cwd):
    """Run a command in a shell or of itself, with the programs of .venv."""
    programs = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
        command, check=False, cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, 'MPLBACKEND': 'Agg', 'PATH': programs},
        universal_newlines=True,
    )  # fmt: skip


@pytest.fixture(scope='module')
def readme(tmp_path_factory, works):
    """The folder in which all commands of README were run."""
    folder = tmp_path_factory.mktemp('readme')
    text = SCRIPT.read_text(encoding='utf-8')
    # Edited at the top, as README says.
    small_ones = {'rnn_size': 16, 'num_layers': 1, 'training_seq_len': 4, 'max_iterations': 3}
    for name, small in small_ones.items():
        text, count = re.subn(rf'^{name} = \d+', f'{name} = {small}', text, flags=re.MULTILINE)
        assert count == 1
    (folder / SCRIPT.name).write_text(text, encoding='utf-8')
    for storey in 'backstage', 'tools':
        shutil.copytree(str(ROOT / storey), str(folder / storey))
    (folder / 'data').mkdir()
    (folder / 'data' / 'shakespeare.txt').write_bytes(works)
    (folder / 'input.txt').write_bytes(works[2_000_000:2_200_000])  # a text of one's own
    ran = []
    for command in COMMANDS:
        if command in SETTING_UP or command.startswith('make') or NOT_HERE.match(command):
            continue
        result = run('bash', '-c', command, cwd=folder)
        # Where the output is data, what else there is to say comes here.
        told = re.sub(
            r'(Model|Text|Learned): .*\n|\d+ samples? did not reach .*\n', '', result.stderr
        )
        assert (result.returncode, told) == (0, ''), command
        assert result.stdout or not command.startswith('python'), command
        ran.append(command)
    assert len(ran) > 12
    return folder


def test_the_files_that_readme_names_are_there(readme):
    there = {path.name for path in (readme / 'temp').iterdir()}
    (table,) = re.findall(r'`temp/` then holds\n\n(.*?)\n\n', README, re.DOTALL)
    named = re.findall(r'^\| `([^`]+)`', table, re.MULTILINE)
    assert len(named) > 5
    for name in named:
        assert name.rstrip('/').replace('9070.*', '3.index') in there
    assert (readme / 'temp' / 'runs.png').exists()


def test_the_python_of_readme_writes_text_from_the_export(readme):
    *lines, last = LINES if hasattr(tensorflow, 'contrib') else LINES[:3] + TODAYS_LINES
    code = '\n'.join([*lines, f'print({last})'])
    result = run(sys.executable, '-W', 'ignore', '-c', code, cwd=readme)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.replace('unknown', '?')) == 50 + 1


def test_tensorboard_shows_all_runs_under_temp(readme):
    command = [sys.executable, '-m', 'tensorboard.main', '--logdir=temp', '--port=0']
    with subprocess.Popen(
        command, cwd=str(readme), stderr=subprocess.PIPE, universal_newlines=True
    ) as board:
        try:
            for line in board.stderr:
                url = re.findall(r'at (http://\S+?)/? ', line)
                if url:
                    break
            runs = requests.get(url[0] + '/data/runs', timeout=60).json()
        finally:
            board.kill()
    assert {'board', 'mine/board', 'dropout/board', 'short/board'} <= set(runs)


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', *sorted(DOCS)])
def test_each_command_for_make_and_each_program_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    makefile = (ROOT / 'Makefile').read_text()
    for target in re.findall(r'(?:`|    |&& )make ([a-z-]+)', text):
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
    for program in re.findall(r'benchmarks/\w+\.(?:py|sh)', text):
        assert (ROOT / program).exists(), program


def test_readme_shows_only_pictures_and_links_only_files_that_are_there():
    targets = re.findall(r'\]\(([^)#]+)\)', README)
    assert len(targets) > 8
    for target in targets:
        assert target.startswith('https://') or (ROOT / target).exists(), target


def test_the_figures_of_the_table_of_speed_are_those_that_were_measured():
    (table,) = re.findall(r'\| what \| the script \| the recipe \|\n(.*?)\n\n', README, re.DOTALL)
    figures = re.findall(r'[\d,.]*\d', table)
    assert len(figures) > 8
    measured = (ROOT / 'docs' / 'benchmark.md').read_text(encoding='utf-8')
    assert set(figures) <= set(re.findall(r'[\d,.]*\d', measured))
