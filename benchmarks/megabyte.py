"""Find settings for a text of about a megabyte: docs/megabyte.md, hours.

    python benchmarks/megabyte.py input.txt [number of a row ...]

Each row of TRIED is a run of the script, of which the last tenth of the text is held out; what was
measured before is not run again. The table has all texts that were given so far.
"""

import argparse
import os
import pathlib
import sys

import rows
from shared import ROOT, SCRIPT, as_table, script, write_page

# isort: split
# Only now does Python find it.
from tools import trained

import numpy as np

PRIME = '--prime_texts', 'ROMEO:'
RUNS = ROOT / 'temp' / 'megabyte'
SAME = '--clean_text=False', '--min_word_freq=1', '--held_out=0.1', '--save_every=500', *PRIME
TRIED = [
    '--epochs=5',
    '--epochs=5 --batch_size=50',
    '--epochs=5 --batch_size=50 --learning_rate=0.014',
    '--epochs=5 --batch_size=50 --learning_rate=0.01',
    '--epochs=5 --batch_size=32 --learning_rate=0.014',
    '--epochs=5 --batch_size=50 --seed=2',
    '--epochs=5 --batch_size=50 --seed=3',
    '--epochs=18 --batch_size=50 --keep_prob=0.85',
    '--epochs=18 --batch_size=50 --keep_prob=0.75',
    '--epochs=15 --batch_size=50 --keep_prob=0.8 --rnn_size=160',
    '--epochs=18 --batch_size=50 --keep_prob=0.93 --seed=2',
    '--epochs=18 --batch_size=50 --keep_prob=0.93 --seed=3',
    '--epochs=15 --batch_size=50 --keep_prob=0.7 --rnn_size=256',
    '--epochs=25 --batch_size=50 --keep_prob=0.75 --rnn_size=192',
    '--epochs=4 --batch_size=50',
    '--epochs=18 --batch_size=50',
    '--epochs=15 --batch_size=50 --keep_prob=0.8 --rnn_size=256',
    '--epochs=18 --batch_size=50 --keep_prob=0.93',
    '--epochs=15 --batch_size=50 --keep_prob=0.8 --rnn_size=256 --seed=2',
]
WINDOWS = 64, 256  # characters that nanoGPT's smaller and larger model see at most


def measure_windows(folder, size, streams=200):
    """Return the held-out loss of the best model if its memory is empty every `size` characters."""
    settings = argparse.Namespace(temp_dir=str(folder), checkpoint='', device='auto')
    with trained.opened(settings) as (session, sampler, ix2vocab, run, _):
        ids = np.fromfile(str(folder / 'text.ids'), script.reading.id_type(ix2vocab))
        ids = ids[script.held_out_begin(len(ids), run.held_out) :]
        count = (len(ids) - 1) // size
        x, y = (ids[begin : begin + count * size].reshape(count, size) for begin in (0, 1))
        total = 0
        for begin in range(0, count, streams):
            rows = slice(begin, begin + streams)
            state = sampler.zero_state(len(x[rows]))
            feed = {
                sampler.x_data: x[rows], sampler.y_output: y[rows], sampler.initial_state: state
            }  # fmt: skip
            total += session.run(sampler.losses, feed).sum(dtype=np.float64)
    return total / (count * size)


def measured():
    """Yield a row of the table for each run that was measured, of all texts, folders in RUNS."""
    for runs in sorted(RUNS.iterdir()):
        for arguments in TRIED:
            found = rows.found_in(rows.folder_of(runs, arguments))
            if found:
                held_out = found['held_out']
                losses = held_out[-1], min(held_out), found['training'], *found['windows']
                time_taken = f'{found["seconds"]:,.0f} s, {found["cores"]} core(s)'
                yield (runs.name, f'`{arguments}`', time_taken, *(f'{loss:.4f}' for loss in losses))


def main(text_file, *numbers):
    def measure(folder):
        return {'windows': [measure_windows(folder, size) for size in WINDOWS]}

    for arguments in rows.chosen(TRIED, numbers):
        folder = rows.folder_of(RUNS / pathlib.Path(text_file).stem, arguments)
        if not rows.found_in(folder):
            words = [SCRIPT, f'--text_file={text_file}', *SAME, *arguments.split()]
            rows.train(folder, words, os.sched_getaffinity(0), measure)
    head = ('text', 'settings', 'time', 'held-out', 'best', 'training',
            *(f'best, {size} characters of memory' for size in WINDOWS))  # fmt: skip
    text = f'All with `{" ".join(SAME[:3])}`; nats.\n\n{as_table(head, measured())}'
    write_page(
        'megabyte.md', 'A text of about a megabyte', 'python benchmarks/megabyte.py TEXT', text
    )


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
