"""Train two workers on 10 GB of text: ten minutes and 20 GB of disk.

    python benchmarks/large_text.py 10        after `make horovod`

Prints what each worker had in memory at the most, first on a small text, then on the large one.
`of its own` is what no file stands behind; the system takes the rest back when it needs room.
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import psutil
from benchmark import write_large
from shared import SCRIPT

HOROVODRUN = str(pathlib.Path(sys.executable).with_name('horovodrun'))


def worker_memory(process):
    """Yield the rank of each worker, and the MB that are its own, and parts of files: list."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError, TypeError):  # it has just ended
            if child.cmdline()[:1] == [sys.executable] and 'HOROVOD_RANK' in child.environ():
                status = pathlib.Path(f'/proc/{child.pid}/status').read_text()
                sizes = [re.search(rf'{n}:\s*(\d+) kB', status)[1] for n in ('RssAnon', 'RssFile')]
                yield child.environ()['HOROVOD_RANK'], [int(size) / 1e3 for size in sizes]


def watch(text, folder):
    """Train two workers on a text; print the most memory that each had, and the seconds."""
    print(f'{text.stat().st_size / 1e6:,.0f} MB of text')
    began, most = time.time(), {}
    log = folder / f'{text.stem}.log'
    with open(log, 'w') as file:
        run = subprocess.Popen(
            [
                *(HOROVODRUN, '-np', '2', sys.executable, str(SCRIPT), f'--text_file={text}'),
                *(f'--temp_dir={folder}/temp-{text.stem}', '--held_out=0.0001'),
                '--max_iterations=300',
            ],
            cwd=str(folder), env={**os.environ, 'MPLBACKEND': 'Agg'}, stdout=file,
        )  # fmt: skip
    lines = ['Training on', 'Iteration: 10,', 'Iteration: 300,']
    while run.poll() is None:
        for rank, sizes in worker_memory(run):
            most[rank] = list(map(max, sizes, most.get(rank, (0, 0))))
        if lines and lines[0] in log.read_text():
            print(f'  {lines.pop(0)} after {time.time() - began:.0f} s')
            for rank, (own, of_files) in sorted(most.items()):
                print(f'    worker {rank}: {own:.0f} MB of its own, {of_files:.0f} MB of files')
        time.sleep(0.2)
    if run.returncode:
        sys.exit(log.read_text())


def main(gigabytes):
    with tempfile.TemporaryDirectory(dir='.') as name:
        folder = pathlib.Path(name).resolve()
        for megabytes in 10, gigabytes * 1000:
            watch(pathlib.Path(write_large(folder, megabytes)), folder)


if __name__ == '__main__':
    main(float(sys.argv[1]))
