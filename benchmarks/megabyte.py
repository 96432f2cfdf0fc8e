"""Find settings for a text of about a megabyte: measurements/megabyte.md, hours.

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

RUNS = ROOT / 'temp' / 'megabyte'
SAME = '--clean_text=False', '--min_word_freq=1', '--held_out=0.1'
TRIED = [
    '--epochs=5 --batch_size=50',
    '--epochs=18 --batch_size=50 --keep_prob=0.93',
    '--epochs=15 --batch_size=50 --keep_prob=0.8 --rnn_size=256',
    '--epochs=4 --batch_size=50',
    '--epochs=5 --batch_size=50 --seed=2',
    '--epochs=18 --batch_size=50',
    '--epochs=18 --batch_size=50 --keep_prob=0.85',
    '--epochs=18 --batch_size=50 --keep_prob=0.93 --seed=2',
    '--epochs=18 --batch_size=50 --keep_prob=0.93 --seed=3',
    '--epochs=15 --batch_size=50 --keep_prob=0.8 --rnn_size=256 --seed=2',
]
TABLE = {settings: {'': settings} for settings in TRIED}
WINDOWS = 64, 256  # characters that nanoGPT's smaller and larger model see at most


def measure_windows(folder, size):
    """Return the held-out loss of the best model if its memory is empty every `size` characters."""
    settings = argparse.Namespace(temp_dir=str(folder), checkpoint='', device='auto')
    with trained.opened(settings) as (session, sampler, ix2vocab, run, _):
        ids = np.fromfile(str(folder / 'text.ids'), script.reading.id_type(ix2vocab))
        ids = ids[script.held_out_begin(len(ids), run.held_out) :]
        losses = []
        for begin in range(0, len(ids) - size, size):
            feed = {
                sampler.x_data: ids[None, begin : begin + size],
                sampler.y_output: ids[None, begin + 1 : begin + 1 + size],
                sampler.initial_state: sampler.zero_state(1),
            }
            losses.append(session.run(sampler.losses, feed))
    return np.mean(losses, dtype=np.float64)


def as_cells(text, settings, found):
    """Return the cells of a row, from what the run of a text with some settings found."""
    held_out, time_taken = found['held_out'], f'{found["seconds"]:,.0f} s, {found["cores"]} core(s)'
    losses = held_out[-1], min(held_out), found['training'], *found['windows']
    return (text, f'`{settings}`', time_taken, *(f'{loss:.4f}' for loss in losses))


def main(text_file, *numbers):
    path = pathlib.Path(text_file).resolve()
    rows.train(
        *(RUNS / path.stem, [SCRIPT], TABLE),
        same=[f'--text_file={path}', *SAME, '--save_every=500', '--prime_texts', 'ROMEO:'],
        numbers=numbers,
        cores_each=os.cpu_count(),
        measure=lambda folder: {'windows': [measure_windows(folder, size) for size in WINDOWS]},
    )
    lines = [
        as_cells(folder.name, settings, found[''])
        for folder in sorted(RUNS.iterdir())
        for settings, found in rows.found(folder, TABLE).items()
    ]
    head = ('text', 'settings', 'time', 'held-out', 'best', 'training',
            *(f'best, {size} characters of memory' for size in WINDOWS))  # fmt: skip
    text = f'All with `{" ".join(SAME)}`; nats.\n\n{as_table(head, lines)}'
    command = 'python benchmarks/megabyte.py TEXT'
    write_page('megabyte.md', 'A text of about a megabyte', command, text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
