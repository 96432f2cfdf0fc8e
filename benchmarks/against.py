"""Compare this checkout with another one, in turns on the same cores: some twenty minutes.

    python benchmarks/against.py OTHER_CHECKOUT [--quick] [.venv ...]

Shown are medians of turns, with quartiles; where the ratio is more than 1, this checkout is faster.
The folders that may follow have the TensorFlows to compare with, else it is that of this Python.
The quick form has the default shape alone.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import shared
from shared import DATA_DIR, PRODUCT, ROOT, SHAPES, characters, run
from turns import Stepper, take_turns, with_quartiles

TURNS = 7
# What `python -m tools.NAME` is started with
TOOLS = {
    'tools.sample, one stream': ['sample', '--prime_text=my', '--sample_length=30000'],
    'tools.sample, 100 streams': [
        *('sample', '--prime_text=my', '--num_samples=100', '--sample_length=1000'),
    ],
    'tools.evaluate': ['evaluate'],
}


def python_of(folder):
    """Return the path of the Python of a .venv."""
    return str(pathlib.Path(folder, 'bin', 'python').absolute())


def as_row(what, ours, theirs, amount=None, product=''):
    """Return a row of the table.

    Args:
      ours, theirs: the seconds of each turn, lists of float.
      amount: int, of what there is so much per second; None: the seconds are shown.
    """
    shown = [
        with_quartiles([amount / s for s in seconds]) if amount else with_quartiles(seconds, '.3f')
        for seconds in (ours, theirs)
    ]
    ratio = with_quartiles([their / our for our, their in zip(ours, theirs)], '.3f')
    return (what, *shown, ratio, product)


def step_row(contestants, what, name, *arguments, amount=None):
    """Return a row on steps of a kind, and the rate of a product between them.

    Args:
      contestants: two pairs of a Python and a checkout.
    """
    ours, theirs, product = take_turns(
        TURNS,
        *(Stepper(name, *arguments, python=p, CHECKOUT=str(c)) for p, c in contestants),
        Stepper('product_steps', python=contestants[0][0]),
    )
    rate = f'{PRODUCT / product.median:.0f}'
    return as_row(' '.join([what, *arguments]), ours.seconds, theirs.seconds, amount, rate)


def turn_row(contestants, what, measure):
    """Return a row on the seconds that `measure` of a Python and a checkout returns."""
    seconds = [[measure(*one) for one in contestants] for _ in range(TURNS)]
    return as_row(what, *map(list, zip(*seconds)))


def tool_rows(contestants):
    """Yield a row for each of TOOLS, from launch to end, with a model of the contestant's own."""
    with tempfile.TemporaryDirectory() as name:
        temps = {one: f'--temp_dir={name}/{number}' for number, one in enumerate(contestants)}
        for python, checkout in contestants:
            train = f'{checkout}/{shared.SCRIPT.name}', DATA_DIR, '--max_iterations=20'
            run(temps[python, checkout], program=train, python=python)
        for what, (tool, *arguments) in TOOLS.items():

            def measure(python, checkout, command=('-m', f'tools.{tool}', *arguments)):
                start = time.perf_counter()
                quiet = {'cwd': str(checkout), 'stderr': subprocess.DEVNULL}
                run(temps[python, checkout], program=command, python=python, **quiet)
                return time.perf_counter() - start

            yield turn_row(contestants, what, measure)


def compare(contestants, shapes=(*SHAPES, ('--keep_prob=0.8',))):
    """Yield the rows of a table that compares two contestants, and print each."""
    for shape in shapes:
        amount = characters(*shape)
        what = 'training, characters per second'
        yield step_row(contestants, what, 'script_steps', *shape, amount=amount)
        yield step_row(contestants, 'building the graph, s', 'build_steps', *shape)
    yield step_row(contestants, 'the held-out loss, s', 'held_out_steps')
    yield from tool_rows(contestants)
    yield turn_row(
        contestants,
        'launch to first iteration, s',
        lambda python, checkout: shared.seconds_to_start(python, checkout)[0],
    )


def main(other, *arguments):
    is_quick = '--quick' in arguments
    folders = [folder for folder in arguments if folder != '--quick']
    print(shared.about_machine())
    print('what | here | there | times as fast here | a product, GFLOP/s')
    for python in map(python_of, folders) if folders else [sys.executable]:
        contestants = (python, ROOT), (python, pathlib.Path(other).resolve())
        print(python)
        for row in compare(contestants, *[[()]] * is_quick):
            print(' | '.join(row), flush=True)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
