"""Measure how much dropout texts of several sizes need: measurements/advice.md, an hour and a half.

    python benchmarks/advice.py [number of a row ...]

Each run trains on the first bytes of the works, with their case and line ends, with one of
KEEP_PROBS. Two runs go on at a time, each on one core. Runs that were measured before are kept.
"""

import itertools
import sys

import rows
from shared import ROOT, SCRIPT, as_table, machine, parse, script, works, write_page

RUNS = ROOT / 'temp' / 'advice'
TRIED = [  # bytes of text, rnn_size, iterations
    *itertools.product((100_000, 300_000, 1_000_000, 3_000_000), (128,), (800, 2500)),
    (300_000, 64, 800),
    (300_000, 256, 800),
]
KEEP_PROBS = 1, 0.93, 0.85, 0.7, 0.5
SAME = '--clean_text=False', '--held_out=0.1', '--batch_size=50'


def table():
    """Return the runs of TRIED with each of KEEP_PROBS, as rows.train takes them."""
    return {
        (size, rnn_size, iterations): {
            keep_prob: f'--text_file={size}.txt --rnn_size={rnn_size} --keep_prob={keep_prob}'
            f' --max_iterations={iterations} --epochs=1000 --save_every=400'
            for keep_prob in KEEP_PROBS
        }
        for size, rnn_size, iterations in TRIED
    }


def leave_texts():
    """Write the texts into the folder of the runs."""
    RUNS.mkdir(parents=True, exist_ok=True)
    text = works()
    for size in {size for size, *_ in TRIED}:
        (RUNS / f'{size}.txt').write_bytes(text[: text.rindex(b'\n', 0, size) + 1])


def as_cells(row, found):
    """Return the cells of a row, from the results of its runs: a dict from KEEP_PROBS."""
    size, rnn_size, iterations = row
    learned = size * 0.9
    passes = iterations * 50 * script.training_seq_len / learned
    each = learned / machine.count_parameters(parse(f'--rnn_size={rnn_size}'), 70)
    shown, best = dict.fromkeys(KEEP_PROBS, ''), min(one['held_out'][-1] for one in found.values())
    for keep_prob, one in found.items():
        *_, last = losses = one['held_out']
        shown[keep_prob] = f'**{last:.4f}**' if last == best else f'{last:.4f}'
        if min(losses) < last:
            shown[keep_prob] += f' (was {min(losses):.4f})'
    about = f'{each:.1f}', f'{iterations:,}', f'{passes:.1f}', f'{passes / each:.1f}'
    return (f'{size:,}', f'{rnn_size}', *about, *shown.values())


def main(*numbers):
    leave_texts()
    found = rows.train(RUNS, [SCRIPT], table(), SAME, numbers)
    head = ('bytes of text', 'rnn_size', 'characters learned for each parameter', 'iterations',
            'passes', 'passes / characters for each parameter',
            *(f'keep_prob={keep_prob}' for keep_prob in KEEP_PROBS))  # fmt: skip
    same = f'All runs use `{" ".join(SAME)}`. Losses are in nats, at the end; the best is bold.'
    why = 'The advice of a run on dropout comes from this table: `DROPOUT` in backstage/report.py.'
    text = f'{same}\n{why}\n\n{as_table(head, [as_cells(*one) for one in found.items()])}'
    write_page('advice.md', 'Dropout', 'python benchmarks/advice.py', text)


if __name__ == '__main__':
    main(*sys.argv[1:])
