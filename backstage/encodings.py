"""What is wrong with a file that is no plain UTF-8 text, in a sentence that says what to do."""

import codecs

import numpy as np

UNPACK = 'is compressed ({}): unpack it first, with {}'.format
MEDIA = 'is a picture, sound or film, and no text. Give another text_file'
KINDS = {  # by their first bytes
    b'\x1f\x8b': UNPACK('gzip', 'gunzip'),
    b'BZh': UNPACK('bzip2', 'bunzip2'),
    b'\xfd7zXZ': UNPACK('xz', 'unxz'),
    b'\x28\xb5\x2f\xfd': UNPACK('zstd', 'unzstd'),
    b'\x04\x22\x4d\x18': UNPACK('lz4', 'unlz4'),
    b'\x1f\x9d': UNPACK('compress', 'uncompress'),
    b'7z\xbc\xaf': UNPACK('7z', '7z x'),
    b'Rar!\x1a': UNPACK('rar', 'unrar'),
    b'PK\x03\x04': 'is compressed (zip, docx, odt or epub): save it as plain text first',
    b'%PDF-': 'is a PDF: make plain text of it first, for example with pdftotext',
    b'%!PS': 'is PostScript: make plain text of it first, for example with ps2ascii',
    b'{\\rtf': 'is rich text (RTF): save it as plain text first',
    b'\xd0\xcf\x11\xe0': 'is an old Office document: save it as plain text first',
    b'SQLite format 3': 'is a database (SQLite), and no text: export its text first',
    b'\x7fELF': 'is a program, and no text. Give another text_file',
    **dict.fromkeys([b'\x89PNG', b'\xff\xd8\xff', b'GIF8', b'OggS', b'ID3', b'fLaC'], MEDIA),
    codecs.BOM_UTF32_LE: 'is not UTF-8 text. Convert it, with iconv -f UTF-32 -t UTF-8',
    codecs.BOM_UTF32_BE: 'is not UTF-8 text. Convert it, with iconv -f UTF-32 -t UTF-8',
    codecs.BOM_UTF16_LE: 'is not UTF-8 text. Convert it, with iconv -f UTF-16 -t UTF-8',
    codecs.BOM_UTF16_BE: 'is not UTF-8 text. Convert it, with iconv -f UTF-16 -t UTF-8',
}


def kind(head):
    """Return what a file is that begins so, bytes, if that is known and no text; else None."""
    if head[257:262] == b'ustar':
        return 'is an archive (tar): unpack it first, with tar -xf'
    return next((said for begin, said in KINDS.items() if head.startswith(begin)), None)


def fault(path):
    """Return what is wrong with a file that has zeros, or that is no UTF-8 in some place."""
    total, lines, zeros, bad, valid, first, is_at_end = 0, 1, 0, 0, 0, None, False
    # A byte that is no part of a character comes as a code point from U+DC80 to U+DCFF.
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for piece in iter(lambda: file.read(1 << 20), ''):
            codes = np.frombuffer(piece.encode('utf-32-le', 'surrogatepass'), np.uint32)
            is_bad, is_zero = (codes >= 0xDC80) & (codes <= 0xDCFF), codes == 0
            if first is None and (is_bad | is_zero).any():
                place = (is_bad | is_zero).argmax()
                first = f'byte 0x{codes[place] & 0xFF:02X} in line '
                first += f'{lines + np.count_nonzero(codes[:place] == 10):,}'
            lines += piece.count('\n')
            total, zeros, bad = total + len(codes), zeros + is_zero.sum(), bad + is_bad.sum()
            valid += np.count_nonzero(codes > 0x7F) - is_bad.sum()
            is_at_end = is_bad[-3:].sum() == bad
    if zeros > total / 10:
        return (
            'is no plain text: it has bytes that are 0. If it is UTF-16, convert it, for example '
            'with iconv -f UTF-16 -t UTF-8'
        )
    if zeros and bad > valid:
        return f'is no text, as {first} shows. Give another text_file'
    if valid > bad > 0 and is_at_end:
        return (
            'ends in the middle of a character. Get the rest of it, or leave that out, with iconv '
            '-f UTF-8 -t UTF-8 -c'
        )
    if valid > bad or not bad:
        leave_out = "tr -d '\\000'" if zeros else 'iconv -f UTF-8 -t UTF-8 -c'
        return (
            f'is UTF-8 text but for {zeros + bad:,} of its bytes, {first} first. Mend that, or '
            f'leave such bytes out, with {leave_out}'
        )
    return (
        f'is not UTF-8 text: {first} is no character. If it is text in another encoding, convert '
        f'it, for example with iconv -f WINDOWS-1252 -t UTF-8'
    )
