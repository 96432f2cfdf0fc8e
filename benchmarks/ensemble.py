"""Measure how well the averaged probabilities of several models predict their held-out text.

    python benchmarks/ensemble.py FOLDER [FOLDER ...]

FOLDER has a run of the script. All runs have the same text and as many layers and units.
"""

import argparse
import contextlib
import os
import sys

from shared import script

# isort: split
# Only now does Python find it.
from tools import trained

import numpy as np


class Together:
    """Several models as one session and model, so that `script.measure` can measure them."""

    x_data, y_output, initial_state, final_state = 'xysf'

    def __init__(self, models):
        self.models = models  # pairs of a session and its sampler

    def zero_state(self, streams):
        return np.concatenate([s.zero_state(streams) for _, s in self.models], axis=3)

    def run(self, _, feed):
        probabilities, states = [], np.split(feed['s'], len(self.models), axis=3)
        for k, (session, sampler) in enumerate(self.models):
            own = {
                sampler.x_data: feed['x'],
                sampler.y_output: feed['y'],
                sampler.initial_state: states[k],
            }
            losses, states[k] = session.run([sampler.losses, sampler.final_state], own)
            probabilities.append(np.exp(-losses.astype(np.float64)))
        return [-np.log(np.mean(probabilities, axis=0))], np.concatenate(states, axis=3)


def read_ids(folder):
    """Return the ids of a run's text: its bytes tell two texts apart."""
    return np.fromfile(os.path.join(folder, 'text.ids'), np.uint8)


def main(*folders):
    """Print the loss of each model, and of all together."""
    ids = read_ids(folders[0])
    if not all(np.array_equal(ids, read_ids(folder)) for folder in folders):
        sys.exit('the runs must have the same text')
    with contextlib.ExitStack() as stack:
        models = []
        for folder in folders:
            how = argparse.Namespace(temp_dir=folder, checkpoint='', device='auto')
            session, sampler, ix2vocab, run, _ = stack.enter_context(trained.opened(how))
            models.append((session, sampler))
        ids = ids.view(script.reading.id_type(ix2vocab))
        split = script.held_out_begin(len(ids), run.held_out)
        shape = run.batch_size, run.training_seq_len
        alone = [(folder, [model]) for folder, model in zip(folders, models)]
        for name, some in [*alone, ('together', models)]:
            one = Together(some)
            (loss,) = script.measure(one, one, ['losses'], ids, split, *shape)
            print(f'{name}: {loss:.4f} nats')


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
