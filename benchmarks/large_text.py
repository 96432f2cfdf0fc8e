"""Train two workers on 10 GB of text: `make large-text`, ten minutes and 20 GB of disk.

    python benchmarks/large_text.py 10

Prints what each worker had in memory at the most, first on a small text, then on the large one.
`of its own` is what no file stands behind; the system takes the rest back when it needs room.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import psutil
from benchmark import SCRIPT, write_large

HOROVODRUN = pathlib.Path(sys.executable).with_name('horovodrun')


def memory(process):
    """Return the MB of a process that are its own, and those that are parts of files."""
    status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
    return [int(re.search(rf'{name}:\s*(\d+) kB', status)[1]) / 1e3 for name in NAMES]


NAMES = ('RssAnon', 'RssFile')


def watch(text, folder):
    """Train two workers on a text; print the most memory that each had, and the seconds."""
    command = [
        *(str(HOROVODRUN), '-np', '2', sys.executable, str(SCRIPT), f'--text_file={text}'),
        *(f'--temp_dir={folder}/temp-{text.stem}', '--held_out=0.0001', '--max_iterations=300'),
    ]
    most, seconds, until = {}, {}, {}
    began = time.time()
    log = folder / f'{text.stem}.log'
    with open(log, 'w') as file:
        run = subprocess.Popen(
            command, cwd=str(folder), env={**os.environ, 'MPLBACKEND': 'Agg'}, stdout=file
        )
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                if (
                    process.cmdline()[:1] == [sys.executable]
                    and 'HOROVOD_RANK' in process.environ()
                ):
                    number = process.environ()['HOROVOD_RANK']
                    pairs = zip(memory(process), most.get(number, (0, 0)))
                    most[number] = [max(pair) for pair in pairs]
            except (psutil.Error, OSError, TypeError):  # it has just ended
                continue
        for line in ('Training on', 'Iteration: 10,', 'Iteration: 300,'):
            if line in log.read_text() and line not in seconds:
                seconds[line] = time.time() - began
                until[line] = {number: list(pair) for number, pair in most.items()}
        time.sleep(0.2)
    assert run.returncode == 0, log.read_text()
    print(f'{text.stat().st_size / 1e6:,.0f} MB of text')
    for line, second in seconds.items():
        print(f'  {line.rstrip(",")} after {second:.0f} s')
        for number, (own, of_files) in sorted(until[line].items()):
            print(f'    worker {number}: {own:.0f} MB of its own, {of_files:.0f} MB of files')


def main(gigabytes):
    with tempfile.TemporaryDirectory(dir='.') as name:
        folder = pathlib.Path(name).resolve()
        for megabytes in 10, gigabytes * 1000:
            watch(pathlib.Path(write_large(folder, megabytes)), folder)


if __name__ == '__main__':
    main(float(sys.argv[1]))
