"""A trained model, opened: what the other tools begin with."""

import argparse
import contextlib
import math
import os
import re
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import folder, lstm, machine, reading, saving, tf, workers
from backstage.report import shown
from backstage.running import one_line
from backstage.settings import UserError, read_settings

import numpy as np

# --- The model -----------------------------------------------------------------------------------

# What a record of an earlier version lacks. Its model may draw what it has never read.
LACKING = {'unseen': [0], 'num_batches': None, 'run_id': None}


def read_run(temp_dir):
    """Return the settings of a run in a folder, with what else its record has, and its vocabulary.

    Raises:
      UserError: there is no run, or what is there is damaged.
    """
    if not os.path.lexists(os.path.join(temp_dir, 'settings.json')):
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    record = {**LACKING, **folder.read_record(temp_dir)}
    ix2vocab = folder.read_vocabulary(temp_dir, script.UNKNOWN, record)
    if not {0, *record['unseen']} < set(range(len(ix2vocab))):  # something is left to be drawn
        raise UserError(f'the settings in {temp_dir} do not go with its vocabulary. Give another')
    defaults = vars(read_settings(vars(script), []))
    run = argparse.Namespace(**{**defaults, **record, 'temp_dir': temp_dir})
    copy = os.path.join(temp_dir, 'text.txt')  # what came through a pipe moves with its run
    if os.path.basename(run.text_file) == 'text.txt' and os.path.exists(copy):
        run.text_file = copy
    return run, ix2vocab


@contextlib.contextmanager
def opened(settings, top_k=0):
    """Open the trained model that the settings of a tool name: `temp_dir`, `checkpoint`, `device`.

    Args:
      top_k: int, as `LSTM_Model` takes it.

    Yields:
      The session, with the averaged weights restored; the sampler; the vocabulary; the settings of
      the run that it is from; the path of the checkpoint.

    Raises:
      UserError: there is no such model, or it cannot be read.
    """
    if workers.is_launched():
        raise UserError('only training is shared among workers. Start this without horovodrun')
    run_settings, ix2vocab = read_run(settings.temp_dir)
    machine.check_device(settings.device)
    chosen = path_of(settings.checkpoint)
    check_fit(run_settings, ix2vocab, chosen)
    with machine.new_graph() as graph:
        with tf.variable_scope('lstm_model'):
            how = {'infer_sample': True, 'unseen': run_settings.unseen, 'top_k': top_k}
            sampler = script.LSTM_Model(run_settings, len(ix2vocab), **how)
        averages = tf.train.ExponentialMovingAverage(run_settings.average_decay)
        weights = {f'lstm_model/{n}': w for n, w in averages.variables_to_restore().items()}
    shapes = {name: weight.shape.as_list() for name, weight in weights.items()}
    path, values = read_weights(run_settings, chosen, shapes)
    config = machine.session_config(run_settings.threads_per_operation, settings.device)
    with tf.Session(graph=graph, config=config) as session:
        for name, weight in weights.items():
            weight.load(values[name], session)
        yield session, sampler, ix2vocab, run_settings, path


def path_of(checkpoint):
    """Return the path of the checkpoint that is chosen, without its ending; '' if none is.

    Raises:
      UserError: it is not there.
    """
    path = os.path.normpath(re.sub(r'\.(index|data-[0-9]+-of-[0-9]+)$', '', checkpoint))
    if checkpoint and not os.path.exists(f'{path}.index'):
        raise UserError(f'there is no checkpoint {path}. Give another with --checkpoint')
    return path if checkpoint else ''


def check_fit(run, ix2vocab, chosen):
    """Raise UserError if a record is not of its model. To build its graph could take minutes.

    `chosen` is the path of a checkpoint, or empty.
    """
    for path in [chosen] if chosen else reversed(folder.checkpoints(run.temp_dir)):
        with contextlib.suppress(*folder.unreadable()):
            _, found = folder.open_checkpoint(path, run.run_id)
            layers = sum(name.endswith('/ExponentialMovingAverage') for name in found)
            sizes = {
                'W': [run.rnn_size, len(ix2vocab)],
                'embedding_mat': [len(ix2vocab), run.embedding_size],
            }
            are_others = any(found.get(f'lstm_model/{n}') != size for n, size in sizes.items())
            if run.num_layers > layers or are_others:
                raise UserError(
                    f'the settings in {run.temp_dir} are not those of {path}. Give the folder of '
                    f'another run'
                )
            return


def read_weights(run, chosen, shapes):
    """Return the path and the variables of a checkpoint, or else of the best that can be read.

    Raises:
      UserError: it cannot be read.
    """
    if not chosen:
        return saving.read_newest(run.temp_dir, shapes, run.run_id, True, log=sys.stderr)
    try:
        return chosen, saving.read_checkpoint(chosen, shapes, run.run_id)
    except folder.unreadable() as error:
        raise UserError(
            f'{chosen} cannot be used: {one_line(error)}. Give another with --checkpoint'
        )


@contextlib.contextmanager
def untrained(run_settings, vocab_size, device):
    """Open the model of a run as it was before training, with the weights that its seed gives.

    Yields:
      The session and the sampler.
    """
    with machine.new_graph() as graph:
        tf.set_random_seed(run_settings.seed)
        with tf.variable_scope('lstm_model', custom_getter=lstm.weights_by_name):
            sampler = script.LSTM_Model(run_settings, vocab_size, infer_sample=True)
        begin = tf.global_variables_initializer()
    config = machine.session_config(run_settings.threads_per_operation, device)
    with tf.Session(graph=graph, config=config) as session:
        session.run(begin)
        yield session, sampler


# --- Its text ------------------------------------------------------------------------------------


def own_ids(run, ix2vocab):
    """Return the text that a run has learned, ids [characters], and what to call it.

    Nothing is downloaded, and no pipe is opened: somebody else may have written the record.

    Raises:
      UserError: the text is not there any more.
    """
    ids = read_ids(run, reading.id_type(ix2vocab))
    if ids is None:
        _, ids = own_text(run, ix2vocab, ids_path(run))
    return ids, shown(run.text_file or 'the works of Shakespeare', sys.stdout)


def ids_path(run):
    return os.path.join(run.temp_dir, 'text.ids')


def read_ids(run, id_type, most=math.inf):
    """Return what text.ids of a run holds, Ids; None if that is not what the run has learned.

    A file of more than `most` bytes is not read, nor one of a size that does not go with the run.
    """
    path = ids_path(run)
    with contextlib.suppress(OSError, ValueError):  # it is not there, or ends within an id
        size = os.path.getsize(path)
        split = script.held_out_begin(size // id_type.itemsize, run.held_out)
        num_batches = script.batches_per_epoch(split, run.batch_size, run.training_seq_len)
        is_size = num_batches == (run.num_batches or num_batches)
        if os.path.isfile(path) and size <= most and is_size:
            ids = reading.Ids(path, id_type)
            if zlib.crc32(ids[:]) == run.text_crc:
                return ids
    return None


def own_text(run, ix2vocab, *tried):
    """Return the path of the text that a run has learned, and its ids, a memmap [characters].

    It is the file that the record names; for the works of Shakespeare, that or our own copy.

    Args:
      tried: str, where the text was looked for before.

    Raises:
      UserError: the text is not there any more.
    """
    copies = [os.path.join(each, 'shakespeare.txt') for each in (run.data_dir, script.data_dir)]
    paths = [run.text_file] if run.text_file else list(dict.fromkeys(copies))
    for path in paths:
        with contextlib.suppress(OSError, UserError):  # it is not there, or is no text
            # Some files of a size of 0, in /proc, never end.
            if os.path.isfile(path) and os.path.getsize(path):
                ids, crc = encode_file(path, run, ix2vocab)
                if crc == run.text_crc:
                    return path, ids
    places = shown(' or '.join([*tried, *paths]), sys.stderr)
    raise UserError(
        f'the text that this model has learned is not in {places}. Give it, or another one, with '
        f'--text_file'
    )


def encode_file(path, run, ix2vocab, seen=None):
    """Return a text as a run reads it, ids [characters], and their CRC-32.

    Raises:
      UserError: it cannot be read, or is no text.
    """
    id_type = reading.id_type(ix2vocab)
    with tempfile.TemporaryFile() as file:
        counts, crc = script.encode_text(path, run.clean_text, ix2vocab, file, seen)
        file.flush()
        ids = np.memmap(file, id_type, 'r') if counts.any() else np.zeros(0, id_type)
    return ids, crc


if __name__ == '__main__':
    print('trained.py: no program of its own, as sample.py beside it is.', file=sys.stderr)
    sys.exit(2)
