"""Measure the script against the recipe that it goes back to, and against the machine.

    python docs/benchmark.py             the quick form: docs/benchmark-quick.md, two minutes
    python docs/benchmark.py long        all of it: docs/benchmark.md and two pictures, an hour
    python docs/benchmark.py learn recipe|script FOLDER    one learning curve of the long form

All compared figures are medians of repetitions that take turns on the same cores. Each graph
lives in a process of its own, since TensorFlow's thread settings hold for a whole process.
"""

import contextlib
import datetime
import itertools
import json
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
        _, ids, split = script.prepare_text(settings)
    return settings, ids, split


def script_steps(folder, *arguments, config=None):
    """Yield once ready, and then after each training step of the script."""
    settings, ids, split = prepared_text(folder, *arguments)
    batch_size, training_seq_len = settings.batch_size, settings.training_seq_len
    num_batches = script.batches_per_epoch(split, batch_size, training_seq_len)
    model, _ = script.build_models(settings, len(script.CHARACTERS) + 1)
    config = config or script.session_config(settings.threads_per_operation)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        state = model.zero_state(batch_size)
        yield
        for number in itertools.cycle(range(num_batches)):
            x, y = script.read_batch(ids[:split], batch_size, training_seq_len, 0, number)
            _, state = script.train_step(session, model, x, y, state, settings.learning_rate)
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
    _, reader = script.build_models(settings, len(script.CHARACTERS) + 1)
    with tf.Session(config=script.session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        for number in itertools.count():
            yield
            prime = np.ones([streams, 1], np.int32)
            script.draw(session, reader, prime, DRAWN // streams, 1.0, [1, number])


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
        # TensorFlow is told nothing about its allocator but by the script's own import, and the
        # recipe's script would not tell it.
        change = {'TF_CPU_ALLOCATOR_USE_BFC': 'false'} if name == 'recipe_steps' else {}
        self.process = subprocess.Popen(
            [sys.executable, __file__, 'steps', name, *arguments],
            env={**os.environ, **change},
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

    x_data, y_output, initial_state, losses, final_state = 'xysLF'

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
        return losses.reshape(feed['x'].shape), np.array(state)


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
                held_out = script.measure_held_out(reader, reader, ids, split, *shape)
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
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-u', SCRIPT, f'--data_dir={DOCS.parent / "data"}']
        command += [f'--temp_dir={folder}', '--log_every=1', '--max_iterations=20']
        for _ in range(repetitions):
            start = time.perf_counter()
            subprocess.run(import_only, check=True, stderr=subprocess.DEVNULL)
            seconds['import'].append(time.perf_counter() - start)
            start = time.perf_counter()
            environment = {**os.environ, 'MPLBACKEND': 'Agg'}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
            while not process.stdout.readline().startswith(b'Iteration: 1,'):
                pass
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
    is_clean = clean_text == 'True'
    ix2vocab = script.build_vocab(path, is_clean, 5)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        ids = script.encode_text(path, is_clean, ix2vocab, os.path.join(folder, 'ids'))
        print(time.perf_counter() - start, memory() - before, len(ids))


def measure_preparing(megabytes):
    """Return rows on making ids of a text of that size: the works again and again."""
    rows = []
    works = (DOCS.parent / 'data' / 'shakespeare.txt').read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'large.txt')
        with open(path, 'wb') as file:
            while file.tell() < megabytes * MB:
                file.write(works)
            size = file.tell() / MB
        start = time.perf_counter()
        with open(path, 'rb') as file:
            while file.read(1 << 22):
                pass
        reading = size / (time.perf_counter() - start)
        for clean_text in 'True', 'False':
            command = [sys.executable, __file__, 'prepare', path, clean_text]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            seconds, memory, _ = map(float, output.split())
            rows.append(
                (f'preparing {size:,.0f} MB, clean_text={clean_text}', f'{size / seconds:.0f}',
                 f'{reading:,.0f}, reading the file', f'{memory:.0f} MB of memory',
                 'at least 50 MB/s in 300 MB')
            )  # fmt: skip
    return rows


def measure_intervals(step_seconds):
    """Return a row on what is shown and saved at the default intervals, as a share of the time."""
    settings = script.read_settings([])
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        settings, ids, split = prepared_text(folder)
        model, reader = script.build_models(settings, len(script.CHARACTERS) + 1)
        initialize = tf.global_variables_initializer()
        shape = settings.batch_size, settings.training_seq_len
        num_batches = script.batches_per_epoch(split, *shape)
        iterations = settings.epochs * num_batches
        losses = [2.0] * iterations
        ix2vocab = [script.UNKNOWN, *script.CHARACTERS]
        with tf.Session(config=script.session_config(1)) as session:
            session.run(initialize)
            seconds = []
            for _ in range(3):
                times = [time.perf_counter()]
                script.measure_held_out(session, reader, ids, split, *shape)
                times.append(time.perf_counter())
                script.save_run(session, model, folder, losses, [(iterations, 2.0)])
                times.append(time.perf_counter())
                script.draw_samples(session, reader, ix2vocab, 1, settings.sample_length, settings)
                times.append(time.perf_counter())
                seconds.append(np.diff(times))
    held_out, save, samples = np.median(seconds, axis=0)
    saves = iterations // settings.save_every + 1  # the last at the end
    total = saves * (held_out + save) + iterations // settings.eval_every * samples
    share = total / (iterations * step_seconds)
    return [
        ('held-out losses, checkpoints, plots and samples of a default run, s', f'{total:.0f}',
         f'{iterations * step_seconds:.0f}, the training', f'{share:.1%}', 'under 5 %')
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


HEAD = ('what', 'the script', 'against', 'measured', 'target')


def write_quick():
    rows, *_ = measure_table(repetitions=7, megabytes=100)
    text = f'# Benchmark, quick form\n\n`make benchmark-quick`. {about_machine()}\n'
    (DOCS / 'benchmark-quick.md').write_text(text + as_table(HEAD, rows))
    print(as_table(HEAD, rows))


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
    elif mode == 'quick':
        write_quick()
