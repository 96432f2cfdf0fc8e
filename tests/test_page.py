"""tools.page: what it writes, and how it names units. tests/browser.py tests the page itself."""

import base64
import json
import re

from tools import page

import numpy as np
import pytest
from conftest import IX2VOCAB, encode, script

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def content(html):
    """Return the content of a page: the JSON in it, as a browser would find it."""
    (found,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', html)
    return json.loads(found)


def weights(shown):
    """Return the arrays that a page holds, as the browser scales them: a dict, float64."""
    kind = np.float32 if shown['fullPrecision'] else np.int16
    return {
        name: np.frombuffer(base64.b64decode(one['numbers']), kind) * np.float64(one['scale'])
        for name, one in shown['weights'].items()
    }


@pytest.mark.parametrize('more, error', [((), 0.5 / 32767), (('--full_precision',), 0)])
def test_the_page_holds_the_held_out_text_and_the_weights(trained, use, more, error):
    status, output, errors = use(page, trained, *more)
    assert (status, errors) == (0, '')
    path = trained.temp / 'page.html'
    shown = content(path.read_text(encoding='utf-8'))
    path.unlink()
    ids = encode(trained.folder / 'moved.txt', True, IX2VOCAB)
    ids = ids[int(len(ids) * 0.95) :]
    assert shown['text'] == script.decode(ids, IX2VOCAB)
    assert (shown['layers'], shown['units'], shown['residual']) == (3, 16, True)
    lstm, found = trained.lstm(trained.best), weights(shown)
    expected = {'embedding': lstm.embedding, 'W': lstm.W.T, 'b': lstm.b}
    for layer, (kernel, bias) in enumerate(zip(lstm.kernels, lstm.biases)):
        expected[f'kernel{layer}'] = np.stack(np.split(kernel, 4, axis=1), axis=2).swapaxes(0, 1)
        expected[f'bias{layer}'] = np.stack(np.split(bias, 4), axis=1)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        most = 1.01 * error * np.abs(array).max()
        np.testing.assert_allclose(found[name], array.ravel(), rtol=0, atol=most, err_msg=name)
    named = [
        f'Layer {layer + 1}, unit {unit + 1}: {what} (r = {r:.2f})'
        for what, layer, unit, r in shown['named']
    ]
    text = f'Text: {len(ids)} characters of the held-out part of short.txt'
    lines = [f'Model: {trained.best}', text, *named, 'The page is temp/page.html']
    assert output.splitlines() == lines and named


PASSAGES = [
    ("it's a-b", 'inside a word', '11110111'),
    ("it's a-b", 'the first letter of a word', '10000100'),
    ('a “be c" d', 'after a quote', '0001100000'),
    ("it's a-b", 'position in the word', '12340123'),
    ('Oh, é 12.', 'a vowel', '100000000'),
    ('Oh, É 12.', 'a capital letter', '100010000'),
    ('Oh, é 12.', 'a digit', '000000110'),
    ('Oh, é 12.', 'punctuation', '001000001'),
    ('a “b” "c\n\nd', 'inside quotes', '00111011000'),  # the last quote is never closed
    ('a (b (c) d) [e', 'inside brackets', '00111111111011'),
    ('a\n  b  c', 'the indentation of a line', '00110000'),
    ('a\n\nbc\nd', 'the first line after an empty one', '0001100'),
    ('ab\ncde', 'position in the line', '120123'),
    ('A b. C', 'position in the sentence', '123012'),
]


def test_each_feature_is_found_where_a_reader_would_find_it(monkeypatch):
    monkeypatch.setattr(page, 'PASSAGES', 1)
    for text, name, expected in PASSAGES:
        found = page.features_of(text)[name]
        assert ''.join(str(int(value)) for value in found) == expected, (text, name)
    assert {name for _, name, _ in PASSAGES} == {
        *page.INSIDE,
        *page.POSITION,
    }  # every feature is tried


def test_rare_and_constant_features_are_left_out():
    assert 'a digit' not in page.features_of('no 1 ' * 19)
    assert 'a digit' in page.features_of('no 1 ' * 20)
    assert page.features_of('a' * 100) == {}  # all vowels: the feature is constant


def test_correlations_are_pearsons():
    random = np.random.RandomState(0)
    values, activations = random.normal(size=500), random.normal(size=(500, 2, 3))
    activations[:, 1] += values[:, None]
    activations[:, 0, 2] = 0.3  # a constant unit
    r = page.correlations(values, activations)
    for layer, unit in np.ndindex(2, 3):
        expected = np.corrcoef(values, activations[:, layer, unit])[0, 1]
        assert r[layer, unit] == pytest.approx(0 if (layer, unit) == (0, 2) else expected)


def test_units_are_named_for_the_feature_they_follow_and_noise_is_not():
    text = 'Some words, and "a few quoted" ones (and others).\n' * 60
    features = page.features_of(text)
    random = np.random.RandomState(0)
    activations = np.tanh(random.normal(size=(len(text), 2, 64)).cumsum(axis=0) / 9)  # slow noise
    before = activations[:, ::-1].copy()
    assert page.named_units(features, activations, before) == []
    assert page.named_units({}, activations, before) == []
    noise = 0.1 * random.normal(size=(3, len(text)))
    activations[:, 1, 7] = features['inside quotes'] + 4 * noise[0]
    activations[:, 0, 5] = noise[1] - features['inside quotes']
    activations[:, 1, 3] = features['position in the line'] / 100 + noise[2] / 50
    named = page.named_units(features, activations, before)
    assert [(what, layer, unit) for what, layer, unit, _ in named] == [
        ('position in the line', 1, 3), ('inside quotes', 0, 5), ('inside quotes', 1, 7),
    ]  # fmt: skip
    assert named[0][3] > 0.99 and named[1][3] < -0.9 and 0.5 < named[2][3] < 0.9
    activations[:, 0] = features['inside quotes'][:, None] + 0.1 * random.normal(size=(1, 64))
    named = page.named_units(features, activations, before)
    assert [what for what, *_ in named].count('inside quotes') == page.AT_MOST


def test_units_are_not_named_for_what_they_did_before_training():
    features = page.features_of('Some words of a line.\n' * 60)
    values = features['inside a word'][:, None]
    noise = np.random.RandomState(0).normal(size=(1320, 1, 2))
    before, activations = noise.copy(), noise + 3.1 * values[:, None] * [[1, 3]]
    before[:, 0] -= 3 * values  # r is about -0.8
    (found,) = page.named_units(features, activations, before)
    assert found[:3] == ('inside a word', 0, 1)
    both = page.named_units(features, activations, noise)
    assert [unit for what, _, unit, _ in both if what == 'inside a word'] == [1, 0]


def test_no_text_breaks_out_of_the_page_and_the_page_loads_nothing():
    text = '</script><!-- <script> \u2028 CONTENT é \ufffd'
    html = page.fill({'name': text})
    assert content(html)['name'] == text
    assert html.count('</script>') == 2 and html.count('<!--') == page.fill({}).count('<!--')
    assert not re.search(r'https?:|//\w|src=|@import|url\(', html)
    assert re.findall(r'href="([^"]*)"', html) == ['data:,']
    assert "default-src 'none'" in html


def test_a_model_too_large_for_a_browser_is_refused(trained, use, monkeypatch):
    monkeypatch.setattr(page, 'MOST', 10_000)
    status, _, errors = use(page, trained)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'page.py: a page with this model would take' in errors
    assert not (trained.temp / 'page.html').exists()


def test_without_the_text_of_the_run_it_asks_for_one(copy, use):
    path = copy.temp / 'text.ids'
    for left in path.read_bytes()[:-1], b'', None:
        path.write_bytes(left) if left is not None else path.unlink()
        status, _, errors = use(page, copy, '--characters=50')
        assert (status, errors.count('\n')) == (2, 1)
        assert 'was trained on is not in temp/text.ids or short.txt. Set text_file' in errors
    assert use(page, copy, '--text_file=moved.txt', '--characters=50')[0] == 0
    shown = content((copy.temp / 'page.html').read_text(encoding='utf-8'))
    ids = encode(copy.folder / 'moved.txt', True, IX2VOCAB)[:50]
    assert shown['text'] == script.decode(ids, IX2VOCAB)
