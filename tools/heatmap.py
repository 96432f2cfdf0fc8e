"""Draw the probability of each character of a text, and the five most likely ones in its place.

    python -m tools.heatmap --text="to be or not to be that is the question"

The picture is temp/heatmap.png. A darker character is more likely.
"""

import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import files, pictures, reading, report, running
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import encode
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run; the picture goes there too
checkpoint = ''  # the model to use, such as temp/model-9070; empty: the best so far
text = 'to be or not to be that is the question'  # 2 to 2,000 characters
show_plot = True  # also show it in a window, if there is a display
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU if TensorFlow finds one

RANGES = {'checkpoint': 'path', 'text': str}

WIDTH = 40  # most characters on a line
SYMBOLS = {**report.SYMBOLS, **str.maketrans(' \n\t', '\u2423\u21b5\u21e5')}


def lines_and_width(characters):
    """Return the number of lines to draw a text on, and the most characters on a line."""
    lines = math.ceil(characters / WIDTH)
    return lines, math.ceil(characters / lines)  # lines of similar length


def draw_heatmap(figure, text, probabilities, ix2vocab):
    """Draw the probability of each character of a text, and the five most likely in its place.

    Args:
      text: int32 [characters].
      probabilities: float32 [characters - 1, vocab_size], from the second character on.
    """
    symbols = ['\ufffd', *(symbol.translate(SYMBOLS) for symbol in ix2vocab[1:])]  # 0: 'unknown'
    likeliest = np.argsort(-probabilities, axis=1, kind='stable')[:, :5]
    lines, width = lines_and_width(len(text))
    for line, axes in enumerate(figure.subplots(lines, 1, squeeze=False)[:, 0]):
        shades = np.full([1 + likeliest.shape[1], width], np.nan)
        for column, place in enumerate(range(line * width, min((line + 1) * width, len(text)))):
            # The first row is the text itself. Its first character has no prediction.
            rows = [text[place], *likeliest[place - 1]] if place else [text[0]]
            for row, ix in enumerate(rows):
                shade = probabilities[place - 1, ix] if place else np.nan
                shades[row, column] = shade
                axes.text(
                    column, row + (0.15 if row else 0), symbols[ix], ha='center', va='center',
                    color='white' if shade > 0.5 else 'black', weight='normal' if row else 'bold',
                    family='monospace',
                )  # fmt: skip
        image = axes.imshow(shades, cmap='Blues', vmin=0, vmax=1, aspect='auto')
        axes.axhline(0.5, color='black', linewidth=0.8)
        axes.set_yticks([0, 1, likeliest.shape[1]])
        axes.set_yticklabels(['text', 'likeliest', 'less likely'])
        axes.set_xticks([])
    figure.colorbar(image, ax=figure.axes, label='probability', shrink=0.6)


def main(arguments):
    """Draw the picture, save it, and show it if there is a display."""
    settings = read_settings(globals(), arguments)
    with trained.opened(settings) as (session, sampler, ix2vocab, run, path):
        ids = encode(settings.text, ix2vocab, run.clean_text)
        if not 2 <= ids.size <= 2000:
            raise UserError(
                f'text must have between 2 and 2,000 characters that the model reads, '
                f'got {ids.size:,}'
            )
        reading.check_prime(settings.text, ids, ix2vocab, run.unseen, name='text')
        feed = {sampler.x_data: ids[:, :-1], sampler.initial_state: sampler.zero_state(1)}
        (probabilities,) = session.run(sampler.probabilities, feed)
    lines, width = lines_and_width(ids.size)
    size = 1.6 + 0.3 * width, 0.1 + 1.85 * lines  # inches; cells are about square
    files.make_folder(settings.temp_dir, 'temp_dir')
    picture = os.path.join(settings.temp_dir, 'heatmap.png')
    pictures.save(picture, draw_heatmap, ids[0], probabilities, ix2vocab, size=size)
    print(f'Model: {path}')
    print(f'The picture is {picture}')
    if settings.show_plot:
        pictures.show(draw_heatmap, ids[0], probabilities, ix2vocab, size=size)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
