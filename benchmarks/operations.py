"""Show where the time of a training step goes: the kinds of operations, and what each takes.

    python benchmarks/operations.py [a setting, such as --rnn_size=64 ...]

While TensorFlow takes these times, a step is slower by some per cent.
"""

import collections
import statistics
import sys

from shared import VOCAB_SIZE, about_machine, as_table, parse, script, tf

# isort: split
import numpy as np
from steps import started

STEPS = 5  # that count, after as many that do not


def trace(settings):
    """Return the seconds of each operation in a step, medians over STEPS: {(type, name): float}."""
    shape = settings.batch_size, settings.training_seq_len
    x = np.random.RandomState(0).randint(1, VOCAB_SIZE, shape)
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    taken = collections.defaultdict(list)
    with started(settings) as (session, model, _):
        kinds = {operation.name: operation.type for operation in session.graph.get_operations()}
        feed = {
            model.x_data: x, model.y_output: x, model.initial_state: model.zero_state(shape[0]),
            model.learning_rate: script.highest_rate(settings),
        }  # fmt: skip
        for step in range(2 * STEPS):
            traced = tf.RunMetadata()
            session.run(model.train_op, feed, options, traced)
            nodes = [node for device in traced.step_stats.dev_stats for node in device.node_stats]
            for node in nodes if step >= STEPS else []:
                name = node.node_name.split(':')[0]
                microseconds = node.op_end_rel_micros - node.op_start_rel_micros
                if name in kinds and microseconds > 0:
                    taken[kinds[name], name].append(microseconds / 1e6)
    return {operation: statistics.median(seconds) for operation, seconds in taken.items()}


def main(*arguments):
    taken = collections.defaultdict(list)
    for (kind, _), seconds in trace(parse(*arguments)).items():
        taken[kind].append(seconds)
    total = sum(map(sum, taken.values()))
    rows = [
        (kind, f'{len(each):,}', f'{sum(each) * 1e3:.1f}', f'{sum(each) / total:.0%}')
        for kind, each in sorted(taken.items(), key=lambda item: -sum(item[1]))[:10]
    ]
    print(about_machine())
    print(as_table(('operation', 'times', 'ms of a core', 'share'), rows))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
