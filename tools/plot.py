"""Redraw the losses of one run, or draw those of several runs in one picture.

    python -m tools.plot
    python -m tools.plot --folders temp/one_layer temp/three_layers

It reads the history of each run. A run may still be in progress.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import files, pictures, running
from backstage.folder import describe_change, read_history
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import draw_losses

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run; the picture goes there too
folders = []  # the folders of several runs, to draw in one picture
show_plot = True  # also show it in a window, if there is a display

RANGES = {'folders': 'paths'}

MARKERS = 'os^vDPX'


def draw_runs(figure, runs):
    """Draw the losses of several runs: a dict from their names to (losses, held-out losses)."""
    axes = figure.add_subplot(1, 1, 1)
    for number, (name, (losses, held_out_losses)) in enumerate(runs.items()):
        color = pictures.COLORS[number % len(pictures.COLORS)]
        means, middles, _ = pictures.smoothed(losses)
        axes.plot(middles, means, color=color, linewidth=0.8, alpha=0.6)
        held_out = np.reshape(held_out_losses, (-1, 2)).T  # iterations, values
        marker = MARKERS[number % len(MARKERS)]
        label = name.replace('$', r'\$')  # $ would start a formula
        label = f'./{label}' if label.startswith('_') else label  # a legend omits _names
        axes.plot(*held_out, f'{marker}-', color=color, markersize=4, label=label)
    axes.plot([], [], color='#888888', linewidth=0.8, label='thin: in training')
    pictures.finish_loss_axes(axes, np.concatenate([losses for losses, _ in runs.values()]))


def main(arguments):
    """Draw the picture, save it, and show it if there is a display."""
    settings = read_settings(globals(), arguments)
    folders = settings.folders or [settings.temp_dir]
    runs = {}
    for folder in folders:
        runs[folder] = read_history(folder)
        if not runs[folder][0]:
            raise UserError(f'the history in {folder} has no losses. Use a different folder')
        changed = describe_change(folder)
        if changed:
            print(changed)
    files.make_folder(settings.temp_dir, 'temp_dir')
    path = os.path.join(settings.temp_dir, 'runs.png' if settings.folders else 'loss.png')
    drawing = (draw_runs, runs) if settings.folders else (draw_losses, *runs[settings.temp_dir])
    pictures.save(path, *drawing)
    print(f'The plot is {path}')
    if settings.show_plot:
        pictures.show(*drawing)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
