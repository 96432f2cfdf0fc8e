"""A run that begins with the weights of another (`init_from`), on another text perhaps.

(`tf.train.warm_start` wants a file with a symbol in each line, and a line end is a symbol here.)
"""

import os

from backstage import records, tf
from backstage.settings import UserError

LAYERS = ['num_layers', 'rnn_size', 'embedding_size', 'residual']


def check(settings):
    """Raise UserError if the model in `init_from` cannot be what a new run begins with."""
    folder = settings.init_from
    if not folder:
        return
    if not records.is_run(folder):
        raise UserError(f'there is no model in {folder}. Give init_from the temp_dir of a run')
    if os.path.realpath(folder) == os.path.realpath(settings.temp_dir):
        raise UserError(f'{folder} is where this run would be. Give it another temp_dir')
    try:
        theirs = records.read_record(folder)
    except UserError:
        raise UserError(f'the settings in {folder} are damaged. Give another init_from')
    others = [f'--{n}={theirs[n]!r}' for n in LAYERS if theirs[n] != getattr(settings, n)]
    if others:
        raise UserError(
            f'the model in {folder} has other layers: it has {" ".join(others)}. Give that, or '
            f'another init_from'
        )


def load(session, model, settings, ix2vocab):
    """Give a training model the weights of the best model in `init_from`: their averages.

    The rows and columns of characters that the other vocabulary does not have stay as they are.

    Raises:
      UserError: no checkpoint there, or not the vocabulary, can be read.
    """
    try:
        theirs = records.read_vocabulary(settings.init_from, ix2vocab[0])
    except UserError:
        raise UserError(
            f'the vocabulary in {settings.init_from} is damaged. Give another init_from'
        )
    variables = tf.trainable_variables()
    averages = [model.averages.average(variable) for variable in variables]
    path, learned = read_best(settings.init_from, [average.op.name for average in averages])
    own = [ix for ix, symbol in enumerate(ix2vocab) if symbol in theirs]
    other = [theirs.index(ix2vocab[ix]) for ix in own]
    for variable, average, values in zip(variables, averages, learned):
        weights = values
        if variable is model.embedding_mat or variable is model.b:
            weights = replaced(session.run(variable), own, values[other])
        elif variable is model.W:
            weights = replaced(session.run(variable).T, own, values.T[other]).T
        variable.load(weights, session)
        average.load(weights, session)
    print(f'Beginning with the weights of {path}')
    new = [symbol for symbol in ix2vocab if symbol not in theirs]
    if new:
        print(f'New to it: {len(new)} symbols, {"".join(new)!r}')


def replaced(rows, places, others):
    """Return an array in which other rows stand at some places."""
    rows = rows.copy()
    rows[places] = others
    return rows


def read_best(folder, names):
    """Return the path of the best checkpoint of a run that can be read, and arrays by their names.

    Raises:
      UserError: there is none.
    """
    own = records.checkpoints(folder) + records.checkpoints(os.path.join(folder, 'best'))
    for path in reversed(own):
        try:
            reader = tf.train.load_checkpoint(path)
            return path, [reader.get_tensor(name) for name in names]
        except records.unreadable():
            continue
    raise UserError(f'no checkpoint in {folder} can be read. Give another init_from')
