"""Measure the script against the recipe that it is based on, and against the machine.

    python benchmarks/benchmark.py         prints its first rows, in three minutes
    python benchmarks/benchmark.py long    measurements/benchmark.md and two pictures, in an hour

All compared figures are medians of repetitions that take turns on the same cores.
"""

import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import rows
import shared
from shared import DOCS, as_table, characters, parse, run, script, tf

# isort: split
import numpy as np
import recipe
from steps import DRAWN, prepared_text
from turns import Stepper, take_turns

HEAD = 'what', 'the script', 'against', 'measured', 'target'


def measure(turns, *commands, seconds=1.0):
    """Return a Stepper for each command, a tuple of str, after its turns."""
    return take_turns(turns, *(Stepper(*command) for command in commands), seconds=seconds)


# --- Learning curves -----------------------------------------------------------------------------


class RecipeReader:
    """A stand-in for session and model, so that `script.measure` can measure the recipe."""

    x_data, y_output, initial_state, final_state = 'xysf'

    def __init__(self, session, model):
        self.session, self.model = session, model

    def zero_state(self, _):
        return np.array(self.session.run(self.model.initial_state))

    def run(self, _, feed):
        state = [tf.contrib.rnn.LSTMStateTuple(*layer) for layer in feed['s']]
        losses, state = self.session.run(
            [self.model.losses, self.model.final_state],
            self.model.feed(feed['x'], feed['y'], state),
        )
        return [losses.reshape(feed['x'].shape)], np.array(state)


def learn_recipe(*arguments):
    """Train the recipe, at `learning_rate` if that is set; write a history.csv as the script does.

    With --last=1000 the last 1,000 characters of the text are measured only at the end, apart from
    the rest of the held-out part: the loss goes into more.json.
    """
    last = [int(word.partition('=')[2]) for word in arguments if word.startswith('--last=')]
    arguments = [word for word in arguments if not word.startswith('--last=')]
    settings, ids, split = prepared_text(*arguments)
    shape = settings.batch_size, settings.training_seq_len
    num = settings.epochs * (split // (shape[0] * shape[1]))
    num = min(num, settings.max_iterations or num)
    end = len(ids) - sum(last)
    if end <= split:
        sys.exit(
            f'--last must be less than the held-out part, {len(ids) - split:,}, got {last[0]:,}'
        )
    tf.set_random_seed(settings.seed)
    lines = ['iteration,loss,held_out_loss']
    with recipe.started(settings, 1 + int(ids.max()), *shape) as (session, model):
        reader, last_epoch = RecipeReader(session, model), 0

        def measure_part(ids, start):
            (loss,) = script.measure(reader, reader, ['losses'], ids, start, *shape)
            return loss

        batches = recipe.training_batches(ids[:split], *shape, settings.epochs, settings.seed)
        for iteration, (epoch, x, y) in enumerate(itertools.islice(batches, num), start=1):
            if epoch > last_epoch:
                state, last_epoch = session.run(model.initial_state), epoch
            loss, state = model.train_step(session, x, y, state)
            is_due = iteration % settings.save_every == 0 or iteration == num
            held_out = measure_part(ids[:end], split) if is_due else ''
            lines.append(f'{iteration},{loss},{held_out}')
        folder = pathlib.Path(parse(*arguments).temp_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'history.csv').write_text('\n'.join(lines))
        if last:
            (folder / 'more.json').write_text(json.dumps({'last': measure_part(ids, end)}))


def learning_curves():
    """Return the held-out losses of the script and of the recipe, lists of (iteration, nats).

    They do not depend on the speed of the machine, so earlier measurements are kept.
    """
    runs, program = shared.ROOT / 'temp' / 'benchmark', pathlib.Path(__file__).resolve()
    table = {'script': {'': 'script --save_every=100'}, 'recipe': {'': 'recipe --save_every=500'}}
    found = rows.train(runs, [program], table, [shared.DATA_DIR])
    return [list(zip(one['']['iterations'], one['']['held_out'])) for one in found.values()]


def draw_learning(figure, ours, theirs, seconds_ours, seconds_theirs):
    axes = figure.add_subplot(1, 1, 1)
    for curve, seconds, color, label in (
        (ours, seconds_ours, script.pictures.COLORS[0], 'the script'),
        (theirs, seconds_theirs, script.pictures.COLORS[1], 'the recipe'),
    ):
        iterations, losses = np.transpose(curve)
        axes.plot(iterations * seconds / 60, losses, color=color, label=label)
    axes.axhline(theirs[-1][1], color='#888888', linewidth=0.8, linestyle=':')
    axes.set(xlabel='minutes of training', ylabel='held-out loss, nats', ylim=(1.3, 2.1))
    axes.grid(alpha=0.3)
    axes.legend()


def learning_rows(ours, theirs, seconds_ours, seconds_theirs):
    """Return the rows of the table that come from the learning curves."""
    end, loss = theirs[-1]
    reached = next((iteration for iteration, held_out in ours if held_out <= loss), math.inf)
    ratio = end * seconds_theirs / (reached * seconds_ours)
    return [
        (f'time until a held-out loss of {loss:.3f} nats, s', f'{reached * seconds_ours:.0f}',
         f"{end * seconds_theirs:.0f}, the recipe's 10 epochs", f'1/{ratio:.0f}', 'at most 1/25'),
        ('held-out loss after 10 epochs, nats', f'{ours[-1][1]:.4f}', f'{loss:.4f}, the recipe',
         f'{loss - ours[-1][1]:.3f} lower', 'at least 0.15 lower'),
    ]  # fmt: skip


# --- The main table ------------------------------------------------------------------------------


def write_large(folder, megabytes):
    """Write a text of this size, the works over and over; return its path."""
    path, text = f'{folder}/{megabytes}.txt', shared.works()
    with open(path, 'wb') as file:
        while file.tell() < megabytes * 1_000_000:
            file.write(text)
        file.truncate(megabytes * 1_000_000)
    return path


def preparing_rows(megabytes):
    """Return rows on preparing the ids of a text of this size, the works over and over."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        path = write_large(folder, megabytes)
        start = time.perf_counter()
        with open(path, 'rb') as file:
            while file.read(1 << 22):
                pass
        reading = megabytes / (time.perf_counter() - start)
        for clean in 'True', 'False':
            stepper = Stepper('prepare_steps', f'--text_file={path}', f'--clean_text={clean}')
            rate = megabytes / stepper.run(1)
            stepper.end()
            table.append(
                (f'preparing {megabytes:,} MB, clean_text={clean}', f'{rate:.0f}',
                 f'{reading:,.0f}, reading the file',
                 f'{stepper.memory - stepper.memory_at_start:.0f} MB of memory',
                 'at least 50 MB/s in 300 MB')
            )  # fmt: skip
    return table


def interval_rows(step_seconds, iterations=9070, late=3_000_000):
    """Return rows on the cost of output and saves at the default intervals."""
    settings = parse()
    saves = iterations // settings.save_every + 1  # one of them at the end
    early, held_out, sample, board, late_save = (
        stepper.median
        for stepper in measure(
            5, ('save_steps', '3000'), ('held_out_steps',), ('sample_steps',), ('board_steps',),
            ('save_steps', f'{late}'), seconds=0.2,
        )
    )  # fmt: skip
    training, watching = iterations * step_seconds, saves * board
    samples = iterations // settings.eval_every * sample
    total = saves * (early + held_out) + samples + watching
    return [
        ('output and saves at the default intervals, s', f'{total:.0f}',
         f'{training:.0f}, the training', f'{total / training:.1%}', 'under 5 %'),
        ('of that, for TensorBoard, s', f'{watching:.1f}', f'{training:.0f}, the training',
         f'{watching / training:.1%}', 'under 2 %'),
        (f'a save with its plot at iteration {late:,}, s', f'{late_save:.3f}',
         f'{early:.3f}, one at 3,000', f'{late_save / early:.2f} x', 'at most 1.2 x'),
    ]  # fmt: skip


def measure_start(turns=3):
    """Return medians: seconds to import TensorFlow, and what shared.seconds_to_start returns."""
    bare, ours = [], []
    for _ in range(turns):
        start = time.perf_counter()
        run('-c', 'import tensorflow', program=(), stderr=subprocess.DEVNULL)
        bare.append(time.perf_counter() - start)
        ours.append(shared.seconds_to_start())
    return map(statistics.median, (bare, *zip(*ours)))


def measure_table(turns, megabytes):
    """Return the rows of the main table, and the seconds per step of the script and the recipe."""
    ours, theirs, product = measure(turns, ('script_steps',), ('recipe_steps',), ('product_steps',))
    amount, peak = characters(), shared.PRODUCT / product.median
    done = shared.multiplications(parse()) / 1e9 / ours.median
    drawing = measure(turns // 2, ('draw_one',), ('recipe_draws',), ('draw_hundred',))
    one, calls, hundred = (DRAWN / stepper.median for stepper in drawing)
    bare, start, memory = measure_start()
    table = [
        ('training, characters per second', f'{amount / ours.median:,.0f}',
         f'{amount / theirs.median:,.0f}, the recipe', f'{theirs.median / ours.median:.2f} x',
         'at least 1.8 x'),
        ('the same, as arithmetic, GFLOP/s', f'{done:.0f}', f'{peak:.0f}, a 2048 x 2048 product',
         f'{done / peak:.0%}', 'at least 70 %'),
        ('generating one stream, characters per second', f'{one:,.0f}',
         f'{calls:,.0f}, one session call each', f'{one / calls:.1f} x', 'at least 8 x and 8,000'),
        ('generating 100 streams', f'{hundred:,.0f}', f'{one:,.0f}, one stream',
         f'{hundred / one:.1f} x', 'at least 6 x'),
        ('from launch to the first iteration, s', f'{start:.1f}', f'{bare:.1f}, import tensorflow',
         f'{start - bare:.1f} s more', 'at most 4 s more'),
        *preparing_rows(megabytes),
        *interval_rows(ours.median),
        ('memory of a run, MB', f'{memory:.0f}', f'{theirs.memory:.0f}, the recipe',
         f'{memory / theirs.memory:.2f} x', 'no more'),
    ]  # fmt: skip
    return table, ours.median, theirs.median


# --- How the cost grows --------------------------------------------------------------------------

GROWTH = {
    'rnn_size': (64, 128, 256, 512, 1024),
    'num_layers': (1, 2, 3, 4, 6),
    'batch_size': (25, 50, 100, 200, 400),
    'megabytes of text': (1, 10, 100, 1000),
}


def measure_growth():
    """Yield (setting, value, characters per second with our session, the same with the default)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, values in GROWTH.items():
            for value in values:
                what = f'--{name}={value}'
                if name == 'megabytes of text':
                    what = f'--text_file={write_large(folder, value)}'
                steppers = measure(5, ('script_steps', what), ('default_steps', what), seconds=0.7)
                yield (name, value, *(characters(what) / stepper.median for stepper in steppers))


def draw_growth(figure, growth):
    blue, red, *_ = script.pictures.COLORS
    groups = itertools.groupby(growth, key=lambda row: row[0])
    for axes, (name, table) in zip(figure.subplots(2, 2).flat, groups):
        _, values, ours, default = zip(*table)
        axes.loglog(values, ours, 'o-', color=blue, label='the script')
        axes.loglog(values, default, 's--', color=red, label='default session options')
        axes.set(xlabel=name, ylabel='characters per second')
        axes.set_xticks(values)
        axes.set_xticks([], minor=True)
        axes.set_xticklabels(values)
        axes.grid(alpha=0.3, which='both')
        axes.legend()


# --- The two forms -------------------------------------------------------------------------------


def print_quick():
    table, *_ = measure_table(turns=7, megabytes=100)
    print(as_table(HEAD, table))


def write_long():
    curves = learning_curves()
    table, *seconds = measure_table(turns=15, megabytes=1000)
    table += learning_rows(*curves, *seconds)
    script.pictures.save(str(DOCS / 'learning.png'), draw_learning, *curves, *seconds)
    growth = list(measure_growth())
    script.pictures.save(str(DOCS / 'growth.png'), draw_growth, growth, size=(10, 6.5))
    head = 'setting', 'value', 'characters per second', 'with default session options', 'ratio'
    shown = [
        (name, f'{value}', f'{ours:,.0f}', f'{default:,.0f}', f'{ours / default:.2f} x')
        for name, value, ours, default in growth
    ]
    text = (
        f'{as_table(HEAD, table)}\n![Held-out loss over time](../learning.png)\n\n'
        '## How the cost grows\n\n![Characters per second over four settings](../growth.png)\n\n'
        f'{as_table(head, shown)}\n'
        '[performance.md](../performance.md) explains the bends of the curves.\n'
    )
    shared.write_page('benchmark.md', 'Benchmark', 'python benchmarks/benchmark.py long', text)


if __name__ == '__main__':
    mode, *rest = sys.argv[1:] or ['quick']
    modes = {'quick': print_quick, 'long': write_long, 'recipe': learn_recipe}
    sys.exit({**modes, 'script': lambda *rest: script.main(rest)}[mode](*rest))
