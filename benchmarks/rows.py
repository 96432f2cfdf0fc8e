"""Short runs of the script, one on each core, that make the rows of a table; they are kept."""

import concurrent.futures
import os
import queue
import re
import subprocess
import sys

from benchmark import SCRIPT, saving


def chosen(tried, numbers):
    """Return the rows of a list with these numbers, str, as they are given to a program; or all."""
    wrong = [n for n in numbers if not n.isdecimal() or int(n) >= len(tried)]
    if wrong:
        sys.exit(f'There is no row {wrong[0]}: they are numbered from 0 to {len(tried) - 1}.')
    return [tried[int(n)] for n in numbers] or tried


def folder_of(runs, *words):
    """Return a folder in the folder `runs` that is named after some words."""
    return runs / re.sub(r'[^\w.]+', '_', ' '.join(map(str, words))).strip('_')


def train(folder, arguments, iterations, core):
    """Train on one core; what is left of it is a folder."""
    print(folder.name, flush=True)
    subprocess.run(
        [
            sys.executable, str(SCRIPT), *arguments, f'--temp_dir={folder}', '--restart',
            f'--max_iterations={iterations}', '--eval_every=100000', '--show_plot=False',
        ],
        check=True,
        env={**os.environ, 'MPLBACKEND': 'Agg'},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def held_out_losses(folder, iterations):
    """Return the held-out losses of a run of so many iterations; none, if it did not end."""
    if not (folder / 'history.csv').exists():
        return []
    _, losses = saving.read_history(str(folder))
    has_ended = losses and losses[-1][0] == iterations
    return [loss for _, loss in losses] if has_ended else []


def on_each_core(train_one, jobs):
    """Call `train_one(*job, core)` for each of a list of jobs, on each core one at a time."""
    cores = queue.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def run(job):
        core = cores.get()
        try:
            train_one(*job, core)
        finally:
            cores.put(core)

    with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(run, jobs))
