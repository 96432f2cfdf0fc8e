"""Make each of five mistakes that published versions of the recipe make: four are of training.

    python benchmarks/mistakes.py    an hour on two cores; writes docs/mistakes.png and .md

Each run is one of the script itself, with one thing in it replaced. All are measured on the same
held-out text, rightly prepared, so that their losses can be compared; with several seeds, since
chance alone moves a loss by as much as some of the mistakes do.
"""

import functools
import hashlib
import itertools
import os
import pathlib
import subprocess
import sys

import numpy as np
from benchmark import DATA_DIR, DOCS, ROOT, as_table, saving, script, tf

EPOCHS = 2
SEEDS = 1, 2, 3
RUNS = ROOT / 'temp' / 'mistakes'
ARGUMENTS = (DATA_DIR, f'--epochs={EPOCHS}', '--save_every=100')


def no_mistake():
    """Leave the script as it is."""


def share_one_cell():
    """Put the same cell object into all layers, as `[cell] * num_layers` does."""
    cells = {}  # one for each model, since a cell keeps the weights that it has, averaged or not
    of_size = tf.contrib.rnn.BasicLSTMCell
    tf.contrib.rnn.BasicLSTMCell = lambda size: cells.setdefault(
        tf.get_variable_scope().reuse, of_size(size)
    )
    # A kernel that all layers share gets its gradient from all of them: TensorFlow's own way.
    script.fast.in_one_operation = lambda cells: None
    script.fast.static_rnn, script.fast.gradients = tf.nn.static_rnn, tf.gradients


def delete_line_ends():
    """Take out the line ends, so that the last word of a line and the next run together."""
    read_pieces, measure = script.reading.read_pieces, script.measure

    def measure_right_text(session, model, what, _, __, *shape):
        ids = np.memmap(folder_of('no_mistake', SEEDS[0]) / 'text.ids', np.uint8, 'r')
        start = script.held_out_begin(len(ids), script.held_out)
        return measure(session, model, what, ids, start, *shape)

    script.reading.read_pieces = lambda *how: (p.replace('\n', '') for p in read_pieces(*how))
    script.measure = measure_right_text


def wrap_targets():
    """Take as the last target of a row the row's own first character."""
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


# The function that makes the mistake, what it is called in the picture, and what it needs.
MISTAKES = {
    'no_mistake': (no_mistake, 'as the script does it', ()),
    'wide_embedding': (no_mistake, 'the same, embedding_size=128', ('--embedding_size=128',)),
    # A kernel can only be shared if all layers read as many numbers.
    'share_one_cell': (share_one_cell, 'one cell for all layers', ('--embedding_size=128',)),
    'delete_line_ends': (delete_line_ends, 'line ends deleted', ()),
    'wrap_targets': (wrap_targets, 'targets wrap around in each row', ()),
    'shuffle_batches': (shuffle_batches, 'batches shuffled, state carried', ()),
}


def folder_of(name, seed):
    return RUNS / f'{name}-{seed}'


def train(name, seed):
    """Train with a mistake, in this process."""
    make, _, arguments = MISTAKES[name]
    make()
    where = f'--temp_dir={folder_of(name, seed)}', '--restart'
    return script.main([*ARGUMENTS, *arguments, f'--seed={seed}', *where])


# --- The fifth is one of drawing, not of training ------------------------------------------------

LENGTH = 5000  # characters of a sample
PIECE = 20  # characters; a text that has the same twenty again is going in a circle


def fresh_share(text):
    """Return, for each position, the share of pieces up to there that were not there before."""
    seen, fresh = set(), []
    for end in range(PIECE, len(text) + 1):
        piece = text[end - PIECE : end]
        fresh.append(piece not in seen)
        seen.add(piece)
    return np.cumsum(fresh) / np.arange(1, len(fresh) + 1)


def draw_text(temperature):
    """Return a text that the model without a mistake draws."""
    command = [
        *(sys.executable, '-m', 'tools.sample', '--prime_text=thou art more'),
        *(f'--temp_dir={folder_of("no_mistake", SEEDS[0])}', f'--sample_length={LENGTH}'),
        f'--temperature={temperature}',
    ]
    result = subprocess.run(command, check=True, cwd=str(ROOT), stdout=subprocess.PIPE)
    return result.stdout.decode()


# --- The picture and the table -------------------------------------------------------------------


def held_out(name):
    """Return the iterations, and the held-out losses at them, float64 [seeds, iterations]."""
    runs = [saving.read_history(str(folder_of(name, seed)))[1] for seed in SEEDS]
    iterations, losses = np.moveaxis(np.array(runs), 2, 0)
    return iterations[0], losses


def draw_on(figure, texts):
    left, right = figure.subplots(1, 2)
    for number, (name, (_, label, _)) in enumerate(MISTAKES.items()):
        iterations, losses = held_out(name)
        style = '--' if name == 'wide_embedding' else '-'
        color = script.pictures.COLORS[number]
        left.plot(iterations, losses.mean(axis=0), style, label=label, color=color)
    left.set(
        title='Four mistakes of training',
        xlabel='Generation',
        ylabel=f'Held-out loss, mean of {len(SEEDS)} seeds',
        ylim=(1.35, 1.75),
    )
    for number, (label, text) in enumerate(texts.items()):
        share = fresh_share(text)
        drawn = np.arange(len(share)) + PIECE
        right.plot(drawn, share, label=label, color=script.pictures.COLORS[number])
    right.set(
        title='One of drawing',
        xlabel='Characters drawn',
        ylabel=f'Share of pieces of {PIECE} not seen before',
        ylim=(0, 1.05),
    )
    for axes in left, right:
        axes.grid(alpha=0.3)
        axes.legend()


def write():
    texts = {
        'drawn at temperature 0.7': draw_text(0.7),
        'argmax: always the likeliest': draw_text(0),
    }
    script.pictures.save(str(DOCS / 'mistakes.png'), draw_on, texts, size=(13, 5))
    right = held_out('no_mistake')[1][:, -1]
    rows = []
    for name, (_, label, _) in MISTAKES.items():
        last = held_out(name)[1][:, -1]
        losses = [f'{loss:.4f}' for loss in (*last, last.mean())]
        more = last - right  # with the same seed
        losses.append(f'{more.mean():+.4f} ({more.min():+.4f} to {more.max():+.4f})')
        rows.append([label, *losses])
    head = ['held-out loss, nats', *(f'seed {seed}' for seed in SEEDS), 'mean', 'against none']
    shares = [[label, f'{fresh_share(text)[-1]:.0%}'] for label, text in texts.items()]
    circle = texts['argmax: always the likeliest'][:300]
    (DOCS / 'mistakes.md').write_text(f"""# Five mistakes

`make mistakes` trains the script as it is and with one mistake at a time, {EPOCHS} epochs each,
with {len(SEEDS)} seeds, and measures all on the same held-out text.

![Held-out losses, and how soon samples repeat themselves](mistakes.png)

{as_table(head, rows)}
Argmax sampling changes nothing in training. The same model drew {LENGTH:,} characters, of which the
pieces of {PIECE} that had not been there before were

{as_table(['drawing', 'new pieces'], shares)}
The likeliest text begins:

> {circle} …
""")


def fingerprint():
    """Return what changes when a run would."""
    paths = [script.__file__, __file__, *sorted((ROOT / 'backstage').glob('*.py'))]
    sources = b''.join(pathlib.Path(path).read_bytes() for path in paths)
    return hashlib.sha256(sources).hexdigest()


def train_all():
    """Train with each mistake, but for those that these very sources have trained to the end."""
    for seed, name in itertools.product(SEEDS, MISTAKES):
        done = folder_of(name, seed) / 'done.txt'
        if done.exists() and done.read_text() == fingerprint():
            print(f'{name}, seed {seed}: trained already')
            continue
        print(f'{name}, seed {seed}: training')
        command = [sys.executable, __file__, name, str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done.write_text(fingerprint())


if __name__ == '__main__':
    os.environ['MPLBACKEND'] = 'Agg'
    if sys.argv[1:]:
        sys.exit(train(*sys.argv[1:]))
    train_all()
    write()
