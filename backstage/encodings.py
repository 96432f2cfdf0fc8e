"""What is wrong with a text_file that is no plain UTF-8 text, and the command that mends it."""

import codecs
import glob
import os
import re
import shlex

UNPACK = 'is compressed ({}). Unpack it: {}{{to_new}}'.format
CONVERT = 'is not UTF-8 text. Convert it: iconv -f {} -t UTF-8{{to_new}}'.format
MEDIA = 'is a picture, sound or film, and no text. Give another text_file'
KINDS = {  # by their first bytes
    b'\x1f\x8b': UNPACK('gzip', 'gunzip'),
    b'BZh': UNPACK('bzip2', 'bunzip2'),
    b'\xfd7zXZ': UNPACK('xz', 'unxz'),
    b'\x28\xb5\x2f\xfd': UNPACK('zstd', 'unzstd'),
    b'\x04\x22\x4d\x18': UNPACK('lz4', 'unlz4'),
    b'\x1f\x9d': UNPACK('compress', 'uncompress'),
    b'7z\xbc\xaf': 'is compressed (7z). Unpack it first',
    b'Rar!\x1a': 'is compressed (rar). Unpack it first',
    b'PK\x03\x04': 'is compressed (zip, docx, odt or epub). Save it as plain text first',
    b'%PDF-': 'is a PDF. Make plain text of it: pdftotext - -{to_new}',
    b'%!PS': 'is PostScript. Make plain text of it: ps2ascii{to_new}',
    b'{\\rtf': 'is rich text (RTF). Save it as plain text first',
    b'\xd0\xcf\x11\xe0': 'is an old Office document. Save it as plain text first',
    b'SQLite format 3': 'is a database (SQLite), and no text. Export its text first',
    b'\x7fELF': 'is a program, and no text. Give another text_file',
    **dict.fromkeys([b'\x89PNG', b'\xff\xd8\xff', b'GIF8', b'OggS', b'ID3', b'fLaC'], MEDIA),
    **dict.fromkeys([codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE], CONVERT('UTF-32')),
    **dict.fromkeys([codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE], CONVERT('UTF-16')),
}
# The encodings that a text may have, by names that both Python and iconv know. Of those in which it
# is the same, the first is named.
WITH_ZEROS = ('UTF-16LE', 'UTF-16BE', 'UTF-32LE', 'UTF-32BE')
WITHOUT_ZEROS = (
    'GB18030', 'BIG5', 'CP932', 'EUC-JP', 'CP949', 'CP1252', 'CP1250', 'CP1251', 'KOI8-R', 'KOI8-U',
    'CP866', 'ISO8859-2', 'ISO8859-5', 'ISO8859-7', 'ISO8859-15', 'CP1253', 'CP1254', 'CP1255',
    'CP1256', 'CP1257', 'CP1258', 'CP437', 'CP850', 'TIS-620', 'MAC-CYRILLIC',
)  # fmt: skip
SAMPLE = 100_000  # bytes, from which an encoding is guessed; a multiple of 4
WORD = re.compile('[^\0-/:-?]+')  # no part of a character is one of these bytes, in any of them
FAULT = re.compile('[\0\udc80-\udcff]')  # a zero, or a byte that is no part of a character


def kind(head, path):
    """Return what a file is that begins so, bytes, if that is known and no text; else None."""
    said = next((said for begin, said in KINDS.items() if head.startswith(begin)), None)
    if head[257:262] == b'ustar':
        said = 'is an archive (tar). Unpack it: tar -xOf -{to_new}'
    return said and said.format(to_new=to_new(path))


def fault(path):
    """Return what is wrong with a file that has zeros, or that is no UTF-8 in some place."""
    total, lines, zeros, bad, beyond_ascii, first, sample = 0, 1, 0, 0, 0, '', ''
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for piece in iter(lambda: file.read(SAMPLE), ''):
            faults = FAULT.findall(piece)
            if faults:
                place = lines + piece.count('\n', 0, piece.index(faults[0]))
                first = first or f'byte 0x{ord(faults[0]) & 0xFF:02X} in line {place:,}'
                sample += '\n'.join(filter(FAULT.search, piece.split('\n')))
            total, lines = total + len(piece), lines + piece.count('\n')
            zeros, bad = zeros + faults.count('\0'), bad + len(faults) - faults.count('\0')
            beyond_ascii += len(piece) - len(piece.encode('ascii', 'ignore'))
            is_at_end = len(FAULT.findall(piece[-3:])) == bad
            if len(sample) > SAMPLE:
                break
    new, sample = to_new(path), sample.encode('utf-8', 'surrogateescape')
    is_utf8 = 2 * bad <= beyond_ascii  # but for its faults
    if zeros and (zeros > total / 10 or not is_utf8):
        with open(path, 'rb') as file:
            guess = guess_encoding(file.read(SAMPLE), WITH_ZEROS)
        if not guess:
            return f'is no text, as {first} shows. Give another text_file'
        return f'is not UTF-8 text. {guess}{new}'
    if bad and is_cesu(sample):
        return (
            f'is CESU-8 and not UTF-8, as {first} shows. Convert it with uconv, a program of ICU: '
            f'uconv -f CESU-8 -t UTF-8{new}'
        )
    if not is_utf8:
        guess = guess_encoding(whole_words(sample), WITHOUT_ZEROS) or (
            'Its encoding cannot be guessed. Find it out, and convert the text: iconv -f ENCODING '
            '-t UTF-8'
        )
        return f'is not UTF-8 text: {first} is no character. {guess}{new}'
    leave_out = "tr -d '\\000'" if zeros else 'iconv -f UTF-8 -t UTF-8 -c'
    if bad and is_at_end:
        return (
            f'ends in the middle of a character. Get the rest, or leave that out: {leave_out}{new}'
        )
    return (
        f'is UTF-8 text, but {first} is no character. Mend that, or leave all such bytes out: '
        f'{leave_out}{new}'
    )


def is_cesu(sample):
    """Return whether bytes are UTF-8 but for surrogates, in pairs as older databases write them."""
    try:
        text, _ = codecs.utf_8_decode(sample, 'surrogatepass')
    except UnicodeDecodeError:
        return False
    return re.search('[\ud800-\udfff]', text) is not None


def whole_words(sample):
    """Return bytes without the part of a word at the end, where a character may be parted."""
    if len(sample) < SAMPLE:
        return sample
    end = max(sample.rfind(b'\n', 0, SAMPLE), sample.rfind(b' ', 0, SAMPLE)) + 1
    return sample[: end or SAMPLE]


def guess_encoding(sample, names):
    """Return in which of some encodings a text may be, and how to convert it; '' if in none.

    Args:
      sample: bytes of the text.
      names: a tuple of str.
    """
    try:
        from charset_normalizer import from_bytes
    except ImportError:  # an older requests comes with another one
        return ''
    matches = list(from_bytes(sample, chunk_size=4096, cp_isolation=names))
    if not matches:
        return ''
    # From 0 to 1: chaos is how odd the text would look, coherence how much of a language it has.
    chaos, coherence = matches[0].chaos + 0.03, matches[0].coherence / 2
    best, *others = [m for m in matches if m.chaos < chaos and m.coherence >= coherence][:3]
    name, ascii_form = name_of(best, names), sample.decode('ascii', 'replace')
    words = [repr(first_difference(str(best), ascii_form)[0])]
    if others:  # what tells them apart
        pairs = [(name_of(one, names), *first_difference(str(best), str(one))) for one in others]
        words = [f'{word!r} ({rival} has {other!r})' for rival, word, other in pairs]
    return (
        f'It may be {name}, with {" and ".join(words)}. If that is right, convert it: '
        f'iconv -f {name} -t UTF-8'
    )


def name_of(match, names):
    """Return the first of some names that is one of the encodings of a CharsetMatch."""
    same = {codecs.lookup(one).name for one in match.could_be_from_charset}
    return next(name for name in names if codecs.lookup(name).name in same)


def first_difference(text, other):
    """Return the first word in which two readings of the same bytes differ, of both."""
    pairs = zip(WORD.findall(text), WORD.findall(other))
    pair = next((pair for pair in pairs if pair[0] != pair[1]), (text, other))
    place = next((k for k, (a, b) in enumerate(zip(*pair)) if a != b), 0)
    return [word[max(0, place - 10) :][:20] for word in pair]


def unreadable(path, error):
    """Return why there is no text at a path, which came of an OSError, and how to get it there."""
    if re.match(r'(https?|ftp)://|www\.', path):
        new = new_name(path.partition('?')[0])
        return f'is a URL. Download it: curl -fL -o {new} {shlex.quote(path)} (then give {new})'
    if os.path.isdir(path):
        if not glob.glob(os.path.join(glob.escape(path), '*.txt')):
            return 'is a folder, and has no .txt file. Give a text_file'
        return f'is a folder. Join its files: {join(shlex.quote(os.path.join(path, "")) + "*.txt")}'
    for paths in [path], re.split(', *', path), path.split():
        if paths and not os.path.exists(path) and all(map(glob.glob, paths)):
            # What makes a pattern of a path is not quoted.
            words = [re.sub(r'[^*?[\]]+', lambda part: shlex.quote(part[0]), one) for one in paths]
            return f'is more than one file. Join them: {join(*words)}'
    return f'cannot be read: {error.strerror}. Give another text_file'


def join(*words):
    """Return the command that joins files, as a shell takes their names, into one."""
    new = new_name('texts')
    return f'cat {" ".join(words)} > {new} (then give {new})'


def to_new(path):
    """Return how a command reads a file and writes another."""
    new = new_name(path)
    return f' < {shlex.quote(path)} > {new} (then give {new})'


def new_name(path):
    """Return a name for what is made of a file: like its own, and in this folder not taken yet."""
    stem = re.sub(r'(\.txt)?(\.[\w-]+)?$', '', os.path.basename(path)) or 'text'
    names = (f'{stem}{mark}.txt' for mark in ('', *map('-{}'.format, range(2, 10_000))))
    return shlex.quote(next(name for name in names if not os.path.lexists(name)))
