"""A trained model, opened: what the other tools begin with."""

import argparse
import contextlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import folder, lstm, machine, saving, tf, workers
from backstage.running import one_line
from backstage.settings import UserError, read_settings


def read_run(temp_dir):
    """Return the settings of a run in a folder, with `text_crc`, `unseen`, and its vocabulary.

    Raises:
      UserError: there is no run, or what is there is damaged.
    """
    if not os.path.lexists(os.path.join(temp_dir, 'settings.json')):
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    record = folder.read_record(temp_dir)
    ix2vocab = folder.read_vocabulary(temp_dir, script.UNKNOWN, record)
    if not {0, *record['unseen']} < set(range(len(ix2vocab))):  # something is left to be drawn
        raise UserError(f'the settings in {temp_dir} do not go with its vocabulary. Train anew')
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
    with machine.new_graph() as graph:
        with tf.variable_scope('lstm_model'):
            how = {'infer_sample': True, 'unseen': run_settings.unseen, 'top_k': top_k}
            sampler = script.LSTM_Model(run_settings, len(ix2vocab), **how)
        averages = tf.train.ExponentialMovingAverage(run_settings.average_decay)
        weights = {f'lstm_model/{n}': w for n, w in averages.variables_to_restore().items()}
    shapes = {name: weight.shape.as_list() for name, weight in weights.items()}
    run_id = getattr(run_settings, 'run_id', None)
    path, values = read_weights(settings.temp_dir, settings.checkpoint, shapes, run_id)
    config = machine.session_config(run_settings.threads_per_operation, settings.device)
    with tf.Session(graph=graph, config=config) as session:
        for name, weight in weights.items():
            weight.load(values[name], session)
        yield session, sampler, ix2vocab, run_settings, path


def read_weights(temp_dir, checkpoint, shapes, run_id):
    """Return the path and the variables of a checkpoint, or else of the best that can be read.

    Raises:
      UserError: it cannot be read.
    """
    if not checkpoint:
        return saving.read_newest(temp_dir, shapes, run_id, best_first=True, log=sys.stderr)
    path = re.sub(r'\.(index|data-\S*)$', '', checkpoint)
    if not os.path.exists(f'{path}.index'):
        raise UserError(f'there is no checkpoint {path}. Give another with --checkpoint')
    try:
        return path, saving.read_checkpoint(path, shapes, run_id)
    except saving.unreadable() as error:
        raise UserError(f'{path} cannot be used: {one_line(error)}. Give another with --checkpoint')


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


if __name__ == '__main__':
    print('trained.py: no program of its own, as sample.py beside it is.', file=sys.stderr)
    sys.exit(2)
