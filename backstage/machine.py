"""The machine: its cores, its memory, and its GPU."""

import contextlib
import math
import os
import pathlib

from backstage import tf
from backstage.settings import UserError


def available_cores():
    """Return how many CPU cores this process may use, at least in part."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    quotas = [line.split() for line in limits('cpu.max')]  # quota and period, microseconds
    quotas += zip(limits('cpu.cfs_quota_us'), limits('cpu.cfs_period_us'))
    shares = [int(quota) / int(period) for quota, period in quotas if quota not in ('max', '-1')]
    return min([cores, *map(math.ceil, shares)])


def available_memory():
    """Return how much memory this process may use, in bytes."""
    present = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    allowed = [*limits('memory.max'), *limits('memory.limit_in_bytes')]
    return min([present, *(int(limit) for limit in allowed if limit != 'max')])


def limits(name, root='/'):
    """Return what the files of a name say in the control groups of this process, list of str.

    Containers have their limits there, on a machine that has more. Version 1 has groups for each
    resource, version 2 has one kind for all. The groups above one limit it too.
    """
    found = []
    try:
        groups = pathlib.Path(root, 'proc/self/cgroup').read_text().splitlines()
    except OSError:  # not on Linux
        return found
    for line in groups:
        _, resources, path = line.split(':', 2)
        top = pathlib.Path(root, 'sys/fs/cgroup', resources)
        group = pathlib.Path(path.lstrip('/'))
        for above in [group, *group.parents]:
            try:
                found.append((top / above / name).read_text().strip())
            except OSError:  # a container may not see the groups above its own
                continue
    return found


def session_config(threads_per_operation=1, device='auto'):
    """Return the tf.ConfigProto for training and sampling."""
    config = tf.ConfigProto(
        # One thread for each operation and several operations at once: the layers then run side
        # by side, each a step behind the one below, and results are the same in every run.
        intra_op_parallelism_threads=threads_per_operation,
        inter_op_parallelism_threads=available_cores(),
        allow_soft_placement=True,
        device_count={'GPU': 0} if device == 'cpu' else {},
    )
    config.gpu_options.allow_growth = True
    # The optimizer of graphs takes seconds at the start and finds nothing to gain in this one.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


@contextlib.contextmanager
def new_graph():
    """Build in a new tf.Graph."""
    graph = tf.Graph()
    from tensorflow.python.util import deprecation

    # To look for deprecated arguments takes TensorFlow a fifth of the time to build a graph.
    with deprecation.silence(), graph.as_default():
        yield graph


def in_this_thread():
    """Return the tf.RunOptions for a loop of short steps, one after the other.

    Threads that hand such work to each other are slower than one that keeps it.
    """
    return tf.RunOptions(inter_op_thread_pool=-1)


def check_device(device):
    """Raise UserError if a GPU is asked for and TensorFlow finds none."""
    if device != 'gpu':
        return
    config = session_config()
    from tensorflow.python.client import device_lib

    if not any(one.device_type == 'GPU' for one in device_lib.list_local_devices(config)):
        raise UserError(
            'TensorFlow found no GPU. It needs an NVIDIA driver, and the CUDA libraries of its '
            'version; TF_CPP_MIN_LOG_LEVEL=0 before the command lets TensorFlow say which one it '
            'cannot load. Or leave device out'
        )


def device_in_use(session, device):
    """Return in words on what TensorFlow trains."""
    gpus = [one.name for one in session.list_devices() if one.device_type == 'GPU']
    cores = available_cores()
    cpu = f'the CPU, {cores} core{"s" if cores > 1 else ""}'
    cpu += '' if device == 'cpu' else ': TensorFlow found no GPU'
    return f'the GPU {gpus[0]}' if gpus else cpu


def count_parameters(settings, vocab_size):
    """Return how many numbers the model learns."""
    n = settings.rnn_size
    widths = [settings.embedding_size] + [n] * (settings.num_layers - 1)
    layers = sum((width + n + 1) * 4 * n for width in widths)
    return layers + (settings.embedding_size + n + 1) * vocab_size


def check_memory(settings, vocab_size, workers=1, workers_on_host=1):
    """Raise UserError if the models and batches of this machine would not fit into its memory.

    The backward pass needs some 25 numbers of the forward pass for each unit, some 6 for each
    symbol, and some 7 for each weight: its gradient, that gradient clipped, two moments, the
    average, a transposed copy.
    """
    if not hasattr(os, 'sysconf'):  # Windows
        return
    weights = count_parameters(settings, vocab_size)
    units = settings.num_layers * settings.rnn_size
    characters = settings.batch_size * settings.training_seq_len
    each = 7 * weights + characters / workers * (25 * units + 6 * vocab_size)
    needed = 4 * each * workers_on_host
    present = available_memory()
    if needed > present:
        raise UserError(
            f'training needs some {needed / 1e9:,.0f} GB of memory, and there are '
            f'{present / 1e9:,.0f} here. Lower rnn_size, num_layers, batch_size or training_seq_len'
        )
