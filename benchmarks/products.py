"""Measure at which rate one core multiplies by kernels of some shapes: docs/products.md.

    python benchmarks/products.py

What is compared takes turns. The rows are [batch, units], the kernel [units, 4 * units].
"""

import os
import statistics
import sys
import time

from shared import as_table, tf, write_page

# isort: split
import numpy as np

SHAPES = (128, 100), (256, 100), (300, 100), (512, 50), (1024, 25)  # units, batch
PIECE = 256  # columns
AT_ONCE = 10  # products in a session call


def ways(units):
    """Return the sizes of the kernels by which rows are multiplied, for each way to do it."""
    columns = 4 * units
    pieces = [PIECE] * (columns // PIECE) + [columns % PIECE] * (columns % PIECE > 0)
    return {'all gates': [columns], '16 columns more': [columns + 16], 'pieces of 256': pieces}


def measure(units, batch, turns):
    """Return GFLOP/s for each of `ways`, the median of some turns."""
    with tf.Graph().as_default() as graph:
        rows = tf.Variable(np.random.RandomState(0).normal(size=[batch, units]), dtype=tf.float32)
        operations = {}
        for way, sizes in ways(units).items():
            kernels = [tf.Variable(tf.random_normal([units, size])) for size in sizes]
            products, x = [], rows.value()
            for _ in range(AT_ONCE):
                found = [tf.matmul(x, kernel) for kernel in kernels]
                products += found
                with tf.control_dependencies(found):
                    x = tf.identity(rows)
            operations[way] = tf.group(*products)
        start = tf.global_variables_initializer()
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Otherwise TensorFlow makes one product of those that are the same.
    config.graph_options.optimizer_options.opt_level = -1
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    taken = {way: [] for way in operations}
    with tf.Session(graph=graph, config=config) as session:
        session.run(start)
        for turn in range(turns + 1):
            for way, operation in operations.items():
                begin = time.perf_counter()
                session.run(operation)
                if turn:  # the first warms up
                    taken[way].append((time.perf_counter() - begin) / AT_ONCE)
    work = 2 * batch * units * 4 * units / 1e9
    return {way: work / statistics.median(seconds) for way, seconds in taken.items()}


def main(turns=15):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    for units, batch in SHAPES:
        rates = measure(units, batch, turns)
        rows.append((f'{units:,} units, {batch} rows', *(f'{rate:.0f}' for rate in rates.values())))
    text = f'On one of the cores.\n\n{as_table(("GFLOP/s", *ways(1)), rows)}'
    write_page('products.md', 'Products of matrices', 'python benchmarks/products.py', text)


if __name__ == '__main__':
    sys.exit(main())
