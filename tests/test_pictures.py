"""Pictures: a figure is saved whole or not at all, and shown where there is a display."""

from backstage import pictures, workers

import matplotlib
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from conftest import SMALL, content, run_script
from matplotlib import pyplot
from runs import ARGUMENTS, BEGUN, run_here

pytest_plugins = 'runs'


def draw_line(figure, values):
    figure.add_subplot(1, 1, 1).plot(values, label='line')


def test_a_picture_has_the_size_that_is_asked_for_and_shows_what_is_drawn(tmp_path):
    for name, draw in ('line', draw_line), ('nothing', lambda *_: None):
        pictures.save(str(tmp_path / name), draw, [1, 2], size=(4, 3))
    line, nothing = (
        matplotlib.image.imread(str(tmp_path / name), format='png') for name in ('line', 'nothing')
    )
    assert line.shape == nothing.shape == (360, 480, 4)
    assert (nothing == 1).all()
    assert not (line == 1).all()


def test_a_picture_that_cannot_be_drawn_leaves_the_one_before_it(tmp_path):
    path = tmp_path / 'loss.png'
    pictures.save(str(path), draw_line, [1, 2])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        pictures.save(str(path), lambda *_: 1 / 0)
    assert path.read_bytes() == before
    pictures.save(str(path), draw_line, [2, 1])
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_picture_cannot_be_written_that_is_told_and_no_more(tmp_path, capsys):
    pictures.save_if_possible(str(tmp_path / 'nowhere' / 'loss.png'), draw_line, [1, 2])
    assert 'The plot was not drawn: ' in capsys.readouterr().out


def test_a_run_comes_to_the_same_end_without_its_plot(folder, begun_once):
    (folder / 'temp' / 'loss.png').mkdir(parents=True)
    status, output, errors = run_here(*ARGUMENTS, f'--max_iterations={BEGUN}', cwd=folder)
    assert (status, errors) == (0, '')
    assert output.count('The plot was not drawn') == 2
    assert content(folder / 'temp') == content(begun_once / 'temp')


def test_only_the_first_worker_draws(tmp_path, monkeypatch):
    pictures.save_if_possible(str(tmp_path / 'first.png'), draw_line, [1, 2])
    monkeypatch.setattr(workers, 'is_first', lambda: False)
    pictures.save_if_possible(str(tmp_path / 'second.png'), draw_line, [1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ['first.png']


@pytest.mark.parametrize('is_first', [True, False])
def test_nothing_is_shown_without_a_display_and_by_other_workers(is_first, monkeypatch):
    matplotlib.use('Agg')
    shown = []
    monkeypatch.setattr(workers, 'is_first', lambda: is_first)
    if not is_first:
        monkeypatch.setattr(pyplot, 'get_backend', lambda: 'TkAgg')
    monkeypatch.setattr(pyplot, 'show', lambda: shown.append('a window'))
    pictures.show(lambda *_: shown.append('a drawing'))
    assert shown == []


def test_a_smoothed_curve_has_the_mean_of_a_window_at_its_middle():
    losses = np.random.RandomState(0).normal(size=300)
    means, middles, width = pictures.smoothed(losses)
    assert width == 31
    assert middles.tolist() == list(range(16, 286))  # the middles of 1-31 and 270-300
    np.testing.assert_allclose(means, [losses[i : i + 31].mean() for i in range(270)])


@pytest.mark.parametrize('number, width', [(1, 1), (9, 1), (10, 2), (2000, 100)])
def test_the_window_is_a_tenth_of_a_run_and_a_hundred_iterations_at_most(number, width):
    means, middles, found = pictures.smoothed([2.0] * number)
    assert found == width
    assert len(means) == len(middles) == number - width + 1


@pytest.mark.parametrize('number', [100, 101])
def test_the_loss_of_the_first_iterations_is_cut_off_in_a_plot_of_more_than_a_hundred(number):
    losses = [50.0] + [2.0] * (number - 1)
    axes = matplotlib.figure.Figure().add_subplot(1, 1, 1)
    axes.plot(losses, label='loss')
    pictures.finish_loss_axes(axes, losses)
    assert axes.get_title() == 'Sequence to Sequence Loss'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('Generation', 'Loss')
    low, high = axes.get_ylim()
    assert low < 2
    assert high > 50 if number == 100 else high == pytest.approx(2.4)


@pytest.mark.parametrize(
    'backend, told',
    [
        ('module://not.installed', 'Final held-out loss'),
        ('junk', 'The plot was not drawn: matplotlib cannot be used: '),
    ],
)
def test_a_backend_of_matplotlib_that_is_not_there_takes_nothing_but_the_window(
    tmp_path, short_text, backend, told
):
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}', '--max_iterations=20')
    status, output, errors = run_script(*arguments, cwd=tmp_path, MPLBACKEND=backend)
    assert (status, errors) == (0, '')
    assert told in output
    assert (tmp_path / 'temp' / 'loss.png').exists() == (backend != 'junk')
    assert ('The plot is' in output) == (backend != 'junk')


def test_the_plot_is_opened_in_a_window_where_there_is_a_display(tmp_path, short_text):
    (tmp_path / 'window.py').write_text(
        'from matplotlib.backends.backend_agg import FigureCanvas\n'
        'from matplotlib.backend_bases import FigureManagerBase as FigureManager\n'
        'import matplotlib._pylab_helpers as open_figures\n'
        'def show(*_, **__):\n'
        '    (manager,) = open_figures.Gcf.get_all_fig_managers()\n'
        '    print("WINDOW", manager.canvas.figure.axes[0].get_title())\n'
    )
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}', '--max_iterations=20')
    more = {'MPLBACKEND': 'module://window', 'PYTHONPATH': str(tmp_path)}
    status, output, errors = run_script(*arguments, cwd=tmp_path, **more)
    assert (status, errors) == (0, '')
    assert output.endswith('WINDOW Sequence to Sequence Loss\n')
