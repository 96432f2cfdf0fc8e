"""Measure the speed of the script beside PyTorch and JAX: docs/peers-speed.md, fifteen minutes.

    python benchmarks/peers.py .venv .venv-tf2 .venv-torch .venv-jax [quick]

The folders have TensorFlow 1.15, a 2.x, PyTorch and JAX. All take turns on the same cores.
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


def stepper(kind, pythons, *arguments):
    """Start a process that trains."""
    one, two, of_torch, of_jax = pythons
    if kind in ('ours', 'recipe'):
        return Stepper(
            'recipe_steps' if kind == 'recipe' else 'script_steps', *arguments, python=one
        )
    if kind == 'ours_tf2':
        return Stepper('script_steps', *arguments, python=two)
    python, name = (
        (of_jax, 'peer_jax.py') if kind.startswith('scan') else (of_torch, 'peer_torch.py')
    )
    return Stepper(kind, *arguments, python=python, program=[str(HERE / name)])


def measure(pythons, shape, kinds, repetitions):
    """Return the characters per second and the memory in MB of each kind: a dict."""
    settings = parse(*shape)
    characters = settings.batch_size * settings.training_seq_len
    steppers = take_turns(repetitions, *(stepper(kind, pythons, *shape) for kind in kinds))
    return {kind: (characters / one.median, one.memory) for kind, one in zip(kinds, steppers)}


def ratios(rates):
    """Return how many times as fast ours is as the fastest of PyTorch, and of JAX: list of str."""
    ours = rates['ours'][0]
    best = [
        max(rate for kind, (rate, _) in rates.items() if names in KINDS[kind][0])
        for names in ('PyTorch', 'JAX')
    ]
    return [f'{ours / rate:.2f} x' for rate in best]


def rows_of_shapes(found):
    """Yield the rows of the table of all shapes, from a dict of what `measure` found for each."""
    kinds = [kind for kind, (_, everywhere) in KINDS.items() if everywhere]
    for shape, rates in found.items():
        cells = [f'{rates[kind][0]:,.0f}' if kind in rates else '' for kind in kinds]
        memory = [f'{rates[kind][1]:,.0f}' for kind in ('ours', 'lstm', 'scan_1')]
        yield (' '.join(shape) or 'default', *cells, *ratios(rates), ' / '.join(memory))


def share_of_product(pythons, shape, rates):
    """Return a row on how near a large model comes to the rate of one large matrix product."""
    (product,) = take_turns(
        7, Stepper('product', python=pythons[2], program=[str(HERE / 'peer_torch.py')])
    )
    settings = parse(*shape)
    each = multiplications(settings) / (settings.batch_size * settings.training_seq_len)
    peak = 2 * 2048**3 / product.median
    shares = [
        f'{rates[kind][0] * each / peak:.0%}' for kind in ('ours', 'ours_tf2', 'lstm', 'scan_1')
    ]
    return (' '.join(shape), f'{peak / 1e9:,.0f}', *shares)


def version(python, package):
    command = [python, '-c', f'import {package}; print({package}.__version__)']
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def main(*folders_and_mode):
    *folders, mode = folders_and_mode if len(folders_and_mode) == 5 else (*folders_and_mode, '')
    pythons = [str(pathlib.Path(folder, 'bin', 'python').absolute()) for folder in folders]
    for python, name in zip(pythons[2:], ('peer_torch.py', 'peer_jax.py')):
        subprocess.run([python, str(HERE / name), 'check'], check=True)
    found = {DEFAULT: measure(pythons, DEFAULT, KINDS, 9)}
    print(found, flush=True)
    kinds = [kind for kind, (_, everywhere) in KINDS.items() if everywhere]
    for shape in SHAPES if mode != 'quick' else []:
        found[shape] = measure(pythons, shape, kinds, 5)
        print(shape, found[shape], flush=True)
    versions = f'PyTorch {version(pythons[2], "torch")}, JAX {version(pythons[3], "jax")}'
    ours = found[DEFAULT]['ours'][0]
    text = (
        f'# Speed beside PyTorch and JAX\n\n`make peers`. {about_machine()[:-2]}; {versions}.\n\n'
    )
    head = ('at the default shape', 'characters per second', 'ours is faster', 'memory, MB')
    text += as_table(head, [
        (KINDS[kind][0], f'{rate:,.0f}', f'{ours / rate:.2f} x', f'{memory:,.0f}')
        for kind, (rate, memory) in found[DEFAULT].items()
    ])  # fmt: skip
    head = (
        'characters per second at', *(KINDS[kind][0] for kind in kinds), 'ours / PyTorch',
        'ours / JAX', 'memory, MB: ours / PyTorch / JAX',
    )  # fmt: skip
    text += '\n' + as_table(head, list(rows_of_shapes(found)))
    large = [shape for shape in found if '--rnn_size=512' in shape or '--rnn_size=1024' in shape]
    head = ('share of the rate of PyTorch\'s product of 2048 x 2048', 'its GFLOP/s', 'ours',
            'ours, TensorFlow 2', 'PyTorch', 'JAX')  # fmt: skip
    rows = [share_of_product(pythons, shape, found[shape]) for shape in large]
    text += ('\n' + as_table(head, rows)) if rows else ''
    (DOCS / 'peers-speed.md').write_text(text)
    print(text)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (5, 6) else __doc__)
