"""Show where the time of a training step goes: the kinds of operations, and what each takes.

    python benchmarks/operations.py [a setting, such as --rnn_size=64 ...]

While TensorFlow takes these times, a step is slower by some per cent.
"""

import sys

from shared import VOCAB_SIZE, about_machine, parse, script, tf

# isort: split
import numpy as np
from steps import started


def profile(settings, steps=6):
    """Print TensorFlow's own table of the operations of a training step, the last of some."""
    shape = settings.batch_size, settings.training_seq_len
    x = np.random.RandomState(0).randint(1, VOCAB_SIZE, shape)
    with started(settings) as (session, model, _):
        feed = {
            model.x_data: x, model.y_output: x, model.initial_state: model.zero_state(shape[0]),
            model.learning_rate: script.highest_rate(settings),
        }  # fmt: skip
        for _ in range(steps):
            traced = tf.RunMetadata()
            session.run(model.train_op, feed, tf.RunOptions(trace_level=3), traced)
        builder = tf.profiler.ProfileOptionBuilder
        options = builder(builder.time_and_memory()).select(['micros', 'occurrence'])
        options = options.with_min_execution_time(min_micros=100).order_by('micros').build()
        tf.profiler.profile(session.graph, traced, cmd='op', options=options)


if __name__ == '__main__':
    print(about_machine())
    profile(parse(*sys.argv[1:]))
