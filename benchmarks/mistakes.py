"""Measure five mistakes of published versions of the recipe: four in training, one in sampling.

    python benchmarks/mistakes.py    an hour on two cores; writes docs/mistakes.png and mistakes.md

Each run uses the script itself, with one part replaced. All runs are measured on the same correctly
prepared held-out text, so their losses can be compared. Each has several seeds, because chance
alone changes a loss as much as some mistakes do. Finished runs are kept.
"""

import functools
import pathlib
import sys

import rows
from shared import DATA_DIR, DOCS, ROOT, as_table, run, script, tf, write_page

# isort: split
import numpy as np

EPOCHS = 2
SEEDS = 1, 2, 3
RUNS = ROOT / 'temp' / 'mistakes'
RIGHT = rows.folder_of(RUNS, 'no_mistake', 1)


def share_one_cell():
    """Use the same cell object for all layers, as `[cell] * num_layers` does."""
    cells = {}  # one for each model: a cell keeps its weights, averaged or not
    of_size = tf.contrib.rnn.BasicLSTMCell
    tf.contrib.rnn.BasicLSTMCell = lambda size: cells.setdefault(
        tf.get_variable_scope().reuse, of_size(size)
    )


def delete_line_ends():
    """Delete the line ends, so that the last word of a line and the next one run together."""
    read_pieces, measure = script.reading.read_pieces, script.measure

    def measure_right_text(session, model, what, _, __, *shape):
        ids = np.memmap(RIGHT / 'text.ids', np.uint8, 'r')
        start = script.held_out_begin(len(ids), script.held_out)
        return measure(session, model, what, ids, start, *shape)

    script.reading.read_pieces = lambda *how: (p.replace('\n', '') for p in read_pieces(*how))
    script.measure = measure_right_text


def wrap_targets():
    """Make the first character of each row the last target of the row."""
    read_batch = script.read_batch

    def wrapped(*arguments):
        x, _ = read_batch(*arguments)
        return x, np.roll(x, -1, axis=1)

    script.read_batch = wrapped


def shuffle_batches():
    """Read the batches of an epoch in random order, and carry the state from each to the next."""
    read_batch = script.read_batch

    @functools.lru_cache(maxsize=1)
    def order(num_batches, offset):
        return np.random.RandomState(offset).permutation(num_batches)

    def shuffled(ids, batch_size, training_seq_len, offset, number, *rows):
        num_batches = script.batches_per_epoch(len(ids), batch_size, training_seq_len)
        number = order(num_batches, offset)[number]
        return read_batch(ids, batch_size, training_seq_len, offset, number, *rows)

    script.read_batch = shuffled


# The function that makes the mistake, its name in the picture, and the arguments that it needs.
MISTAKES = {
    'no_mistake': (None, 'as the script does it', ()),
    'wide_embedding': (None, 'the same, embedding_size=128', ('--embedding_size=128',)),
    # Layers can share a kernel only if their inputs have the same width.
    'share_one_cell': (share_one_cell, 'one cell for all layers', ('--embedding_size=128',)),
    'delete_line_ends': (delete_line_ends, 'line ends deleted', ()),
    'wrap_targets': (wrap_targets, 'targets wrap around in each row', ()),
    'shuffle_batches': (shuffle_batches, 'batches shuffled, state carried', ()),
}


def train(name, *arguments):
    """Train with a mistake in this process, with these arguments of the script."""
    make, _, more = MISTAKES[name]
    if make:
        make()
    return script.main([*more, *arguments])


# --- The fifth mistake is in sampling, not in training -------------------------------------------

LENGTH = 5000  # characters of a sample
PIECE = 20  # characters; a text that repeats a piece of this length goes in circles


def fresh_share(text):
    """Return, for each position, the share of pieces up to it that were new."""
    seen, fresh = set(), []
    for end in range(PIECE, len(text) + 1):
        piece = text[end - PIECE : end]
        fresh.append(piece not in seen)
        seen.add(piece)
    return np.cumsum(fresh) / np.arange(1, len(fresh) + 1)


def draw_text(temperature):
    """Return a text that the model without a mistake draws."""
    return run(
        *(f'--temp_dir={RIGHT}', '--prime_text=thou art more', f'--sample_length={LENGTH}'),
        f'--temperature={temperature}',
        program=('-m', 'tools.sample'),
        cwd=str(ROOT),
    )


# --- The picture and the table -------------------------------------------------------------------


def draw_on(figure, found, texts):
    """Draw the losses that rows.train found for each mistake, and the share of new pieces."""
    left, right = figure.subplots(1, 2)
    for (name, runs), color in zip(found.items(), script.pictures.COLORS):
        losses = np.mean([runs[seed]['held_out'] for seed in SEEDS], axis=0)
        style = '--' if name == 'wide_embedding' else '-'
        iterations = runs[SEEDS[0]]['iterations']
        left.plot(iterations, losses, style, label=MISTAKES[name][1], color=color)
    loss = f'Held-out loss, mean of {len(SEEDS)} seeds'
    left.set(title='Four mistakes of training', xlabel='Generation', ylabel=loss, ylim=(1.35, 1.75))
    for (label, text), color in zip(texts.items(), script.pictures.COLORS):
        share = fresh_share(text)
        right.plot(np.arange(len(share)) + PIECE, share, label=label, color=color)
    pieces = f'Share of pieces of {PIECE} not seen before'
    right.set(title='One of drawing', xlabel='Characters drawn', ylabel=pieces, ylim=(0, 1.05))
    for axes in left, right:
        axes.grid(alpha=0.3)
        axes.legend()


def write(found):
    circle = draw_text(0)
    texts = {'drawn at temperature 0.7': draw_text(0.7), 'argmax: always the likeliest': circle}
    script.pictures.save(str(DOCS / 'mistakes.png'), draw_on, found, texts, size=(13, 5))
    table = []
    last = {name: [runs[s]['held_out'][-1] for s in SEEDS] for name, runs in found.items()}
    for name, losses in last.items():
        more = np.subtract(losses, last['no_mistake'])  # with the same seed
        range_ = f'{more.mean():+.4f} ({more.min():+.4f} to {more.max():+.4f})'
        shown = (f'{loss:.4f}' for loss in (*losses, np.mean(losses)))
        table.append([MISTAKES[name][1], *shown, range_])
    head = ['held-out loss, nats', *(f'seed {seed}' for seed in SEEDS), 'mean', 'against none']
    shares = [[label, f'{fresh_share(text)[-1]:.0%}'] for label, text in texts.items()]
    text = f"""Each run trains the script for {EPOCHS} epochs, as it is or with one mistake, with
{len(SEEDS)} seeds. All are measured on the same held-out text.

![Held-out losses, and how soon samples repeat themselves](../mistakes.png)

{as_table(head, table)}
Argmax sampling does not affect training. The same model drew {LENGTH:,} characters. This is the
share of its pieces of {PIECE} characters that were new:

{as_table(['drawing', 'new pieces'], shares)}
The likeliest text begins:

> {circle[:300]} …
"""
    write_page('mistakes.md', 'Five mistakes', 'python benchmarks/mistakes.py', text)


if __name__ == '__main__':
    if sys.argv[1:]:
        name, *arguments = sys.argv[1:]
        sys.exit(train(name, *arguments))
    table = {name: {seed: f'{name} --seed={seed}' for seed in SEEDS} for name in MISTAKES}
    how = (
        [pathlib.Path(__file__).resolve()],
        table,
        [DATA_DIR, f'--epochs={EPOCHS}', '--save_every=100'],
    )
    rows.train(RUNS, *how, numbers=['0'])  # first, because all others are measured on its text
    write(rows.train(RUNS, *how))
