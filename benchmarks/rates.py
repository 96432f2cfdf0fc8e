"""Find out at which sizes the default learning rate is good: docs/rates.md, eight hours.

    python benchmarks/rates.py [number of a row ...]

Each row of TRIED is trained with each of RATES and with the default, for as many characters of the
works as it says; two runs at a time, each on one core. What was measured before is not run again.
"""

import sys

import rows
from shared import DATA_DIR, ROOT, SCRIPT, as_table, characters, parse, script, write_page

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
    return TRIED[arguments] // characters(*arguments.split())


def runs_of(arguments):
    """Return {rate: folder} of the runs with each of RATES, and last that with the default."""
    default = round(script.highest_rate(parse(*arguments.split())), 3)
    rates = [rate for rate in RATES if rate != default] + [default]
    return {rate: rows.folder_of(RUNS, f'{arguments} --learning_rate={rate}') for rate in rates}


def measured():
    """Yield a row of the table for each of TRIED that was measured, wholly or in part."""
    for arguments in TRIED:
        found = {rate: rows.found_in(folder) for rate, folder in runs_of(arguments).items()}
        losses = {rate: one['held_out'][-1] for rate, one in found.items() if one}
        if losses:
            default, ours = list(found)[-1], ''
            if default in losses:
                ours = f': {losses[default]:.4f}'
                behind = f'{losses[default] - min(losses.values()):.3f}'
            shown = [f'{losses[rate]:.4f}' if rate in losses else '' for rate in RATES]
            about = f'`{arguments}`' if arguments else 'the default'
            iterations = f'{iterations_of(arguments):,}'
            yield (about, iterations, *shown, f'{default}{ours}', behind if ours else '')


def main(*numbers):
    jobs = {}
    for arguments in rows.chosen(list(TRIED), numbers):
        iterations = iterations_of(arguments)
        same = DATA_DIR, f'--max_iterations={iterations}', f'--save_every={iterations}'
        for rate, folder in runs_of(arguments).items():
            jobs[folder] = [SCRIPT, *arguments.split(), f'--learning_rate={rate}', *same]
    rows.train_missing(jobs)
    head = ('settings', 'iterations', *map(str, RATES), 'the default', 'behind the best by')
    rule = (
        'Nats, held-out, at the end. The default is 0.03. It grows with the root of a batch of '
        'more than 5,000 characters, up to its double; it is higher in proportion for layers of '
        'less than 128 units, and by the root for less than three of them; and it is at most '
        '0.12: `highest_rate` in the script.'
    )
    text = f'{rule}\n\n{as_table(head, measured())}'
    write_page('rates.md', 'The learning rate', 'python benchmarks/rates.py', text)


if __name__ == '__main__':
    main(*sys.argv[1:])
