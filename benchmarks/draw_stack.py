"""Draw the three layers, unrolled over time: docs/stack.png.

python benchmarks/draw_stack.py
"""

from shared import DOCS, script

# isort: split
from matplotlib.patches import FancyBboxPatch

READ, NEXT = 'thou', 'hou '
LEVELS = ['x_data', 'embedding_mat', 'cell 0', 'cell 1', 'cell 2', 'W, b', 'y_output']
HEIGHTS = [0, 1.1, 2.4, 3.9, 5.4, 6.7, 7.8]
BLUE, GREY, RED = script.pictures.COLORS[0], '#666666', script.pictures.COLORS[1]


def box(axes, x, y, text, color):
    shape = FancyBboxPatch(
        (x - 0.42, y - 0.28), 0.84, 0.56, boxstyle='round,pad=0.04', facecolor=color, alpha=0.2
    )
    axes.add_patch(shape)
    axes.text(x, y, text, ha='center', va='center', fontsize=9)


def arrow(axes, start, end, color=GREY, bend=0.0):
    style = {'arrowstyle': '->', 'color': color, 'connectionstyle': f'arc3,rad={bend}'}
    axes.annotate('', end, start, arrowprops=style)


def draw_on(figure):
    axes = figure.add_subplot(1, 1, 1)
    for step, (character, following) in enumerate(zip(READ, NEXT)):
        x = 1.9 * step
        for level, y in zip(LEVELS, HEIGHTS):
            if level.startswith('cell'):
                box(axes, x, y, f'LSTM\n{level}', BLUE)
                arrow(axes, (x - 1.4 if step else x - 1.1, y), (x - 0.5, y))
                if step == len(READ) - 1:
                    arrow(axes, (x + 0.5, y), (x + 1.1, y))
            elif level in ('embedding_mat', 'W, b'):
                box(axes, x, y, {'embedding_mat': '32\nnumbers', 'W, b': '40\nlogits'}[level], GREY)
            else:
                shown = character if level == 'x_data' else following.replace(' ', '\u2423')
                axes.text(
                    x, y, shown, ha='center', va='center', fontsize=15, family='monospace',
                    color='black' if level == 'x_data' else RED,
                )  # fmt: skip
        for low, high in zip(HEIGHTS[:-1], HEIGHTS[1:]):
            last = high == HEIGHTS[-1]
            arrow(axes, (x, low + 0.33), (x, high - 0.33), RED if last else GREY)
        for low in HEIGHTS[2:4]:  # what comes from below is added to what cells 1 and 2 put out
            arrow(axes, (x + 0.1, low + 0.55), (x + 0.1, low + 2.15), BLUE, bend=0.75)
    left, right = -1.25, 1.9 * (len(READ) - 1) + 1.25
    axes.text(left, 3.9, 'c, h\nof the batch\nbefore', ha='right', va='center', color=GREY)
    axes.text(right, 3.9, 'c, h\nfor the batch\nafter', ha='left', va='center', color=GREY)
    axes.text(left, HEIGHTS[0], 'it reads', ha='right', va='center')
    axes.text(left, HEIGHTS[-1], 'it should\nexpect', ha='right', va='center', color=RED)
    axes.text(right, HEIGHTS[4] - 0.75, 'residual', ha='left', va='center', color=BLUE)
    axes.set(xlim=(-2.9, right + 1.6), ylim=(-0.5, 8.3), aspect='equal')
    axes.axis('off')


if __name__ == '__main__':
    script.pictures.save(str(DOCS / 'stack.png'), draw_on, size=(8.5, 7))
