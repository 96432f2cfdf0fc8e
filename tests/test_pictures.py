"""Pictures: a figure is saved whole or not at all, and shown where there is a display."""

import sys

from backstage import pictures, workers
from backstage.settings import UserError

import matplotlib
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT, SMALL, content, end, run_script, run_tool, script, start
from matplotlib import pyplot
from runs import ARGUMENTS, run_here

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
    with pytest.raises(UserError, match='matplotlib cannot be used: ZeroDivisionError: '):
        pictures.save(str(path), lambda *_: 1 / 0)
    assert path.read_bytes() == before
    pictures.save(str(path), draw_line, [2, 1])
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_picture_cannot_be_written_that_is_told_and_no_more(tmp_path, capsys):
    pictures.save_if_possible(str(tmp_path / 'nowhere' / 'loss.png'), draw_line, [1, 2])
    assert 'The plot was not drawn: ' in capsys.readouterr().out


def test_a_run_comes_to_the_same_end_without_its_plot(begun, undisturbed, monkeypatch):
    def save(*_):
        raise OSError('no room')

    monkeypatch.setattr(pictures, 'save', save)
    status, output, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors) == (0, '')
    assert output.count('The plot was not drawn') == 8  # at its begin, and at each save
    assert content(begun / 'temp')[1] == content(undisturbed[0] / 'temp')[1]


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


@pytest.mark.parametrize('number, width', [(1, 1), (9, 1), (10, 2), (300, 31), (400, 41)])
def test_a_smoothed_curve_has_means_of_a_tenth_of_the_run_at_their_middles(number, width):
    losses = np.random.RandomState(0).normal(size=number)
    means, middles, found = pictures.smoothed(losses)
    assert found == width
    assert middles[[0, -1]].tolist() == [1, number - (width - 1) / 2]
    whole = [losses[begin : begin + width].mean() for begin in range(width - 1, number - width + 1)]
    np.testing.assert_allclose(means[width - 1 :], whole)
    growing = [losses[begin : 2 * begin + 1].mean() for begin in range(width - 1)]
    np.testing.assert_allclose(means[: width - 1], growing)


@pytest.mark.parametrize('number', [10, 30, 150, 300, 1000, 9000])
def test_the_smoothed_curve_of_a_run_lies_on_its_steep_start_and_not_above_it(number):
    iterations = np.arange(1, number + 1)
    losses = 1.5 + 2.2 * np.exp(-iterations / 10)
    means, middles, _ = pictures.smoothed(losses)
    assert means[0] == losses[0]
    np.testing.assert_allclose(means, np.interp(middles, iterations, losses), atol=0.03)


@pytest.mark.parametrize('number', [5_000, 1_000_003])
def test_of_a_long_run_a_line_is_drawn_that_looks_the_same(number):
    losses = np.random.RandomState(0).normal(size=number)
    losses[[70, number - 1]] = 9.0, -9.0  # no peak is lost
    iterations, values = pictures.thinned(losses)
    assert len(iterations) == len(values) <= 2 * pictures.POINTS
    assert (iterations[0], iterations[-1]) == (1, number)
    assert (np.diff(iterations) >= 0).all()
    assert (values.max(), values.min()) == (9.0, -9.0)
    means, middles, width = pictures.smoothed(losses)
    assert (width, middles[0], middles[-1]) == (100, 1, number - 49.5)
    begins = (middles[middles > 150] - 50.5).astype(int)
    whole = [losses[begin : begin + 100].mean() for begin in begins]
    np.testing.assert_allclose(means[-len(begins) :], whole)


def test_losses_that_are_unknown_leave_a_gap_and_no_warning(tmp_path):
    losses = np.full(5000, np.nan)
    for known in 0, 50, 4000:
        losses[5000 - known :] = 2.0
        pictures.save(str(tmp_path / 'loss.png'), script.draw_losses, losses, [])
    _, values = pictures.thinned(losses)
    assert np.isnan(values).any() and (values[np.isfinite(values)] == 2.0).all()


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


PROBE = """
import os, sys
from backstage import pictures
from tools.plot import draw_runs

if sys.argv[2:]:
    import tqdm  # a Python below the home of root cannot be read then
    os.getuid() or os.setuid(int(sys.argv[2]))
backend = os.environ.get('MPLBACKEND', '')
drawing = draw_runs, {'\\N{CJK UNIFIED IDEOGRAPH-6587}': ([3.0, 2.0], [(2, 2.5)])}
pictures.save_if_possible(sys.argv[1], *drawing)
pictures.show(*drawing)
assert os.environ.get('MPLBACKEND', '') == backend  # what is started from here shall find it
"""


def draw_elsewhere(*arguments, cwd, **environment):
    """Let a process of its own draw a picture, and show it; return what it printed."""
    probe = [sys.executable, '-c', PROBE, *arguments]
    status, output, errors = end(start(*probe, cwd=cwd, **environment))
    assert (status, errors) == (0, '')
    return output


def test_a_matplotlibrc_or_a_cache_that_cannot_be_written_neither_stops_nor_changes_a_picture(
    tmp_path,
):
    assert draw_elsewhere('before.png', cwd=tmp_path) == ''
    (tmp_path / 'matplotlibrc').write_text(
        'text.usetex: True\nfont.size: 30\naxes.titlesize: junk\nno line: 1\ninteractive: True\n'
        'backend: junk\n'
    )
    more = {'MPLCONFIGDIR': '/proc/nowhere', 'MPLBACKEND': '', 'DISPLAY': ''}
    assert draw_elsewhere('after.png', cwd=tmp_path, **more) == ''
    assert (tmp_path / 'after.png').read_bytes() == (tmp_path / 'before.png').read_bytes()


@pytest.mark.parametrize(
    'name, content, told',
    [
        ('matplotlibrc', b'font.size: \xff', 'UnicodeDecodeError: '),
        ('PIL.py', b'raise ImportError("no PIL here")', 'ImportError: no PIL here'),
        ('matplotlib.py', b'assert False', 'AssertionError: (no reason given)\n'),
    ],
)
def test_a_matplotlib_that_cannot_be_used_is_told_in_one_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    output = draw_elsewhere('plot.png', cwd=tmp_path, PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert output.startswith(f'The plot was not drawn: matplotlib cannot be used: {told}')
    assert output.count('\n') == 1


def test_a_tool_whose_picture_cannot_be_drawn_ends_in_one_sentence(tmp_path):
    (tmp_path / 'PIL.py').write_text('raise ImportError("libpng is missing\\nand so on")')
    (tmp_path / 'history.csv').write_text('iteration,loss,held_out_loss\n1,1.0,\n')
    more = {'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    status, output, errors = run_tool('plot', '--temp_dir=.', cwd=tmp_path, **more)
    assert (status, output) == (2, '')
    assert errors == 'plot.py: matplotlib cannot be used: ImportError: libpng is missing.\n'


def test_a_user_without_a_name_and_a_home_gets_a_picture_or_a_line(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.delenv('HOME', raising=False)
    output = draw_elsewhere('plot.png', '12345', cwd=tmp_path)
    assert (tmp_path / 'plot.png').exists() == (output == '')
    assert output.count('\n') == output.count('The plot was not drawn: ')


@pytest.mark.parametrize(
    'window',
    [
        'raise AttributeError("no Tk")',
        'from matplotlib.backends.backend_agg import *\n'
        'def new_figure_manager(*_, **__): raise RuntimeError("no display")',
        'import warnings\nfrom matplotlib.backends.backend_agg import *\n'
        'def show(*_, **__): warnings.warn("no window here")',
    ],
)
def test_a_window_that_cannot_be_opened_is_no_matter(tmp_path, window):
    (tmp_path / 'window.py').write_text(window)
    more = {'MPLBACKEND': 'module://window', 'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    assert draw_elsewhere('plot.png', cwd=tmp_path, **more) == ''
    assert (tmp_path / 'plot.png').exists()


BACKENDS = [
    'module://matplotlib_inline.backend_inline',  # as a notebook sets it for all that it starts
    'module://ipympl.backend_nbagg',  # of a notebook too, and not installed here
    'TkAgg',  # there is no display
    'junk',
    'module://nowhere',
]


@pytest.mark.parametrize('backend', BACKENDS)
def test_whatever_backend_is_set_a_tool_draws_the_same_picture_and_fails_at_no_window(
    tmp_path, backend
):
    rows = ''.join(f'{i},{9 / i},\n' for i in range(1, 200))
    (tmp_path / 'history.csv').write_text(f'iteration,loss,held_out_loss\n{rows}')
    drawn = []
    for environment in {}, {'MPLBACKEND': backend, 'DISPLAY': ':99999'}:
        status, output, errors = run_tool('plot', '--temp_dir=.', cwd=tmp_path, **environment)
        assert (status, output, errors) == (0, 'The plot is ./loss.png\n', '')
        drawn.append((tmp_path / 'loss.png').read_bytes())
    assert drawn[0] == drawn[1]


@pytest.mark.long
def test_training_that_a_notebook_starts_draws_its_plot(tmp_path, short_text):
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}', '--max_iterations=20')
    status, output, errors = run_script(*arguments, cwd=tmp_path, MPLBACKEND=BACKENDS[1])
    assert (status, errors) == (0, '')
    assert 'The plot is temp/loss.png\n' in output


@pytest.mark.long
def test_a_run_whose_plot_cannot_be_drawn_comes_to_its_end(tmp_path, short_text):
    (tmp_path / 'PIL.py').write_text('raise ImportError("libpng is missing")')
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}', '--max_iterations=20')
    more = {'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    status, output, errors = run_script(*arguments, cwd=tmp_path, **more)
    assert (status, errors) == (0, '')
    assert output.count('The plot was not drawn: matplotlib cannot be used: ') == 1
    assert 'Final held-out loss' in output
    assert 'The plot is' not in output
    assert not (tmp_path / 'temp' / 'loss.png').exists()


@pytest.mark.long
@pytest.mark.parametrize('show_plot', [True, False])
def test_the_plot_is_opened_in_a_window_where_there_is_a_display_and_one_is_wanted(
    tmp_path, short_text, show_plot
):
    (tmp_path / 'window.py').write_text(
        'from matplotlib.backends.backend_agg import FigureCanvas\n'
        'from matplotlib.backend_bases import FigureManagerBase as FigureManager\n'
        'import matplotlib._pylab_helpers as open_figures\n'
        'def show(*_, **__):\n'
        '    (manager,) = open_figures.Gcf.get_all_fig_managers()\n'
        '    print("WINDOW", manager.canvas.figure.axes[0].get_title())\n'
    )
    arguments = (*SMALL, '--num_layers=1', f'--text_file={short_text}', '--max_iterations=20')
    more = {'MPLBACKEND': 'module://window', 'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    show = f'--show_plot={show_plot}'
    for program in (
        run_script(*arguments, show, cwd=tmp_path, **more),
        run_tool('plot', show, cwd=tmp_path, **more),
    ):
        status, output, errors = program
        assert (status, errors) == (0, '')
        assert output.endswith('WINDOW Sequence to Sequence Loss\n') == show_plot
        assert output.count('WINDOW') == show_plot
