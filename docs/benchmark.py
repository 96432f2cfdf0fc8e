"""Measure the script against the recipe that it goes back to, and against the machine.

    python docs/benchmark.py             the quick form: docs/benchmark-quick.md, two minutes
    python docs/benchmark.py long        all of it: docs/benchmark.md and two pictures, an hour

All compared figures are medians of repetitions that take turns on the same cores. Each graph
lives in a process of its own, since TensorFlow's thread settings hold for a whole process.
"""

import contextlib
import datetime
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

DOCS = pathlib.Path(__file__).resolve().parent
SCRIPT = DOCS.parent / 'stacked_lstm_shakespeare.py'
sys.path.insert(0, str(DOCS.parent))

import recipe  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import stacked_lstm_shakespeare as script  # noqa: E402

np, tf = script.np, script.tf
MB = 1e6


# ---------------------------------------------------------------------------------------------
# What is measured, each in a process of its own
# ---------------------------------------------------------------------------------------------


def prepared_text(folder, *arguments):
    """Return the settings, and the ids and the split of the text, with all files in `folder`."""
    settings = script.read_settings(
        [f'--data_dir={DOCS.parent / "data"}', f'--temp_dir={folder}', *arguments]
    )
    with contextlib.redirect_stdout(sys.stderr):
        path, ix2vocab = script.prepare_vocab(settings)
        script.prepare_ids(path, ix2vocab, settings, script.ALONE)
    return (settings, *script.open_ids(ix2vocab, settings))


def script_steps(folder, *arguments, config=None):
    """Yield once ready, and then after each training step of the script."""
    settings, ids, split = prepared_text(folder, *arguments)
    batch_size, training_seq_len = settings.batch_size, settings.training_seq_len
    num_batches = script.batches_per_epoch(split, batch_size, training_seq_len)
    model, _ = script.build_models(settings, len(script.CHARACTERS) + 1, script.ALONE)
    config = config or script.session_config(settings.threads_per_operation)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        state = model.zero_state(batch_size)
        yield
        for number in itertools.cycle(range(num_batches)):
            x, y = script.read_batch(ids[:split], batch_size, training_seq_len, 0, number)
            *_, state = script.train_step(session, model, x, y, state, settings.learning_rate)
            yield


def recipe_steps(folder, *arguments):
    """Yield once ready, and then after each training step of the recipe."""
    settings, ids, split = prepared_text(folder, *arguments)
    shape = settings.batch_size, settings.training_seq_len
    vocab_size = len(script.CHARACTERS) + 1
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, *shape, vocab_size)
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
    config = tf.ConfigProto(intra_op_parallelism_threads=script.available_cores())
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    a, b = (tf.Variable(np.random.rand(2048, 2048).astype(np.float32)) for _ in 'ab')
    product = tf.matmul(a, b).op
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        while True:
            yield
            session.run(product)


def default_steps(folder, *arguments):
    """As `script_steps`, in a session with TensorFlow's default options."""
    return script_steps(folder, *arguments, config=tf.ConfigProto())


DRAWN = 1000  # characters in each step of those that draw


def draw_one(*_, streams=1):
    """Yield once ready, and then after each 1,000 characters that the script draws."""
    settings = script.read_settings([])
    _, reader = script.build_models(settings, len(script.CHARACTERS) + 1, script.ALONE)
    with tf.Session(config=script.session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        for number in itertools.count():
            yield
            prime = np.ones([streams, 1], np.int32)
            script.sample_ids(session, reader, prime, DRAWN // streams, 1.0, [1, number])


def draw_hundred(*_):
    """As `draw_one`, 100 streams at once."""
    return draw_one(streams=100)


def recipe_draws(*_):
    """Yield once ready, and then after each 1,000 characters that the recipe draws."""
    settings = script.read_settings([])
    vocab_size = len(script.CHARACTERS) + 1
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, 1, 1, vocab_size)
    random = np.random.RandomState(0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        while True:
            yield
            model.draw(session, DRAWN, random)


STEPS = {
    f.__name__: f
    for f in (
        *(script_steps, default_steps, recipe_steps, product_steps),
        *(draw_one, draw_hundred, recipe_draws),
    )
}


def serve_steps(name, *arguments):
    """Take as many steps as a line of standard input says, and print the seconds they took."""
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        steps = STEPS[name](folder, *arguments)
        next(steps)
        print(0.0, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line)):
                next(steps)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(time.perf_counter() - start, memory, flush=True)


class Worker:
    """A process that runs `serve_steps`."""

    def __init__(self, name, *arguments):
        # The script has TensorFlow keep freed memory; the recipe leaves its allocator alone.
        keeps_memory = str(not name.startswith('recipe')).lower()
        self.process = subprocess.Popen(
            [sys.executable, __file__, 'steps', name, *arguments],
            env={**os.environ, 'TF_CPU_ALLOCATOR_USE_BFC': keeps_memory},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        self.seconds = []  # per step, of each repetition
        self.memory = 0  # MB at the most so far
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'{" ".join(self.process.args)} ended early')
        return [float(word) for word in line.split()]

    def run(self, steps):
        self.process.stdin.write(f'{steps}\n')
        self.process.stdin.flush()
        seconds, memory = self.answer()
        self.seconds.append(seconds / steps)
        self.memory = memory * 1024 / MB

    @property
    def median(self):
        return statistics.median(self.seconds)


@contextlib.contextmanager
def workers(*commands):
    """Start workers and end them."""
    started = []
    try:
        for command in commands:
            started.append(Worker(*command))
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def take_turns(started, repetitions, seconds):
    """Let each worker run for about so many seconds, in turn, so many times."""
    for worker in started:
        worker.run(3)
        worker.seconds.clear()
        worker.run(1)
    steps = [max(1, round(seconds / worker.seconds.pop())) for worker in started]
    for _ in range(repetitions):
        for worker, number in zip(started, steps):
            worker.run(number)


# ---------------------------------------------------------------------------------------------
# Learning curves
# ---------------------------------------------------------------------------------------------


class RecipeReader:
    """Stands for the session and for the model, so that the recipe is measured as the script is."""

    x_data, y_output, initial_state, final_state = 'xysf'

    def __init__(self, session, model, num_layers, rnn_size):
        self.session, self.model = session, model
        self.shape = num_layers, 2, rnn_size

    def zero_state(self, streams):
        num_layers, two, rnn_size = self.shape
        return np.zeros([num_layers, two, streams, rnn_size], np.float32)

    def run(self, _, feed):
        state = [tf.contrib.rnn.LSTMStateTuple(*layer) for layer in feed['s']]
        losses, state = self.session.run(
            [self.model.losses, self.model.final_state],
            self.model.feed(feed['x'], feed['y'], state),
        )
        return [losses.reshape(feed['x'].shape)], np.array(state)


def learn_recipe(folder):
    """Train the recipe to its end; write the held-out loss on the way to curve.json."""
    settings, ids, split = prepared_text(folder)
    shape = settings.batch_size, settings.training_seq_len
    vocab_size = len(script.CHARACTERS) + 1
    tf.set_random_seed(settings.seed)
    model = recipe.Recipe(settings.rnn_size, settings.num_layers, *shape, vocab_size)
    config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
    num_batches = split // (shape[0] * shape[1])
    curve = []
    with tf.Session(config=config) as session:
        reader = RecipeReader(session, model, settings.num_layers, settings.rnn_size)
        session.run(tf.global_variables_initializer())
        batches = recipe.training_batches(ids[:split], *shape, settings.epochs, settings.seed)
        for iteration, (epoch, x, y) in enumerate(batches, start=1):
            if (iteration - 1) % num_batches == 0:
                state = session.run(model.initial_state)
            loss, state = model.train_step(session, x, y, state)
            if iteration % 500 == 0 or iteration == settings.epochs * num_batches:
                (held_out,) = script.measure(
                    reader, reader, ['losses'], ids, split, *shape, script.ALONE
                )
                curve.append((iteration, held_out))
                print(f'Iteration: {iteration}, Epoch: {epoch}, Loss: {loss:.2f}, {held_out:.4f}')
                pathlib.Path(folder, 'curve.json').write_text(json.dumps(curve))


def learn_script(folder, *arguments):
    """Train with the script, as a user does; leave the held-out losses in curve.json."""
    command = [sys.executable, SCRIPT, f'--data_dir={DOCS.parent / "data"}', f'--temp_dir={folder}']
    command += ['--save_every=100', '--eval_every=100000', '--log_every=500', *arguments]
    subprocess.run(command, check=True, env={**os.environ, 'MPLBACKEND': 'Agg'})
    history = json.loads(pathlib.Path(folder, 'history.json').read_text())
    pathlib.Path(folder, 'curve.json').write_text(json.dumps(history['held_out_losses']))


# ---------------------------------------------------------------------------------------------
# One row of the table after the other
# ---------------------------------------------------------------------------------------------


def multiplications(settings):
    """Return the floating-point operations of a training step that are matrix products.

    Two for each weight and character on the way forward, four on the way back.
    """
    n = settings.rnn_size
    widths = [settings.embedding_size, *[n] * (settings.num_layers - 1)]
    weights = sum((width + n) * 4 * n for width in widths) + n * (len(script.CHARACTERS) + 1)
    return 6 * weights * settings.batch_size * settings.training_seq_len


def measure_training(repetitions):
    """Return rows on the training step, the seconds per step, and the machine's own rate."""
    settings = script.read_settings([])
    with workers(['script_steps'], ['recipe_steps'], ['product_steps']) as started:
        take_turns(started, repetitions, seconds=1.0)
        ours, theirs, product = (worker.median for worker in started)
        memory = started[1].memory
    rate = 2 * 2048**3 / product
    characters = settings.batch_size * settings.training_seq_len
    share = multiplications(settings) / ours / rate
    rows = [
        ('training, characters per second', f'{characters / ours:,.0f}',
         f'{characters / theirs:,.0f}, the recipe', f'{theirs / ours:.2f} x', 'at least 1.8 x'),
        ('the same, as arithmetic, GFLOP/s', f'{multiplications(settings) / ours / 1e9:.0f}',
         f'{rate / 1e9:.0f}, a 2048 x 2048 product', f'{share:.0%}', 'at least 70 %'),
    ]  # fmt: skip
    return rows, ours, theirs, memory


def measure_generating(repetitions):
    """Return rows on drawing text."""
    with workers(['draw_one'], ['recipe_draws'], ['draw_hundred']) as started:
        take_turns(started, repetitions, seconds=1.0)
        one, calls, hundred = (DRAWN / worker.median for worker in started)
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
    command = [sys.executable, '-u', SCRIPT, f'--data_dir={DOCS.parent / "data"}']
    command += ['--log_every=1', '--max_iterations=20']
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
    works = (DOCS.parent / 'data' / 'shakespeare.txt').read_bytes()
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


def measure_intervals(step_seconds):
    """Return rows on what is shown and saved at the default intervals, as shares of the time."""
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        settings, ids, split = prepared_text(folder)
        model, reader = script.build_models(settings, len(script.CHARACTERS) + 1, script.ALONE)
        board = script.Board(tf.trainable_variables())
        initialize = tf.global_variables_initializer()
        shape = settings.batch_size, settings.training_seq_len
        iterations = settings.epochs * script.batches_per_epoch(split, *shape)
        progress = script.Progress(
            [2.0] * iterations, [(iterations, 2.0)], model.zero_state(shape[0])
        )
        step = script.Step(
            iterations, settings.epochs, 1, 0.01, 2.0, 1.0, 2.0, progress.state, False
        )
        ix2vocab = [script.UNKNOWN, *script.CHARACTERS]
        texts = ['x' * settings.sample_length] * len(settings.prime_texts)
        # How often each is done in a run. A checkpoint is also written at its end.
        logs, rounds = iterations // settings.log_every, iterations // settings.eval_every
        saves = iterations // settings.save_every + 1
        with tf.Session(config=script.session_config(1)) as session:
            session.run(initialize)
            board.open(session, settings, 0)
            work = {
                'held-out losses': (saves, lambda: script.measure(
                    session, reader, [reader.losses], ids, split, *shape, script.ALONE)),
                'checkpoints and plots': (saves, lambda: script.save_run(
                    session, model, folder, progress)),
                'samples': (rounds, lambda: script.sample_texts(
                    session, reader, ix2vocab, 1, settings.sample_length, settings)),
                'scalars': (logs, lambda: board.add_step(step, shape[0] * shape[1])),
                'texts': (rounds, lambda: board.add_texts('samples', texts, 1)),
                'histograms': (saves, lambda: board.add_weights(1)),
            }  # fmt: skip
            seconds = {}
            for name, (times, function) in work.items():
                function()
                repetitions = min(times, 100) if name == 'scalars' else 3
                start = time.perf_counter()
                for _ in range(repetitions):
                    function()
                seconds[name] = times * (time.perf_counter() - start) / repetitions
            board.writer.close()
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
    rows.append(
        ('memory of a run, MB', f'{memory:.0f}', f'{recipe_memory:.0f}, the recipe',
         f'{memory / recipe_memory:.2f} x', 'no more')
    )  # fmt: skip
    return rows, ours, theirs


def about_machine():
    """Return what has to be known of the machine, as Markdown."""
    model = re.findall(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())[0]
    return (
        f'{model}, {script.available_cores()} cores, Python {platform.python_version()}, '
        f'TensorFlow {tf.__version__}, {datetime.date.today():%Y-%m-%d}.\n'
    )


# ---------------------------------------------------------------------------------------------
# How the cost grows
# ---------------------------------------------------------------------------------------------

GROWTH = {
    'rnn_size': (64, 128, 256, 512, 1024),
    'num_layers': (1, 2, 3, 4, 6),
    'batch_size': (25, 50, 100, 200, 400),
}
SIZES = (1, 10, 100, 1000)  # MB of text


def characters_per_second(name, value):
    """Return the rates of the script's session options and of TensorFlow's, one setting changed."""
    settings = script.read_settings([f'--{name}={value}'])
    characters = settings.batch_size * settings.training_seq_len
    argument = f'--{name}={value}'
    with workers(['script_steps', argument], ['default_steps', argument]) as started:
        take_turns(started, repetitions=5, seconds=0.7)
        return [characters / worker.median for worker in started]


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


def draw_growth(growth):
    figure = Figure(figsize=(10, 6.5), dpi=100, constrained_layout=True)
    for axes, (name, rates) in zip(figure.subplots(2, 2).flat, growth.items()):
        ours, default = zip(*rates.values())
        axes.loglog(list(rates), ours, 'o-', color='#0072b2', label='the script')
        axes.loglog(list(rates), default, 's--', color='#d55e00', label='default session options')
        axes.set(xlabel=name, ylabel='characters per second')
        axes.set_xticks(list(rates))
        axes.set_xticks([], minor=True)
        axes.set_xticklabels(list(rates))
        axes.grid(alpha=0.3, which='both')
        axes.legend()
    FigureCanvasAgg(figure).print_png(str(DOCS / 'growth.png'))


# ---------------------------------------------------------------------------------------------
# The two forms of the whole
# ---------------------------------------------------------------------------------------------

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


def draw_learning(ours, theirs, seconds_ours, seconds_theirs):
    figure = Figure(figsize=(8, 5), dpi=100, constrained_layout=True)
    axes = figure.add_subplot(1, 1, 1)
    for curve, seconds, color, label in (
        (ours, seconds_ours, '#0072b2', 'the script'),
        (theirs, seconds_theirs, '#d55e00', 'the recipe'),
    ):
        iterations, losses = np.transpose(curve)
        axes.plot(iterations * seconds / 60, losses, color=color, label=label)
    axes.axhline(theirs[-1][1], color='#888888', linewidth=0.8, linestyle=':')
    axes.set(xlabel='minutes of training', ylabel='held-out loss, nats', ylim=(1.3, 2.1))
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(DOCS / 'learning.png'))


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
    curves = learning_curves(DOCS.parent / 'temp' / 'benchmark')
    rows, *seconds = measure_table(repetitions=15, megabytes=1000)
    rows += learning_rows(*curves, *seconds)
    draw_learning(*curves, *seconds)
    growth = measure_growth()
    draw_growth(growth)
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
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    mode, *rest = sys.argv[1:] or ['quick']
    if mode == 'steps':
        serve_steps(*rest)
    elif mode == 'learn':
        os.makedirs(rest[1], exist_ok=True)
        {'recipe': learn_recipe, 'script': learn_script}[rest[0]](*rest[1:])
    elif mode == 'prepare':
        prepare(*rest)
    else:
        {'quick': write_quick, 'long': write_long}[mode]()
