"""Pictures: a figure is saved whole or not at all, and shown if there is a display."""

import sys

from backstage import pictures, workers
from backstage.settings import UserError

import matplotlib
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT, SMALL, end, history, run_script, run_tool, script, start
from matplotlib import pyplot
from runs import run_here

pytest_plugins = 'runs'
LONG = pytest.mark.long

RUN = (*SMALL, '--num_layers=1', '--text_file=short.txt', '--max_iterations=20', '--save_every=10')


def draw_line(figure, values):
    figure.add_subplot(1, 1, 1).plot(values, label='line')


def test_a_picture_has_the_given_size_and_is_not_blank(tmp_path):
    pictures.save(str(tmp_path / 'line'), draw_line, [1, 2], size=(4, 3))
    line = matplotlib.image.imread(str(tmp_path / 'line'), format='png')
    assert line.shape == (360, 480, 4)
    assert (line[0] == 1).all() and not (line == 1).all()


def test_a_failed_picture_leaves_the_earlier_one(tmp_path):
    path = tmp_path / 'loss.png'
    pictures.save(str(path), draw_line, [1, 2])
    before = path.read_bytes()
    with pytest.raises(UserError, match='matplotlib cannot be used: ZeroDivisionError: '):
        pictures.save(str(path), lambda *_: 1 / 0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_finishes_without_its_plot(folder, monkeypatch):
    def save(*_):
        raise OSError('no room')

    monkeypatch.setattr(pictures, 'save', save)
    status, output, errors = run_here(*RUN, cwd=folder)
    assert (status, errors) == (0, '')
    assert output.count('The plot was not drawn: no room') == 2  # at each save
    assert 'Final held-out loss' in output and 'The plot is' not in output
    assert [i for i, _ in history(folder / 'temp')['held_out_losses']] == [10, 20]


def test_only_the_first_worker_draws_and_shows(tmp_path, monkeypatch):
    pictures.save_if_possible(str(tmp_path / 'first.png'), draw_line, [1, 2])
    monkeypatch.setattr(workers, 'is_first', lambda: False)
    monkeypatch.setattr(pyplot, 'get_backend', lambda: 'TkAgg')
    monkeypatch.setattr(pyplot, 'show', lambda: pytest.fail('a window'))
    pictures.save_if_possible(str(tmp_path / 'second.png'), draw_line, [1, 2])
    pictures.show(draw_line, [1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ['first.png']


@pytest.mark.parametrize('number, width', [(1, 1), (9, 1), (10, 2), (300, 31), (400, 41)])
def test_a_smoothed_curve_averages_over_a_tenth_of_the_run(number, width):
    losses = np.random.RandomState(0).normal(size=number)
    means, middles, found = pictures.smoothed(losses)
    assert found == width
    assert middles[[0, -1]].tolist() == [1, number - (width - 1) / 2]
    widths = [min(begin + 1, width) for begin in range(number - width + 1)]  # narrow at first
    expected = [losses[begin : begin + some].mean() for begin, some in enumerate(widths)]
    np.testing.assert_allclose(means, expected)


@pytest.mark.parametrize('number', [5_000, 1_000_003])
def test_a_long_run_is_thinned_to_some_thousand_points(number):
    losses = np.random.RandomState(0).normal(size=number)
    iterations, values = pictures.thinned(losses)
    assert 5_000 <= len(iterations) <= 10_000 and iterations[0] == 1
    np.testing.assert_array_equal(values, losses[iterations - 1])
    means, middles, width = pictures.smoothed(losses)
    assert (width, middles[0], middles[-1]) == (100, 1, number - 49.5)
    begins = (middles[middles > 150] - 50.5).astype(int)
    whole = [losses[begin : begin + 100].mean() for begin in begins]
    np.testing.assert_allclose(means[-len(begins) :], whole)


def test_unknown_losses_are_drawn_without_a_warning(tmp_path):
    losses = np.full(5000, np.nan)
    for known in 0, 4000:
        losses[5000 - known :] = 2.0
        pictures.save(str(tmp_path / 'loss.png'), script.draw_losses, losses, [])


@pytest.mark.parametrize('number, expected', [(100, 52.4), (101, 2.4)])
def test_a_plot_of_more_than_100_iterations_cuts_off_the_first_losses(number, expected):
    losses = [50.0] + [2.0] * (number - 1)
    axes = matplotlib.figure.Figure().add_subplot(1, 1, 1)
    axes.plot(losses, label='loss')
    pictures.finish_loss_axes(axes, losses)
    assert axes.get_title() == 'Sequence to Sequence Loss'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('Generation', 'Loss')
    assert axes.get_ylim()[1] == pytest.approx(expected)


PROBE = """
import os, sys
from backstage import pictures
from tools.plot import draw_runs

if sys.argv[2:]:
    import tqdm  # another user cannot read a Python below the home of root
    os.getuid() or os.setuid(int(sys.argv[2]))
drawing = draw_runs, {'\\N{CJK UNIFIED IDEOGRAPH-6587}': ([3.0, 2.0], [(2, 2.5)])}
pictures.save_if_possible(sys.argv[1], *drawing)
pictures.show(*drawing)
"""


def draw_elsewhere(*arguments, cwd, **environment):
    """Draw and show a picture in another process; return what it printed."""
    probe = [sys.executable, '-c', PROBE, *arguments]
    status, output, errors = end(start(*probe, cwd=cwd, **environment))
    assert (status, errors) == (0, '')
    return output


BACKENDS = {
    'module://ipympl.backend_nbagg': '',  # a notebook sets it for its processes; not installed here
    'module://matplotlib_inline.backend_inline': '',  # a notebook sets this one too
    'TkAgg': '',  # there is no display
    'module://broken': 'raise AttributeError("no Tk")',
    'module://warns': 'import warnings\nfrom matplotlib.backends.backend_agg import *\n'
    'def show(*_, **__): warnings.warn("no window here")',
}
FIRST, *OTHERS = BACKENDS


@pytest.mark.parametrize('backend', [FIRST, *(pytest.param(b, marks=LONG) for b in OTHERS)])
def test_backend_matplotlibrc_and_cache_do_not_change_a_picture(tmp_path, backend):
    assert draw_elsewhere('before.png', cwd=tmp_path) == ''
    (tmp_path / 'matplotlibrc').write_text(
        'text.usetex: True\nfont.size: 30\naxes.titlesize: junk\nno line: 1\ninteractive: True\n'
    )
    if BACKENDS[backend]:
        (tmp_path / f'{backend[len("module://") :]}.py').write_text(BACKENDS[backend])
    more = {'MPLBACKEND': backend, 'DISPLAY': ':99999', 'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    if backend == FIRST:  # just once: without a cache matplotlib takes seconds to find fonts
        more['MPLCONFIGDIR'] = '/proc/nowhere'
    assert draw_elsewhere('after.png', cwd=tmp_path, **more) == ''
    assert (tmp_path / 'after.png').read_bytes() == (tmp_path / 'before.png').read_bytes()


def test_a_broken_matplotlib_is_reported_in_one_line(tmp_path):
    (tmp_path / 'history.csv').write_text('iteration,loss,held_out_loss\n1,1.0,\n')
    (tmp_path / 'matplotlib.py').write_text('raise ImportError("libpng is missing\\nand so on")')
    more = {'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    told = 'matplotlib cannot be used: ImportError: libpng is missing'
    assert draw_elsewhere('plot.png', cwd=tmp_path, **more) == f'The plot was not drawn: {told}\n'
    tool = run_tool('plot', '--temp_dir=.', cwd=tmp_path, **more)
    assert tool == (2, '', f'plot.py: {told}.\n')


def test_a_user_without_name_and_home_gets_a_picture_or_a_line(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.delenv('HOME', raising=False)
    output = draw_elsewhere('plot.png', '12345', cwd=tmp_path)
    assert (tmp_path / 'plot.png').exists() == (output == '')
    assert output.count('\n') == output.count('The plot was not drawn: ')


@LONG
def test_the_plot_opens_in_a_window_unless_show_plot_is_false(folder):
    (folder / 'window.py').write_text(
        'from matplotlib.backends.backend_agg import FigureCanvas\n'
        'from matplotlib.backend_bases import FigureManagerBase as FigureManager\n'
        'import matplotlib._pylab_helpers as open_figures\n'
        'def show(*_, **__):\n'
        '    (manager,) = open_figures.Gcf.get_all_fig_managers()\n'
        '    print("WINDOW", manager.canvas.figure.axes[0].get_title())\n'
    )
    more = {'MPLBACKEND': 'module://window', 'PYTHONPATH': f'{folder}:{ROOT}'}
    for program in run_script(*RUN, cwd=folder, **more), run_tool('plot', cwd=folder, **more):
        status, output, errors = program
        assert (status, errors, output.count('WINDOW')) == (0, '', 1)
        assert output.endswith('WINDOW Sequence to Sequence Loss\n')
    assert 'WINDOW' not in run_tool('plot', '--show_plot=False', cwd=folder, **more)[1]
