"""What keeps a run safe, fast and comfortable. The script calls it, and not the other way round.

Importing any room of it first finds TensorFlow, or ends the program with one sentence. This is the
only file that asks which TensorFlow it is: `tf` has the interface of 1.x, also where it is a 2.x.
"""

import contextlib
import importlib.util
import os
import sys
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
    """Return TensorFlow with the interface of 1.x: 1.15 itself, or that part of a 2.x."""
    import tensorflow as tf

    version = tuple(map(int, tf.__version__.split('.')[:2]))
    if version != (1, 15) and not (2, 15) <= version < (3,):
        raise ImportError(f'TensorFlow {tf.__version__} instead of 1.15, or 2.15 to 2.21')
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # deprecations, all known
    if version > (2,):
        tf = tf.compat.v1
        tf.disable_v2_behavior()
        warnings.filterwarnings('ignore', '`tf.nn.rnn_cell', UserWarning)  # is deprecated too
        tf.contrib = types.SimpleNamespace(rnn=tf.nn.rnn_cell)
        tf.contrib.rnn.BasicLSTMCell  # noqa: B018  it is in Keras 2, which is found only now
    return tf


try:
    if importlib.util.find_spec('tf_keras'):  # Keras 2, beside the Keras 3 of today's TensorFlow
        os.environ['TF_USE_LEGACY_KERAS'] = '1'
    for package in ('numpy', 'matplotlib', 'requests', 'tqdm', 'tensorboard'):
        if not importlib.util.find_spec(package):  # some are imported much later
            raise ImportError(f'No module named {package!r}')
    with no_log_of_import():
        tf = find_tensorflow()
except Exception as problem:  # not only ImportError: a wrong protobuf raises TypeError
    reason = str(problem).strip().split('\n')[0]
    wanted = 'requirements.txt' if sys.version_info < (3, 9) else 'requirements-tf2.txt'
    print(
        f'{sys.executable} (Python {sys.version.split()[0]}) lacks the packages of {wanted}: '
        f'{reason}. Once "make train" has set up .venv, ". .venv/bin/activate" brings them.',
        file=sys.stderr,
    )
    sys.exit(2)
