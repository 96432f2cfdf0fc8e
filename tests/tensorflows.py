"""TensorFlow 1.15 and a 2.x: each can use what the other has learned, saved and exported.

`make test-both` names the two Pythons in ONE and TWO.
"""

import csv
import io
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT, SCRIPT, history

PYTHONS = {name: os.environ[name] for name in ('ONE', 'TWO')}
RUN = ['--gutenberg_url=none', f'--data_dir={ROOT / "data"}', '--save_every=100']
BOTH_WAYS = pytest.mark.parametrize('first, then', [('ONE', 'TWO'), ('TWO', 'ONE')])


def call(name, *arguments, is_ours=True):
    """Run a Python in the project folder; return its output. Our programs print no errors."""
    result = subprocess.run(
        [PYTHONS[name], *map(str, arguments)], check=False, cwd=str(ROOT),
        env={**os.environ, 'MPLBACKEND': 'Agg'}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not is_ours or result.stderr == ''
    return result.stdout


def losses(folder):
    return np.array(history(folder)['losses'])


@pytest.fixture(scope='session')
def runs(tmp_path_factory):
    """The folders of runs of 200 iterations at the default settings: a dict from ONE and TWO."""
    folders = {name: tmp_path_factory.mktemp(name) for name in PYTHONS}
    for name, folder in folders.items():
        call(name, SCRIPT, *RUN, f'--temp_dir={folder}', '--max_iterations=200')
    return folders


def test_both_start_with_the_same_weights_and_learn_the_same(runs):
    version = '-c', 'from backstage import tf; print(tf.__version__)'
    assert call('ONE', *version).startswith('1.15') and call('TWO', *version).startswith('2.')
    one, two = (losses(folder) for folder in runs.values())
    assert len(one) == len(two) == 200
    assert one[0] == pytest.approx(two[0], abs=1e-6)
    np.testing.assert_allclose(one, two, atol=1e-3)


@BOTH_WAYS
def test_a_checkpoint_has_the_same_loss_on_both(runs, first, then):
    tables = [
        call(name, '-m', 'tools.evaluate', f'--temp_dir={runs[first]}', '--csv', is_ours=False)
        for name in (first, then)
    ]
    found = [float(next(csv.DictReader(io.StringIO(table)))['nats']) for table in tables]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0] < 2


@BOTH_WAYS
def test_a_run_resumes_and_samples_on_the_other(runs, first, then, tmp_path):
    folder = tmp_path / 'temp'
    shutil.copytree(str(runs[first]), str(folder))
    run = [SCRIPT, *RUN, f'--temp_dir={folder}', '--max_iterations=300']
    assert 'Resuming after iteration 200' in call(then, *run)
    went_on = losses(folder)
    np.testing.assert_array_equal(went_on[:200], losses(runs[first]))
    assert np.isfinite(went_on).all() and len(went_on) == 300
    assert went_on[200:].mean() < went_on[150:200].mean()
    prime = '-m', 'tools.sample', f'--temp_dir={folder}', '--prime_text=my lord', '--temperature=0'
    assert call(first, *prime) == call(then, *prime)


@BOTH_WAYS
def test_an_export_loads_on_the_other(runs, first, then, tmp_path):
    folder = tmp_path / 'model' / '1'
    call(first, '-m', 'tools.export', f'--temp_dir={runs[first]}', f'--folder={folder}')
    prime = [[5, 6, 7]]
    answers = [
        json.loads(call(name, '-c', LOADER[name], folder, prime, is_ours=False))
        for name in (first, then)
    ]
    drawn, likely = zip(*answers)
    assert drawn[0] == drawn[1]
    assert len(drawn[0][0]) == 30
    np.testing.assert_allclose(*likely, atol=1e-5)
    assert np.shape(likely) == (2, 3, 40)


LOADER = {
    'ONE': """
import json, sys, numpy as np, tensorflow as tf
generate, step = (
    tf.contrib.predictor.from_saved_model(sys.argv[1], name) for name in ('generate', 'step')
)
prime = json.loads(sys.argv[2])
drawn = generate({'prime': prime, 'num': 30, 'temperature': 1e-3, 'seed': [1, 2]})['ids']
likely = step({'ids': prime[0], 'state': np.zeros([3, 2, 3, 128])})['probabilities']
print(json.dumps([drawn.tolist(), likely.tolist()]))
""",
    'TWO': """
import json, sys, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
prime = json.loads(sys.argv[2])
inputs = {'prime': prime, 'num': 30, 'temperature': 1e-3, 'seed': [1, 2]}
drawn = signatures['generate'](**{name: tf.constant(value) for name, value in inputs.items()})
likely = signatures['step'](ids=tf.constant(prime[0]), state=tf.zeros([3, 2, 3, 128]))
print(json.dumps([drawn['ids'].numpy().tolist(), likely['probabilities'].numpy().tolist()]))
""",
}
