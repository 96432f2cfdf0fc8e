"""Kill programs, or let their disk fail, at each call by which they change files.

    python benchmarks/torture.py .venv .venv-tf2       writes docs/saving.md: some two hours
    python benchmarks/torture.py --every=10            one of ten moments, with this one alone

What is compared is described in tests/moments.py. A C compiler has to be installed.
"""

import argparse
import itertools
import json
import pathlib
import re
import sys
import tempfile

from shared import ROOT, as_table, run, tf, write_page

sys.path.insert(0, str(ROOT / 'tests'))

import moments

HOW = {'kill': 'SIGKILL', 'full': 'disk full from then on', 'fail': 'this call fails'}
EVERY = {'kill': 1, 'full': 4, 'fail': 4}  # a failure leaves what a kill leaves, and goes on
TEXT = """Programs were ended at each call by which they change files, or their disk failed there.
Then came the same command again, undisturbed. It has to succeed and to end with the same bits and
the same history as if nothing had happened, and each file of an earlier run has to be there.
**{tried:,} moments were tried; {bad:,} did not end so.**

{table}
A *moment* is a call, in TensorFlow's C++ too: open for writing, write (before it, and when half is
written), flush, sync, rename, remove, make a folder, cut. Of the writes of one file in a row the
first two and the last two count. At one of `--every` moments a program was killed, at one of four
times as many its disk failed. On a *disk full from then on* all later calls fail too, but removals.
After a failure the program has to end by itself, with one line in standard error at most.

## What a save does to the disk

These are the calls of `fsync`, `rename` and `unlink` in the last save of a run that goes on. The
losses come first, their checksum before them, then the best model, the newest, and the picture. An
older model is removed only after the new one and its names (`fsync` of its folder) are on the disk.
So a power cut should leave a whole model and the losses up to it. (No power was cut here.)

{calls}"""


def count(every, names):
    """Try one of `every` moments of some scenarios; yield [scenario, calls, how, tried, bad]."""
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            scenario = moments.Scenario(name, place)
            for how in moments.HOW:
                numbers, bad = scenario.moments()[:: every * EVERY[how]], 0
                for number, call, problem in moments.try_all(scenario, how, numbers):
                    if problem:
                        print(name, how, number, call, problem, sep=': ', file=sys.stderr)
                        bad += 1
                yield name, len(scenario.calls), how, len(numbers), bad


def calls_of_a_save():
    """Return the calls of the last save of a run that goes on: list of str."""
    with tempfile.TemporaryDirectory() as place:
        calls = moments.Scenario('a run that goes on', place).calls
    # The record is written before the history and after it.
    begin = [i for i, call in enumerate(calls) if call == 'rename temp/settings.json'][-2] - 1
    found = [call for call in calls[begin:] if call.split()[0] in ('fsync', 'rename', 'unlink')]
    # Numbers of processes, and the random part of a name, are nothing to look at.
    found = [re.sub(r'(tempstate|tmp)[0-9a-f]{9,}|\.\w+\.\d+(?=\.part)', r'\1', c) for c in found]
    return [call for call in found if 'text.' not in call]


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'venvs', nargs='*', help='virtual environments; none: count here, and print'
    )
    parser.add_argument('--every', type=int, default=1, help='try one of so many moments')
    parser.add_argument('--only', choices=moments.SCENARIOS, help='try this scenario, and print')
    settings = parser.parse_args(arguments)
    moments.start_servers()
    if not settings.venvs:
        for row in count(settings.every, [settings.only] if settings.only else moments.SCENARIOS):
            print(json.dumps([f'TensorFlow {tf.__version__}', *row]), flush=True)
        return
    rows = []
    for venv in settings.venvs:
        how = {'program': [__file__], 'python': pathlib.Path(venv, 'bin', 'python')}
        rows += map(json.loads, run(f'--every={settings.every}', **how).splitlines())
    head = ['', 'disturbed', 'calls', *HOW.values()]
    table = []
    for (version, name, calls), group in itertools.groupby(rows, lambda row: row[:3]):
        by_how = {
            how: f'{tried}, {bad} bad' if bad else str(tried) for *_, how, tried, bad in group
        }
        table.append([version, name, str(calls), *map(by_how.get, HOW)])
    tried, bad = (sum(row[place] for row in rows) for place in (-2, -1))
    calls = ''.join(f'    {call}\n' for call in calls_of_a_save())
    text = TEXT.format(tried=tried, bad=bad, table=as_table(head, table), calls=calls)
    command = f'python benchmarks/torture.py {" ".join(settings.venvs)} --every={settings.every}'
    write_page('saving.md', 'What is left of a run when it is killed', command, text)


if __name__ == '__main__':
    main(sys.argv[1:])
