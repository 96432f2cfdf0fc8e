"""What Project Gutenberg wrote around a work, and how it is cut off without harm to the work."""

import itertools
import re


def lines(*patterns):
    """Compile what a line begins with, in any case; a space stands for any blanks in a line."""
    pattern = '|'.join(patterns).replace(' ', r'(?:[^\S\n]+)')
    return re.compile(pattern, re.MULTILINE | re.IGNORECASE)


# The lines that part a work from what Project Gutenberg says of it: those of today, those of
# the 2000s (THIS for THE), and the ends of the licences of the 1990s.
PROJECT = '(?:THE |THIS )?PROJECT GUTENBERG'
REST = r'(?:(?:[^*\n]|\n(?! ?\n)){0,500}\*\*+ ?\n?|.{0,500}\n?)'  # to asterisks, or of the line
MARK = lines(
    rf'(?P<start>^ ?\*\*+ ?START OF {PROJECT}{REST}',
    r'^ ?\*END\*? ?THE SMALL PRINT.{0,100}\n?',
    r'^ ?\*\*+ ?SMALL PRINT! FOR __ COMPLETE SHAKESPEARE.{0,100}\n'
    r'(?: ?\["Small Print".{0,100}\n)?)',
    rf'(?P<end>^ ?\*\*+ ?END OF {PROJECT}{REST}',
    # These have no asterisks: they begin with a capital letter, else they may be prose.
    rf'^ ?(?-i:E)ND OF (?:{PROJECT}|(?:THE |THIS )?ETEXT).{{0,200}}\n?',
    rf'^ ?(?-i:T)H(?:IS IS TH)?E END OF {PROJECT} E-?(?:BOOK|TEXT).{{0,200}}\n?)',
)
WORDS = ('gutenberg', 'small print', 'etext')  # in each mark
# A header begins with such a line, and ends at a start mark.
HEADER_LINE = lines(
    r'^[^\w\n]*(?:This is )?(?:The )?Project Gutenberg(?:.s |.*(?:e-?book|e-?text|edition))',
    r'^.{0,20}Welcome To The World of Free Plain Vanilla',
    r'^ ?This e-?(?:book|text) is for the use of anyone',
    r'^ ?This is the \w+ E-?text file presented by Project Gutenberg',
    r'^[^\w\n]*SMALL PRINT! FOR COMPLETE SHAKESPEARE',
)
HEADER = 50_000  # characters, at most
# A licence follows an end mark, and comes back to these again and again, until its last line.
LICENCE_TALK = re.compile(
    r'Gutenberg|Updated editions will replace the previous one|This file should be named'
    r'|(?P<last>to\s+hear\s+about\s+new\s+e-?books\.?\s*\n?'
    r'(?:EBooks posted prior to(?:.|\n){0,2000}?GUTINDEX\.ALL\s*)?'  # in the 2000s
    r'(?:\*+ END: FULL LICENSE \*+\s*\n?)?)',
    re.IGNORECASE,
)
LICENCE = 25_000  # characters, at most; it has had up to 20,000
LICENCE_GAP = 4_000  # and at most so many between two such words
LONGEST_MARK = 1_000
NOTICE_BEGIN = '<<THIS ELECTRONIC VERSION'
NOTICE = re.compile(NOTICE_BEGIN + '[^<>]{0,2000}>>')  # between works


def cut_off(pieces, seen):
    """Yield the pieces of a text without what is recognisably Project Gutenberg's.

    Of a text of any size no more is held than a piece and some 50,000 characters.

    Args:
      pieces: iterable of str.
      seen: collections.Counter; the characters that were cut off are added to its 'cut'.
    """
    text = ''
    for piece in itertools.chain(pieces, [None]):
        text += piece or ''
        cuts, decided = find_cuts(text, is_end=piece is None)
        begin, kept = 0, ''
        for cut in (*cuts, (decided, decided)):
            kept += NOTICE.sub('', text[begin : cut[0]])
            begin = cut[1]
        seen['cut'] += decided - len(kept)
        if kept:
            yield kept
        text = text[decided:]


def find_cuts(text, is_end):
    """Return what is to be cut out of a text, and up to where that is known.

    Args:
      is_end: bool, nothing follows this text.

    Returns:
      A list of pairs of positions in the text, in order, and a position.
    """
    cuts, done, known = [], 0, len(text) if is_end else max(0, len(text) - HEADER - LONGEST_MARK)
    after_start = False
    # In almost all pieces there is no mark, and a word is found much faster than a pattern.
    lower = text.lower()
    marks = list(MARK.finditer(text)) if any(word in lower for word in WORDS) else []
    for number, mark in enumerate(marks):
        if mark.start() < done:  # within a licence
            continue
        if mark.lastgroup == 'start':
            if not is_end and mark.end() > len(text) - LONGEST_MARK:
                break
            header = HEADER_LINE.search(text, max(done, mark.start() - HEADER), mark.start())
            begin = (header or mark).start()
            if after_start and header and begin < done + LONGEST_MARK:
                begin = done  # such as 'Produced by ...', between two start marks
            done, after_start = mark.end(), True
        else:
            if not is_end and mark.end() > len(text) - LICENCE - LONGEST_MARK:
                known = mark.start()
                break
            starts = [later.start() for later in marks[number:] if later.lastgroup == 'start']
            limit = min([len(text), mark.end() + LICENCE, *starts[:1]])
            begin, done, after_start = mark.start(), end_of_licence(text, mark.end(), limit), False
        cuts.append((begin, done))
    if not is_end:  # no notice is parted
        length = len(NOTICE_BEGIN)
        notice = text.rfind(NOTICE_BEGIN, max(0, known - 2000 - length), known + length - 1)
        known = notice if notice >= 0 else known
    return cuts, max(done, known)


def end_of_licence(text, begin, limit):
    """Return where the licence in text[begin:limit] ends: `begin` if there is none."""
    end = begin
    for talk in LICENCE_TALK.finditer(text, begin, limit):
        if talk.start() > end + LICENCE_GAP:
            break
        end = talk.end()
        if talk.lastgroup == 'last':
            return end
    if end == begin:
        return begin
    paragraph = text.find('\n\n', end, limit)  # to the end of the paragraph
    return paragraph + 2 if paragraph >= 0 else min(limit, end + LONGEST_MARK)
