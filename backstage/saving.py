"""Saving a run, so that nothing of it is lost: its checkpoints, its best model, its losses."""

import array
import contextlib
import glob
import math
import os

from backstage import files, folder, history, records, tf, warm_start, workers
from backstage.running import one_line
from backstage.settings import UserError

import numpy as np
from tqdm import tqdm


class Run:
    """A run. To be made while the graph is built, when all its variables are there.

    Attributes:
      run_folder: RunFolder.
      plot: str, the picture of its losses.
      last: int, its last iteration; `patience` may end it earlier.
      losses: array of float, nats, of each iteration so far; not a number where it was lost.
      held_out_losses: list of (iteration, nats).
      best: (iteration, nats) of the best model on the disk, with its held-out loss; None if there
        is none.
    """

    def __init__(self, settings, model, run_folder):
        self.settings, self.run_folder = settings, run_folder
        self.plot = os.path.join(settings.temp_dir, 'loss.png')
        self.losses, self.held_out_losses, self.best = array.array('d'), [], None
        self.model, self.iteration = model, model.iteration
        # The memory of all streams, of all workers, so that a checkpoint holds it.
        layers, two, _, rnn_size = model.initial_state.shape
        shape, zeros = [layers, two, settings.batch_size, rnn_size], tf.zeros_initializer()
        self.carried_state = tf.get_variable('carried_state', shape, None, zeros, trainable=False)
        # So that a model is known by its loss even where the history is lost.
        self.held_out_loss = tf.get_variable(
            'held_out_loss', [], tf.float64, tf.zeros_initializer(), trainable=False
        )
        self.saver = tf.train.Saver(max_to_keep=None)
        self.kept = {'': [], 'best': []}  # checkpoints, the one to go first at the beginning
        self.initialize = tf.global_variables_initializer()
        self.copy_of_first = workers.copy_of_first(tf.global_variables())

    def begin_or_continue(self, session, num_iterations, ix2vocab, record):
        """Initialize all variables, or restore the newest checkpoint that can be read.

        Args:
          record: dict, what is to be known of the run besides its settings.

        Returns:
          The state that the next batch begins with, as `initial_state` of the model.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        session.run(self.initialize)
        if workers.is_first() and not self.run_folder.is_new:
            self._restore(session)
        elif workers.is_first() and self.settings.init_from:
            warm_start.load(session, self.model, self.settings, ix2vocab)
        # Where its last checkpoint is damaged, even a finished run goes on, from the one before.
        self.run_folder.is_finished &= len(self.losses) == self.run_folder.done
        known = self.losses, self.held_out_losses, self.run_folder.is_finished
        self.losses, self.held_out_losses, is_finished = workers.broadcast(known)
        done = len(self.losses)
        self.last = done if is_finished else num_iterations
        if self.has_more():
            self._tell_begin(done)
            if workers.is_first():
                self.run_folder.begin()  # from here on nothing refuses it
                records.keep_record(self.settings, ix2vocab, record)
                self.history = history.Writer(
                    self.settings.temp_dir, self.losses, self.held_out_losses
                )
        workers.broadcast(None)  # by now an earlier run is out of the way, on a shared disk too
        workers.once_per_host(folder.take_text, self.settings.temp_dir)
        if workers.is_first():
            self.run_folder.clear()
        session.run(self.copy_of_first)
        state = session.run(self.carried_state)
        return state[:, :, workers.rows(self.settings.batch_size)]

    def _tell_begin(self, done):
        """Say where a run goes on, and what has changed since."""
        if not done:
            return
        path = os.path.join(self.settings.temp_dir, f'model-{done}')
        print(f'Continuing after iteration {done}, from {path}')
        then, now = self.run_folder.then, vars(self.settings)
        if self.run_folder.changed:
            changes = (
                f'{name}={now[name]!r} ({then[name]!r} before)' for name in self.run_folder.changed
            )
            print(f'Changed since then: {", ".join(changes)}')
        if then and then['workers'] != workers.count():
            print(
                f'Workers: {workers.count()} now, {then["workers"]} before. The losses stay the '
                f'same but for rounding'
            )

    def _restore(self, session):
        paths = records.checkpoints(self.settings.temp_dir)
        self._find_best(records.checkpoints(os.path.join(self.settings.temp_dir, 'best')))
        for path in reversed(paths):
            try:
                self.saver.restore(session, path)
                iteration = int(session.run(self.iteration))
            except records.unreadable() as error:
                print(f'The checkpoint {path} cannot be used: {one_line(error)}')
                continue
            try:
                self.losses, self.held_out_losses = history.read(self.settings.temp_dir, iteration)
                lost = np.count_nonzero(np.isnan(self.losses))
            except UserError:
                print(f'There is no {history.NAME} to be read. The losses so far are unknown')
                self.losses, lost = array.array('d', [math.nan] * iteration), 0
            if lost:
                print(f'{lost:,} of the losses so far cannot be read, and are unknown')
            # The oldest goes at the next save, and one that cannot be read before it.
            self.kept[''] = [p for p in paths if p != path] + [path]
            return
        raise UserError(
            f'no checkpoint in {self.settings.temp_dir} can be used. Begin anew with --restart'
        )

    def _find_best(self, paths):
        self.kept['best'] = paths
        for path in paths:
            with contextlib.suppress(*records.unreadable()):
                loss = float(tf.train.load_variable(path, 'held_out_loss'))
                if math.isfinite(loss) and (not self.best or loss < self.best[1]):
                    self.best = int(path.rpartition('-')[2]), loss

    def all_losses(self):
        """Return copies of both, to be drawn: NumPy would hold the array, and it could not grow."""
        return np.array(self.losses), list(self.held_out_losses)

    def has_more(self):
        """Return whether something is left to be trained, or measured."""
        return len(self.losses) < self.last or self.is_unmeasured()

    def is_due(self):
        """Return whether what was learned by now is to be saved and measured."""
        done = len(self.losses)
        return done == self.last or done % self.settings.save_every == 0

    def is_over(self):
        """Return whether the run ends here: no iteration is left, or no patience."""
        patience, save_every = self.settings.patience, self.settings.save_every
        has_stalled = history.has_stalled(self.held_out_losses, patience, save_every)
        return len(self.losses) >= self.last or has_stalled

    def is_unmeasured(self):
        """Return whether a stop came while the held-out loss was measured."""
        measured = self.held_out_losses[-1][0] if self.held_out_losses else 0
        return self.is_due() and measured != len(self.losses)

    def save(self, session, state, is_end):
        """Write the losses and a checkpoint; a second checkpoint if it is the best so far.

        The checkpoint comes last: all that goes with it is there by then, so a run may be killed at
        any time. A failure is printed, and the run goes on.

        Returns:
          Whether it was saved, by this worker.

        Raises:
          UserError: the end of a run could not be saved.
        """
        state = np.concatenate(workers.gather(state), axis=2)
        if not workers.is_first():
            return False
        iteration = len(self.losses)
        loss = dict(self.held_out_losses[-1:]).get(iteration, math.nan)
        try:
            self.history.append()
            self.carried_state.load(state, session)
            self.held_out_loss.load(loss, session)
            best = records.checkpoints(os.path.join(self.settings.temp_dir, 'best'))
            if self.best and not any(path.endswith(f'-{self.best[0]}') for path in best):
                self.best = None  # somebody removed it
            if not math.isnan(loss) and (not self.best or loss < self.best[1]):
                self._checkpoint(session, 'best', keep=1)
                self.best = iteration, loss
            self._checkpoint(session, '', keep=2)
            return True
        except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: `best` is a file
            problem = f'not saved at iteration {iteration}: {one_line(error)}'
            if is_end:
                raise UserError(f'{problem}. Mend that, and run the same command again')
            tqdm.write(f'{problem}. The checkpoint before it is whole; going on')
            return False

    def _checkpoint(self, session, where, keep):
        """Write a checkpoint to the disk, not only to the system's memory, and then remove one."""
        path = os.path.join(self.settings.temp_dir, where, 'model')
        path = self.saver.save(session, path, len(self.losses), write_meta_graph=False)
        files.reach_disk(*glob.glob(glob.escape(path) + '.*'), os.path.dirname(path))
        kept = self.kept[where] = [p for p in self.kept[where] if p != path] + [path]
        while len(kept) > keep:
            tf.train.remove_checkpoint(kept[0])
            del kept[0]
