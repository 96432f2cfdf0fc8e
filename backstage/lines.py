"""The lines of a text, each by itself: reading them, and what a model makes of them."""

import functools
from concurrent import futures

from backstage import machine, reading
from backstage.report import measuring

import numpy as np

STREAMS = 400  # lines side by side: more are hardly faster
PIECE = 100  # characters that are read of each at a time


def read(path):
    """Yield the lines of a UTF-8 text, in the form NFC, without their ends."""
    rest = ''
    for piece in reading.file_pieces(path):
        *whole, rest = (rest + piece).split('\n')
        yield from whole
    if rest:
        yield rest


def sum_losses(session, sampler, texts, before):
    """Return the sum of the losses of each text, float [texts], in nats.

    Each is read alone, by an empty memory, and its first character is predicted from the one id
    `before`. Texts of about the same length are read side by side, and on each core some of them.

    Args:
      texts: list of integers [characters], of any length.
      before: int, such as the id of a line end.
    """
    sums = np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda k: -len(texts[k]))
    batches = [order[first : first + STREAMS] for first in range(0, len(order), STREAMS)]
    cores = machine.available_cores()
    with futures.ThreadPoolExecutor(cores) as pool:
        for first in measuring(range(0, len(batches), cores)):
            some = batches[first : first + cores]
            longest_first = [[texts[k] for k in batch] for batch in some]
            read = functools.partial(sum_side_by_side, session, sampler, before=before)
            found = pool.map(read, longest_first)
            for batch, of_batch in zip(some, found):
                sums[batch] = of_batch
    return sums


def sum_side_by_side(session, sampler, texts, before):
    """Do what `sum_losses` does for so many texts that they are read at once, the longest first."""
    lengths = np.array([len(text) for text in texts])
    sums, state = np.zeros(len(texts)), sampler.zero_state(len(texts))
    for begin in range(0, lengths[0], PIECE):
        streams = np.count_nonzero(lengths > begin)
        num = min(PIECE, lengths[0] - begin)
        y = np.zeros([streams, 1 + num], np.int32)
        for row, text in zip(y, texts):
            piece = text[max(0, begin - 1) : begin + num]
            row[1 - bool(begin) : 1 - bool(begin) + len(piece)] = piece
        if begin == 0:
            y[:, 0] = before
        feed = {
            sampler.x_data: y[:, :-1],
            sampler.y_output: y[:, 1:],
            sampler.initial_state: state[:, :, :streams],
        }
        losses, state = session.run([sampler.losses, sampler.final_state], feed)
        counts = begin + np.arange(num) < lengths[:streams, None]
        sums[:streams] += (losses * counts).sum(axis=1, dtype=np.float64)
    return sums


def without_ends(is_blank):
    """Return the slice between the blanks at both ends."""
    places = np.flatnonzero(~is_blank)
    return slice(places[0], places[-1] + 1) if len(places) else slice(0)
