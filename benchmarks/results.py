"""Train the script, nanoGPT and the recipe on tinyshakespeare, all for the same time: a day.

    python benchmarks/results.py seconds TEXT NANOGPT                 the time of an iteration
    python benchmarks/results.py trials TEXT NANOGPT [program ...]    the runs of TRIALS
    python benchmarks/results.py final TEXT NANOGPT [program ...]     the runs of FINAL
    python benchmarks/results.py page                                 results.md and its picture

TEXT is tinyshakespeare, NANOGPT a checkout of nanoGPT. It runs on TensorFlow 2.21, in .venv-tf2,
and nanoGPT on PyTorch, in .venv-torch (`make peers` makes both). docs/measurements/ keeps what was
measured, in seconds.json, trials.json and final.json; nothing is measured twice.

A budget of ten minutes on two cores is the number of iterations that two cores take in this time.
So a run may use one core, or a busy one: that changes how long it takes, not how it ends.
"""

import functools
import json
import pathlib
import re
import sys

import rows
from shared import DOCS, ROOT, SCRIPT, as_table, run, script, write_page

# isort: split
import numpy as np
from turns import STEPS, Stepper, take_turns

RUNS, NOTES = ROOT / 'temp' / 'results', DOCS / 'measurements'
HERE = pathlib.Path(__file__).resolve().parent
PYTHON, TORCH = (str(ROOT / venv / 'bin' / 'python') for venv in ('.venv-tf2', '.venv-torch'))

# As TensorFlow Datasets and tensorflow-char-rnn split it: to learn, to choose by, to report.
LEARNED, MIDDLE, END = 1_003_854, 55_770, 55_770

WIDE = '--rnn_size=256 --batch_size=50'
REFERENCE = 'script', f'{WIDE} --keep_prob=0.8'
TINY = '--n_layer=4 --n_head=4 --n_embd=128 --batch_size=12'
# What is tried, in this order, with seed 1: (minutes, settings). The first words of those of
# `variants` are names for variants.py.
TRIALS = {
    'script': [
        (10, f'{WIDE} --keep_prob=0.8'),
        (10, f'{WIDE} --keep_prob=0.7'),
        (10, '--rnn_size=256 --batch_size=25 --keep_prob=0.8'),
        (10, '--rnn_size=192 --batch_size=50 --keep_prob=0.85'),
        (10, '--rnn_size=256 --batch_size=25 --training_seq_len=100 --keep_prob=0.8'),
        (10, '--rnn_size=192 --batch_size=50 --keep_prob=0.85 --weight_decay=0.3'),
        (10, '--rnn_size=192 --batch_size=50 --keep_prob=0.9'),
        (10, '--batch_size=50 --keep_prob=0.93'),  # what docs/training.md had before
        (3, '--batch_size=50 --keep_prob=1'),  # the same
        (3, '--rnn_size=192 --batch_size=50 --keep_prob=0.95'),
        (3, f'{WIDE} --keep_prob=0.9'),
        (30, f'{WIDE} --keep_prob=0.8'),  # the same
        (30, f'{WIDE} --keep_prob=0.7'),
        (30, '--rnn_size=384 --batch_size=50 --keep_prob=0.7'),
    ],
    'variants': [
        (10, f'any_offset {WIDE} --keep_prob=0.8'),
        (10, f'drop_recurrent=0.8 {WIDE} --keep_prob=0.8'),
        (10, f'muon=0.2=0.95 {WIDE} --keep_prob=0.8'),
    ],
    'recipe': [(10, f'--learning_rate={rate}') for rate in (0.0005, 0.001, 0.002, 0.004)],
    'nanogpt': [
        (10, f'{TINY} --block_size=64 --dropout=0.0'),  # what its README says of a CPU
        (10, f'{TINY} --block_size=64 --dropout=0.0 --learning_rate=2e-3'),
        (10, f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=2e-3'),
        (10, '--n_layer=4 --n_head=6 --n_embd=192 --batch_size=12 --block_size=128 --dropout=0.0 '
             '--learning_rate=2e-3'),
        (10, f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=4e-3'),
        (10, f'{TINY} --block_size=256 --dropout=0.0 --learning_rate=2e-3'),
        (10, f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=2e-3 --min_lr=0.0'),
        (10, f'{TINY} --block_size=128 --dropout=0.1 --learning_rate=2e-3'),
        (10, f'{TINY} --block_size=128 --dropout=0.2 --learning_rate=2e-3'),
        (10, '--n_layer=4 --n_head=6 --n_embd=192 --batch_size=12 --block_size=128 --dropout=0.2 '
             '--learning_rate=2e-3'),
        (10, '--n_layer=4 --n_head=4 --n_embd=96 --batch_size=12 --block_size=128 --dropout=0.0 '
             '--learning_rate=2e-3'),
        (3, f'{TINY} --block_size=64 --dropout=0.0 --learning_rate=2e-3'),
        (3, f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=2e-3'),
        (30, f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=2e-3'),
        (30, '--n_layer=4 --n_head=6 --n_embd=192 --batch_size=12 --block_size=128 --dropout=0.0 '
             '--learning_rate=2e-3'),
    ],
}  # fmt: skip
# What is reported, with each of SEEDS: program, settings by minutes. Seed 1 is the trial.
SEEDS = range(1, 6)
FINAL = {
    'this script': ('script', {
        3: '--rnn_size=192 --batch_size=50 --keep_prob=0.95',
        10: '--rnn_size=192 --batch_size=50 --keep_prob=0.85',
    }),
    'nanoGPT': ('nanogpt', {10: f'{TINY} --block_size=128 --dropout=0.0 --learning_rate=2e-3'}),
    'the recipe, tuned': ('recipe', {10: '--learning_rate=0.004'}),
    'the recipe': ('recipe', {10: '--learning_rate=0.0005'}),
}  # fmt: skip


def same(program):
    """Return the arguments that all runs of a program have."""
    text, share = RUNS / 'chosen.txt', MIDDLE / (LEARNED + MIDDLE)
    more = []
    if program != 'nanogpt':
        more = ['--epochs=1000', '--clean_text=False', '--min_word_freq=1']  # iterations end it
        more += ['--prime_texts', 'ROMEO:']
    if program == 'recipe':  # which saves no model, so it measures both parts of one text
        text, share = RUNS / 'all.txt', (MIDDLE + END) / (LEARNED + MIDDLE + END)
        more = [f'--last={END}', *more]
    return [f'--text_file={text}', f'--held_out={share - 1e-8:.8f}', *more]


def split(text_file):
    """Write the parts of tinyshakespeare to files."""
    text = pathlib.Path(text_file).read_bytes()
    if len(text) != LEARNED + MIDDLE + END:
        sys.exit(f'{text_file} is not tinyshakespeare: it has {len(text):,} bytes')
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / 'all.txt').write_bytes(text)
    (RUNS / 'chosen.txt').write_bytes(text[: LEARNED + MIDDLE])
    (RUNS / 'last.txt').write_bytes(text[LEARNED + MIDDLE :])


def command(program, nanogpt):
    """Return the interpreter of a program, and what is to be run."""
    return {
        'script': (PYTHON, [SCRIPT]),
        'variants': (PYTHON, [HERE / 'variants.py']),
        'recipe': (PYTHON, [HERE / 'benchmark.py', 'recipe']),
        'nanogpt': (TORCH, [HERE / 'nanogpt.py', 'train', nanogpt]),
    }[program]


def shape(program, settings):
    """Return the name under which the time of an iteration is kept: what changes it."""
    settings = re.sub(r' --(learning_rate|min_lr|weight_decay|seed)=\S+', '', f' {settings}')
    return re.sub(r'(keep_prob|dropout)=0\.[1-9]\S*', r'\1=0.8', program + settings)


def iterations(program, minutes, settings):
    """Return how many iterations two cores take in some minutes."""
    seconds = rows.noted(NOTES / 'seconds.json')[shape(program, settings)]['seconds']
    return round(60 * minutes / seconds)


def stepper(program, settings, nanogpt):
    """Return a Stepper of a program."""
    if program == 'nanogpt':
        how = {'python': TORCH, 'program': str(HERE / 'nanogpt.py')}
        return Stepper('steps', nanogpt, *settings.split(), *same(program), **how)
    name = {'script': 'script_steps', 'variants': 'variant_steps', 'recipe': 'recipe_steps'}
    return Stepper(name[program], *settings.split(), *same(program), python=PYTHON, program=STEPS)


def measure_seconds(nanogpt):
    """Measure what is missing of the time of an iteration, each in turns with REFERENCE.

    A machine is not always equally fast, so what counts is the median of the ratios of both.
    Multiplied by the time that REFERENCE took when it was measured first, it is the time of an
    iteration then.
    """
    path = NOTES / 'seconds.json'
    some = [(program, settings) for program in TRIALS for _, settings in TRIALS[program]]
    some += [(program, each) for program, settings in FINAL.values() for each in settings.values()]
    for name, one in {shape(*one): one for one in some}.items():
        if name in rows.noted(path):
            continue
        compared = stepper(*one, nanogpt), stepper(*REFERENCE, nanogpt)
        product = Stepper('product_steps', python=PYTHON)
        steps, others, product = take_turns(9, *compared, product)
        first = rows.noted(path).get(shape(*REFERENCE), {'seconds': others.median})['seconds']
        found = {
            'seconds': first * np.median(np.divide(steps.seconds, others.seconds)),
            'turns': steps.seconds,
            'reference': others.seconds,
            'product': product.median,
        }
        rows.note(path, name, found)
        print(f'{name}: {found["seconds"]:.4f} s')


def settings_of(program, minutes, settings):
    """Return the settings of a run that lasts some minutes."""
    number = iterations(program, minutes, settings)
    return f'{settings} --max_iterations={number} --save_every={number // 10}'


def trials(program):
    """Return the trials of a program as a table for rows.py."""
    return {
        f'{program} {minutes} {settings}': {1: settings_of(program, minutes, settings)}
        for minutes, settings in TRIALS[program]
    }


def finals(row):
    """Return the runs of a row of FINAL as a table for rows.py."""
    program, by_minutes = FINAL[row]
    return {
        f'{program} {minutes} {settings}': {
            seed: f'{settings_of(program, minutes, settings)} --seed={seed}' for seed in SEEDS
        }
        for minutes, settings in by_minutes.items()
    }


def more_of(folder):
    """Return what else a trial has found: a dict, empty for the script."""
    path = folder / 'more.json'
    return json.loads(path.read_text()) if path.exists() else {}


def measure_last(program, nanogpt, folder):
    """Return what else a run has found: a dict, with the loss on the last part of the text."""
    more, last = more_of(folder), RUNS / 'last.txt'
    if program == 'nanogpt':
        words = ['last', nanogpt, f'--temp_dir={folder}', f'--last={last}', *same(program)]
        output = run(*words, program=[HERE / 'nanogpt.py'], python=TORCH)
        more['last'] = float(output.split()[-1])  # before it, nanoGPT counts its parameters
    elif 'last' not in more:
        words = [f'--temp_dir={folder}', f'--text_file={last}']
        output = run(*words, program=['-m', 'tools.evaluate'], python=PYTHON, cwd=str(ROOT))
        more['last'] = float(re.search(r'([\d.]+) nats', output).group(1))
    return more


def train(nanogpt, program, table, notes, measure):
    python, what = command(program, nanogpt)
    rows.train(RUNS, what, table, same(program), python=python, notes=notes, measure=measure)


def train_trials(nanogpt, program):
    def measure(folder):  # nobody reads yet what the recipe measured of the last part
        return {name: value for name, value in more_of(folder).items() if name != 'last'}

    train(nanogpt, program, trials(program), NOTES / 'trials.json', measure)


def train_finals(nanogpt, row):
    program, measure = FINAL[row][0], functools.partial(measure_last, FINAL[row][0], nanogpt)
    notes, tried = NOTES / 'final.json', rows.noted(NOTES / 'trials.json')
    for name in finals(row):
        folder = rows.folder_of(RUNS, name, 1)
        if folder.exists() and folder.name in tried and folder.name not in rows.noted(notes):
            rows.note(notes, folder.name, {**tried[folder.name], **measure(folder)})
    train(nanogpt, program, finals(row), notes, measure)


# --- The page ------------------------------------------------------------------------------------


def mean_and_deviation(values):
    """Return the mean of some values, and their standard deviation if there are several: str."""
    if len(values) == 1:
        return f'{values[0]:.4f}'
    return f'{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}'


def trial_cells(program, minutes, settings, one):
    """Return the cells of a trial, from what it found."""
    losses = one.get('middle', one['held_out'][-1]), one['training']
    number = f'{one["iterations"][-1]:,}'
    return (program, str(minutes), f'`{settings}`', number, *(f'{loss:.4f}' for loss in losses))


def final_cells(row, minutes, found):
    """Return the cells of one row of FINAL after some minutes."""
    _, by_minutes = FINAL[row]
    middle = [one.get('middle', one['held_out'][-1]) for one in found.values()]
    last = [one['last'] for one in found.values()]
    number = f'{next(iter(found.values()))["iterations"][-1]:,}'
    values = mean_and_deviation(middle), mean_and_deviation(last), str(len(found))
    return (row, str(minutes), f'`{by_minutes[minutes]}`', number, *values)


def draw_losses(figure, found):
    """Draw held-out losses over minutes; found: {(row, minutes): {seed: what the run found}}."""
    axes, colors = figure.add_subplot(1, 1, 1), dict(zip(FINAL, script.pictures.COLORS))
    labels = {row: row for row in FINAL}  # each stands in the legend once
    for (row, minutes), by_seed in found.items():
        iterations, *_ = (np.array(one['iterations']) for one in by_seed.values())
        losses = np.mean([one['held_out'] for one in by_seed.values()], axis=0)
        x = iterations / iterations[-1] * minutes
        axes.plot(x, losses, color=colors[row], label=labels.pop(row, None))
        axes.plot(x[-1], losses[-1], 'o', color=colors[row])
    axes.set_xlabel('minutes on two cores')
    axes.set_ylabel('held-out loss, nats')
    axes.legend()


def write_results():
    ended = rows.noted(NOTES / 'trials.json')
    tried = [
        trial_cells(program, minutes, settings, ended[name])
        for program in TRIALS
        for minutes, settings in TRIALS[program]
        for name in [rows.folder_of(RUNS, f'{program} {minutes} {settings}', 1).name]
        if name in ended
    ]
    found = {}
    for row in FINAL:
        for name, columns in rows.found(RUNS, finals(row), NOTES / 'final.json').items():
            found[row, int(name.split()[1])] = columns
    head = ('', 'minutes', 'settings', 'iterations', 'middle part', 'last part', 'seeds')
    text = as_table(head, [final_cells(row, *rest, one) for (row, *rest), one in found.items()])
    head = ('', 'minutes', 'settings', 'iterations', 'middle part', 'training')
    text += f'\n## What was tried, with one seed\n\n{as_table(head, tried)}'
    if found:
        script.pictures.save(str(DOCS / 'results.png'), draw_losses, found)
    write_page('results.md', 'tinyshakespeare', 'python benchmarks/results.py page', text)


def main(what, text='', nanogpt='', *programs):
    if what == 'page':
        write_results()
        return
    split(text)
    nanogpt = str(pathlib.Path(nanogpt).resolve())  # runs begin in folders of their own
    if what == 'seconds':
        measure_seconds(nanogpt)
    elif what == 'trials':
        for program in programs or TRIALS:
            train_trials(nanogpt, program)
    else:
        for row in programs or FINAL:
            train_finals(nanogpt, row)


if __name__ == '__main__':
    is_known = sys.argv[1:2] and sys.argv[1] in ('seconds', 'trials', 'final', 'page')
    sys.exit(main(*sys.argv[1:]) if is_known else __doc__)
