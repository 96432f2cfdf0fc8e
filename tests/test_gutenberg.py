"""Gutenberg: what Project Gutenberg wrote around a work is cut off, and nothing else is."""

import collections

from backstage import gutenberg, reading

import pytest
from conftest import SMALL, parse, script
from test_reading import EDITIONS

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
    """Return what is left of a text that comes in pieces of that size, and how much was cut."""
    seen = collections.Counter()
    pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
    return ''.join(gutenberg.cut_off(pieces, seen)), seen['cut']


def book(name):
    return HEADER.format(name) + WORK.format(name) + LICENCE.format(name)


BOOKS = ''.join(map(book, 'ABC'))
WORKS = ''.join(map(WORK.format, 'ABC'))
KEPT = {
    'one book': (book('A'), WORK.format('A')),
    'three books': (BOOKS, WORKS),
    'three books without their headers': (
        ''.join(WORK.format(name) + LICENCE.format(name) for name in 'ABC'), WORKS,
    ),
    'three books without their licences': (
        ''.join(HEADER.format(name) + WORK.format(name) for name in 'ABC'), WORKS,
    ),
    'notes after a book': (book('A') + NOTES, WORK.format('A') + NOTES),
    'notes before a book': (NOTES + book('A'), NOTES + WORK.format('A')),
    'notes between books': (
        book('A') + NOTES + book('B'), WORK.format('A') + NOTES + WORK.format('B'),
    ),
    'a mark alone after a work, and notes': (
        WORK.format('A') + '*** END OF THE PROJECT GUTENBERG EBOOK A ***\n' + NOTES,
        WORK.format('A') + NOTES,
    ),
    'a mark alone, and notes that come to speak of Gutenberg': (
        WORK.format('A') + '*** END OF THE PROJECT GUTENBERG EBOOK A ***\n' + NOTES[:9000]
        + '\nI have it from Project Gutenberg.\n\n' + NOTES,
        WORK.format('A') + NOTES[:9000] + '\nI have it from Project Gutenberg.\n\n' + NOTES,
    ),
    'a mark alone in one long line': (
        'word ' * 9000 + '\n*** END OF THE PROJECT GUTENBERG EBOOK A ***' + ' word' * 9000,
        'word ' * 9000 + '\n' + 'word ' * 8999 + 'word',
    ),
    'a start mark alone, early': (
        WORK.format('A') + '*** START OF THE PROJECT GUTENBERG EBOOK A ***\n' + NOTES,
        WORK.format('A') + NOTES,
    ),
    'a start mark without its last asterisks': (
        '*** START OF THE PROJECT GUTENBERG EBOOK A\n' + NOTES, NOTES,
    ),
    'a licence without its last lines, and notes': (
        WORK.format('A') + LICENCE.format('A').split('This website')[0] + NOTES,
        None,
    ),
    'a notice that never ends': (
        'so\n<<THIS ELECTRONIC VERSION by PROJECT GUTENBERG\n' + NOTES + '>>',
        'so\n<<THIS ELECTRONIC VERSION by PROJECT GUTENBERG\n' + NOTES + '>>',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', [name for name, (_, kept) in KEPT.items() if kept])
@pytest.mark.parametrize('size', [1 << 20, 30_000, 997])
def test_of_what_is_joined_the_works_and_the_notes_are_left(name, size):
    text, kept = KEPT[name]
    assert cut(text, size) == (kept, len(text) - len(kept))


def test_where_a_licence_has_no_last_line_not_much_of_what_follows_is_lost():
    text, _ = KEPT['a licence without its last lines, and notes']
    left, _ = cut(text)
    assert left.startswith(WORK.format('A'))
    licence = left[len(WORK.format('A')) :]
    assert len(NOTES) <= len(licence) <= len(NOTES) + len(SILENT) * 31


def test_no_more_than_the_longest_licence_is_cut_however_much_of_gutenberg_is_talked():
    talk = 'Project Gutenberg has this.\n\n' * 10_000
    text = 'so\n*** END OF THE PROJECT GUTENBERG EBOOK A ***\n' + talk
    assert len(text) - gutenberg.LICENCE - gutenberg.LONGEST_MARK < len(cut(text)[0]) < len(talk)


def test_of_a_text_of_any_size_little_is_held():
    held, fed = [], 0

    def pieces():
        nonlocal fed
        for number in range(300):
            fed += 10_000
            yield ('Project Gutenberg ' if number % 2 else 'word word\n\n') * 1000

    for kept in gutenberg.cut_off(pieces(), collections.Counter()):
        held.append(fed)
        assert len(kept) < 200_000
    assert held[0] < 200_000


@pytest.mark.parametrize('edition, work', EDITIONS, ids=['1994', 'today', 'plain'])
def test_how_much_was_cut_is_counted(tmp_path, edition, work):
    (tmp_path / 'text.txt').write_bytes(edition.encode())
    seen = collections.Counter()
    assert ''.join(reading.read_pieces(tmp_path / 'text.txt', seen)) == work
    read = edition.lstrip('\ufeff').replace('\r\n', '\n')
    assert seen['cut'] == len(read) - len(work)


@pytest.mark.parametrize(
    'start, end',
    [
        (
            '    *** START OF THE PROJECT GUTENBERG EBOOK A ***',
            '    *** END OF THE PROJECT GUTENBERG',
        ),
        (
            '\t*** START OF THIS PROJECT GUTENBERG EBOOK A ***',
            '\t*** END OF THIS PROJECT GUTENBERG',
        ),
        (
            '*** Start of the Project Gutenberg eBook A ***',
            '*** End of the Project Gutenberg eBook',
        ),
        (
            '*** start of this project gutenberg etext A***',
            '*** end of this project gutenberg etext',
        ),
        (
            '***START OF THE PROJECT GUTENBERG EBOOK A***',
            '***END OF THE PROJECT GUTENBERG EBOOK A***',
        ),
        ('*** START OF PROJECT GUTENBERG ETEXT A ***', '*** END OF PROJECT GUTENBERG ETEXT A ***'),
        ('*** START OF THE PROJECT GUTENBERG EBOOK A', '*** END OF THE PROJECT GUTENBERG EBOOK A'),
        (
            '*** START OF THE PROJECT GUTENBERG EBOOK A,\nOR B ***',
            '*** END OF THE PROJECT\xa0GUTENBERG',
        ),
        (
            '\xa0***\xa0START\xa0OF  THE PROJECT\xa0GUTENBERG EBOOK A ***',
            '***  END OF THE PROJECT GUTENBERG',
        ),
        ('  *END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*', "  End of Project Gutenberg's A"),
        (
            '*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS',
            'The End of the Project Gutenberg Etext of A',
        ),
    ],
)
@pytest.mark.parametrize('line_end', ['\n', '\r\n'])
def test_a_mark_is_known_in_any_case_and_with_any_blanks(tmp_path, start, end, line_end):
    header, licence = HEADER.format('A').split('*** START')[0], LICENCE.split('\n', 1)[1]
    text = header + start + '\n' + WORK + end + '\n' + licence
    (tmp_path / 'book.txt').write_bytes(text.replace('\n', line_end).encode())
    is_same = ''.join(reading.read_pieces(tmp_path / 'book.txt')) == WORK
    assert is_same  # to show how two long texts differ would take pytest hours


@pytest.mark.parametrize(
    'prose',
    [
        'He read "*** START OF THE PROJECT GUTENBERG EBOOK" aloud,\n"*** END OF THE PROJECT '
        'GUTENBERG EBOOK" too.\n',
        'The marks are *** START OF THE PROJECT GUTENBERG EBOOK A *** and so on.\n',
        'That was the\nend of the Project Gutenberg of his dreams.\n',
        'The end of Project Gutenberg is not near.\n',
        '*** start of the project, in March\n',
        '* * *\n\n*** START ***\n',
    ],
)
def test_prose_that_speaks_of_a_mark_is_left(prose):
    text = WORK + prose + WORK
    is_same = cut(text) == (text, 0)
    assert is_same


def test_a_scene_break_after_a_mark_without_its_asterisks_is_left():
    work = '\nHe left.\n\n* * * *\n\nShe stayed.\n'
    assert cut('*** START OF THE PROJECT GUTENBERG EBOOK A\n' + work)[0] == work


HEADER_1994 = """***This is the Project Gutenberg Etext of {0}***
*This 30th edition should be labeled a30.txt or a30.zip.

**Welcome To The World of Free Plain Vanilla Electronic Texts**

*****The Project Gutenberg Etext of {0}*****

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
"""
END_2005 = """
EBooks posted prior to November 2003, with eBook numbers BELOW #10000,
are filed in directories based on their release date.

     http://www.gutenberg.net/etext06

EBooks posted since November 2003, with etext numbers OVER #10000, are
filed in a different way.

     http://www.gutenberg.net/GUTINDEX.ALL

*** END: FULL LICENSE ***
"""


@pytest.mark.parametrize(
    'text',
    [
        HEADER_1994.format('A') + WORK + 'End of The Project Gutenberg Etext of A\n',
        HEADER.format('A') + WORK + LICENCE.format('A') + END_2005,
        HEADER.format('A') + WORK + (LICENCE.format('A') + END_2005).replace('\n', '\n\n'),
    ],
    ids=['1994', '2005', '2005 with more empty lines'],
)
@pytest.mark.parametrize('size', [1 << 20, 30_000, 997])
def test_no_line_of_the_headers_and_licences_of_earlier_years_is_left(text, size):
    is_same = cut(text, size)[0].strip() == WORK.strip()
    assert is_same


@pytest.mark.parametrize('clean_text', [True, False])
def test_how_much_was_cut_is_told_once_and_not_where_nothing_was(tmp_path, capsys, clean_text):
    (tmp_path / 'books.txt').write_text(BOOKS)
    (tmp_path / 'works.txt').write_text(WORKS)
    line = (
        f'Cut off: {len(BOOKS) - len(WORKS):,} characters that Project Gutenberg wrote around '
        f'the text\n'
    )
    results = set()
    for name, times in (('books', 1), ('works', 0)):
        settings = parse(*SMALL, f'--text_file={tmp_path}/{name}.txt', f'--temp_dir={tmp_path}')
        settings.clean_text, settings.prime_texts = clean_text, ['it']
        _, split, text = script.prepare_text(settings)
        assert capsys.readouterr().out.count(line) == times
        results.add((split, text['text_crc']))
    assert len(results) == 1


@pytest.mark.parametrize('inside', ['', '\n\n', '<<THIS ELECTRONIC VERSION\nOF\n\n'])
def test_a_notice_is_cut_out_wherever_the_text_is_parted(inside):
    text = (
        f'before\n<<THIS ELECTRONIC VERSION\n{inside}OF THE WORKS>>\n' + 'after, and so on\n' * 4000
    )
    whole = ''.join(gutenberg.cut_off([text], reading.Counter()))
    assert len(text) - len(whole) >= len('<<THIS ELECTRONIC VERSION\nOF THE WORKS>>')
    for size in 7, 1000:
        pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
        is_same = ''.join(gutenberg.cut_off(pieces, reading.Counter())) == whole
        assert is_same  # to show how two long texts differ would take pytest hours
