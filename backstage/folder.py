"""The folder of a run: whose files are whose, one run at a time, and an earlier run put aside."""

import contextlib
import itertools
import os
import re
import shutil
import time

from backstage import files, history, records, report, warm_start, workers
from backstage.settings import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# The files of a run by their whole names, in temp_dir and in two folders in it. A file with any
# other name is somebody else's: it is never looked at, moved, removed, or a reason to refuse.
OF_TRAINING = r'(settings|vocabulary)\.json|history\.csv|loss\.png|text\.(ids|txt)'
OF_TOOLS = r'(runs|heatmap)\.png|cells\.html'
CHECKPOINT = r'checkpoint|model-[0-9]+\.(index|data-[0-9]+-of-[0-9]+)'
OF_A_RUN = {
    '': f'{OF_TRAINING}|{OF_TOOLS}|{CHECKPOINT}',
    'best': CHECKPOINT,
    'board': r'events\.out\.tfevents\..+',
}
# What a killed run leaves: TensorFlow's part of a checkpoint, and ours of other files.
HALF_CHECKPOINT = rf'checkpoint\.tmp\w+|({CHECKPOINT})\.tempstate[0-9]+'
LEFTOVERS = {
    '': rf'({OF_TRAINING}|{OF_TOOLS})\..+\.[0-9]+\.part|{HALF_CHECKPOINT}',
    'best': HALF_CHECKPOINT,
}
HALF_ASIDE = {'': r'earlier-[0-9]{8}-[0-9]{6}(-[0-9]+)?\.part'}  # a run that was being put aside


def find(folder, table):
    """Return the paths, relative to a folder, of the files in it that a table has: list of str."""
    found = []
    for inner, pattern in table.items():
        with contextlib.suppress(OSError):  # there is no such folder
            names = sorted(os.listdir(os.path.join(folder, inner)))
            found += [os.path.join(inner, name) for name in names if re.fullmatch(pattern, name)]
    return found


def is_same(path, other):
    """Return whether two paths, of which one may be empty, are of the same file."""
    return bool(path and other) and os.path.realpath(path) == os.path.realpath(other)


@contextlib.contextmanager
def only_run_in(settings, script):
    """Keep other runs out of `temp_dir`, which is made, as long as this one lasts, however it ends.

    The system lets go of the lock, and the file stays. On Windows, and on file systems without
    locks, runs are not kept apart.

    Args:
      script: dict, the `globals()` of the script: its file, and its settings without changes.

    Yields:
      A RunFolder.

    Raises:
      UserError: another run is there, or something else has a name that a run writes, or nothing
        can be written there, or TensorFlow cannot take the name, or the run there is damaged.
    """
    folder = settings.temp_dir
    if set(folder) & set('[]*?'):
        raise UserError(
            f'{folder} has one of []*? in it, which TensorFlow takes for a pattern. Give another '
            f'temp_dir'
        )
    files.make_folder(folder, 'temp_dir')
    with contextlib.ExitStack() as stack:
        stack.callback(drop_text, folder)
        run_folder = RunFolder(settings, script)
        if workers.is_first():
            if not os.path.lexists(os.path.join(folder, 'lock')):
                check_names(settings)  # before anything is written there
            stack.enter_context(locked(os.path.join(folder, 'lock')))
            check_names(settings)
            finish_putting_aside(settings)
            run_folder.look()
        yield run_folder


def check_names(settings):
    """Raise UserError if something else has a name that a run would write."""
    folder = settings.temp_dir
    taken = [name for name in ('best', 'board') if os.path.isfile(os.path.join(folder, name))]
    if not records.is_run(folder) and not find(folder, HALF_ASIDE):
        names = find(folder, {'': f'{OF_TRAINING}|{CHECKPOINT}', 'best': CHECKPOINT})
        own_text = settings.text_file
        taken += [name for name in names if not is_same(os.path.join(folder, name), own_text)]
    if taken:
        raise taken_by_another(os.path.join(folder, taken[0]))


def taken_by_another(path):
    return UserError(
        f'{path} is not of a run, and a run would write there. Move it away, or give another '
        f'temp_dir'
    )


@contextlib.contextmanager
def locked(path):
    """Hold the lock of a folder.

    Raises:
      UserError: another process holds it, or it is a file of somebody else.
    """
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise taken_by_another(path)
    with open(path, 'a+', errors='replace') as lock:
        lock.seek(0)
        number = lock.read(100)
        if not re.fullmatch('[0-9]*', number):
            raise taken_by_another(path)
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{folder} is in use by the run with process number {number}. Wait for its end, or '
                f'give this run another temp_dir'
            )
        except OSError as error:
            print(f'Other runs are not kept out of {folder}: no locks there ({error.strerror})')
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


# --- A run that is put aside ---------------------------------------------------------------------


def put_aside(folder, aside, own_text):
    """Move the run in a folder into the folder `aside`, which has its name once all is there.

    Args:
      own_text: str, the text of the run to come, which stays.
    """
    part = f'{aside}.part'
    for name in find(folder, OF_A_RUN):
        if not is_same(os.path.join(folder, name), own_text):
            os.makedirs(os.path.dirname(os.path.join(part, name)), exist_ok=True)
            # `best` may be on another disk.
            shutil.move(os.path.join(folder, name), os.path.join(part, name))
    for inner in 'best', 'board':
        with contextlib.suppress(OSError):  # it is not there, or has files of somebody else
            os.rmdir(os.path.join(folder, inner))
    os.rename(part, aside)
    files.reach_disk(aside, folder)


def finish_putting_aside(settings):
    """Put the rest of a run aside, where a process was killed while it did so."""
    for name in find(settings.temp_dir, HALF_ASIDE):
        aside = os.path.join(settings.temp_dir, name[: -len('.part')])
        put_aside(settings.temp_dir, aside, settings.text_file)
        print(f'A start that was ended had begun to move the earlier run. All of it is in {aside}')


def free_name(path):
    """Return the path or, where there is one (of a run that began in the same second), `path-2`."""
    names = itertools.chain([path], (f'{path}-{number}' for number in itertools.count(2)))
    return next(n for n in names if not (os.path.lexists(n) or os.path.lexists(f'{n}.part')))


# --- The text of a run, which comes before it is known whether the run can begin -----------------

TEXT = ('text.ids', 'text.txt')


def take_text(folder):
    """Give what this process has written of a text its name."""
    for path in (os.path.join(folder, name) for name in TEXT):
        if os.path.exists(files.part_of(path)):
            os.replace(files.part_of(path), path)


def drop_text(folder):
    """Remove what this process has written of a text, where no run has begun with it."""
    for path in (os.path.join(folder, name) for name in TEXT):
        with contextlib.suppress(OSError):
            os.remove(files.part_of(path))


# --- The run that is there, and the one to come --------------------------------------------------


class RunFolder:
    """`temp_dir`, for as long as this process has it to itself. Worker 0 alone looks into it.

    Attributes:
      path: str.
      is_new: bool, whether a new run begins; else the one that is there goes on, or is finished.
      is_finished: bool, whether the one that is there has nothing more to train.
    """

    def __init__(self, settings, script):
        self.settings, self.script, self.path = settings, script, settings.temp_dir
        self.is_new, self.is_finished = True, False
        self.done, self.then = 0, {}  # iterations of the run that is there, and its record
        self.changed = []  # names of the settings that are others now
        self.more = []  # what would train a finished run further
        self.can_go_on, self.command = False, ''  # with a command that goes on with it there
        self.aside = None  # where the run that is there goes, or went

    def look(self):
        """Look at the run that is there, and decide what its record alone decides.

        Raises:
          UserError: it is damaged, or `init_from` is nothing to begin with.
        """
        there = records.checkpoints(self.path)
        best = records.checkpoints(os.path.join(self.path, 'best'))
        self.done = records.iteration_of((there or best)[-1]) if there or best else 0
        self.is_new = self.settings.restart or not there
        self.can_go_on = bool(there)
        try:
            self.then = records.read_record(self.path) if there or best else {}
        except UserError:
            if not self.is_new:
                raise
            self.can_go_on = False
        if self.is_new:
            self._begin_new('restart is True' if there else 'the earlier one has no checkpoints')
        else:
            self.decide(None, self.then.get('num_batches'))

    def decide(self, text_crc, num_batches):
        """Decide whether the run that is there goes on.

        A new one begins if a setting that is fixed has changed, or if the run has ended, and one of
        the training has changed.

        Args:
          text_crc: int, that of the text to learn; None while it has not been read.
          num_batches: int, how many an epoch has; None while that is not known.

        Raises:
          UserError: the text is another one, and no setting says so.
        """
        if self.is_new:
            return
        then, now = self.then, vars(self.settings)
        self.changed = [name for name in now if records.has_changed(name, then, now[name])]
        has_ended = bool(num_batches) and self._has_ended(num_batches)
        is_other_text = text_crc not in (None, then['text_crc'])
        reasons = [name for name in self.changed if name in records.FIXED]
        if is_other_text:
            names = ['text_file'] if now['text_file'] else records.OF_THE_TEXT
            reasons += [name for name in self.changed if name in names]
        if has_ended and self.is_finished:
            reasons += [name for name in self.changed if name in records.OF_THE_TRAINING]
        if reasons:
            what = [f'{name} is {now[name]!r} ({then[name]!r} before)' for name in reasons]
            self._begin_new(', '.join(what))
        elif is_other_text:
            text = then['text_file'] or 'the works of Shakespeare'
            raise UserError(
                f'the run in {self.path} has learned another text, {text} as it was then. Give '
                f'that, or another temp_dir, or --restart to begin anew'
            )

    def _has_ended(self, num_batches):
        """Set what is finished, and what would be more; return whether the run came to its end."""
        now, done = self.settings, self.done
        then = {**vars(now), 'patience': 0, **self.then}
        planned = records.count_iterations(then['epochs'], then['max_iterations'], num_batches)
        wanted = records.count_iterations(now.epochs, now.max_iterations, num_batches)
        self.is_finished, self.more = wanted <= done, []
        if now.epochs * num_batches <= done:
            self.more.append(f'epochs above {done // num_batches}')
        if 0 < now.max_iterations <= done:
            self.more.append(f'max_iterations above {done}')
        if done >= planned or not self._has_stalled(then):
            return done >= planned
        if wanted <= planned and 0 < now.patience <= then['patience']:
            self.is_finished = True
            self.more.append(f'patience above {then["patience"]} (or 0)')
        return True

    def _has_stalled(self, then):
        if not then['patience']:
            return False
        try:
            held_out_losses = history.read(self.path, self.done)[1]
        except UserError:  # there is no history
            return False
        is_measured = self.done in dict(held_out_losses)  # else a stop came later
        how = then['patience'], then['save_every']
        return is_measured and history.has_stalled(held_out_losses, *how)

    def _begin_new(self, reason):
        self.is_new, self.is_finished = True, False
        warm_start.check(self.settings)
        if self.done:
            name = time.strftime('earlier-%Y%m%d-%H%M%S')
            self.aside = free_name(os.path.join(self.path, name))
            self.command = self._name_command() if self.can_go_on else ''
            print(f'A new run begins: {reason}. {self._describe_aside("moves to")}')

    def _describe_aside(self, verb):
        """Return in words where the earlier run is, and the command that goes on with it there."""
        earlier = f'The earlier run, of {self.done:,} iterations, {verb} {self.aside}'
        return f'{earlier}. To go on with it: {self.command}' if self.command else earlier

    def _name_command(self):
        """Return the command that goes on with the earlier run where it will be.

        It has all settings that decide: the constants may be others by then.
        """
        changes = {name: self.then[name] for name in records.DECIDING if name in self.then}
        if changes['text_file']:
            changes.pop('data_dir', None)
        if self.script['restart']:  # it would begin a new run there too
            changes['restart'] = False
        copy = os.path.join(self.path, 'text.txt')
        if is_same(changes['text_file'], copy) and not is_same(copy, self._own_text()):
            changes['text_file'] = os.path.join(self.aside, 'text.txt')
        script = os.path.basename(self.script['__file__'])
        return report.command(script, temp_dir=self.aside, **changes)

    def begin(self):
        """Make way for a run that nothing can refuse any more."""
        if self.aside:
            put_aside(self.path, self.aside, self._own_text())

    def _own_text(self):
        """Return the file that is learned now, unless its place is still that of an earlier one."""
        path = self.settings.text_file
        return '' if os.path.exists(files.part_of(path)) else path

    def clear(self):
        """Remove what killed runs have left half written."""
        for name in find(self.path, LEFTOVERS):
            os.remove(os.path.join(self.path, name))

    def print_end(self):
        """Print, last of all, where an earlier run is, or what would train a finished one on."""
        if self.aside and os.path.isdir(self.aside):
            print(self._describe_aside('is in'))
        elif self.is_finished:
            print(
                f'This run is finished, after {self.done:,} iterations. To train it further, set '
                f'{" and ".join(self.more)}; to train a new one, add --restart'
            )
