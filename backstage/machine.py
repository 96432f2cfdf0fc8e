"""The machine: its cores, memory and GPU."""

import contextlib
import math
import os
import pathlib

from backstage import tf
from backstage.settings import UserError


def available_cores():
    """Return how many CPU cores this process may use. A fraction counts as one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    quotas = [line.split() for line in limits('cpu.max')]  # quota and period, in microseconds
    quotas += zip(limits('cpu.cfs_quota_us'), limits('cpu.cfs_period_us'))
    shares = [int(quota) / int(period) for quota, period in quotas if quota not in ('max', '-1')]
    return min([cores, *map(math.ceil, shares)])


def available_memory():
    """Return how much memory this process may use, in bytes."""
    present = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    allowed = [*limits('memory.max'), *limits('memory.limit_in_bytes')]
    return min([present, *(int(limit) for limit in allowed if limit != 'max')])


def limits(name, root='/'):
    """Return the contents of the files `name` in the control groups of this process, list of str.

    A container's limits are in these files. cgroup v1 has a hierarchy for each resource, v2 has a
    single one. Parent groups limit a group too.
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
            except OSError:  # a container may not see its parent groups
                continue
    return found


def session_config(threads_per_operation=1, device='auto'):
    """Return the tf.ConfigProto for training and sampling."""
    config = tf.ConfigProto(
        # With one thread per operation, several operations run at once: each layer works one step
        # behind the layer below it. Results are then reproducible.
        intra_op_parallelism_threads=threads_per_operation,
        inter_op_parallelism_threads=available_cores(),
        allow_soft_placement=True,
        device_count={'GPU': 0} if device == 'cpu' else {},
    )
    config.gpu_options.allow_growth = True
    # The graph optimizer takes seconds at startup and does not speed up this graph.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


@contextlib.contextmanager
def new_graph():
    """Build operations in a new tf.Graph."""
    graph = tf.Graph()
    from tensorflow.python.util import deprecation

    # Checking for deprecated arguments takes a fifth of the time to build a graph.
    with deprecation.silence(), graph.as_default():
        yield graph


def in_this_thread():
    """Return the tf.RunOptions for a loop of short sequential steps.

    A single thread runs such a loop faster than a pool that passes the work around.
    """
    return tf.RunOptions(inter_op_thread_pool=-1)


def check_device(device):
    """Raise UserError if the user asks for a GPU and TensorFlow finds none."""
    if device != 'gpu':
        return
    config = session_config()
    from tensorflow.python.client import device_lib

    if not any(one.device_type == 'GPU' for one in device_lib.list_local_devices(config)):
        raise UserError(
            'device is gpu, but TensorFlow found no GPU. It needs an NVIDIA driver and the CUDA '
            'libraries for its version. Put TF_CPP_MIN_LOG_LEVEL=0 before the command to see which '
            'library fails to load, or set device to auto'
        )


def device_in_use(session, device):
    """Return the name of the device that TensorFlow trains on, as printed."""
    gpus = [one.name for one in session.list_devices() if one.device_type == 'GPU']
    cores = available_cores()
    cpu = f'the CPU, {cores} core{"s" if cores > 1 else ""}'
    cpu += '' if device == 'cpu' else ': TensorFlow found no GPU'
    return f'the GPU {gpus[0]}' if gpus else cpu


def count_parameters(settings, vocab_size):
    """Return how many parameters the model has."""
    n = settings.rnn_size
    widths = [settings.embedding_size] + [n] * (settings.num_layers - 1)
    layers = sum((width + n + 1) * 4 * n for width in widths)
    return layers + (settings.embedding_size + n + 1) * vocab_size


def check_memory(settings, vocab_size, workers=1, workers_on_host=1):
    """Raise UserError if the models and batches on this machine do not fit into its memory.

    For each character of a batch, the backward pass needs about 25 numbers per unit and 6 per
    symbol from the forward pass. Each weight takes about 7 numbers: itself, its gradient, the
    clipped gradient, two moments, the average and a transposed copy.
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
            f'training needs about {needed / 1e9:,.0f} GB of memory, but only '
            f'{present / 1e9:,.0f} GB are available. Lower rnn_size, num_layers, batch_size or '
            f'training_seq_len'
        )
