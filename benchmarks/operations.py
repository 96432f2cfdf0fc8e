"""Show where the time of a training step goes: the time of each kind of operation.

    python benchmarks/operations.py [a setting, such as --rnn_size=64 ...]

TensorFlow prints the table. The measurement slows a step down by a few per cent.
"""

import itertools
import sys

from shared import about_machine, tf
from steps import script_steps


def profile(*arguments):
    """Print the operations of the fifth training step with these settings."""
    how = {'options': tf.RunOptions(trace_level=3), 'run_metadata': tf.RunMetadata()}
    steps = script_steps(*arguments, **how)
    list(itertools.islice(steps, 6))  # makes its session and its graph the default
    builder = tf.profiler.ProfileOptionBuilder
    options = builder(builder.time_and_memory()).select(['micros', 'occurrence'])
    options = options.with_min_execution_time(min_micros=100).order_by('micros').build()
    tf.profiler.profile(run_meta=how['run_metadata'], cmd='op', options=options)
    steps.close()


if __name__ == '__main__':
    print(about_machine())
    profile(*sys.argv[1:])
