"""Measure the speed of the script beside PyTorch and JAX: `make peers`, twenty-five minutes.

It writes measurements/peers-speed.md. On a processor with AVX-512 the ratios differ, and it writes
measurements/peers-speed-avx512.md.

    python benchmarks/peers.py .venv .venv-tf2 .venv-torch .venv-jax [quick]

The folders have TensorFlow 1.15, a 2.x, PyTorch and JAX. All take turns on the same cores. The
quick form measures only the default shape, and only prints: five minutes.
"""

import os
import pathlib
import sys

import shared
from against import python_of
from shared import PRODUCT, SHAPES, as_table, characters, parse, run, write_page
from turns import STEPS, Stepper, take_turns, with_quartiles

TURNS = 7
TORCH, JAX = (str(pathlib.Path(__file__).with_name(f'peer_{name}.py')) for name in ('torch', 'jax'))
# For each kind: the number of its folder, its program, its name in the program, and whether only
# the default shape is measured.
KINDS = {
    'the script, TensorFlow 1.15': (0, STEPS, 'script_steps', False),
    'the script, TensorFlow 2': (1, STEPS, 'script_steps', False),
    'the recipe': (0, STEPS, 'recipe_steps', True),
    'PyTorch, `nn.LSTM`': (2, TORCH, 'lstm', False),
    'PyTorch, `nn.LSTM`, `torch.compile`': (2, TORCH, 'compiled_lstm', False),
    'PyTorch, cells unrolled, `torch.compile`': (2, TORCH, 'compiled_unrolled', True),
    'JAX, `scan`': (3, JAX, 'scan_1', False),
    'JAX, `scan`, two steps in one': (3, JAX, 'scan_2', True),
    'JAX, `scan`, five steps in one': (3, JAX, 'scan_5', True),
    'a product, TensorFlow 1.15': (0, STEPS, 'product_steps', False),
    'a product, TensorFlow 2': (1, STEPS, 'product_steps', False),
    'a product, PyTorch': (2, TORCH, 'product', False),
}
OURS, OURS_TF2, *_ = KINDS
METHOD = f"""
Each kind trains in its own process, with its default number of threads. The processes take {TURNS}
turns of about a second on the same cores; for the last table, on one. Each figure is the median of
the turns, with quartiles. A ratio is too: each turn gives one. A step ends when its loss is known.
Memory is the peak of the process. GFLOP/s counts only the matrix products of a step. Its percentage
is relative to the fastest product of two 2048 x 2048 matrices in the same turns.

The models are the same, except that the script does more work: it has residual connections, weight
decay and weight averages. PyTorch uses its `nn.LSTM`, which calls oneDNN, and its fused Adam. JAX
uses one jitted step with donated arguments; the products with the inputs come before its `scan`.
The script and the recipe read their text, the others random characters. Before the measurement, all
forms of PyTorch and JAX must have the same loss with the same weights, to 5e-5 nats, and after 20
steps, to 5e-4 nats.

PyTorch is the CUDA build, which is what pip installs. That explains part of its memory. (To measure
another PyTorch, give its folder instead of `.venv-torch`.)
"""


def measure(pythons, shape, num_cores=None):
    """Return a dict from each kind that is measured at a shape to its Stepper, after its turns."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:num_cores])  # the processes inherit it
    steppers = {
        kind: Stepper(name, *shape, python=pythons[number], program=program)
        for kind, (number, program, name, at_default) in KINDS.items()
        if not (at_default and shape)
    }
    os.sched_setaffinity(0, cores)
    take_turns(TURNS, *steppers.values())
    return steppers


def fastest(measured, beginning):
    """Return the fastest of the kinds whose names begin with this text."""
    found = [one for kind, one in measured.items() if kind.startswith(beginning)]
    return min(found, key=lambda one: one.median)


def ratio(ours, theirs):
    """Return how many times as fast ours was: str."""
    return with_quartiles([b / a for a, b in zip(ours.seconds, theirs.seconds)], '.2f')


def summary(found):
    """Return the table of ratios at all shapes, from a dict of what `measure` returned."""
    names = '1.15 / PyTorch', '1.15 / JAX', '2.x / PyTorch', '2.x / JAX'
    rows = [
        (' '.join(shape) or 'default', *(
            ratio(measured[ours], fastest(measured, other))
            for ours in (OURS, OURS_TF2) for other in ('PyTorch', 'JAX')
        ))
        for shape, measured in found.items()
    ]  # fmt: skip
    return as_table(('times as fast as the fastest at', *names), rows)


def details(shape, measured, where=''):
    """Return the table of all kinds at one shape."""
    product = PRODUCT / fastest(measured, 'a product').median
    amount, work, rows = characters(*shape), shared.multiplications(parse(*shape)) / 1e9, []
    for kind, one in measured.items():
        done, speeds = PRODUCT / one.median, ('', '')
        if not kind.startswith('a product'):
            rate = with_quartiles([amount / seconds for seconds in one.seconds])
            done, speeds = work / one.median, (rate, ratio(measured[OURS], one))
        rows.append((kind, *speeds, f'{done:,.0f}, {done / product:.0%}', f'{one.memory:,.0f}'))
    name = ' '.join(shape) or 'default'
    head = (name + where, 'characters per second', '1.15 is faster', 'GFLOP/s', 'memory, MB')
    return as_table(head, rows)


def check(programs):
    """Raise if the models of some programs, (python, path), have or learn different losses."""
    found = []
    for python, path in programs:
        output = run('check', '--rnn_size=16', '--batch_size=4', program=[path], python=python)
        found += [tuple(map(float, line.split())) for line in output.splitlines()]
    for losses, allowed in zip(zip(*found), (5e-5, 5e-4)):  # nats
        if max(losses) - min(losses) > allowed:
            raise RuntimeError(f'the models learn differently: {found}')


def main(*arguments):
    pythons, is_quick = list(map(python_of, arguments[:4])), arguments[4:]
    check([(pythons[2], TORCH), (pythons[3], JAX)])
    one_core = details((), measure(pythons, (), num_cores=1), ', one core')
    print(one_core, flush=True)
    found = {}
    for shape in SHAPES[:1] if is_quick else SHAPES:
        found[shape] = measure(pythons, shape)
        print(details(shape, found[shape]), flush=True)
    if is_quick:
        return
    versions = [
        run('-c', f'import {name}; print("{title}", {name}.__version__)', program=(), python=python)
        for python, name, title in zip(
            pythons[1:], ('tensorflow', 'torch', 'jax'), ('TensorFlow', 'PyTorch', 'JAX')
        )
    ]
    tables = '\n'.join([*(details(*one) for one in found.items()), one_core])
    page = 'peers-speed-avx512.md' if 'AVX-512' in shared.about_machine() else 'peers-speed.md'
    text = f'Beside it {", ".join(map(str.strip, versions))}.\n{METHOD}\n{summary(found)}\n{tables}'
    write_page(page, 'Speed beside PyTorch and JAX', 'make peers', text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (5, 6) else __doc__)
