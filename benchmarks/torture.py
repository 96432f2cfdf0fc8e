"""Kill programs, or let their disk fail, at each call that changes files.

    python benchmarks/torture.py .venv .venv-tf2     measurements/saving.md, in about two hours
    python benchmarks/torture.py --every=10          tries every tenth moment with this Python

tests/moments.py describes what is compared. This needs a C compiler.
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
EVERY = {'kill': 1, 'full': 4, 'fail': 4}  # a failure leaves the same files as a kill
TEXT = """Programs were killed at each call that changes files, or their disk failed there. Then the
same command ran again, undisturbed. It must succeed, and end with the same bits and the same
history as if nothing had happened. Every file of an earlier run must still exist.
**{tried:,} moments were tried; {bad:,} ended differently.**

{table}
A *moment* is a call, also one in TensorFlow's C++: open for writing, write (before it, and when
half of it is done), flush, sync, rename, remove, make a folder, truncate. From a series of writes
to one file, only the first two and the last two are tried. A program was killed at one of `--every`
moments. Its disk failed at one of four times as many. With a *disk full from then on*, all later
calls except removals fail too. After a failure the program must end by itself, with at most one
line on standard error.

## What a save does to the disk

These are the calls of `fsync`, `rename` and `unlink` in the last save of a run that goes on. The
checksum of the losses comes first, then the losses, the best model, the newest model and the
picture. An older model is removed only after the new one and its names (`fsync` of its folder) are
on the disk. So a power cut should leave a whole model and the losses up to it. (This test did not
cut the power.)

{calls}"""


def count(every, names):
    """Try one of `every` moments of some scenarios; yield (scenario, calls, how, tried, bad)."""
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
    # The record is written before and after the history.
    begin = [i for i, call in enumerate(calls) if call == 'rename temp/settings.json'][-2] - 1
    found = [call for call in calls[begin:] if call.split()[0] in ('fsync', 'rename', 'unlink')]
    # Remove process numbers and the random parts of names.
    found = [re.sub(r'(tempstate|tmp)[0-9a-f]{9,}|\.\w+\.\d+(?=\.part)', r'\1', c) for c in found]
    return [call for call in found if 'text.' not in call]


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'venvs', nargs='*', help='virtual environments; none: try with this Python, and print'
    )
    parser.add_argument('--every', type=int, default=1, help='try one of this many moments')
    parser.add_argument('--only', choices=moments.SCENARIOS, help='try only this scenario')
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
