"""Measure how good the default learning rate is at many sizes: measurements/rates.md, eight hours.

    python benchmarks/rates.py [number of a row ...]

Each row of TRIED is trained with each of RATES and with the default. Two runs go on at a time, each
on one core. Runs that were measured before are kept.
"""

import sys

import rows
from shared import DATA_DIR, ROOT, SCRIPT, as_table, parse, script, write_page

RUNS = ROOT / 'temp' / 'rates'
RATES = 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.12, 0.24  # include the default of most rows
TRIED = {  # settings and iterations: two million characters, except for large models and batches
    '': 400,
    '--rnn_size=16': 400,
    '--rnn_size=32': 400,
    '--rnn_size=32 --batch_size=25': 1600,
    '--rnn_size=64': 400,
    '--rnn_size=64 --num_layers=1': 400,
    '--rnn_size=64 --num_layers=8': 400,
    '--rnn_size=64 --batch_size=25': 1600,
    '--rnn_size=64 --batch_size=400': 400,
    '--rnn_size=256': 400,
    '--rnn_size=512 --batch_size=25': 400,
    '--rnn_size=1024 --batch_size=20': 250,
    '--num_layers=1': 400,
    '--num_layers=1 --rnn_size=256': 400,
    '--num_layers=1 --rnn_size=512 --batch_size=25': 400,
    '--num_layers=1 --rnn_size=1024 --batch_size=20': 250,
    '--num_layers=1 --batch_size=25': 1600,
    '--num_layers=2': 400,
    '--num_layers=5': 400,
    '--num_layers=8': 400,
    '--num_layers=8 --batch_size=25': 400,
    '--num_layers=8 --batch_size=400': 200,
    '--rnn_size=256 --batch_size=400': 200,
    '--batch_size=10': 4000,
    '--batch_size=25': 1600,
    '--batch_size=50': 800,
    '--batch_size=200': 400,
    '--batch_size=400': 400,
    '--training_seq_len=25': 800,
    '--training_seq_len=100': 400,
    '--training_seq_len=200': 400,
}


def default_rate(settings):
    return round(script.highest_rate(parse(*settings.split())), 3)


def table():
    """Return the runs of TRIED with each of RATES and with the default, as rows.train takes them.

    A run is saved, and so measured, only at its end.
    """
    return {
        settings: {
            rate: f'{settings} --learning_rate={rate} --max_iterations={num} --save_every={num}'
            for rate in {*RATES, default_rate(settings)}
        }
        for settings, num in TRIED.items()
    }


def as_cells(settings, found):
    """Return the cells of a row, from the results of its runs: a dict from rates."""
    losses = {rate: one['held_out'][-1] for rate, one in found.items()}
    default = default_rate(settings)
    ours = losses.get(default, float('nan'))
    shown = [f'{losses[rate]:.4f}' if rate in losses else '' for rate in RATES]
    about = f'`{settings}`' if settings else 'the default', f'{TRIED[settings]:,}'
    return (*about, *shown, f'{default}: {ours:.4f}', f'{ours - min(losses.values()):.3f}')


def main(*numbers):
    found = rows.train(RUNS, [SCRIPT], table(), [DATA_DIR], numbers)
    head = ('settings', 'iterations', *map(str, RATES), 'the default', 'behind the best by')
    rule = 'Held-out loss at the end, in nats. `highest_rate` in the script gives the default.'
    text = f'{rule}\n\n{as_table(head, [as_cells(*one) for one in found.items()])}'
    write_page('rates.md', 'The learning rate', 'python benchmarks/rates.py', text)


if __name__ == '__main__':
    main(*sys.argv[1:])
