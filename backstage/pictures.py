"""Pictures: saving a figure, showing it in a window if there is a display, colours, smoothing.

An error in matplotlib, its settings or its windows never ends a run.
"""

import contextlib
import io
import logging
import os
import sys
import warnings

from backstage import files, first_line, report, workers
from backstage.settings import UserError

import numpy as np

# Colour-blind readers can tell any two of these apart (Okabe and Ito, 2008).
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
POINTS = 400  # approximate number of points in a line of means: as many as a picture shows


def thinned(losses):
    """Return the iterations and losses to draw: all of them, or every n-th one of a long run."""
    iterations = np.arange(1, len(losses) + 1)
    every = slice(None, None, -(-len(losses) // 10_000) or 1)
    return iterations[every], losses[every]


def smoothed(losses):
    """Return means over windows, the middle of each, and the largest width, in iterations.

    The first windows are narrow: on the steep start, the mean of a wide window is far above the
    loss at its middle. A long run has about POINTS windows.
    """
    losses = np.asarray(losses)
    width = min(100, len(losses) // 10 + 1)
    begins = np.unique(np.linspace(0, len(losses) - width, POINTS).astype(int))
    widths = np.minimum(begins + 1, width)
    means = [losses[begin : begin + some].mean() for begin, some in zip(begins, widths)]
    return means, begins + (widths + 1) / 2, width


def finish_loss_axes(axes, losses):
    """Set the title, labels and range of a plot of losses, in nats over iterations."""
    axes.set(title='Sequence to Sequence Loss', xlabel='Generation', ylabel='Loss')
    # The first losses are those of guessing, and would leave little room for the rest.
    if len(losses) > 100:
        known = np.compress(np.isfinite(losses), losses)
        if len(known):
            some = known[:: len(known) // 10_000 + 1]
            low, high = axes.get_ylim()
            axes.set_ylim(low, min(high, 1.2 * np.percentile(some, 97)))
    axes.grid(alpha=0.3)
    axes.legend()


def import_matplotlib():
    """Return matplotlib with the backend in MPLBACKEND, or with Agg if that is not available.

    A notebook sets MPLBACKEND for all programs that it starts. A wrong value would fail the import,
    although saving a file needs no backend.
    """
    if 'matplotlib' in sys.modules:
        return sys.modules['matplotlib']
    backend = os.environ.pop('MPLBACKEND', '')
    try:
        import matplotlib  # not at the top: it takes a while, and training can begin without it
    finally:
        if backend:
            os.environ['MPLBACKEND'] = backend
    if backend:
        matplotlib.rcParams['backend'] = 'agg'  # opens no window
        with contextlib.suppress(ValueError):
            matplotlib.rcParams['backend'] = backend
    return matplotlib


@contextlib.contextmanager
def matplotlib_as_it_comes():
    """Let matplotlib draw without messages and with its defaults, not the user's matplotlibrc.

    Raises:
      UserError: matplotlib cannot be imported or cannot draw.
    """
    # It would log where its cache is, or which line of a matplotlibrc it cannot read.
    logging.getLogger('matplotlib').setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # a character that the font lacks becomes a box
            matplotlib = import_matplotlib()
            defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != 'backend'}
            with matplotlib.rc_context(defaults):
                yield
    except Exception as error:  # of any kind: from fonts, files, Tk, LaTeX and others
        name = type(error).__name__
        raise UserError(f'matplotlib cannot be used: {name}: {first_line(error)}')


def save(path, draw, *what, size=(8, 5)):
    """Write a PNG of the matplotlib Figure that `draw(figure, *what)` fills; `size` in inches.

    Raises:
      UserError: matplotlib cannot draw it.
      OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    with matplotlib_as_it_comes():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, dpi=120, constrained_layout=True)
        draw(figure, *what)
        FigureCanvasAgg(figure).print_png(picture)
    files.write(path, picture.getvalue())


def save_if_possible(path, draw, *what):
    """Call `save` on worker 0. If it fails, print why and continue."""
    try:
        if workers.is_first():
            save(path, draw, *what)
    except (OSError, UserError) as error:
        report.write(f'The plot was not drawn: {error}')


def show(draw, *what, size=(8, 5)):
    """Show the same figure in a window, if there is a display, until the user closes it."""
    if not workers.is_first():
        return
    # Often there is no display or no usable backend. By then the picture is saved and its path
    # printed, so no message is needed.
    with contextlib.suppress(UserError), matplotlib_as_it_comes():
        from matplotlib import pyplot  # not at the top: the import looks for a display

        backend = pyplot.get_backend().lower()
        # Outside its kernel, a notebook's backend prints 'Figure(800x500)'.
        if backend == 'agg' or ('inline' in backend and 'ipykernel' not in sys.modules):
            return
        figure = pyplot.figure(figsize=size)
        draw(figure, *what)
        pyplot.show()
