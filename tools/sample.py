"""Generate text with a trained model: print how it continues a prime text.

    python -m tools.sample --prime_text="my lord" --sample_length=200
    python -m tools.sample --stop_at=" exit " < prime_texts.txt

A sample begins with a prime text. It comes from --prime_text, or from standard input: each line of
a pipe or a file is a prime text, answered as soon as it arrives. In a terminal, the tool asks for
prime texts. Without any, a sample begins as in training. Standard output contains only samples.
"""

import collections
import contextlib
import itertools
import os
import re
import select
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import machine, reading, running
from backstage.reading import composed
from backstage.report import shown
from backstage.settings import UserError, read_settings
from stacked_lstm_shakespeare import decode, encode, random_of
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run
checkpoint = ''  # the model to use, such as temp/model-9070; empty: the best so far
prime_text = ''  # the start of each sample; empty: the lines of the input, or as in training
num_samples = 1  # samples to print for each prime text
sample_length = 100  # draw at most this many characters for a sample
stop_at = ''  # end a sample before this text, such as \n (a line end), if the model writes it
temperature = 0.7  # 1: the model's own probabilities; lower is safer; 0: always the most likely
top_k = 0  # draw from this many of the most likely characters; 0: from all
seed = 1  # random seed; a different one gives different samples
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU if TensorFlow finds one

RANGES = {
    'checkpoint': 'path', 'prime_text': str, 'stop_at': str,
    'num_samples': (1, 10**9), 'top_k': (0, 10**9),
}  # fmt: skip

PIECE = 20  # characters to draw at a time, so that the user can read along
STREAMS = 100  # most samples to draw in parallel
DRAWN = 10**6  # most characters to draw in parallel, in all samples together
BLOCK = 1 << 16  # bytes to read at a time


def draw(session, sampler, samples, settings, ix2vocab):
    """Draw samples in parallel; yield them after each piece, as a list of (str, bool).

    The str begins with the prime text and ends before `stop_at`. The bool tells whether the sample
    reached `stop_at`.

    Args:
      samples: list of tuples: a prime text, int32 [1, characters]; the state before its last
        character, float32 [num_layers, 2, 1, rnn_size]; a np.random.RandomState.
    """
    primes, states, random = zip(*samples)
    texts = [decode(prime[0], ix2vocab) for prime in primes]
    last, state = np.concatenate([prime[:, -1:] for prime in primes]), np.concatenate(states, 2)
    for begin in range(0, settings.sample_length, PIECE):
        num = min(PIECE, settings.sample_length - begin)
        ids, state = sampler.sample(session, last, num, settings.temperature, random, state)
        last = ids[:, -1:]
        found = []
        for k, prime in enumerate(primes):
            texts[k] += decode(ids[k], ix2vocab)
            end = texts[k].find(settings.stop_at, prime.size) if settings.stop_at else -1
            found.append((texts[k], False) if end < 0 else (texts[k][:end], True))
        yield found
        if all(is_over for _, is_over in found):
            return


def print_samples(session, sampler, samples, settings, ix2vocab):
    """Print samples in order. A batch is drawn in parallel; its first sample is printed piecewise.

    Args:
      samples: iterator over tuples as for `draw`, and None if the batch so far must not wait.
    """
    size = max(1, min(STREAMS, DRAWN // settings.sample_length))
    waiting = max(0, len(settings.stop_at) - 1)  # the last characters may be the start of stop_at
    missed = 0
    for batch in batches_of(samples, size):
        printed = 0
        for found in draw(session, sampler, batch, settings, ix2vocab):
            text, is_over = found[0]
            end = len(text) if is_over else max(batch[0][0].size, len(text) - waiting)
            print(shown(text[printed:end], sys.stdout), end='', flush=True)
            printed = end
        print(shown(text[printed:], sys.stdout))
        for text, _ in found[1:]:
            print(shown(text, sys.stdout))
        missed += sum(not is_over for _, is_over in found)
    if settings.stop_at and missed:
        samples = 'sample' if missed == 1 else 'samples'
        print(
            f'{missed:,} {samples} did not reach {settings.stop_at!r} in '
            f'{settings.sample_length:,} characters. Raise sample_length to draw more',
            file=sys.stderr,
        )


def batches_of(samples, size):
    """Yield lists of at most `size` samples. A None among the samples ends a list early."""
    batch = []
    try:
        for sample in itertools.chain(samples, [None]):
            batch += [sample] * (sample is not None)
            if batch and (sample is None or len(batch) == size):
                yield batch
                batch = []
    except UserError:  # a line cannot be read: answer the lines before it
        if batch:
            yield batch
        raise


def read_input():
    """Yield the non-blank lines of standard input, if it is a pipe or a file.

    Before waiting for more input, it yields None, so that earlier lines are answered.

    Raises:
      UserError: a line is not UTF-8.
    """
    try:
        stdin = sys.stdin.fileno()
        if stat.S_ISCHR(os.fstat(stdin).st_mode):  # a terminal, or /dev/null
            return
    except (AttributeError, OSError, ValueError):  # no standard input
        return
    number, rest, block = 0, b'', b' '
    while block:
        if not has_come(stdin, 0):
            yield None
            if not number and not has_come(stdin, 1):
                running.say(
                    'reading prime texts from standard input, one per line. To give one directly, '
                    'use --prime_text'
                )
        has_come(stdin, None)  # else reading from a non-blocking input would be an error
        block = os.read(stdin, BLOCK)
        *lines, rest = (rest + block).split(b'\n')
        for line in lines if block else [rest]:  # the last line may have no line end
            number += 1
            try:
                text = line.decode('utf-8-sig').strip('\r\n')
            except UnicodeDecodeError as error:
                raise UserError(
                    f'line {number:,} of standard input is not UTF-8: {error.reason}. Convert the '
                    f'input to UTF-8 first'
                )
            if text.strip():
                yield text


def has_come(descriptor, seconds):
    """Return whether input arrives within so many seconds; None: wait forever."""
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    except OSError:  # Windows can tell only for sockets, so a batch waits for all its lines
        return True


def read_stop_at(text, ix2vocab, run):
    r"""Return `stop_at` with \n replaced by a line end and \t by a tab.

    Raises:
      UserError: the model never writes one of its characters.
    """
    escapes = {r'\n': '\n', r'\t': '\t', r'\\': '\\'}
    text = composed(re.sub(r'\\[nt\\]', lambda match: escapes[match.group()], text))
    never = set(text) - {symbol for ix, symbol in enumerate(ix2vocab) if ix not in (0, *run.unseen)}
    if never:
        why = ': it was trained on a clean text' if run.clean_text else ''
        never = ', '.join(map(repr, sorted(never)))
        raise UserError(f'stop_at must be text that the model writes. It never writes {never}{why}')
    return text


def main(arguments):
    """Print samples."""
    settings = read_settings(globals(), arguments)
    # A notebook runs programs in a terminal in which nobody types.
    is_asked = sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()
    is_asked = is_asked and 'JPY_PARENT_PID' not in os.environ
    with trained.opened(settings, settings.top_k) as (session, sampler, ix2vocab, run, _):
        settings.stop_at = read_stop_at(settings.stop_at, ix2vocab, run)
        numbers = collections.Counter()  # samples so far of each prime text

        def samples_of(texts, file=None):
            """Yield the samples to draw, as `print_samples` needs them."""
            for text in texts:
                if text is None:
                    yield None
                    continue
                prime = encode(text, ix2vocab, run.clean_text)
                reading.check_prime(text, prime, ix2vocab, run.unseen, file)
                feed = {sampler.x_data: prime[:, :-1], sampler.initial_state: sampler.zero_state(1)}
                state = session.run(sampler.final_state, feed, machine.in_this_thread())
                for _ in range(settings.num_samples):
                    number = numbers[prime.tobytes()]
                    numbers[prime.tobytes()] += 1
                    yield prime, state, random_of(prime, number, settings.seed)

        if settings.prime_text or not is_asked:
            texts = [settings.prime_text] if settings.prime_text else read_input()
            print_samples(session, sampler, samples_of(texts, sys.stderr), settings, ix2vocab)
            if not numbers:  # the input had no line
                texts = [run.prime_texts[0]]
                print_samples(session, sampler, samples_of(texts, sys.stderr), settings, ix2vocab)
            return 0
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  gives `input` arrow keys and a history
        while True:
            try:
                texts = [input('Prime text (Ctrl-D ends): ')]
                print_samples(session, sampler, samples_of(texts), settings, ix2vocab)
            except EOFError:
                print()
                return 0
            except UserError as error:
                print(error)


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
