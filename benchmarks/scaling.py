"""Measure two workers against one, and estimate the cost of more workers: measurements/scaling.md.

    python benchmarks/scaling.py        eight minutes, on two cores, after `make horovod`

Each run starts the script as a user does. All take turns on the same cores.
"""

import glob
import pathlib
import statistics
import subprocess
import sys
import tempfile

import shared
from shared import DATA_DIR, SCRIPT, as_table, multiplications, parse, script, write_page

HOROVODRUN = str(pathlib.Path(sys.executable).with_name('horovodrun'))
PYTHON = [sys.executable, str(SCRIPT)]
ON_CORE = [['taskset', '--cpu-list', cores, *PYTHON] for cores in ('0', '1', '0,1')]
# For each case, how the commands begin that run together and share the batch.
STARTS = {
    'one worker, one core': ON_CORE[:1],
    'one worker, two cores': ON_CORE[2:],
    'two workers, one core each': [[HOROVODRUN, '-np', '2', *PYTHON]],
    'two runs that share nothing, one core each': ON_CORE[:2],
}
BATCH_SIZES = 100, 200
TURNS = 3
QUIET = {'env': shared.ENVIRONMENT, 'stdout': subprocess.DEVNULL}

BATCH = 100  # streams of each worker
NETWORKS = {'1 Gbit/s': 1e9, '10 Gbit/s': 1e10, '100 Gbit/s': 1e11}
LATENCY = 50e-6  # seconds for one message, typical of TCP in one data centre

PAGE = """
On one machine without GPUs, one process is fastest. Workers are for several machines or GPUs.

## Measured

The workers share `batch_size` streams. The rates are those of all workers together.

{measured}
Two workers are slower than one process on both cores. Each has half of the batch, so its matrix
products are smaller, and the workers exchange gradients. The cost of this exchange is the
difference from two runs that share nothing: the all-reduce, the wait for the slower worker, and
Horovod's thread, which looks for work every millisecond. With `HOROVOD_CYCLE_TIME=5` it looks every
5 milliseconds.

## Estimated

Each worker reads {batch} streams of 50 characters, and computes at the rate measured above,
{speed:,.0f} GFLOP/s. The all-reduce comes after the arithmetic. Nothing overlaps, because gradients
can be clipped only when all are known. N workers in a ring exchange 2 (N - 1) messages. Each
message has one N-th of the gradients (4 bytes for each parameter) and a latency of 50 microseconds
(Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
Communication takes this share of a step:

    2 (N - 1) (bytes / N / bandwidth + latency) / (that + arithmetic),   bandwidth in bytes/s

{estimated}
With the number of streams in the last column, communication costs 10 %. With more streams for each
worker it costs less. On faster processors the arithmetic takes less time, so the share is larger.
Ten times the speed needs ten times the streams, or ten times the bandwidth at a tenth of the
latency.
"""


def characters_per_second(starts, batch_size):
    """Return the sum of the runs' median rates, which they write for TensorBoard."""
    arguments = [
        *(DATA_DIR, f'--batch_size={batch_size // len(starts)}', '--save_every=1000000'),
        *('--eval_every=1000000', f'--max_iterations={20_000 // batch_size}'),
    ]
    total, tag = 0, 'training/characters_per_second'
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            subprocess.Popen([*start, *arguments, f'--temp_dir={folder}/{number}'], **QUIET)
            for number, start in enumerate(starts)
        ]
        if sum([run.wait() for run in runs]):
            raise RuntimeError(f'{starts} failed')
        for path in glob.glob(f'{folder}/*/board/events*'):
            events = script.tf.train.summary_iterator(path)
            values = [value for event in events for value in event.summary.value]
            rates = [value.simple_value for value in values if value.tag == tag]
            total += statistics.median(rates[2:])  # the first steps are slow
    return total


def measured_rows():
    """Return the rows of the measurements, and the characters per second of two cores."""
    found = {(name, batch_size): [] for name in STARTS for batch_size in BATCH_SIZES}
    for _ in range(TURNS):
        for (name, batch_size), rates in found.items():
            rates.append(characters_per_second(STARTS[name], batch_size))
            print(f'{name}, batch_size {batch_size}: {rates[-1]:,.0f}', flush=True)
    found = {key: statistics.median(rates) for key, rates in found.items()}
    one, two, *_ = STARTS
    rows = [
        (name, f'{batch_size}', f'{rate:,.0f}', f'{rate / found[one, batch_size]:.2f} x',
         f'{rate / found[two, batch_size]:.2f} x')
        for (name, batch_size), rate in found.items()
    ]  # fmt: skip
    return rows, found[two, BATCH]


def estimated_rows(flops):
    for rnn_size in 128, 512, 2048:
        settings = parse(f'--rnn_size={rnn_size}', f'--batch_size={BATCH}')
        gradients = 4 * shared.machine.count_parameters(settings, shared.VOCAB_SIZE)  # bytes
        own = multiplications(settings) / flops
        for count in 8, 64, 512:
            network = [  # seconds of the all-reduce
                2 * (count - 1) * (gradients / count * 8 / bits_per_second + LATENCY)
                for bits_per_second in NETWORKS.values()
            ]
            shares = [f'{seconds / (seconds + own):.0%}' for seconds in network]
            # The arithmetic grows with the streams of a worker; the gradients do not.
            streams = f'{max(1, BATCH * 9 * network[1] / own):,.0f}'
            about = f'{rnn_size}', f'{count}', f'{gradients / 1e6:,.1f}', f'{own:,.2f}'
            yield (*about, *shares, streams)


if __name__ == '__main__':
    rows, rate = measured_rows()
    settings = parse(f'--batch_size={BATCH}')
    speed = rate * multiplications(settings) / (BATCH * settings.training_seq_len)
    head = ('rnn_size', 'workers', 'MB of gradients', 'arithmetic of a step, s',
            *(f'share at {name}' for name in NETWORKS),
            'streams for 10 % at 10 Gbit/s')  # fmt: skip
    names = '', 'batch_size', 'characters per second', 'of one core', 'of two cores'
    tables = {'measured': as_table(names, rows), 'estimated': as_table(head, estimated_rows(speed))}
    text = PAGE.format(**tables, batch=BATCH, speed=speed / 1e9)
    write_page('scaling.md', 'Several workers', 'python benchmarks/scaling.py', text)
