"""Saving a run so that nothing is lost: its checkpoints, its best model and its losses."""

import array
import contextlib
import glob
import math
import os

from backstage import files, first_line, folder, report, tf, workers
from backstage.folder import (
    checkpoints,
    iteration_of,
    open_checkpoint,
    read_history,
    unreadable,
)
from backstage.settings import UserError

import numpy as np

# --- Reading checkpoints -------------------------------------------------------------------------


def read_checkpoint(path, shapes, run_id):
    """Return variables of a checkpoint: a dict from names to arrays.

    Args:
      shapes: dict, from the names of the variables to their shapes, lists of int.
      run_id: as for `open_checkpoint`.

    Raises:
      one of `unreadable()`: the checkpoint is damaged, or belongs to another run or model.
    """
    reader, found = open_checkpoint(path, run_id)
    layers = {name for name in found if name.endswith('/ExponentialMovingAverage')}
    if not layers <= set(shapes) or any(found.get(name) != shapes[name] for name in shapes):
        raise ValueError('its model has different layers')
    return {name: reader.get_tensor(name) for name in shapes}


def read_newest(temp_dir, shapes, run_id, best_first=False, advice=folder.TRAIN_AGAIN, log=None):
    """Return the path and the variables of the newest readable checkpoint of a run.

    Args:
      shapes, run_id: as for `read_checkpoint`.
      best_first: bool, whether to try the best model before the newest one.
      advice: str, what to do if no checkpoint is readable.
      log: text stream for a message if a checkpoint is skipped; None: standard output.

    Raises:
      UserError: no checkpoint is readable.
    """
    paths, before = None, []
    while paths != before:  # a run in progress may replace a checkpoint before it is read
        before, problems = paths, []
        paths = checkpoints(temp_dir)
        paths += checkpoints(os.path.join(temp_dir, 'best')) * best_first
        for path in reversed(paths):
            try:
                values = read_checkpoint(path, shapes, run_id)
            except unreadable() as error:
                problems.append(f'{path} cannot be used: {first_line(error)}')
            else:
                if problems:
                    print(f'{problems[0]}. Using {path}', file=log)
                return path, values
    if not problems:
        raise UserError(f'there is no model in {temp_dir}. {folder.TRAIN_FIRST}')
    raise UserError(f'{problems[0]}. No other checkpoint can be used. {advice}')


def shapes_of(variables):
    """Return the shapes of variables as `read_checkpoint` needs them. All are fully defined."""
    return {variable.op.name: variable.shape.as_list() for variable in variables}


def warm_start(session, model, settings, ix2vocab):
    """Load the averaged weights of the best model in `init_from` into a training model.

    The rows and columns of characters that the other vocabulary lacks stay unchanged.
    (`tf.train.warm_start` needs a file with one symbol per line. Here a line end is a symbol too.)

    Raises:
      UserError: no checkpoint in `init_from` is readable, or its vocabulary is not.
    """
    advice = 'Set init_from to another folder'
    record = folder.read_record(settings.init_from, advice)
    theirs = folder.read_vocabulary(settings.init_from, record, advice)
    symbol_axis = {model.embedding_mat.op.name: 0, model.W.op.name: 1, model.b.op.name: 0}
    averages = {v: model.averages.average(v) for v in tf.trainable_variables()}
    shapes = shapes_of(averages.values())
    for variable, average in averages.items():
        if variable.op.name in symbol_axis:
            shapes[average.op.name][symbol_axis[variable.op.name]] = len(theirs)
    path, learned = read_newest(settings.init_from, shapes, record['run_id'], True, advice)
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
    print(f'Starting from the weights of {path}')
    new = [symbol for symbol in ix2vocab if symbol not in theirs]
    if new:
        print(f'Symbols not in that model: {len(new)}, {"".join(new)!r}')


# --- A run ---------------------------------------------------------------------------------------


class Run:
    """A run. Make it while building the graph, after all other variables.

    Attributes:
      run_folder: RunFolder.
      plot: str, the path of the loss plot.
      last: int, its last iteration; `patience` may end it earlier.
      losses: array of float, nats, the loss of each iteration so far; NaN if it was lost.
      held_out_losses: list of (iteration, nats).
      best: (iteration, nats), the held-out loss of the best model on the disk; None if there is
        none.
    """

    def __init__(self, settings, model, run_folder):
        self.settings, self.run_folder = settings, run_folder
        self.best_dir = os.path.join(settings.temp_dir, 'best')
        self.plot = os.path.join(settings.temp_dir, 'loss.png')
        self.losses, self.held_out_losses, self.best = array.array('d'), [], None
        self.newest = ''  # the newest readable checkpoint
        self.record = {}  # the record of the run in its folder
        self.model = model
        # The LSTM state of all streams of all workers, for the checkpoint.
        layers, two, _, rnn_size = model.initial_state.shape
        shape, zeros = [layers, two, settings.batch_size, rnn_size], tf.zeros_initializer()
        self.carried_state = tf.get_variable('carried_state', shape, None, zeros, trainable=False)
        # Each checkpoint holds its own held-out loss, in case the history is lost.
        self.held_out_loss = tf.get_variable(
            'held_out_loss', [], tf.float64, tf.zeros_initializer(), trainable=False
        )
        self.run_id = tf.get_variable(
            'run_id', [], tf.int64, tf.zeros_initializer(), trainable=False
        )
        self.variables = tf.global_variables()
        self.saver = tf.train.Saver(max_to_keep=None)
        self.initialize = tf.global_variables_initializer()
        self.copy_of_first = workers.copy_of_first(self.variables)

    def start_or_resume(self, session, num_iterations, ix2vocab, record):
        """Initialize all variables, or restore the newest readable checkpoint.

        Args:
          record: dict, the entries of the run's record besides its settings.

        Returns:
          The state that the next batch begins with, as `initial_state` of the model.

        Raises:
          UserError: there are checkpoints, but none is readable.
        """
        session.run(self.initialize)
        if workers.is_first() and not self.run_folder.is_new:
            self._restore(session)
            folder.mend_vocabulary(self.settings.temp_dir, ix2vocab)
        elif workers.is_first() and self.settings.init_from:
            warm_start(session, self.model, self.settings, ix2vocab)
        # If its last checkpoint is damaged, even a finished run resumes from the previous one.
        self.run_folder.is_finished &= len(self.losses) == self.run_folder.done
        known = self.losses, self.held_out_losses, self.run_folder.is_finished
        self.losses, self.held_out_losses, is_finished = workers.broadcast(known)
        self.last = len(self.losses) if is_finished else num_iterations
        if self.has_more() and workers.is_first():
            # All checks have passed: from here on, files change.
            self.record = self.run_folder.begin(self.newest, ix2vocab, record)
        workers.broadcast(None)  # wait until worker 0 has moved an earlier run away
        workers.once_per_host(folder.settle_text, self.settings.temp_dir, True)
        if workers.is_first():
            folder.remove_leftovers(self.settings.temp_dir)
        session.run(self.copy_of_first)
        state = session.run(self.carried_state)
        return state[:, :, workers.rows(self.settings.batch_size)]

    def _restore(self, session):
        temp_dir, self.record = self.settings.temp_dir, self.run_folder.record
        shapes = shapes_of(self.variables)
        self.newest, values = read_newest(temp_dir, shapes, self.record['run_id'])
        for variable in self.variables:
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
            print(f'{lost:,} of the losses so far cannot be read')
        self.best = self._read_best()

    def _read_best(self):
        """Return (iteration, nats) of the best model on the disk; None if there is none."""
        found = []
        for path in checkpoints(self.best_dir):
            with contextlib.suppress(*unreadable()):
                reader, _ = open_checkpoint(path, self.record.get('run_id'))
                found.append((float(reader.get_tensor('held_out_loss')), iteration_of(path)))
        measured = [one for one in found if not math.isnan(one[0])]
        return min(measured)[::-1] if measured else None

    def all_losses(self):
        """Return copies of both for drawing. A NumPy view would keep the array from growing."""
        return np.array(self.losses), list(self.held_out_losses)

    def has_more(self):
        """Return whether anything is left to train or measure."""
        return len(self.losses) < self.last or self.is_unmeasured()

    def is_due(self):
        """Return whether it is time to save and measure the model."""
        done = len(self.losses)
        return done == self.last or done % self.settings.save_every == 0

    def is_over(self):
        """Return whether the run ends here: no iterations or no patience left."""
        saves = folder.saves_since_best(self.held_out_losses, self.settings.save_every)
        return len(self.losses) >= self.last or 0 < self.settings.patience <= saves

    def is_unmeasured(self):
        """Return whether a stop came before the held-out loss was measured."""
        measured = self.held_out_losses[-1][0] if self.held_out_losses else 0
        return self.is_due() and measured != len(self.losses)

    def save(self, session, state, is_end):
        """Write the losses and a checkpoint, and a second checkpoint if it is the best so far.

        The checkpoint comes after all files that belong to it, so a run may be killed at any time.
        If saving fails, it tries once more: a network disk may fail for a moment. A second failure
        is printed, and the run continues.

        Returns:
          Whether this worker saved it.

        Raises:
          UserError: the end of a run could not be saved.
        """
        state = np.concatenate(workers.gather(state), axis=2)
        if not workers.is_first():
            return False
        problem = self._try_to_save(session, state) and self._try_to_save(session, state)
        if problem and is_end:
            raise UserError(f'{problem}. Fix this, then run the same command again')
        if problem:
            report.write(f'{problem}. The previous checkpoint is intact; training continues')
        return not problem

    def _try_to_save(self, session, state):
        """Save the run. Return what went wrong, str; '' if nothing did."""
        iteration, where = len(self.losses), self.settings.temp_dir
        loss = dict(self.held_out_losses[-1:]).get(iteration, math.nan)
        try:
            folder.write_history(where, self.record, self.losses, self.held_out_losses)
            self.run_id.load(self.record['run_id'], session)
            self.carried_state.load(state, session)
            self.held_out_loss.load(loss, session)
            self.best = self._read_best()  # it may have been removed
            if not math.isnan(loss) and (not self.best or loss < self.best[1]):
                self._write_checkpoint(session, self.best_dir)
                self.best = iteration, loss
            kept = self.newest, *checkpoints(self.best_dir)
            self.newest = self._write_checkpoint(session, where, *kept)
        except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: `best` is a file
            return f'not saved at iteration {iteration}: {first_line(error)}'
        return ''

    def _write_checkpoint(self, session, where, *kept):
        """Write a checkpoint to the disk, then remove the others in its folder, except `kept`."""
        path = os.path.join(where, 'model')
        path = self.saver.save(session, path, len(self.losses), write_meta_graph=False)
        files.reach_disk(*glob.glob(glob.escape(path) + '.*'), where)
        for older in {*checkpoints(where)} - {path, *kept}:
            with contextlib.suppress(OSError, tf.errors.OpError):  # the next save tries again
                tf.train.remove_checkpoint(older)
        return path
