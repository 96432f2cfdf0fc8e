"""The letters of a text: one form of each, the nearest ones of ASCII, and those to be shown."""

import functools
import re
import unicodedata

import numpy as np

# What Unicode's compatibility decomposition (NFKD) does not bring to ASCII.
FOLDS = {
    '\u2010': '-', '\u2012': '-', '\u2013': '-', '\u2014': '--', '\u2015': '--', '\u2212': '-',
    '\u2018': "'", '\u2019': "'", '\u201a': "'", '\u201b': "'", '\u2032': "'", '\u02bc': "'",
    'æ': 'ae', 'Æ': 'AE', 'œ': 'oe', 'Œ': 'OE', 'ø': 'o', 'Ø': 'O', 'ß': 'ss', 'ð': 'd',
    'Ð': 'D', 'þ': 'th', 'Þ': 'TH', 'đ': 'd', 'Đ': 'D', 'ł': 'l', 'Ł': 'L', 'ı': 'i',
}  # fmt: skip


# For a terminal: symbols in the place of what it obeys and of what reverses the text after it.
SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in '\t\n'},
    0x7F: 0x2421,  # delete
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
}


def shown(text, file):
    """Return a text as it is printed to a file: exact, but for a terminal with SYMBOLS."""
    return text.translate(SYMBOLS) if file.isatty() else text


def code_points(text):
    """Return the Unicode code points of a str: uint32 [len(text)]."""
    return np.frombuffer(text.encode('utf-32-le'), np.uint32)


def composed(text):
    """Return a text in Unicode's form NFC: é is one character, not an e and an accent."""
    is_ascii = len(text.encode('utf-8', 'surrogatepass')) == len(text)  # costs next to nothing
    return text if is_ascii else unicodedata.normalize('NFC', text)


def end_of_whole(text):
    """Return where the last character begins, with its accents: more of them may follow the text.

    Where the text ends with a line, that is its end.
    """
    end = len(text)
    while text[end - 1 : end] > '\x7f' and end > len(text) - 1000:
        end -= 1
        is_jamo = '\u1100' <= text[end] <= '\u11ff'  # Korean letters are joined to syllables
        if not is_jamo and unicodedata.category(text[end])[0] != 'M':
            return end
    return end if text[end - 1 : end] == '\n' else max(0, end - 1)


def fold_to_ascii(text):
    """Return the text in ASCII: e for é, ' for a curly quote, a space for anything else."""
    return re.sub(r'[^\x00-\x7f]', lambda match: fold(match.group()), text)


@functools.lru_cache(maxsize=None)
def fold(character):
    """Return the ASCII form of one character, of any length."""
    ascii_form = ''
    for part in unicodedata.normalize('NFKD', character):
        if ord(part) < 128:
            ascii_form += part
        elif unicodedata.category(part) not in ('Mn', 'Cf'):  # neither accent nor invisible
            ascii_form += FOLDS.get(part, ' ')
    return ascii_form
