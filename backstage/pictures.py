"""Pictures: a figure saved whole, a window where there is a display, colours, and smoothing.

Whatever goes wrong in matplotlib, its settings or its windows, a run does not end of it.
"""

import contextlib
import io
import logging
import os
import sys
import warnings

from backstage import files, report, workers
from backstage.settings import UserError

import numpy as np

# Pairs of these the colour-blind can tell apart too (Okabe and Ito, 2008).
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
POINTS = 400  # of a line of means, more or less: as many as a picture shows


def thinned(losses):
    """Return iterations and losses to draw: all, or of a long run one of several."""
    iterations = np.arange(1, len(losses) + 1)
    every = slice(None, None, -(-len(losses) // 10_000) or 1)
    return iterations[every], losses[every]


def smoothed(losses):
    """Return means over windows, the middle of each, and the width of the widest, in iterations.

    The first windows are narrow: a wide one over the steep start would have a mean far above the
    loss at its middle. For a long run the means are those of some POINTS windows.
    """
    losses = np.asarray(losses)
    width = min(100, len(losses) // 10 + 1)
    begins = np.unique(np.linspace(0, len(losses) - width, POINTS).astype(int))
    widths = np.minimum(begins + 1, width)
    means = [losses[begin : begin + some].mean() for begin, some in zip(begins, widths)]
    return means, begins + (widths + 1) / 2, width


def finish_loss_axes(axes, losses):
    """Give the axes of a plot of losses, in nats over iterations, their title and range."""
    axes.set(title='Sequence to Sequence Loss', xlabel='Generation', ylabel='Loss')
    # The first iterations start from chance, and would leave little room for all that follows.
    if len(losses) > 100:
        known = np.compress(np.isfinite(losses), losses)
        if len(known):
            some = known[:: len(known) // 10_000 + 1]
            low, high = axes.get_ylim()
            axes.set_ylim(low, min(high, 1.2 * np.percentile(some, 97)))
    axes.grid(alpha=0.3)
    axes.legend()


def import_matplotlib():
    """Return matplotlib, with the backend that MPLBACKEND names, or Agg where that is not here.

    A notebook sets MPLBACKEND for all that is started from it. A wrong one would end the import,
    though a file needs none.
    """
    if 'matplotlib' in sys.modules:
        return sys.modules['matplotlib']
    backend = os.environ.pop('MPLBACKEND', '')
    try:
        import matplotlib  # here, as it takes a while, and training can begin without it
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
    """Let matplotlib draw quietly, the same whatever somebody's matplotlibrc says.

    Raises:
      UserError: it cannot be imported, or cannot draw.
    """
    # It would say where its cache is now, or which line of a matplotlibrc it cannot read.
    logging.getLogger('matplotlib').setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what the font lacks is drawn as a box
            matplotlib = import_matplotlib()
            defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != 'backend'}
            with matplotlib.rc_context(defaults):
                yield
    except Exception as error:  # of any kind: they come from fonts, files, Tk, LaTeX and others
        reason = (str(error).strip() or '(no reason given)').splitlines()[0]
        raise UserError(f'matplotlib cannot be used: {type(error).__name__}: {reason}')


def save(path, draw, *what, size=(8, 5)):
    """Write a PNG of so many inches: what `draw(figure, *what)` draws on a matplotlib Figure.

    Raises:
      UserError: matplotlib cannot draw it.
      OSError: it cannot be written.
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
    """Call `save` on worker 0; where it does not succeed, say so and go on."""
    try:
        if workers.is_first():
            save(path, draw, *what)
    except (OSError, UserError) as error:
        report.write(f'The plot was not drawn: {error}')


def show(draw, *what, size=(8, 5)):
    """Show what `save` would write, in a window, where there is a display, until it is closed."""
    if not workers.is_first():
        return
    # Often there is no display, or no such backend. The picture is saved by then, and its path
    # printed: nothing more has to be said.
    with contextlib.suppress(UserError), matplotlib_as_it_comes():
        from matplotlib import pyplot  # it looks for a display as it is imported

        backend = pyplot.get_backend().lower()
        # Outside its kernel the backend of a notebook prints 'Figure(800x500)'.
        if backend == 'agg' or ('inline' in backend and 'ipykernel' not in sys.modules):
            return
        figure = pyplot.figure(figsize=size)
        draw(figure, *what)
        pyplot.show()
