"""Reading a text: a file in pieces, what of it was left out, and whether it will do."""

import math
from collections import Counter

from backstage import encodings, gutenberg, report
from backstage.letters import composed, end_of_whole
from backstage.settings import UserError

import numpy as np


def file_pieces(path, size=1 << 20):
    """Yield a UTF-8 file in pieces of about `size` characters, so that any size fits in memory.

    They are in the form NFC, as the whole would be.

    Raises:
      UserError: the file cannot be read, or it is not UTF-8 text.
    """
    try:
        with open(path, 'rb') as file:
            problem = encodings.kind(file.read(512), path)
        if problem:
            raise UserError(f'{path} {problem}')
        with open(path, encoding='utf-8-sig') as file:
            more, rest = True, ''
            while more:
                # To the end of a line; but a text may be one endless line: then it is cut anywhere.
                more = file.read(size) + file.readline(10_000)
                if '\0' in more:
                    raise UserError(f'{path} {encodings.fault(path)}')
                piece = rest + more
                end = end_of_whole(piece) if more else len(piece)
                piece, rest = composed(piece[:end]), piece[end:]
                if piece:
                    yield piece
    except UnicodeDecodeError:
        raise UserError(f'{path} {encodings.fault(path)}')
    except OSError as error:
        raise UserError(f'{path} {encodings.unreadable(path, error)}')


def read_pieces(path, seen=None):
    """Yield the text of a file, without what Project Gutenberg added: `seen['cut']` characters."""
    seen = Counter() if seen is None else seen
    return gutenberg.cut_off(report.reading(path, file_pieces(path)), seen)


def visible(text):
    """Return how many characters of a text, str, are no white space."""
    data = np.frombuffer(text.encode(), np.uint8)
    return np.count_nonzero(data > ord(' ')) - np.count_nonzero(data & 0xC0 == 0x80)  # not first


def count_losses(piece, cleaned, seen):
    """Add to `seen` how many visible characters a piece has, and how many when it is cleaned."""
    if seen is not None and cleaned is not piece:
        seen['visible'] += visible(piece)
        seen['kept'] += visible(cleaned)
    elif seen is not None and not seen['visible']:  # that there are any is enough to know
        seen['visible'] = seen['kept'] = visible(piece)


def left_out(seen):
    """Return the share of the visible characters that cleaning left out; 0 where it was small.

    Prose loses some 5 % to it, single scenes of plays up to 7.6 %, source code 9 to 20 %.
    """
    share = 1 - seen['kept'] / max(1, seen['visible'])
    return share if seen['visible'] and share > 0.08 else 0


def tell_losses(seen, advice=''):
    """Say how much of a text was not read, as `read_pieces` and `count_losses` have counted it."""
    if seen['cut']:
        print(f'Cut off: {seen["cut"]:,} characters that Project Gutenberg wrote around the text')
    if left_out(seen):
        print(
            f'Left out: {left_out(seen):.0%} of the characters, as a clean text has letters of '
            f"a-z, digits, - and ' only{advice}"
        )


def check_text(path, counts, split, settings, seen):
    """Say how much of a text was not read.

    Args:
      counts: integers [vocab_size], how often each symbol occurs in it.
      seen: Counter, as reading has filled it.

    Raises:
      UserError: nothing can be learned from the text, or there is too little of it.
    """
    tell_losses(seen, '. To learn all of them: --clean_text=False')
    more = f', or --clean_text=False: {left_out(seen):.0%} of its characters were left out'
    more = more if left_out(seen) else ''
    if not counts.any() or not seen['visible']:
        raise UserError(
            f'{path} has no text, and nothing can be learned from it. Take another text{more}'
        )
    one_batch = (settings.batch_size + 1) * settings.training_seq_len
    if split < one_batch:
        needed = math.floor(one_batch / (1 - settings.held_out)) + 1
        smaller = ', or a smaller batch_size or training_seq_len' if split > 1 else ''
        raise UserError(
            f'{path} has {counts.sum():,} characters, and for one batch of {settings.batch_size} x '
            f'{settings.training_seq_len} {needed:,} are needed. Take a longer text{smaller}{more}'
        )
    if counts[0] == counts.sum():
        raise UserError(
            f'no character of {path} occurs {settings.min_word_freq} times. Lower min_word_freq'
        )
    if np.count_nonzero(counts) < 2:
        raise UserError(
            f'{path} has the same symbol throughout, and nothing can be learned from it. Take '
            f'another text{more}'
        )


def id_type(ix2vocab):
    """Return the smallest NumPy type that holds every id: uint8 for up to 256 symbols."""
    return np.min_scalar_type(len(ix2vocab) - 1)


def find_unseen(file, split, counts):
    """Return which ids do not occur before position `split`, a list of int.

    Args:
      file: binary file, into which the ids of a whole text were written, as integers of `id_type`.
      counts: integers [vocab_size], how often each id occurs in it.

    Raises:
      UserError: 'unknown' alone occurs before it.
    """
    file.flush()
    ids, left = np.memmap(file.name, id_type(counts), 'r'), counts.copy()
    for begin in range(split, len(ids), 1 << 20):  # bincount needs eight times as much memory
        left -= np.bincount(ids[begin : begin + (1 << 20)], minlength=len(left))
    if not left[1:].any():
        raise UserError('all characters of the part to learn are rare ones. Lower min_word_freq')
    return np.flatnonzero(left == 0).tolist()


def tell_rare(count):
    """Say how many characters of a text are too rare to have a symbol, if any are."""
    if count:
        print(f"{count:,} of all characters are rare and read as 'unknown'")


def check_prime(text, ids, ix2vocab, unseen, file=None):
    """Warn, in standard output or a file, of characters in a prime text that a model does not know.

    Those are read as 'unknown', or, where the model has learned a clean text, were left out.

    Args:
      ids: integers [1, characters], as which the text is read.
      unseen: list of int, the ids that the model has never read.

    Raises:
      UserError: nothing is left of the text.
    """
    if not ids.size:
        raise UserError(f'the text {text!r} has no character to begin with. Give another')
    never = ''.join(ix2vocab[ix] for ix in unseen if ix and ix in ids)
    if never:
        print(f'The text {text!r} has {never!r}, which the model has never read', file=file)
    if not ids.all():
        unknown = ''.join(sorted(set(composed(text)) - set(ix2vocab)))
        print(f"The text {text!r} has {unknown!r}, read as 'unknown': too rare", file=file)
        return
    read = ''.join(ix2vocab[ix] for ix in ids[0])
    if sum(map(str.isalnum, read)) < sum(map(str.isalnum, composed(text))):
        print(f'The text {text!r} is read as {read!r}: the model has no other letters', file=file)
