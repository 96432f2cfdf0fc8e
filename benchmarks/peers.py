"""Measure the speed of the script beside PyTorch and JAX, in fifteen minutes.

It writes docs/peers-speed.md, or docs/peers-speed-avx512.md on a processor with AVX-512, where the
ratios are others.

    python benchmarks/peers.py .venv .venv-tf2 .venv-torch .venv-jax [quick]

The folders have TensorFlow 1.15, a 2.x, PyTorch and JAX. All take turns on the same cores. The
quick form is of the default shape alone: two minutes, and it only prints.
"""

import pathlib
import subprocess
import sys

from benchmark import DOCS, Stepper, about_machine, as_table, multiplications, parse, take_turns

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT = ()
SHAPES = [
    ('--rnn_size=64',), ('--rnn_size=256',), ('--rnn_size=512', '--batch_size=50'),
    ('--rnn_size=1024', '--batch_size=25'), ('--num_layers=1',), ('--num_layers=2',),
    ('--num_layers=6',), ('--batch_size=25',), ('--batch_size=50',), ('--batch_size=200',),
    ('--batch_size=400',),
]  # fmt: skip
# What each kind is called in the table, and whether it is measured at every shape.
KINDS = {
    'ours': ('the script', True),
    'ours_tf2': ('the script, TensorFlow 2', True),
    'recipe': ('the recipe', False),
    'lstm': ('PyTorch, `nn.LSTM`', True),
    'compiled_lstm': ('PyTorch, `nn.LSTM`, `torch.compile`', True),
    'compiled_unrolled': ('PyTorch, cells unrolled, `torch.compile`', False),
    'scan_1': ('JAX, `scan`', True),
    'scan_2': ('JAX, `scan`, two steps in one', False),
    'scan_5': ('JAX, `scan`, five steps in one', False),
}
# Products of two 2048 x 2048 matrices, measured beside large models
PRODUCTS = {
    'product_ours': 'TensorFlow', 'product_ours_tf2': 'TensorFlow 2', 'product': 'PyTorch',
}  # fmt: skip
METHOD = """
Each kind trains in a process of its own, with as many threads as it takes by itself. The processes
take turns of about a second on the same cores, nine at the default shape and five at the others; a
figure is the median of the turns. A step ends when its loss is known. Memory is the most that the
process had.

The models are the same but for what the script has besides, which is work that the others do not
have: residual connections, a decay of the weights, and their averages. PyTorch has its `nn.LSTM`,
which calls oneDNN, and its fused Adam; JAX one jitted step with donated arguments, whose `scan`
takes the products with the inputs from before it. The script reads its text, the recipe too; the
others random characters. Before anything is measured, PyTorch and JAX have to find the loss that
NumPy finds, to 1e-5, and after 20 steps each other's, to 5e-4.

PyTorch is the build for CUDA, since pip installs that one, and its memory has to be read with that
in mind: in turns with it, at the default shape, the build 2.13.0+cpu took 420 MB instead of 808,
and was 1.03 times as fast. (Another PyTorch: give its folder in the place of `.venv-torch`.)
"""


def stepper(kind, pythons, *arguments):
    """Start a process that takes steps of a kind."""
    one, two, of_torch, of_jax = pythons
    own = {
        'ours': (one, 'script_steps'), 'ours_tf2': (two, 'script_steps'),
        'recipe': (one, 'recipe_steps'),
        'product_ours': (one, 'product_steps'), 'product_ours_tf2': (two, 'product_steps'),
    }  # fmt: skip
    if kind in own:
        python, name = own[kind]
        return Stepper(name, *arguments, python=python)
    python, name = (
        (of_jax, 'peer_jax.py') if kind.startswith('scan') else (of_torch, 'peer_torch.py')
    )
    return Stepper(kind, *arguments, python=python, program=[str(HERE / name)])


def measure(pythons, shape, kinds, repetitions):
    """Return the seconds per step and the memory in MB of each kind: a dict."""
    steppers = take_turns(repetitions, *(stepper(kind, pythons, *shape) for kind in kinds))
    return {kind: (one.median, one.memory) for kind, one in zip(kinds, steppers)}


def is_large(shape):
    return parse(*shape).rnn_size >= 512


def rate(shape, seconds):
    """Return the characters per second."""
    settings = parse(*shape)
    return settings.batch_size * settings.training_seq_len / seconds


def ratios(measured):
    """Return how many times as fast ours is as the fastest of PyTorch, and of JAX: list of str."""
    ours, _ = measured['ours']
    best = [
        min(seconds for kind, (seconds, _) in measured.items() if name in KINDS.get(kind, [''])[0])
        for name in ('PyTorch', 'JAX')
    ]
    return [f'{seconds / ours:.2f} x' for seconds in best]


def table_of_default(measured):
    head = ('at the default shape', 'characters per second', 'ours is faster', 'memory, MB')
    ours, _ = measured['ours']
    return as_table(head, [
        (KINDS[kind][0], f'{rate(DEFAULT, seconds):,.0f}', f'{seconds / ours:.2f} x',
         f'{memory:,.0f}')
        for kind, (seconds, memory) in measured.items()
    ])  # fmt: skip


def table_of_shapes(found):
    """Return the table of all shapes, from a dict of what `measure` returned for each."""
    kinds = [kind for kind, (_, everywhere) in KINDS.items() if everywhere]
    head = (
        'characters per second at', *(KINDS[kind][0] for kind in kinds), 'ours / PyTorch',
        'ours / JAX', 'memory, MB: ours / PyTorch / JAX',
    )  # fmt: skip
    rows = []
    for shape, measured in found.items():
        cells = [
            f'{rate(shape, measured[kind][0]):,.0f}' if kind in measured else '' for kind in kinds
        ]
        memory = [f'{measured[kind][1]:,.0f}' for kind in ('ours', 'lstm', 'scan_1')]
        rows.append((' '.join(shape) or 'default', *cells, *ratios(measured), ' / '.join(memory)))
    return as_table(head, rows)


def table_of_products(found):
    """Return the table of how near large models come to the fastest of the products."""
    kinds = ('ours', 'ours_tf2', 'lstm', 'scan_1')
    head = ('GFLOP/s at', *(f'a product, {name}' for name in PRODUCTS.values()),
            *(f'a step, {KINDS[kind][0]}' for kind in kinds))  # fmt: skip
    rows = []
    for shape, measured in found.items():
        products = [2 * 2048**3 / measured[kind][0] / 1e9 for kind in PRODUCTS]
        steps = [multiplications(parse(*shape)) / measured[kind][0] / 1e9 for kind in kinds]
        shares = [f'{step:,.0f}, {step / max(products):.0%}' for step in steps]
        rows.append((' '.join(shape), *(f'{product:,.0f}' for product in products), *shares))
    return as_table(head, rows)


def check(programs):
    """Raise if a model's first loss is not NumPy's, or if the last ones are not each other's.

    Args:
      programs: list of (python, path).
    """
    losses = []
    for python, path in programs:
        output = subprocess.run([python, path, 'check'], check=True, stdout=subprocess.PIPE).stdout
        losses += map(float, output.split())
    if not losses or max(losses) - min(losses) > 5e-4:  # nats; float32 makes it 5e-5
        raise RuntimeError(f'the models learn differently: {losses} nats after 20 steps')


def version(python, package):
    command = [python, '-c', f'import {package}; print({package}.__version__)']
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def main(*folders_and_mode):
    *folders, mode = folders_and_mode if len(folders_and_mode) == 5 else (*folders_and_mode, '')
    pythons = [str(pathlib.Path(folder, 'bin', 'python').absolute()) for folder in folders]
    check(zip(pythons[2:], [str(HERE / 'peer_torch.py'), str(HERE / 'peer_jax.py')]))
    found = {DEFAULT: measure(pythons, DEFAULT, KINDS, 9)}
    print(table_of_default(found[DEFAULT]), flush=True)
    if mode == 'quick':
        return
    kinds = [kind for kind, (_, everywhere) in KINDS.items() if everywhere]
    for shape in SHAPES:
        found[shape] = measure(pythons, shape, [*kinds, *(PRODUCTS if is_large(shape) else [])], 5)
        print(shape, found[shape], flush=True)
    large = {shape: measured for shape, measured in found.items() if is_large(shape)}
    versions = (
        f'TensorFlow {version(pythons[1], "tensorflow")}, PyTorch {version(pythons[2], "torch")}, '
        f'JAX {version(pythons[3], "jax")}'
    )
    text = (
        f'# Speed beside PyTorch and JAX\n\n`make peers`. {about_machine()[:-2]}; {versions}.\n'
        f'{METHOD}\n{table_of_default(found[DEFAULT])}\n{table_of_shapes(found)}\n'
        'The products are of 2048 x 2048 matrices, and the shares are of the fastest of them. Of\n'
        f'a step, only what is matrix products counts.\n\n{table_of_products(large)}'
    )
    name = 'peers-speed-avx512.md' if 'AVX-512' in about_machine() else 'peers-speed.md'
    (DOCS / name).write_text(text)
    print(text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (5, 6) else __doc__)
