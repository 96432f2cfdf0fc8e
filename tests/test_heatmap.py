"""tools.heatmap: the picture of what a model expects at each character."""

from backstage import pictures
from tools import heatmap

import matplotlib.image
import numpy as np
import pytest
from conftest import IX2VOCAB, log_softmax, lstm_logits, script
from matplotlib.figure import Figure

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def test_the_picture_shows_the_probabilities_of_the_model(trained, use, monkeypatch):
    drawn = []
    draw = heatmap.draw_heatmap
    monkeypatch.setattr(heatmap, 'draw_heatmap', lambda *what: (drawn.append(what), draw(*what)))
    arguments = ('--text=To be, or not', '--show_plot=False')
    expected = f'Model: {trained.best}\nThe picture is temp/heatmap.png\n'
    assert use(heatmap, trained, *arguments) == (0, expected, '')
    picture = trained.temp / 'heatmap.png'
    shape = matplotlib.image.imread(str(picture)).shape
    assert shape[:2] == pytest.approx((1.95 * 120, 5.2 * 120), abs=1)  # a column for each character
    picture.unlink()
    ((_, ids, probabilities, ix2vocab),) = drawn
    assert script.decode(ids, ix2vocab) == 'to be or not'
    lstm = trained.lstm(trained.best)
    logits, _ = lstm_logits(lstm, ids[None, :-1], np.zeros((3, 2, 1, 16)))
    np.testing.assert_allclose(probabilities, np.exp(log_softmax(logits[0])), atol=1e-5)


def shades(axes):
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def letters(axes):
    """Return a dict from (column, row) to the character drawn there."""
    return {(t.get_position()[0], round(t.get_position()[1])): t.get_text() for t in axes.texts}


def test_the_first_row_is_the_text_and_the_likeliest_characters_are_below():
    figure = Figure()
    text = np.array([3, 1, 2, 1])
    probabilities = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.7, 0.05, 0.15, 0.1], [0.25, 0.3, 0.2, 0.25]], np.float32
    )
    heatmap.draw_heatmap(figure, text, probabilities, [script.UNKNOWN, ' ', 'b', 'c'])
    axes = figure.axes[0]
    np.testing.assert_allclose(shades(axes)[0, :4], [np.nan, 0.2, 0.15, 0.3])
    np.testing.assert_allclose(shades(axes)[1, :4], [np.nan, 0.4, 0.7, 0.3])
    there = letters(axes)
    assert [there[column, 0] for column in range(4)] == ['c', '\u2423', 'b', '\u2423']
    assert [there[column, 1] for column in range(1, 4)] == ['c', '\ufffd', '\u2423']


@pytest.mark.parametrize('characters', [12, 40, 41, 90])
def test_a_text_is_split_into_equal_lines_of_at_most_40_characters(characters):
    figure = Figure()
    text = np.arange(characters) % 39 + 1
    probabilities = np.random.RandomState(0).dirichlet(np.ones(40), size=characters - 1)
    heatmap.draw_heatmap(figure, text, probabilities, IX2VOCAB)
    *lines, _ = figure.axes  # the last one is the colour bar
    widths = {shades(axes).shape[1] for axes in lines}
    assert len(lines) == -(-characters // 40) and len(widths) == 1 and max(widths) <= 40
    own = np.concatenate([shades(axes)[0] for axes in lines])
    assert 0 <= len(own) - characters < len(lines)
    expected = probabilities[np.arange(characters - 1), text[1:]]
    np.testing.assert_allclose(own[1:characters], expected)
    assert np.isnan(own[[0, *range(characters, len(own))]]).all()
    for number, axes in enumerate(lines):
        assert letters(axes)[0, 0] == IX2VOCAB[text[number * max(widths)]].replace(' ', '\u2423')


def test_invisible_characters_are_drawn_as_symbols(tmp_path):
    figure = Figure()
    ix2vocab = [script.UNKNOWN, *' \n\t\a\x1b\x7f\x9b\u202eb\u6587']
    drawing = heatmap.draw_heatmap, np.arange(11), np.full([10, 11], 1 / 11), ix2vocab
    drawing[0](figure, *drawing[1:])
    there = letters(figure.axes[0])
    assert ''.join(there[column, 0] for column in range(11)) == '\ufffd␣↵⇥␇␛␡\ufffd\ufffdb\u6587'
    pictures.save(
        str(tmp_path / 'heatmap.png'), *drawing
    )  # no warning, although the font lacks some


def test_a_text_that_is_too_long_is_refused(trained, use):
    status, output, errors = use(heatmap, trained, '--text=' + 2001 * 'a')
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'between 2 and 2,000 characters that the model reads, got 2,001' in errors
