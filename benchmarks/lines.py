"""Score ten thousand lines in batches, and some of them by a session call each.

python benchmarks/lines.py [temp_dir of a run]
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from backstage import lines, sources
from stacked_lstm_shakespeare import encode
from tools import trained

import numpy as np

NUM, SINGLE = 10_000, 500


def main(temp_dir='temp'):
    settings = argparse.Namespace(temp_dir=temp_dir, checkpoint='', device='auto')
    some = sources.read_package(timeout=60).decode().splitlines()[5000 : 5000 + NUM]
    with trained.opened(settings) as (session, sampler, ix2vocab, run, path):
        texts = [encode(line, ix2vocab, run.clean_text)[0] for line in some]
        lines.sum_losses(session, sampler, texts[:SINGLE], 1)  # the first call of a session is slow
        begin = time.perf_counter()
        batched = lines.sum_losses(session, sampler, texts, 1)
        middle = time.perf_counter()
        single = [lines.sum_side_by_side(session, sampler, [text], 1)[0] for text in texts[:SINGLE]]
        end = time.perf_counter()
    np.testing.assert_allclose(batched[:SINGLE], single, rtol=1e-4)
    rates = NUM / (middle - begin), SINGLE / (end - middle)
    print(
        f'{path}: {rates[0]:,.1f} lines per second in batches, {rates[1]:,.1f} one by one, ', end=''
    )
    print(f'{rates[0] / rates[1]:.1f} x')


if __name__ == '__main__':
    main(*sys.argv[1:])
