"""tools.export: a model for programs that know nothing of this one."""

import json
import subprocess
import sys

from tools import export

import numpy as np
import pytest
from conftest import IX2VOCAB, log_softmax, lstm_logits, script

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')

LOADER = """
import json, sys
import numpy as np
import tensorflow.compat.v1 as tf
prime, num = json.loads(sys.argv[2]), 40
with tf.Graph().as_default(), tf.Session() as session:
    model = tf.saved_model.load(session, [tf.saved_model.SERVING], sys.argv[1])
    def call(name, inputs):
        signature = model.signature_def[name]
        outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
        return session.run(outputs, {signature.inputs[key].name: inputs[key] for key in inputs})
    state = np.zeros([3, 2, 1, 16])
    for id in prime[0]:
        answer = call('probabilities', {'ids': [[id]], 'initial_state': state})
        state = answer['final_state']
    inputs = {'prime': prime, 'num': num, 'temperature': 1e-3, 'seed': [1, 2]}
    drawn = call('generate', inputs)['ids']
    assert call('serving_default', inputs)['ids'].tolist() == drawn.tolist()
    def generate(*primes, seed=(1, 2)):
        inputs = {'prime': primes, 'num': num, 'temperature': 1.0, 'seed': seed}
        return call('generate', inputs)['ids'].tolist()
    one, other = prime[0], prime[0][::-1]
    texts = {'alone': generate(one), 'twice': generate(one, one), 'first': generate(one, other)}
    texts.update({'last': generate(other, one), 'with another seed': generate(one, seed=(1, 3))})
print(json.dumps([answer['probabilities'].tolist(), drawn.tolist(), texts]))
"""


def test_an_export_gives_the_same_in_a_process_that_knows_nothing_of_this_project(
    trained, tmp_path, use
):
    folder = tmp_path / 'model' / '1'
    status, output, errors = use(export, trained, f'--folder={folder}')
    assert (status, errors) == (0, '')
    assert output == f'Model: {trained.best}\nThe SavedModel is {folder}\n'
    vocabulary = json.loads((folder / 'assets' / 'vocabulary.json').read_text())
    assert vocabulary == IX2VOCAB
    prime = [[vocabulary.index(character) for character in 'the king']]
    result = subprocess.run(
        [sys.executable, '-c', LOADER, str(folder), json.dumps(prime)],
        check=True, cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    probabilities, drawn, texts = json.loads(result.stdout)
    logits, _ = lstm_logits(trained.lstm(trained.best), np.array(prime), np.zeros((3, 2, 1, 16)))
    np.testing.assert_allclose(probabilities[0][0], np.exp(log_softmax(logits[0, -1])), atol=1e-5)
    expected = trained.likeliest(trained.best, 'the king', 40)
    assert 'the king' + script.decode(drawn[0], IX2VOCAB) == expected
    # A text is the same alone and beside another; what begins otherwise ends otherwise.
    (alone,) = texts['alone']
    assert texts['twice'][0] == texts['first'][0] == texts['last'][1] == alone
    others = [texts['twice'][1], texts['first'][1], texts['with another seed'][0]]
    for text in others:
        assert sum(a == b for a, b in zip(text[-20:], alone[-20:])) < 15


def test_an_export_that_does_not_succeed_leaves_no_folder(trained, tmp_path, use, monkeypatch):
    monkeypatch.setattr(export, 'signatures_of', lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.main([f'--folder={tmp_path}/model/1', f'--temp_dir={trained.temp}'])
    assert list((tmp_path / 'model').iterdir()) == []
