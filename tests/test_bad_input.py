"""Bad input: one line that says what is wrong and what to do, status 2, and nothing is harmed.

The table of all that is tried here, with the sentence that each gets, is tests/bad-input.md;
`make bad-input` writes it.
"""

import importlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

import pytest
from conftest import ROOT, SMALL, TOOLS, run_script, script

# isort: split
# Only now does Python find these, when this file is run as a program.
from backstage.folder import crc_of

from runs import call_here

pytestmark = pytest.mark.xdist_group('bad_input')  # so that the folder is made in one process only

TABLE = ROOT / 'tests' / 'bad-input.md'
TEXT = 'Whether tis nobler in the mind to suffer the slings and arrows. ' * 40
PROGRAMS = {
    'script': script,
    'tools': importlib.import_module('tools.__main__'),
    **{tool.__name__: tool for tool in TOOLS},
}

# What is in the folder where a program is started; a name that ends with / is a folder.
FILES = {
    'good.txt': TEXT.encode(),
    'empty.txt': b'',
    'folder/': None,
    'binary.bin': bytes(range(256)) * 20,
    'zeros.bin': b'some text, and then\0zeros' * 200,
    'utf16.txt': TEXT.encode('utf-16'),
    'utf16le.txt': TEXT.encode('utf-16-le'),
    'cut.txt': ('Ist der Zügel lösbar? ' * 100).encode()[:-14],
    'latin1.txt': 'Ist der Zügel lösbar? '.encode('latin-1') * 100,
    'one.txt': b'a' * 5000,
    'blank.txt': b' \n\t' * 2000,
    'short.txt': b'to be or not to be',
    'rare.txt': (''.join(map(chr, range(0x4E00, 0x5600))) + 'so it ends ' * 9).encode(),
    'marks.txt': b'*** START OF THE PROJECT GUTENBERG EBOOK X ***\n'
    b'*** END OF THE PROJECT GUTENBERG EBOOK X ***\n',
    'a_file': b'',
    'wrong/shakespeare.txt': b'to be or not to be',
}

RUN = ('--text_file=good.txt', *SMALL)
TEXTS = 'nowhere.txt folder empty.txt binary.bin zeros.bin utf16.txt utf16le.txt'
TEXTS += ' latin1.txt cut.txt blank.txt marks.txt one.txt short.txt'
TEXTS_TO_MEASURE = 'nowhere.txt folder empty.txt zeros.bin latin1.txt blank.txt'


def each(program, option, values, *more):
    """Return a case for each of several values, between blanks, of one option."""
    return [(program, *more, option + value) for value in values.split()]


# In `trained` is a model. The names of its copies tell what is damaged there.
TRAINED = '--temp_dir=trained'
CASES = [
    *each('script', '--', 'rnn_sise=64 rnn=64 rnn_size clean_text=perhaps restart=2 clean_text='),
    *each('script', '--', 'epochs=1.5 epochs=1e400 keep_prob=0 device=tpu'),
    *each('script', '--', 'prime_texts= prime_texts data_dir= data_dir=a_file'),
    *each('script', '--', 'data_dir=/proc/nowhere data_dir=wrong'),
    ('script', 'rnn_size=64'),
    *[('script', f'--text_file={name}', *SMALL) for name in TEXTS.split()],
    ('script', '--text_file=one.txt', '--clean_text=False', *SMALL),
    ('script', '--text_file=good.txt', '--clean_text=False', '--min_word_freq=1000000', *SMALL),
    ('script', '--text_file=rare.txt', '--clean_text=False', *SMALL),
    ('script', '--text_file=good.txt'),
    ('script', '--text_file=short.txt', *SMALL, '--temp_dir=new/below/it'),
    ('script', *SMALL, TRAINED, '--text_file=latin1.txt'),
    *each('script', '--temp_dir=', 'a_file new[1] a_file/below /proc/nowhere', *RUN),
    *each('script', '--temp_dir=', 'damaged_settings damaged_model', *RUN),
    *each('script', '--init_from=', 'nowhere folder damaged_settings', *RUN, '--temp_dir=new'),
    ('script', *RUN, '--temp_dir='),
    ('script', *RUN, '--temp_dir=new', '--init_from=trained', '--num_layers=2'),
    ('script', *RUN, TRAINED, '--init_from=trained', '--restart'),
    ('script', *RUN, '--prime_texts=\u0301'),
    ('script', *RUN, '--rnn_size=100000'),
    ('script', *RUN, '--num_layers=1000', '--rnn_size=10000'),
    *each('script', '--', 'checkpoint=trained/model-2 trained'),  # of tools alone
    ('tools.sample',),
    ('tools.sample', '--temp_dir='),
    *each('tools.sample', '--temp_dir=', 'nowhere folder a_file damaged_settings no_vocabulary'),
    *each(
        'tools.sample',
        '--temp_dir=',
        'incomplete_settings changed_settings damaged_vocabulary no_model',
    ),
    *each('tools.sample', '--temp_dir=', 'doubled_vocabulary damaged_model'),
    *each('tools.sample', '--checkpoint=', 'trained/model-7 trained good.txt', TRAINED),
    *each('tools.sample', '--', 'prime_text=\u0301 stop_at=Exit. stop_at=\\n stop_at', TRAINED),
    *[('tools.sample', TRAINED, '<', name) for name in ('latin1.txt', 'utf16.txt')],
    *each('tools.sample', '--', 'prime_text rnn_size=64 device=tpu sample'),
    ('tools.sample', '--prime_texts=to be'),
    ('tools.sample', 'to be'),
    ('tools.evaluate',),
    *each('tools.evaluate', '--text_file=', TEXTS_TO_MEASURE, TRAINED),
    *each('tools.evaluate', '--', 'temp_dir=another_text batch_size=16'),
    ('tools.evaluate', TRAINED, '--text_files', 'good.txt', 'nowhere.txt'),
    *each('tools.evaluate', '--', 'text_files lines=perhaps csv=table.csv', TRAINED),
    *each('tools.evaluate', '--text_file=', 'nowhere.txt latin1.txt', TRAINED, '--lines'),
    ('tools.evaluate', TRAINED, '--lines', '--csv', '--text_file=folder'),
    ('tools.heatmap',),
    ('tools.heatmap', TRAINED, '--text='),
    *each('tools.heatmap', '--text=', 'x \u0301', TRAINED),
    ('tools.heatmap', '--text', 'to', 'be'),
    ('tools.page',),
    *each('tools.page', '--text_file=', TEXTS_TO_MEASURE, TRAINED),
    ('tools.page', '--temp_dir=damaged_model'),
    ('tools.export',),
    ('tools.export', TRAINED, '--folder='),
    *each('tools.export', '--folder=', 'folder a_file/1 /proc/nowhere/1', TRAINED),
    ('tools.export', '--temp_dir=damaged_model', '--folder=new/1'),
    ('tools.plot',),
    ('tools.plot', '--folders', 'folder', 'a_file'),
    ('tools.plot', '--folders', 'trained', 'damaged_history'),
    ('tools.plot', '--folders', 'trained', 'another_text', '--temp_dir=a_file'),
    *each('tools.plot', '', '--folders= --folders trained'),
    *each('tools', '', 'sample paint'),
]


def call(program, arguments, folder):
    """Call a program in a folder; return its exit status, standard output and standard error.

    In this process, since two hundred processes would take minutes. The last two arguments may be
    `<` and a file, the standard input.
    """
    *words, name = arguments if '<' in arguments else (*arguments, '<', os.devnull)

    def main(arguments):
        try:
            with open(name) as sys.stdin:
                return program.main(arguments)
        except SystemExit as end:  # so argparse ends
            return end.code
        finally:
            sys.stdin = sys.__stdin__

    return call_here(main, *words[:-1], cwd=folder)


def make_folder(folder):
    """Fill a folder with FILES, and with runs that are damaged, or not; return it."""
    for name, data in FILES.items():
        path = folder / name
        (path if data is None else path.parent).mkdir(exist_ok=True)
        if data is not None:
            path.write_bytes(data)
    (folder / 'another.txt').write_text(TEXT.upper() + 'And so on.')
    begin = [*RUN, '--max_iterations=2', '--sample_length=1', TRAINED]
    assert call(script, begin, folder)[::2] == (0, '')
    settings, vocabulary = (
        json.loads((folder / 'trained' / f'{name}.json').read_text())
        for name in ('settings', 'vocabulary')
    )
    incomplete = {name: value for name, value in settings.items() if name != 'rnn_size'}
    changed = {**settings, 'held_out': 0.15}
    del settings['crc']
    other = {**settings, 'text_file': 'another.txt', 'text_crc': 1}
    other['crc'] = crc_of(other)
    for name, file, content in [  # None: it is not there
        ('damaged_settings', 'settings.json', '{"rnn_size": 16'),
        ('incomplete_settings', 'settings.json', json.dumps(incomplete)),
        ('another_text', 'settings.json', json.dumps(other)),
        ('changed_settings', 'settings.json', json.dumps(changed)),
        ('no_vocabulary', 'vocabulary.json', None),
        ('damaged_vocabulary', 'vocabulary.json', '[1, 2]'),
        ('doubled_vocabulary', 'vocabulary.json', json.dumps(2 * vocabulary)),
        ('damaged_history', 'history.csv', '{"losses": []}'),
        ('no_model', 'model-*', None),
        ('damaged_model', 'model-*.data-*', ''),
    ]:
        shutil.copytree(str(folder / 'trained'), str(folder / name))
        for path in (folder / name).rglob(file):
            path.unlink() if content is None else path.write_text(content)
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('bad'))


def content(folder):
    """Return what all files hold, but for that of a lock; None for a folder."""
    return {
        path: path.read_bytes() if path.is_file() and path.name != 'lock' else None
        for path in folder.rglob('*')
    }


def sentence(case, folder):
    """Return what a program, called as by a user, says; make sure that it changes nothing."""
    name, *arguments = case
    before = content(folder)
    status, _, said = call(PROGRAMS[name], arguments, folder)
    if {'--lines', '--csv'} & set(arguments):  # then the standard output has figures alone
        said = re.sub(r'^(Model|Text): .*\n', '', said, flags=re.MULTILINE)
    assert (status, said.count('\n')) == (2, 1), (case, said)
    after = content(folder)
    new = sorted(set(after) - set(before))
    assert {path: after.get(path) for path in before} == before, case
    # The script may have made temp_dir, and locked it.
    assert not new or name == 'script', case
    assert all(path.is_dir() or path.name == 'lock' for path in new), case
    for path in reversed(new):
        (path.rmdir if path.is_dir() else path.unlink)()
    return said.replace(f'{os.path.realpath(str(folder))}{os.sep}', '')


def row(case, said):
    name, *arguments = case
    shown = ' '.join(argument for argument in arguments if argument not in SMALL)
    said = re.sub(r'but only [\d,]+ GB', 'but only … GB', said)
    said = said.replace(sys.executable, '.venv/bin/python').replace(f'{ROOT}{os.sep}', '')
    said = re.sub(r'^\w+\.py: ', '', said.strip()).replace('|', '\\|')
    return f'| {name} | `{shown}` | {said} |' if shown else f'| {name} | | {said} |'


def marked(case):
    """Leave most cases in which a tool opens a model to the long tests."""
    is_long = case[0] != 'script' and TRAINED in case and 'nowhere' not in case[-1]
    return pytest.param(case, marks=pytest.mark.long) if is_long else case


@pytest.mark.parametrize('case', map(marked, CASES), ids=' '.join)
def test_bad_input_gets_the_sentence_of_the_table(case, folder):
    assert row(case, sentence(case, folder)) in TABLE.read_text(encoding='utf-8').split('\n')


def test_the_table_has_no_row_that_is_not_tried():
    rows = TABLE.read_text(encoding='utf-8').split('\n')
    assert len([line for line in rows if line.split(' | ')[0][2:] in PROGRAMS]) == len(CASES)


def test_a_process_says_the_same(folder):
    case = ('script', '--text_file=latin1.txt', *SMALL)
    status, _, errors = run_script(*case[1:], cwd=folder)
    assert status == 2
    assert row(case, errors) in TABLE.read_text(encoding='utf-8').split('\n')


@pytest.mark.parametrize(
    'what, words', [('temp', 'temp cannot be written to'), ('good.txt', 'good.txt cannot be read')]
)
def test_what_the_user_may_not_write_or_read_is_named(tmp_path, what, words):
    (tmp_path / 'good.txt').write_text(TEXT)
    (tmp_path / 'temp').mkdir()
    (tmp_path / what).chmod(0o555 if what == 'temp' else 0)
    # Root without two capabilities; another user might not even reach the packages.
    drop = ('setpriv', '--bounding-set=-dac_override,-dac_read_search')
    python = (*(drop if os.getuid() == 0 else ()), sys.executable)
    status, _, errors = run_script(*RUN, cwd=tmp_path, python=python)
    assert (status, errors.count('\n')) == (2, 1), errors
    assert words in errors


def write_table():
    """Write the rows of tests/bad-input.md; what stands above them stays."""
    with tempfile.TemporaryDirectory() as name:
        made = make_folder(pathlib.Path(name))
        rows = [row(case, sentence(case, made)) for case in CASES]
    above, line, _ = TABLE.read_text(encoding='utf-8').partition('| --- | --- | --- |\n')
    TABLE.write_text('\n'.join([above + line.strip(), *rows, '']), encoding='utf-8')


if __name__ == '__main__':
    write_table()
