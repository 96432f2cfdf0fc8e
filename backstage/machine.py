"""The machine: its cores, its memory, its GPU, and what size of model goes with a text."""

import os

from backstage import tf
from backstage.settings import UserError

from tensorflow.python.client import device_lib


def available_cores():
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


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


def check_device(device):
    """Raise UserError if a GPU is asked for and TensorFlow finds none."""
    if device == 'gpu' and not any(
        one.device_type == 'GPU' for one in device_lib.list_local_devices(session_config())
    ):
        raise UserError(
            'TensorFlow found no GPU. It needs an NVIDIA driver, CUDA 10.0 and cuDNN 7; '
            'TF_CPP_MIN_LOG_LEVEL=0 before the command lets TensorFlow say which library it cannot '
            'load. Or leave device out'
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

    On the way back each unit needs some 25 numbers of the way forward, each symbol some 6, and each
    weight some 7: its gradient, that gradient clipped, two moments, the average, a transposed copy.
    """
    if not hasattr(os, 'sysconf'):  # Windows
        return
    weights = count_parameters(settings, vocab_size)
    units = settings.num_layers * settings.rnn_size
    characters = settings.batch_size * settings.training_seq_len
    each = 7 * weights + characters / workers * (25 * units + 6 * vocab_size)
    needed = 4 * each * workers_on_host
    present = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if needed > present:
        raise UserError(
            f'training needs some {needed / 1e9:,.0f} GB of memory, and the machine has '
            f'{present / 1e9:,.0f}. Lower rnn_size, num_layers, batch_size or training_seq_len'
        )


def describe_size(settings, vocab_size, characters):
    """Return in words whether a model goes with a text of so many characters.

    Karpathy's rule for char-rnn, 2015: the two should be of the same order of magnitude.
    """
    parameters = count_parameters(settings, vocab_size)
    each = characters / parameters
    if each < 1:
        advice = 'it may learn the text by heart; try keep_prob=0.7, or a smaller rnn_size'
    else:
        advice = 'it fits' if each < 100 else 'a larger rnn_size could learn more'
    return f'Model: {parameters:,} parameters, {each:.1f} characters for each; {advice}'


def describe_length(settings, num_iterations):
    """Return in words how long a run is."""
    # In thousands of iterations the loss still falls.
    few = num_iterations < 1000 and num_iterations != settings.max_iterations
    shape = f'{settings.batch_size} x {settings.training_seq_len} characters'
    advice = '; they are few: try a smaller batch_size, or more epochs' if few else ''
    return f'Run: {num_iterations:,} iterations of {shape}{advice}'
