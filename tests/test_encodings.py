"""Encodings: of a file that is no plain UTF-8 text a sentence says what it is, and what to do."""

import bz2
import codecs
import gzip
import io
import lzma
import subprocess
import tarfile
import zipfile

from backstage import encodings, reading
from backstage.settings import UserError

import pytest

GERMAN = 'Ist der Zügel lösbar?\nJa, für Könige.\n'


@pytest.fixture
def said(tmp_path):
    """Write bytes to a file, read it, and return what is said of it."""

    def write_and_read(data):
        path = tmp_path / 'text.txt'
        path.write_bytes(data)
        with pytest.raises(UserError, match=r'text\.txt ') as caught:
            list(reading.file_pieces(path, 1000))
        assert '\n' not in str(caught.value)
        return str(caught.value).partition('text.txt ')[2]

    return write_and_read


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('word/document.xml', GERMAN)
    return file.getvalue()


def in_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('text.txt'))
    return file.getvalue()


@pytest.mark.parametrize(
    'data, words',
    [
        (gzip.compress(GERMAN.encode()), 'is compressed (gzip): unpack it first, with gunzip'),
        (bz2.compress(GERMAN.encode()), 'is compressed (bzip2)'),
        (lzma.compress(GERMAN.encode()), 'is compressed (xz)'),
        (zipped(), 'is compressed (zip, docx'),
        (in_tar(), 'is an archive (tar)'),
        (b'%PDF-1.4\n' + GERMAN.encode(), 'is a PDF'),
        (b'{\\rtf1\\ansi Only ASCII in it}', 'is rich text'),
        (b'\x89PNG\r\n\x1a\n', 'is a picture'),
        (GERMAN.encode('utf-16'), 'Convert it, with iconv -f UTF-16 -t UTF-8'),
        (codecs.BOM_UTF16_BE + GERMAN.encode('utf-16-be'), 'Convert it, with iconv -f UTF-16'),
        (GERMAN.encode('utf-32'), 'Convert it, with iconv -f UTF-32 -t UTF-8'),
    ],
    ids=lambda value: value if isinstance(value, str) else 'bytes',  # some hold the time
)
def test_common_kinds_of_files_are_known_by_their_first_bytes(said, data, words):
    assert words in said(data)


@pytest.mark.parametrize('begin', encodings.KINDS)
def test_no_beginning_of_a_kind_is_taken_for_another(begin):
    assert encodings.kind(begin + b'\x01\x02') == encodings.KINDS[begin]


@pytest.mark.parametrize('text', ['BZ', 'Rar', '%', 'PK', 'ID', GERMAN, ''])
def test_a_text_is_of_no_other_kind(text):
    assert encodings.kind(text.encode()) is None


def test_one_bad_byte_in_a_long_text_is_named_with_its_line_and_the_rest_is_not_spoilt(said):
    data = (GERMAN * 3000).encode()
    place = data.index(b'K', 100_000)
    line = data[:place].count(b'\n') + 1
    for bad in b'\xe9', b'\x80', b'\xc3':
        sentence = said(data[:place] + bad + data[place:])
        assert sentence.startswith(
            f'is UTF-8 text but for 1 of its bytes, byte 0x{bad[0]:02X} in line {line:,} first.'
        )
        assert 'WINDOWS-1252' not in sentence


def test_what_is_advised_for_bad_bytes_leaves_them_out_and_nothing_else(tmp_path, said):
    data = GERMAN.encode() * 9
    assert 'with iconv -f UTF-8 -t UTF-8 -c' in said(data[:46] + b'\xff\xe9' + data[46:])
    command = ['iconv', '-f', 'UTF-8', '-t', 'UTF-8', '-c', str(tmp_path / 'text.txt')]
    assert subprocess.run(command, check=False, stdout=subprocess.PIPE).stdout == data


@pytest.mark.parametrize('end', ['', 'é'])
def test_a_text_in_another_encoding_is_to_be_converted(said, end):
    sentence = said((GERMAN * 100 + end).encode('latin-1'))
    assert sentence == (
        'is not UTF-8 text: byte 0xFC in line 1 is no character. If it is text in another '
        'encoding, convert it, for example with iconv -f WINDOWS-1252 -t UTF-8'
    )


@pytest.mark.parametrize('cut', [1, 2, 3])
def test_a_text_that_was_cut_within_its_last_character_is_known_as_such(said, cut):
    assert said((GERMAN * 100 + '\U0001f600').encode()[:-cut]) == (
        'ends in the middle of a character. Get the rest of it, or leave that out, with iconv '
        '-f UTF-8 -t UTF-8 -c'
    )


def test_a_zero_among_text_is_no_sign_of_utf_16(said):
    data = GERMAN.encode() * 100
    place = data.index(b'K', 3000)
    line = data[:place].count(b'\n') + 1
    sentence = said(data[:place] + b'\0' + data[place:])
    assert sentence == (
        f'is UTF-8 text but for 1 of its bytes, byte 0x00 in line {line:,} first. Mend that, or '
        f"leave such bytes out, with tr -d '\\000'"
    )
    assert 'iconv -f UTF-16' in said(GERMAN.encode('utf-16-le'))
