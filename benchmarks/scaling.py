"""Measure two workers against one, and reckon what more of them would cost: docs/scaling.md.

    python benchmarks/scaling.py        eight minutes, on two cores, after `make horovod`

Each run is one of the script, started as a user starts it. All take turns on the same cores.
"""

import glob
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmark import DATA_DIR, DOCS, about_machine, as_table, multiplications, parse, script

HOROVODRUN = pathlib.Path(sys.executable).with_name('horovodrun')
PYTHON = [sys.executable, script.__file__]
ON_CORE = [['taskset', '--cpu-list', core, *PYTHON] for core in ('0', '1')]
# What begins the commands that run at the same time, and what part of the batch each has.
STARTS = {
    'one worker, one core': ([ON_CORE[0]], 1),
    'one worker, two cores': ([['taskset', '--cpu-list', '0,1', *PYTHON]], 1),
    'two workers, one core each': ([[str(HOROVODRUN), '-np', '2', *PYTHON]], 1),
    'two runs that share nothing, one core each': (ON_CORE, 2),
}
BATCH_SIZES = (100, 200)
REPETITIONS = 3

RNN_SIZES = (128, 512, 2048)
COUNTS = (8, 64, 512)
BATCH = 100  # streams of each worker
NETWORKS = {'1 Gbit/s': 1e9, '10 Gbit/s': 1e10, '100 Gbit/s': 1e11}
LATENCY = 50e-6  # seconds for one message, as TCP in one data centre has it


def characters_per_second(name, batch_size):
    """Return the median rate of the runs that begin so, together, as written for TensorBoard."""
    starts, parts = STARTS[name]
    arguments = [
        *(DATA_DIR, f'--batch_size={batch_size // parts}', '--save_every=1000000'),
        *('--eval_every=1000000', f'--max_iterations={20_000 // batch_size}'),
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            subprocess.Popen(
                [*start, *arguments, f'--temp_dir={folder}/{number}'],
                stdout=subprocess.DEVNULL,
                env={**os.environ, 'MPLBACKEND': 'Agg'},
            )
            for number, start in enumerate(starts)
        ]
        if sum(run.wait() for run in runs):
            raise RuntimeError(f'{name} failed')
        return sum(median_rate(f'{folder}/{number}') for number in range(len(runs)))


def median_rate(temp_dir):
    (path,) = glob.glob(f'{temp_dir}/board/events*')
    rates = [
        value.simple_value
        for event in script.tf.train.summary_iterator(path)
        for value in event.summary.value
        if value.tag == 'training/characters_per_second'
    ]
    return statistics.median(rates[2:])  # the first steps are slow


def measure():
    """Return the median rate of each of STARTS with each of BATCH_SIZES."""
    rates = {(start, batch_size): [] for start in STARTS for batch_size in BATCH_SIZES}
    for repetition in range(REPETITIONS):
        for (name, batch_size), values in rates.items():
            values.append(characters_per_second(name, batch_size))
            print(f'{repetition + 1}: {name}, batch_size {batch_size}: {values[-1]:,.0f}')
    return {key: statistics.median(values) for key, values in rates.items()}


def measured_rows(rates):
    for (name, batch_size), rate in rates.items():
        against = [rates[other, batch_size] for other in list(STARTS)[:2]]
        ratios = [f'{rate / other:.2f} x' for other in against]
        yield [name, str(batch_size), f'{rate:,.0f}', *ratios]


def reckon(rnn_size, count, operations_per_second, bits_per_second):
    """Return the bytes of an all-reduce, and the seconds of it and of a worker's own arithmetic.

    In a ring of N workers each sends (and receives) 2 (N - 1) messages of one N-th of the
    gradients (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations", 2009).
    """
    from backstage.report import count_parameters  # benchmark has made the way to it

    settings = parse(f'--rnn_size={rnn_size}', f'--batch_size={BATCH}')
    gradients = 4 * count_parameters(settings, len(script.CHARACTERS) + 1)
    messages = 2 * (count - 1)
    seconds = messages * (gradients / count * 8 / bits_per_second + LATENCY)
    return gradients, seconds, multiplications(settings) / operations_per_second


def reckoned_rows(operations_per_second):
    for rnn_size in RNN_SIZES:
        for count in COUNTS:
            shares = []
            for bits_per_second in NETWORKS.values():
                gradients, network, own = reckon(
                    rnn_size, count, operations_per_second, bits_per_second
                )
                shares.append(f'{network / (network + own):.0%}')
            # The arithmetic grows with the streams of a worker, and the gradients do not.
            network = reckon(rnn_size, count, operations_per_second, NETWORKS['10 Gbit/s'])[1]
            streams = BATCH * 9 * network / own
            yield [
                str(rnn_size), str(count), f'{gradients / 1e6:,.1f}', f'{own:,.2f}', *shares,
                f'{max(1, streams):,.0f}',
            ]  # fmt: skip


def write(rates):
    batch_size = BATCH_SIZES[0]
    rate = rates['one worker, two cores', batch_size]
    settings = parse(f'--batch_size={batch_size}')
    per_character = multiplications(settings) / (batch_size * settings.training_seq_len)
    speed = rate * per_character
    text = f"""# Several workers

`make scaling`. {about_machine()}
On one machine without GPUs one process does best; workers are for several machines or GPUs.

## Measured

`batch_size` streams in all, shared among the workers; characters per second of all together.

{
        as_table(
            ['', 'batch_size', 'characters per second', 'of one core', 'of two cores'],
            measured_rows(rates),
        )
    }
Two workers are slower than one process on both cores: each has half of the batch, whose products
are less tall, and the gradients have to be carried. What the last two rows have and they do not
is the price of that: the all-reduce, the thread of Horovod that looks for work each millisecond,
the wait for the slower worker. `HOROVOD_CYCLE_TIME=5`, in milliseconds, makes that thread look
less often.

## Reckoned

Each worker reads {BATCH} streams of {settings.training_seq_len} characters, and its arithmetic is
done at the rate measured above, {
        speed / 1e9:,.0f} GFLOP/s. A step is that, and then the all-reduce:
nothing overlaps, since gradients can be clipped only when all are known. For N workers in a ring
the all-reduce takes 2 (N - 1) messages, each of one N-th of the gradients (4 bytes for each
parameter), and each {LATENCY * 1e6:.0f} microseconds late. The share of a step that communication
takes is

    2 (N - 1) (bytes / N / bandwidth + latency) / (that + arithmetic),   bandwidth in bytes/s

{
        as_table(
            [
                'rnn_size',
                'workers',
                'MB of gradients',
                'arithmetic of a step, s',
                *(f'share at {name}' for name in NETWORKS),
                'streams for 10 % at 10 Gbit/s',
            ],
            reckoned_rows(speed),
        )
    }
The last column is the point where communication costs 10 %: with more streams for each worker it
costs less. On faster processors the arithmetic takes less time, and the share is larger: ten times
the speed asks for ten times the streams, or for ten times the bandwidth at a tenth of the latency.
"""
    (DOCS / 'scaling.md').write_text(text)
    print(text)


if __name__ == '__main__':
    write(measure())
