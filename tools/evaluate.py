"""Measure how well a trained model predicts a text, or the part held out of its own.

    python -m tools.evaluate
    python -m tools.evaluate --text_file=other.txt

It prints the loss, and how often the likeliest character was the right one.
"""

import contextlib
import os
import sys
import tempfile
import zlib

from backstage import reading, running, tf
from backstage.pipes import text_at_hand
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import (
    describe_loss,
    encode_text,
    held_out_begin,
    id_type,
    measure,
)
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = 'temp'  # folder of the run
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
text_file = ''  # a UTF-8 text, to be measured whole; empty: the part held out of the run's own
streams = 0  # pieces of the text that are read side by side, at most; 0: as many as are fast
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one

BLOCK = 40  # characters: so many in a row, the same in two texts, are no chance
SEARCHED = 2e9  # bytes of ids, at most, in which a text is looked for
COPIED = 0.05  # share of a text that was learned, above which that is told; others have 0


def read_ids(run, ix2vocab):
    """Return the ids of the text of a run, how often each occurs, their CRC-32, and its path.

    Raises:
      UserError: it cannot be read, or there is too little of it.
    """
    with contextlib.ExitStack() as stack:  # what is opened last is closed first
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = stack.enter_context(text_at_hand(run, folder))
        file = stack.enter_context(tempfile.TemporaryFile())
        seen = reading.Counter()
        counts, crc = encode_text(path, run.clean_text, ix2vocab, file, seen)
        reading.tell_losses(seen)
        if counts.sum() < 2:  # nothing comes before the first one to predict it from
            raise UserError(
                f'{path} has no text to be measured: it takes two characters. Take another'
            )
        file.flush()
        return np.memmap(file, id_type(ix2vocab), 'r'), counts, crc, run.text_file or path


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


def learned_share(ids, run, vocab_size):
    """Return what share of a text, integers [characters], stands word for word in what was learned.

    Of some 200 places in it, of 80 characters each, those count of which 40 or more are found in
    the training part of `text.ids`. It is 0 where that is not there any more, or is of another
    text, or too large to be searched in some seconds.
    """
    try:
        learned = np.memmap(os.path.join(run.temp_dir, 'text.ids'), id_type(range(vocab_size)), 'r')
    except (OSError, ValueError):
        return 0
    if learned.nbytes > SEARCHED or len(ids) < 2 * BLOCK:
        return 0
    begins = np.linspace(0, len(ids) - 2 * BLOCK, 200).astype(int)
    places = [ids[begin : begin + 2 * BLOCK].astype(learned.dtype) for begin in begins]
    # Rows of dashes, and of what is unknown, are the same everywhere.
    places = [place for place in places if place.all() and len(set(place)) > 9]
    parts = [{place[i : i + BLOCK].tobytes() for i in range(BLOCK + 1)} for place in places]
    wanted, found, crc = set().union(*parts), set(), 0
    split, size = held_out_begin(len(learned), run.held_out), BLOCK * learned.itemsize
    for begin in range(0, len(learned), BLOCK << 15):
        piece = learned[begin : begin + (BLOCK << 15)]
        crc = zlib.crc32(piece, crc)
        data = piece[: max(0, split - begin)].tobytes()
        found.update(wanted.intersection(data[i : i + size] for i in range(0, len(data), size)))
    if crc != run.text_crc or not parts:
        return 0
    return np.mean([not part.isdisjoint(found) for part in parts])


def main(arguments):
    """Print the loss, and how often the likeliest character was the right one."""
    settings = read_settings(globals(), arguments)
    with trained.opened(settings) as (session, sampler, ix2vocab, run, path):
        run.text_file = settings.text_file or run.text_file
        ids, counts, crc, text_path = read_ids(run, ix2vocab)
        copied = learned_share(ids, run, len(ix2vocab)) if crc != run.text_crc else 0
        part, start = 'all', 1  # nothing comes before the first character to predict it from
        if crc == run.text_crc:
            part, start = 'the held-out part', held_out_begin(len(ids), run.held_out)
        elif not settings.text_file:
            raise UserError(
                f'{text_path} is not the text that the model in {path} has learned. Bring that '
                f'back, or measure the whole of this one, with --text_file={text_path}'
            )
        shape = streams_and_warm_up(len(ids), start, settings.streams, run)
        likeliest = tf.argmax(sampler.logits, axis=2, output_type=tf.int32)
        what = [sampler.losses, tf.equal(likeliest, sampler.y_output)]
        loss, accuracy = measure(session, sampler, what, ids, start, *shape)
    print(f'Model: {path}')
    print(f'Characters: {len(ids) - start:,}, {part} of {text_path}; {counts[0]:,} unknown in it')
    if copied > COPIED:
        print(f'Learned: {copied:.0%} of it stand in what was trained on, so the loss is too low')
    print(f'Loss: {describe_loss(loss)}')
    print(f'Accuracy: {accuracy:.2%} of the characters were the likeliest one')


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
