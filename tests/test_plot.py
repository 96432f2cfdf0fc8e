"""tools.plot: the losses of one run, or of several, drawn from their histories."""

import shutil

from tools import plot

import pytest
from matplotlib.figure import Figure

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def test_the_history_gives_the_same_plot_as_training(copy, use):
    copy.temp.rename(copy.folder / 'other')
    picture = copy.folder / 'other' / 'loss.png'
    before = picture.read_bytes()
    picture.unlink()
    expected = (0, 'The plot is other/loss.png\n', '')
    assert use(plot, copy, '--temp_dir=other') == expected
    assert picture.read_bytes() == before


def test_several_runs_are_drawn_in_one_picture_even_in_a_new_folder(trained, tmp_path, use):
    name = '$1^$'  # matplotlib would read it as a formula, and fail
    shutil.copytree(str(trained.temp), str(tmp_path / name))
    folders = ('--folders', tmp_path / name, trained.temp)
    before = trained.content()
    expected = (0, 'The plot is temp/runs.png\n', '')
    assert use(plot, tmp_path, *folders) == expected
    picture = (tmp_path / 'temp' / 'runs.png').read_bytes()
    assert picture[:4] == b'\x89PNG'
    assert use(plot, tmp_path, *folders, '--temp_dir=here')[1] == 'The plot is here/runs.png\n'
    assert (tmp_path / 'here' / 'runs.png').read_bytes() == picture
    assert trained.content() == before


def test_each_of_several_runs_has_its_name_held_out_losses_and_colour():
    figure = Figure()
    runs = {'_one': ([3.0, 2.0], [(2, 2.5)]), 'two': ([3.0, 1.0], [(1, 2.0), (2, 1.5)])}
    plot.draw_runs(figure, runs)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['./_one', 'two', 'thin: in training']
    curves = {line.get_label(): line for line in axes.lines}
    assert curves['./_one'].get_xydata().tolist() == [[2, 2.5]]
    assert curves['two'].get_xydata().tolist() == [[1, 2.0], [2, 1.5]]
    assert curves['./_one'].get_color() != curves['two'].get_color()
    in_training = {line.get_color(): line.get_ydata() for line in axes.lines if line.get_alpha()}
    assert list(in_training[curves['two'].get_color()]) == [3.0, 1.0]


def test_a_history_without_losses_is_reported(copy, use):
    for history in '', '1,low,\n-1,2.0,\n9,2.0,\n1.0,2.0,\n', '\0' * 100:
        (copy.temp / 'history.csv').write_text(history)
        status, output, errors = use(plot, copy)
        assert (status, output, errors.count('\n')) == (2, '', 1)
        assert 'the history in temp has no losses. Use a different folder' in errors
