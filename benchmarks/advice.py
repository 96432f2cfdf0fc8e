"""Find out how much dropout a text of some size takes: docs/advice.md, an hour and a half.

    python benchmarks/advice.py [number of a row ...]

The first bytes of the works, with their case and line ends, are trained on with each of KEEP_PROBS.
Two runs at a time, each on one core. What was measured before is not run again.
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
SAME = (
    '--clean_text=False', '--held_out=0.1', '--batch_size=50', '--save_every=400', '--epochs=1000',
)  # fmt: skip


def runs_of(size, rnn_size, iterations):
    """Return the arguments of the runs of a row, for each of KEEP_PROBS: list of str."""
    what = f'--text_file={RUNS / str(size)}.txt --rnn_size={rnn_size} --max_iterations={iterations}'
    return [f'{what} --keep_prob={keep_prob}' for keep_prob in KEEP_PROBS]


def folder_of(arguments):
    return rows.folder_of(RUNS, arguments.replace(f'{RUNS}/', ''))


def leave_texts():
    """Leave the texts in the folder of the runs."""
    RUNS.mkdir(parents=True, exist_ok=True)
    text = works()
    for size in {size for size, *_ in TRIED}:
        (RUNS / f'{size}.txt').write_bytes(text[: text.rindex(b'\n', 0, size) + 1])


def measured():
    """Yield a row of the table for each of TRIED that was measured, wholly or in part."""
    for size, rnn_size, iterations in TRIED:
        runs = runs_of(size, rnn_size, iterations)
        losses = [rows.found_in(folder_of(arguments)).get('held_out') for arguments in runs]
        if any(losses):
            best, shown = min(found[-1] for found in losses if found), []
            for found in losses:
                last = f'{found[-1]:.4f}' if found else ''
                shown.append(f'**{last}**' if found and found[-1] == best else last)
                if found and min(found) < found[-1]:
                    shown[-1] += f' (was {min(found):.4f})'
            learned = size * 0.9
            passes = iterations * 50 * script.training_seq_len / learned
            each = learned / machine.count_parameters(parse(f'--rnn_size={rnn_size}'), 70)
            about = f'{each:.1f}', f'{iterations:,}', f'{passes:.1f}', f'{passes / each:.1f}'
            yield (f'{size:,}', f'{rnn_size}', *about, *shown)


def main(*numbers):
    leave_texts()
    runs = [arguments for row in rows.chosen(TRIED, numbers) for arguments in runs_of(*row)]
    rows.train_missing(
        {folder_of(arguments): [SCRIPT, *SAME, *arguments.split()] for arguments in runs}
    )
    head = ('bytes of text', 'rnn_size', 'characters learned for each parameter', 'iterations',
            'passes', 'passes / characters for each parameter',
            *(f'keep_prob={keep_prob}' for keep_prob in KEEP_PROBS))  # fmt: skip
    same = f'All with `{" ".join(SAME[:3])}`; nats at the end. The best of a row is bold.'
    why = 'What a run says of dropout rests on this: `DROPOUT` in backstage/report.py.'
    text = f'{same}\n{why}\n\n{as_table(head, measured())}'
    write_page('advice.md', 'Dropout', 'python benchmarks/advice.py', text)


if __name__ == '__main__':
    main(*sys.argv[1:])
