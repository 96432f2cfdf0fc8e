"""Setting up: which TensorFlow `make` installs, and what it says if it cannot."""

import os
import pty
import re
import shutil
import subprocess

import pytest
from conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that `make` reads, and with its own programs in `bin`."""
    folder = tmp_path / "it's"
    (folder / 'bin').mkdir(parents=True)
    (folder / 'backstage').mkdir()
    for path in [ROOT / 'Makefile', ROOT / 'backstage' / 'set_up.sh', *ROOT.glob('require*.txt')]:
        shutil.copy(str(path), str(folder / path.relative_to(ROOT)))
    for program in 'make', 'sh', 'mkdir', 'cp', 'touch', 'ls', 'grep', 'echo':
        (folder / 'bin' / program).symlink_to(shutil.which(program))
    add_program(folder / 'bin' / 'python3', 'exit 1')
    return folder


def add_program(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{code}\n')
    path.chmod(0o755)


def add_python(folder, version, pip='24.0', name=None):
    """Add a fake Python. It copies itself into a `.venv`, and logs what it is asked to install."""
    # Where pip would install TensorFlow
    packages = f'${{0%/bin/python}}/lib/python{version}/site-packages'
    add_program(
        folder / (name or f'bin/python{version}'),
        f"""case "$*" in
*'import ensurepip, venv') ;;
*'-m venv'*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*version_info*) echo {version} ;;
*'import pip'*) [ {pip} != 18.1 ] ;;
*'pip'*install*)
    echo "$@" >>installed
    case "$*" in
    *requirements.txt) mkdir -p {packages}/tensorflow_gpu-1.15.0.dist-info ;;
    *requirements-tf2.txt) mkdir -p {packages}/tensorflow-2.21.0.dist-info ;;
    *requirements-horovod-tf2.txt) mkdir -p {packages}/tensorflow-2.17.1.dist-info ;;
    esac ;;
*stacked_lstm*) echo training ;;
esac""",
    )


def make(folder, *arguments, target='train', system='Linux x86_64', stdout=subprocess.PIPE):
    """Call `make` with only the Pythons in `folder`; return (status, output lines, error lines)."""
    add_program(folder / 'bin' / 'uname', f'echo {system}')
    result = subprocess.run(
        ['make', '--no-print-directory', target, *arguments],
        check=False, cwd=str(folder), env={'PATH': str(folder / 'bin'), 'HOME': os.environ['HOME']},
        stdout=stdout, stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip
    return result.returncode, (result.stdout or '').splitlines(), result.stderr.splitlines()


def installed(folder):
    return (folder / 'installed').read_text().splitlines()


def test_help_lists_every_target():
    command = ['make', '--no-print-directory', '-C', str(ROOT), 'help']
    lines = subprocess.check_output(command, universal_newlines=True).splitlines()
    source = (ROOT / 'Makefile').read_text()
    targets = re.search(r'^\.PHONY: (.+)$', source, re.M).group(1).split()
    assert set(targets) == {line.split()[1] for line in lines if re.match(r'make \S+ ', line)}


def test_python_3_7_gets_tensorflow_1_15_and_its_size_is_printed(folder):
    add_python(folder, '3.7', pip='18.1')  # an old pip, which is upgraded first
    add_python(folder, '3.12')
    status, output, _ = make(folder)
    assert (status, output[0], output[-1]) == (0, 'Making .venv with Python 3.7.', 'training')
    assert output[1].startswith('Installing TensorFlow 1 and about 40 packages')
    upgrade, packages = installed(folder)
    assert upgrade.endswith(' pip==24.0')
    assert packages.endswith('install --requirement requirements.txt')


def test_pip_shows_its_progress_in_a_terminal_and_is_quiet_in_a_log(folder):
    add_python(folder, '3.7')
    terminal, end = pty.openpty()
    assert make(folder, stdout=end)[0] == make(folder, 'VENV=.venv2')[0] == 0
    os.close(terminal)
    os.close(end)
    assert ['--quiet' in command for command in installed(folder)] == [False, True]


@pytest.mark.parametrize('system', ['Linux x86_64', 'Darwin arm64'])
def test_without_1_15_it_installs_todays_tensorflow_and_says_why(folder, system):
    add_python(folder, '3.11')
    status, output, _ = make(folder, system=system)
    assert (status, output[-1]) == (0, 'training')
    why = 'Python 3.7 is not available' if 'Linux' in system else 'There is no TensorFlow 1.15 for'
    assert any(line.startswith(why) for line in output)
    (command,) = installed(folder)
    assert command.endswith('install --requirement requirements-tf2.txt')


@pytest.mark.parametrize(
    'arguments, system, problem',
    [
        ([], 'Linux x86_64', 'Install Python 3.12 yourself, then run make again.'),
        (['TF=1'], 'Linux x86_64', 'Install Python 3.7 with "pyenv install 3.7" or conda'),
        (['TF=1'], 'Darwin arm64', 'There is no TensorFlow 1.15 for Darwin arm64. Use TF=2.'),
        (['TF=3'], 'Linux x86_64', 'TF must be 1 or 2, got 3.'),
    ],
)
def test_without_a_suitable_python_it_says_what_to_install(folder, arguments, system, problem):
    add_python(folder, '3.8')
    status, _, errors = make(folder, *arguments, system=system)
    assert status == 2
    assert any(line.startswith(problem) for line in errors)


def test_todays_tensorflow_can_be_chosen_and_an_existing_venv_is_kept(folder):
    add_python(folder, '3.7')
    add_python(folder, '3.10')
    assert make(folder, 'TF=2')[0] == 0
    assert make(folder)[0] == 0  # it uses what is there
    (command,) = installed(folder)
    assert command.endswith('requirements-tf2.txt')
    status, output, errors = make(folder, 'TF=1')
    assert (status, output) == (2, [])
    assert errors[0] == (
        '.venv is for TensorFlow 2. Remove it (rm -r .venv), or use another folder: make train '
        'TF=1 VENV=.venv-tf1'
    )
    assert len(installed(folder)) == 1


def test_an_unusable_venv_is_reported(folder):
    python = folder / '.venv' / 'bin' / 'python'
    add_python(folder, '3.8', name=python)
    status, _, errors = make(folder)
    problem = '.venv has Python 3.8, for which there is no TensorFlow. Remove it'
    assert (status, errors[0][: len(problem)]) == (2, problem)
    python.unlink()
    python.symlink_to('/nowhere/python3.7')
    status, _, errors = make(folder)
    problem = '.venv uses a Python that is gone. Remove it (rm -r .venv), then run make again.'
    assert (status, errors[0]) == (2, problem)


def horovod(folder, *arguments):
    """Call `make horovod` with cmake and g++ in place; return what `make` returns."""
    for tool in 'cmake', 'g++':
        add_program(folder / 'bin' / tool, 'exit 1')
    return make(folder, *arguments, target='horovod')


def files(folder):
    return [re.findall(r'--requirement (\S+)', command)[0] for command in installed(folder)]


def test_horovod_is_built_for_1_15_and_in_another_folder_for_2_17(folder):
    for version in '3.7', '3.11', '3.13':
        add_python(folder, version)
    assert horovod(folder)[0] == 0
    status, output, _ = horovod(folder, 'TF=2', 'VENV=.venv-horovod')
    assert (status, output[0]) == (0, 'Making .venv-horovod with Python 3.11.')
    assert output[-1] == (
        'Building Horovod and installing it into .venv-horovod: about five minutes.'
    )
    build = 'requirements-horovod.txt'
    made = ['requirements.txt', build, 'requirements-horovod-tf2.txt', build]
    assert files(folder) == made
    os.utime(str(folder / 'requirements-tf2.txt'))  # newer, but for other folders
    os.utime(str(folder / 'requirements-horovod-tf2.txt'))
    assert make(folder, 'VENV=.venv-horovod')[0] == 0
    assert files(folder) == [*made, 'requirements-horovod-tf2.txt']


def test_horovod_is_refused_for_another_tensorflow(folder):
    for version in '3.7', '3.11':
        add_python(folder, version)
    assert make(folder, 'TF=2')[0] == 0
    for arguments in [], ['TF=2']:
        status, _, errors = horovod(folder, *arguments)
        assert (status, errors[0]) == (
            2,
            'Horovod needs TensorFlow 1.15 or 2.17, but .venv has another. Remove it (rm -r '
            '.venv), or use another folder: make horovod TF=2 VENV=.venv-horovod',
        )
    assert files(folder) == ['requirements-tf2.txt']
    status, _, errors = horovod(folder, 'TF=1')
    assert (status, errors[0]) == (
        2,
        '.venv is for TensorFlow 2. Remove it (rm -r .venv), or use another folder: make horovod '
        'TF=1 VENV=.venv-tf1',
    )


@pytest.mark.parametrize('tool', ['cmake', 'g++'])
def test_a_missing_build_tool_of_horovod_is_named(folder, tool):
    add_python(folder, '3.7')
    add_program(folder / 'bin' / {'cmake': 'g++', 'g++': 'cmake'}[tool], 'exit 1')
    status, _, errors = make(folder, target='horovod')
    assert (status, errors[0]) == (
        2, f'Building Horovod needs {tool}. Install it, then run make again.'
    )  # fmt: skip
