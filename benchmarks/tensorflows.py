"""Measure a TensorFlow 2 beside 1.15 with the same script: docs/tensorflows.md, twenty minutes.

    python benchmarks/tensorflows.py .venv .venv-tf2

The two folders have 1.15 and the other one. They take turns on the same cores.
"""

import sys

from against import compare, python_of, step_row
from shared import ROOT, as_table, run, write_page
from steps import DRAWN


def main(*folders):
    one, two = ((python_of(folder), ROOT) for folder in folders)
    names = [
        run('-c', 'from backstage import tf; print(tf.__version__)', program=(), python=python,
            cwd=str(ROOT)).strip()
        for python, _ in (two, one)
    ]  # fmt: skip
    rows = [
        step_row((two, one), 'generating one stream', 'draw_one', amount=DRAWN),
        step_row((two, one), 'generating 100 streams', 'draw_hundred', amount=DRAWN),
        *compare((two, one)),
    ]
    head = ('what', *names, f'times as fast on {names[0]}', 'a product, GFLOP/s')
    text = f'Medians of turns, with quartiles.\n\n{as_table(head, rows)}'
    command = 'python benchmarks/tensorflows.py .venv .venv-tf2'
    write_page('tensorflows.md', f'TensorFlow {" and ".join(reversed(names))}', command, text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
