"""Check that two versions of the script learn the same, bit for bit: five minutes.

    python benchmarks/witness.py OTHER_CHECKOUT

Settings may follow, such as --data_dir=FOLDER, for the runs of both. What is compared: the losses
of all iterations, the held-out losses, and the samples.
"""

import sys
import tempfile

from shared import DATA_DIR, ROOT, SCRIPT, read_history, run, script

RUNS = {  # what is run one after the other in the same folder
    'the default settings': ['--max_iterations=400'],
    'dropout, continued': [
        '--keep_prob=0.7 --max_iterations=150',
        '--keep_prob=0.7 --max_iterations=300',
    ],
    'one layer': ['--num_layers=1 --max_iterations=400'],
}


def train(checkout, runs, *arguments):
    """Train with the script of a checkout; return its losses, held-out losses and samples, dict."""
    output = ''
    with tempfile.TemporaryDirectory() as folder:
        common = [DATA_DIR, '--save_every=100', '--eval_every=100', f'--temp_dir={folder}']
        for one in runs:
            program = [f'{checkout}/{SCRIPT.name}']
            output += run(*common, *one.split(), *arguments, program=program)
        losses, held_out_losses = read_history(folder)
    samples = [line for line in output.split('\n') if line.startswith(tuple(script.prime_texts))]
    return {'losses': losses, 'held-out losses': held_out_losses, 'samples': samples}


def compare(ours, theirs):
    """Return in words what of two results of `train` is the same."""
    words = []
    for name, values in ours.items():
        alike = [a == b for a, b in zip(values, theirs[name])]
        first = [*alike, False].index(False) + 1
        where = 'the same' if values == theirs[name] else f'DIFFERENT from number {first} on'
        words.append(f'{len(values)} {name} {where}')
    return ', '.join(words)


def main(other, *arguments):
    differ = False
    for name, runs in RUNS.items():
        theirs, ours = (train(checkout, runs, *arguments) for checkout in (other, ROOT))
        print(f'{name}: {compare(ours, theirs)}', flush=True)
        differ |= ours != theirs
    return int(differ)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
