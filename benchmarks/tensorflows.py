"""Measure TensorFlow 1.15 and a 2.x with the same script: docs/tensorflows.md, five minutes.

    python benchmarks/tensorflows.py .venv .venv-tf2

The two folders have the one and the other. They take turns on the same cores.
"""

import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmark import DATA_DIR, DOCS, DRAWN, SCRIPT, Stepper, about_machine, as_table, parse
from benchmark import take_turns as in_turns

SHAPES = [
    [],
    ['--rnn_size=64'], ['--rnn_size=256'], ['--rnn_size=512', '--batch_size=50'],
    ['--num_layers=1'], ['--num_layers=6'], ['--batch_size=25'], ['--keep_prob=0.8'],
]  # fmt: skip


def rates(pythons, name, characters, *arguments):
    """Return the characters per second of each Python, medians of turns."""
    steppers = [Stepper(name, *arguments, python=python) for python in pythons]
    return [characters / stepper.median for stepper in in_turns(7, *steppers)]


def row(what, values, digits=0):
    first, second = values
    numbers = [f'{value:,.{digits}f}' for value in values]
    return (what, *numbers, f'{second / first:.2f} x')


def seconds_to_start(pythons, repetitions=5):
    """Return the seconds from launch to the first iteration, medians of turns."""
    seconds = {python: [] for python in pythons}
    for _, python in itertools.product(range(repetitions), pythons):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [DATA_DIR, f'--temp_dir={folder}', '--log_every=1', '--max_iterations=2']
            start = time.perf_counter()
            process = subprocess.Popen(
                [python, '-u', str(SCRIPT), *arguments],
                env={**os.environ, 'MPLBACKEND': 'Agg'},
                stdout=subprocess.PIPE,
                universal_newlines=True,
            )
            if not any(line.startswith('Iteration: 1,') for line in process.stdout):
                raise RuntimeError(f'{python} ended before the first iteration')
            seconds[python].append(time.perf_counter() - start)
            process.communicate()
    return [statistics.median(seconds[python]) for python in pythons]


def main(*folders):
    pythons = [str(pathlib.Path(folder, 'bin', 'python').absolute()) for folder in folders]
    names = [
        subprocess.run(
            [python, '-c', 'from backstage import tf; print(tf.__version__)'],
            check=True, cwd=str(SCRIPT.parent), stdout=subprocess.PIPE,
        ).stdout.decode().strip()
        for python in pythons
    ]  # fmt: skip
    rows = []
    for shape in SHAPES:
        settings = parse(*shape)
        characters = settings.batch_size * settings.training_seq_len
        what = ' '.join(['training, characters per second', *shape])
        rows.append(row(what, rates(pythons, 'script_steps', characters, *shape)))
        print(rows[-1], flush=True)
    rows.append(row('generating one stream', rates(pythons, 'draw_one', DRAWN)))
    rows.append(row('generating 100 streams', rates(pythons, 'draw_hundred', DRAWN)))
    start = row('launch to first iteration, s (less is better)', seconds_to_start(pythons), 1)
    text = f'# TensorFlow {" and ".join(names)}\n\n`make tensorflows`. {about_machine()}\n'
    text += as_table(('what', *names, 'ratio'), [*rows, start])
    (DOCS / 'tensorflows.md').write_text(text)
    print(text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
