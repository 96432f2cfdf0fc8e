"""Measure four ways to unroll the model's layers on a GPU; print a table to send back.

    python benchmarks/gpu.py [--seconds=300] [a setting, such as --rnn_size=64 ...]

All else is as in the script: the first weights, the loss, the optimizer. The ways take turns at
each batch size. No text is needed. Without a GPU the program measures the CPU.
"""

import argparse
import subprocess
import sys
import time

from shared import VOCAB_SIZE, about_machine, as_table, machine, parse, script, tf

# isort: split
import numpy as np
from turns import take_turns, with_quartiles

BATCHES = 100, 200, 400, 800, 1600
TURNS = 9


# --- The ways ------------------------------------------------------------------------------------


class Way(script.LSTM_Model):
    """The script's model. Its own method `unroll` replaces the one of its `lstm.Stack`."""

    def _build_loss(self, settings):
        self.stack.unroll = self.unroll
        super()._build_loss(settings)


class Static(Way):
    def unroll(self, inputs, state, _):
        outputs, state = tf.nn.static_rnn(self.lstm_cell, tf.unstack(inputs), state)
        return [tf.stack(outputs)], state


class Dynamic(Way):
    def unroll(self, inputs, state, _):
        outputs, state = tf.nn.dynamic_rnn(self.lstm_cell, inputs, None, state, time_major=True)
        return [outputs], state


class Cudnn(Way):
    """One operation for all steps of a layer. (One for all layers has no residual connections.)"""

    def unroll(self, inputs, state, _):
        time, batch, _ = inputs.shape.as_list()
        after = []
        for number, (weights, before) in enumerate(zip(self.stack.weights, state)):
            # Keras uses V3 too. It passes lengths; cuDNN deprecates calls without them.
            above, h, c, *_ = tf.raw_ops.CudnnRNNV3(
                input=inputs, input_h=before.h[None], input_c=before.c[None],
                params=cudnn_params(*weights), sequence_lengths=tf.fill([batch], time),
            )  # fmt: skip
            after.append(tf.contrib.rnn.LSTMStateTuple(c[0], h[0]))
            inputs = above + inputs if self.stack.residual and number else above
        return [inputs], tuple(after)


def cudnn_params(kernel, bias):
    """Return the weights of a BasicLSTMCell in the order of cuDNN: one vector, float32.

    These are the matrices for the input, [units, width] for each gate, then those for h,
    [units, units], then the biases for the input, and those for h, which hold the forget bias.
    """

    def in_order(rows):
        i, c, f, o = tf.split(rows, 4)
        return [tf.reshape(gate, [-1]) for gate in (i, f, c, o)]

    units = bias.shape[0].value // 4
    of_x, of_h = tf.split(kernel, [kernel.shape[0].value - units, units])
    forget = np.repeat(np.float32([0, script.lstm.FORGET_BIAS, 0, 0]), units)
    x, h, first = (in_order(rows) for rows in (tf.transpose(of_x), tf.transpose(of_h), bias))
    return tf.concat([*x, *h, *first, forget], axis=0)


WAYS = {'script': script.LSTM_Model, 'static_rnn': Static, 'dynamic_rnn': Dynamic, 'cuDNN': Cudnn}


# --- Their speed ---------------------------------------------------------------------------------


def build(way, settings):
    """Return a tf.Graph, its model of the class `way`, and the operation that initializes it."""
    with machine.new_graph() as graph:
        tf.set_random_seed(settings.seed)
        with tf.variable_scope('lstm_model', custom_getter=script.lstm.weights_by_name):
            model = way(settings, VOCAB_SIZE)
        return graph, model, tf.global_variables_initializer()


def wanted(model):
    """Return what a step computes, as in `script.train`."""
    return [model.cost, model.gradient_norm, model.final_state, model.train_op]


class Steps:
    """Training steps in a session of this process, with the interface that `take_turns` needs.

    Attributes:
      losses: list of float, nats, before each step. The batch is always the same.
      seconds: list of float, the seconds for a step in each turn.
    """

    def __init__(self, way, settings):
        graph, self.model, initialize = build(way, settings)
        config = machine.session_config(settings.threads_per_operation, settings.device)
        self.session, self.wanted = tf.Session(graph=graph, config=config), wanted(self.model)
        self.session.run(initialize)
        model, shape = self.model, [settings.batch_size, settings.training_seq_len]
        x, y = np.random.RandomState(settings.seed).randint(VOCAB_SIZE, size=[2, *shape])
        state, rate = model.zero_state(len(x)), script.highest_rate(settings)
        inputs = model.x_data, model.y_output, model.initial_state, model.learning_rate
        self.feed = dict(zip(inputs, (x, y, state, rate)))
        self.losses, self.seconds = [], []

    def run(self, steps):
        """Take this many steps; return the seconds for each."""
        start = time.perf_counter()
        for _ in range(steps):
            loss, _, state, _ = self.session.run(self.wanted, self.feed)
            self.feed[self.model.initial_state] = state
            self.losses.append(loss)
        return (time.perf_counter() - start) / steps

    def end(self):
        self.session.close()


def measure(end, settings, ways):
    """Let some of WAYS, a list of names, take turns until `end`, with at least one step in each.

    Returns:
      A dict of str, the characters per second or the error of each way, and a dict of float, the
      losses before the first step.
    """
    steps, found = {}, {}
    for name in ways:
        try:
            one = Steps(WAYS[name], settings)
            one.run(1)
        except tf.errors.OpError as error:  # no kernel, or too little memory
            found[name] = f'{type(error).__name__}: {" ".join(error.message.split())}'
        else:
            steps[name] = one
    seconds = max(0, end - time.perf_counter()) / TURNS / max(1, len(steps))
    for name, one in zip(steps, take_turns(TURNS, *steps.values(), seconds=seconds)):
        read = settings.batch_size * settings.training_seq_len
        found[name] = with_quartiles([read / each for each in one.seconds])
    return found, {name: one.losses[0] for name, one in steps.items()}


# --- GPU, driver and libraries -------------------------------------------------------------------


def find_gpus(settings):
    """Return TensorFlow's description of each GPU that it may use: list of str."""
    config = machine.session_config(1, settings.device)
    from tensorflow.python.client import device_lib

    devices = device_lib.list_local_devices(config)
    return [one.physical_device_desc for one in devices if one.device_type == 'GPU']


def driver():
    """Return the version of NVIDIA's driver: str."""
    ask = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        return subprocess.check_output(ask, universal_newlines=True).split('\n')[0]
    except (OSError, subprocess.CalledProcessError):
        return 'none found'


def built_for():
    """Return the versions of CUDA and cuDNN that TensorFlow was built for: str."""
    from tensorflow.python.platform import build_info

    known = {**vars(build_info), **getattr(build_info, 'build_info', {})}  # 1.15, 2.x
    return ', '.join(f'{k} {v}' for k, v in known.items() if k.startswith(('cuda_v', 'cudnn_v')))


def main(*arguments):
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0], allow_abbrev=False)
    parser.add_argument('--seconds', type=float, default=300, help='for all (%(default)s)')
    known, changes = parser.parse_known_args(arguments)
    start, notes = time.perf_counter(), []
    gpus = find_gpus(parse(*changes))
    print(about_machine(), *(f'GPU: {gpu}' for gpu in gpus or ['none']), sep='\n')
    print(f'Driver: {driver()}. Built for {built_for()}.')
    print(f'Settings: {" ".join(changes) or "the default"}. Characters per second:\n')
    print(as_table(('batch_size', *WAYS), []), end='', flush=True)
    for number, batch in enumerate(BATCHES, 1):
        settings = parse(*changes, f'--batch_size={batch}', '--keep_prob=1')
        end = start + known.seconds * number / len(BATCHES)
        ways = [name for name in WAYS if gpus or name != 'cuDNN']
        found, losses = measure(end, settings, ways)
        cells = f'{batch:,}', *(found.get(name, 'no GPU').split(':')[0] for name in WAYS)
        print(f'| {" | ".join(cells)} |', flush=True)
        notes += [f'{name}, {batch:,}: {cell}' for name, cell in found.items() if ':' in cell]
        first = ', '.join(f'{name} {loss:.5f}' for name, loss in losses.items())
        notes += [f'First losses, nats: {first}'] * (number == 1)
    print('', *notes, sep='\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
