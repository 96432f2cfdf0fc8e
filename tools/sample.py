"""Let a trained model write: how a text goes on, as the model sees it.

    python -m tools.sample --prime_text="my lord" --sample_length=200
    python -m tools.sample --stop_at=" exit " < prime_texts.txt

Prime texts come from the command, or as lines from a pipe or a file at the standard input, or are
asked for in a terminal. If there are none, samples begin as those of the training. They are printed
to the standard output, and nothing else is.
"""

import collections
import contextlib
import itertools
import os
import re
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import reading, running
from backstage.reading import composed
from backstage.report import shown
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import decode, encode, random_of
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
prime_text = ''  # how a sample begins; empty: a line each of the input, else as in training
num_samples = 1  # samples to print, of each prime text
sample_length = 100  # characters to draw for each, at most
stop_at = ''  # a sample ends before this text, such as \n (a line end), where the model writes it
temperature = 0.7  # 1 draws as the model believes, less is safer, 0 is the likeliest
top_k = 0  # only the likeliest so many characters are drawn; 0: all of them
seed = 1  # of the random numbers; another one gives other samples
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one

RANGES = {
    'checkpoint': 'path', 'prime_text': str, 'stop_at': str,
    'num_samples': (1, 10**9), 'top_k': (0, 10**9),
}  # fmt: skip

PIECE = 20  # characters drawn at a time, so that one can read along
STREAMS = 100  # samples that are drawn side by side
BLOCK = 1000  # so many are drawn before the first of them is printed


def draw(session, sampler, primes, random, settings):
    """Yield how texts go on, in pieces: int32 [streams, num].

    Args:
      primes: list of int32 [1, characters], of the same length.
      random: list of np.random.RandomState, one for each.
    """
    primes, state = np.concatenate(primes), None
    for begin in range(0, settings.sample_length, PIECE):
        num = min(PIECE, settings.sample_length - begin)
        sampled, state = sampler.sample(session, primes, num, settings.temperature, random, state)
        yield sampled
        primes = sampled[:, -1:]


def cut(text, stop_at):
    """Return a text up to where it is to stop, and whether it stops there."""
    place = text.find(stop_at) if stop_at else -1
    return (text, False) if place < 0 else (text[:place], True)


def draw_texts(session, sampler, primes, random, settings, ix2vocab):
    """Return how texts of the same length go on, list of (str, whether they came to stop_at)."""
    texts = [''] * len(primes)
    for piece in draw(session, sampler, primes, random, settings):
        texts = [text + decode(ids, ix2vocab) for text, ids in zip(texts, piece)]
        found = [cut(text, settings.stop_at) for text in texts]
        if all(stopped for _, stopped in found):
            break
    return found


def print_all(session, sampler, samples, settings, ix2vocab):
    """Print samples, an iterable of pairs of int32 [1, characters] and RandomState, in its order.

    Those that begin with as many characters are drawn side by side.
    """
    missed, samples = 0, iter(samples)
    size = max(1, min(BLOCK, 10**6 // settings.sample_length))
    for block in iter(lambda: list(itertools.islice(samples, size)), []):
        texts = {}
        for length in sorted({prime.size for prime, _ in block}):
            alike = [k for k, (prime, _) in enumerate(block) if prime.size == length]
            for first in range(0, len(alike), STREAMS):
                batch = alike[first : first + STREAMS]
                primes, random = zip(*[block[k] for k in batch])
                found = draw_texts(session, sampler, primes, random, settings, ix2vocab)
                texts.update(zip(batch, found))
        for k, (prime, _) in enumerate(block):
            text, stopped = texts[k]
            print(shown(decode(prime[0], ix2vocab) + text, sys.stdout))
            missed += not stopped
    tell_missed(missed, settings)


def print_one(session, sampler, prime, random, settings, ix2vocab):
    """Print a sample as it is drawn."""
    print(shown(decode(prime[0], ix2vocab), sys.stdout), end='', flush=True)
    text, printed = '', 0
    for piece in draw(session, sampler, [prime], [random], settings):
        text, stopped = cut(text + decode(piece[0], ix2vocab), settings.stop_at)
        # What may be the begin of stop_at waits for the next piece.
        end = len(text) if stopped else max(printed, len(text) - max(0, len(settings.stop_at) - 1))
        print(shown(text[printed:end], sys.stdout), end='', flush=True)
        printed = end
        if stopped:
            break
    print(shown(text[printed:], sys.stdout))
    tell_missed(not stopped, settings)


def tell_missed(count, settings):
    """Say how many samples did not come to where they are to stop, if any."""
    if settings.stop_at and count:
        samples = 'sample' if count == 1 else 'samples'
        print(
            f'{count:,} {samples} did not come to {settings.stop_at!r} in {settings.sample_length} '
            f'characters. --sample_length draws more',
            file=sys.stderr,
        )


def read_input():
    """Return the lines of the standard input, if it is a pipe or a file, without blank ones.

    Raises:
      UserError: it is not UTF-8.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is none
        return []
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return []
    try:
        lines = [line.decode('utf-8-sig').strip('\r\n') for line in sys.stdin.buffer]
    except UnicodeDecodeError as error:
        raise UserError(f'the standard input is not UTF-8: {error.reason}. Convert it first')
    return [line for line in lines if line.strip()]


def read_stop_at(text, ix2vocab, run):
    r"""Return the text of a setting, in which \n and \t stand for a line end and a tab.

    Raises:
      UserError: the model never writes that.
    """
    escapes = {'\\n': '\n', '\\t': '\t', '\\\\': '\\'}
    text = composed(re.sub(r'\\[nt\\]', lambda match: escapes[match.group()], text))
    written = {symbol for ix, symbol in enumerate(ix2vocab) if ix not in (0, *run.unseen)}
    never = ''.join(sorted(set(text) - written))
    if never:
        kind = ', whose text was cleaned,' if run.clean_text else ''
        raise UserError(f'this model{kind} never writes {never!r}. Give another stop_at')
    return text


def main(arguments):
    """Print samples."""
    settings = read_settings(globals(), arguments)
    # A notebook runs programs in a terminal of its own, and nobody types there.
    is_asked = sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()
    is_asked = is_asked and 'JPY_PARENT_PID' not in os.environ
    lines = [] if settings.prime_text or is_asked else read_input()
    with trained.opened(settings, settings.top_k) as (session, sampler, ix2vocab, run, _):
        settings.stop_at = read_stop_at(settings.stop_at, ix2vocab, run)
        how, numbers = (settings, ix2vocab), collections.Counter()

        def read_prime(text, file=sys.stderr):
            prime = encode(text, ix2vocab, run.clean_text)
            reading.check_prime(text, prime, ix2vocab, run.unseen, file)
            return prime

        def next_sample(prime):
            """Return how a sample begins, and what it is drawn by."""
            number = numbers[prime.tobytes()]
            numbers[prime.tobytes()] += 1
            return prime, random_of(prime, number, settings.seed)

        if settings.prime_text or not is_asked:
            texts = lines or [settings.prime_text or run.prime_texts[0]]
            primes = [read_prime(text) for text in texts]
            samples = (next_sample(p) for p in primes for _ in range(settings.num_samples))
            if len(primes) * settings.num_samples == 1:
                print_one(session, sampler, *next(samples), *how)
            else:
                print_all(session, sampler, samples, *how)
            return 0
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  with it `input` has arrow keys and a history
        while True:
            try:
                prime = read_prime(input('Prime text (Ctrl-D ends): '), None)
                print_one(session, sampler, *next_sample(prime), *how)
            except EOFError:
                print()
                return 0
            except UserError as error:
                print(error)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
