"""Find out at which sizes the default learning rate is good: docs/rates.md, eight hours.

    python benchmarks/rates.py [number of a row ...]

Each row of TRIED is trained with each of RATES and with the default, for as many characters of the
works as it says; two runs at a time, each on one core. What was measured before is not run again.
"""

import sys

import rows
from benchmark import DATA_DIR, DOCS, ROOT, about_machine, as_table, parse, script

RUNS = ROOT / 'temp' / 'rates'
RATES = 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.12, 0.24  # for most rows the default is among them
CHARACTERS = 2_000_000  # that are trained on
TRIED = {  # settings, and the characters where they are others
    '': CHARACTERS,
    '--rnn_size=16': CHARACTERS,
    '--rnn_size=32': CHARACTERS,
    '--rnn_size=32 --batch_size=25': CHARACTERS,
    '--rnn_size=64': CHARACTERS,
    '--rnn_size=64 --num_layers=1': CHARACTERS,
    '--rnn_size=64 --num_layers=8': CHARACTERS,
    '--rnn_size=64 --batch_size=25': CHARACTERS,
    '--rnn_size=64 --batch_size=400': 4 * CHARACTERS,
    '--rnn_size=256': CHARACTERS,
    '--rnn_size=512 --batch_size=25': 500_000,
    '--rnn_size=1024 --batch_size=20': 250_000,
    '--num_layers=1': CHARACTERS,
    '--num_layers=1 --rnn_size=256': CHARACTERS,
    '--num_layers=1 --rnn_size=512 --batch_size=25': 500_000,
    '--num_layers=1 --rnn_size=1024 --batch_size=20': 250_000,
    '--num_layers=1 --batch_size=25': CHARACTERS,
    '--num_layers=2': CHARACTERS,
    '--num_layers=5': CHARACTERS,
    '--num_layers=8': CHARACTERS,
    '--num_layers=8 --batch_size=25': 500_000,
    '--num_layers=8 --batch_size=400': 2 * CHARACTERS,
    '--rnn_size=256 --batch_size=400': 2 * CHARACTERS,
    '--batch_size=10': CHARACTERS,
    '--batch_size=25': CHARACTERS,
    '--batch_size=50': CHARACTERS,
    '--batch_size=200': 2 * CHARACTERS,
    '--batch_size=400': 4 * CHARACTERS,
    '--training_seq_len=25': CHARACTERS,
    '--training_seq_len=100': 2 * CHARACTERS,
    '--training_seq_len=200': 4 * CHARACTERS,
}


def iterations_of(arguments):
    """Return how many iterations have the characters of a row of TRIED."""
    settings = parse(*arguments.split())
    return TRIED[arguments] // (settings.batch_size * settings.training_seq_len)


def default_rate(arguments):
    """Return the rate that the script takes for a row of TRIED, to a thousandth."""
    return round(script.highest_rate(parse(*arguments.split())), 3)


def folder_of(arguments, rate):
    return rows.folder_of(RUNS, arguments, 'learning_rate', rate)


def train(arguments, rate, core):
    iterations = iterations_of(arguments)
    more = f'--learning_rate={rate}', f'--save_every={iterations}', DATA_DIR
    folder = folder_of(arguments, rate)
    rows.train(folder, (*arguments.split(), *more), iterations, core)


def held_out_loss(arguments, rate):
    """Return the held-out loss at the end of a run, None if there is none."""
    folder = folder_of(arguments, rate)
    return next(reversed(rows.held_out_losses(folder, iterations_of(arguments))), None)


def measured():
    """Yield a row of the table for each of TRIED that was measured, wholly or in part."""
    for arguments in TRIED:
        default = default_rate(arguments)
        losses = [held_out_loss(arguments, rate) for rate in (*RATES, default)]
        if any(losses):
            ours = losses[-1]
            behind = f'{ours - min(filter(None, losses)):.3f}' if ours else ''
            shown = [f'{loss:.4f}' if loss else '' for loss in losses[:-1]]
            shown += [f'{default}: {ours:.4f}' if ours else f'{default}', behind]
            iterations = f'{iterations_of(arguments):,}'
            yield (f'`{arguments}`' if arguments else 'the default', iterations, *shown)


def main(*numbers):
    wanted = [
        (arguments, rate)
        for arguments in rows.chosen(list(TRIED), numbers)
        for rate in sorted({*RATES, default_rate(arguments)})
        if held_out_loss(arguments, rate) is None
    ]
    rows.on_each_core(train, wanted)
    head = ('settings', 'iterations', *(f'{rate}' for rate in RATES),
            'the default', 'behind the best by')  # fmt: skip
    about = f'`python benchmarks/rates.py`; nats, held-out, at the end. {about_machine()}'
    rule = (
        'The default is 0.03. It grows with the root of a batch of more than 5,000 characters, up '
        'to its double; it is higher in proportion for layers of less than 128 units, and by the '
        'root for less than three of them; and it is at most 0.12: `highest_rate` in the script.'
    )
    table = as_table(head, measured())
    (DOCS / 'rates.md').write_text(f'# The learning rate\n\n{about}\n{rule}\n\n{table}')


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
