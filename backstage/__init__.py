"""What keeps a run safe, fast and comfortable. The script calls it, and not the other way round.

Importing any room of it first finds TensorFlow, or ends the program with one line. This is the
only file that asks which TensorFlow it is: `tf` has the interface of 1.x, also where it is a 2.x.
"""

import contextlib
import importlib.util
import os
import shlex
import sys
import textwrap
import types
import warnings

from backstage import interrupts

interrupts.end_while_importing()

# TensorFlow reads these as it is imported. What the shell has set comes first.
# At 3 its C++ part logs nothing: at 2 it would name each CUDA library that a machine without a GPU
# does not have. What goes wrong is raised in Python all the same.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Keep freed memory for the next step. Handed back to the system and asked for again, the same
# pages cost up to a tenth of the time of a step on a CPU.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')

PACKAGES = 'numpy', 'matplotlib', 'requests', 'tqdm', 'tensorboard'  # some are imported much later
SERVING = '1.15 or 2.15 to 2.21'
MAKE = f'make -C {shlex.quote(interrupts.HOME)} train'


def serves(version):
    """Return whether a TensorFlow of this version, such as '2.21.0', has all that is used here."""
    numbers = numbers_of(version)
    return numbers == (1, 15) or (2, 15) <= numbers <= (2, 21)


def numbers_of(version):
    return tuple(map(int, version.split('.')[:2]))


def for_this_python():
    """Return what pip has to be told to install a TensorFlow that serves: [] where it has none."""
    if (3, 6) <= sys.version_info < (3, 8):
        return ['tensorflow==1.15.*', 'protobuf<4']
    if (3, 9) <= sys.version_info < (3, 14):
        return ['tensorflow>=2.15,<2.22', 'tf_keras<2.22']
    return []


def installed_tensorflow():
    """Return the name and the version of the package that brings TensorFlow; None: not known."""
    for name in 'tensorflow', 'tensorflow-cpu', 'tensorflow-macos', 'tensorflow-rocm':
        with contextlib.suppress(ImportError):  # no such package; on Python 3.6 and 3.7 no metadata
            from importlib import metadata

            return name, metadata.version(name)
    return None


def end(problem, packages=()):
    """End the program with one line, which ends with the command that installs packages."""
    line = f'{os.path.basename(sys.argv[0])}: {problem}.'
    if packages:
        words = map(shlex.quote, [sys.executable, '-m', 'pip', 'install', *packages])
        is_notebook = 'IPython' in sys.modules
        # What a notebook has imported stays as it is, whatever is installed.
        is_loaded = any(name.split('.')[0] in ('tensorflow', 'keras') for name in sys.modules)
        then = ' (and restart the kernel then)' if is_notebook and is_loaded else ''
        line += f' To install what is needed{then}: {"!" * is_notebook}{" ".join(words)}'
    print(line, file=sys.stderr)
    sys.exit(2)


def check_packages():
    """End the program where a package lacks, or does not serve. TensorFlow is not imported."""
    if sys.flags.optimize > 1:
        end('TensorFlow needs its docstrings. Start Python without -OO or PYTHONOPTIMIZE=2')
    python = f'{sys.executable} (Python {sys.version.split()[0]})'
    lacks = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    version = INSTALLED[1] if INSTALLED else ''
    if not importlib.util.find_spec('tensorflow'):
        end_without_tensorflow(f'{python} lacks {", ".join(["tensorflow", *lacks])}', lacks)
    if version and not serves(version):
        end_without_tensorflow(f'{python} has TensorFlow {version}, and needs {SERVING}', lacks)
    if version and numbers_of(version) > (2, 15) and not importlib.util.find_spec('tf_keras'):
        lacks.insert(0, 'tf_keras=={}.{}.*'.format(*numbers_of(version)))
    if lacks:
        end(f'{python} lacks {", ".join(lacks)}', lacks)


def end_without_tensorflow(problem, lacks):
    """End the program where a TensorFlow that serves has to be installed, and what else lacks."""
    packages = for_this_python()
    if not packages:
        end(
            f'{problem}. TensorFlow 1.15 is for Python 3.6 and 3.7, 2.15 to 2.21 for 3.9 to 3.13. '
            f'{MAKE} sets up .venv with one of them'
        )
    end(f'{problem}. {MAKE} sets up .venv with all of it', [*packages, *lacks])


@contextlib.contextmanager
def no_log_of_import():
    """Keep what C++ writes to standard error away, unless a log is wanted.

    Some lines of TensorFlow 2 come before it knows the level.
    """
    try:
        errors = os.dup(2) if os.environ['TF_CPP_MIN_LOG_LEVEL'] >= '3' else None
    except OSError:  # there is no standard error
        errors = None
    if errors is None:
        yield
        return
    with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)


def find_tensorflow():
    """Return TensorFlow with the interface of 1.x: 1.15 itself, or that part of a 2.x.

    Raises:
      Exception: of any kind, where it is damaged, or of a version that does not serve.
    """
    if importlib.util.find_spec('tf_keras'):  # Keras 2, beside the Keras 3 of today's TensorFlow
        os.environ['TF_USE_LEGACY_KERAS'] = '1'
    import tensorflow as tf

    if not serves(tf.__version__):
        raise ImportError(f'it is {tf.__version__}, and has to be {SERVING}')
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # deprecations, all known
    if numbers_of(tf.__version__) > (2,):
        tf = tf.compat.v1
        tf.disable_v2_behavior()
        tf.contrib = types.SimpleNamespace(rnn=tf.nn.rnn_cell)
    tf.contrib.rnn.BasicLSTMCell  # noqa: B018  what it is in is imported only now
    return tf


def reason(error):
    """Return what an error says, as one line. One that explains at length hides what led to it."""
    while '\n' in str(error).strip() and error.__context__:
        error = error.__context__
    first = (str(error).strip() or type(error).__name__).split('\n')[0].rstrip('.')
    return textwrap.shorten(first, 200, placeholder='…')


def end_without_import(error, was_imported):
    """End the program where TensorFlow is installed, and could not be imported."""
    why = reason(error)
    problem = f'TensorFlow could not be imported: {why}'
    if was_imported:
        end(f'{problem}. It was imported here before. Restart the kernel')
    signs = 'MemoryError', 'failed to map segment', 'Cannot allocate memory'
    if any(sign in repr(error) or sign in why for sign in signs):
        end(f'{problem}. It needs more memory than is free, or than "ulimit -v" allows')
    if why.startswith('Descriptors cannot'):
        end('TensorFlow could not be imported: this protobuf is too new for it', ['protobuf<4'])
    packages = ['=='.join(INSTALLED)] if INSTALLED else for_this_python()
    end(problem, packages and ['--force-reinstall', *packages])


INSTALLED = installed_tensorflow()
check_packages()
was_imported = 'tensorflow' in sys.modules  # in an earlier cell of a notebook
try:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # `python -W error` would make errors of them
        import numpy  # noqa: F401  where it lacks memory it says so, and ends the process

        with no_log_of_import():
            tf = find_tensorflow()
except Exception as error:  # not only ImportError
    end_without_import(error, was_imported)
# What is deprecated is known, and in 1.15 more is.
warnings.filterwarnings('ignore', '`tf.nn.rnn_cell', UserWarning)
warnings.filterwarnings('ignore', category=DeprecationWarning, module='tensorflow')
