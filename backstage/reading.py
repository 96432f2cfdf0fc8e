"""Reading a text: from the bytes of a file to characters, and checks that a model can learn them.

A file of any size is read in pieces. Letters are composed (Unicode NFC), and text that Project
Gutenberg wrote around a work is removed. An error names a command that converts the file to text.
"""

import bisect
import codecs
import functools
import glob
import itertools
import math
import os
import re
import shlex
import unicodedata
from collections import Counter

from backstage import report, workers
from backstage.settings import UserError

import numpy as np


def file_pieces(path, size=1 << 20):
    """Yield a UTF-8 file in pieces of about `size` characters, in Unicode NFC.

    Raises:
      UserError: the file cannot be read or is not UTF-8 text.
    """
    try:
        with open(path, 'rb') as file:
            problem = kind(file.read(512), path)
        if problem:
            raise UserError(f'{path} {problem}')
        with open(path, encoding='utf-8-sig') as file:
            # A piece ends at a line end, or anywhere if the line is very long.
            for piece in iter(lambda: file.read(size) + file.readline(10_000), ''):
                if '\0' in piece:
                    raise UserError(f'{path} {fault(path)}')
                yield composed(piece)
    except UnicodeDecodeError:
        raise UserError(f'{path} {fault(path)}')
    except OSError as error:
        raise UserError(f'{path} {unreadable(path, error)}')


def read_pieces(path, seen=None):
    """Yield the text of a file without Project Gutenberg's additions: `seen['cut']` characters."""
    seen = Counter() if seen is None else seen
    return cut_off(report.reading(path, file_pieces(path)), seen)


# --- Letters -------------------------------------------------------------------------------------

# Characters that Unicode's compatibility decomposition (NFKD) does not reduce to ASCII.
FOLDS = {
    '\u2010': '-', '\u2012': '-', '\u2013': '-', '\u2014': '--', '\u2015': '--', '\u2212': '-',
    '\u2018': "'", '\u2019': "'", '\u201a': "'", '\u201b': "'", '\u2032': "'", '\u02bc': "'",
    'æ': 'ae', 'Æ': 'AE', 'œ': 'oe', 'Œ': 'OE', 'ø': 'o', 'Ø': 'O', 'ß': 'ss', 'ð': 'd',
    'Ð': 'D', 'þ': 'th', 'Þ': 'TH', 'đ': 'd', 'Đ': 'D', 'ł': 'l', 'Ł': 'L', 'ı': 'i',
}  # fmt: skip


def code_points(text):
    """Return the Unicode code points of a str: uint32 [len(text)]."""
    return np.frombuffer(text.encode('utf-32-le'), np.uint32)


def composed(text):
    """Return a text in Unicode NFC: é is one character, not an e and an accent."""
    is_ascii = len(text.encode('utf-8', 'surrogatepass')) == len(text)  # a cheap test
    return text if is_ascii else unicodedata.normalize('NFC', text)


def fold_to_ascii(text):
    """Return the text in ASCII: é becomes e, a curly quote ', anything else a space."""
    return re.sub(r'[^\x00-\x7f]', lambda match: fold(match.group()), text)


@functools.lru_cache(maxsize=None)
def fold(character):
    """Return the ASCII form of one character, a str of any length."""
    ascii_form = ''
    for part in unicodedata.normalize('NFKD', character):
        if ord(part) < 128:
            ascii_form += part
        elif unicodedata.category(part) not in ('Mn', 'Cf'):  # not an accent, not invisible
            ascii_form += FOLDS.get(part, ' ')
    return ascii_form


# --- Files that are not UTF-8 text ---------------------------------------------------------------

KINDS = {  # first bytes: a description, and a command that converts the file to text
    b'\x1f\x8b': ('compressed (gzip)', 'gunzip'),
    b'BZh': ('compressed (bzip2)', 'bunzip2'),
    b'\xfd7zXZ': ('compressed (xz)', 'unxz'),
    b'\x28\xb5\x2f\xfd': ('compressed (zstd)', 'unzstd'),
    b'PK\x03\x04': ('compressed (zip, docx, odt or epub)', ''),
    b'%PDF-': ('a PDF', 'pdftotext - -'),
    b'{\\rtf': ('rich text (RTF)', ''),
    b'\xd0\xcf\x11\xe0': ('an old Office document', ''),
    codecs.BOM_UTF32_LE: ('UTF-32', 'iconv -f UTF-32 -t UTF-8'),  # UTF-16LE begins alike
    codecs.BOM_UTF32_BE: ('UTF-32', 'iconv -f UTF-32 -t UTF-8'),
    codecs.BOM_UTF16_LE: ('UTF-16', 'iconv -f UTF-16 -t UTF-8'),
    codecs.BOM_UTF16_BE: ('UTF-16', 'iconv -f UTF-16 -t UTF-8'),
}
# The encodings to guess, as iconv names them. If several give the same text, the first one wins.
ENCODINGS = (
    'GB18030', 'BIG5', 'CP932', 'EUC-JP', 'CP949', 'CP1252', 'CP1250', 'CP1251', 'KOI8-R', 'KOI8-U',
    'CP866', 'ISO8859-2', 'ISO8859-5', 'ISO8859-7', 'CP1253', 'CP1254', 'CP1255', 'CP1256',
    'CP1257', 'CP1258', 'CP437', 'CP850', 'UTF-16LE', 'UTF-16BE', 'UTF-32LE', 'UTF-32BE',
)  # fmt: skip
SAMPLE = 100_000  # bytes to guess from; a multiple of 4
FAULT = re.compile('[\0\udc80-\udcff]')  # a zero byte, or one that is not part of a character


def kind(head, path):
    """Return what is wrong with a file whose first bytes, `head`, are not text; else None."""
    is_tar = head[257:262] == b'ustar'
    known = [said for begin, said in KINDS.items() if head.startswith(begin)]
    if not is_tar and not known:
        return None
    what, command = ('an archive (tar)', 'tar -xOf -') if is_tar else known[0]
    convert = f': {command}{to_new(path)}' if command else ''
    return f'is {what}. Convert it to plain text{convert}'


def fault(path):
    """Return what is wrong with a file that has zero bytes or is not UTF-8."""
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        line, text = 1, file.read(SAMPLE)
        while text and not FAULT.search(text):
            line, text = line + text.count('\n'), file.read(SAMPLE)
        text += file.read(SAMPLE)
    faults = FAULT.findall(text)
    line += text.count('\n', 0, text.find(faults[0]))
    first = f'byte 0x{ord(faults[0]) & 0xFF:02X} on line {line:,}'
    zeros, num_ascii = faults.count('\0'), len(text.encode('ascii', 'ignore'))
    if 2 * (len(faults) - zeros) <= len(text) - num_ascii and zeros < len(text) / 10:
        leave_out = "tr -d '\\000'" if zeros else 'iconv -f UTF-8 -t UTF-8 -c'
        return (
            f'is UTF-8 text, but {first} is not a valid character. Fix it, or remove all such '
            f'bytes: {leave_out}{to_new(path)}'
        )
    with open(path, 'rb') as file:
        sample = file.read(SAMPLE)
    if not zeros:  # the lines with faults; the last one may end within a character
        lines = list(filter(FAULT.search, text.split('\n')))
        sample = '\n'.join(lines[:-1] or lines).encode('utf-8', 'surrogateescape')
    guess = guess_encoding(sample)
    if zeros and not guess:
        return f'is not text: {first}. Set text_file to another file'
    guess = guess or 'Find its encoding and convert it: iconv -f ENCODING'
    return f'is not UTF-8 text: {first}. {guess} -t UTF-8{to_new(path)}'


def guess_encoding(sample):
    """Return a guess of the encoding, with the start of a command; '' if no encoding fits.

    The sentence shows a word, from which the reader can tell whether the guess is right. If two
    encodings are likely, it is one that they read differently.
    """
    try:
        from charset_normalizer import from_bytes
    except ImportError:  # older versions of requests come without it
        return ''
    found = []
    for match in from_bytes(sample, chunk_size=4096, cp_isolation=ENCODINGS):
        same = {codecs.lookup(name).name for name in match.could_be_from_charset}
        rank = next(ix for ix, name in enumerate(ENCODINGS) if codecs.lookup(name).name in same)
        # In most Spanish or French texts, CP1250 is as coherent as CP1252. So the rank decides.
        found.append((match.chaos, -match.coherence, rank, str(match)))
    if not found:
        return ''
    chaos, coherence, rank, text = min(found)
    others = [
        (other_rank, other)
        for other_chaos, other_coherence, other_rank, other in found
        if other_rank != rank and other_chaos <= chaos + 0.1 and other_coherence <= coherence / 2
    ]
    second, other = min(others, default=(None, text.encode('ascii', 'replace').decode()))
    place = next((ix for ix, pair in enumerate(zip(text, other)) if len({*pair}) > 1), 0)
    guess = f'It may be {ENCODINGS[rank]}, if {word_at(text, place)!r} looks right'
    if others:
        guess += f', or {ENCODINGS[second]}, if {word_at(other, place)!r} does'
    return f'{guess}. Convert it: iconv -f {ENCODINGS[rank]}'


def word_at(text, place):
    """Return the word, or the part of a long one, that a place in a text belongs to."""
    return re.search(r'\S{0,10}$', text[:place])[0] + re.match(r'\S{0,10}', text[place:])[0]


def unreadable(path, error):
    """Return why a path cannot be read, given the OSError, and what to do."""
    if re.match(r'(https?|ftp)://|www\.', path):
        new = new_name(path.partition('?')[0])
        return f'is a URL. Download it: curl -fL -o {new} {shlex.quote(path)} (then use {new})'
    if os.path.isdir(path):
        if not glob.glob(os.path.join(glob.escape(path), '*.txt')):
            return 'is a folder without .txt files. Set text_file to a file'
        return f'is a folder. Join its files: {join(shlex.quote(os.path.join(path, "")) + "*.txt")}'
    paths = re.split(', *', path)
    if not os.path.exists(path) and all(map(glob.glob, paths)):
        # The wildcards stay unquoted.
        words = [re.sub(r'[^*?[\]]+', lambda part: shlex.quote(part[0]), one) for one in paths]
        return f'is more than one file. Join them: {join(*words)}'
    return f'cannot be read: {error.strerror}. Set text_file to another file'


def join(*words):
    """Return the command that joins files into one; the names are shell words."""
    new = new_name('texts')
    return f'cat {" ".join(words)} > {new} (then use {new})'


def to_new(path):
    """Return the end of a command that reads a file and writes a new one."""
    new = new_name(path)
    return f' < {shlex.quote(path)} > {new} (then use {new})'


def new_name(path):
    """Return a similar name for a converted file that does not exist yet in this folder."""
    stem = re.sub(r'(\.txt)?(\.[\w-]+)?$', '', os.path.basename(path)) or 'text'
    names = (f'{stem}{mark}.txt' for mark in ('', *map('-{}'.format, range(2, 10_000))))
    return shlex.quote(next(name for name in names if not os.path.lexists(name)))


# --- Text that Project Gutenberg wrote around a work ---------------------------------------------


def lines(*patterns):
    """Compile patterns that match in any case; a space stands for any blanks within a line."""
    pattern = '|'.join(patterns).replace(' ', r'(?:[^\S\n]+)')
    return re.compile(pattern, re.MULTILINE | re.IGNORECASE)


# A work stands between a start mark and an end mark: the current ones, those of the 2000s (THIS for
# THE), or those of the 1990s (the last line of the header and the first line of the trailer).
PROJECT = '(?:THE |THIS )?PROJECT GUTENBERG'
REST = r'(?:(?:[^*\n]|\n(?! ?\n)){0,500}\*\*+ ?\n?|.{0,500}\n?)'  # up to asterisks, or the line
MARK = lines(
    rf'(?P<start>^ ?\*\*+ ?START OF {PROJECT}{REST}',
    r'^ ?\*END\*? ?THE SMALL PRINT.{0,100}\n?',
    r'^ ?\*\*+ ?SMALL PRINT! FOR __ COMPLETE SHAKESPEARE.{0,100}\n'
    r'(?: ?\["Small Print".{0,100}\n)?)',
    rf'^ ?\*\*+ ?END OF {PROJECT}{REST}',
    # These have no asterisks. They begin with a capital letter; otherwise they may be prose.
    rf'^ ?(?-i:E)ND OF (?:{PROJECT}|(?:THE |THIS )?ETEXT).{{0,200}}\n?',
    rf'^ ?(?-i:T)H(?:IS IS TH)?E END OF {PROJECT} E-?(?:BOOK|TEXT).{{0,200}}\n?',
)
WORDS = ('gutenberg', 'small print', 'etext')  # each mark contains one of these
# A header begins with one of these lines and ends with a start mark.
HEADER_LINE = lines(
    r'^[^\w\n]*(?:This is )?(?:The )?Project Gutenberg(?:.s |.*(?:e-?book|e-?text|edition))',
    r'^.{0,20}Welcome To The World of Free Plain Vanilla',
    r'^ ?This e-?(?:book|text) is for the use of anyone',
    r'^ ?This is the \w+ E-?text file presented by Project Gutenberg',
    r'^\s*Produced by World Library',
    r'^[^\w\n]*SMALL PRINT! FOR COMPLETE SHAKESPEARE',
)
# A licence follows an end mark. These phrases recur in it, up to its last line.
LICENCE_TALK = re.compile(
    r'Gutenberg|Updated editions will replace the previous one|This file should be named'
    r'|(?P<last>to\s+hear\s+about\s+new\s+e-?books\.?\s*\n?'
    r'(?:EBooks posted prior to(?:.|\n){0,2000}?GUTINDEX\.ALL\s*)?'  # in the 2000s
    r'(?:\*+ END: FULL LICENSE \*+\s*\n?)?)',
    re.IGNORECASE,
)
NOTICE = re.compile('<<THIS ELECTRONIC VERSION[^<>]{0,2000}>>')  # between works
# Most characters of a header, of a licence (up to 20,000 were seen), between two phrases in a
# licence, and of a mark or a notice.
HEADER, LICENCE, LICENCE_GAP, SHORT = 50_000, 25_000, 4_000, 3_000


def cut_off(pieces, seen):
    """Yield the pieces of a text without the parts that Project Gutenberg recognisably wrote.

    It holds at most one piece and about 50,000 characters in memory.

    Args:
      pieces: iterable of str.
      seen: collections.Counter; the number of removed characters is added to its 'cut'.
    """
    text = ''
    for piece in itertools.chain(pieces, [None]):
        held, is_end = text + (piece or ''), piece is None
        kept, text = find_work(NOTICE.sub('', held), math.inf if is_end else len(held) - SHORT)
        seen['cut'] += len(held) - len(kept) - len(text)
        if kept:
            yield kept


def find_work(text, size):
    """Return the works in a text, as far as they are certain, and the rest of the text.

    Args:
      size: marks must end by this position, as more text might extend them; infinite at the end.
    """
    kept, done, known = '', 0, max(0, min(len(text), size - HEADER - SHORT))
    # Almost no piece has a mark, and searching for a word is much faster than for a pattern.
    lower = text.lower().replace('pretext', '')
    marks = list(MARK.finditer(text)) if any(word in lower for word in WORDS) else []
    starts = [mark.start() for mark in marks if mark['start']]
    for mark in marks:
        begin, end = mark.span()
        if begin < done:  # within a licence
            continue
        if mark['start']:
            if end > size:
                break
            header = HEADER_LINE.search(text, max(done, begin - HEADER), begin)
            begin = header.start() if header else begin
        else:
            if end > size - LICENCE:
                known = begin
                break
            later = bisect.bisect(starts, begin)
            limit = min([len(text), end + LICENCE, *starts[later : later + 1]])
            end = end_of_licence(text, end, limit)
        kept, done = kept + text[done:begin], end
    known = max(done, known)
    return kept + text[done:known], text[known:]


def end_of_licence(text, begin, limit):
    """Return where the licence in text[begin:limit] ends, or `begin` if there is none."""
    end = begin
    for talk in LICENCE_TALK.finditer(text, begin, limit):
        if talk.start() > end + LICENCE_GAP:
            break
        end = talk.end()
        if talk['last']:
            return end
    paragraph = text.find('\n\n', end, limit)  # the end of the paragraph
    rest = paragraph + 2 if paragraph >= 0 else min(limit, end + 1_000)
    return rest if end > begin else begin


# --- Whether a model can learn from it -----------------------------------------------------------


def visible(text):
    """Return how many characters of a text, str, are not white space."""
    data = np.frombuffer(text.encode(), np.uint8)  # count only the first byte of a character
    return np.count_nonzero(data > ord(' ')) - np.count_nonzero(data & 0xC0 == 0x80)


def count_left_out(piece, cleaned, seen):
    """Add to `seen` how many visible characters a piece has, before and after cleaning."""
    # If nothing was cleaned, it is enough to know that there are any.
    if seen is not None and (cleaned is not piece or not seen['visible']):
        seen['visible'] += visible(piece)
        seen['kept'] += visible(cleaned)


def print_left_out(seen, advice=''):
    """Print how much of a text was not read, as counted by `read_pieces` and `count_left_out`."""
    # Cleaning removes about 5 % of prose, up to 7.6 % of single scenes, 9 to 20 % of source code.
    left_out = (seen['visible'] - seen['kept']) / max(1, seen['visible'])
    if seen['cut']:
        print(f'Removed: {seen["cut"]:,} characters that Project Gutenberg wrote around the text')
    if left_out > 0.08:
        print(
            f'Left out: {left_out:.0%} of the characters. A clean text has only a-z, 0-9, space, '
            f"- and '{advice}"
        )


def check_text(path, counts, split, settings, seen):
    """Print how much of a text was not read, and check that the rest is enough.

    Args:
      counts: integers [vocab_size], how often each symbol occurs in it.
      seen: Counter, as reading has filled it.

    Raises:
      UserError: the text is too short, or there is nothing to learn in it.
    """
    print_left_out(seen, '. To keep all of them: --clean_text=False')
    is_lost = 2 * seen['kept'] < seen['visible']  # most of it was left out by cleaning
    advice = 'Set clean_text to False' if is_lost else 'Use a different text'
    if not counts.any() or not seen['kept']:
        raise UserError(f'{path} has no text to learn from. {advice}')
    one_batch = (settings.batch_size + 1) * settings.training_seq_len
    if split < one_batch:
        needed = math.floor(one_batch / (1 - settings.held_out)) + 1
        if not is_lost:
            advice = 'Use a longer text'
            most, each = split // settings.training_seq_len - 1, workers.count()
            if most >= each:  # streams of one batch; a tenth of them leave several to an epoch
                advice += f', or lower batch_size to {max(1, most // 10 // each) * each}'
            elif split > 1:
                advice += ', or lower training_seq_len and batch_size'
        raise UserError(
            f'{path} has {counts.sum():,} characters, but one batch of {settings.batch_size} x '
            f'{settings.training_seq_len} needs {needed:,}. {advice}'
        )
    if counts[0] == counts.sum():
        raise UserError(
            f'no character of {path} occurs {settings.min_word_freq:,} times. Lower min_word_freq'
        )
    if np.count_nonzero(counts) < 2:
        raise UserError(f'{path} repeats one symbol, so there is nothing to learn. {advice}')


def id_type(ix2vocab):
    """Return the smallest NumPy type that holds every id: uint8 for up to 256 symbols."""
    return np.min_scalar_type(len(ix2vocab) - 1)


class Ids:
    """The ids of a text in a file, integers [characters], read from the disk when indexed.

    If the file is truncated meanwhile, indexing raises an error. A plain np.memmap would crash.
    """

    def __init__(self, path, kind):
        self.path, self.ids = path, np.memmap(path, kind, 'r')

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, places):
        if self.ids.base.size() < self.ids.nbytes:  # the current size of the file
            raise UserError(f'{self.path} was truncated while in use. Run the same command again')
        return self.ids[places]


def find_unseen(file, split, counts):
    """Return the ids that do not occur before position `split`, a list of int.

    Args:
      file: binary file with the ids of a whole text, integers of `id_type`.
      counts: integers [vocab_size], how often each id occurs in it.

    Raises:
      UserError: only 'unknown' occurs before `split`.
    """
    file.flush()
    ids, left = np.memmap(file.name, id_type(counts), 'r'), counts.copy()
    for begin in range(split, len(ids), 1 << 20):  # bincount needs eight times as much memory
        left -= np.bincount(ids[begin : begin + (1 << 20)], minlength=len(left))
    if not left[1:].any():
        raise UserError('all characters before the held-out part are rare. Lower min_word_freq')
    return np.flatnonzero(left == 0).tolist()


def check_prime(text, ids, ix2vocab, unseen, file=None, name='prime text'):
    """Warn about characters of a prime text that the model does not know, on standard output.

    Such characters are read as 'unknown'. If the model learned a clean text, they are left out.

    Args:
      ids: integers [1, characters], the ids of the text.
      unseen: list of int, the ids that the model has never read.
      file: a text stream to warn on instead.
      name: str, what the text is called.

    Raises:
      UserError: nothing is left of the text.
    """
    if not ids.size:
        raise UserError(
            f'the {name} {text!r} has no character that the model reads. Use a different text'
        )
    never = ''.join(ix2vocab[ix] for ix in unseen if ix and ix in ids)
    if never:
        print(f'The {name} {text!r} has {never!r}, which the model has never read', file=file)
    if not ids.all():
        unknown = ''.join(sorted(set(composed(text)) - set(ix2vocab)))
        print(f"The {name} {text!r} has {unknown!r}, which is read as 'unknown'", file=file)
        return
    read = ''.join(ix2vocab[ix] for ix in ids[0])
    if sum(map(str.isalnum, read)) < sum(map(str.isalnum, composed(text))):
        print(f'The {name} {text!r} is read as {read!r}: the model has no other letters', file=file)
