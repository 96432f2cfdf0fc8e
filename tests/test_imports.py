"""TensorFlow is imported only when needed. If it is missing, one line says what to install."""

import os
import pathlib
import shlex
import shutil
import sys

import backstage

import numpy as np
import pytest
from conftest import ROOT, SCRIPT, SMALL, end, run_script, start

SITE = pathlib.Path(np.__file__).parents[1]
IS_NEW = sys.version_info >= (3, 9)  # this Python has TensorFlow 2
INSTALL = f'{shlex.quote(sys.executable)} -m pip install '
FOR_THIS_PYTHON = (
    "'tensorflow>=2.15,<2.22' 'tf_keras<2.22'" if IS_NEW else "'tensorflow==1.15.*' 'protobuf<4'"
)


# For `python -c`, after other code: run the script with the arguments that follow.
RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


# The programs of the project do not import these before they need them.
LATER = {'tensorflow', 'tf_keras', 'tensorboard', 'matplotlib', 'requests'}
ASK = f"""
import atexit, runpy, sys
atexit.register(lambda: print('imported:', {LATER} & set(sys.modules)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.parametrize(
    'program, argument, status',
    [
        ('stacked_lstm_shakespeare.py', '--help', 0),
        ('stacked_lstm_shakespeare.py', '--ephocs=2', 2),
        ('tools/sample.py', '--temp_dir=nowhere', 2),
        ('tools/__main__.py', '--help', 0),
    ],
)
def test_help_and_mistakes_do_not_import_tensorflow(program, argument, status, tmp_path):
    found, output, _ = end(start(sys.executable, '-c', ASK, ROOT / program, argument, cwd=tmp_path))
    assert (found, output.split('\n')[-2]) == (status, 'imported: set()')


def test_tensorflow_has_the_interface_of_1_x():
    tf = backstage.tf
    assert not hasattr(tf, '__wrapped__')  # programs that inspect modules ask for it
    assert (tf.executing_eagerly(), bool(tf.contrib.rnn.BasicLSTMCell)) == (False, True)
    assert backstage.is_supported(tf.__version__)


def link_packages(folder, *without):
    """Make a folder with links to all installed packages, without some of them."""
    folder.mkdir(exist_ok=True)
    for path in SITE.iterdir():
        if path.name not in without:
            (folder / path.name).symlink_to(path)
    return folder


def refusal(tmp_path, packages, *arguments, python=(sys.executable, '-S')):
    """Run the script with only the packages in some folders; return the one line that it prints.

    It must not write anything.
    """
    work = tmp_path / 'work'
    work.mkdir()
    status, output, errors = run_script(
        *arguments, cwd=work, python=python, PYTHONPATH=os.pathsep.join(map(str, packages))
    )
    assert (status, output, errors.count('\n')) == (2, '', 1), errors
    assert not list(work.iterdir())
    program, line = errors.rstrip('\n').split(': ', 1)
    assert program == SCRIPT.name
    assert '..' not in line and 'Traceback' not in line
    return line


def test_after_pip_install_tensorflow_one_line_installs_the_rest(tmp_path):
    packages = link_packages(tmp_path / 'packages', 'tf_keras', 'matplotlib', 'tqdm')
    line = refusal(tmp_path, [packages])
    words = "'tf_keras==2.21.*' matplotlib tqdm" if IS_NEW else 'matplotlib tqdm'
    assert line.startswith(f'{sys.executable} (Python {sys.version.split()[0]}) lacks ')
    assert line.endswith(f': {INSTALL}{words}')


def test_supported_versions(monkeypatch):
    supported = ['1.15.0', '1.15.5', '2.15.0', '2.21.0']
    others = ['1.14.0', '2.1.0', '2.14.1', '2.22.0', '3.0.0']
    assert list(filter(backstage.is_supported, supported + others)) == supported
    has_one = []
    for minor in range(5, 15):
        monkeypatch.setattr(backstage.sys, 'version_info', (3, minor, 2))
        has_one += [minor] * bool(backstage.for_this_python())
    assert has_one == [6, 7, 9, 10, 11, 12, 13]


@pytest.mark.parametrize(
    'error, why, advice',
    [
        (ValueError('It is broken.'), 'It is broken. To set up ', '--force-reinstall '),
        (KeyError(), 'KeyError. To set up ', '--force-reinstall '),
        (
            TypeError('Descriptors cannot not be created directly.\nSee'),
            *('Descriptors cannot not be created directly. To set up ', FOR_THIS_PYTHON),
        ),
        (MemoryError(), 'MemoryError. Free some memory', 'ulimit'),
        (ImportError('x.so: failed to map segment'), 'segment. Free some memory', 'ulimit'),
    ],
)
def test_a_failed_import_of_tensorflow_is_explained(error, why, advice, capsys):
    with pytest.raises(SystemExit) as end:
        backstage.end_without('TensorFlow', error)
    line = capsys.readouterr().err
    assert (end.value.code, line.count('\n')) == (2, 1)
    assert ': TensorFlow cannot be imported: ' in line and why in line and advice in line


def test_no_command_is_named_if_this_python_has_no_tensorflow(monkeypatch, capsys):
    monkeypatch.setattr(backstage.sys, 'version_info', (3, 8, 0))
    for error in ImportError('its version must be another'), ValueError():
        with pytest.raises(SystemExit):
            backstage.end_without('TensorFlow', error)
        line = capsys.readouterr().err
        assert 'TensorFlow 1.15 needs Python 3.6 or 3.7; 2.15 to 2.21 need 3.9 to 3.13.' in line
        assert 'pip' not in line


def test_the_missing_keras_is_found_on_any_path(tmp_path, monkeypatch):
    monkeypatch.setattr(backstage.importlib.util, 'find_spec', lambda name: name != 'tf_keras')
    (tmp_path / 'a.zip').touch()
    for number, version in enumerate(['1.15.0', '2.15.1', '2.21.0', '2.22.0']):
        site = tmp_path / str(number)
        (site / f'tensorflow_cpu-{version}.dist-info').mkdir(parents=True)
        paths = ['', str(tmp_path / 'a.zip'), str(tmp_path / 'nowhere'), str(site)]
        monkeypatch.setattr(backstage.sys, 'path', paths)
        expected = ['tf_keras==2.21.*'] if version == '2.21.0' else []
        assert backstage.missing_packages() == expected


@pytest.mark.parametrize(
    'source, metadata, why',
    [
        ("raise ValueError('It is broken.')", '', 'imported: It is broken. To set up '),
        (
            "__version__ = '2.10.1'",
            '',
            'imported: its version must be 1.15 or 2.15 to 2.21, got 2.',
        ),
    ],
)
def test_an_unusable_tensorflow_ends_the_script_before_it_writes_anything(
    tmp_path, source, metadata, why
):
    (tmp_path / 'tensorflow.py').write_text(source)
    (tmp_path / 'tensorflow_estimator-2.15.0.dist-info').mkdir()
    (tmp_path / metadata).mkdir(exist_ok=True)
    packages = link_packages(tmp_path / 'packages')
    for path in packages.glob('tensorflow*.dist-info'):
        path.unlink()
    line = refusal(tmp_path, [tmp_path, packages])
    assert why in line and FOR_THIS_PYTHON in line


@pytest.mark.long
@pytest.mark.parametrize(
    'python',
    [
        (sys.executable, '-O'),
        (sys.executable, '-W', 'error'),
        # An earlier cell of a notebook has used TensorFlow.
        (
            *(sys.executable, '-c'),
            f'import tensorflow as tf; tf.constant(1.) + 1; tf.keras.layers.Dense(1); {RUN}',
        ),
    ],
    ids=['-O', '-W error', 'notebook'],
)
def test_it_trains_with_any_python_flags_and_after_other_code(tmp_path, works, python):
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_010_000])
    arguments = [*SMALL, '--text_file=short.txt', '--max_iterations=2']
    how = {'TF_USE_LEGACY_KERAS': '0'} if '-c' in python else {}
    status, output, errors = run_script(*arguments, cwd=tmp_path, python=python, **how)
    assert status == 0 and 'Final held-out loss' in output
    assert not errors or '-c' in python


@pytest.mark.skipif(not IS_NEW, reason='TensorFlow 1.15 has no Keras 3')
def test_lstm_cells_loaded_from_keras_3_need_a_restart(tmp_path):
    cell = "import tensorflow as tf; hasattr(tf.compat.v1.nn.rnn_cell, 'BasicLSTMCell')"
    python = (sys.executable, '-c', f'{cell}; {RUN}')
    status, _, errors = run_script(cwd=tmp_path, python=python, TF_USE_LEGACY_KERAS='0')
    assert status == 2
    assert 'TensorFlow was already imported (' in errors.splitlines()[-1]


def test_in_a_notebook_the_line_can_be_pasted_and_mentions_the_restart(tmp_path):
    packages = link_packages(tmp_path / 'packages', 'tqdm')
    cells = f"import tensorflow\nget_ipython().run_line_magic('run', {str(SCRIPT)!r})"
    (tmp_path / 'tensorflow.py').touch()
    _, _, errors = end(
        start(
            sys.executable, '-S', '-m', 'IPython', '-c', cells, cwd=tmp_path,
            PYTHONPATH=f'{tmp_path}:{packages}', IPYTHONDIR=str(tmp_path),
        )
    )  # fmt: skip
    line = errors.splitlines()[0]
    assert line.endswith(f' (then restart the kernel): !{INSTALL}tqdm')


def test_the_script_alone_says_that_it_needs_the_project(tmp_path):
    shutil.copy(str(SCRIPT), str(tmp_path))
    status, output, errors = end(start(sys.executable, SCRIPT.name, cwd=tmp_path, PYTHONPATH=''))
    assert (status, output, errors.count('\n')) == (1, '', 1)
    assert f'{SCRIPT.name} needs the rest of the project, such as backstage/, beside it.' in errors
