"""Find settings for a text of about a megabyte: docs/megabyte.md, hours.

    python benchmarks/megabyte.py input.txt [number of a row ...]

Each row of TRIED is a run of the script, of which the last tenth of the text is held out; what was
measured before is not run again. The table has all texts that were given so far.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import rows
from benchmark import DOCS, ROOT, SCRIPT, about_machine, as_table, saving, script

# isort: split
# Only now does Python find it.
from tools import trained

RUNS = ROOT / 'temp' / 'megabyte'
SAME = (
    '--clean_text=False', '--min_word_freq=1', '--held_out=0.1', '--eval_every=100000',
    '--save_every=500', '--show_plot=False',
)  # fmt: skip
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


def train(text_file, arguments):
    """Train, measure, and return what is known then: a dict."""
    folder = folder_of(text_file, arguments)
    command = [sys.executable, str(SCRIPT), f'--text_file={text_file}', f'--temp_dir={folder}']
    start = time.perf_counter()
    status = subprocess.call(
        [*command, *SAME, *arguments.split(), '--restart', '--prime_texts', 'ROMEO:'],
        env={**os.environ, 'MPLBACKEND': 'Agg'},
        stdout=subprocess.DEVNULL,
    )
    if status:  # the script has said why
        sys.exit(status)
    seconds = time.perf_counter() - start
    losses, held_out_losses = saving.read_history(str(folder))
    found = {
        'seconds': seconds,
        'cores': len(os.sched_getaffinity(0)),
        'training': float(np.mean(losses[-100:])),
        'held_out': held_out_losses[-1][1],
        'best': min(loss for _, loss in held_out_losses),
        'windows': [measure_windows(folder, size) for size in WINDOWS],
    }
    (folder / 'found.json').write_text(json.dumps(found))
    return found


def folder_of(text_file, arguments):
    return RUNS / pathlib.Path(text_file).stem / re.sub(r'[^\w.]+', '_', arguments).strip('_')


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


def rows_of(text):
    """Yield a row of the table for each run of a text, a folder in RUNS, that was measured."""
    for arguments in TRIED:
        path = folder_of(text, arguments) / 'found.json'
        if path.exists():
            found = json.loads(path.read_text())
            losses = [found[name] for name in ('held_out', 'best', 'training')] + found['windows']
            time_taken = f'{found["seconds"]:,.0f} s, {found["cores"]} core(s)'
            yield (text, f'`{arguments}`', time_taken, *(f'{loss:.4f}' for loss in losses))


def main(text_file, *numbers):
    for arguments in rows.chosen(TRIED, numbers):
        if not (folder_of(text_file, arguments) / 'found.json').exists():
            print(arguments, train(text_file, arguments), flush=True)
    head = ('text', 'settings', 'time', 'held-out', 'best', 'training',
            *(f'best, {size} characters of memory' for size in WINDOWS))  # fmt: skip
    texts = sorted(path.name for path in RUNS.iterdir())
    table = as_table(head, [row for text in texts for row in rows_of(text)])
    about = f'`python benchmarks/megabyte.py TEXT`; nats. {about_machine()}'
    same = ' '.join(SAME[:3])
    text = f'# A text of about a megabyte\n\n{about}\nAll with `{same}`.\n\n{table}'
    (DOCS / 'megabyte.md').write_text(text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
