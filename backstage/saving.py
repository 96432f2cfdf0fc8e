"""A run in its folder: kept apart from others, begun or continued, and saved on the way."""

import contextlib
import glob
import os

from backstage import files, records, tf, workers
from backstage.running import one_line
from backstage.settings import UserError

import numpy as np
from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What a killed run may leave: TensorFlow's part of a checkpoint, and ours of other files.
HALF_WRITTEN = [
    'model-*.tempstate*', 'checkpoint.tmp*', 'text.ids.*.part', '*.json.*.part', '*.png.*.part',
]  # fmt: skip


@contextlib.contextmanager
def only_run_in(settings):
    """Keep other runs out of `temp_dir`, which is made, as long as this one lasts, however it ends.

    The system lets go of the lock, and the file stays. On Windows runs are not kept apart.

    Raises:
      UserError: another run is there, or one that had other settings, or nothing can be written
        there, or TensorFlow cannot take the name.
    """
    folder = settings.temp_dir
    if set(folder) & set('[]*?'):
        raise UserError(
            f'{folder} has one of []*? in it, which TensorFlow takes for a pattern. Give another '
            f'temp_dir'
        )
    files.make_folder(folder, 'temp_dir')
    if not workers.is_first():
        yield
        return
    with open(os.path.join(folder, 'lock'), 'a+') as lock:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise UserError(
                    f'{folder} is in use by the run with process number {lock.read()}. Wait for '
                    f'its end, or give this run another temp_dir'
                )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        check_continues(settings)
        yield


def check_continues(settings, text_crc=None):
    """Raise UserError if the run in `temp_dir` cannot go on with these settings, and this text.

    `text_crc` is None while the text has not been read.
    """
    if not workers.is_first() or settings.restart or not records.checkpoints(settings.temp_dir):
        return
    then = records.read_record(settings.temp_dir)
    others = [name for name in records.FIXED if then[name] != getattr(settings, name)]
    advice = 'or another temp_dir, or --restart to begin anew'
    if others:
        now = ', '.join(f'{name} is {getattr(settings, name)!r}' for name in others)
        theirs = ' '.join(f'--{name}={then[name]!r}' for name in others)
        run = f'the run in {settings.temp_dir} has {theirs}'
        raise UserError(f'{now}, and {run}. Give that, {advice}')
    if text_crc not in (None, then['text_crc']):
        raise UserError(
            f'the run in {settings.temp_dir} has learned another text, '
            f'{then["text_file"] or "the works of Shakespeare"} as it was then. Give that, {advice}'
        )


class Run:
    """A run. To be made while the graph is built, when all its variables are there.

    Attributes:
      folder, best, plot: str, where it is, its best model, and the picture of its losses.
      losses: list of float, nats, of each iteration so far.
      held_out_losses: list of (iteration, nats).
    """

    def __init__(self, settings, model):
        self.settings, self.folder = settings, settings.temp_dir
        self.best = os.path.join(self.folder, 'best')
        self.plot = os.path.join(self.folder, 'loss.png')
        self.losses, self.held_out_losses = [], []
        self.iteration = model.iteration
        # The memory of all streams, of all workers, so that a checkpoint holds it.
        layers, two, _, rnn_size = model.initial_state.shape
        shape, zeros = [layers, two, settings.batch_size, rnn_size], tf.zeros_initializer()
        self.carried_state = tf.get_variable('carried_state', shape, None, zeros, trainable=False)
        self.saver = tf.train.Saver(max_to_keep=2)
        self.best_saver = tf.train.Saver(max_to_keep=1)
        self.initialize = tf.global_variables_initializer()
        self.copy_of_first = workers.copy_of_first(tf.global_variables())

    def begin_or_continue(self, session, num_iterations, ix2vocab, text_crc):
        """Initialize all variables, or restore the newest checkpoint that can be read.

        Returns:
          The state that the next batch begins with, as `initial_state` of the model; None if so
          many iterations are done already.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        session.run(self.initialize)
        if workers.is_first():
            for name in HALF_WRITTEN:
                for path in glob.glob(f'{self.folder}/{name}') + glob.glob(f'{self.best}/{name}'):
                    os.remove(path)
            there = records.checkpoints(self.folder)
            # A best model without a run is what is left of one; it is not that of the run to come.
            if self.settings.restart or (not there and records.checkpoints(self.best)):
                records.move_aside(self.folder)
            elif there:
                self._restore(session, there)
        self.losses, self.held_out_losses = workers.broadcast((self.losses, self.held_out_losses))
        done = len(self.losses)
        if done >= num_iterations:
            print(
                f'This run ended after {done} iterations. More epochs go on from there (or a '
                f'higher max_iterations, if one was given); --restart begins anew; another '
                f'temp_dir leaves it as it is'
            )
            return None
        if done:
            print(f'Continuing after iteration {done}, from {self.folder}/model-{done}')
        if done and workers.is_first():
            before = records.read_record(self.folder)['workers']
            if before != workers.count():
                print(
                    f'Workers: {workers.count()} now, {before} before. The losses stay the same '
                    f'but for rounding'
                )
        records.keep_record(self.settings, ix2vocab, text_crc)
        session.run(self.copy_of_first)
        state = session.run(self.carried_state)
        return state[:, :, workers.rows(self.settings.batch_size)]

    def _restore(self, session, paths):
        for path in reversed(paths):
            try:
                self.saver.restore(session, path)
                iteration = session.run(self.iteration)
                losses, held_out_losses = records.read_history(self.folder)
                if len(losses) < iteration:
                    raise UserError('history.json ends before it')
            except (tf.errors.OpError, ValueError, UserError) as error:
                print(f'The checkpoint {path} cannot be used: {one_line(error)}')
                continue
            self.losses = losses[:iteration]
            self.held_out_losses = [(i, loss) for i, loss in held_out_losses if i <= iteration]
            # The oldest goes at the next save, and one that cannot be read before it.
            self.saver.recover_last_checkpoints([p for p in paths if p != path] + [path])
            self.best_saver.recover_last_checkpoints(records.checkpoints(self.best))
            return
        raise UserError(f'no checkpoint in {self.folder} can be used. Begin anew with --restart')

    def save(self, session, state, is_end):
        """Write the history and a checkpoint; a second checkpoint if it is the best so far.

        The checkpoint comes last: all that goes with it is there by then, so a run may be killed at
        any time. A failure is printed, and the run goes on.

        Raises:
          UserError: the end of a run could not be saved.
        """
        state = np.concatenate(workers.gather(state), axis=2)
        if not workers.is_first():
            return
        iteration = len(self.losses)
        try:
            history = {'losses': self.losses, 'held_out_losses': self.held_out_losses}
            files.write_json(os.path.join(self.folder, 'history.json'), history)
            self.carried_state.load(state, session)
            best, _ = min(self.held_out_losses, key=lambda pair: pair[1], default=(None, None))
            if best == iteration:
                path = os.path.join(self.best, 'model')
                self.best_saver.save(session, path, iteration, write_meta_graph=False)
            path = os.path.join(self.folder, 'model')
            self.saver.save(session, path, iteration, write_meta_graph=False)
        except (OSError, tf.errors.OpError) as error:
            problem = f'not saved at iteration {iteration}: {one_line(error)}'
            if is_end:
                raise UserError(f'{problem}. Mend that, and run the same command again')
            tqdm.write(f'{problem}. The checkpoint before it is whole; going on')
