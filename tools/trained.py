"""Open a trained model and its text. The other tools import this module."""

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
from backstage import ROOT, first_line, folder, lstm, machine, reading, saving, tf, workers
from backstage.report import shown
from backstage.settings import UserError, read_settings

import numpy as np

# --- The model -----------------------------------------------------------------------------------


def read_run(temp_dir):
    """Return the settings and other entries of a run's record, and its vocabulary.

    Raises:
      UserError: there is no run in the folder, or it is damaged.
    """
    is_there = os.path.lexists(os.path.join(temp_dir, 'settings.json'))
    if not is_there and not folder.is_run(temp_dir):
        raise UserError(f'there is no model in {temp_dir}. {folder.TRAIN_FIRST}')
    record = folder.read_record(temp_dir)
    ix2vocab = folder.read_vocabulary(temp_dir, record)
    defaults = vars(read_settings(vars(script), []))
    run = argparse.Namespace(**{**defaults, **record, 'temp_dir': temp_dir})
    copy = os.path.join(temp_dir, 'text.txt')  # a text from a pipe moves with its run
    if os.path.basename(run.text_file) == 'text.txt' and os.path.exists(copy):
        run.text_file = copy
    return run, ix2vocab


@contextlib.contextmanager
def opened(settings, top_k=0):
    """Open a trained model, given the settings `temp_dir`, `checkpoint` and `device` of a tool.

    Args:
      top_k: int, as for `LSTM_Model`.

    Yields:
      The session, with the averaged weights restored; the sampler; the vocabulary; the settings of
      its run; the path of the checkpoint.

    Raises:
      UserError: the model does not exist or cannot be read.
    """
    if workers.is_launched():
        raise UserError('only training can use several workers. Start this without horovodrun')
    run_settings, ix2vocab = read_run(settings.temp_dir)
    machine.check_device(settings.device)
    chosen = path_of(settings.checkpoint)
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
    """Return the path of the chosen checkpoint without its extension; '' if none is chosen.

    Raises:
      UserError: the checkpoint does not exist.
    """
    path = os.path.normpath(re.sub(r'\.(index|data-[0-9]+-of-[0-9]+)$', '', checkpoint))
    if checkpoint and not os.path.exists(f'{path}.index'):
        raise UserError(f'there is no checkpoint {path}. Set checkpoint to another one')
    return path if checkpoint else ''


def read_weights(run, chosen, shapes):
    """Return the path and the variables of the chosen checkpoint, or else of the best readable one.

    Raises:
      UserError: it cannot be read.
    """
    if not chosen:
        return saving.read_newest(run.temp_dir, shapes, run.run_id, True, log=sys.stderr)
    try:
        return chosen, saving.read_checkpoint(chosen, shapes, run.run_id)
    except folder.unreadable() as error:
        raise UserError(
            f'{chosen} cannot be used: {first_line(error)}. Set checkpoint to another one'
        )


@contextlib.contextmanager
def untrained(run_settings, vocab_size, device):
    """Open the model of a run as it was before training, with the initial weights of its seed.

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
    """Return the text that a run was trained on, ids [characters], and its name.

    It downloads nothing and opens no pipe, because the record may come from someone else.

    Raises:
      UserError: the text no longer exists.
    """
    ids = read_ids(run, reading.id_type(ix2vocab))
    if ids is None:
        _, ids = own_text(run, ix2vocab, ids_path(run))
    return ids, shown(run.text_file or 'the works of Shakespeare', sys.stdout)


def ids_path(run):
    return os.path.join(run.temp_dir, 'text.ids')


def read_ids(run, id_type, most=math.inf):
    """Return the text.ids of a run, as Ids; None if it is not the text that the run was trained on.

    It does not read a file of more than `most` bytes, or of a size that does not match the run.
    """
    path = ids_path(run)
    with contextlib.suppress(OSError, ValueError):  # it is missing, or ends within an id
        size = os.path.getsize(path)
        split = script.held_out_begin(size // id_type.itemsize, run.held_out)
        num_batches = script.batches_per_epoch(split, run.batch_size, run.training_seq_len)
        if os.path.isfile(path) and size <= most and num_batches == run.num_batches:
            ids = reading.Ids(path, id_type)
            if zlib.crc32(ids[:]) == run.text_crc:
                return ids
    return None


def own_text(run, ix2vocab, *tried):
    """Return the path of the text that a run was trained on, and its ids, a memmap [characters].

    It is the file in the record. For the works of Shakespeare, our own copy will do too.

    Args:
      tried: str, paths that were tried before.

    Raises:
      UserError: the text no longer exists.
    """
    copies = [os.path.join(each, 'shakespeare.txt') for each in (run.data_dir, script.data_dir)]
    paths = [run.text_file] if run.text_file else list(dict.fromkeys(copies))
    # A tool may be started in another folder than the run.
    for path in [*paths, *(os.path.join(ROOT, path) for path in paths)]:
        with contextlib.suppress(OSError, UserError):  # it is missing, or is not text
            # Some files in /proc have size 0 and never end.
            if os.path.isfile(path) and os.path.getsize(path):
                ids, crc = encode_file(path, run, ix2vocab)
                if crc == run.text_crc:
                    return path, ids
    places = shown(' or '.join([*tried, *paths]), sys.stderr)
    raise UserError(
        f'the text that this model was trained on is not in {places}. Set text_file to it, or to '
        f'another text'
    )


def encode_file(path, run, ix2vocab, seen=None):
    """Return a text as a run reads it, ids [characters], and their CRC-32.

    Raises:
      UserError: the file cannot be read or is not text.
    """
    id_type = reading.id_type(ix2vocab)
    with tempfile.TemporaryFile() as file:
        counts, crc = script.encode_text(path, run.clean_text, ix2vocab, file, seen)
        file.flush()
        ids = np.memmap(file, id_type, 'r') if counts.any() else np.zeros(0, id_type)
    return ids, crc
