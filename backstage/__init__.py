"""What keeps a run safe, fast and comfortable. The script calls it, and not the other way round.

Importing any room of it first finds TensorFlow, or ends the program with one sentence.
"""

import importlib.util
import os
import sys

# TensorFlow reads these as it is imported. What the shell has set comes first.
# At 3 its C++ part logs nothing: at 2 it would name each CUDA library that a machine without a GPU
# does not have. What goes wrong is raised in Python all the same.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Keep freed memory for the next step. Handed back to the system and asked for again, the same
# pages cost up to a tenth of the time of a step on a CPU.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')

try:
    import tensorflow as tf

    if not tf.__version__.startswith('1.15'):
        raise ImportError(f'TensorFlow {tf.__version__} instead of 1.15')
    for package in ('numpy', 'matplotlib', 'requests', 'tqdm', 'tensorboard'):
        if not importlib.util.find_spec(package):  # some are imported much later
            raise ImportError(f'No module named {package!r}')
except Exception as problem:  # not only ImportError: a wrong protobuf raises TypeError
    reason = str(problem).strip().split('\n')[0]
    print(
        f'Python 3.7 with the packages of requirements.txt is needed, not {sys.executable} '
        f'(Python {sys.version.split()[0]}: {reason}).',
        file=sys.stderr,
    )
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)  # what a shell reports of a program that Ctrl-C ended

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # contrib's deprecations
