"""The folder of a run: its files, its record, one run at a time, an earlier run put aside."""

import array
import contextlib
import glob
import itertools
import json
import os
import re
import shutil
import sys
import time
import zlib

from backstage import files, report, tf, workers
from backstage.settings import PATHS, RANGES, UserError, find_fault

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# The files of a run: what each is, where in temp_dir it is, and its whole name. A file with any
# other name is somebody else's: it is never looked at, moved, removed, or a reason to refuse.
CHECKPOINT = r'checkpoint|model-[0-9]{1,10}\.(index|data-[0-9]+-of-[0-9]+)'
FILES = [
    ('record', '', r'(settings|vocabulary)\.json'),
    ('text', '', r'text\.(ids|txt)'),
    ('history', '', r'history\.csv'),
    ('picture', '', r'loss\.png'),
    ('checkpoint', 'best', CHECKPOINT),
    ('checkpoint', '', CHECKPOINT),
    ('board', 'board', r'events\.out\.tfevents\..+'),
    ('derived', '', r'(runs|heatmap)\.png|(cells|page)\.html'),  # by a tool
    ('derived', '', r'history\.json'),  # by an earlier version
]
WRITTEN = ['record', 'text', 'history', 'picture', 'checkpoint']  # by every run
OF_A_RUN = [*WRITTEN, 'board', 'derived']  # what moves when a run is put aside
# What a killed process leaves: a part of one of these, ours or TensorFlow's, or a run on its way.
PART = r'\..+\.[0-9]+\.part|\.tempstate[0-9]+|\.tmp[0-9a-f]{16,}'
FILES += [('leftover', where, f'({name})({PART})') for _, where, name in FILES]
FILES += [('half aside', '', r'earlier-[0-9]{8}-[0-9]{6}(-[0-9]+)?\.part')]

# Every record has these settings, and a run goes on only with the same. Others would make another
# model, read another text or other batches of it, or draw other random numbers.
OF_THE_LAYERS = ['num_layers', 'rnn_size', 'embedding_size', 'residual']
NEEDED = [
    *OF_THE_LAYERS, 'clean_text', 'min_word_freq', 'held_out', 'batch_size', 'training_seq_len',
    'seed',
]  # fmt: skip
FIXED = [*NEEDED, 'init_from']
OF_THE_TEXT = ['text_file', 'data_dir', 'gutenberg_url']  # these say which text it is
# These can change on the way. In a run that is finished, they would change nothing any more.
OF_THE_TRAINING = [
    'learning_rate', 'weight_decay', 'keep_prob', 'warmup_iterations', 'max_gradient_norm',
    'average_decay',
]  # fmt: skip
LENGTH = ['epochs', 'max_iterations', 'patience']
# What a record has besides settings. `history_crcs` has the checksum of history.csv; two of them
# while a save replaces the file.
COUNTS = ['text_crc', 'workers', 'num_batches', 'run_id', 'vocabulary_crc']
BESIDES = {**dict.fromkeys(COUNTS, (0, sys.maxsize)), 'unseen': 'counts', 'history_crcs': 'counts'}
PATTERN = '[]*?' if os.name == 'nt' else '[]*?\\'  # in a path TensorFlow reads these as one
HEAD = 'iteration,loss,held_out_loss\n'  # nats; the last is empty where it was not measured
MEND = 'The command that trained it writes it again, from the text'
TRAIN_AGAIN = 'Train again, with --restart, or give another temp_dir'


# --- What a run has left -------------------------------------------------------------------------


def find(folder, *kinds):
    """Return the paths, relative to a folder, of its files of these kinds: list of str."""
    found = []
    for kind, where, pattern in FILES:
        with contextlib.suppress(OSError):  # there is no such folder
            names = sorted(os.listdir(os.path.join(folder, where))) if kind in kinds else []
            found += [os.path.join(where, name) for name in names if re.fullmatch(pattern, name)]
    return found


def checkpoints(folder):
    """Return the checkpoints of a run, its best model too, without their endings: the newest last.

    TensorFlow's own list, in the file `checkpoint`, is not asked: it may be the damaged one.
    """
    names = [name[: -len('.index')] for name in find(folder, 'checkpoint') if '.index' in name]
    return sorted((os.path.join(folder, name) for name in names), key=iteration_of)


def unreadable():
    """Return what TensorFlow raises where a checkpoint is damaged: a 2.x IndexError at its end."""
    return tf.errors.OpError, ValueError, IndexError


def open_checkpoint(path, run_id):
    """Return the reader of a checkpoint, and the shapes of its variables, a dict from their names.

    `run_id` is that of the run to which it has to belong. One of an earlier version has none.

    Raises:
      one of `unreadable()`: the checkpoint is damaged, or of another run, or of another iteration
        than its name says.
    """
    if set(path) & set(PATTERN):
        raise ValueError(f'TensorFlow takes the {PATTERN} in its name for a pattern')
    if not all(map(os.path.isfile, glob.glob(f'{glob.escape(path)}.*'))):  # a pipe would never end
        raise ValueError('it is no file')
    reader = tf.train.load_checkpoint(os.path.normpath(path))  # it knows no a//b
    found, steps = reader.get_variable_to_shape_map(), 'lstm_model/global_step'
    if 'run_id' in found and reader.get_tensor('run_id') != run_id:
        raise ValueError('it is of another run')
    is_named = re.fullmatch('model-[0-9]+', os.path.basename(path))
    if is_named and steps in found and reader.get_tensor(steps) != iteration_of(path):
        raise ValueError(f'it is of iteration {reader.get_tensor(steps)}')
    return reader, found


def iteration_of(path):
    """Return the iteration of a checkpoint, from its name."""
    return int(path.rpartition('-')[2])


def is_run(folder):
    """Return whether what is in a folder was left by a run, damaged perhaps."""
    if checkpoints(folder) and os.path.exists(os.path.join(folder, 'vocabulary.json')):
        return True
    with contextlib.suppress(UserError):
        return 'text_crc' in _read(folder, 'settings.json', dict, '')
    return False


def read_record(folder, advice=TRAIN_AGAIN):
    """Return what is known of a run in a folder, dict: its settings and, of BESIDES, what it has.

    A setting of a later version is left out. A run of an earlier one has no checksums and no name.

    Raises:
      UserError: it cannot be read, or something is missing or wrong; and `advice`.
    """
    record = _read(folder, 'settings.json', dict, advice)
    is_changed = record.pop('crc', None) not in (None, crc_of(record))
    known = {**RANGES, **BESIDES}
    names = [name for name in record if name in known]
    faults = filter(None, (find_fault(name, record[name], known[name]) for name in names))
    if is_changed or not {*NEEDED, 'text_file', 'text_crc'} <= set(names) or any(faults):
        raise UserError(f'the settings in {folder} are damaged, or of another version. {advice}')
    return {name: record[name] for name in names}


def write_record(folder, record):
    """Write what `read_record` reads, with its checksum."""
    files.write_json(os.path.join(folder, 'settings.json'), {**record, 'crc': crc_of(record)})


def crc_of(content):
    """Return the CRC-32 of a dict or a list, the same after it was written as JSON and read."""
    return zlib.crc32(json.dumps(content).encode())


def read_vocabulary(folder, unknown, record, advice=''):
    """Return the vocabulary of the run in a folder, a list of str.

    All are different; the first is `unknown`, str, and each other one a character. `record` is what
    `read_record` returns, which has its checksum.

    Raises:
      UserError: it cannot be read, or is another list.
    """
    ix2vocab = _read(folder, 'vocabulary.json', list, advice or MEND)
    is_changed = record.get('vocabulary_crc') not in (None, crc_of(ix2vocab))
    are_characters = all(isinstance(one, str) and len(one) == 1 for one in ix2vocab[1:])
    is_ours = ix2vocab[:1] == [unknown] and are_characters and len(set(ix2vocab)) == len(ix2vocab)
    if is_changed or not is_ours:
        raise UserError(f'the vocabulary in {folder} is damaged. {advice or MEND}')
    return ix2vocab


def mend_vocabulary(folder, ix2vocab):
    """Write the vocabulary of a run again, as the text gives it, if it is damaged."""
    path = os.path.join(folder, 'vocabulary.json')
    with contextlib.suppress(UserError):
        if files.read_json(path, list) == ix2vocab:
            return
    files.write_json(path, ix2vocab)
    print(f'{path} was damaged or lost. It was written again, from the text')


def _read(folder, name, kind, advice):
    path = os.path.join(folder, name)
    try:
        return files.read_json(path, kind)
    except UserError as error:
        raise UserError(f'{error}. {advice}')


def read_history(folder, num_iterations=None):
    """Return the losses of a run, array of float, and its held-out losses, list of (int, float).

    Args:
      num_iterations: int, to read so many; None: all that are there.

    A loss that is missing or damaged is not a number; so is one in a last line without an end.

    Raises:
      UserError: the file is not there, or it cannot be read.
    """
    path = os.path.join(folder, 'history.csv')
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(0, 'it is no file')
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = file.read().split('\n')[:-1]
    except OSError as error:
        reason = '' if isinstance(error, FileNotFoundError) else f' ({error.strerror})'
        raise UserError(f'there is no history of a run in {folder}{reason}. Give another folder')
    found, held_out = {}, {}
    for line in lines:
        with contextlib.suppress(ValueError):
            iteration, loss, held_out_loss = line.split(',')
            # A number that is out of place would make a list without end.
            if 0 < int(iteration) <= (num_iterations or len(lines)):
                found[int(iteration)] = float(loss)
                if held_out_loss:
                    held_out[int(iteration)] = float(held_out_loss)
    count = num_iterations or max(found, default=0)
    losses = array.array('d', (found.get(i, float('nan')) for i in range(1, count + 1)))
    return losses, sorted(held_out.items())


def write_history(folder, record, losses, held_out_losses):
    """Write what `read_history` reads, and before that its checksum, into the record of the run."""
    held_out = dict(held_out_losses)
    lines = (f'{i},{loss!r},{held_out.get(i, "")}\n' for i, loss in enumerate(losses, 1))
    data = (HEAD + ''.join(lines)).encode()
    crcs = [*crc_of_history(folder), zlib.crc32(data)]
    write_record(folder, {**record, 'history_crcs': crcs})
    files.write(os.path.join(folder, 'history.csv'), data)
    write_record(folder, {**record, 'history_crcs': crcs[-1:]})


def crc_of_history(folder):
    """Return the CRC-32 of the history in a folder: a list, empty if there is none to be read."""
    with contextlib.suppress(OSError), open(os.path.join(folder, 'history.csv'), 'rb') as file:
        return [zlib.crc32(file.read())]
    return []


def describe_change(folder):
    """Return a sentence if the history in a folder is not as its run wrote it, else ''."""
    with contextlib.suppress(UserError, KeyError):  # damaged, or of an earlier version
        # Before and after, as a run that goes on may save in between
        before = read_record(folder)['history_crcs']
        found = crc_of_history(folder)
        after = read_record(folder)['history_crcs']
        if not set(found) <= {*before, *after}:
            path = os.path.join(folder, 'history.csv')
            return f'{path} is not as the run wrote it: edited, or damaged. It is taken as it is'
    return ''


def saves_since_best(held_out_losses, save_every):
    """Return how many held-out losses came since the best one.

    Those count that came with a save of every `save_every` iterations, not that of an earlier end.
    """
    losses = [loss for iteration, loss in held_out_losses if iteration % save_every == 0]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def count_iterations(settings, num_batches):
    """Return how many iterations a run has, if an epoch has `num_batches`."""
    return min(settings.epochs * num_batches, settings.max_iterations or sys.maxsize)


# --- One run at a time ---------------------------------------------------------------------------


@contextlib.contextmanager
def only_run_in(settings, program):
    """Keep other runs out of `temp_dir`, which is made, as long as this one lasts, however it ends.

    The system lets go of the lock, and the file stays. On Windows, and on file systems without
    locks, runs are not kept apart. `program` is the path of the script.

    Yields:
      A RunFolder.

    Raises:
      UserError: another run is there, or something else has a name that a run writes, or nothing
        can be written there, or TensorFlow cannot take the name, or the run there is damaged.
    """
    folder = settings.temp_dir
    check_path(folder, 'temp_dir')
    files.make_folder(folder, 'temp_dir')
    with contextlib.ExitStack() as stack:
        stack.callback(settle_text, folder, is_taken=False)
        run_folder = RunFolder(settings, program)
        if workers.is_first():
            check_names(settings)  # before anything is written there
            stack.enter_context(locked(os.path.join(folder, 'lock')))
            for name in find(folder, 'half aside'):
                aside = os.path.join(folder, name[: -len('.part')])
                put_aside(folder, aside, settings.text_file)
                print(f'A start that was ended had begun to move the earlier run to {aside}')
            run_folder.look()
        yield run_folder


def check_path(path, setting):
    """Raise UserError if TensorFlow takes a path for a pattern, or for a place in a network."""
    if set(path) & set(PATTERN) or '://' in path:
        raise UserError(
            f'{setting} must have none of {PATTERN} and no ://, which TensorFlow takes for a '
            f'pattern or a network, got {path!r}'
        )


def check_names(settings):
    """Raise UserError if something else has a name that a run would write."""
    folder = settings.temp_dir
    taken = [name for name in ('best', 'board') if os.path.isfile(os.path.join(folder, name))]
    is_ours = is_run(folder) or find(folder, 'half aside')
    for name in find(folder, *WRITTEN):
        path = os.path.join(folder, name)
        is_foreign = not is_ours and not is_same(path, settings.text_file)
        taken += [name] * (is_foreign or not os.path.isfile(path))
    if taken:
        raise taken_by_another(os.path.join(folder, taken[0]))


def taken_by_another(path):
    return UserError(
        f'{path} is not of a run, and a run would write there. Move it away, or give another '
        f'temp_dir'
    )


def is_same(path, other):
    """Return whether two paths, of which one may be empty, are of the same file."""
    return bool(path and other) and os.path.realpath(path) == os.path.realpath(other)


@contextlib.contextmanager
def locked(path):
    """Hold the lock of a folder.

    Raises:
      UserError: another process holds it, or it is a file of somebody else.
    """
    folder = os.path.dirname(path)
    if os.path.lexists(path) and not os.path.isfile(path):
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


def put_aside(folder, aside, own_text):
    """Move the run in a folder into the folder `aside`, which has its name once all is there.

    Killed on the way, it has only to be called again.

    Args:
      own_text: str, the text of the run to come, which stays.
    """
    part = f'{aside}.part'
    for name in find(folder, *OF_A_RUN):
        if not is_same(os.path.join(folder, name), own_text):
            os.makedirs(os.path.dirname(os.path.join(part, name)), exist_ok=True)
            # `best` may be on another disk.
            shutil.move(os.path.join(folder, name), os.path.join(part, name))
    for inner in 'best', 'board':
        with contextlib.suppress(OSError):  # it is not there, or has files of somebody else
            os.rmdir(os.path.join(folder, inner))
    os.rename(part, aside)
    files.reach_disk(aside, folder)


def free_name(path):
    """Return the path or, where there is one (of a run that began in the same second), `path-2`."""
    names = itertools.chain([path], (f'{path}-{number}' for number in itertools.count(2)))
    return next(n for n in names if not (os.path.lexists(n) or os.path.lexists(f'{n}.part')))


def remove_leftovers(folder):
    """Remove what killed runs have left half written, or half removed."""
    left = find(folder, 'leftover')
    for name in find(folder, 'checkpoint'):
        index = os.path.join(folder, name.partition('.data-')[0] + '.index')
        left += [name] * ('.data-' in name and not os.path.lexists(index))
    for name in left:
        os.remove(os.path.join(folder, name))


def settle_text(folder, is_taken):
    """Give what this process has written of a text its name, or else remove it.

    It comes before it is known whether the run can begin, and has the name of a part till then.
    """
    for path in (os.path.join(folder, name) for name in ('text.ids', 'text.txt')):
        with contextlib.suppress(FileNotFoundError):
            if is_taken:
                os.replace(files.part_of(path), path)
            else:
                os.remove(files.part_of(path))


# --- The run that is there, and the one to come --------------------------------------------------


def check_init_from(settings):
    """Raise UserError if the model in `init_from` cannot be what a new run begins with."""
    folder = settings.init_from
    if not folder:
        return
    check_path(folder, 'init_from')
    if not is_run(folder):
        raise UserError(f'there is no model in {folder}. Give init_from the temp_dir of a run')
    if is_same(folder, settings.temp_dir):
        raise UserError(f'{folder} is where this run would be. Give it another temp_dir')
    theirs = read_record(folder, advice='Give another init_from')
    others = [f'--{n}={theirs[n]!r}' for n in OF_THE_LAYERS if theirs[n] != getattr(settings, n)]
    if others:
        raise UserError(
            f'the model in {folder} has other layers: it has {" ".join(others)}. Give that, or '
            f'another init_from'
        )


def has_changed(name, then, now):
    """Return whether a setting, which is `now`, is another one in the record of a run."""
    if name in ('temp_dir', 'restart'):
        return False
    before = then.get(name)
    if name in PATHS and bool(now) == bool(before):  # an earlier version had no init_from
        return bool(now) and not is_same(now, before)
    return name not in then or now != then[name]  # not there: no such setting then


class RunFolder:
    """`temp_dir`, for as long as this process has it to itself. Worker 0 alone looks into it.

    Attributes:
      done: int, iterations of the run that is there; 0 if none is.
      record: dict, what it has noted of itself; empty if that is damaged.
      changes: dict, from the names of settings that are others now to words.
      is_new: bool, whether a new run begins; else the one that is there goes on, or is finished.
      is_finished: bool, whether the one that is there has nothing more to train.
    """

    def __init__(self, settings, program):
        self.settings, self.program = settings, program
        self.done, self.record, self.changes = 0, {}, {}
        self.is_new, self.is_finished = True, False
        self.more = []  # what would train a finished run further
        self.aside, self.earlier = '', ''  # where the run that is there goes, and how to go on

    def look(self):
        """Look at the run that is there. If its record decides, the first line says what follows.

        Raises:
          UserError: it is damaged, or `init_from` is nothing to begin with.
        """
        found = checkpoints(self.settings.temp_dir)
        if self.settings.restart or not found:
            check_init_from(self.settings)
        if found:
            try:
                self.record = read_record(self.settings.temp_dir)
            except UserError:
                if not self.settings.restart:
                    raise
            readable = (path for path in reversed(found) if self._can_open(path))
            self.done = iteration_of(next(readable, found[-1]))
        if 'num_batches' in self.record:  # that of an earlier version waits for the text
            self.decide(self.record['text_crc'], self.record['num_batches'])

    def _can_open(self, path):
        with contextlib.suppress(*unreadable()):
            return bool(open_checkpoint(path, self.record.get('run_id')))
        return False

    def decide(self, text_crc, num_batches):
        """Decide what becomes of the run that is there. The first of these that is so decides:

            nothing is there, or restart                           a new run begins
            a setting in FIXED has changed                         a new run begins
            the text is another one, and a setting says so         a new run begins
            the text is another one, and no setting says so        it is refused
            nothing is left to train, and OF_THE_TRAINING changed  a new run begins
            nothing is left to train                               it is finished
            otherwise                                              it goes on

        Args:
          text_crc: int, that of the text to learn.
          num_batches: int, how many an epoch has.

        Raises:
          UserError: it is refused.
        """
        if not self.done or self.aside:  # nothing is there, or it is decided
            return
        then, now = self.record, {**vars(self.settings), 'workers': workers.count()}
        before = {name: repr(then[name]) if name in then else 'not there' for name in now}
        self.changes = {
            name: f'{name} is {now[name]!r} ({before[name]} before)'
            for name in now
            if has_changed(name, then, now[name])
        }
        self.more = self._find_limits_reached(num_batches)
        is_other_text = text_crc != then.get('text_crc')
        deciding = [*FIXED]
        if is_other_text:
            deciding += ['text_file'] if now['text_file'] else OF_THE_TEXT
        elif self.more:
            deciding += OF_THE_TRAINING
        reasons = [words for name, words in self.changes.items() if name in deciding]
        if now['restart']:
            reasons = ['restart is True']
        self.is_new = bool(reasons)
        self.is_finished = bool(self.more) and not self.is_new
        if self.is_new:
            self._begin_new(reasons)
        elif is_other_text:
            text = then['text_file'] or 'the works of Shakespeare'
            raise UserError(
                f'the run in {now["temp_dir"]} has learned another text, {text} as it was then. '
                f'Give that, or another temp_dir, or --restart to begin anew'
            )

    def _find_limits_reached(self, num_batches):
        """Return what would train a finished run further, list of str; empty if it is not."""
        now, more = self.settings, []
        if now.epochs * num_batches <= self.done:
            more.append(f'epochs above {self.done // num_batches}')
        if 0 < now.max_iterations <= self.done:
            more.append(f'max_iterations above {self.done}')
        with contextlib.suppress(UserError):  # there is no history
            held_out_losses = read_history(now.temp_dir, self.done)[1] if now.patience else []
            saves = saves_since_best(held_out_losses, now.save_every)
            if 0 < now.patience <= saves:
                more.append(f'patience above {saves} (or 0)')
        return more

    def _begin_new(self, reasons):
        check_init_from(self.settings)
        folder = self.settings.temp_dir
        self.aside = free_name(os.path.join(folder, time.strftime('earlier-%Y%m%d-%H%M%S')))
        self.earlier = f'. To go on with it: {self._command()}' if self.record else ''
        print(f'A new run begins: {", ".join(reasons)}. {self._describe_aside("moves to")}')

    def _describe_aside(self, verb):
        return f'The earlier run, of {self.done:,} iterations, {verb} {self.aside}{self.earlier}'

    def _command(self):
        """Return the command that goes on with the earlier run where it will be.

        It has all settings that decide: the constants may be others by then.
        """
        deciding = ['text_file', 'data_dir', *FIXED, *OF_THE_TRAINING, *LENGTH]
        then = {name: self.record[name] for name in deciding if name in self.record}
        if then['text_file']:
            then.pop('data_dir', None)
        copy = os.path.join(self.settings.temp_dir, 'text.txt')
        if is_same(then['text_file'], copy) and not is_same(copy, self._own_text()):
            then['text_file'] = os.path.join(self.aside, 'text.txt')
        return report.command(
            os.path.basename(self.program), temp_dir=self.aside, restart=False, **then
        )

    def _own_text(self):
        """Return the file that is learned now, unless its place is still that of an earlier one."""
        path = self.settings.text_file
        return '' if os.path.exists(files.part_of(path)) else path

    def begin(self, checkpoint, ix2vocab, record):
        """Say from which checkpoint a run goes on, or make way for a new one; write its record.

        Args:
          checkpoint: str; empty for a new run.
          record: dict, what it notes besides its settings.

        Returns:
          The whole record, dict.
        """
        if checkpoint:
            print(f'Continuing after iteration {iteration_of(checkpoint)}, from {checkpoint}')
        shown = [*OF_THE_TRAINING, *LENGTH, 'workers']
        changed = [self.changes[name] for name in shown if name in self.changes]
        if checkpoint and changed:
            print(f'Changed since then: {", ".join(changed)}')
        folder = self.settings.temp_dir
        if self.aside:
            put_aside(folder, self.aside, self._own_text())
        record = {**vars(self.settings), **record, 'workers': workers.count()}
        record['vocabulary_crc'] = crc_of(ix2vocab)
        # A run of an earlier version has no name, by which a checkpoint knows it, and no checksum.
        then = self.record if checkpoint else {}
        record['run_id'] = then.get('run_id', int.from_bytes(os.urandom(6), 'big'))
        record['history_crcs'] = then.get('history_crcs', crc_of_history(folder))
        write_record(folder, record)
        files.write_json(os.path.join(folder, 'vocabulary.json'), ix2vocab)
        return record

    def print_end(self):
        """Print, last of all, where an earlier run is, or what would train a finished one on."""
        if os.path.isdir(self.aside):
            print(self._describe_aside('is in'))
        elif self.is_finished:
            print(
                f'This run is finished, after {self.done:,} iterations. To train it further, set '
                f'{" and ".join(self.more)}; to train a new one, add --restart'
            )
