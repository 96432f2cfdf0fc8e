"""Compare this checkout with another one, or two TensorFlows, in turns: about twenty minutes.

    python benchmarks/against.py OTHER_CHECKOUT [--quick]
    python benchmarks/against.py OTHER_CHECKOUT --bits               or `make witness`: five minutes
    python benchmarks/against.py --tensorflows .venv .venv-tf2   writes measurements/tensorflows.md

The figures are medians of turns, with quartiles. A ratio above 1 means that this checkout is
faster, or the second TensorFlow. --quick measures only the default shape. --bits checks that both
checkouts learn the same, bit for bit: all losses, held-out losses and samples.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import shared
from shared import DATA_DIR, PRODUCT, ROOT, SHAPES, as_table, characters, run, script
from steps import DRAWN
from turns import Stepper, take_turns, with_quartiles

TURNS = 7
TRIED = *SHAPES, ('--keep_prob=0.8',)
# The arguments of `python -m tools.NAME`
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
      amount: int, what a turn produces, for a rate per second; None: the row shows seconds.
    """
    shown = [
        with_quartiles([amount / s for s in seconds]) if amount else with_quartiles(seconds, '.3f')
        for seconds in (ours, theirs)
    ]
    ratio = with_quartiles([their / our for our, their in zip(ours, theirs)], '.3f')
    return (what, *shown, ratio, product)


def step_row(contestants, what, name, *arguments, amount=None):
    """Return a row on one kind of step, with the rate of a product measured in the same turns.

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
    """Return a row on the seconds that measure(python, checkout) returns."""
    seconds = [[measure(*one) for one in contestants] for _ in range(TURNS)]
    return as_row(what, *zip(*seconds))


def tool_rows(contestants):
    """Yield a row for each of TOOLS, from launch to end. Each contestant has its own model."""
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


def compare(contestants, shapes=TRIED):
    """Yield the rows of a table that compares two contestants."""
    for shape in shapes:
        amount = characters(*shape)
        what = 'training, characters per second'
        yield step_row(contestants, what, 'script_steps', *shape, amount=amount)
        yield step_row(contestants, 'building the graph, s', 'build_steps', *shape)
    yield step_row(contestants, 'the held-out loss, s', 'held_out_steps')
    yield from tool_rows(contestants)
    start = 'launch to first iteration, s'
    yield turn_row(contestants, start, lambda *one: shared.seconds_to_start(*one)[0])


def compare_tensorflows(one, two):
    contestants = [(python_of(folder), ROOT) for folder in (two, one)]
    ask = '-c', 'from backstage import tf; print(tf.__version__)'
    names = [run(*ask, program=(), python=p, cwd=str(c)).strip() for p, c in contestants]
    rows = [
        step_row(contestants, 'generating one stream', 'draw_one', amount=DRAWN),
        step_row(contestants, 'generating 100 streams', 'draw_hundred', amount=DRAWN),
        *compare(contestants),
    ]
    head = ('what', *names, f'times as fast on {names[0]}', 'a product, GFLOP/s')
    text = f'Medians of turns, with quartiles.\n\n{as_table(head, rows)}'
    command = 'python benchmarks/against.py --tensorflows .venv .venv-tf2'
    shared.write_page('tensorflows.md', f'TensorFlow {names[1]} and {names[0]}', command, text)


RUNS = {  # runs that follow each other in the same folder
    'the default settings': ['--max_iterations=400'],
    'dropout, continued': [f'--keep_prob=0.7 --max_iterations={number}' for number in (150, 300)],
    'one layer': ['--num_layers=1 --max_iterations=400'],
}


def learned(checkout, runs, *arguments):
    """Train with the script of a checkout; return its losses, held-out losses and samples: dict."""
    output, program = '', [f'{checkout}/{shared.SCRIPT.name}']
    with tempfile.TemporaryDirectory() as folder:
        same = [DATA_DIR, '--save_every=100', '--eval_every=100', f'--temp_dir={folder}']
        for one in runs:
            output += run(*same, *one.split(), *arguments, program=program)
        losses, held_out_losses = shared.read_history(folder)
    samples = [line for line in output.split('\n') if line.startswith(tuple(script.prime_texts))]
    return {'losses': losses, 'held-out losses': held_out_losses, 'samples': samples}


def compare_bits(ours, theirs):
    """Return in words which parts of two results of `learned` are the same: str."""
    words = []
    for name, values in ours.items():
        alike = [a == b for a, b in zip(values, theirs[name])]
        first = [*alike, False].index(False) + 1
        where = 'the same' if values == theirs[name] else f'DIFFERENT from number {first} on'
        words.append(f'{len(values)} {name} {where}')
    return ', '.join(words)


def main(other, *arguments):
    if other == '--tensorflows':
        return compare_tensorflows(*arguments)
    folders, differ = (ROOT, pathlib.Path(other).resolve()), False
    if '--bits' in arguments:
        for name, runs in RUNS.items():
            ours, theirs = (learned(folder, runs) for folder in folders)
            print(f'{name}: {compare_bits(ours, theirs)}', flush=True)
            differ |= ours != theirs
        return int(differ)
    print(shared.about_machine())
    print('what | here | there | times as fast here | a product, GFLOP/s')
    contestants = [(sys.executable, folder) for folder in folders]
    for row in compare(contestants, [()] if '--quick' in arguments else TRIED):
        print(' | '.join(row), flush=True)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
