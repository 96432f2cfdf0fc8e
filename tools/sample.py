"""Let a trained model write: how a text goes on, as the model sees it.

    python -m tools.sample --prime_text="my lord" --sample_length=200

Without a prime text it asks for one after the other in a terminal. Elsewhere it prints samples and
nothing else, beginning as those of the training.
"""

import contextlib
import itertools
import os
import sys

from backstage import reading, running
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import decode, encode
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = 'temp'  # folder of the run
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
prime_text = ''  # how a sample begins; empty: asked for in a terminal, else as in training
num_samples = 1  # samples to print
sample_length = 100  # characters to draw for each
temperature = 0.7  # 1 draws as the model believes, less is safer, 0 is the likeliest
top_k = 0  # only the likeliest so many characters are drawn; 0: all of them
seed = 1  # of the random numbers; another one gives other samples
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one

PIECE = 20  # characters drawn at a time, so that one can read along


def sample_pieces(session, sampler, prime, settings, number):
    """Yield how a text, int32 [1, characters], goes on, in pieces: int32 [characters]."""
    random = np.random.RandomState([settings.seed, number])
    state = None
    for begin in range(0, settings.sample_length, PIECE):
        num = min(PIECE, settings.sample_length - begin)
        seed = random.randint(2**30, size=2)
        sampled, state = sampler.sample(session, prime, num, settings.temperature, seed, state)
        yield sampled[0]
        prime = sampled[:, -1:]


def main(arguments):
    """Print samples as they are made."""
    settings = read_settings(globals(), arguments)
    with trained.opened(settings, settings.top_k) as (session, sampler, ix2vocab, run, _):

        def read_prime(text, file=None):
            prime = encode(text, ix2vocab, run.clean_text)
            reading.check_prime(text, prime, ix2vocab, file)
            return prime

        def print_sample(prime, number):
            pieces = sample_pieces(session, sampler, prime, settings, number)
            for piece in itertools.chain(prime, pieces):
                print(decode(piece, ix2vocab), end='', flush=True)
            print()

        # A notebook runs programs in a terminal of its own, and nobody types there.
        is_asked = sys.stdin.isatty() and sys.stdout.isatty() and 'JPY_PARENT_PID' not in os.environ
        if settings.prime_text or not is_asked:
            prime = read_prime(settings.prime_text or run.prime_texts[0], file=sys.stderr)
            for number in range(settings.num_samples):
                print_sample(prime, number)
            return 0
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  with it `input` has arrow keys and a history
        for number in itertools.count():
            try:
                print_sample(read_prime(input('Prime text (Ctrl-D ends): ')), number)
            except EOFError:
                print()
                return 0
            except UserError as error:
                print(error)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
