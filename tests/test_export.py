"""tools.export: a model for programs that do not know this project."""

import json
import re
import subprocess
import sys
import textwrap

from backstage import numbers_of, tf
from tools import export

import numpy as np
import pytest
from conftest import IX2VOCAB, ROOT, Stack, log_softmax, lstm_logits, read_lstm, script

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


def test_an_export_gives_the_same_results_without_this_project(trained, tmp_path, use):
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
    # A text is the same alone or beside others. Another prime text or seed gives another text.
    (alone,) = texts['alone']
    assert texts['twice'][0] == texts['first'][0] == texts['last'][1] == alone
    others = [texts['twice'][1], texts['first'][1], texts['with another seed'][0]]
    for text in others:
        assert sum(a == b for a, b in zip(text[-20:], alone[-20:])) < 15


def test_a_failed_export_leaves_no_folder(trained, tmp_path, use, monkeypatch):
    monkeypatch.setattr(export, 'signatures_of', lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.main([f'--folder={tmp_path}/model/1', f'--temp_dir={trained.temp}'])
    assert list((tmp_path / 'model').iterdir()) == []


def probabilities_of(folder, ids):
    """Return what the signature `probabilities` returns for ids, integers [streams, time]."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = tf.saved_model.load(session, [tf.saved_model.SERVING], str(folder))
        signature = model.signature_def['probabilities']
        inputs = {'ids': ids, 'initial_state': np.zeros([3, 2, len(ids), 16])}
        feed = {signature.inputs[name].name: value for name, value in inputs.items()}
        return session.run(signature.outputs['probabilities'].name, feed)


@pytest.mark.parametrize('num_layers, residual', [(1, True), (2, False), (3, True)])
def test_steps_match_whole_texts_and_never_draw_unseen_characters(num_layers, residual):
    stack = Stack(num_layers, unseen=[2, 4], residual=residual)
    with stack.graph.as_default():
        signatures = export.signatures_of(stack.reader)

    def call(name, **inputs):
        signature = signatures[name]
        outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
        feed = {signature.inputs[key].name: value for key, value in inputs.items()}
        return stack.session.run(outputs, feed)

    whole = call('probabilities', ids=stack.x, initial_state=stack.state)
    logits, _ = lstm_logits(read_lstm(stack.values(), residual), stack.x, stack.state)
    logits[..., [0, 2, 4]] = -np.inf
    to_draw = np.exp(log_softmax(logits))
    state = stack.state
    for time, ids in enumerate(stack.x.T):
        answer = call('step', ids=ids, state=state)
        state, expected = answer['state'], whole['probabilities'][:, time]
        np.testing.assert_allclose(answer['probabilities'], expected, atol=1e-6)
        np.testing.assert_allclose(answer['to_draw'], to_draw[:, time], atol=1e-6)
        assert not answer['to_draw'][:, [0, 2, 4]].any()
    np.testing.assert_allclose(state, whole['final_state'], atol=1e-6)


# --- Other runtimes: the code in docs/tools.md ----------------------------------------------------

PAGE = (ROOT / 'docs' / 'tools.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'(?:^    .*\n)+', PAGE, re.MULTILINE)

# Reads several texts in parallel, one character at a time.
READ = """
import sys
assert 'tensorflow' not in sys.modules
ids, found = np.load('ids.npy'), []
state = np.zeros([3, 2, len(ids), 16], np.float32)
for column in ids.T:
    answer = step(ids=column, state=state)
    state = answer['state']
    found.append([answer['probabilities'], answer['to_draw']])
np.save('found.npy', np.stack(found, axis=2))
"""


def block(word):
    """Return the code block of docs/tools.md that contains a word, without its indentation."""
    (found,) = [block for block in BLOCKS if word in block]
    return textwrap.dedent(found)


@pytest.mark.long
@pytest.mark.skipif(numbers_of(tf.__version__) < (2, 21), reason='shown for 2.21')
@pytest.mark.parametrize(
    'convert, read',
    [
        ([sys.executable, '-c', block('TFLiteConverter')], block('Interpreter')),
        ([sys.executable, *block('tf2onnx').split()[1:]], block('InferenceSession')),
    ],
    ids=['TensorFlow Lite', 'ONNX'],
)
def test_the_code_in_readme_matches_tensorflow_without_importing_it(
    trained, tmp_path, use, convert, read
):
    folder = tmp_path / 'serving' / 'shakespeare' / '1'
    assert use(export, trained, f'--folder={folder}')[0] == 0
    ids = np.random.RandomState(0).randint(len(IX2VOCAB), size=(5, 300)).astype(np.int32)
    np.save(str(tmp_path / 'ids.npy'), ids)
    draw = block('random.choice')
    assert draw.count('128') == 1
    code = read + draw.replace('128', '16') + READ
    for command in convert, [sys.executable, '-c', code]:
        result = subprocess.run(
            command, check=False, cwd=str(tmp_path), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    text = result.stdout[:-1]
    assert text.startswith('thou art more') and len(text) == 101
    found, to_draw = np.load(str(tmp_path / 'found.npy'))
    np.testing.assert_allclose(found, probabilities_of(folder, ids), rtol=0, atol=1e-5)
    # The text that was learned has no digits.
    never = [0, *(ix for ix, character in enumerate(IX2VOCAB) if character.isdigit())]
    assert not to_draw[..., never].any()
