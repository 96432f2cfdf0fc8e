"""A trained model, opened: what the other tools begin with."""

import argparse
import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import lstm, machine, records, tf, workers
from backstage.running import one_line
from backstage.settings import UserError, read_settings


def read_run(temp_dir):
    """Return the settings of a run in a folder, with `text_crc`, `unseen`, and its vocabulary.

    Raises:
      UserError: there is no run, or what is there is damaged.
    """
    if not os.path.lexists(os.path.join(temp_dir, 'settings.json')):
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    record = records.read_record(temp_dir)
    ix2vocab = records.read_vocabulary(temp_dir, script.UNKNOWN)
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
        weights = averages.variables_to_restore()
        saver = tf.train.Saver({f'lstm_model/{name}': w for name, w in weights.items()})
    config = machine.session_config(run_settings.threads_per_operation, settings.device)
    with tf.Session(graph=graph, config=config) as session:
        path = restore(session, saver, settings.temp_dir, settings.checkpoint)
        there = weights
        with contextlib.suppress(*records.unreadable()):  # a run going on may have replaced it
            there = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        if sum(name.endswith('/ExponentialMovingAverage') for name in there) > len(weights):
            raise UserError(f'{path} has more layers than num_layers in {settings.temp_dir} says')
        yield session, sampler, ix2vocab, run_settings, path


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


def restore(session, saver, temp_dir, checkpoint=''):
    """Restore a checkpoint, or else the best one of the run in a folder; return its path.

    Raises:
      UserError: there is none that can be read.
    """
    chosen = re.sub(r'\.(index|data-\S*)$', '', checkpoint)
    best = os.path.join(temp_dir, 'best')
    for _ in range(5):  # a run that is going on may replace a checkpoint before it is read here
        problems = []
        own = records.checkpoints(temp_dir) + records.checkpoints(best)
        for path in reversed([chosen] if chosen else own):
            try:
                saver.restore(session, path)
            except records.unreadable() as error:
                problems.append(f'{path} cannot be used: {one_line(error)}')
                if not os.path.lexists(f'{path}.index'):
                    break  # it has just been replaced: look again
            else:
                if problems:
                    print(f'{problems[-1]}. Using {path}', file=sys.stderr)
                return path
        time.sleep(0.1)  # seconds
    if chosen:
        there = os.path.exists(f'{chosen}.index')
        problem = problems[0] if there else f'there is no checkpoint {chosen}'
        raise UserError(f'{problem}. Give another with --checkpoint')
    if not own:
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    raise UserError(f'{problems[0]}. Nor can another one. Train anew, with --restart')


if __name__ == '__main__':
    print('trained.py: no program of its own, as sample.py beside it is.', file=sys.stderr)
    sys.exit(2)
