"""Several processes (workers) that train one model together, each on its share of the streams.

`horovodrun -np 2 python stacked_lstm_shakespeare.py` starts two workers (Sergeev and Del Balso,
"Horovod: fast and easy distributed deep learning in TensorFlow", 2018). A process started by itself
is the only worker. All workers take the same steps in the same order: a function here that one of
them calls, all must call.
"""

import contextlib
import functools
import os
import shlex
import sys

from backstage import ROOT, load_tensorflow, machine, tf
from backstage.settings import PATHS, UserError

horovod = None  # the module horovod.tensorflow, initialized; None if there is only one worker


def is_launched():
    """Return whether this process was started as one of several."""
    # The first is from horovodrun and takes precedence over those of MPI and srun.
    names = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS')
    sizes = [os.environ[name] for name in names if os.environ.get(name)]
    return sizes[:1] not in ([], ['1'])


def join(settings):
    """Join the other workers, which horovodrun describes in the environment.

    Raises:
      UserError: Horovod is not installed or does not see the others, there are fewer GPUs than
        workers, the settings differ, or batch_size is not a multiple of the number of workers.
    """
    load_tensorflow()  # report a failure here, before writing anything; Horovod would hide it
    if not is_launched():
        return
    global horovod  # noqa: PLW0603  the same for the whole process
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        make = f'make -C {shlex.quote(ROOT)} horovod'
        raise UserError(f'Horovod cannot be used ({error}). To install it: {make}')
    horovod.init()
    if count() == 1:  # each process would start its own run
        horovod = None
        several = 'this is one of several processes, but Horovod, without MPI, sees no other'
        raise UserError(f'{several}. Start them with horovodrun instead of mpirun or srun')
    keep_to_cores(horovod.local_rank(), horovod.local_size())
    allowed = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpu = gpu_of(horovod.local_rank(), horovod.local_size(), allowed)
    os.environ['CUDA_VISIBLE_DEVICES'] = gpu
    compare(settings)
    batch_size = settings.batch_size
    if batch_size % count():
        wanted = f'a multiple of {count()}, the number of workers'
        raise UserError(f'batch_size must be {wanted}, got {batch_size}')
    if is_first():
        print(f'{count()} workers, each on {batch_size // count()} of the {batch_size} streams')


def compare(settings):
    """End all workers if their settings differ, except for paths. Worker 0 prints why.

    Otherwise, their models would diverge, or they would wait for each other forever. (Hosts may
    have different versions of the script.)
    """
    differing, of_each = [], gather(vars(settings))
    for name in sorted(set().union(*of_each) - set(PATHS)):
        values = sorted({repr(one.get(name)) for one in of_each})
        differing += [f'{name} is {" or ".join(values)}'] * (len(values) > 1)
    if differing and not is_first():
        sys.exit(2)
    if differing:
        what = ', '.join(differing)
        raise UserError(f'the workers differ: {what}. Use the same script and command for all')


@contextlib.contextmanager
def together():
    """Let only worker 0 print, and report if another worker has ended.

    Raises:
      UserError: another worker has ended.
    """
    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, 'w'))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    except (tf.errors.UnknownError, tf.errors.AbortedError):  # raised by Horovod
        if count() == 1:
            raise
        raise UserError('another worker has ended. The checkpoints so far are intact')


def count():
    """Return how many workers there are."""
    return horovod.size() if horovod else 1


def count_on_host():
    """Return how many workers are on this machine."""
    return horovod.local_size() if horovod else 1


def rank():
    """Return the number of this worker, counted from 0."""
    return horovod.rank() if horovod else 0


def is_first():
    """Return whether this is worker 0, the one that prints, saves and draws."""
    return rank() == 0


def rows(batch_size):
    """Return which streams of a batch this worker trains on, as a slice."""
    share = batch_size // count()
    return slice(rank() * share, (rank() + 1) * share)


def mean(tensors):
    """Return the mean of each tensor over all workers, as operations in the model's graph."""
    return horovod.grouped_allreduce(tensors) if horovod else tensors


def copy_of_first(variables):
    """Return an operation that sets variables to the values of worker 0."""
    return horovod.broadcast_variables(variables, 0) if horovod else tf.no_op()


def broadcast(value):
    """Return the object that worker 0 passes. Waits until all workers have called it."""
    return _exchange('broadcast_object', value) if horovod else value


def gather(value):
    """Return the objects that all workers pass, a list in order of rank. Waits for all."""
    return _exchange('allgather_object', value) if horovod else [value]


def _exchange(operation, value):
    config = machine.session_config(1, 'cpu')
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        return getattr(horovod, operation)(value, session=session, name=operation)


def once_per_host(function, *arguments):
    """Call a function on the first worker of each host; return its result on worker 0.

    Raises:
      UserError: the result differs on another host.
    """
    own = function(*arguments) if not horovod or horovod.local_rank() == 0 else None
    result = broadcast(own)
    if own not in (None, result):
        raise UserError('the text differs between hosts. Copy the same text to all of them')
    return result


def any_of(*flags):
    """Return for each bool whether it is True on any worker. Cheap enough for every step."""
    if not horovod:
        return flags
    session, own, total = _open_sum(len(flags))
    return (session.run(total, {own: flags}) > 0).tolist()


@functools.lru_cache(maxsize=None)
def _open_sum(size):
    """Return an open session, a placeholder float32 [size], and its sum over all workers."""
    with tf.Graph().as_default() as graph:
        own = tf.placeholder(tf.float32, [size])
        total = horovod.allreduce(own, op=horovod.Sum, name=f'any_of_{size}')
    return tf.Session(graph=graph, config=machine.session_config(1, 'cpu')), own, total


def gpu_of(rank, count, allowed):
    """Return the CUDA_VISIBLE_DEVICES, str, for one of `count` workers on a host.

    `allowed` is its value for the whole host, str; None if it is not set.

    Raises:
      UserError: there are fewer GPUs than workers.
    """
    if allowed in (None, '', '-1'):  # -1 disables all GPUs
        return str(rank) if allowed is None else allowed
    gpus = allowed.split(',')
    if len(gpus) < count:
        raise UserError(
            f'CUDA_VISIBLE_DEVICES must name {count} GPUs for {count} workers, got {allowed}. '
            f'Start fewer workers'
        )
    return gpus[rank]


def keep_to_cores(rank, count):
    """Bind this thread, and those that it starts, to cores that no other worker of the host uses.

    Otherwise, two workers sometimes share a core, and all wait for the slowest.
    """
    if hasattr(os, 'sched_setaffinity'):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // count)
        first = rank * share % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])
