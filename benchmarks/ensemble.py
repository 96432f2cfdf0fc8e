"""Measure how well the averaged probabilities of several models predict a text.

    python benchmarks/ensemble.py TEXT FOLDER [FOLDER ...]

FOLDER has a run of the script. All runs have learned the same symbols.
"""

import argparse
import contextlib
import sys

from shared import script

# isort: split
# Only now does Python find it.
from tools import trained

import numpy as np

STREAMS, TIME = 50, 50


def read(session, sampler, ids):
    """Yield the probabilities of the characters from the second on: [STREAMS, up to TIME]."""
    state = sampler.zero_state(len(ids))
    for first in range(0, ids.shape[1] - 1, TIME):
        y = ids[:, first + 1 : first + 1 + TIME]
        x = ids[:, first : first + y.shape[1]]
        feed = {sampler.x_data: x, sampler.y_output: y, sampler.initial_state: state}
        losses, state = session.run([sampler.losses, sampler.final_state], feed)
        yield np.exp(-losses.astype(np.float64))


def main(text_file, *folders):
    found = []
    with open(text_file, encoding='utf-8', newline='') as file:
        text = file.read()
    for folder in folders:
        settings = argparse.Namespace(temp_dir=folder, checkpoint='', device='auto')
        with contextlib.ExitStack() as stack:
            session, sampler, ix2vocab, run, _ = stack.enter_context(trained.opened(settings))
            ids = script.encode(text, ix2vocab, run.clean_text)[0]
            ids = ids[: len(ids) // STREAMS * STREAMS].reshape(STREAMS, -1)
            found.append(np.concatenate(list(read(session, sampler, ids)), axis=1))
        print(f'{folder}: {-np.log(found[-1]).mean():.4f} nats')
    print(f'together: {-np.log(np.mean(found, axis=0)).mean():.4f} nats')


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 2 else __doc__)
