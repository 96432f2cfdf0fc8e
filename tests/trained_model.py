"""Fixtures for the tests of the tools: a small trained model, and a way to call a tool on it."""

import shutil

from backstage import running, tf

import matplotlib
import numpy as np
import pytest
from conftest import IX2VOCAB, SMALL, lstm_logits, read_lstm, run_script, script


class Trained:
    """A folder with a trained model, which NumPy can run too.

    Attributes:
      folder, temp: pathlib.Path, the folder of its text, and of its run.
      best, newest, older: str, its checkpoints, relative to `folder`.
    """

    def __init__(self, folder):
        self.folder, self.temp = folder, folder / 'temp'
        self.best, self.older, self.newest = (
            f'temp/{name}' for name in ('best/model-300', 'model-600', 'model-740')
        )

    def lstm(self, checkpoint):
        """Return the averaged weights of a checkpoint."""
        reader = tf.train.load_checkpoint(str(self.folder / checkpoint))
        suffix = '/ExponentialMovingAverage'
        names = [name for name in reader.get_variable_to_shape_map() if name.endswith(suffix)]
        return read_lstm({name[: -len(suffix)]: reader.get_tensor(name) for name in names})

    def likeliest(self, checkpoint, prime, length):
        """Return a clean text, continued by `length` characters, each the likeliest: str."""
        ids, lstm = script.encode(prime, IX2VOCAB, True), self.lstm(checkpoint)
        for _ in range(length):
            logits, _ = lstm_logits(lstm, ids, np.zeros((3, 2, 1, 16)))
            ids = np.append(ids, logits[:, -1:].argmax(axis=2), axis=1)
        return script.decode(ids[0], IX2VOCAB)

    def content(self):
        """Return the modification time and the bytes of each file: a dict from paths."""
        files = [path for path in self.folder.rglob('*') if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope='session')
def trained(tmp_path_factory, works):
    """A small trained model. Its text was short.txt, and is now moved.txt.

    The text is so short that the model overfits: its best checkpoint is not among the newest two.
    """
    trained = Trained(tmp_path_factory.mktemp('trained'))
    text = trained.folder / 'short.txt'
    text.write_bytes(works[2_000_000:2_004_000])
    arguments = (*SMALL, '--text_file=short.txt', '--epochs=20', '--save_every=300')
    arguments += ('--learning_rate=0.03', '--sample_length=1')  # so that losses differ enough
    assert run_script(*arguments, cwd=trained.folder)[::2] == (0, '')
    text.rename(trained.folder / 'moved.txt')
    found = {str(path.relative_to(trained.folder))[:-6] for path in trained.temp.rglob('*.index')}
    assert found == {trained.best, trained.older, trained.newest}
    return trained


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained model, for the test to damage."""
    shutil.copytree(str(trained.folder), str(tmp_path / 'copy'))
    return Trained(tmp_path / 'copy')


@pytest.fixture
def use(monkeypatch, capsys):
    """Return a function that calls a tool on a Trained, or in a folder.

    The function returns (exit status, standard output, standard error).
    """
    matplotlib.use('Agg')  # opens no window

    def use(tool, where, *arguments):
        monkeypatch.chdir(getattr(where, 'folder', where))
        status = running.run(tool.main, list(map(str, arguments)))
        return (status or 0, *capsys.readouterr())

    return use
