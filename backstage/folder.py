"""The folder of a run: its files, its record, its lock, and how an earlier run is put aside."""

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

# The files of a run: the kind, the subfolder of temp_dir, and a pattern of the whole name. A file
# with any other name is not ours: the program never reads, moves or removes it, and never refuses
# to run because of it.
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
]
WRITTEN = ['record', 'text', 'history', 'picture', 'checkpoint']  # by every run
OF_A_RUN = [*WRITTEN, 'board', 'derived']  # these move when a run is put aside
# A killed process leaves temporary files (ours or TensorFlow's), or a run that is half moved.
PART = r'\..+\.[0-9]+\.part|\.tempstate[0-9]+|\.tmp[0-9a-f]{16,}'
FILES += [('leftover', where, f'({name})({PART})') for _, where, name in FILES]
FILES += [('half aside', '', r'earlier-[0-9]{8}-[0-9]{6}(-[0-9]+)?\.part')]

# Every record has these settings, and a run resumes only if they are unchanged. Other values would
# change the model, the text, the batches or the random numbers.
OF_THE_LAYERS = ['num_layers', 'rnn_size', 'embedding_size', 'residual']
NEEDED = [
    *OF_THE_LAYERS, 'clean_text', 'min_word_freq', 'held_out', 'batch_size', 'training_seq_len',
    'seed',
]  # fmt: skip
FIXED = [*NEEDED, 'init_from']
OF_THE_TEXT = ['text_file', 'data_dir', 'gutenberg_url']  # these select the text
# These may change when a run resumes. In a finished run, they would have no effect.
OF_THE_TRAINING = [
    'learning_rate', 'weight_decay', 'keep_prob', 'warmup_iterations', 'max_gradient_norm',
    'average_decay',
]  # fmt: skip
LENGTH = ['epochs', 'max_iterations', 'patience']
# What a record holds besides settings. `history_crcs` holds the checksum of history.csv, or two
# checksums while a save replaces that file.
COUNTS = ['text_crc', 'workers', 'num_batches', 'run_id', 'vocabulary_crc']
BESIDES = {**dict.fromkeys(COUNTS, (0, sys.maxsize)), 'unseen': 'counts', 'history_crcs': 'counts'}
PATTERN = '[]*?' if os.name == 'nt' else '[]*?\\'  # TensorFlow reads these in a path as a pattern
HEAD = 'iteration,loss,held_out_loss\n'  # nats; the last is empty if it was not measured
REPAIR = 'Run the training command again to restore it from the text'
TRAIN_AGAIN = 'Train again with --restart, or set temp_dir to another folder'
TRAIN_FIRST = 'Train one, or set temp_dir to the folder of a run'


# --- What a run leaves ---------------------------------------------------------------------------


def find(folder, *kinds):
    """Return the paths of the files of these kinds, relative to the folder: list of str."""
    found = []
    for kind, where, pattern in FILES:
        with contextlib.suppress(OSError):  # the folder does not exist
            names = sorted(os.listdir(os.path.join(folder, where))) if kind in kinds else []
            found += [os.path.join(where, name) for name in names if re.fullmatch(pattern, name)]
    return found


def checkpoints(folder):
    """Return a run's checkpoints, including its best model: paths without extension, oldest first.

    This ignores TensorFlow's own list, the file `checkpoint`, which may be damaged itself.
    """
    names = [name[: -len('.index')] for name in find(folder, 'checkpoint') if '.index' in name]
    return sorted((os.path.join(folder, name) for name in names), key=iteration_of)


def unreadable():
    """Return the errors that a damaged checkpoint raises. A 2.x raises IndexError if it is cut."""
    return tf.errors.OpError, ValueError, IndexError


def open_checkpoint(path, run_id):
    """Return the reader of a checkpoint, and the shapes of its variables, a dict from their names.

    The checkpoint must belong to the run `run_id`.

    Raises:
      one of `unreadable()`: the checkpoint is damaged, belongs to another run, or is from another
        iteration than its name says.
    """
    if set(path) & set(PATTERN):
        raise ValueError(f'TensorFlow reads {PATTERN} in its name as a pattern')
    if not all(map(os.path.isfile, glob.glob(f'{glob.escape(path)}.*'))):  # else it might block
        raise ValueError('it is not a file')
    reader = tf.train.load_checkpoint(os.path.normpath(path))  # it does not accept a//b
    found, steps = reader.get_variable_to_shape_map(), 'lstm_model/global_step'
    if 'run_id' not in found or reader.get_tensor('run_id') != run_id:
        raise ValueError('it belongs to another run')
    is_named = re.fullmatch('model-[0-9]+', os.path.basename(path))
    if is_named and steps in found and reader.get_tensor(steps) != iteration_of(path):
        raise ValueError(f'it is from iteration {reader.get_tensor(steps)}')
    return reader, found


def iteration_of(path):
    """Return the iteration in the name of a checkpoint."""
    return int(path.rpartition('-')[2])


def is_run(folder):
    """Return whether a folder holds a run, possibly a damaged one."""
    if checkpoints(folder) and os.path.exists(os.path.join(folder, 'vocabulary.json')):
        return True
    with contextlib.suppress(UserError):
        return 'text_crc' in _read(folder, 'settings.json', dict, '')
    return False


def read_record(folder, advice=TRAIN_AGAIN):
    """Return the record of the run in a folder, dict: its settings and its entries of BESIDES.

    Settings of later versions are left out.

    Raises:
      UserError: the record cannot be read, or an entry is missing or wrong. Ends with `advice`.
    """
    record = _read(folder, 'settings.json', dict, advice)
    is_changed = record.pop('crc', None) != crc_of(record)
    known = {**RANGES, **BESIDES}
    names = [name for name in record if name in known]
    faults = filter(None, (find_fault(name, record[name], known[name]) for name in names))
    if is_changed or not {*NEEDED, 'text_file', *BESIDES} <= set(names) or any(faults):
        raise UserError(f'the settings in {folder} are damaged or from another version. {advice}')
    return {name: record[name] for name in names}


def write_record(folder, record):
    """Write the record of a run, with its checksum."""
    files.write_json(os.path.join(folder, 'settings.json'), {**record, 'crc': crc_of(record)})


def crc_of(content):
    """Return the CRC-32 of a dict or a list. Writing and reading it as JSON does not change it."""
    return zlib.crc32(json.dumps(content).encode())


def read_vocabulary(folder, record, advice=''):
    """Return the vocabulary of the run in a folder, a list of str.

    `record` is the result of `read_record`, with the checksum of the vocabulary.

    Raises:
      UserError: the vocabulary cannot be read or is damaged.
    """
    ix2vocab = _read(folder, 'vocabulary.json', list, advice or REPAIR)
    if record['vocabulary_crc'] != crc_of(ix2vocab):
        raise UserError(f'the vocabulary in {folder} is damaged. {advice or REPAIR}')
    return ix2vocab


def mend_vocabulary(folder, ix2vocab):
    """Write the vocabulary of a run, as built from the text, if the file is damaged or missing."""
    path = os.path.join(folder, 'vocabulary.json')
    with contextlib.suppress(UserError):
        if files.read_json(path, list) == ix2vocab:
            return
    files.write_json(path, ix2vocab)
    print(f'{path} was damaged or missing; restored from the text')


def _read(folder, name, kind, advice):
    path = os.path.join(folder, name)
    try:
        return files.read_json(path, kind)
    except UserError as error:
        raise UserError(f'{error}. {advice}')


def read_history(folder, num_iterations=None):
    """Return the losses of a run, array of float, and its held-out losses, list of (int, float).

    A missing or damaged loss is NaN. So is one on a last line without a line end.

    Args:
      num_iterations: int, how many losses to read; None: all.

    Raises:
      UserError: the file is missing or cannot be read.
    """
    path = os.path.join(folder, 'history.csv')
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(0, 'it is not a file')
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = file.read().split('\n')[:-1]
    except OSError as error:
        reason = '' if isinstance(error, FileNotFoundError) else f' ({error.strerror})'
        raise UserError(f'there is no history of a run in {folder}{reason}. Use a different folder')
    found, held_out = {}, {}
    for line in lines:
        with contextlib.suppress(ValueError):
            iteration, loss, held_out_loss = line.split(',')
            # A damaged number must not make the list huge.
            if 0 < int(iteration) <= (num_iterations or len(lines)):
                found[int(iteration)] = float(loss)
                if held_out_loss:
                    held_out[int(iteration)] = float(held_out_loss)
    count = num_iterations or max(found, default=0)
    losses = array.array('d', (found.get(i, float('nan')) for i in range(1, count + 1)))
    return losses, sorted(held_out.items())


def write_history(folder, record, losses, held_out_losses):
    """Write the losses that `read_history` reads. Their checksum goes into the record first."""
    held_out = dict(held_out_losses)
    lines = (f'{i},{loss!r},{held_out.get(i, "")}\n' for i, loss in enumerate(losses, 1))
    data = (HEAD + ''.join(lines)).encode()
    crcs = [*crc_of_history(folder), zlib.crc32(data)]
    write_record(folder, {**record, 'history_crcs': crcs})
    files.write(os.path.join(folder, 'history.csv'), data)
    write_record(folder, {**record, 'history_crcs': crcs[-1:]})


def crc_of_history(folder):
    """Return the CRC-32 of the history in a folder, as a list; empty if it cannot be read."""
    with contextlib.suppress(OSError), open(os.path.join(folder, 'history.csv'), 'rb') as file:
        return [zlib.crc32(file.read())]
    return []


def describe_change(folder):
    """Return a sentence if the history in a folder has changed since its run wrote it, else ''."""
    with contextlib.suppress(UserError, KeyError):  # damaged, or from an earlier version
        # Read the record twice: a run in progress may save in between.
        before = read_record(folder)['history_crcs']
        found = crc_of_history(folder)
        after = read_record(folder)['history_crcs']
        if not set(found) <= {*before, *after}:
            path = os.path.join(folder, 'history.csv')
            return f'{path} has changed since the run wrote it (edited or damaged). Using it as is'
    return ''


def saves_since_best(held_out_losses, save_every):
    """Return how many held-out losses follow the best one.

    Those measured every `save_every` iterations count, but not the one at the end of a shorter run.
    """
    losses = [loss for iteration, loss in held_out_losses if iteration % save_every == 0]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def count_iterations(settings, num_batches):
    """Return the number of iterations of a run whose epochs have `num_batches` each."""
    return min(settings.epochs * num_batches, settings.max_iterations or sys.maxsize)


# --- One run at a time ---------------------------------------------------------------------------


@contextlib.contextmanager
def only_run_in(settings, program):
    """Make `temp_dir` and lock it against other runs until this one ends, however it ends.

    The system releases the lock; the lock file stays. On Windows, and on file systems without
    locks, nothing keeps two runs apart. `program` is the path of the script.

    Yields:
      A RunFolder.

    Raises:
      UserError: another run uses the folder, a foreign file has a name that a run writes, the
        folder is not writable, TensorFlow does not accept its name, or the run there is damaged.
    """
    folder = settings.temp_dir
    check_path(folder, 'temp_dir')
    files.make_folder(folder, 'temp_dir')
    with contextlib.ExitStack() as stack:
        stack.callback(settle_text, folder, is_taken=False)
        run_folder = RunFolder(settings, program)
        if workers.is_first():
            check_names(settings)  # before writing anything
            stack.enter_context(locked(os.path.join(folder, 'lock')))
            for name in find(folder, 'half aside'):
                aside = os.path.join(folder, name[: -len('.part')])
                put_aside(folder, aside, settings.text_file)
                print(f'Finished an interrupted move of the earlier run to {aside}')
            run_folder.look()
        yield run_folder


def check_path(path, setting):
    """Raise UserError if TensorFlow reads a path as a pattern or a network address."""
    if set(path) & set(PATTERN) or '://' in path:
        raise UserError(
            f'{setting} must not contain :// or any of {PATTERN}, got {path!r}. TensorFlow reads '
            f'them as a network address or a pattern'
        )


def check_names(settings):
    """Raise UserError if a foreign file or folder has a name that a run would write."""
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
        f'{path} does not belong to a run, and a run would overwrite it. Move it away, or set '
        f'temp_dir to another folder'
    )


def is_same(path, other):
    """Return whether two paths lead to the same file. Either may be empty."""
    return bool(path and other) and os.path.realpath(path) == os.path.realpath(other)


@contextlib.contextmanager
def locked(path):
    """Hold the lock of a folder.

    Raises:
      UserError: another process holds it, or the lock file is foreign.
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
                f'{folder} is in use by another run, process {number}. Wait until it ends, or set '
                f'temp_dir to another folder'
            )
        except OSError as error:
            print(f'Cannot lock {folder} ({error.strerror}): start no other run in it')
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def put_aside(folder, aside, own_text):
    """Move the run in a folder to the folder `aside`, which gets its final name at the end.

    After a kill, call it again to finish the move.

    Args:
      own_text: str, the text of the new run, which stays.
    """
    part = f'{aside}.part'
    for name in find(folder, *OF_A_RUN):
        if not is_same(os.path.join(folder, name), own_text):
            os.makedirs(os.path.dirname(os.path.join(part, name)), exist_ok=True)
            # `best` may be on another disk.
            shutil.move(os.path.join(folder, name), os.path.join(part, name))
    for inner in 'best', 'board':
        with contextlib.suppress(OSError):  # it does not exist, or holds foreign files
            os.rmdir(os.path.join(folder, inner))
    os.rename(part, aside)
    files.reach_disk(aside, folder)


def free_name(path):
    """Return `path`, or `path-2` and so on if it exists: two runs may begin in the same second."""
    names = itertools.chain([path], (f'{path}-{number}' for number in itertools.count(2)))
    return next(n for n in names if not (os.path.lexists(n) or os.path.lexists(f'{n}.part')))


def remove_leftovers(folder):
    """Remove files that killed runs left half written or half removed."""
    left = find(folder, 'leftover')
    for name in find(folder, 'checkpoint'):
        index = os.path.join(folder, name.partition('.data-')[0] + '.index')
        left += [name] * ('.data-' in name and not os.path.lexists(index))
    for name in left:
        os.remove(os.path.join(folder, name))


def settle_text(folder, is_taken):
    """Give the text files that this process wrote their final names, or remove them.

    They are written before the run can begin, under temporary names.
    """
    for path in (os.path.join(folder, name) for name in ('text.ids', 'text.txt')):
        with contextlib.suppress(FileNotFoundError):
            if is_taken:
                os.replace(files.part_of(path), path)
            else:
                os.remove(files.part_of(path))


# --- The run in the folder, and the new one ------------------------------------------------------


def check_init_from(settings):
    """Raise UserError if a new run cannot start from the model in `init_from`."""
    folder = settings.init_from
    if not folder:
        return
    check_path(folder, 'init_from')
    if not is_run(folder):
        raise UserError(f'there is no model in {folder}. Set init_from to the temp_dir of a run')
    if is_same(folder, settings.temp_dir):
        raise UserError(
            f'init_from and temp_dir must differ, got {folder} for both. Set temp_dir to another '
            f'folder'
        )
    theirs = read_record(folder, advice='Set init_from to another folder')
    others = [f'--{n}={theirs[n]!r}' for n in OF_THE_LAYERS if theirs[n] != getattr(settings, n)]
    if others:
        raise UserError(
            f'the model in {folder} has different layers. Add {" ".join(others)}, or set '
            f'init_from to another folder'
        )


def has_changed(name, then, now):
    """Return whether the value `now` of a setting differs from the record `then` of a run."""
    if name in ('temp_dir', 'restart'):
        return False
    before = then.get(name)
    if name in PATHS and bool(now) == bool(before):  # earlier versions had no init_from
        return bool(now) and not is_same(now, before)
    return name not in then or now != then[name]  # absent: the setting did not exist yet


class RunFolder:
    """`temp_dir` while this process holds its lock. Only worker 0 looks into it.

    Attributes:
      done: int, iterations of the existing run; 0 if there is none.
      record: dict, its record; empty if that is damaged.
      changes: dict, from the names of changed settings to a description of the change.
      is_new: bool, whether a new run begins; else the existing one resumes or is finished.
      is_finished: bool, whether the existing run has nothing left to train.
    """

    def __init__(self, settings, program):
        self.settings, self.program = settings, program
        self.done, self.record, self.changes = 0, {}, {}
        self.is_new, self.is_finished = True, False
        self.more = []  # the changes that would train a finished run further
        self.aside, self.earlier = '', ''  # where the existing run goes, and how to resume it

    def look(self):
        """Look at the existing run.

        Raises:
          UserError: the run is damaged, or a new run cannot start from `init_from`.
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

    def _can_open(self, path):
        with contextlib.suppress(*unreadable()):
            return bool(open_checkpoint(path, self.record.get('run_id')))
        return False

    def decide(self, text_crc, num_batches):
        """Decide what happens to the existing run. The first row that applies decides:

            no run exists, or restart                              a new run begins
            a setting in FIXED has changed                         a new run begins
            the text differs, and so does a setting that names it  a new run begins
            the text differs, and no setting does                  an error
            nothing is left to train, and OF_THE_TRAINING changed  a new run begins
            nothing is left to train                               the run is finished
            otherwise                                              the run resumes

        Args:
          text_crc: int, the CRC-32 of the text to learn.
          num_batches: int, the batches of an epoch.

        Raises:
          UserError: the text differs, and no setting does.
        """
        if not self.done:
            return
        then, now = self.record, {**vars(self.settings), 'workers': workers.count()}
        before = {name: repr(then[name]) if name in then else 'absent' for name in now}
        self.changes = {
            name: f'{name} is {now[name]!r} (was {before[name]})'
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
                f'the run in {now["temp_dir"]} was trained on a different text: {text}, as it was '
                f'then. Use that text, set temp_dir to another folder, or start over with --restart'
            )

    def _find_limits_reached(self, num_batches):
        """Return the changes that would train a finished run further, list of str; else []."""
        now, more = self.settings, []
        if now.epochs * num_batches <= self.done:
            more.append(f'epochs above {self.done // num_batches}')
        if 0 < now.max_iterations <= self.done:
            more.append(f'max_iterations above {self.done}')
        with contextlib.suppress(UserError):  # the history is missing
            held_out_losses = read_history(now.temp_dir, self.done)[1] if now.patience else []
            saves = saves_since_best(held_out_losses, now.save_every)
            if 0 < now.patience <= saves:
                more.append(f'patience above {saves} (or 0)')
        return more

    def _begin_new(self, reasons):
        check_init_from(self.settings)
        folder = self.settings.temp_dir
        self.aside = free_name(os.path.join(folder, time.strftime('earlier-%Y%m%d-%H%M%S')))
        self.earlier = f'. To resume it: {self._command()}' if self.record else ''
        moves = f'The earlier run ({self.done:,} iterations) moves to {self.aside}'
        print(f'Starting a new run: {", ".join(reasons)}. {moves}')

    def _command(self):
        """Return the command that resumes the earlier run in its new folder.

        It names all settings that matter, because the constants may have changed by then.
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
        """Return the text of the new run; '' if its path still holds that of the earlier run."""
        path = self.settings.text_file
        return '' if os.path.exists(files.part_of(path)) else path

    def begin(self, checkpoint, ix2vocab, record):
        """Print where a run resumes, or put an earlier run aside; then write the record.

        Args:
          checkpoint: str; empty for a new run.
          record: dict, the entries besides its settings.

        Returns:
          The whole record, dict.
        """
        if checkpoint:
            print(f'Resuming after iteration {iteration_of(checkpoint)}, from {checkpoint}')
        shown = [*OF_THE_TRAINING, *LENGTH, 'workers']
        changed = [self.changes[name] for name in shown if name in self.changes]
        if checkpoint and changed:
            print(f'Changed since then: {", ".join(changed)}')
        folder = self.settings.temp_dir
        if self.aside:
            put_aside(folder, self.aside, self._own_text())
        record = {**vars(self.settings), **record, 'workers': workers.count()}
        record['vocabulary_crc'] = crc_of(ix2vocab)
        then = self.record if checkpoint else {}
        record['run_id'] = then.get('run_id', int.from_bytes(os.urandom(6), 'big'))
        record['history_crcs'] = then.get('history_crcs', crc_of_history(folder))
        write_record(folder, record)
        files.write_json(os.path.join(folder, 'vocabulary.json'), ix2vocab)
        return record

    def print_end(self):
        """Print where the earlier run is, or how to train a finished run further."""
        if os.path.isdir(self.aside):
            print(f'The earlier run is in {self.aside}{self.earlier}')
        elif self.is_finished:
            print(
                f'This run is finished after {self.done:,} iterations. To train it further, set '
                f'{" and ".join(self.more)}; to start a new run, add --restart'
            )
