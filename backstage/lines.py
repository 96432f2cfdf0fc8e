"""The lines of a text, each by itself: reading them, and what a model makes of them."""

from backstage import reading
from backstage.bars import measured

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
    `before`. Texts of about the same length are read side by side.

    Args:
      texts: list of integers [characters], of any length.
      before: int, such as the id of a line end.
    """
    sums = np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda k: -len(texts[k]))
    for first in measured(range(0, len(texts), STREAMS)):
        batch = order[first : first + STREAMS]
        lengths = np.array([len(texts[k]) for k in batch])
        state = sampler.zero_state(len(batch))
        for begin in range(0, lengths[0], PIECE):
            streams = np.count_nonzero(lengths > begin)  # the longest come first
            num = min(PIECE, lengths[0] - begin)
            y = np.zeros([streams, 1 + num], np.int32)
            for row, k in zip(y, batch):
                piece = texts[k][max(0, begin - 1) : begin + num]
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
            sums[batch[:streams]] += (losses * counts).sum(axis=1, dtype=np.float64)
    return sums


def without_ends(is_blank):
    """Return the slice between the blanks at both ends."""
    places = np.flatnonzero(~is_blank)
    return slice(places[0], places[-1] + 1) if len(places) else slice(0)
