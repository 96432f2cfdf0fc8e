"""Try settings and variants of the script on tinyshakespeare, all for the same time: a day.

    python benchmarks/results.py seconds TEXT NANOGPT                 the time of an iteration
    python benchmarks/results.py trials TEXT NANOGPT [program ...]    the runs of TRIALS

TEXT is tinyshakespeare, NANOGPT a checkout of nanoGPT. It runs on TensorFlow 2.21, in .venv-tf2,
and nanoGPT on PyTorch, in .venv-torch (`make peers` makes both). docs/measurements/ keeps what was
measured, in seconds.json and trials.json; nothing is measured twice.

A budget of ten minutes on two cores is the number of iterations that two cores take in this time.
So a run may use one core, or a busy one: that changes how long it takes, not how it ends.
"""

import pathlib
import re
import sys

import rows
from shared import DOCS, ROOT, SCRIPT

# isort: split
from turns import STEPS, Stepper, take_turns

RUNS, NOTES = ROOT / 'temp' / 'results', DOCS / 'measurements'
HERE = pathlib.Path(__file__).resolve().parent
PYTHON, TORCH = (str(ROOT / venv / 'bin' / 'python') for venv in ('.venv-tf2', '.venv-torch'))

# As TensorFlow Datasets and tensorflow-char-rnn split it: to learn, to choose by, to report.
LEARNED, MIDDLE, END = 1_003_854, 55_770, 55_770
MINUTES = 10

# What is tried, in this order, with seed 1.
TRIALS = {
    'script': [
        '--rnn_size=256 --batch_size=50 --keep_prob=0.8',
        '--rnn_size=256 --batch_size=50 --keep_prob=0.7',
        '--rnn_size=256 --batch_size=50 --keep_prob=0.87',
        '--rnn_size=256 --batch_size=50 --keep_prob=0.8 --learning_rate=0.02',
        '--rnn_size=256 --batch_size=25 --training_seq_len=100 --keep_prob=0.8',
        '--rnn_size=256 --batch_size=50 --keep_prob=0.8 --embedding_size=128',
    ],
    'variants': [
        'any_offset --rnn_size=256 --batch_size=50 --keep_prob=0.8',
        'drop_recurrent=0.8 --rnn_size=256 --batch_size=50 --keep_prob=0.8',
        'muon=0.2=0.95 --rnn_size=256 --batch_size=50 --keep_prob=0.8',
    ],
}  # fmt: skip


def same(program):
    """Return the arguments that all runs of a program have."""
    text = f'--text_file={RUNS / "chosen.txt"}'
    held_out = f'--held_out={MIDDLE / (LEARNED + MIDDLE) - 1e-8:.8f}'
    if program == 'nanogpt':
        return [text, held_out]
    more = ['--epochs=1000', '--clean_text=False', '--min_word_freq=1']  # the iterations end it
    return [text, held_out, *more, '--prime_texts', 'ROMEO:']


def split(text_file):
    """Write the parts of tinyshakespeare to files."""
    text = pathlib.Path(text_file).read_bytes()
    if len(text) != LEARNED + MIDDLE + END:
        sys.exit(f'{text_file} is not tinyshakespeare: it has {len(text):,} bytes')
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / 'chosen.txt').write_bytes(text[: LEARNED + MIDDLE])
    (RUNS / 'last.txt').write_bytes(text[LEARNED + MIDDLE :])


def command(program, nanogpt):
    """Return the interpreter of a program, and what is to be run."""
    return {
        'script': (PYTHON, [SCRIPT]),
        'variants': (PYTHON, [HERE / 'variants.py']),
        'nanogpt': (TORCH, [HERE / 'nanogpt.py', 'train', nanogpt]),
    }[program]


def shape(program, settings):
    """Return the name under which the time of an iteration is kept: what changes it."""
    settings = re.sub(r' --(learning_rate|weight_decay|seed)=\S+', '', f'{program} {settings}')
    return re.sub(r'keep_prob=0\S+', 'keep_prob=0.8', settings)


def iterations(program, settings):
    """Return how many iterations two cores take in MINUTES."""
    seconds = rows.noted(NOTES / 'seconds.json')[shape(program, settings)]['seconds']
    return round(60 * MINUTES / seconds)


def stepper(program, settings, nanogpt):
    """Return a Stepper of a program."""
    if program == 'nanogpt':
        how = {'python': TORCH, 'program': str(HERE / 'nanogpt.py')}
        return Stepper('steps', nanogpt, *settings.split(), *same(program), **how)
    name = {'script': 'script_steps', 'variants': 'variant_steps'}[program]
    return Stepper(name, *settings.split(), *same(program), python=PYTHON, program=STEPS)


def measure_seconds(nanogpt, table):
    """Measure what is missing of the time of an iteration, some programs at a time, in turns."""
    path = NOTES / 'seconds.json'
    some = {shape(p, s): (p, s) for p in table for s in table[p]}
    missing = [name for name in some if name not in rows.noted(path)]
    for first in range(0, len(missing), 8):
        names = missing[first : first + 8]
        steppers = [stepper(*some[name], nanogpt) for name in names]
        *steppers, product = take_turns(5, *steppers, Stepper('product_steps', python=PYTHON))
        for name, one in zip(names, steppers):
            found = {'seconds': one.median, 'turns': one.seconds, 'product': product.median}
            rows.note(path, name, found)
            print(f'{name}: {one.median:.4f} s')


def run_trials(nanogpt, programs):
    for program in programs:
        table = {}
        for settings in TRIALS[program]:
            number = iterations(program, settings)
            how = f'--max_iterations={number} --save_every={number // 10}'
            table[f'{program} {MINUTES} {settings}'] = {1: f'{settings} {how}'}
        python, what = command(program, nanogpt)
        rows.train(RUNS, what, table, same(program), python=python, notes=NOTES / 'trials.json')


def main(what, text, nanogpt, *programs):
    split(text)
    nanogpt = str(pathlib.Path(nanogpt).resolve())  # runs begin in folders of their own
    NOTES.mkdir(exist_ok=True)
    if what == 'seconds':
        measure_seconds(nanogpt, TRIALS)
    else:
        run_trials(nanogpt, programs or TRIALS)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:2] in (['seconds'], ['trials']) else __doc__)
