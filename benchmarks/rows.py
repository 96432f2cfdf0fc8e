"""Runs of the script that make the rows of a table. What was measured before is not run again."""

import concurrent.futures
import json
import os
import queue
import re
import subprocess
import sys
import time

from shared import read_history

# isort: split
import numpy as np

COMMON = '--restart', '--eval_every=100000', '--show_plot=False'


def chosen(tried, numbers):
    """Return the rows of a list with these numbers, str, as they are given to a program; or all."""
    wrong = [n for n in numbers if not n.isdecimal() or int(n) >= len(tried)]
    if wrong:
        sys.exit(f'There is no row {wrong[0]}: they are numbered from 0 to {len(tried) - 1}.')
    return [tried[int(n)] for n in numbers] or tried


def folder_of(runs, arguments):
    """Return the folder, in the folder `runs`, of a run with these arguments, a str."""
    return runs / (re.sub(r'[^\w.]+', '_', arguments).strip('_') or 'default')


def found_in(folder):
    """Return what `train` has found, a dict; an empty one if the run did not end."""
    path = folder / 'found.json'
    return json.loads(path.read_text()) if path.exists() else {}


def train(folder, command, cores, measure=lambda folder: {}):
    """Train on some cores, a set, and note what was found; `measure` adds to it.

    Args:
      command: list, the program, such as SCRIPT, and its arguments.
    """
    print(folder.name, flush=True)
    start = time.perf_counter()
    words = ['taskset', '--cpu-list', ','.join(map(str, cores)), sys.executable, *map(str, command)]
    status = subprocess.call(
        [*words, f'--temp_dir={folder}', *COMMON],
        env={**os.environ, 'MPLBACKEND': 'Agg'},
        stdout=subprocess.DEVNULL,
    )
    if status:  # the script has said why
        sys.exit(status)
    losses, held_out_losses = read_history(folder)
    found = {
        'seconds': time.perf_counter() - start,
        'cores': len(cores),
        'training': float(np.mean(losses[-100:])),
        'held_out': [loss for _, loss in held_out_losses],
        **measure(folder),
    }
    (folder / 'found.json').write_text(json.dumps(found))


def train_missing(jobs):
    """Train what is missing of {folder: command}, on each core one run at a time."""
    cores = queue.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def run(folder):
        core = cores.get()
        try:
            train(folder, jobs[folder], {core})
        finally:
            cores.put(core)

    missing = [folder for folder in jobs if not found_in(folder)]
    with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(run, missing))
