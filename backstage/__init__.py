"""What keeps a run safe, fast and convenient. The script calls it, never the other way round.

`tf` is TensorFlow with its 1.x interface, even if a 2.x is installed. No other file checks which
one it is. It is imported on first use: the import takes seconds, and `--help` needs no TensorFlow.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import sys
import threading
import types
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PACKAGES = 'tensorflow', 'numpy', 'matplotlib', 'requests', 'tqdm', 'tensorboard'

# TensorFlow reads these variables on import. Values that the shell has set win.
# Level 3 silences the C++ log. Level 2 would name each CUDA library that a machine without a GPU
# lacks. Errors are still raised in Python.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Keep freed memory for the next step. Returning pages to the system and requesting them again
# costs up to a tenth of a step's time on a CPU.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')


def leave_signals_to_the_system():
    """Let Ctrl-C end the script or a tool like any Unix program, and ignore SIGUSR1.

    TensorFlow's C functions call Python, and some ignore its errors. A KeyboardInterrupt raised
    there is lost or crashes the process. SIGUSR1 requests a checkpoint; before a run there is
    nothing to save. A notebook or a Python prompt lives on and gets KeyboardInterrupt as usual.
    """
    path = os.path.realpath(getattr(sys.modules['__main__'], '__file__', None) or os.devnull)
    is_script = path == os.path.join(ROOT, 'stacked_lstm_shakespeare.py')
    is_tool = os.path.dirname(path) == os.path.join(ROOT, 'tools')
    has_prompt = sys.flags.inspect or hasattr(sys, 'ps1')  # `python -i`, and %run of IPython
    if has_prompt or not (is_script or is_tool):
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def numbers_of(version):
    return tuple(map(int, version.split('.')[:2]))


def is_supported(version):
    return numbers_of(version) == (1, 15) or (2, 15) <= numbers_of(version) <= (2, 21)


def for_this_python():
    """Return pip's arguments for a supported TensorFlow; [] if this Python has none."""
    if (3, 6) <= sys.version_info < (3, 8):
        return ['tensorflow==1.15.*', 'protobuf<4']
    if (3, 9) <= sys.version_info < (3, 14):
        return ['tensorflow>=2.15,<2.22', 'tf_keras<2.22']
    return []


def missing_packages():
    """Return pip's arguments for the missing packages, a list of str."""
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    # Since 2.16, TensorFlow needs tf_keras, a separate package with the same version number.
    if 'tensorflow' not in missing and not importlib.util.find_spec('tf_keras'):
        for folder in sys.path:
            with contextlib.suppress(OSError):  # a zip file, or an unreadable folder
                for name in os.listdir(folder):
                    found = re.match(r'tensorflow(_cpu|_macos|_rocm)?-(2\.\d+).*\.dist-info$', name)
                    if found and is_supported(found.group(2)) and found.group(2) != '2.15':
                        return [f'tf_keras=={found.group(2)}.*', *missing]
    return missing


def end(problem, packages=()):
    """End the program with one line. It ends with the command that installs `packages`."""
    line = f'{os.path.basename(sys.argv[0])}: {problem}.'
    if 'tensorflow' in packages:
        line += f' To set up .venv with everything: make -C {shlex.quote(ROOT)} train.'
        wanted = {'tensorflow': for_this_python()}
        if not wanted['tensorflow']:
            line += ' TensorFlow 1.15 needs Python 3.6 or 3.7; 2.15 to 2.21 need 3.9 to 3.13.'
            packages = ()
        packages = [word for name in packages for word in wanted.get(name, [name])]
    if packages:
        words = map(shlex.quote, [sys.executable, '-m', 'pip', 'install', *packages])
        # A notebook keeps the modules that it has imported.
        is_notebook = 'IPython' in sys.modules
        how = ' (then restart the kernel): !' if is_notebook else ': '
        line += f' To install what is needed{how}{" ".join(words)}'
    print(line, file=sys.stderr)
    sys.exit(2)


def end_without(package, error):
    """End the program because an installed package cannot be imported."""
    problem = f'{package} cannot be imported: {first_line(error)}'
    if isinstance(error, MemoryError) or 'failed to map segment' in problem:
        end(f'{problem}. Free some memory, or raise the limit of "ulimit -v"')
    end(problem, ['--force-reinstall', 'tensorflow'])


def first_line(error):
    """Return the message of an error, without the graph that TensorFlow adds, or else its type."""
    text = str(getattr(error, 'message', error)).split('Original error:')[-1]
    text = re.split(r"^Node: '.*\n", text, flags=re.MULTILINE)[-1]  # after the node's traceback
    return (text.strip() or type(error).__name__).split('\n')[0].rstrip('.')


def check_packages():
    """End the program if a package is missing. Imports only NumPy."""
    missing = missing_packages()
    if missing:
        python = f'{sys.executable} (Python {sys.version.split()[0]})'
        end(f'{python} lacks {", ".join(missing)}', missing)
    try:
        import numpy  # noqa: F401  without enough memory it says so and ends the process
    except Exception as error:  # not only ImportError
        end_without('NumPy', error)


@contextlib.contextmanager
def no_log():
    """Drop what TensorFlow 2 logs before it reads the log level, unless the user wants a log."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # standard error may be closed
            if os.environ['TF_CPP_MIN_LOG_LEVEL'] >= '3':
                errors = os.dup(2)
                stack.callback(os.close, errors)
                stack.callback(os.dup2, errors, 2)  # called before the line above
                os.dup2(stack.enter_context(open(os.devnull, 'w')).fileno(), 2)
        yield


def find_tensorflow():
    """Return TensorFlow with its 1.x interface: 1.15 itself, or the compat.v1 module of a 2.x.

    Raises:
      Exception: of any kind, if TensorFlow is damaged or its version is not supported.
    """
    if importlib.util.find_spec('tf_keras'):  # Keras 2; recent TensorFlow comes with Keras 3
        os.environ['TF_USE_LEGACY_KERAS'] = '1'
    import tensorflow

    module, version = tensorflow, tensorflow.__version__
    if not is_supported(version):
        raise ImportError(f'its version must be 1.15 or 2.15 to 2.21, got {version}')
    module.compat.v1.logging.set_verbosity(module.compat.v1.logging.ERROR)  # known deprecations
    if numbers_of(version) > (2,):
        module = module.compat.v1
        module.disable_v2_behavior()
        module.contrib = types.SimpleNamespace(rnn=module.nn.rnn_cell)
    module.contrib.rnn.BasicLSTMCell  # noqa: B018  imports its package, which is loaded lazily
    return module


def load_tensorflow():
    """Return TensorFlow, imported on the first call, or end the program with one line."""
    with LOCK:  # two threads may call at once
        if not LOADED:
            was_imported = 'tensorflow' in sys.modules  # by an earlier cell of a notebook
            try:
                with warnings.catch_warnings(), no_log():
                    warnings.simplefilter('ignore')  # `python -W error` would raise them
                    LOADED.append(find_tensorflow())
            except Exception as error:  # not only ImportError
                if was_imported:
                    why = first_line(error)
                    end(f'TensorFlow was already imported ({why}). Restart the kernel')
                end_without('TensorFlow', error)
            warnings.filterwarnings('ignore', '`tf.nn.rnn_cell', UserWarning)
            warnings.filterwarnings('ignore', category=DeprecationWarning, module='tensorflow')
        return LOADED[0]


class LazyTensorFlow(types.ModuleType):
    """TensorFlow, imported when one of its attributes is first used."""

    def __getattr__(self, name):
        if name.startswith('_') and name != '__version__':  # tools that inspect modules ask
            raise AttributeError(name)
        return getattr(load_tensorflow(), name)


leave_signals_to_the_system()
LOCK, LOADED = threading.RLock(), []
check_packages()
tf = LazyTensorFlow('tf')
