"""Measure the script against the recipe that it goes back to, and against the machine.

    python benchmarks/benchmark.py         the quick form: docs/benchmark-quick.md, two minutes
    python benchmarks/benchmark.py long    all of it: docs/benchmark.md and two pictures, an hour

All compared figures are medians of repetitions that take turns on the same cores. Each graph
lives in a process of its own, since TensorFlow's thread settings hold for a whole process.
"""

import contextlib
import datetime
import functools
import itertools
import json
import math
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS, SCRIPT = ROOT / 'docs', ROOT / 'stacked_lstm_shakespeare.py'
DATA_DIR = f'--data_dir={ROOT / "data"}'
sys.path.insert(0, str(ROOT))

import stacked_lstm_shakespeare as script  # noqa: E402
from backstage import machine, pictures, running, saving, sources, tf  # noqa: E402
from backstage.board import Board  # noqa: E402
from backstage.folder import RunFolder, settle_text  # noqa: E402
from backstage.settings import read_settings  # noqa: E402

import numpy as np  # noqa: E402
import recipe  # noqa: E402

MB = 1e6
DRAWN = 1000  # characters in each step of those that draw
IX2VOCAB = [script.UNKNOWN, *script.CHARACTERS]
VOCAB_SIZE = len(IX2VOCAB)


def parse(*arguments):
    """Return the settings of the script with these changes, and with the data of this folder."""
    return read_settings(vars(script), [DATA_DIR, *arguments])


# --- What is measured, each in a process of its own -----------------------------------------------


def prepared_text(folder, *arguments):
    """Return the settings, and the ids and the split of the text, with all files in `folder`."""
    settings = parse(f'--temp_dir={folder}', *arguments)
    with contextlib.redirect_stdout(sys.stderr):
        ix2vocab, split, _ = script.prepare_text(settings)
    settle_text(folder, True)
    ids = np.memmap(os.path.join(folder, 'text.ids'), script.reading.id_type(ix2vocab), 'r')
    return settings, ids, split


def script_steps(folder, *arguments, config=None):
    """Yield once ready, and then after each training step of the script."""
    settings, ids, split = prepared_text(folder, *arguments)
    shape = settings.batch_size, settings.training_seq_len
    num_batches = script.batches_per_epoch(split, *shape)
    model, _ = script.build_models(settings, VOCAB_SIZE)
    config = config or machine.session_config(settings.threads_per_operation)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        state = model.zero_state(shape[0])
        yield
        for number in itertools.cycle(range(num_batches)):
            x, y = script.read_batch(ids[:split], *shape, 0, number)
            feed = {model.x_data: x, model.y_output: y, model.initial_state: state}
            _, _, state, _ = session.run(  # as script.train does
                [model.cost, model.gradient_norm, model.final_state, model.train_op],
                {**feed, model.learning_rate: script.highest_rate(settings)},
            )
            yield


def recipe_steps(folder, *arguments):
    """Yield once ready, and then after each training step of the recipe."""
    settings, ids, split = prepared_text(folder, *arguments)
    shape = settings.batch_size, settings.training_seq_len
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, *shape, VOCAB_SIZE)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        state = session.run(model.initial_state)
        batches = recipe.training_batches(ids[:split], *shape, settings.epochs, seed=1)
        yield
        for _, x, y in batches:
            _, state = model.train_step(session, x, y, state)
            yield


def product_steps(*_):
    """Yield once ready, and then after each product of two 2048 x 2048 matrices on all cores."""
    config = tf.ConfigProto(intra_op_parallelism_threads=machine.available_cores())
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    a, b = (tf.Variable(np.random.rand(2048, 2048).astype(np.float32)) for _ in 'ab')
    product = tf.matmul(a, b).op
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        while True:
            yield
            session.run(product)


# The same, in a session with TensorFlow's default options
default_steps = functools.partial(script_steps, config=tf.ConfigProto())


def draw_one(*_, streams=1):
    """Yield once ready, and then after each 1,000 characters that the script draws."""
    settings = parse()
    _, sampler = script.build_models(settings, VOCAB_SIZE)
    with tf.Session(config=machine.session_config()) as session:
        session.run(tf.global_variables_initializer())
        prime = np.ones([streams, 1], np.int32)
        random = [script.random_of(prime[:1], number, 1) for number in range(streams)]
        while True:
            yield
            sampler.sample(session, prime, DRAWN // streams, 1.0, random)


draw_hundred = functools.partial(draw_one, streams=100)  # at once


def recipe_draws(*_):
    """Yield once ready, and then after each 1,000 characters that the recipe draws."""
    settings = parse()
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, 1, 1, VOCAB_SIZE)
    random = np.random.RandomState(0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        while True:
            yield
            model.draw(session, DRAWN, random)


def serve_steps(name, *arguments):
    """Take as many steps as a line of standard input says, and print the seconds they took."""
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        steps = globals()[name](folder, *arguments)
        next(steps)
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line)):
                next(steps)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(time.perf_counter() - start, memory, flush=True)


class Stepper:
    """A process that runs `serve_steps`, or another program that does the same."""

    def __init__(self, name, *arguments, python=sys.executable, program=(__file__, 'steps')):
        # The script has TensorFlow keep freed memory; the recipe leaves its allocator alone.
        keeps_memory = str(not name.startswith('recipe')).lower()
        self.process = subprocess.Popen(
            [python, *program, name, *arguments],
            env={**os.environ, 'TF_CPU_ALLOCATOR_USE_BFC': keeps_memory},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        self.seconds = []  # per step, of each repetition

    def run(self, steps):
        self.process.stdin.write(f'{steps}\n')
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'{" ".join(self.process.args)} ended early')
        seconds, memory = map(float, line.split())
        self.seconds.append(seconds / steps)
        self.memory = memory * 1024 / MB  # the most so far

    @property
    def median(self):
        return statistics.median(self.seconds)


def take_turns(repetitions, *commands, seconds=1.0):
    """Let a Stepper for each command run for about so many seconds, in turn, so many times.

    A command is a list of str, the arguments of a Stepper, or a Stepper itself.
    """
    steppers, steps = [], []
    for command in commands:
        stepper = command if isinstance(command, Stepper) else Stepper(*command)
        stepper.run(3)
        stepper.run(1)
        steps.append(max(1, round(seconds / stepper.seconds[-1])))
        stepper.seconds.clear()
        steppers.append(stepper)
    for _ in range(repetitions):
        for stepper, number in zip(steppers, steps):
            stepper.run(number)
    for stepper in steppers:
        stepper.process.communicate()  # it ends with its input
    return steppers


# --- Learning curves ------------------------------------------------------------------------------


class RecipeReader:
    """Stands for the session and for the model, so that the recipe is measured as the script is."""

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


def learn(name, folder, *arguments):
    """Train the script or the recipe to the end; leave the held-out losses in curve.json."""
    os.makedirs(folder, exist_ok=True)
    {'script': learn_script, 'recipe': learn_recipe}[name](folder, *arguments)


def learn_recipe(folder):
    """Train the recipe; write curve.json on the way."""
    settings, ids, split = prepared_text(folder)
    shape = settings.batch_size, settings.training_seq_len
    tf.set_random_seed(settings.seed)
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, *shape, VOCAB_SIZE)
    config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
    num_batches = split // (shape[0] * shape[1])
    curve = []
    with tf.Session(config=config) as session:
        reader = RecipeReader(session, model)
        session.run(tf.global_variables_initializer())
        batches = recipe.training_batches(ids[:split], *shape, settings.epochs, settings.seed)
        for iteration, (epoch, x, y) in enumerate(batches, start=1):
            if (iteration - 1) % num_batches == 0:
                state = session.run(model.initial_state)
            loss, state = model.train_step(session, x, y, state)
            if iteration % 500 == 0 or iteration == settings.epochs * num_batches:
                (held_out,) = script.measure(reader, reader, ['losses'], ids, split, *shape)
                curve.append((iteration, held_out))
                print(f'Iteration: {iteration}, Epoch: {epoch}, Loss: {loss:.2f}, {held_out:.4f}')
                pathlib.Path(folder, 'curve.json').write_text(json.dumps(curve))


def learn_script(folder, *arguments):
    """Train with the script, as a user does."""
    command = [sys.executable, SCRIPT, DATA_DIR, f'--temp_dir={folder}']
    command += ['--save_every=100', '--eval_every=100000', '--log_every=500', *arguments]
    subprocess.run(command, check=True, env={**os.environ, 'MPLBACKEND': 'Agg'})
    _, held_out_losses = saving.read_history(folder)
    pathlib.Path(folder, 'curve.json').write_text(json.dumps(held_out_losses))


# --- One row of the table after the other ---------------------------------------------------------


def multiplications(settings):
    """Return the floating-point operations of a training step that are matrix products.

    Two for each weight and character on the way forward, four on the way back.
    """
    n = settings.rnn_size
    widths = [settings.embedding_size, *[n] * (settings.num_layers - 1)]
    weights = sum((width + n) * 4 * n for width in widths) + n * VOCAB_SIZE
    return 6 * weights * settings.batch_size * settings.training_seq_len


def measure_training(repetitions):
    """Return rows on the training step, the seconds per step, and the machine's own rate."""
    settings = parse()
    steppers = take_turns(repetitions, ['script_steps'], ['recipe_steps'], ['product_steps'])
    ours, theirs, product = (stepper.median for stepper in steppers)
    rate = 2 * 2048**3 / product
    characters = settings.batch_size * settings.training_seq_len
    share = multiplications(settings) / ours / rate
    rows = [
        ('training, characters per second', f'{characters / ours:,.0f}',
         f'{characters / theirs:,.0f}, the recipe', f'{theirs / ours:.2f} x', 'at least 1.8 x'),
        ('the same, as arithmetic, GFLOP/s', f'{multiplications(settings) / ours / 1e9:.0f}',
         f'{rate / 1e9:.0f}, a 2048 x 2048 product', f'{share:.0%}', 'at least 70 %'),
    ]  # fmt: skip
    return rows, ours, theirs, steppers[1].memory


def measure_generating(repetitions):
    """Return rows on drawing text."""
    steppers = take_turns(repetitions, ['draw_one'], ['recipe_draws'], ['draw_hundred'])
    one, calls, hundred = (DRAWN / stepper.median for stepper in steppers)
    return [
        ('generating one stream, characters per second', f'{one:,.0f}',
         f'{calls:,.0f}, one session call each', f'{one / calls:.1f} x', 'at least 8 x and 8,000'),
        ('generating 100 streams', f'{hundred:,.0f}', f'{one:,.0f}, one stream',
         f'{hundred / one:.1f} x', 'at least 6 x'),
    ]  # fmt: skip


def measure_start(repetitions):
    """Return a row on the time from launch to the first iteration, and the script's memory, MB."""
    import_only = [sys.executable, '-c', 'import tensorflow']
    seconds, memory = {'import': [], 'script': []}, 0
    command = [sys.executable, '-u', SCRIPT, DATA_DIR, '--log_every=1', '--max_iterations=20']
    for _ in range(repetitions):
        start = time.perf_counter()
        subprocess.run(import_only, check=True, stderr=subprocess.DEVNULL)
        seconds['import'].append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            process = subprocess.Popen(
                [*command, f'--temp_dir={folder}'],
                stdout=subprocess.PIPE,
                env={**os.environ, 'MPLBACKEND': 'Agg'},
            )
            if not any(line.startswith(b'Iteration: 1,') for line in process.stdout):
                raise RuntimeError('the script ended before its first iteration')
            seconds['script'].append(time.perf_counter() - start)
            process.stdout.read()
            _, _, usage = os.wait4(process.pid, 0)
        memory = usage.ru_maxrss * 1024 / MB
    ours, bare = statistics.median(seconds['script']), statistics.median(seconds['import'])
    row = ('from launch to the first iteration, s', f'{ours:.1f}', f'{bare:.1f}, import tensorflow',
           f'{ours - bare:.1f} s more', 'at most 4 s more')  # fmt: skip
    return [row], memory


def prepare(path, clean_text):
    """Print the seconds that preparing a text takes, and the MB above those of the import."""

    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB

    before = memory()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        prepared_text(folder, f'--text_file={path}', f'--clean_text={clean_text}')
        print(time.perf_counter() - start, memory() - before)


def write_large(folder, megabytes):
    """Write the works again and again, so many MB; return the path."""
    path = os.path.join(folder, f'{megabytes}.txt')
    with contextlib.redirect_stdout(sys.stderr):
        works = pathlib.Path(sources.find_text(parse())).read_bytes()
    left = int(megabytes * MB)
    with open(path, 'wb') as file:
        while left > 0:
            left -= file.write(works[:left])
    return path


def measure_preparing(megabytes):
    """Return rows on making ids of a text of that size: the works again and again."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = write_large(folder, megabytes)
        size = os.path.getsize(path) / MB
        start = time.perf_counter()
        with open(path, 'rb') as file:
            while file.read(1 << 22):
                pass
        reading = size / (time.perf_counter() - start)
        for clean_text in 'True', 'False':
            command = [sys.executable, __file__, 'prepare', path, clean_text]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            seconds, memory = map(float, output.split())
            rows.append(
                (f'preparing {size:,.0f} MB, clean_text={clean_text}', f'{size / seconds:.0f}',
                 f'{reading:,.0f}, reading the file', f'{memory:.0f} MB of memory',
                 'at least 50 MB/s in 300 MB')
            )  # fmt: skip
    return rows


def save_all(run, session, state):
    """Write the losses, a checkpoint, and one of the best model."""
    run.best = None  # so that this one is better
    run.held_out_losses.append((len(run.losses), 2.0))
    run.save(session, state, is_end=True)


def measure_saving(iterations=(3_000, 3_000_000)):
    """Return a row on what a save costs after so many iterations, with the plot."""
    steppers = take_turns(9, *(['save_steps', str(number)] for number in iterations), seconds=0.2)
    few, many = (stepper.median for stepper in steppers)
    return [
        (f'a save with its plot at iteration {iterations[1]:,}, s', f'{many:.3f}',
         f'{few:.3f}, one at {iterations[0]:,}', f'{many / few:.2f} x', 'at most 1.2 x')
    ]  # fmt: skip


def save_steps(folder, iterations):
    """Yield once ready, and then after each save of a run of so many iterations, and one more."""
    settings = parse(f'--temp_dir={folder}')
    model, _ = script.build_models(settings, VOCAB_SIZE)
    run = saving.Run(settings, model, RunFolder(settings, script.__file__))
    run.losses.extend(1.2 + 3 / np.sqrt(np.arange(1, int(iterations) + 1)))
    run.history = saving.History(folder, run.losses, run.held_out_losses)
    run.last = 2 * len(run.losses)
    with tf.Session(config=machine.session_config()) as session:
        session.run(run.initialize)
        while True:
            yield
            run.losses.append(1.2)
            save_all(run, session, model.zero_state(settings.batch_size))
            pictures.save(run.plot, script.draw_losses, *run.all_losses())


def measure_intervals(step_seconds):
    """Return rows on what is shown and saved at the default intervals, as shares of the time."""
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph:
        settings, ids, split = prepared_text(folder)
        model, sampler = script.build_models(settings, VOCAB_SIZE)
        run = saving.Run(settings, model, RunFolder(settings, script.__file__))
        shape = settings.batch_size, settings.training_seq_len
        iterations = settings.epochs * script.batches_per_epoch(split, *shape)
        run.last = iterations
        run.losses.extend([2.0] * iterations)
        run.history = saving.History(folder, run.losses, run.held_out_losses)
        state = model.zero_state(shape[0])
        texts = ['x' * settings.sample_length] * len(settings.prime_texts)
        # How often each is done in a run. A checkpoint is also written at its end.
        logs, rounds = iterations // settings.log_every, iterations // settings.eval_every
        saves = iterations // settings.save_every + 1
        with tf.Session(config=machine.session_config()) as session:
            session.run(run.initialize)
            board = Board(settings, graph, 0, has_more=True)
            work = {
                'held-out losses': (saves, lambda: script.measure(
                    session, sampler, [sampler.losses], ids, split, *shape)),
                'checkpoints': (saves, lambda: save_all(run, session, state)),
                'samples': (rounds, lambda: script.sample_texts(
                    session, sampler, IX2VOCAB, 1, settings, running.Stop())),
                'scalars': (logs, lambda: board.add_step(iterations, 2.0, 1.0, 0.01)),
                'texts': (rounds, lambda: board.add_texts(1, 'samples', texts)),
                'histograms': (saves, lambda: board.add_held_out(1, 2.0, session)),
            }  # fmt: skip
            seconds = {}
            for name, (times, function) in work.items():
                function()
                repetitions = min(times, 100) if name == 'scalars' else 3
                start = time.perf_counter()
                for _ in range(repetitions):
                    function()
                seconds[name] = times * (time.perf_counter() - start) / repetitions
            board.close()
    training = iterations * step_seconds
    total = sum(seconds.values())
    watching = seconds['scalars'] + seconds['texts'] + seconds['histograms']
    return [
        ('all that a run shows and saves at the default intervals, s', f'{total:.0f}',
         f'{training:.0f}, the training', f'{total / training:.1%}', 'under 5 %'),
        ('of that, for TensorBoard, s', f'{watching:.1f}', f'{training:.0f}, the training',
         f'{watching / training:.1%}', 'under 2 %'),
    ]  # fmt: skip


def as_table(head, rows):
    """Return rows of str as a Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def measure_table(repetitions, megabytes):
    """Return the rows of the main table, and the seconds per step of the script and the recipe."""
    print('Training steps')
    rows, ours, theirs, recipe_memory = measure_training(repetitions)
    print('Generating')
    rows += measure_generating(repetitions // 2)
    print('Starting')
    more, memory = measure_start(3)
    rows += more
    print('Preparing')
    rows += measure_preparing(megabytes)
    print('Saving')
    rows += measure_intervals(ours)
    rows += measure_saving()
    rows.append(
        ('memory of a run, MB', f'{memory:.0f}', f'{recipe_memory:.0f}, the recipe',
         f'{memory / recipe_memory:.2f} x', 'no more')
    )  # fmt: skip
    return rows, ours, theirs


def with_avx(about):
    """Return what a CPU, by its description, has for products of matrices, as words."""
    names = {'avx512f': ' with AVX-512', 'avx2': ' with AVX2'}
    return next((words for flag, words in names.items() if flag in about.split()), '')


def about_machine():
    """Return what has to be known of the machine, as Markdown."""
    about = pathlib.Path('/proc/cpuinfo').read_text()
    model = re.findall(r'model name\s*: (.*)', about)[0]
    cores = f'{machine.available_cores()} cores{with_avx(about)}'
    return (
        f'{model}, {cores}, Python {platform.python_version()}, TensorFlow {tf.__version__}, '
        f'{datetime.date.today():%Y-%m-%d}.\n'
    )


# --- How the cost grows ---------------------------------------------------------------------------

GROWTH = {
    'rnn_size': (64, 128, 256, 512, 1024),
    'num_layers': (1, 2, 3, 4, 6),
    'batch_size': (25, 50, 100, 200, 400),
}
SIZES = (1, 10, 100, 1000)  # MB of text


def characters_per_second(name, value):
    """Return the rates of the script's session options and of TensorFlow's, one setting changed."""
    argument = f'--{name}={value}'
    settings = parse(argument)
    characters = settings.batch_size * settings.training_seq_len
    commands = ['script_steps', argument], ['default_steps', argument]
    return [characters / stepper.median for stepper in take_turns(5, *commands, seconds=0.7)]


def measure_growth():
    """Return {setting: {value: [rate, rate with default options]}}, characters per second."""
    growth = {}
    for name, values in GROWTH.items():
        print(f'How the cost grows with {name}')
        growth[name] = {value: characters_per_second(name, value) for value in values}
    growth['megabytes of text'] = {}
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in SIZES:
            print(f'How the cost grows with the text: {megabytes} MB')
            path = write_large(folder, megabytes)
            growth['megabytes of text'][megabytes] = characters_per_second('text_file', path)
    return growth


def draw_growth(figure, growth):
    blue, red, *_ = pictures.COLORS
    for axes, (name, rates) in zip(figure.subplots(2, 2).flat, growth.items()):
        ours, default = zip(*rates.values())
        axes.loglog(list(rates), ours, 'o-', color=blue, label='the script')
        axes.loglog(list(rates), default, 's--', color=red, label='default session options')
        axes.set(xlabel=name, ylabel='characters per second')
        axes.set_xticks(list(rates))
        axes.set_xticks([], minor=True)
        axes.set_xticklabels(list(rates))
        axes.grid(alpha=0.3, which='both')
        axes.legend()


# --- The two forms of the whole -------------------------------------------------------------------

HEAD = ('what', 'the script', 'against', 'measured', 'target')


def learning_curves(folder):
    """Return the held-out losses of the script and of the recipe, lists of (iteration, nats).

    They do not depend on how fast the machine is, so those that a folder has are used again.
    Both train at the same time, each on a core of its own.
    """
    started = []
    for core, name in zip(itertools.cycle(sorted(os.sched_getaffinity(0))), ('script', 'recipe')):
        path = folder / name
        if (path / 'curve.json').exists():
            print(f'The {name} was trained before; to train it again, remove {path}')
        else:
            print(f'Training the {name}, half an hour or more: {path}.log shows how far it is')
            folder.mkdir(parents=True, exist_ok=True)
            with open(f'{path}.log', 'w') as log:
                command = [sys.executable, '-u', __file__, 'learn', name, str(path)]
                process = subprocess.Popen(command, stdout=log, stderr=log)
            os.sched_setaffinity(process.pid, {core})
            started.append(process)
    for process in started:
        if process.wait():
            raise RuntimeError(f'{" ".join(process.args)} failed')
    return [json.loads((folder / name / 'curve.json').read_text()) for name in ('script', 'recipe')]


def draw_learning(figure, ours, theirs, seconds_ours, seconds_theirs):
    axes = figure.add_subplot(1, 1, 1)
    for curve, seconds, color, label in (
        (ours, seconds_ours, pictures.COLORS[0], 'the script'),
        (theirs, seconds_theirs, pictures.COLORS[1], 'the recipe'),
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
    difference = loss - ours[-1][1]
    return [
        (f'time until a held-out loss of {loss:.3f} nats, s', f'{reached * seconds_ours:.0f}',
         f"{end * seconds_theirs:.0f}, the recipe's 10 epochs", f'1/{ratio:.0f}', 'at most 1/25'),
        ('held-out loss after 10 epochs, nats', f'{ours[-1][1]:.4f}', f'{loss:.4f}, the recipe',
         f'{difference:.3f} lower', 'at least 0.15 lower'),
    ]  # fmt: skip


def write_quick():
    rows, *_ = measure_table(repetitions=7, megabytes=100)
    text = f'# Benchmark, quick form\n\n`make benchmark-quick`. {about_machine()}\n'
    (DOCS / 'benchmark-quick.md').write_text(text + as_table(HEAD, rows))
    print(as_table(HEAD, rows))


def write_long():
    curves = learning_curves(ROOT / 'temp' / 'benchmark')
    rows, *seconds = measure_table(repetitions=15, megabytes=1000)
    rows += learning_rows(*curves, *seconds)
    pictures.save(str(DOCS / 'learning.png'), draw_learning, *curves, *seconds)
    growth = measure_growth()
    pictures.save(str(DOCS / 'growth.png'), draw_growth, growth, size=(10, 6.5))
    text = f'# Benchmark\n\n`make benchmark`. {about_machine()}\n{as_table(HEAD, rows)}\n'
    text += '![Held-out loss over time](learning.png)\n\n## How the cost grows\n\n'
    text += '![Characters per second over four settings](growth.png)\n\n'
    head = ('setting', 'value', 'characters per second', 'with default session options', 'ratio')
    text += as_table(
        head,
        [
            (name, str(value), f'{ours:,.0f}', f'{default:,.0f}', f'{ours / default:.2f} x')
            for name, rates in growth.items()
            for value, (ours, default) in rates.items()
        ],
    )
    text += '\nWhy the curves bend where they bend: [benchmark-notes.md](benchmark-notes.md).\n'
    (DOCS / 'benchmark.md').write_text(text)
    print(text)


if __name__ == '__main__':
    mode, *rest = sys.argv[1:] or ['quick']
    modes = {
        'quick': write_quick, 'long': write_long,
        'steps': serve_steps, 'learn': learn, 'prepare': prepare,
    }  # fmt: skip
    modes[mode](*rest)
