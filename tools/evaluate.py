"""Measure how well a trained model predicts a text: its own, another, several, or each line of one.

    python -m tools.evaluate
    python -m tools.evaluate --text_file=other.txt --lines

It prints the loss, and how often the likeliest character was the right one. With `--lines` it
prints, for each line but blank ones, the loss in nats per character, and the line: `| sort -n`
ranks them.
"""

import argparse
import contextlib
import functools
import itertools
import math
import os
import sys
import tempfile
from concurrent import futures
from csv import DictWriter

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import machine, reading, report, running, tf
from backstage.report import describe_loss, shown
from backstage.settings import UserError, read_settings
from backstage.sources import text_path
from stacked_lstm_shakespeare import encode, held_out_begin, measure
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
text_file = ''  # a UTF-8 text, to be measured whole; empty: the part held out of the run's own
text_files = []  # several, one after the other, instead
lines = False  # a loss for each line, read alone, instead of one for the whole
csv = False  # print only a table in CSV; ' before a text that a spreadsheet takes for a formula
streams = 0  # most pieces of the text that are read side by side; 0: as many as are fast
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one

RANGES = {
    'checkpoint': 'path', 'text_files': 'paths', 'lines': bool, 'csv': bool,
    'streams': (0, 1_000_000),
}  # fmt: skip

BLOCK = 10_000  # lines that are read before the first is printed
STREAMS = 400  # lines that are read side by side; more are hardly faster
PIECE = 100  # characters of each that are read at a time

MATCH = 40  # characters: two texts share that many in a row by copying, not by chance
SEARCHED = 5e7  # most bytes of a learned text that are searched for copies
COPIED = 0.05  # share of a text; above it, copies are told. Texts without any have 0


def measure_text(model, hits, text_file, streams):
    """Return the figures of a text, or of the held-out part of the run's own: a dict.

    Args:
      model: tuple, as `trained.opened` yields it.
      hits: bool [batch, time], whether the likeliest character was the right one.
      text_file: str, the path of the text; empty: the run's own.
      streams: int, as the setting.

    Raises:
      UserError: the text cannot be read, is too short, or is not there any more.
    """
    session, sampler, ix2vocab, run, _ = model
    if text_file:
        name, seen = text_file, reading.Counter()
        with path_of(text_file) as path:
            ids, crc = trained.encode_file(path, run, ix2vocab, seen)
        reading.print_left_out(seen)
        if len(ids) < 2:  # the first one only predicts
            raise UserError(
                f'{name} has no text to be measured: it takes two characters. Take another'
            )
    else:
        (ids, name), crc = trained.own_ids(run, ix2vocab), run.text_crc
    if crc == run.text_crc:
        part, start, learned = 'the held-out part', held_out_begin(len(ids), run.held_out), 0
    else:  # nothing comes before the first character to predict it
        part, start, learned = 'all', 1, learned_share(ids, run)
    shape = streams_and_warm_up(len(ids), start, streams, run)
    loss, accuracy = measure(session, sampler, [sampler.losses, hits], ids, start, *shape)
    return {
        'text': name, 'part': part, 'characters': len(ids) - start,
        'unknown': len(ids) - start - np.count_nonzero(ids[start:]),
        **in_units(loss), 'accuracy': accuracy, 'learned': learned,
    }  # fmt: skip


@contextlib.contextmanager
def path_of(text_file):
    """Yield the path of a text that the user names; what comes through a pipe is copied first."""
    named = argparse.Namespace(text_file=text_file)
    with tempfile.TemporaryDirectory() as folder, text_path(named, folder) as path:
        yield path


def streams_and_warm_up(num_ids, start, most, run):
    """Return in how many streams to measure, and how many characters each reads at a time.

    Each stream first reads that many characters before its own, which do not count, so that it does
    not start from an empty memory. After 100 characters a model of the default size, trained for
    1,500 iterations, has forgotten what came before: all later losses differ by 0.00004 in sum.
    `most` limits the streams; 0 takes as many as need the memory of training.
    """
    warm_up = max(200, run.training_seq_len)
    if 1 < start <= warm_up:  # a single stream can read all that comes before
        return 1, start - 1
    most = most or max(1, run.batch_size * run.training_seq_len // warm_up)
    return max(1, min(most, (num_ids - start) // warm_up)), warm_up


def in_units(nats):
    """Return a loss per character in nats, in bits, and as perplexity: a dict."""
    return {'nats': nats, 'bits': nats / math.log(2), 'perplexity': report.perplexity(nats)}


def learned_share(ids, run):
    """Return what share of a text, ids [characters], stands word for word in what a run learned.

    It looks at 200 places. The share is 0 where the text.ids of the run has gone, belongs to
    another text, or is too large to be searched in seconds. `ids` has the type of its ids.
    """
    learned = trained.read_ids(run, ids.dtype, SEARCHED)
    if learned is None:
        return 0
    begins = np.linspace(0, max(0, len(ids) - MATCH), 200).astype(int)
    places = [ids[begin : begin + MATCH] for begin in begins]
    # Rows of dashes, and of unknown characters, are the same everywhere.
    places = [p.tobytes() for p in places if len(p) == MATCH and p.all() and len(set(p)) > 9]
    learned = learned[: held_out_begin(len(learned), run.held_out)].tobytes()
    return np.mean([place in learned for place in places]) if places else 0


def tell_learned(share, what):
    """Print what share of a text was learned, if it is large enough to matter."""
    if share > COPIED:
        share = f'{share:.0%} of {what} stand in what was trained on'
        print(f'Learned: {share}, so the loss is too low')


def measure_lines(model, text_file):
    """Yield the figures of each line of such a text: a dict. An empty line has no loss."""
    session, sampler, ix2vocab, run, _ = model
    # Each line is read alone, after the end of another.
    before = next((ix2vocab.index(symbol) for symbol in '\n ' if symbol in ix2vocab), 0)
    number = 0
    with contextlib.ExitStack() as stack:
        if text_file:
            path = stack.enter_context(path_of(text_file))
        else:
            path, _ = trained.own_text(run, ix2vocab)
        lines = read_lines(path)
        for block in iter(lambda: list(itertools.islice(lines, BLOCK)), []):
            # In a clean text, blanks at the ends stand for characters that were left out.
            texts = [script.clean(line).strip() for line in block] if run.clean_text else block
            ids = [np.append(before, encode(text, ix2vocab, run.clean_text)) for text in texts]
            if number == 0:  # the first lines tell
                text = np.concatenate([line for line in ids if len(line) > 1] or [[]])
                share = learned_share(text.astype(reading.id_type(ix2vocab)), run)
                tell_learned(share, f'the first {len(block):,} lines')
            for content, line, total in zip(block, ids, sum_losses(session, sampler, ids)):
                number += 1
                length = len(line) - 1
                row = {'text': text_file or path, 'line': number, 'characters': length}
                row['unknown'] = np.count_nonzero(line[1:] == 0)
                units = in_units(total / max(1, length))
                yield {**row, **(units if length else dict.fromkeys(units, '')), 'content': content}


def read_lines(path):
    """Yield the lines of a UTF-8 text, in the form NFC, without their ends."""
    rest = ''
    for piece in reading.file_pieces(path):
        *lines, rest = (rest + piece).split('\n')
        yield from lines
    if rest:
        yield rest


def sum_losses(session, sampler, texts):
    """Return the sum of the losses of each text, float [texts], in nats.

    Args:
      texts: list of integers [1 + characters]: the id from which the first one is predicted, which
        does not count itself, and those of the text.
    """
    sums = np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda k: -len(texts[k]))  # texts of about one length
    batches = [order[first : first + STREAMS] for first in range(0, len(order), STREAMS)]
    # A batch on each core: the layers of a model side by side do not keep many busy.
    with futures.ThreadPoolExecutor(machine.available_cores()) as pool:
        longest_first = [[texts[k] for k in batch] for batch in batches]
        found = pool.map(functools.partial(sum_batch, session, sampler), longest_first)
        for batch, totals in zip(report.measuring(batches), found):
            sums[batch] = totals
    return sums


def sum_batch(session, sampler, texts):
    """Return what `sum_losses` does for a few texts, the longest first, read side by side."""
    lengths = np.array([len(text) - 1 for text in texts])
    sums, state = np.zeros(len(texts)), sampler.zero_state(len(texts))
    for begin in range(0, lengths[0], PIECE):
        num = min(PIECE, lengths[0] - begin)
        streams = np.count_nonzero(lengths > begin)  # the others have ended
        ids = np.zeros([streams, num + 1], np.int32)
        for row, text in zip(ids, texts):
            piece = text[begin : begin + num + 1]
            row[: len(piece)] = piece
        feed = {
            sampler.x_data: ids[:, :-1],
            sampler.y_output: ids[:, 1:],
            sampler.initial_state: state[:, :, :streams],
        }
        losses, state = session.run([sampler.losses, sampler.final_state], feed)
        is_text = begin + np.arange(num) < lengths[:streams, None]  # and no filling
        sums[:streams] += (losses * is_text).sum(axis=1, dtype=np.float64)
    return sums


def cell(value, file):
    """Return a value as a table in a file has it; ' goes before what would be a formula."""
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(('=', '+', '-', '@', '\t', '\r'))
    return shown(f"'{value}" if is_formula else value, file)


def print_text(row):
    """Print what `measure_text` has found."""
    where = f'{row["part"]} of {row["text"]}'
    print(f'Characters: {row["characters"]:,}, {where}; {row["unknown"]:,} unknown in it')
    tell_learned(row['learned'], 'it')
    print(f'Loss: {describe_loss(row["nats"])}')
    print(f'Accuracy: {row["accuracy"]:.2%} of the characters were the likeliest one')


def main(arguments):
    """Print the figures of each text, or of each of its lines."""
    settings = read_settings(globals(), arguments)
    output, table = sys.stdout, None
    # A table, or a list of lines, has standard output for itself; messages go to standard error.
    messages = sys.stderr if settings.lines or settings.csv else output
    with contextlib.redirect_stdout(messages), trained.opened(settings) as model:
        _, sampler, _, _, path = model
        print(f'Model: {path}')
        likeliest = tf.argmax(sampler.logits, axis=2, output_type=tf.int32)
        hits = tf.equal(likeliest, sampler.y_output)
        for text_file in settings.text_files or [settings.text_file]:
            if settings.lines:
                rows = measure_lines(model, text_file)
            else:
                rows = [measure_text(model, hits, text_file, settings.streams)]
            for row in rows:
                if settings.csv:
                    if not table:
                        table = DictWriter(output, row, lineterminator='\n')
                        table.writeheader()
                    table.writerow({name: cell(value, output) for name, value in row.items()})
                elif not settings.lines:
                    print_text(row)
                elif row['characters'] and row['content'].strip():  # no blank line
                    print(f'{row["nats"]:.4f}', shown(row['content'], output), file=output)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
