"""What stands in the folder of a run besides weights and losses: its settings and its text."""

import contextlib
import os
import re
import sys

from backstage import files, tf, workers
from backstage.settings import PATHS, RANGES, UserError, find_fault

# Every record has these.
NEEDED = [
    'num_layers', 'rnn_size', 'embedding_size', 'residual', 'clean_text', 'min_word_freq',
    'held_out', 'batch_size', 'training_seq_len', 'seed',
]  # fmt: skip
# A run goes on only with these as they were. Others would make another model, read another text or
# other batches of it, draw other random numbers, or begin otherwise.
FIXED = [*NEEDED, 'init_from']
OF_THE_TEXT = ['text_file', 'data_dir', 'gutenberg_url']  # these say which text it is
# These can change on the way. In a run that has ended, they would change nothing any more.
OF_THE_TRAINING = [
    'learning_rate', 'weight_decay', 'keep_prob', 'warmup_iterations', 'max_gradient_norm',
    'average_decay',
]  # fmt: skip
LENGTH = ['epochs', 'max_iterations', 'patience']
DECIDING = ['text_file', 'data_dir', *FIXED, *OF_THE_TRAINING, *LENGTH]


def checkpoints(folder):
    """Return the checkpoints in a folder, without their endings, the newest last.

    TensorFlow's own list, in the file `checkpoint`, is not asked: it may be the damaged one.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [name[: -len('.index')] for name in names if re.fullmatch(r'model-[0-9]+\.index', name)]
    return sorted((os.path.join(folder, name) for name in found), key=iteration_of)


def unreadable():
    """Return what TensorFlow raises for a damaged checkpoint: IndexError, if it ends too early."""
    return tf.errors.OpError, ValueError, IndexError


def iteration_of(path):
    """Return the iteration of a checkpoint, from its name."""
    return int(path.rpartition('-')[2])


def has_changed(name, then, now):
    """Return whether a setting, which is `now`, is another one in the record of a run."""
    if name not in then or name in ('temp_dir', 'restart'):
        return False
    if name == 'init_from':  # the same by its last name, since a project may have moved
        return os.path.basename(now.rstrip('/')) != os.path.basename(then[name].rstrip('/'))
    if name in PATHS and now and then[name]:
        return os.path.realpath(now) != os.path.realpath(then[name])
    return now != then[name]


def count_iterations(epochs, max_iterations, num_batches):
    """Return how many iterations a run has."""
    return min(epochs * num_batches, max_iterations or sys.maxsize)


def is_run(folder):
    """Return whether what is in a folder was left by a run, damaged perhaps."""
    if checkpoints(folder) and os.path.exists(os.path.join(folder, 'vocabulary.json')):
        return True
    with contextlib.suppress(UserError):
        return 'text_crc' in files.read_json(os.path.join(folder, 'settings.json'))
    return False


def read_record(folder):
    """Return what is known of a run in a folder, dict: its settings, text_crc, unseen, workers.

    And num_batches, how many an epoch has, unless it is of an earlier version.

    What it has besides, a setting of a later version perhaps, is left out.

    Raises:
      UserError: it cannot be read, or something is missing or wrong.
    """
    record = _read(folder, 'settings.json', dict)
    besides = dict.fromkeys(['text_crc', 'workers', 'num_batches'], (0, sys.maxsize))
    known = {**RANGES, **besides}
    unseen = record.get('unseen', [])  # earlier versions did not write it
    record = {name: value for name, value in record.items() if name in known}
    missing = {*NEEDED, 'text_file', 'text_crc', 'workers'} - set(record)
    are_ids = isinstance(unseen, list) and all(type(ix) is int and ix >= 0 for ix in unseen)
    faults = [find_fault(name, value, known[name]) for name, value in record.items()]
    if missing or any(faults) or not are_ids:
        raise UserError(f'the settings in {folder} are damaged. Train anew, with --restart')
    return {**record, 'unseen': unseen}


def read_vocabulary(folder, unknown):
    """Return the vocabulary of the run in a folder, a list of str.

    All are different; the first is `unknown`, str, and each other one a character.

    Raises:
      UserError: it cannot be read, or is another list.
    """
    ix2vocab = _read(folder, 'vocabulary.json', list)
    are_characters = all(isinstance(one, str) and len(one) == 1 for one in ix2vocab[1:])
    if ix2vocab[:1] != [unknown] or not are_characters or len(set(ix2vocab)) < len(ix2vocab):
        raise UserError(f'the vocabulary in {folder} is damaged. Train anew, with --restart')
    return ix2vocab


def _read(folder, name, kind):
    try:
        return files.read_json(os.path.join(folder, name), kind)
    except UserError as error:
        raise UserError(f'{error}. Train anew, with --restart')


def keep_record(settings, ix2vocab, text):
    """Write what others need to know of a run: its vocabulary, its settings, its text (a dict)."""
    if workers.is_first():
        record = {**vars(settings), **text, 'workers': workers.count()}
        files.write_json(os.path.join(settings.temp_dir, 'settings.json'), record)
        files.write_json(os.path.join(settings.temp_dir, 'vocabulary.json'), ix2vocab)
