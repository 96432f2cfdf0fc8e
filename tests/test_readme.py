"""README and docs/: every command in them is run as it stands there, on a smaller model."""

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

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding='utf-8')
    for path in [*ROOT.glob('*.md'), *sorted((ROOT / 'docs').rglob('*.md'))]
}
README, TOOLS = PAGES['README.md'], PAGES['docs/tools.md']
# The pages with commands for users, in the order in which the commands are run
MANUAL = 'README.md', 'docs/install.md', 'docs/training.md', 'docs/tools.md', 'docs/distributed.md'
PROGRAMS = 'printf|python|python3.7|make|pip|head|horovodrun|tensorflow_model_server|\\.'
COMMANDS = [
    command
    for page in MANUAL
    for command in re.findall(rf'^    ((?:{PROGRAMS}) .*)', PAGES[page], re.MULTILINE)
]
# The Python of docs/tools.md, for TensorFlow 1.15, and what replaces its last lines in a 2.x
LINES, TODAYS_LINES = (
    re.findall(r'^    (?:>>>|\.\.\.) (.*)', part, re.MULTILINE)
    for part in TOOLS.split('In TensorFlow 2, replace the last four lines:')
)

# What has to be there already where a test runs; `make` makes it so.
SETTING_UP = re.compile(r'make|pip install|python3.7 -m venv|\. .venv/bin/activate')
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
    """The folder in which all commands of README and docs/ were run."""
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
        if SETTING_UP.match(command) or NOT_HERE.match(command):
            continue
        result = run('bash', '-c', command, cwd=folder)
        # Where the output is data, what else there is to say comes here.
        told = re.sub(
            r'(Model|Text|Learned): .*\n|\d+ samples? did not reach .*\n', '', result.stderr
        )
        assert (result.returncode, told) == (0, ''), command
        assert result.stdout or not command.startswith('python'), command
        ran.append(command)
    assert len(ran) > 20
    return folder


def test_the_files_of_a_run_that_the_manual_names_are_there(readme):
    there = {path.name for path in (readme / 'temp').iterdir()}
    page = PAGES['docs/training.md']
    (table,) = re.findall(r'`temp/` holds:\n\n(.*?)\n\n', page, re.DOTALL)
    named = re.findall(r'^\| `([^`]+)`', table, re.MULTILINE)
    assert len(named) > 5
    for name in named:
        assert name.rstrip('/').replace('9070.*', '3.index') in there
    assert (readme / 'temp' / 'runs.png').exists()


def test_the_python_of_the_manual_writes_text_from_the_export(readme):
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


@pytest.mark.parametrize('page', PAGES)
def test_each_command_for_make_and_each_program_that_a_page_names_is_there(page):
    makefile = (ROOT / 'Makefile').read_text()
    for target in re.findall(r'(?:`|    |&& )make\s([a-z-]+)', PAGES[page]):
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
    for program in re.findall(r'benchmarks/\w+\.(?:py|sh)', PAGES[page]):
        assert (ROOT / program).exists(), program


@pytest.mark.parametrize('page', PAGES)
def test_each_link_and_picture_of_a_page_leads_somewhere(page):
    for target in re.findall(r'\]\(([^)]+)\)', PAGES[page]):
        if not target.startswith('https://'):
            path, _, heading = target.partition('#')
            linked = (ROOT / page).parent / path if path else ROOT / page
            assert linked.exists(), target
            if heading:
                headings = re.findall(r'^#+ (.*)', linked.read_text(encoding='utf-8'), re.MULTILINE)
                anchors = [
                    re.sub(r'[^\w -]', '', text).lower().replace(' ', '-') for text in headings
                ]
                assert heading in anchors, target


def test_each_page_and_picture_that_a_program_names_is_there():
    for path in [SCRIPT, ROOT / 'Makefile', *ROOT.glob('[bt]*/*.py')]:
        for name in re.findall(r'docs/[\w/-]+\.\w+', path.read_text(encoding='utf-8')):
            assert (ROOT / name).exists(), f'{path.name} names {name}'


def test_the_code_that_readme_shows_is_that_of_the_script():
    (code,) = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    lines = [line.strip() for line in SCRIPT.read_text(encoding='utf-8').splitlines()]
    assert len(code.splitlines()) > 8
    for line in code.splitlines():
        assert line in lines


def test_the_figures_of_the_tables_of_speed_and_mistakes_are_those_that_were_measured():
    measured = ' '.join(text for page, text in PAGES.items() if 'measurements' in page)
    measured = set(re.findall(r'[\d,.]*\d', measured))
    for page, head in [
        ('docs/performance.md', 'two cores with | 2048 x 2048 product'),
        ('README.md', 'mistake | consequence'),
    ]:
        (table,) = re.findall(rf'\| {re.escape(head)}.*?\n\n', PAGES[page], re.DOTALL)
        figures = re.findall(r'\d[\d,.]*\d{2}', table)
        assert len(figures) > 4
        assert set(figures) <= measured
