"""What a run says of itself: its size, its length, its losses, and its end."""

import math
import os
import shlex
import sys

from backstage.settings import PATHS

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def count_parameters(settings, vocab_size):
    """Return how many numbers the model learns."""
    n = settings.rnn_size
    widths = [settings.embedding_size] + [n] * (settings.num_layers - 1)
    layers = sum((width + n + 1) * 4 * n for width in widths)
    return layers + (settings.embedding_size + n + 1) * vocab_size


# What docs/advice.md and docs/megabyte.md found. The more often a text is read, and the larger a
# model is beside it, the more dropout it takes: the passes through the text, divided by its
# characters for each parameter, tell how much. Above the first number, the second is too high a
# keep_prob, and the third is better.
DROPOUT = (120, 0.7, 0.5), (50, 0.85, 0.7), (8, 0.93, 0.85), (4, 1, 0.93)


def describe_size(settings, vocab_size, characters, num_iterations):
    """Return in words how large a model is beside its text, and what to try if it is large."""
    parameters = count_parameters(settings, vocab_size)
    each = characters / parameters
    passes = num_iterations * settings.batch_size * settings.training_seq_len / characters
    advice = ''
    for least, too_high, better in DROPOUT:
        if passes / each > least and settings.keep_prob >= too_high:
            advice = f'; it may learn the text by heart: try keep_prob={better}'
            break
    return f'Model: {parameters:,} parameters, {each:.1f} characters for each{advice}'


def describe_length(settings, num_iterations, rate):
    """Return in words how long a run is, and its highest learning rate: `rate` if it gets there."""
    rate *= min(1, num_iterations / max(1, settings.warmup_iterations))
    # In thousands of iterations the loss still falls.
    few = num_iterations < 1000 and num_iterations != settings.max_iterations
    shape = f'{settings.batch_size} x {settings.training_seq_len} characters'
    advice = '; they are few: try a smaller batch_size, or more epochs' if few else ''
    return f'Run: {num_iterations:,} iterations of {shape}, at a rate of up to {rate:.3g}{advice}'


def describe_loss(nats):
    """Return a loss in words: nats, bits per character, and the perplexity."""
    bits, perplexity = nats / math.log(2), math.exp(min(nats, 700))  # no float exceeds exp(709)
    return f'{nats:.4f} nats, {bits:.4f} bits per character, perplexity {perplexity:.3f}'


def how_to_go_on(settings):
    """Return in words what goes on from where a run was stopped."""
    without = ', with --restart=False,' if settings.restart else ''
    return f'The same command{without} goes on from there'


def command(path, **settings):
    """Return a shell command that runs a program of the project with some settings, from anywhere.

    Args:
      path: str, its file, or `tools`.
    """
    words = [sys.executable, os.path.abspath(os.path.join(ROOT, path))]
    for name, value in settings.items():
        whole = os.path.abspath(value) if name in PATHS and value else value
        words.append(f'--{name}={whole}')
    return ' '.join(map(shlex.quote, words))


def print_end(run):
    """Print how a run ended, and what can be done with its model."""
    if len(run.losses) < run.last:
        saves = f'{run.settings.patience} save{"s" if run.settings.patience > 1 else ""}'
        print(f'Ended after iteration {len(run.losses)}: no better held-out loss in {saves}')
    width = min(100, math.ceil(len(run.losses) / 10))  # the first iterations of a run are steep
    last = [loss for loss in run.losses[-width:] if not math.isnan(loss)]  # as a lost one is
    if last:
        mean = describe_loss(np.mean(last))
        print(f'Final loss, mean of the last {len(last)} iterations: {mean}')
    if run.held_out_losses:
        print(f'Final held-out loss: {describe_loss(run.held_out_losses[-1][1])}')
    if run.best:
        iteration, loss = run.best
        print(f'Best held-out loss, at iteration {iteration}: {describe_loss(loss)}')
    if os.path.exists(run.plot):  # otherwise a message has said why not
        print(f'The plot is {run.plot}')
    print(f'To let it write: {command("tools/sample.py", temp_dir=run.settings.temp_dir)}')
    print(f'What else can be done with it: {command("tools")}')


# For a terminal: symbols in the place of what it obeys and of what reverses the text after it.
SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in '\t\n'},
    0x7F: 0x2421,  # delete
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
}


def shown(text, file):
    """Return a text as it is printed to a file: exact, but for a terminal with SYMBOLS."""
    return text.translate(SYMBOLS) if file.isatty() else text
