"""Measure how well a trained model predicts a text: its own, another, several, or line by line.

    python -m tools.evaluate
    python -m tools.evaluate --text_file=other.txt --lines

It prints the loss and the accuracy: how often the most likely character was the right one. With
`--lines`, it prints each line that is not blank after its loss in nats per character; `| sort -n`
ranks the lines.
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
checkpoint = ''  # the model to use, such as temp/model-9070; empty: the best so far
text_file = ''  # a UTF-8 text to measure as a whole; empty: the held-out part of the run's own text
text_files = []  # several texts to measure in turn, instead of text_file
lines = False  # print a loss for each line, read alone, instead of one for the whole text
csv = False  # print only a CSV table
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU if TensorFlow finds one

RANGES = {'checkpoint': 'path', 'text_files': 'paths', 'lines': bool, 'csv': bool}

BLOCK = 10_000  # lines to read before printing the first
STREAMS = 400  # lines to read in parallel; more are hardly faster
PIECE = 100  # characters of each line to read at a time

MATCH = 40  # characters; two texts share that many in a row only by copying
SEARCHED = 5e7  # largest training text to search for copies, in bytes
COPIED = 0.05  # a larger share of copied text is reported; texts without copies have 0


def measure_text(model, hits, text_file):
    """Return the figures of a text, or of the held-out part of the run's own text: a dict.

    Args:
      model: tuple, as `trained.opened` yields it.
      hits: bool [batch, time], whether the most likely character was the right one.
      text_file: str, the path of the text; empty: the run's own.

    Raises:
      UserError: the text cannot be read, is too short or no longer exists.
    """
    session, sampler, ix2vocab, run, _ = model
    if text_file:
        name, seen = text_file, reading.Counter()
        with path_of(text_file) as path:
            ids, crc = trained.encode_file(path, run, ix2vocab, seen)
        reading.print_left_out(seen)
        if len(ids) < 2:  # the first character has nothing to predict it
            raise UserError(
                f'{name} must have at least two characters to measure. Use a different text'
            )
    else:
        (ids, name), crc = trained.own_ids(run, ix2vocab), run.text_crc
    if crc == run.text_crc:
        part, start, learned = 'the held-out part', held_out_begin(len(ids), run.held_out), 0
    else:  # the first character has nothing to predict it
        part, start, learned = 'all', 1, learned_share(ids, run)
    shape = streams_and_warm_up(len(ids), start, run)
    loss, accuracy = measure(session, sampler, [sampler.losses, hits], ids, start, *shape)
    return {
        'text': name, 'part': part, 'characters': len(ids) - start,
        'unknown': len(ids) - start - np.count_nonzero(ids[start:]),
        **in_units(loss), 'accuracy': accuracy, 'learned': learned,
    }  # fmt: skip


@contextlib.contextmanager
def path_of(text_file):
    """Yield the path of a text that the user names. A text from a pipe is copied first."""
    named = argparse.Namespace(text_file=text_file)
    with tempfile.TemporaryDirectory() as folder, text_path(named, folder) as path:
        yield path


def streams_and_warm_up(num_ids, start, run):
    """Return how many streams to measure in, and how many characters each reads at a time.

    Each stream first reads that many characters before its own as a warm-up, so that it does not
    start from a zero state. They do not count. 100 characters are enough: with the default model
    after 1,500 iterations, all later losses then differ by 0.00004 in total. There are as many
    streams as fit in the memory that training needs.
    """
    warm_up = max(200, run.training_seq_len)
    if 1 < start <= warm_up:  # a single stream can read everything before `start`
        return 1, start - 1
    most = max(1, run.batch_size * run.training_seq_len // warm_up)
    return max(1, min(most, (num_ids - start) // warm_up)), warm_up


def in_units(nats):
    """Return a loss per character in nats, in bits and as perplexity: a dict."""
    return {'nats': nats, 'bits': nats / math.log(2), 'perplexity': report.perplexity(nats)}


def learned_share(ids, run):
    """Return the share of a text, ids [characters], that is copied from the run's training text.

    It checks 200 places. The share is 0 if the run's text.ids is missing, belongs to another text,
    or is too large to search in seconds. `ids` must have the same type.
    """
    learned = trained.read_ids(run, ids.dtype, SEARCHED)
    if learned is None:
        return 0
    begins = np.linspace(0, max(0, len(ids) - MATCH), 200).astype(int)
    places = [ids[begin : begin + MATCH] for begin in begins]
    # Rows of dashes or of unknown characters match by chance.
    places = [p.tobytes() for p in places if len(p) == MATCH and p.all() and len(set(p)) > 9]
    learned = learned[: held_out_begin(len(learned), run.held_out)].tobytes()
    return np.mean([place in learned for place in places]) if places else 0


def tell_learned(share, what):
    """Print the share of a text that is copied from the training text, if it is large."""
    if share > COPIED:
        print(f'Learned: {share:.0%} of {what} was in the training text, so the loss is too low')


def measure_lines(model, text_file):
    """Yield the figures of each line of a text: a dict. An empty line has no loss."""
    session, sampler, ix2vocab, run, _ = model
    # Each line is read alone, after a line end (or a space, or 'unknown').
    before = next((ix2vocab.index(symbol) for symbol in '\n ' if symbol in ix2vocab), 0)
    number = 0
    with contextlib.ExitStack() as stack:
        if text_file:
            path = stack.enter_context(path_of(text_file))
        else:
            path, _ = trained.own_text(run, ix2vocab)
        lines = read_lines(path)
        for block in iter(lambda: list(itertools.islice(lines, BLOCK)), []):
            # In a clean text, spaces at the ends stand for removed characters.
            texts = [script.clean(line).strip() for line in block] if run.clean_text else block
            ids = [np.append(before, encode(text, ix2vocab, run.clean_text)) for text in texts]
            if number == 0:  # checking the first block is enough
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
    """Yield the lines of a UTF-8 text, in Unicode NFC, without line ends."""
    rest = ''
    for piece in reading.file_pieces(path):
        *lines, rest = (rest + piece).split('\n')
        yield from lines
    if rest:
        yield rest


def sum_losses(session, sampler, texts):
    """Return the sum of the losses of each text, float [texts], in nats.

    Args:
      texts: list of integers [1 + characters]. The first id only predicts the next one; the others
        are the text.
    """
    sums = np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda k: -len(texts[k]))  # batches of similar lengths
    batches = [order[first : first + STREAMS] for first in range(0, len(order), STREAMS)]
    # One batch per core: the layers of a single batch keep only a few cores busy.
    with futures.ThreadPoolExecutor(machine.available_cores()) as pool:
        longest_first = [[texts[k] for k in batch] for batch in batches]
        found = pool.map(functools.partial(sum_batch, session, sampler), longest_first)
        for batch, totals in zip(report.measuring(batches), found):
            sums[batch] = totals
    return sums


def sum_batch(session, sampler, texts):
    """Do the same for a few texts, read in parallel; the longest must come first."""
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
        is_text = begin + np.arange(num) < lengths[:streams, None]  # the rest is padding
        sums[:streams] += (losses * is_text).sum(axis=1, dtype=np.float64)
    return sums


def print_text(row):
    """Print the figures that `measure_text` returns."""
    where = f'{row["part"]} of {row["text"]}'
    print(f'Characters: {row["characters"]:,}, {where}; {row["unknown"]:,} of them unknown')
    tell_learned(row['learned'], 'it')
    print(f'Loss: {describe_loss(row["nats"])}')
    print(f'Accuracy: {row["accuracy"]:.2%} of the characters were the most likely one')


def main(arguments):
    """Print the figures of each text, or of each of its lines."""
    settings = read_settings(globals(), arguments)
    output, table = sys.stdout, None
    # With a table or a list of lines on standard output, messages go to standard error.
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
                rows = [measure_text(model, hits, text_file)]
            for row in rows:
                if settings.csv:
                    if not table:
                        table = DictWriter(output, row, lineterminator='\n')
                        table.writeheader()
                    texts = {n: shown(v, output) for n, v in row.items() if isinstance(v, str)}
                    table.writerow({**row, **texts})
                elif not settings.lines:
                    print_text(row)
                elif row['characters'] and row['content'].strip():  # not a blank line
                    print(f'{row["nats"]:.4f}', shown(row['content'], output), file=output)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
