"""Measure how well a trained model predicts a text, several, each line of one, or its own.

    python -m tools.evaluate
    python -m tools.evaluate --text_file=other.txt --lines

It prints the loss, and how often the likeliest character was the right one. By lines it prints the
loss of each, in nats per character, and the line: `| sort -n` ranks them. Blank lines are left out.
"""

import contextlib
import itertools
import math
import os
import sys
import tempfile
from csv import DictWriter

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import lines as lines_of
from backstage import overlap, reading, running, tf
from backstage.report import describe_loss, perplexity, shown
from backstage.settings import UserError, read_settings
from backstage.sources import text_path
from stacked_lstm_shakespeare import (
    encode,
    encode_text,
    held_out_begin,
    measure,
)
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
text_file = ''  # a UTF-8 text, to be measured whole; empty: the part held out of the run's own
text_files = []  # several, one after the other, instead
lines = False  # a figure for each line, alone, instead of one for the whole
csv = False  # print only a table in CSV; ' before a text that a spreadsheet takes for a formula
streams = 0  # pieces of the text that are read side by side, at most; 0: as many as are fast
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one

RANGES = {
    'checkpoint': 'path', 'text_files': 'paths', 'lines': bool, 'csv': bool,
    'streams': (0, 1_000_000),
}  # fmt: skip

LINES = 10_000  # so many are read before the first of them is printed


def read_ids(run, ix2vocab):
    """Return the ids of the text of a run, how often each occurs, their CRC-32, and its path.

    Raises:
      UserError: it cannot be read, or there is too little of it.
    """
    with contextlib.ExitStack() as stack:  # what is opened last is closed first
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = stack.enter_context(text_path(run, folder))
        file = stack.enter_context(tempfile.TemporaryFile())
        seen = reading.Counter()
        counts, crc = encode_text(path, run.clean_text, ix2vocab, file, seen)
        reading.tell_losses(seen)
        if counts.sum() < 2:  # nothing comes before the first one to predict it from
            raise UserError(
                f'{path} has no text to be measured: it takes two characters. Take another'
            )
        file.flush()
        return np.memmap(file, reading.id_type(ix2vocab), 'r'), counts, crc, run.text_file or path


def streams_and_warm_up(num_ids, start, most, run):
    """Return in how many streams to measure, and how many characters each reads at a time.

    As many does it read before its own first, without counting them, so as not to start from an
    empty memory. After 100 characters a model of the default size, trained for 1,500 iterations,
    has forgotten what was before them: all losses that follow differ by 0.00004 nats in sum.
    """
    warm_up = max(200, run.training_seq_len)
    if 1 < start <= warm_up:  # then all that is before is read, by a single stream
        return 1, start - 1
    most = most or max(1, run.batch_size * run.training_seq_len // warm_up)  # memory as in training
    return max(1, min(most, (num_ids - start) // warm_up)), warm_up


def measure_text(session, sampler, hits, ix2vocab, run, path, is_own, most):
    """Return the figures of the text of a run, or of its held-out part: a dict.

    Args:
      hits: bool [batch, time], whether the likeliest character was the right one.
      path: str, the checkpoint.
      is_own: bool, whether it has to be the text that was learned.
      most: int, streams at most; 0: as many as are fast.
    """
    ids, counts, crc, text_path = read_ids(run, ix2vocab)
    copied = overlap.learned_share(ids, run, held_out_begin) if crc != run.text_crc else 0
    part, start = 'all', 1  # nothing comes before the first character to predict it from
    if crc == run.text_crc:
        part, start = 'the held-out part', held_out_begin(len(ids), run.held_out)
    elif is_own:
        raise UserError(
            f'{text_path} is not the text that the model in {path} has learned. Bring that '
            f'back, or measure the whole of this one, with --text_file={text_path}'
        )
    shape = streams_and_warm_up(len(ids), start, most, run)
    loss, accuracy = measure(session, sampler, [sampler.losses, hits], ids, start, *shape)
    return {
        'text': text_path, 'part': part, 'characters': len(ids) - start, 'unknown': counts[0],
        **in_units(loss), 'accuracy': accuracy, 'learned': copied,
    }  # fmt: skip


def in_units(nats):
    """Return a loss, which is for each character, in nats, bits, and as perplexity: a dict."""
    return {'nats': nats, 'bits': nats / math.log(2), 'perplexity': perplexity(nats)}


def print_text(row):
    """Print what `measure_text` has found."""
    print(
        f'Characters: {row["characters"]:,}, {row["part"]} of {row["text"]}; '
        f'{row["unknown"]:,} unknown in it'
    )
    overlap.tell(row['learned'])
    print(f'Loss: {describe_loss(row["nats"])}')
    print(f'Accuracy: {row["accuracy"]:.2%} of the characters were the likeliest one')


def measure_lines(session, sampler, ix2vocab, run):
    """Yield the figures of each line of the text of a run: a dict. An empty line has none."""
    before = next((ix2vocab.index(symbol) for symbol in '\n ' if symbol in ix2vocab), 0)
    with tempfile.TemporaryDirectory() as folder, text_path(run, folder) as path:
        numbered = enumerate(lines_of.read(path), 1)
        for some in iter(lambda: list(itertools.islice(numbered, LINES)), []):
            texts = [encode(line, ix2vocab, run.clean_text)[0] for _, line in some]
            if run.clean_text:  # blanks at its ends stand for what is not there
                blank = ix2vocab.index(' ')
                texts = [text[lines_of.without_ends(text == blank)] for text in texts]
            if some[0][0] == 1:  # to look once is enough
                ids = np.concatenate(
                    [np.append(before, text) for text in texts if len(text)] or [[]]
                )
                share = overlap.learned_share(
                    ids.astype(reading.id_type(ix2vocab)), run, held_out_begin
                )
                overlap.tell(share, f'the first {len(texts):,} lines')
            for (number, line), text, total in zip(
                some, texts, lines_of.sum_losses(session, sampler, texts, before)
            ):
                row = {'text': run.text_file or path, 'line': number, 'characters': len(text)}
                units = in_units(total / max(1, len(text)))
                units = units if len(text) else dict.fromkeys(units, '')
                yield {**row, 'unknown': np.count_nonzero(text == 0), **units, 'content': line}


def cell(value, file):
    """Return a value of a table as it is written to a file; ' before what would be a formula."""
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(('=', '+', '-', '@', '\t', '\r'))
    return shown(f"'{value}" if is_formula else value, file)


def print_table(rows, file):
    """Write dicts to a file as CSV, the names of their values first."""
    table = None
    for row in rows:
        if not table:
            table = DictWriter(file, row, lineterminator='\n')
            table.writeheader()
        table.writerow({name: cell(value, file) for name, value in row.items()})


def print_figures(rows, file):
    """Write dicts to a file for people: of a text some lines, of a line one, unless it is blank."""
    for row in rows:
        if 'line' not in row:
            print_text(row)
        elif row['characters'] and row['content'].strip():
            print(f'{row["nats"]:.4f}', shown(row['content'], file), file=file)


def main(arguments):
    """Print the figures of each text, or of each of its lines."""
    settings = read_settings(globals(), arguments)
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if settings.lines or settings.csv:  # figures alone; what else there is to say goes aside
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        session, sampler, ix2vocab, run, path = stack.enter_context(trained.opened(settings))
        likeliest = tf.argmax(sampler.logits, axis=2, output_type=tf.int32)
        hits = tf.equal(likeliest, sampler.y_output)
        texts = settings.text_files or [settings.text_file or run.text_file]
        is_own = not (settings.text_files or settings.text_file)

        def rows():
            for run.text_file in texts:
                if settings.lines:
                    yield from measure_lines(session, sampler, ix2vocab, run)
                else:
                    yield measure_text(
                        session, sampler, hits, ix2vocab, run, path, is_own, settings.streams
                    )

        print(f'Model: {path}')
        (print_table if settings.csv else print_figures)(rows(), file)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
