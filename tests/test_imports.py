"""TensorFlow is imported when needed; where something is missing, one line says what to install."""

import os
import pathlib
import shlex
import shutil
import sys
import time
from multiprocessing.pool import ThreadPool

import backstage

import numpy as np
import pytest
from conftest import ROOT, SCRIPT, SMALL, TOOLS, end, run_script, script, start

SITE = pathlib.Path(np.__file__).parents[1]
IS_NEW = sys.version_info >= (3, 9)  # and so has TensorFlow 2
INSTALL = f'{shlex.quote(sys.executable)} -m pip install '
FOR_THIS_PYTHON = (
    "'tensorflow>=2.15,<2.22' 'tf_keras<2.22'" if IS_NEW else "'tensorflow==1.15.*' 'protobuf<4'"
)


# What `python -c` makes of "script.py --setting=value": first some other code, then the script.
RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


# What a program of the project does not import before it needs it.
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
        ('tools/sample.py', '--help', 0),
        ('tools/sample.py', '--temp_dir=nowhere', 2),
        ('tools/__main__.py', '--help', 0),
    ],
)
def test_help_and_mistakes_do_not_wait_for_tensorflow(program, argument, status, tmp_path):
    found, output, _ = end(start(sys.executable, '-c', ASK, ROOT / program, argument, cwd=tmp_path))
    assert (found, output.split('\n')[-2]) == (status, 'imported: set()')


def test_importing_the_programs_imports_none_of_it_and_writes_nothing(tmp_path):
    names = ', '.join(one.__name__ for one in [script, *TOOLS])
    command = f'import sys, {names}; print({LATER} & set(sys.modules))'
    process = start(sys.executable, '-c', command, cwd=tmp_path, PYTHONDONTWRITEBYTECODE='1')
    assert end(process) == (0, 'set()\n', '')
    assert not list(tmp_path.iterdir())


def test_tensorflow_is_imported_at_the_first_use_with_the_interface_of_1_x(tmp_path):
    probe = (
        'import sys; from backstage import tf\n'
        'assert not hasattr(tf, "__wrapped__") and "tensorflow" not in sys.modules\n'
        'print(tf.executing_eagerly(), bool(tf.contrib.rnn.BasicLSTMCell), tf.__version__)'
    )
    status, output, errors = end(start(sys.executable, '-c', probe, cwd=tmp_path))
    assert (status, output.split()[:2], errors) == (0, ['False', 'True'], '')
    assert backstage.is_supported(output.split()[2])


def test_threads_that_use_it_first_wait_for_one_import(monkeypatch):
    def find_slowly():
        time.sleep(0.2)
        return object()

    monkeypatch.setattr(backstage, 'LOADED', [])
    monkeypatch.setattr(backstage, 'find_tensorflow', find_slowly)
    with ThreadPool(4) as pool:
        pool.map(lambda _: backstage.load_tensorflow(), range(4))
    assert len(backstage.LOADED) == 1


def link_packages(folder, *without):
    """Make a folder with links to all packages that are installed here, without some of them."""
    folder.mkdir(exist_ok=True)
    for path in SITE.iterdir():
        if path.name not in without:
            (folder / path.name).symlink_to(path)
    return folder


def refusal(tmp_path, packages, *arguments, python=(sys.executable, '-S')):
    """Run the script with the packages in some folders alone; return the one line that it prints.

    By then it must not have written anything.
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


def test_after_a_plain_pip_install_tensorflow_one_line_installs_the_rest(tmp_path):
    packages = link_packages(tmp_path / 'packages', 'tf_keras', 'matplotlib', 'tqdm')
    line = refusal(tmp_path, [packages])
    words = "'tf_keras==2.21.*' matplotlib tqdm" if IS_NEW else 'matplotlib tqdm'
    assert line.startswith(f'{sys.executable} (Python {sys.version.split()[0]}) lacks ')
    assert line.endswith(f': {INSTALL}{words}')


def test_without_any_package_the_line_installs_all_and_make_does_too(tmp_path):
    line = refusal(tmp_path, [])
    assert 'lacks tensorflow, numpy, matplotlib, requests, tqdm, tensorboard. make -C ' in line
    others = 'numpy matplotlib requests tqdm tensorboard'
    assert line.endswith(f': {INSTALL}{FOR_THIS_PYTHON} {others}')


def test_the_versions_of_tensorflow_that_are_supported():
    supported = ['1.15.0', '1.15.5', '2.15.0', '2.21.0']
    others = ['1.14.0', '2.1.0', '2.14.1', '2.22.0', '3.0.0']
    assert list(filter(backstage.is_supported, supported + others)) == supported


@pytest.mark.parametrize('package', ['tensorflow', 'tensorflow_cpu'])
def test_a_tensorflow_that_is_not_supported_is_named(tmp_path, package):
    (tmp_path / 'tensorflow.py').touch()
    (tmp_path / f'{package}-2.14.1.dist-info').mkdir()
    (tmp_path / 'tensorflow_estimator-2.15.0.dist-info').mkdir()
    line = refusal(tmp_path, [tmp_path, link_packages(tmp_path / 'packages')])
    assert ' has TensorFlow 2.14.1, and needs 1.15 or 2.15 to 2.21. make -C ' in line
    assert line.partition(INSTALL)[2].endswith(FOR_THIS_PYTHON)


def test_a_tensorflow_of_which_only_its_import_tells_the_version_is_named_too(tmp_path):
    (tmp_path / 'tensorflow.py').write_text("__version__ = '2.10.1'")
    packages = link_packages(tmp_path / 'packages')
    for path in packages.glob('tensorflow*.dist-info'):
        path.unlink()
    line = refusal(tmp_path, [tmp_path, packages])
    assert 'its version must be 1.15 or 2.15 to 2.21, got 2.10.1. To install' in line
    assert line.endswith(FOR_THIS_PYTHON)


def test_a_python_for_which_there_is_no_tensorflow_is_told_which_ones_have_one(tmp_path):
    python = (sys.executable, '-S', '-c', f'import sys; sys.version_info = (3, 8, 0); {RUN}')
    line = refusal(tmp_path, [SCRIPT.parent], python=python)
    assert 'TensorFlow 1.15 is for Python 3.6 and 3.7, 2.15 to 2.21 for 3.9 to 3.13. ' in line
    assert 'pip' not in line


def test_which_pythons_have_a_tensorflow(monkeypatch):
    has_one = []
    for minor in range(5, 15):
        monkeypatch.setattr(backstage.sys, 'version_info', (3, minor, 2))
        has_one += [minor] * bool(backstage.for_this_python())
    assert has_one == [6, 7, 9, 10, 11, 12, 13]


def raised(*errors):
    """Return the last of some errors, each raised while the one before it was handled."""
    for error, context in zip(errors[1:], errors):
        error.__context__ = context
    return errors[-1]


NO_FILE = ImportError('lib.so: no such file')
LONG = ImportError('Traceback (most recent call last):\n  File "x"\nImportError: lib.so')
MEMORY = 'It needs more memory than is free, or than "ulimit -v" allows.'


@pytest.mark.parametrize(
    'error, why, advice',
    [
        (raised(NO_FILE, LONG), 'lib.so: no such file. To install', '--force-reinstall '),
        (ValueError('It is broken.'), 'It is broken. To install', '--force-reinstall '),
        (KeyError(), 'KeyError. To install', '--force-reinstall '),
        (
            TypeError('Descriptors cannot not be created directly.\nSee'),
            *('Descriptors cannot not be created directly. To install', FOR_THIS_PYTHON),
        ),
        (MemoryError(), f'MemoryError. {MEMORY}', MEMORY),
        (ImportError('x.so: failed to map segment'), 'x.so: failed to map segment.', MEMORY),
    ],
)
def test_why_tensorflow_could_not_be_imported_is_told(error, why, advice, capsys):
    with pytest.raises(SystemExit) as end:
        backstage.end_without('TensorFlow', error)
    line = capsys.readouterr().err
    assert (end.value.code, line.count('\n')) == (2, 1)
    assert f': TensorFlow could not be imported: {why}' in line and advice in line


def test_a_damaged_tensorflow_ends_the_script_before_it_writes_anything(tmp_path):
    (tmp_path / 'tensorflow.py').write_text("raise ValueError('It is broken.')")
    line = refusal(tmp_path, [tmp_path, link_packages(tmp_path / 'packages')])
    assert line.startswith('TensorFlow could not be imported: It is broken. To install')


def test_a_damaged_numpy_is_named(tmp_path):
    packages = link_packages(tmp_path / 'packages', 'numpy')
    shutil.copytree(str(SITE / 'numpy'), str(packages / 'numpy'))
    for library in packages.glob('numpy/*core/_multiarray_umath*.so'):
        library.unlink()
    line = refusal(tmp_path, [packages])
    assert line.startswith('NumPy could not be imported: No module named ')
    assert "core._multiarray_umath'. To install" in line and '--force-reinstall' in line


@pytest.mark.skipif(sys.platform != 'linux', reason='ulimit -v limits nothing elsewhere')
def test_a_limit_of_memory_is_told(tmp_path):
    python = ('sh', '-c', 'ulimit -v 500000; exec "$@"', 'sh', sys.executable)
    assert refusal(tmp_path, [], python=python).endswith(
        f'failed to map segment from shared object. {MEMORY}'
    )


def test_python_oo_which_tensorflow_cannot_do_with_is_named(tmp_path):
    line = refusal(tmp_path, [], python=(sys.executable, '-OO'))
    assert line == 'TensorFlow needs its docstrings. Start Python without -OO or PYTHONOPTIMIZE=2.'


@pytest.mark.long
@pytest.mark.parametrize('flags', [('-O',), ('-W', 'error')], ids=' '.join)
def test_it_trains_whatever_python_makes_of_assertions_and_warnings(tmp_path, works, flags):
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_010_000])
    arguments = [*SMALL, '--text_file=short.txt', '--max_iterations=2']
    status, output, errors = run_script(*arguments, cwd=tmp_path, python=(sys.executable, *flags))
    assert (status, errors) == (0, '')
    assert 'Final held-out loss' in output


@pytest.mark.long
def test_a_tensorflow_that_an_earlier_cell_has_used_serves_too(tmp_path, works):
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_010_000])
    cell = 'import tensorflow as tf; tf.constant(1.) + 1; tf.keras.layers.Dense(1)'
    python = (sys.executable, '-c', f'{cell}; {RUN}')
    arguments = [*SMALL, '--text_file=short.txt', '--max_iterations=2']
    status, output, _ = run_script(*arguments, cwd=tmp_path, python=python, TF_USE_LEGACY_KERAS='0')
    assert status == 0 and 'Final held-out loss' in output


@pytest.mark.skipif(not IS_NEW, reason='TensorFlow 1.15 has no Keras 3')
def test_cells_that_an_earlier_cell_has_taken_from_keras_3_need_a_restart(tmp_path):
    cell = "import tensorflow as tf; hasattr(tf.compat.v1.nn.rnn_cell, 'BasicLSTMCell')"
    python = (sys.executable, '-c', f'{cell}; {RUN}')
    status, _, errors = run_script(cwd=tmp_path, python=python, TF_USE_LEGACY_KERAS='0')
    assert status == 2
    assert errors.splitlines()[-1].endswith('It was imported here before. Restart the kernel.')


def test_in_a_notebook_the_line_can_be_pasted_and_names_the_restart(tmp_path):
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
    assert line.endswith(f' (and restart the kernel then): !{INSTALL}tqdm')


def test_the_script_copied_alone_says_that_it_needs_the_project(tmp_path):
    shutil.copy(str(SCRIPT), str(tmp_path))
    status, output, errors = end(start(sys.executable, SCRIPT.name, cwd=tmp_path, PYTHONPATH=''))
    assert (status, output, errors.count('\n')) == (1, '', 1)
    assert f'{SCRIPT.name} needs the rest of the project, such as backstage/, beside it.' in errors
