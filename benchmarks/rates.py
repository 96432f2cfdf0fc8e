"""Find out at which sizes the default learning rate is a good one: docs/rates.md, two hours.

    python benchmarks/rates.py [number of a row ...]

Each row of TRIED is trained with half the rate, with the rate, and with its double, for the same
number of characters of the works; two runs at a time, each on one core. What was measured before is
not run again.
"""

import concurrent.futures
import os
import queue
import re
import subprocess
import sys

from benchmark import DATA_DIR, DOCS, ROOT, SCRIPT, about_machine, as_table, history, script

RUNS = ROOT / 'temp' / 'rates'
FACTORS = 0.5, 1, 2
CHARACTERS = 2_000_000  # that are trained on
TRIED = {  # settings, and the characters where they are others
    '': CHARACTERS,
    '--rnn_size=64': CHARACTERS,
    '--rnn_size=256': CHARACTERS,
    '--rnn_size=512 --batch_size=50': 1_000_000,
    '--rnn_size=1024 --batch_size=25': 500_000,
    '--num_layers=1': CHARACTERS,
    '--num_layers=2': CHARACTERS,
    '--num_layers=5': CHARACTERS,
    '--num_layers=8': CHARACTERS,
    '--num_layers=8 --batch_size=25': 500_000,
    '--batch_size=10': CHARACTERS,
    '--batch_size=25': CHARACTERS,
    '--batch_size=50': CHARACTERS,
    '--batch_size=200': 2 * CHARACTERS,
    '--batch_size=400': 4 * CHARACTERS,
    '--training_seq_len=25': CHARACTERS,
    '--training_seq_len=100': 2 * CHARACTERS,
    '--training_seq_len=200': 4 * CHARACTERS,
}


def value_of(arguments, name):
    """Return the value of an integer setting, among arguments or the default."""
    found = re.search(f'--{name}=(\\d+)', arguments)
    return int(found.group(1)) if found else getattr(script, name)


def iterations_of(arguments):
    """Return how many iterations have the characters of a row of TRIED."""
    batch = value_of(arguments, 'batch_size') * value_of(arguments, 'training_seq_len')
    return TRIED[arguments] // batch


def folder_of(arguments, factor, seed=1):
    name = re.sub(r'[^\w.]+', '_', f'{arguments} rate {factor} seed {seed}').strip('_')
    return RUNS / name


def train(arguments, factor, core, seed=1):
    """Train on one core; what is left of it is a folder."""
    print(arguments, factor, seed, flush=True)
    iterations = iterations_of(arguments)
    settings = (
        f'--max_iterations={iterations}', f'--learning_rate={factor * script.learning_rate}',
        f'--save_every={iterations}', '--eval_every=100000', '--show_plot=False', '--restart',
        f'--seed={seed}', f'--temp_dir={folder_of(arguments, factor, seed)}', DATA_DIR,
    )  # fmt: skip
    subprocess.run(
        [sys.executable, str(SCRIPT), *arguments.split(), *settings],
        check=True,
        env={**os.environ, 'MPLBACKEND': 'Agg'},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stdout=subprocess.DEVNULL,
    )


def held_out_loss(arguments, factor, seed=1):
    """Return the held-out loss at the end of a run, None if there is none."""
    folder = folder_of(arguments, factor, seed)
    if not (folder / history.NAME).exists():
        return None
    _, losses = history.read(str(folder))
    at_end = [loss for iteration, loss in losses if iteration == iterations_of(arguments)]
    return at_end[-1] if at_end else None


def rows():
    """Yield a row of the table for each of TRIED that was measured, wholly or in part."""
    for arguments in TRIED:
        losses = [held_out_loss(arguments, factor) for factor in FACTORS]
        if any(losses):
            ours = losses[FACTORS.index(1)]
            behind = f'{ours - min(filter(None, losses)):.3f}' if ours else ''
            shown = [f'{loss:.4f}' if loss else '' for loss in losses]
            iterations = f'{iterations_of(arguments):,}'
            yield (f'`{arguments}`' if arguments else 'the default', iterations, *shown, behind)


def main(*numbers):
    every = list(TRIED)
    wanted = [
        (every[number], factor)
        for number in map(int, numbers or range(len(every)))
        for factor in FACTORS
        if held_out_loss(every[number], factor) is None
    ]
    cores = queue.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def run(job):
        core = cores.get()
        train(*job, core)
        cores.put(core)

    with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(run, wanted))
    head = ('settings', 'iterations', *(f'{factor} x the rate' for factor in FACTORS),
            'the default rate is behind the best by')  # fmt: skip
    about = f'`python benchmarks/rates.py`; nats, held-out, at the end. {about_machine()}'
    (DOCS / 'rates.md').write_text(f'# The learning rate\n\n{about}\n\n{as_table(head, rows())}')


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
