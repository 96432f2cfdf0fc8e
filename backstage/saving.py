"""Saving a run, so that nothing of it is lost: its checkpoints, its best model, its losses."""

import array
import contextlib
import glob
import math
import os

from backstage import files, folder, report, tf, workers
from backstage.folder import (
    checkpoints,
    iteration_of,
    open_checkpoint,
    read_history,
    unreadable,
)
from backstage.running import one_line
from backstage.settings import UserError

import numpy as np

# --- Reading checkpoints -------------------------------------------------------------------------


def read_checkpoint(path, shapes, run_id):
    """Return some variables of a checkpoint: a dict from names to arrays.

    Args:
      shapes: dict, from the names of the variables to their shapes, lists of int.
      run_id: as `open_checkpoint` takes it.

    Raises:
      one of `unreadable()`: the checkpoint is damaged, or of another run, or another model.
    """
    reader, found = open_checkpoint(path, run_id)
    layers = {name for name in found if name.endswith('/ExponentialMovingAverage')}
    if not layers <= set(shapes) or any(found.get(name) != shapes[name] for name in shapes):
        raise ValueError('it is of a model with other layers')
    return {name: reader.get_tensor(name) for name in shapes}


def read_newest(temp_dir, shapes, run_id, best_first=False, advice=folder.TRAIN_AGAIN, log=None):
    """Return the path and the variables of the newest checkpoint of a run that can be read.

    Args:
      shapes, run_id: as `read_checkpoint` takes them.
      best_first: bool, whether the best model comes before the newest one.
      advice: str, what to do if none can be read.
      log: where it is told if one is passed over; None: standard output.

    Raises:
      UserError: none can be read.
    """
    paths, before = None, []
    while paths != before:  # a run that goes on may have replaced one before it was read
        before, problems = paths, []
        paths = checkpoints(temp_dir)
        paths += checkpoints(os.path.join(temp_dir, 'best')) * best_first
        for path in reversed(paths):
            try:
                values = read_checkpoint(path, shapes, run_id)
            except unreadable() as error:
                problems.append(f'{path} cannot be used: {one_line(error)}')
            else:
                if problems:
                    print(f'{problems[0]}. Using {path}', file=log)
                return path, values
    if not problems:
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    raise UserError(f'{problems[0]}. Nor can another one. {advice}')


def shapes_of(variables):
    """Return the shapes of variables as `read_checkpoint` takes them, all of them known."""
    return {variable.op.name: variable.shape.as_list() for variable in variables}


def warm_start(session, model, settings, ix2vocab):
    """Give a training model the weights of the best model in `init_from`: their averages.

    The rows and columns of characters that the other vocabulary does not have stay as they are.
    (`tf.train.warm_start` wants a file with a symbol in each line; a line end is a symbol here.)

    Raises:
      UserError: no checkpoint there, or not the vocabulary, can be read.
    """
    advice = 'Give another init_from'
    record = folder.read_record(settings.init_from, advice)
    theirs = folder.read_vocabulary(settings.init_from, ix2vocab[0], record, advice)
    symbol_axis = {model.embedding_mat.op.name: 0, model.W.op.name: 1, model.b.op.name: 0}
    averages = {v: model.averages.average(v) for v in tf.trainable_variables()}
    shapes = shapes_of(averages.values())
    for variable, average in averages.items():
        if variable.op.name in symbol_axis:
            shapes[average.op.name][symbol_axis[variable.op.name]] = len(theirs)
    path, learned = read_newest(settings.init_from, shapes, record.get('run_id'), True, advice)
    own = [ix for ix, symbol in enumerate(ix2vocab) if symbol in theirs]
    other = [theirs.index(ix2vocab[ix]) for ix in own]
    for variable, average in averages.items():
        weights = learned[average.op.name]
        if variable.op.name in symbol_axis:
            axis, values = symbol_axis[variable.op.name], session.run(variable).copy()
            np.moveaxis(values, axis, 0)[own] = np.moveaxis(weights, axis, 0)[other]
            weights = values
        variable.load(weights, session)
        average.load(weights, session)
    print(f'Beginning with the weights of {path}')
    new = [symbol for symbol in ix2vocab if symbol not in theirs]
    if new:
        print(f'New to it: {len(new)} symbols, {"".join(new)!r}')


# --- A run ---------------------------------------------------------------------------------------


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
        self.best_dir = os.path.join(settings.temp_dir, 'best')
        self.plot = os.path.join(settings.temp_dir, 'loss.png')
        self.losses, self.held_out_losses, self.best = array.array('d'), [], None
        self.newest = ''  # the newest checkpoint that can be read
        self.record = {}  # what the folder says of the run
        self.model = model
        # The memory of all streams, of all workers, so that a checkpoint holds it.
        layers, two, _, rnn_size = model.initial_state.shape
        shape, zeros = [layers, two, settings.batch_size, rnn_size], tf.zeros_initializer()
        self.carried_state = tf.get_variable('carried_state', shape, None, zeros, trainable=False)
        # So that a model is known by its loss even where the history is lost.
        self.held_out_loss = tf.get_variable(
            'held_out_loss', [], tf.float64, tf.zeros_initializer(), trainable=False
        )
        restored = tf.global_variables()
        self.shapes = shapes_of(restored)
        # The name of the run, which a checkpoint of an earlier version lacks
        self.run_id = tf.get_variable(
            'run_id', [], tf.int64, tf.zeros_initializer(), trainable=False
        )
        self.variables = [*restored, self.run_id]
        self.saver = tf.train.Saver(max_to_keep=None)
        self.initialize = tf.global_variables_initializer()
        self.copy_of_first = workers.copy_of_first(self.variables)

    def start_or_resume(self, session, num_iterations, ix2vocab, record):
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
            folder.mend_vocabulary(self.settings.temp_dir, ix2vocab)
        elif workers.is_first() and self.settings.init_from:
            warm_start(session, self.model, self.settings, ix2vocab)
        # Where its last checkpoint is damaged, even a finished run goes on, from the one before.
        self.run_folder.is_finished &= len(self.losses) == self.run_folder.done
        known = self.losses, self.held_out_losses, self.run_folder.is_finished
        self.losses, self.held_out_losses, is_finished = workers.broadcast(known)
        self.last = len(self.losses) if is_finished else num_iterations
        if self.has_more() and workers.is_first():
            # From here on nothing refuses it.
            self.record = self.run_folder.begin(self.newest, ix2vocab, record)
        workers.broadcast(None)  # by now an earlier run is out of the way, on a shared disk too
        workers.once_per_host(folder.settle_text, self.settings.temp_dir, True)
        if workers.is_first():
            folder.remove_leftovers(self.settings.temp_dir)
        session.run(self.copy_of_first)
        state = session.run(self.carried_state)
        return state[:, :, workers.rows(self.settings.batch_size)]

    def _restore(self, session):
        temp_dir, self.record = self.settings.temp_dir, self.run_folder.record
        self.newest, values = read_newest(temp_dir, self.shapes, self.record.get('run_id'))
        for variable in self.variables:
            if variable.op.name in values:
                variable.load(values[variable.op.name], session)
        iteration = iteration_of(self.newest)
        try:
            self.losses, self.held_out_losses = read_history(temp_dir, iteration)
        except UserError:
            self.losses = array.array('d', [math.nan] * iteration)
        changed = folder.describe_change(temp_dir)
        if changed:
            print(changed)
        lost = np.count_nonzero(np.isnan(self.losses))
        if lost:
            print(f'{lost:,} of the losses so far cannot be read, and are unknown')
        self.best = self._read_best()

    def _read_best(self):
        """Return (iteration, nats) of the best model on the disk, None if there is none."""
        found = []
        for path in checkpoints(self.best_dir):
            with contextlib.suppress(*unreadable()):
                reader, _ = open_checkpoint(path, self.record.get('run_id'))
                found.append((float(reader.get_tensor('held_out_loss')), iteration_of(path)))
        measured = [one for one in found if not math.isnan(one[0])]
        return min(measured)[::-1] if measured else None

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
        saves = folder.saves_since_best(self.held_out_losses, self.settings.save_every)
        return len(self.losses) >= self.last or 0 < self.settings.patience <= saves

    def is_unmeasured(self):
        """Return whether a stop came while the held-out loss was measured."""
        measured = self.held_out_losses[-1][0] if self.held_out_losses else 0
        return self.is_due() and measured != len(self.losses)

    def save(self, session, state, is_end):
        """Write the losses and a checkpoint; a second checkpoint if it is the best so far.

        The checkpoint comes last: all that goes with it is there by then, so a run may be killed at
        any time. It tries twice, as a network disk may fail for a moment; then a failure is
        printed, and the run goes on.

        Returns:
          Whether it was saved, by this worker.

        Raises:
          UserError: the end of a run could not be saved.
        """
        state = np.concatenate(workers.gather(state), axis=2)
        if not workers.is_first():
            return False
        problem = self._try_to_save(session, state) and self._try_to_save(session, state)
        if problem and is_end:
            raise UserError(f'{problem}. Mend that, and run the same command again')
        if problem:
            report.write(f'{problem}. The checkpoint before it is whole; going on')
        return not problem

    def _try_to_save(self, session, state):
        """Save; return what went wrong, str, '' if nothing did."""
        iteration, where = len(self.losses), self.settings.temp_dir
        loss = dict(self.held_out_losses[-1:]).get(iteration, math.nan)
        try:
            folder.write_history(where, self.record, self.losses, self.held_out_losses)
            self.run_id.load(self.record['run_id'], session)
            self.carried_state.load(state, session)
            self.held_out_loss.load(loss, session)
            self.best = self._read_best()  # somebody may have removed it
            if not math.isnan(loss) and (not self.best or loss < self.best[1]):
                self._write_checkpoint(session, self.best_dir)
                self.best = iteration, loss
            kept = self.newest, *checkpoints(self.best_dir)
            self.newest = self._write_checkpoint(session, where, *kept)
        except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: `best` is a file
            return f'not saved at iteration {iteration}: {one_line(error)}'
        return ''

    def _write_checkpoint(self, session, where, *kept):
        """Write a checkpoint to the disk, and then remove all in its folder but those kept."""
        path = os.path.join(where, 'model')
        path = self.saver.save(session, path, len(self.losses), write_meta_graph=False)
        files.reach_disk(*glob.glob(glob.escape(path) + '.*'), where)  # not only the memory
        for older in {*checkpoints(where)} - {path, *kept}:
            with contextlib.suppress(OSError, tf.errors.OpError):  # the next save tries it again
                tf.train.remove_checkpoint(older)
        return path
