"""The losses of a run, in `history.csv` of its folder: a line for each iteration.

It only grows at its end, so that a save costs the same however long the run is.
"""

import array
import math
import os

from backstage import files
from backstage.settings import UserError

NAME = 'history.csv'
HEAD = 'iteration,loss,held_out_loss\n'  # nats; the last one is empty where it was not measured


def read(folder, num_iterations=None):
    """Return the losses of a run, array of float, and its held-out losses, list of (int, float).

    Args:
      num_iterations: int, to read so many; None: all that are there.

    A loss that is missing or damaged is not a number.

    Raises:
      UserError: the file is not there, or it cannot be read.
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = file.read().splitlines()
    except OSError as error:
        reason = '' if isinstance(error, FileNotFoundError) else f' ({error.strerror})'
        raise UserError(f'there is no history of a run in {folder}{reason}. Give another folder')
    found, held_out = {}, {}
    for line in lines:
        try:
            iteration, loss, held_out_loss = line.split(',')
            # A number that is out of place would make a list without end.
            if 0 < int(iteration) <= (num_iterations or len(lines)):
                found[int(iteration)] = float(loss)
                if held_out_loss:
                    held_out[int(iteration)] = float(held_out_loss)
        except ValueError:
            continue
    count = num_iterations or max(found, default=0)
    unknown = float('nan')
    losses = array.array('d', (found.get(i, unknown) for i in range(1, count + 1)))
    return losses, sorted(held_out.items())


def has_stalled(held_out_losses, patience, save_every):
    """Return whether the last `patience` held-out losses brought no better one; never if it is 0.

    Those count that came with a save of every `save_every` iterations, not that of an earlier end.
    """
    losses = [loss for iteration, loss in held_out_losses if iteration % save_every == 0]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


class Writer:
    """Writes the losses of a run; the lists given are those that grow, and are not copied.

    Args:
      folder: str.
      losses: array or list of float, of each iteration so far.
      held_out_losses: list of (iteration, nats), in the order of iterations.
    """

    def __init__(self, folder, losses, held_out_losses):
        self.path = os.path.join(folder, NAME)
        self.losses, self.held_out_losses = losses, held_out_losses
        self.last_line = math.inf  # where it begins; nothing is there yet
        self.append()

    def append(self):
        """Add what is new to the file. The last line comes again, if it was measured since.

        Raises:
          OSError: it could not be written. It is tried again at the next call.
        """
        # It is written whole, and replaces the earlier file, at the beginning of a run, and where
        # somebody has removed it, or a part of it.
        is_new = not os.path.exists(self.path) or os.path.getsize(self.path) < self.last_line
        if is_new:
            self.done, self.measured = 0, 0  # how many of each are in the file
            self.last_line = len(HEAD)
        held_out = dict(self.held_out_losses[self.measured :])
        first = max(1, self.done)
        lines = [
            f'{i},{self.losses[i - 1]!r},{held_out.get(i, "")}\n'.encode()
            for i in range(first, len(self.losses) + 1)
        ]
        if self.done and self.done not in held_out:
            lines[0] = self.text_of_last
        if is_new:
            files.write(self.path, HEAD.encode() + b''.join(lines))
        else:
            with open(self.path, 'r+b') as file:
                file.seek(self.last_line)
                file.write(b''.join(lines))
                file.truncate()  # what a disk that was full left behind
                file.flush()
                os.fsync(file.fileno())
        if lines:
            self.done, self.measured = len(self.losses), len(self.held_out_losses)
            self.text_of_last = lines[-1]
            self.last_line += len(b''.join(lines[:-1]))
