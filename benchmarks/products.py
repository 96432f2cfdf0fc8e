"""Measure how fast one core multiplies by kernels of some shapes: measurements/products.md.

    python benchmarks/products.py

The ways take turns. The rows are [batch, units], the kernel is [units, 4 * units].
"""

import os
import time

from shared import as_table, tf, write_page

# isort: split
import numpy as np

SHAPES = (128, 100), (256, 100), (300, 100), (512, 50), (1024, 25)  # units, batch
WAYS = 'all gates', '16 columns more', 'pieces of 256'
AT_ONCE = 10  # products in a session call
TURNS = 15


def measure(units, batch):
    """Return GFLOP/s for each of WAYS, medians of TURNS."""
    columns = 4 * units
    pieces = [min(256, columns - first) for first in range(0, columns, 256)]
    rows = tf.Variable(np.random.RandomState(0).normal(size=[batch, units]), dtype=tf.float32)
    operations = []
    for sizes in [columns], [columns + 16], pieces:
        kernels = [tf.Variable(tf.random_normal([units, size])) for size in sizes]
        products, x = [], rows.value()
        for _ in range(AT_ONCE):
            found = [tf.matmul(x, kernel) for kernel in kernels]
            products += found
            with tf.control_dependencies(found):
                x = tf.identity(rows)
        operations.append(tf.group(*products))
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Otherwise TensorFlow would merge equal products.
    config.graph_options.optimizer_options.opt_level = -1
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    times = np.empty([TURNS + 1, len(operations)])
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        for turn, way in np.ndindex(*times.shape):
            start = time.perf_counter()
            session.run(operations[way])
            times[turn, way] = (time.perf_counter() - start) / AT_ONCE
    return 2 * batch * units * columns / 1e9 / np.median(times[1:], axis=0)  # the first warms up


if __name__ == '__main__':
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    lines = []
    for units, batch in SHAPES:
        with tf.Graph().as_default():
            rates = measure(units, batch)
        lines.append((f'{units:,} units, {batch} rows', *(f'{rate:.0f}' for rate in rates)))
    text = f'Measured on one core.\n\n{as_table(("GFLOP/s", *WAYS), lines)}'
    write_page('products.md', 'Products of matrices', 'python benchmarks/products.py', text)
