"""What the benchmarks share: where things are, the shapes to measure, tables and pages."""

import csv
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHECKOUT = os.environ.get('CHECKOUT', str(ROOT))  # has the script to measure
DOCS, SCRIPT = ROOT / 'docs', ROOT / 'stacked_lstm_shakespeare.py'
DATA_DIR = f'--data_dir={ROOT / "data"}'
ENVIRONMENT = {**os.environ, 'MPLBACKEND': 'Agg'}  # opens no window
sys.path.insert(0, CHECKOUT)

import stacked_lstm_shakespeare as script  # noqa: E402
from backstage import machine, sources, tf  # noqa: E402
from backstage.settings import read_settings  # noqa: E402

VOCAB_SIZE = 1 + len(script.CHARACTERS)
SHAPES = [
    (), ('--rnn_size=64',), ('--rnn_size=256',), ('--rnn_size=512', '--batch_size=50'),
    ('--rnn_size=1024', '--batch_size=25'), ('--num_layers=1',), ('--num_layers=2',),
    ('--num_layers=6',), ('--batch_size=25',), ('--batch_size=50',), ('--batch_size=200',),
    ('--batch_size=400',),
]  # fmt: skip
PRODUCT = 2 * 2048**3 / 1e9  # GFLOP in a step of product_steps


def parse(*arguments):
    """Return the settings of the script with these changes, and with this project's data."""
    return read_settings(vars(script), [DATA_DIR, *arguments])


def characters(*arguments):
    """Return the number of characters in a training step with these settings."""
    settings = parse(*arguments)
    return settings.batch_size * settings.training_seq_len


def multiplications(settings):
    """Return the number of floating-point operations in the matrix products of a training step.

    Each weight and character has two in the forward pass, and four in the backward pass.
    """
    n = settings.rnn_size
    widths = [settings.embedding_size, *[n] * (settings.num_layers - 1)]
    weights = sum((width + n) * 4 * n for width in widths) + n * VOCAB_SIZE
    return 6 * weights * settings.batch_size * settings.training_seq_len


def works():
    """Return the text to learn: bytes."""
    return pathlib.Path(sources.find_text(parse())).read_bytes()


def read_history(folder):
    """Return the losses of a run, list of float, and its held-out losses, list of (int, float)."""
    with open(os.path.join(folder, 'history.csv'), newline='') as file:
        rows = list(csv.DictReader(file))
    held_out = [(int(row['iteration']), row['held_out_loss']) for row in rows]
    return [float(row['loss']) for row in rows], [(i, float(loss)) for i, loss in held_out if loss]


def run(*arguments, program=(SCRIPT,), python=sys.executable, **how):
    """Run the script, or another program, to its end; return its output: str.

    Raises:
      subprocess.CalledProcessError: it failed.
    """
    how = {'env': ENVIRONMENT, 'stdout': subprocess.PIPE, **how}
    command = list(map(str, [python, *program, *arguments]))
    return subprocess.run(command, check=True, **how).stdout.decode()


def seconds_to_start(python=sys.executable, checkout=ROOT):
    """Return the seconds from launch to the first iteration, and the peak MB of a short run."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [python, '-u', f'{checkout}/{SCRIPT.name}', DATA_DIR, f'--temp_dir={folder}']
        command += ['--log_every=1', '--max_iterations=20']
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)
        (seconds,) = (
            time.perf_counter() - start
            for line in process.stdout
            if line.startswith(b'Iteration: 1,')
        )
        _, _, usage = os.wait4(process.pid, 0)
    return seconds, usage.ru_maxrss * 1024 / 1e6


def as_table(head, rows):
    """Return rows of str as a Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def about_machine():
    """Return a line about the machine and its software: str."""
    path = pathlib.Path('/proc/cpuinfo')
    about = path.read_text() if path.exists() else ''  # as on macOS
    model = (re.findall(r'model name\s*: (.*)', about) or [platform.machine()])[0]  # not on ARM
    avx = ' with AVX-512' if 'avx512f' in about else ''
    return (
        f'{model}, {machine.available_cores()} cores{avx}, Python {platform.python_version()}, '
        f'TensorFlow {tf.__version__}, {datetime.date.today():%Y-%m-%d}.\n'
    )


def write_page(name, title, command, text):
    """Write and print a page of docs/measurements/. It begins with the command that measured it."""
    page = f'# {title}\n\n`{command}`. {about_machine()}\n{text}'
    (DOCS / 'measurements' / name).write_text(page, encoding='utf-8')
    print(page)
