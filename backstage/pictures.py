"""Pictures: a figure saved whole, a window where there is a display, colours, and smoothing."""

import io
import warnings

from backstage import files, workers
from backstage.settings import UserError

import numpy as np
from tqdm import tqdm

# Pairs of these the colour-blind can tell apart too (Okabe and Ito, 2008).
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')


def smoothed(losses):
    """Return the means over a window, where it lies (its middle), and its width in iterations."""
    width = min(100, len(losses) // 10 + 1)
    means = np.convolve(losses, np.ones(width) / width, mode='valid')
    return means, np.arange(1, len(means) + 1) + (width - 1) / 2, width


def finish_loss_axes(axes, losses):
    """Give the axes of a plot of losses, in nats over iterations, their title and range."""
    axes.set(title='Sequence to Sequence Loss', xlabel='Generation', ylabel='Loss')
    # The first iterations start from chance, and would leave little room for all that follows.
    if len(losses) > 100:
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 1.2 * np.percentile(losses, 97)))
    axes.grid(alpha=0.3)
    axes.legend()


def save(path, draw, *what, size=(8, 5)):
    """Write a PNG of so many inches: what `draw(figure, *what)` draws on a matplotlib Figure.

    Raises:
      UserError: MPLBACKEND is no name that matplotlib takes.
    """
    try:  # Imported here, as it takes a while, and training can begin without it.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ValueError as error:
        raise UserError(f'matplotlib cannot be used: {str(error).splitlines()[0]}')
    figure = Figure(figsize=size, dpi=120, constrained_layout=True)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # what the font lacks is drawn as a box
        draw(figure, *what)
        FigureCanvasAgg(figure).print_png(picture)
    files.write(path, picture.getvalue())


def save_if_possible(path, draw, *what):
    """Call `save` on worker 0; where it does not succeed, say so and go on."""
    try:
        if workers.is_first():
            save(path, draw, *what)
    except (OSError, UserError) as error:
        tqdm.write(f'The plot was not drawn: {error}')


def show(draw, *what, size=(8, 5)):
    """Show what `save` would write, in a window, where there is a display, until it is closed."""
    if not workers.is_first():
        return
    try:
        from matplotlib import pyplot  # it looks for a display as it is imported

        if pyplot.get_backend().lower() == 'agg':
            return
        figure = pyplot.figure(figsize=size)
    except (ImportError, ValueError):  # MPLBACKEND, as a notebook sets it, names what is not here
        return
    draw(figure, *what)
    pyplot.show()
