"""How much of a text stands in what a run has learned."""

import os
import zlib

import numpy as np

BLOCK = 40  # characters: so many in a row, the same in two texts, are no chance
SEARCHED = 2e9  # bytes of ids, at most, in which a text is looked for
COPIED = 0.05  # share of a text that was learned, above which that is told; others have 0


def tell(share, whole='it'):
    """Print what share of a text was learned, if so much was that it matters."""
    if share > COPIED:
        copied = f'{share:.0%} of {whole} stand in what was trained on'
        print(f'Learned: {copied}, so the loss is too low')


def learned_share(ids, run, held_out_begin):
    """Return what share of a text, integers [characters], stands word for word in what was learned.

    Of some 200 places in it, of 80 characters each, those count of which 40 or more are found in
    the training part of `text.ids`. It is 0 where that is not there any more, or is of another
    text, or too large to be searched in some seconds.

    Args:
      ids: of the type that those of the run have.
      run: Namespace, the settings of the run, with `text_crc`.
      held_out_begin: the function of the script.
    """
    try:
        learned = np.memmap(os.path.join(run.temp_dir, 'text.ids'), ids.dtype, 'r')
    except (OSError, ValueError):
        return 0
    if learned.nbytes > SEARCHED or len(ids) < 2 * BLOCK:
        return 0
    begins = np.linspace(0, len(ids) - 2 * BLOCK, 200).astype(int)
    places = [ids[begin : begin + 2 * BLOCK] for begin in begins]
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
