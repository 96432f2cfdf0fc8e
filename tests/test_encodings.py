"""Encodings: of a file that is no plain UTF-8 text a sentence says what it is, and what to do."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import subprocess
import sys
import tarfile
import zipfile

from backstage import encodings, reading
from backstage.settings import UserError

import pytest
from conftest import answer

GERMAN = 'Ist der Zügel lösbar?\nJa, für Könige.\n'
POLISH = (
    'Litwo! Ojczyzno moja! ty jesteś jak zdrowie;\n'
    'Ile cię trzeba cenić, ten tylko się dowie, kto cię stracił.\n'
    'Dziś piękność twą w całej ozdobie\nWidzę i opisuję, bo tęsknię po tobie.\n'
)
RUSSIAN = 'Мой дядя самых честных правил,\nКогда не в шутку занемог,\nОн уважать себя заставил\n'
SIMPLIFIED = '从前有一座山，山上有一座庙，\n庙里有一个老和尚，给小和尚讲故事。\n'
TRADITIONAL = '從前有一座山，山上有一座廟，\n廟裡有一個老和尚，給小和尚講故事。\n'
JAPANESE = '吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n'
KOREAN = '옛날 옛적에 호랑이가 담배 피우던 시절에\n한 나무꾼이 살았습니다.\n'


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Write bytes to a file, read it, and return what is said of it."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(data, name='text.txt'):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError) as caught:
            list(reading.file_pieces(name, 1000))
        assert '\n' not in str(caught.value)
        begin, _, sentence = str(caught.value).partition(f'{name} ')
        assert begin == ''
        return sentence

    return write_and_read


def follow(sentence):
    """Paste the command of a sentence into a shell; return what is in the file it names: bytes."""
    command, new = re.search(r': ((?!.*: ).+) \(then give (.+)\)$', sentence).groups()
    subprocess.run(['bash', '-c', command], check=False)
    with open(new.strip("'"), 'rb') as file:
        return file.read()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('word/document.xml', GERMAN)
    return file.getvalue()


def in_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        member = tarfile.TarInfo('text.txt')
        member.size = len(GERMAN.encode())
        archive.addfile(member, io.BytesIO(GERMAN.encode()))
    return file.getvalue()


@pytest.mark.parametrize(
    'data, words',
    [
        (zipped(), 'is compressed (zip, docx'),
        (b'%PDF-1.4\n' + GERMAN.encode(), 'is a PDF. Make plain text of it: pdftotext - - <'),
        (b'{\\rtf1\\ansi Only ASCII in it}', 'is rich text'),
        (b'\x89PNG\r\n\x1a\n', 'is a picture'),
    ],
    ids=lambda value: value if isinstance(value, str) else 'bytes',  # some hold the time
)
def test_common_kinds_of_files_are_known_by_their_first_bytes(said, data, words):
    assert words in said(data)


@pytest.mark.parametrize(
    'data, words',
    [
        (gzip.compress(GERMAN.encode()), 'is compressed (gzip). Unpack it: gunzip <'),
        (bz2.compress(GERMAN.encode()), 'is compressed (bzip2). Unpack it: bunzip2 <'),
        (lzma.compress(GERMAN.encode()), 'is compressed (xz). Unpack it: unxz <'),
        (in_tar(), 'is an archive (tar). Unpack it: tar -xOf - <'),
        (GERMAN.encode('utf-16'), 'is not UTF-8 text. Convert it: iconv -f UTF-16 -t UTF-8 <'),
        (codecs.BOM_UTF16_BE + GERMAN.encode('utf-16-be'), 'iconv -f UTF-16 -t UTF-8 <'),
        (GERMAN.encode('utf-32'), 'iconv -f UTF-32 -t UTF-8 <'),
    ],
    ids=lambda value: value if isinstance(value, str) else 'bytes',
)
def test_the_command_that_is_printed_makes_a_text_of_a_packed_one(said, data, words):
    sentence = said(data)
    assert sentence.startswith(words) or words in sentence
    assert follow(sentence).decode() == GERMAN


@pytest.mark.parametrize('begin', encodings.KINDS)
def test_no_beginning_of_a_kind_is_taken_for_another(begin):
    said = encodings.KINDS[begin].format(to_new=encodings.to_new('a'))
    assert encodings.kind(begin + b'\x01\x02', 'a') == said


@pytest.mark.parametrize('text', ['BZ', 'Rar', '%', 'PK', 'ID', GERMAN, ''])
def test_a_text_is_of_no_other_kind(text):
    assert encodings.kind(text.encode(), 'a') is None


@pytest.mark.parametrize(
    'encoding, text, guess',
    [
        ('gbk', SIMPLIFIED, 'GB18030'),
        ('gb18030', SIMPLIFIED, 'GB18030'),
        ('big5', TRADITIONAL, 'BIG5'),
        ('shift_jis', JAPANESE, 'CP932'),
        ('euc_jp', JAPANESE, 'EUC-JP'),
        ('euc_kr', KOREAN, 'CP949'),
        ('koi8_r', RUSSIAN, 'KOI8-R'),
        ('cp1251', RUSSIAN, 'CP1251'),
        ('cp866', RUSSIAN, 'CP866'),
        ('latin_1', GERMAN, 'CP1252'),
        ('cp1252', '“Stay,” he said—and left the café with his fiancée.\n', 'CP1252'),
        ('iso8859_2', POLISH, 'ISO8859-2'),
        ('cp1250', POLISH, 'CP1250'),
        ('utf_16_le', GERMAN, 'UTF-16LE'),
        ('utf_16_be', GERMAN, 'UTF-16BE'),
        ('utf_16_le', SIMPLIFIED, 'UTF-16LE'),
        ('utf_32_be', RUSSIAN, 'UTF-32BE'),
    ],
    ids=lambda value: value[:9].strip(),
)
@pytest.mark.parametrize('before, times', [(0, 20), (0, 5000), (10_000, 20)])
def test_a_text_in_another_encoding_is_right_once_it_is_converted_as_the_sentence_says(
    said, encoding, text, guess, before, times
):
    text = 'This is plain ASCII.\n' * before + text * times
    sentence = said(text.encode(encoding), 'my text.txt')
    assert f'. It may be {guess}, with ' in sentence
    assert sentence.endswith(
        f". If that is right, convert it: iconv -f {guess} -t UTF-8 < 'my text.txt' > "
        f"'my text-2.txt' (then give 'my text-2.txt')"
    )
    assert follow(sentence).decode() == text


def test_a_word_of_the_text_shows_whether_the_encoding_is_right(said):
    assert said((GERMAN * 100).encode('latin-1')) == (
        "is not UTF-8 text: byte 0xFC in line 1 is no character. It may be CP1252, with 'Zügel'. "
        'If that is right, convert it: iconv -f CP1252 -t UTF-8 < text.txt > text-2.txt (then give '
        'text-2.txt)'
    )


def test_where_several_encodings_fit_a_word_tells_each_from_the_likeliest(said):
    text = 'El niño soñó con una montaña, según mi compañero.\n' * 50
    sentence = said(text.encode('cp1252'))
    assert ". It may be CP1250, with 'nińo' (CP1252 has 'niño') and " in sentence
    assert 'If that is right, convert it: iconv -f CP1250 -t UTF-8 ' in sentence


@pytest.mark.parametrize('data', [bytes(range(1, 256)) * 9, b'\x9d\x81\x8f so\n' * 99])
def test_where_no_encoding_fits_the_sentence_says_so(said, data):
    assert 'Its encoding cannot be guessed. Find it out, and convert the text: iconv' in said(data)


def test_without_charset_normalizer_the_sentence_says_no_encoding(said, monkeypatch):
    monkeypatch.setitem(sys.modules, 'charset_normalizer', None)
    assert 'Its encoding cannot be guessed.' in said(GERMAN.encode('latin-1'))


@pytest.mark.parametrize('times', [1, 10_000])
def test_cesu_8_is_known_by_its_surrogates(said, times):
    text = 'A smile \U0001f600, ' * times + 'Zügel\n'
    pairs = b'\xed\xa0\xbd\xed\xb8\x80'
    data = text.encode().replace('\U0001f600'.encode(), pairs)
    assert said(data) == (
        'is CESU-8 and not UTF-8, as byte 0xED in line 1 shows. Convert it with uconv, a program '
        'of ICU: uconv -f CESU-8 -t UTF-8 < text.txt > text-2.txt (then give text-2.txt)'
    )


def test_every_name_of_an_encoding_is_known_to_iconv_and_to_python():
    for name in (*encodings.WITH_ZEROS, *encodings.WITHOUT_ZEROS):
        subprocess.run(['iconv', '-f', name, '-t', 'UTF-8', '/dev/null'], check=True)
        codecs.lookup(name)


def test_one_bad_byte_in_a_long_text_is_named_with_its_line_and_the_rest_is_not_spoilt(said):
    data = (GERMAN * 3000).encode()
    place = data.index(b'K', 100_000)
    line = data[:place].count(b'\n') + 1
    for bad in b'\xe9', b'\x80', b'\xc3':
        sentence = said(data[:place] + bad + data[place:])
        assert sentence.startswith(
            f'is UTF-8 text, but byte 0x{bad[0]:02X} in line {line:,} is no character. Mend that, '
            f'or leave all such bytes out: iconv -f UTF-8 -t UTF-8 -c < text.txt > '
        )
        assert follow(sentence) == data


@pytest.mark.parametrize('cut', [1, 2, 3])
def test_a_text_that_was_cut_within_its_last_character_is_known_as_such(said, cut):
    text = GERMAN * 100
    sentence = said((text + '\U0001f600').encode()[:-cut])
    assert sentence.startswith(
        'ends in the middle of a character. Get the rest, or leave that out: iconv '
        '-f UTF-8 -t UTF-8 -c < text.txt > '
    )
    assert follow(sentence).decode() == text


def test_a_zero_among_text_is_no_sign_of_utf_16(said):
    data = GERMAN.encode() * 100
    place = data.index(b'K', 3000)
    line = data[:place].count(b'\n') + 1
    sentence = said(data[:place] + b'\0' + data[place:])
    assert sentence.startswith(
        f'is UTF-8 text, but byte 0x00 in line {line:,} is no character. Mend that, or leave all '
        f"such bytes out: tr -d '\\000' < text.txt > "
    )
    assert follow(sentence) == data


def test_what_is_no_text_in_any_encoding_is_told_as_that(said):
    said_of = said(bytes(range(256)) * 20)
    assert said_of == 'is no text, as byte 0x00 in line 1 shows. Give another text_file'


SEVERAL = {  # what is given as a text_file, and the command that makes one of it
    'books': ('is a folder. Join its files', 'cat books/*.txt > texts.txt'),
    'books/': ('is a folder. Join its files', 'cat books/*.txt > texts.txt'),
    'my books': ('is a folder. Join its files', "cat 'my books/'*.txt > texts.txt"),
    'books[1]': ('is a folder. Join its files', "cat 'books[1]/'*.txt > texts.txt"),
    'books/*.txt': ('is more than one file. Join them', 'cat books/*.txt > texts.txt'),
    '*/b*.txt': ('is more than one file. Join them', 'cat */b*.txt > texts.txt'),
    'books/a.txt,books/b.txt': (
        'is more than one file. Join them', 'cat books/a.txt books/b.txt > texts.txt',
    ),
    'books/a.txt books/b.txt': (
        'is more than one file. Join them', 'cat books/a.txt books/b.txt > texts.txt',
    ),
    'my books/b b.txt, books/a.txt': (
        'is more than one file. Join them', "cat 'my books/b b.txt' books/a.txt > texts.txt",
    ),
}  # fmt: skip


@pytest.fixture
def books(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in 'books/a.txt', 'books/b.txt', 'my books/b b.txt', 'books[1]/b.txt':
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / 'empty').mkdir()


@pytest.mark.parametrize('given', SEVERAL)
def test_of_a_folder_or_several_files_the_command_that_is_printed_makes_one(books, given):
    with pytest.raises(UserError) as caught:
        list(reading.file_pieces(given))
    words, command = SEVERAL[given]
    assert str(caught.value) == f'{given} {words}: {command} (then give texts.txt)'
    joined = follow(str(caught.value)).decode()
    assert 'b.txt' in joined
    assert ''.join(reading.file_pieces('texts.txt')) == joined


@pytest.mark.parametrize(
    'given, words',
    [
        ('empty', 'is a folder, and has no .txt file. Give a text_file'),
        ('books/c*.txt', 'cannot be read: No such file or directory. Give another text_file'),
        ('books/a.txt,c.txt', 'cannot be read: No such file or directory. Give another text_file'),
        (' ', 'cannot be read: No such file or directory. Give another text_file'),
    ],
)
def test_where_nothing_is_there_no_command_is_printed(books, given, words):
    with pytest.raises(UserError) as caught:
        list(reading.file_pieces(given))
    assert str(caught.value) == f'{given} {words}'


def test_a_url_is_downloaded_by_the_command_that_is_printed(tmp_path, monkeypatch, site):
    monkeypatch.chdir(tmp_path)
    site.pages['/books/pg1.txt?a=1&b=2'] = answer(GERMAN.encode())
    url = site.url('/books/pg1.txt?a=1&b=2')
    with pytest.raises(UserError) as caught:
        list(reading.file_pieces(url))
    assert str(caught.value) == (
        f"{url} is a URL. Download it: curl -fL -o pg1.txt '{url}' (then give pg1.txt)"
    )
    assert follow(str(caught.value)).decode() == GERMAN


def test_no_command_that_is_printed_writes_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in '', '-2', '-3':
        (tmp_path / f'book{number}.txt').write_bytes(b'')
    assert (
        encodings.to_new('a/book.txt.gz') == ' < a/book.txt.gz > book-4.txt (then give book-4.txt)'
    )
