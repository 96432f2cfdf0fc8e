"""What a run shows: lines, progress bars and TensorBoard."""

import math
import os
import shlex
import socket
import sys
import time

from backstage import ROOT, first_line, machine, tf, workers
from backstage.settings import PATHS

import numpy as np

# --- Lines ---------------------------------------------------------------------------------------

# From docs/measurements/texts.md. If an epoch has fewer batches, smaller ones predict better, in
# about the same time. If it still has, more epochs do, up to so many iterations.
BATCHES, SMALLEST_BATCH, ITERATIONS, MOST_EPOCHS = 350, 25, 3500, 40
# From there and from docs/measurements/advice.md. A model needs more dropout the more often it
# reads its text, and the larger it is for that text. The measure is the number of passes through
# the text, divided by the characters per parameter. Above the first number, a keep_prob as high as
# the second is too high, and the third is better.
DROPOUT = (120, 0.7, 0.5), (50, 0.85, 0.7), (8, 0.93, 0.85), (3, 1, 0.93)


def describe_plan(settings, vocab_size, characters, num_iterations, rate):
    """Return lines on a model and on its run, and on what may be better: list of str.

    Args:
      characters: int, the length of the text to learn.
      rate: float, the learning rate after warm-up.
    """
    each = characters / machine.count_parameters(settings, vocab_size)
    rate *= min(1, num_iterations / max(1, settings.warmup_iterations))
    shape = f'{settings.batch_size} x {settings.training_seq_len} characters'
    better = find_better(settings, each, characters, num_iterations)
    advice = ' '.join(f'--{name}={value}' for name, value in better.items())
    return [
        f'Model: {characters / each:,.0f} parameters, {each:.1f} characters per parameter',
        f'Run: {num_iterations:,} iterations of {shape}, learning rate up to {rate:.3g}',
        *([f'Advice: {advice} may predict better'] if better else []),
    ]


def find_better(settings, each, characters, num_iterations):
    """Return settings that may predict better: a dict. `each` is the characters per parameter."""
    better, batch_size, epochs = {}, settings.batch_size, settings.epochs
    unrolls = characters / settings.training_seq_len
    if num_iterations == settings.max_iterations:
        passes = num_iterations * batch_size / unrolls
    else:
        smallest = SMALLEST_BATCH * workers.count()  # so that each worker gets as many streams
        while unrolls / batch_size < BATCHES and batch_size >= 2 * smallest:
            batch_size = better['batch_size'] = batch_size // 2 // smallest * smallest
        is_short = unrolls / batch_size < BATCHES
        while is_short and epochs * unrolls / batch_size < ITERATIONS and 2 * epochs <= MOST_EPOCHS:
            epochs = better['epochs'] = 2 * epochs
        passes = epochs
    for least, too_high, enough in DROPOUT:
        if passes / each > least and settings.keep_prob >= too_high:
            better['keep_prob'] = enough
            break
    return better


def perplexity(nats):
    """Return the perplexity of a loss. exp(710) would overflow a float."""
    return math.exp(min(nats, 700))


def describe_loss(nats):
    """Return a loss as text: nats, bits per character, and perplexity."""
    bits = nats / math.log(2)
    return f'{nats:.4f} nats, {bits:.4f} bits per character, perplexity {perplexity(nats):.3f}'


def command(path, **settings):
    """Return a shell command that runs a program with settings, from any folder.

    Args:
      path: str, the file of the program, or `tools`.
    """
    words = [sys.executable, os.path.join(ROOT, path)]
    for name, value in settings.items():
        whole = os.path.abspath(value) if name in PATHS and value else value
        words.append(f'--{name}={whole}')
    return ' '.join(map(shlex.quote, words))


def print_end(run):
    """Print how a run ended, and the commands that use its model."""
    if len(run.losses) < run.last:
        saves = f'{run.settings.patience} save{"s" if run.settings.patience > 1 else ""}'
        print(f'Ended after iteration {len(run.losses)}: no better held-out loss in {saves}')
    width = min(100, math.ceil(len(run.losses) / 10))  # the first iterations of a run are steep
    last = [loss for loss in run.losses[-width:] if not math.isnan(loss)]  # NaN: lost
    if last:
        mean = describe_loss(np.mean(last))
        print(f'Final loss, mean of the last {len(last)} iterations: {mean}')
    if run.held_out_losses:
        print(f'Final held-out loss: {describe_loss(run.held_out_losses[-1][1])}')
    if run.best:
        iteration, loss = run.best
        print(f'Best held-out loss, at iteration {iteration}: {describe_loss(loss)}')
    if os.path.exists(run.plot):  # otherwise, a message has said why
        print(f'The plot is {run.plot}')
    print(f'To generate text: {command("tools/sample.py", temp_dir=run.settings.temp_dir)}')
    print(f'To list all tools: {command("tools")}')


# For a terminal: symbols that replace control characters and marks of text direction.
SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in '\t\n'},
    0x7F: 0x2421,  # delete
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
}


def shown(text, file):
    """Return a text for printing to a file: unchanged, or with SYMBOLS if it is a terminal."""
    return text.translate(SYMBOLS) if file.isatty() else text


# --- Bars ----------------------------------------------------------------------------------------

DELAY = 2  # seconds until a bar appears, other than the bar of training


def bar(*what, **how):
    """Return a tqdm bar. Only worker 0 shows it, and only in a terminal."""
    from tqdm import tqdm  # not at the top: it takes a tenth of a second

    disable = None if workers.is_first() else True  # None: disabled outside a terminal
    return tqdm(*what, disable=disable, **how)


def write(line):
    """Print a line, above the bar if one is shown."""
    from tqdm import tqdm

    tqdm.write(line)


def progress_bar(done, num_iterations, settings):
    """Return a tqdm bar of the characters that the run reads in `num_iterations`."""
    characters = settings.batch_size * settings.training_seq_len
    total = num_iterations * characters
    how = {'unit': 'char', 'unit_scale': True, 'dynamic_ncols': True}
    return bar(initial=done * characters, total=total, **how)


def measuring(steps):
    """Return a range or a list with a progress bar for a measurement."""
    return bar(steps, desc='Measuring', delay=DELAY, leave=False)


def reading(path, pieces):
    """Yield the pieces of a file, with a progress bar."""
    size = os.path.getsize(path) if os.path.exists(path) else None
    how = {'unit': 'B', 'unit_scale': True, 'delay': DELAY, 'leave': False}
    with bar(desc=f'Reading {path}', total=size, **how) as shown:
        for piece in pieces:
            yield piece
            shown.update(0 if shown.disable else len(piece.encode()))


# --- TensorBoard ---------------------------------------------------------------------------------


class Board:
    """Writes events for TensorBoard to the folder `board` of a run. Only worker 0 writes.

    `done` is the number of finished iterations. Events of later ones are discarded, because they
    come again when a killed run resumes. A finished run writes nothing. If writing fails, as on a
    full disk, a line says so, and the run continues without it. (tf.summary.FileWriter writes in a
    thread. With TensorFlow 2.x, a failure there would end the run with a traceback.)
    """

    def __init__(self, settings, graph, done, has_more):
        self.weights = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        self.characters = settings.batch_size * settings.training_seq_len
        self.last = done, time.perf_counter()
        self.writer = None
        if workers.is_first() and has_more:
            self._open(os.path.join(settings.temp_dir, 'board'), graph, done)
        self.add_texts(done, 'settings', [f'{k} = {v!r}' for k, v in vars(settings).items()])

    def _open(self, folder, graph, done):
        # Two starts in the same second differ in `done`, so their names differ too.
        name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{done:09}'
        try:
            os.makedirs(folder, exist_ok=True)
            self.writer = tf.python_io.TFRecordWriter(os.path.join(folder, name))
        except (OSError, tf.errors.OpError) as error:
            self._fail(error)
        self._write(file_version='brain.Event:2')
        self._write(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        start = tf.SessionLog(status=tf.SessionLog.START)
        self._write(step=done + 1, session_log=start)

    def close(self):
        """Write all pending events and close the file."""
        if self.writer:
            try:
                self.writer.close()
            except tf.errors.OpError as error:
                self._fail(error)

    def add_step(self, iteration, loss, norm, rate):
        """Add the loss and its perplexity, the gradient norm, the learning rate and the speed."""
        before, then = self.last
        self.last = iteration, time.perf_counter()
        speed = self.characters * (iteration - before) / (self.last[1] - then)
        self._add_loss(iteration, 'training', loss)
        self._add_scalar(iteration, 'training/gradient_norm', norm)
        self._add_scalar(iteration, 'training/learning_rate', rate)
        self._add_scalar(iteration, 'training/characters_per_second', speed)

    def add_held_out(self, iteration, loss, session):
        """Add the held-out loss and its perplexity, and histograms of the weights."""
        from tensorboard.plugins.histogram import summary

        self._add_loss(iteration, 'held_out', loss)
        for weight, values in zip(self.weights, session.run(self.weights)):
            self._add(iteration, summary.pb(weight.op.name, np.ravel(values)))

    def add_texts(self, iteration, name, texts):
        """Add a list of str."""
        from tensorboard.plugins.text import summary

        # Indented by four spaces, Markdown shows a line unchanged.
        text = '\n'.join('    ' + line for text in texts for line in text.split('\n'))
        self._add(iteration, summary.pb(name, text.encode('utf-8', 'replace')))

    def _add_loss(self, iteration, which, nats):
        self._add_scalar(iteration, f'loss/{which}', nats)
        self._add_scalar(iteration, f'loss/{which}_perplexity', perplexity(nats))

    def _add_scalar(self, iteration, tag, value):
        self._add(iteration, tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)]))

    def _add(self, iteration, summary):
        self._write(step=iteration, summary=summary)

    def _write(self, **event):
        if self.writer:
            try:
                self.writer.write(tf.Event(wall_time=time.time(), **event).SerializeToString())
                self.writer.flush()  # so that TensorBoard shows it at once
            except tf.errors.OpError as error:
                self._fail(error)

    def _fail(self, error):
        self.writer = None
        write(f'No more of this run is written for TensorBoard: {first_line(error)}')
