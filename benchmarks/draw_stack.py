"""Draw the three layers, unrolled over time: docs/stack.png.

python benchmarks/draw_stack.py
"""

from shared import DOCS, script

# isort: split
from matplotlib.patches import FancyBboxPatch

READ, NEXT = 'thou', 'hou\u2423'
LEVELS = {2.4: 'LSTM\ncell 0', 3.9: 'LSTM\ncell 1', 5.4: 'LSTM\ncell 2'}
OTHERS = {1.1: '32\nnumbers', 6.7: '40\nlogits'}
HEIGHTS = [0, *sorted({**LEVELS, **OTHERS}), 7.8]
BLUE, GREY, RED = script.pictures.COLORS[0], '#666666', script.pictures.COLORS[1]


def draw_on(figure):
    axes = figure.add_subplot(1, 1, 1)

    def write(x, y, text, **how):
        axes.text(x, y, text, **{'ha': 'center', 'va': 'center', **how})

    def box(x, y, text, color):
        how = {'boxstyle': 'round,pad=0.04', 'facecolor': color, 'alpha': 0.2}
        axes.add_patch(FancyBboxPatch((x - 0.42, y - 0.28), 0.84, 0.56, **how))
        write(x, y, text, fontsize=9)

    def arrow(start, end, color=GREY, bend=0.0):
        style = {'arrowstyle': '->', 'color': color, 'connectionstyle': f'arc3,rad={bend}'}
        axes.annotate('', end, start, arrowprops=style)

    for step, (character, following) in enumerate(zip(READ, NEXT)):
        x = 1.9 * step
        write(x, HEIGHTS[0], character, fontsize=15, family='monospace')
        write(x, HEIGHTS[-1], following, fontsize=15, family='monospace', color=RED)
        for y, text in LEVELS.items():
            box(x, y, text, BLUE)
            arrow((x - 1.4 if step else x - 1.1, y), (x - 0.5, y))
        for y, text in OTHERS.items():
            box(x, y, text, GREY)
        for low, high in zip(HEIGHTS[:-1], HEIGHTS[1:]):
            arrow((x, low + 0.33), (x, high - 0.33), RED if high == HEIGHTS[-1] else GREY)
        for low in HEIGHTS[2:4]:  # cells 1 and 2 add their input to their output
            arrow((x + 0.1, low + 0.55), (x + 0.1, low + 2.15), BLUE, bend=0.75)
    for y in LEVELS:
        arrow((x + 0.5, y), (x + 1.1, y))
    left, right = -1.25, x + 1.25
    write(left, 3.9, 'c, h\nfrom the\nlast batch', ha='right', color=GREY)
    write(right, 3.9, 'c, h\nfor the\nnext batch', ha='left', color=GREY)
    write(left, HEIGHTS[0], 'input', ha='right')
    write(left, HEIGHTS[-1], 'target', ha='right', color=RED)
    write(right, HEIGHTS[4] - 0.75, 'residual', ha='left', color=BLUE)
    axes.set(xlim=(-2.9, right + 1.6), ylim=(-0.5, 8.3), aspect='equal')
    axes.axis('off')


if __name__ == '__main__':
    script.pictures.save(str(DOCS / 'stack.png'), draw_on, size=(8.5, 7))
