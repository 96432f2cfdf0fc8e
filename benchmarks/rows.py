"""Runs of a program that make the rows of a table. What was measured before is not run again.

A table is a dict {row: {column: settings}}; the settings of a run are words in one str.
"""

import concurrent.futures
import fcntl
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


def noted(path):
    """Return what a file of notes has, {name of a run's folder: dict}; empty without the file."""
    return json.loads(path.read_text()) if path.exists() else {}


def note(path, name, what):
    """Add one entry to a file of notes, a line for each. Other processes may do so too."""
    with open(path.with_suffix('.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = {**noted(path), name: what}
        lines = ',\n'.join(f'{json.dumps(name)}: {json.dumps(notes[name])}' for name in notes)
        part = path.with_suffix('.part')
        part.write_text(f'{{\n{lines}\n}}\n')
        part.replace(path)


def found(runs, table, notes=None):
    """Return what runs that have ended found, {row: {column: dict}}, of the rows that have some."""
    rows, ended = {}, noted(notes or runs / 'found.json')
    for row, columns in table.items():
        for column in columns:
            name = folder_of(runs, row, column).name
            if name in ended:
                rows.setdefault(row, {})[column] = ended[name]
    return rows


def train(
    runs, program, table, same=(), numbers=(), measure=lambda folder: {}, python=sys.executable,
    notes=None,
):  # fmt: skip
    """Train what is missing of a table, as many runs at a time as there are cores; return `found`.

    Args:
      program: the path of the script, or of what takes the same arguments.
      same: the arguments of all runs besides.
      numbers: str, which rows to train, counted from 0; if there are none, all.
      measure: what returns a dict of what else a run found.
      python: the interpreter that runs the program.
      notes: the path of the file that keeps what the runs found; None for one in `runs`.
    """
    runs.mkdir(parents=True, exist_ok=True)
    notes = notes or runs / 'found.json'
    free = queue.Queue()
    for core in os.sched_getaffinity(0):
        free.put(core)

    def run(cell):
        folder, core = folder_of(runs, *cell), free.get()
        print(folder.name, flush=True)
        start = time.perf_counter()
        command = ['taskset', '--cpu-list', core, python, *program]
        command += [*table[cell[0]][cell[1]].split(), *same, *COMMON, f'--temp_dir={folder}']
        how = {'cwd': str(runs), 'env': ENVIRONMENT, 'stdout': subprocess.DEVNULL}
        status = subprocess.call(list(map(str, command)), **how)
        free.put(core)
        if status:  # the script has said why
            sys.exit(status)
        losses, held_out_losses = read_history(folder)
        iterations, held_out = zip(*held_out_losses)
        one = {
            'seconds': time.perf_counter() - start,
            'training': float(np.mean(losses[-100:])),
            'iterations': iterations,
            'held_out': held_out,
            **measure(folder),
        }
        note(notes, folder.name, one)

    ended = found(runs, table, notes)
    rows = [list(table)[int(number)] for number in numbers] or table
    missing = [(r, c) for r in rows for c in table[r] if c not in ended.get(r, {})]
    with concurrent.futures.ThreadPoolExecutor(free.qsize()) as pool:
        list(pool.map(run, missing))
    return found(runs, table, notes)
