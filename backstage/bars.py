"""Bars that show, in a terminal, how far something is."""

import os

from backstage import workers

from tqdm import tqdm

DELAY = 2  # seconds


def progress_bar(done, num_iterations, settings):
    """Return a tqdm bar of the characters read in so many iterations, where there is a terminal."""
    characters = settings.batch_size * settings.training_seq_len
    return tqdm(
        initial=done * characters,
        total=num_iterations * characters,
        unit='char',
        unit_scale=True,
        dynamic_ncols=True,
        disable=None if workers.is_first() else True,  # None: quiet but for a terminal
    )


def measured(steps):
    """Return steps of a measurement, a range, to be gone through, with a bar as `shown` has it."""
    is_quiet = None if workers.is_first() else True
    return tqdm(steps, desc='Measuring', delay=DELAY, leave=False, disable=is_quiet)


def shown(path, pieces):
    """Yield the pieces of a file; in a terminal, where that takes some seconds, there is a bar."""
    size = os.path.getsize(path) if os.path.exists(path) else None
    how = {'unit': 'B', 'unit_scale': True, 'delay': DELAY, 'leave': False, 'disable': None}
    with tqdm(desc=f'Reading {path}', total=size, **how) as bar:
        for piece in pieces:
            yield piece
            bar.update(0 if bar.disable else len(piece.encode()))
