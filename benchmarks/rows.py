"""Runs of a program that make the rows of a table. What was measured before is not run again.

A table is a dict {row: {column: settings}}; the settings of a run are words in one str.
"""

import concurrent.futures
import json
import os
import queue
import re
import subprocess
import sys
import time

from shared import ENVIRONMENT, read_history

# isort: split
import numpy as np

COMMON = '--restart', '--eval_every=100000', '--show_plot=False'


def folder_of(runs, row, column=''):
    """Return the folder, in the folder `runs`, of one run of a table."""
    return runs / re.sub(r'[^\w.]+', '_', f'{row} {column}').strip('_')


def found(runs, table):
    """Return what runs that have ended found, {row: {column: dict}}, of the rows that have some."""
    rows = {}
    for row, columns in table.items():
        for column in columns:
            path = folder_of(runs, row, column) / 'found.json'
            if path.exists():
                rows.setdefault(row, {})[column] = json.loads(path.read_text())
    return rows


def train(runs, program, table, same=(), numbers=(), cores_each=1, measure=lambda folder: {}):
    """Train what is missing of a table, as many runs at a time as there are cores; return `found`.

    Args:
      program: the path of the script, or of what takes the same arguments.
      same: the arguments of all runs besides.
      numbers: str, which rows to train, counted from 0; if there are none, all.
      measure: what returns a dict of what else a run found.
    """
    runs.mkdir(parents=True, exist_ok=True)
    free, cores = queue.Queue(), sorted(os.sched_getaffinity(0))
    for first in range(0, len(cores), cores_each):
        free.put(cores[first : first + cores_each])

    def run(cell):
        folder, some = folder_of(runs, *cell), free.get()
        print(folder.name, flush=True)
        start = time.perf_counter()
        command = ['taskset', '--cpu-list', ','.join(map(str, some)), sys.executable, program]
        command += [*table[cell[0]][cell[1]].split(), *same, *COMMON, f'--temp_dir={folder}']
        how = {'cwd': str(runs), 'env': ENVIRONMENT, 'stdout': subprocess.DEVNULL}
        status = subprocess.call(list(map(str, command)), **how)
        free.put(some)
        if status:  # the script has said why
            sys.exit(status)
        losses, held_out_losses = read_history(folder)
        iterations, held_out = zip(*held_out_losses)
        noted = {
            'seconds': time.perf_counter() - start,
            'cores': len(some),
            'training': float(np.mean(losses[-100:])),
            'iterations': iterations,
            'held_out': held_out,
            **measure(folder),
        }
        (folder / 'found.json').write_text(json.dumps(noted))

    ended = found(runs, table)
    rows = [list(table)[int(number)] for number in numbers] or table
    missing = [(r, c) for r in rows for c in table[r] if c not in ended.get(r, {})]
    with concurrent.futures.ThreadPoolExecutor(free.qsize()) as pool:
        list(pool.map(run, missing))
    return found(runs, table)
