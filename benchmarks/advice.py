"""Find out how much dropout a text of some size takes: docs/advice.md, an hour and a half.

    python benchmarks/advice.py [number of a row ...]

The first bytes of the works, with their case and line ends, are trained on with each of KEEP_PROBS.
Two runs at a time, each on one core. What was measured before is not run again.
"""

import itertools
import pathlib
import sys

import rows
from benchmark import DOCS, ROOT, about_machine, as_table, parse, script, sources

# isort: split
# Only now does Python find it.
from backstage.report import count_parameters

RUNS = ROOT / 'temp' / 'advice'
TRIED = [  # bytes of text, rnn_size, iterations
    *itertools.product((100_000, 300_000, 1_000_000, 3_000_000), (128,), (800, 2500)),
    (300_000, 64, 800),
    (300_000, 256, 800),
]
KEEP_PROBS = 1, 0.93, 0.85, 0.7, 0.5
SAME = (
    '--clean_text=False', '--held_out=0.1', '--batch_size=50', '--save_every=400', '--epochs=1000',
)  # fmt: skip


def folder_of(size, rnn_size, iterations, keep_prob):
    words = size, 'rnn_size', rnn_size, 'iterations', iterations, 'keep_prob', keep_prob
    return rows.folder_of(RUNS, *words)


def train(size, rnn_size, iterations, keep_prob, core):
    text = f'--text_file={RUNS / str(size)}.txt'
    arguments = (*SAME, text, f'--rnn_size={rnn_size}', f'--keep_prob={keep_prob}')
    rows.train(folder_of(size, rnn_size, iterations, keep_prob), arguments, iterations, core)


def held_out_losses(size, rnn_size, iterations, keep_prob):
    folder = folder_of(size, rnn_size, iterations, keep_prob)
    return rows.held_out_losses(folder, iterations)


def leave_texts():
    """Leave the texts in the folder of the runs."""
    RUNS.mkdir(parents=True, exist_ok=True)
    text = pathlib.Path(sources.find_text(parse())).read_bytes()
    for size in {size for size, *_ in TRIED}:
        (RUNS / f'{size}.txt').write_bytes(text[: text.rindex(b'\n', 0, size) + 1])


def measured():
    """Yield a row of the table for each of TRIED that was measured, wholly or in part."""
    for size, rnn_size, iterations in TRIED:
        losses = [held_out_losses(size, rnn_size, iterations, keep) for keep in KEEP_PROBS]
        if any(losses):
            best = min(found[-1] for found in losses if found)
            shown = []
            for found in losses:
                is_best = found and found[-1] == best
                at_end = f'**{found[-1]:.4f}**' if is_best else f'{found[-1]:.4f}' if found else ''
                rose = found and min(found) < found[-1]
                shown.append(f'{at_end} (was {min(found):.4f})' if rose else at_end)
            learned = size * 0.9
            passes = iterations * 50 * script.training_seq_len / learned
            settings = parse(f'--rnn_size={rnn_size}')
            each = learned / count_parameters(settings, 70)
            about = f'{each:.1f}', f'{iterations:,}', f'{passes:.1f}', f'{passes / each:.1f}'
            yield (f'{size:,}', f'{rnn_size}', *about, *shown)


def main(*numbers):
    wanted = [
        (*row, keep_prob)
        for row in rows.chosen(TRIED, numbers)
        for keep_prob in KEEP_PROBS
        if not held_out_losses(*row, keep_prob)
    ]
    leave_texts()
    rows.on_each_core(train, wanted)
    head = ('bytes of text', 'rnn_size', 'characters learned for each parameter', 'iterations',
            'passes', 'passes / characters for each parameter',
            *(f'keep_prob={keep_prob}' for keep_prob in KEEP_PROBS))  # fmt: skip
    about = f'`python benchmarks/advice.py`; nats, held-out, at the end. {about_machine()}'
    same = f'`{" ".join(SAME[:3])}`. The best of a row is bold.'
    why = 'What a run says of dropout rests on this: `DROPOUT` in backstage/report.py.'
    text = f'# Dropout\n\n{about}\nAll with {same}\n{why}\n\n{as_table(head, measured())}'
    (DOCS / 'advice.md').write_text(text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
