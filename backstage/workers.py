"""Several processes that train one model together, each on its share of the streams.

`horovodrun -np 2 python stacked_lstm_shakespeare.py` starts two of them (Sergeev and Del Balso,
"Horovod: fast and easy distributed deep learning in TensorFlow", 2018). A process that is started
by itself is alone, and what is to be shared is its own. All take the same steps in the same order;
what one of them calls below, all of them have to call.
"""

import contextlib
import functools
import os
import shlex
import sys

from backstage import ROOT, load_tensorflow, machine, tf
from backstage.settings import PATHS, UserError

horovod = None  # the module horovod.tensorflow, initialized; None for a process that is alone


def is_launched():
    """Return whether this process was started as one of several."""
    # Horovod's launcher sets the first, and is heard before those of MPI, and srun.
    names = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS')
    sizes = [os.environ[name] for name in names if os.environ.get(name)]
    return sizes[:1] not in ([], ['1'])


def join(settings):
    """Join the workers to which this process belongs, as horovodrun tells in its environment.

    Raises:
      UserError: Horovod is not installed, or does not know of the others, or there are fewer GPUs
        than workers, or the settings differ, or the batch cannot be shared among the workers.
    """
    load_tensorflow()  # if that fails, nothing has been written; Horovod would hide why
    if not is_launched():
        return
    global horovod  # noqa: PLW0603  a fact of the process, not a parameter of what runs in it
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        make = f'make -C {shlex.quote(ROOT)} horovod'
        raise UserError(f'Horovod cannot be used ({error}). To install it: {make}')
    horovod.init()
    if count() == 1:  # each would take itself for a run of its own
        horovod = None
        several = 'this is one of several processes, and Horovod, without MPI, knows of no other'
        raise UserError(f'{several}. Start them with horovodrun instead of mpirun or srun')
    keep_to_cores(horovod.local_rank(), horovod.local_size())
    allowed = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpu = gpu_of(horovod.local_rank(), horovod.local_size(), allowed)
    os.environ['CUDA_VISIBLE_DEVICES'] = gpu
    compare(settings)
    batch_size = settings.batch_size
    if batch_size % count():
        shared = f'cannot be shared evenly among {count()} workers'
        raise UserError(f'batch_size is {batch_size}, and {shared}. Give another')
    if is_first():
        print(f'{count()} workers, each on {batch_size // count()} of the {batch_size} streams')


def compare(settings):
    """End all workers, with a sentence of the first, if their settings differ, but for paths.

    They would drift apart, or wait for each other for ever. (Hosts may have other scripts.)
    """
    differing, of_each = [], gather(vars(settings))
    for name in sorted(set().union(*of_each) - set(PATHS)):
        values = sorted({repr(one.get(name)) for one in of_each})
        differing += [f'{name} is {" or ".join(values)}'] * (len(values) > 1)
    if differing and not is_first():
        sys.exit(2)
    if differing:
        what = ', '.join(differing)
        raise UserError(f'{what} in the scripts or commands of the workers. Give all the same')


@contextlib.contextmanager
def together():
    """Let the first worker alone print, and tell what happened if another has ended.

    Raises:
      UserError: another worker has ended.
    """
    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, 'w'))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    except (tf.errors.UnknownError, tf.errors.AbortedError):  # what Horovod raises
        if count() == 1:
            raise
        raise UserError('another worker has ended, for its own reason; what was saved is not lost')


def count():
    """Return how many workers there are."""
    return horovod.size() if horovod else 1


def count_on_host():
    """Return how many of them are on this machine."""
    return horovod.local_size() if horovod else 1


def rank():
    """Return the number of this worker, from 0 on."""
    return horovod.rank() if horovod else 0


def is_first():
    """Return whether this is worker 0, the one that prints, saves and draws."""
    return rank() == 0


def rows(batch_size):
    """Return which streams of a batch this worker trains on, as a slice."""
    share = batch_size // count()
    return slice(rank() * share, (rank() + 1) * share)


def mean(tensors):
    """Return the mean of each tensor over all workers, in the graph of the model."""
    return horovod.grouped_allreduce(tensors) if horovod else tensors


def copy_of_first(variables):
    """Return an operation after which all have the values of worker 0."""
    return horovod.broadcast_variables(variables, 0) if horovod else tf.no_op()


def broadcast(value):
    """Return what worker 0 gives, any object. This and what follows waits for the last to call."""
    return _exchange('broadcast_object', value) if horovod else value


def gather(value):
    """Return what all give, in the order of their ranks: a list."""
    return _exchange('allgather_object', value) if horovod else [value]


def _exchange(operation, value):
    config = machine.session_config(1, 'cpu')
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        return getattr(horovod, operation)(value, session=session, name=operation)


def once_per_host(function, *arguments):
    """Return what a function returned on worker 0, after the first worker of each host called it.

    Raises:
      UserError: another host got something else.
    """
    own = function(*arguments) if not horovod or horovod.local_rank() == 0 else None
    result = broadcast(own)
    if own not in (None, result):
        raise UserError('the text is not the same on all hosts. Copy one to all of them')
    return result


def any_of(*flags):
    """Return for each bool whether one worker has it. Cheap enough to be asked after every step."""
    if not horovod:
        return flags
    session, own, total = _open_sum(len(flags))
    return (session.run(total, {own: flags}) > 0).tolist()


@functools.lru_cache(maxsize=None)
def _open_sum(size):
    """Return a session that stays open, float32 [size] to be fed, and its sum over all workers."""
    with tf.Graph().as_default() as graph:
        own = tf.placeholder(tf.float32, [size])
        total = horovod.allreduce(own, op=horovod.Sum, name=f'any_of_{size}')
    return tf.Session(graph=graph, config=machine.session_config(1, 'cpu')), own, total


def gpu_of(rank, count, allowed):
    """Return what CUDA_VISIBLE_DEVICES has to be for one of so many workers on a host, str.

    `allowed` is what it is for all of them, str, or None if it is not set.

    Raises:
      UserError: not every worker can have a GPU of its own.
    """
    if allowed in (None, '', '-1'):  # at -1 no GPU is to be used
        return str(rank) if allowed is None else allowed
    gpus = allowed.split(',')
    if len(gpus) < count:
        raise UserError(
            f'CUDA_VISIBLE_DEVICES is {allowed}, and {count} workers need as many GPUs. Start fewer'
        )
    return gpus[rank]


def keep_to_cores(rank, count):
    """Keep this thread and those that it starts to cores that no other worker of the host uses.

    Left to the system, workers meet on one core now and then, and all wait for the slowest.
    """
    if hasattr(os, 'sched_setaffinity'):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // count)
        first = rank * share % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])
