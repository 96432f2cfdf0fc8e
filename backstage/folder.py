"""The folder of a run: it is its own, no other run is in it, and what an earlier one left fits."""

import contextlib
import glob
import itertools
import os
import time

from backstage import files, history, records, warm_start, workers
from backstage.settings import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What restart moves aside.
OF_A_RUN = [
    'model-*', 'checkpoint', 'best', 'board', 'vocabulary.json', 'settings.json', history.NAME,
    'loss.png', 'runs.png', 'heatmap.png', 'cells.html', 'text.txt',
]  # fmt: skip
# What may be there before a run is: of one that did not come to its first save, of tools.plot.
HARMLESS = ['lock', 'text.ids', 'text.*.part', 'runs.png', 'earlier-*']


@contextlib.contextmanager
def only_run_in(settings):
    """Keep other runs out of `temp_dir`, which is made, as long as this one lasts, however it ends.

    The system lets go of the lock, and the file stays. On Windows, and on file systems without
    locks, runs are not kept apart.

    Raises:
      UserError: another run is there, or one that had other settings, or files that are not of a
        run, or nothing can be written there, or TensorFlow cannot take the name.
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
    check_is_ours(folder)
    with open(os.path.join(folder, 'lock'), 'a+') as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f'{folder} is in use by the run with process number {lock.read()}. Wait for its '
                f'end, or give this run another temp_dir'
            )
        except OSError as error:
            print(f'Other runs are not kept out of {folder}: no locks there ({error.strerror})')
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        check_continues(settings)
        warm_start.check(settings)
        yield


def check_is_ours(folder):
    """Raise UserError if a folder has files, and they are not of a run."""
    if records.is_run(folder):
        return
    allowed = [path for name in HARMLESS for path in glob.glob(os.path.join(folder, name))]
    if os.path.join(folder, 'text.ids') in allowed:
        allowed.append(os.path.join(folder, 'text.txt'))  # the copy of a piped text
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        is_of_another_run = os.path.isdir(path) and name not in OF_A_RUN
        if not (name.startswith('.') or path in allowed or is_of_another_run):
            raise UserError(
                f'{folder} has files that are not of a run, such as {name}. Give another temp_dir'
            )


def check_continues(settings, text_crc=None):
    """Raise UserError if the run in `temp_dir` cannot go on with these settings, and this text.

    `text_crc` is None while the text has not been read.
    """
    if not workers.is_first() or not records.continues(settings):
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


def free_name(path):
    """Return the path or, where there is one (of a run that began in the same second), `path-2`."""
    names = itertools.chain([path], (f'{path}-{number}' for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def make_way(settings, text_crc):
    """Move what an earlier run left into a folder of its own, if the one to come begins anew.

    Raises:
      UserError: the run goes on, and has learned another text.
    """
    folder, own_text = settings.temp_dir, os.path.realpath(settings.text_file)
    check_continues(settings, text_crc)
    # A best model without a run is what is left of one; it is not that of the run to come.
    is_rest = records.checkpoints(os.path.join(folder, 'best')) and not records.continues(settings)
    if not workers.is_first() or not (settings.restart or is_rest):
        return
    paths = [path for name in OF_A_RUN for path in glob.glob(os.path.join(folder, name))]
    paths = [path for path in paths if os.path.realpath(path) != own_text]
    if paths:
        aside = free_name(os.path.join(folder, time.strftime('earlier-%Y%m%d-%H%M%S')))
        os.makedirs(aside)
        for path in paths:
            os.rename(path, os.path.join(aside, os.path.basename(path)))
        print(f'The earlier run is now in {aside}')
