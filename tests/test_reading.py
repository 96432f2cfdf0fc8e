"""Reading: a file in pieces, without Project Gutenberg's own words, or a message if it cannot."""

import bz2
import collections
import gzip
import io
import lzma
import re
import subprocess
import sys
import tarfile
import unicodedata

from backstage import reading
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import answer, parse, script


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'text.txt'


# --- In pieces -----------------------------------------------------------------------------------


def test_a_byte_order_mark_is_dropped_and_line_ends_become_newlines(path):
    path.write_bytes('\ufeffto be\r\nor not\rto be\n'.encode())
    assert list(reading.file_pieces(path)) == ['to be\nor not\nto be\n']


def test_pieces_stay_small_for_any_text(path):
    for text in 'a b ' * 2_000_000, '\u0301' * 50_000:
        path.write_text(text, encoding='utf-8')
        pieces = list(reading.file_pieces(path, 1000))
        is_same = ''.join(pieces) == text
        assert is_same  # pytest would take hours to show how long texts differ
        assert max(map(len, pieces)) < 20_000


ACCENTS = (
    'Ist der Zügel lösbar? \u1e69\u0323 \u1eb5 한국어 \u0915\u093c\u09c7\u09be \u212b '
    'a\u0323\u0307e\u0301\u0302 \u0301so'
)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
@pytest.mark.parametrize('size', [1, 2, 3, 7, 1000])
def test_decomposed_letters_are_composed_wherever_a_piece_ends(path, size, form):
    text = ACCENTS.replace(' ', '\n') + ACCENTS.replace(' ', '') * 50
    path.write_text(unicodedata.normalize(form, text), encoding='utf-8')
    composed = unicodedata.normalize('NFC', text)
    assert ''.join(reading.file_pieces(path, size)) == composed
    assert composed != unicodedata.normalize('NFD', text)


# --- Letters -------------------------------------------------------------------------------------


def test_folding_keeps_case_and_turns_everything_into_ascii():
    pairs = [
        ('\N{LEFT SINGLE QUOTATION MARK}Tis', "'Tis"),
        ('Stay\N{EM DASH}go, 1599\N{EN DASH}1601', 'Stay--go, 1599-1601'),
        ('Cæsar, ŒUVRE, ſo, oﬃce', 'Caesar, OEUVRE, so, office'),
        ('Straße, Ørsted, Þor, łuk', 'Strasse, Orsted, THor, luk'),
        ('banishèd E\N{COMBINING ACUTE ACCENT}', 'banished E'),
        ('soft\N{SOFT HYPHEN}ly', 'softly'),
        ('no\N{NO-BREAK SPACE}break \u5510\u8a69', 'no break   '),
        ('\x00 to be,\r\n\tOR_NOT [~]\x7f', '\x00 to be,\r\n\tOR_NOT [~]\x7f'),
    ]
    for text, folded in pairs:
        assert reading.fold_to_ascii(text) == folded
    for code in range(0, 0x110000, 83):
        assert all(ord(one) < 128 for one in reading.fold.__wrapped__(chr(code)))


# --- Project Gutenberg ---------------------------------------------------------------------------

HEADER = """The Project Gutenberg eBook of {0}

This ebook is for the use of anyone anywhere in the United States and
most other parts of the world at no cost and with almost no restrictions
whatsoever. You may copy it under the terms of the Project Gutenberg License.

Title: {0}

Language: English

*** START OF THE PROJECT GUTENBERG EBOOK {0} ***
"""
PARAGRAPH = """1.F.{}. LIMITED WARRANTY - Except for the "Right of Replacement" described in
paragraph 1.F.3, the Project Gutenberg Literary Archive Foundation, the owner of the
trademark, disclaims all liability to you for damages, costs and expenses.

"""
SILENT = '1.F.3. If you discover a defect in this electronic work, you can receive a refund.\n\n'
LICENCE = (
    '*** END OF THE PROJECT GUTENBERG EBOOK {0} ***\n\n\n'
    'Updated editions will replace the previous one--the old editions will be renamed.\n\n'
    + ''.join(map(PARAGRAPH.format, range(60)))
    + SILENT * 30
    + 'This website includes information about Project Gutenberg(tm), how to help produce our new\n'
    'eBooks, and how to subscribe to our email newsletter to hear about new eBooks.\n'
)
WORK = 'CHAPTER 1 of {0}\n\n' + 'It is a truth universally acknowledged.\n\n' * 1000
NOTES = 'My notes.\n\n' + 'I liked the second chapter.\n\n' * 2000


def cut(text, size=1 << 20):
    """Cut a text that comes in pieces of this size; return (what is left, characters cut)."""
    seen = collections.Counter()
    pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
    return ''.join(reading.cut_off(pieces, seen)), seen['cut']


A, B, C = map(WORK.format, 'ABC')
HEADER_A, HEADER_B, HEADER_C = map(HEADER.format, 'ABC')
END_A, END_B, END_C = map(LICENCE.format, 'ABC')
START_MARK = '*** START OF THE PROJECT GUTENBERG EBOOK A ***\n'
END_MARK = '*** END OF THE PROJECT GUTENBERG EBOOK A ***\n'
BOOKS = HEADER_A + A + END_A + HEADER_B + B + END_B + HEADER_C + C + END_C
TALK = '\nI have it from Project Gutenberg.\n\n'
KEPT = {  # a text, and what is left of it
    'one book': (HEADER_A + A + END_A, A),
    'three books': (BOOKS, A + B + C),
    'notes after a book': (HEADER_A + A + END_A + NOTES, A + NOTES),
    'a mark alone, and notes that mention Gutenberg': (
        A + END_MARK + NOTES[:9000] + TALK + NOTES, A + NOTES[:9000] + TALK + NOTES,
    ),
    'a start mark without its last asterisks': (START_MARK[:-5] + '\n' + NOTES, NOTES),
    'a scene break after a mark without its asterisks': (
        START_MARK[:-5] + '\n\nHe left.\n\n* * * *\n\nShe', '\nHe left.\n\n* * * *\n\nShe',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', KEPT)
@pytest.mark.parametrize('size', [1 << 20, 30_000, 997])
def test_the_works_and_the_notes_of_a_joined_file_are_kept(name, size):
    text, kept = KEPT[name]
    is_same = cut(text, size) == (kept, len(text) - len(kept))
    assert is_same  # pytest would take hours to show how long texts differ


def test_almost_nothing_after_a_licence_is_lost():
    left, _ = cut(A + END_A.split('This website')[0] + NOTES)  # a licence without its last line
    assert left.startswith(A)
    assert len(NOTES) <= len(left[len(A) :]) <= len(NOTES) + len(SILENT) * 31
    talk = TALK * 10_000  # mentions Project Gutenberg over and over
    assert len(talk) - reading.LICENCE - 1000 < len(cut('so\n' + END_MARK + talk)[0]) < len(talk)


def test_a_text_of_any_size_needs_little_memory():
    held, fed = [], 0

    def pieces():
        nonlocal fed
        for number in range(100):
            fed += 10_000
            yield ('Project Gutenberg ' if number % 2 else 'word word\n\n') * 1000

    for kept in reading.cut_off(pieces(), collections.Counter()):
        held.append(fed)
        assert len(kept) < 200_000
    assert held[0] < 200_000


MARKS = """
    *** START OF THE PROJECT GUTENBERG EBOOK A ***|    *** END OF THE PROJECT GUTENBERG
*** Start of the Project Gutenberg eBook A ***|*** End of the Project Gutenberg eBook
***START OF THE PROJECT GUTENBERG EBOOK A***|***END OF THE PROJECT GUTENBERG EBOOK A***
*** START OF THE PROJECT GUTENBERG EBOOK A,/OR B ***|*** END OF THE PROJECT\xa0GUTENBERG
\xa0***\xa0START\xa0OF  THE PROJECT\xa0GUTENBERG EBOOK A ***|***  END OF THE PROJECT GUTENBERG
  *END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*|  End of Project Gutenberg's A
*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS|The End of the Project Gutenberg Etext of A
"""


@pytest.mark.parametrize('marks', MARKS.strip('\n').split('\n'))
def test_marks_are_recognized_in_any_case_and_with_any_spaces(path, marks):
    start, end = marks.replace('/', '\n').split('|')
    header, licence = HEADER_A.split('*** START')[0], LICENCE.split('\n', 1)[1]
    text = header + start + '\n' + WORK + end + '\n' + licence
    for line_end in '\n', '\r\n':
        path.write_bytes(text.replace('\n', line_end).encode())
        is_same = ''.join(reading.read_pieces(path)) == WORK
        assert is_same


@pytest.mark.parametrize('blank', [' ', '  ', '\t', '\xa0'])
def test_a_mark_that_does_not_name_the_project_is_recognized_with_any_spaces(blank):
    mark = f'END OF THIS{blank}ETEXT\n'
    assert cut(WORK + mark + 'A pretext.\n') == (WORK + 'A pretext.\n', len(mark))


def test_prose_that_mentions_a_mark_is_kept():
    for prose in [
        'He read "*** START OF THE PROJECT GUTENBERG EBOOK" aloud,\n"*** END OF THE PROJECT '
        'GUTENBERG EBOOK" too.\n',
        'That was the\nend of the Project Gutenberg of his dreams.\n',
        '*** start of the project, in March\n',
        '* * *\n\n*** START ***\n',
    ]:
        text = WORK + prose + WORK
        is_same = cut(text) == (text, 0)
        assert is_same, prose


def test_a_mark_is_recognized_wherever_a_text_is_split():
    text = 'so\n' + HEADER_A + 'it begins\n' + END_MARK + 'again\n'
    for place in range(len(text)):
        pieces = text[:place], text[place:]
        assert ''.join(reading.cut_off(pieces, collections.Counter())) == 'so\nit begins\nagain\n'


NOTICE = """<<THIS ELECTRONIC VERSION OF THE COMPLETE WORKS OF WILLIAM
SHAKESPEARE IS COPYRIGHT 1990-1993, PROVIDED BY PROJECT GUTENBERG WITH PERMISSION.>>"""
# It has a byte order mark, an end mark inside its licence, and notices between the works.
EDITION_1994 = f"""\N{BYTE ORDER MARK}The Project Gutenberg EBook of The Complete Works

*** START OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

Produced by World Library, Inc.

***** SMALL PRINT! for COMPLETE SHAKESPEARE *****

This "Small Print!" by Charles B. Kramer, Attorney
****   SMALL PRINT! FOR __ COMPLETE SHAKESPEARE ****
["Small Print" V.12.08.93]
{NOTICE}
{WORK}
{NOTICE}
End of this Etext of The Complete Works of William Shakespeare

*** END OF THIS PROJECT GUTENBERG EBOOK COMPLETE WORKS--WILLIAM SHAKESPEARE ***

***** This file should be named 100.txt or 100.zip *****
"""
ETEXT_1994 = f"""***This is the Project Gutenberg Etext of A***
*This 30th edition should be labeled a30.txt or a30.zip.

**Welcome To The World of Free Plain Vanilla Electronic Texts**

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
{WORK}End of The Project Gutenberg Etext of A
"""
EBOOK_2005 = f"""{HEADER_A}{WORK}{END_A}
EBooks posted prior to November 2003, with eBook numbers BELOW #10000,
are filed in directories: http://www.gutenberg.net/GUTINDEX.ALL

*** END: FULL LICENSE ***
"""


@pytest.mark.parametrize('text', [EDITION_1994, ETEXT_1994, EBOOK_2005], ids=['1', '2', '3'])
def test_headers_and_licences_of_earlier_years_are_cut_off_whole(path, text):
    path.write_bytes(text.replace('\n', '\r\n').encode())
    seen = collections.Counter()
    left = ''.join(reading.read_pieces(path, seen))
    text = text.lstrip('\ufeff')
    assert left.strip() == WORK.strip()
    assert seen['cut'] == len(text) - len(left)
    for size in 97, 997:
        assert cut(text, size) == (left, seen['cut'])


def test_a_notice_inside_an_unterminated_one_is_cut_off_alone():
    notice = '<<THIS ELECTRONIC VERSION\nOF\n\nTHE WORKS>>'
    text = f'before\n<<THIS ELECTRONIC VERSION\n{notice}\n' + 'after, and so on\n' * 3300
    for size in 97, 1000, 1 << 20:
        is_same = cut(text, size) == (text.replace(notice, ''), len(notice))
        assert is_same


# --- Files that are not UTF-8 text ---------------------------------------------------------------

GERMAN = 'Ist der Zügel lösbar?\nJa, für Könige.\n'
POLISH = 'Litwo! Ojczyzno moja! ty jesteś jak zdrowie; Ile cię trzeba cenić, ten tylko się dowie\n'
RUSSIAN = 'Мой дядя самых честных правил,\nКогда не в шутку занемог,\nОн уважать себя заставил\n'
SIMPLIFIED = '从前有一座山，山上有一座庙，\n庙里有一个老和尚，给小和尚讲故事。\n'
TRADITIONAL = '從前有一座山，山上有一座廟，\n廟裡有一個老和尚，給小和尚講故事。\n'
JAPANESE = '吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n'


def refusal(path):
    """Read a file that cannot be read; return the sentence about it, without its path."""
    with pytest.raises(UserError) as caught:
        list(reading.file_pieces(path, 1000))
    begin, _, sentence = str(caught.value).partition(f'{path} ')
    assert (begin, '\n' in sentence) == ('', False)
    return sentence


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Return a function that writes bytes to a file, reads it, and returns the refusal."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(data, name='text.txt'):
        (tmp_path / name).write_bytes(data)
        return refusal(name)

    return write_and_read


def follow(sentence):
    """Run the command of a sentence in a shell; return the bytes of the file that it names."""
    command, new = re.search(r': ((?!.*: ).+) \(then use (.+)\)$', sentence).groups()
    subprocess.run(['bash', '-c', command], check=False)
    with open(new.strip("'"), 'rb') as file:
        return file.read()


def tar(data):
    """Return a tar archive of one file with these bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        member = tarfile.TarInfo('text.txt')
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_a_file_type_is_recognized_and_the_command_converts_it(said):
    data = GERMAN.encode()
    for packed, words in [
        (gzip.compress(data), 'compressed (gzip). Convert it to plain text: gunzip <'),
        (bz2.compress(data), 'compressed (bzip2). Convert it to plain text: bunzip2 <'),
        (lzma.compress(data), 'compressed (xz). Convert it to plain text: unxz <'),
        (tar(data), 'an archive (tar). Convert it to plain text: tar -xOf - <'),
        (GERMAN.encode('utf-16'), 'UTF-16. Convert it to plain text: iconv -f UTF-16 -t UTF-8 <'),
        (GERMAN.encode('utf-32'), 'UTF-32. Convert it to plain text: iconv -f UTF-32 -t UTF-8 <'),
    ]:
        sentence = said(packed)
        assert sentence.startswith(f'is {words}')
        assert follow(sentence) == data
    assert 'a PDF. Convert it to plain text: pdftotext - - < text.txt' in said(b'%PDF-1.4\n' + data)
    assert 'compressed (zip, docx, odt or epub). Convert it to plain text' in said(
        b'PK\x03\x04' + data
    )


ENCODED = [
    ('gbk', SIMPLIFIED, 'GB18030'),
    ('big5', TRADITIONAL, 'BIG5'),
    ('euc_jp', JAPANESE, 'EUC-JP'),
    ('cp1251', RUSSIAN, 'CP1251'),
    ('latin_1', GERMAN, 'CP1252'),
    ('utf_16_le', GERMAN, 'UTF-16LE'),
    ('utf_16_le', SIMPLIFIED, 'UTF-16LE'),
    ('utf_32_be', RUSSIAN, 'UTF-32BE'),
]


@pytest.mark.parametrize('encoding, text, guess', ENCODED, ids=lambda value: value[:9].strip())
@pytest.mark.parametrize('before, times', [(10_000, 20), (0, 5000)])
def test_the_command_converts_a_text_from_another_encoding(
    said, encoding, text, guess, before, times
):
    text = 'This is plain ASCII.\n' * before + text * times
    sentence = said(text.encode(encoding), 'my text.txt')
    assert f'. It may be {guess}, if ' in sentence
    assert encoding != 'latin_1' or "if 'Zügel' looks" in sentence
    assert sentence.endswith(
        f". Convert it: iconv -f {guess} -t UTF-8 < 'my text.txt' > 'my text-2.txt' "
        f"(then use 'my text-2.txt')"
    )
    assert follow(sentence).decode() == text


SPANISH = 'Una olla de algo más vaca que carnero, algún palomino de añadidura los domingos.\n'
FRENCH = 'Le garçon mangea la crème brûlée sous le chêne, près de la forêt.\n'
CZECH = 'Příliš žluťoučký kůň úpěl ďábelské ódy. Byl pozdní večer, první máj.\n'
SWEDISH = 'Jag går över ån och ser små björnar på ängen. Året är långt.\n'


@pytest.mark.parametrize('times', [1, 30])
@pytest.mark.parametrize(
    'encoding, text, first, second',
    [
        ('cp1252', SPANISH, "CP1252, if 'añadidura'", "CP1250, if 'ańadidura'"),
        ('cp1252', FRENCH, "CP1252, if 'crème'", "CP1250, if 'crčme'"),
        ('iso8859_2', CZECH, "ISO8859-2, if 'Příliš'", ''),
        ('koi8_r', RUSSIAN, "KOI8-R, if 'Мой'", ''),
        # Here the second is the right one.
        ('cp1250', POLISH, "CP1252, if 'jesteœ'", "CP1250, if 'jesteś'"),
        ('cp1252', SWEDISH, "CP1250, if 'gĺr'", "CP1252, if 'går'"),
    ],
)
def test_two_likely_encodings_show_a_word_that_they_read_differently(
    said, encoding, text, first, second, times
):
    sentence = said((text * times).encode(encoding))
    assert f'. It may be {first} looks right' in sentence
    assert f' looks right, or {second}' in sentence or not second
    assert f'. Convert it: iconv -f {first.partition(",")[0]} -t UTF-8 <' in sentence


def test_without_a_match_or_charset_normalizer_no_encoding_is_named(said, monkeypatch):
    assert 'is not text: byte 0x00 on line 1.' in said(bytes(range(256)) * 20)
    words = '. Find its encoding and convert it: iconv -f ENCODING -t UTF-8 <'
    assert words in said(bytes(range(1, 256)) * 9)
    monkeypatch.setitem(sys.modules, 'charset_normalizer', None)
    assert words in said(GERMAN.encode('latin-1'))


def test_iconv_knows_every_encoding():
    each = 'for name; do iconv -f "$name" -t UTF-8 /dev/null || exit 1; done'
    subprocess.run(['bash', '-c', each, 'bash', *reading.ENCODINGS], check=True)


@pytest.mark.parametrize('bad', [b'\xe9', b'\xc3', b'\0'])
def test_one_bad_byte_is_named_with_its_line_and_the_command_removes_it(said, bad):
    data = (GERMAN * 3000).encode()
    command = "tr -d '\\000'" if bad == b'\0' else 'iconv -f UTF-8 -t UTF-8 -c'
    for place in data.index(b'K', 3000), data.index(b'K', 100_000), len(data):
        line = data[:place].count(b'\n') + 1
        sentence = said(data[:place] + bad + data[place:])
        assert f'but byte 0x{bad[0]:02X} on line {line:,} is not a valid character. ' in sentence
        assert f'remove all such bytes: {command} < text.txt > ' in sentence
        assert follow(sentence) == data


@pytest.fixture
def books(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in 'books/a.txt', 'books/b.txt', 'my books/b b.txt', 'books[1]/b.txt':
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_command_joins_the_files_of_a_folder_or_a_list(books):
    for given, files in {
        'books': 'books/*.txt',
        'books[1]': "'books[1]/'*.txt",
        '*/b*.txt': '*/b*.txt',
        'my books/b b.txt, books/a.txt': "'my books/b b.txt' books/a.txt",
    }.items():
        sentence = refusal(given)
        what = 'is more than one file. Join them' if '.' in given else 'is a folder. Join its files'
        assert sentence == f'{what}: cat {files} > texts.txt (then use texts.txt)'
        joined = follow(sentence).decode()
        assert 'b.txt' in joined
        assert ''.join(reading.file_pieces('texts.txt')) == joined
        (books / 'texts.txt').unlink()
    for given in 'books/c*.txt', 'books/a.txt,c.txt', ' ':
        assert refusal(given).startswith('cannot be read: No such file or directory. Set text_file')


def test_the_command_downloads_a_url(tmp_path, monkeypatch, site):
    monkeypatch.chdir(tmp_path)
    site.pages['/books/pg1.txt?a=1&b=2'] = answer(GERMAN.encode())
    url = site.url('/books/pg1.txt?a=1&b=2')
    sentence = refusal(url)
    assert sentence == f"is a URL. Download it: curl -fL -o pg1.txt '{url}' (then use pg1.txt)"
    assert follow(sentence).decode() == GERMAN


# --- Whether a model can learn from it -----------------------------------------------------------


@pytest.mark.parametrize('batch_size, seq_len, held_out', [(8, 12, 0.05), (1, 1, 0.5), (3, 7, 0.9)])
def test_a_text_needs_one_batch_and_the_named_length_is_enough(batch_size, seq_len, held_out):
    shape = f'--batch_size={batch_size}', f'--training_seq_len={seq_len}'
    settings = parse(*shape, f'--held_out={held_out}')

    def needed(num_ids):
        """Return the length that the refusal of such a text names, or None if it is accepted."""
        split = script.held_out_begin(num_ids, held_out)
        counts, message = np.array([0, num_ids - 1, 1]), ''
        try:
            reading.check_text('a.txt', counts, split, settings, reading.Counter(visible=1, kept=1))
        except UserError as error:
            message = str(error)
        assert (not message) == (script.batches_per_epoch(split, batch_size, seq_len) >= 1)
        smaller = re.search(r'lower batch_size to (\d+)', message)
        if smaller:
            assert script.batches_per_epoch(split, int(smaller.group(1)), seq_len) >= 1
        named = re.search(rf' {batch_size} x {seq_len} needs ([\d,]+)\.', message)
        return int(named.group(1).replace(',', '')) if message else None

    longest = needed(2)
    assert {needed(n) for n in range(2, longest - 1)} == {longest}
    assert {needed(n) for n in range(longest, 2 * longest)} == {None}


def test_unknown_characters_of_a_prime_text_are_reported_in_the_given_file(capsys):
    vocabulary = ['unknown', 'o', 's', 'é', '7']
    table = [
        ('sos', [2, 1, 2], ''),
        ('sox, so', [2, 1, 0, 0, 0, 2, 1], "has ' ,x', which is read as 'unknown'"),
        ('e\u0301x', [3, 0], "has 'x', which is read as 'unknown'"),
        ('so7', [2, 1, 4], "has '7', which the model has never read"),
        ('s唐o', [2, 1], "is read as 'so': the model has no other letters"),
    ]
    for text, ids, told in table:
        file, line = io.StringIO(), f'The prime text {text!r} {told}\n' if told else ''
        reading.check_prime(text, np.array([ids]), vocabulary, [0, 4], file)
        assert (file.getvalue(), capsys.readouterr().out) == (line, '')


CODE = 'def f(x):\n    return {"a": [x[0], (x + 1) ** 2], "b": f(x / 2) if x > 1 else None}\n'
CHINESE = '\u6bcf\u500b\u4eba' * 20 + 'one\n'


def test_cleaning_reports_what_it_leaves_out_if_it_exceeds_usual_punctuation(path, works, capsys):
    scenes = [works[begin : begin + 30_000].decode() for begin in range(0, len(works), 500_000)]
    shares = {RUSSIAN: '100%', CHINESE: '95%', CODE: '44%', '': None}
    for text, share in {**shares, **dict.fromkeys([works.decode(), *scenes])}.items():
        path.write_text(text, encoding='utf-8')
        seen = reading.Counter()
        collections.deque(script.read_text(path, True, seen), maxlen=0)
        reading.print_left_out(seen)
        words = capsys.readouterr().out.split()
        assert words[2:3] == ([share] if share else [])


def test_what_was_cut_off_and_left_out_is_reported_once(path, capsys):
    path.write_text(HEADER_A + CHINESE * 500 + END_A, encoding='utf-8')
    settings = parse('--batch_size=2', f'--text_file={path}', f'--temp_dir={path.parent}')
    settings.prime_texts = ['one']
    for settings.clean_text in True, False:
        script.prepare_text(settings)
        output = capsys.readouterr().out
        cut_off = f'Removed: {len(HEADER_A + END_A):,} characters that Project Gutenberg wrote'
        assert output.count(cut_off) == 1
        left_out = 'Left out: 95% of the characters. A clean text has only a-z, 0-9, space'
        assert output.count(left_out) == output.count('--clean_text=False') == settings.clean_text


@pytest.mark.parametrize('text', [RUSSIAN * 100, CHINESE * 9, 'я ' * 9000])
def test_if_cleaning_leaves_too_little_to_learn_the_advice_is_not_to_clean(path, text, capsys):
    path.write_text(text, encoding='utf-8')
    settings = parse(f'--text_file={path}', f'--temp_dir={path.parent}')
    with pytest.raises(UserError, match=r'\. Set clean_text to False$'):
        script.prepare_text(settings)
    assert 'Left out: ' in capsys.readouterr().out


@pytest.mark.parametrize('number', [1, 2, 3])
def test_the_batch_size_that_fits_has_as_many_streams_for_each_worker(number, monkeypatch):
    monkeypatch.setattr(reading.workers, 'count', lambda: number)
    settings, seen = parse('--batch_size=600'), reading.Counter(visible=1, kept=1)
    for split in range(60, 30_000, 7):
        with pytest.raises(UserError) as error:
            reading.check_text('a.txt', np.array([0, split, 1]), split, settings, seen)
        smaller = re.search(r'lower batch_size to (\d+)$', str(error.value))
        fits = script.batches_per_epoch(split, number, settings.training_seq_len) >= 1
        assert bool(smaller) == fits
        if smaller:
            batch_size = int(smaller.group(1))
            assert batch_size % number == 0
            assert script.batches_per_epoch(split, batch_size, settings.training_seq_len) >= 1
