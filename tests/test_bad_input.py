"""Bad input: one line that says what is wrong and what to do, status 2, and nothing is harmed.

The table of all that is tried here, with the sentence that each gets, is docs/bad-input.md;
`make bad-input` writes it anew.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

import matplotlib
import pytest
from conftest import ROOT, SMALL, TOOLS, end, run_script, run_tool, script, start_script

# isort: split
# Only now does Python find these, when this file is run as a program.
from backstage import running
from backstage.settings import RANGES
from tools import sample

pytestmark = pytest.mark.xdist_group('bad_input')  # so that the folder is made in one process only

TABLE = ROOT / 'docs' / 'bad-input.md'
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
TEXTS = (
    *('nowhere.txt', 'folder', 'empty.txt', 'binary.bin', 'zeros.bin', 'utf16.txt', 'utf16le.txt'),
    *('latin1.txt', 'cut.txt', 'blank.txt', 'marks.txt', 'one.txt', 'short.txt'),
)
TEXTS_TO_MEASURE = 'nowhere.txt', 'folder', 'empty.txt', 'zeros.bin', 'latin1.txt', 'blank.txt'


def settings_out_of_range():
    """Yield, for each number among the settings, a value above its range."""
    for program, module in PROGRAMS.items():
        for name, kind in (RANGES if module is script else getattr(module, 'RANGES', {})).items():
            if type(kind) is tuple:
                high = kind[1]
                yield program, f'--{name}={high + 1 if type(high) is int else 2 * high}'


# In `trained` is a model. The names of its copies tell what is damaged there.
CASES = [
    *settings_out_of_range(),
    ('script', '--rnn_sise=64'),
    ('script', '--rnn=64'),
    ('script', 'rnn_size=64'),
    ('script', '--rnn_size'),
    ('script', '--clean_text=perhaps'),
    ('script', '--restart=2'),
    ('script', '--clean_text='),
    ('script', '--rnn_size=1,000'),
    ('script', '--epochs=many'),
    ('script', '--epochs=0'),
    ('script', '--epochs=1.5'),
    ('script', '--epochs=1e400'),
    ('script', '--keep_prob=many'),
    ('script', '--keep_prob=0'),
    ('script', '--keep_prob=nan'),
    ('script', '--device=tpu'),
    ('script', '--learning_rate=inf'),
    ('script', '--prime_texts='),
    ('script', '--prime_texts'),
    *[('script', f'--text_file={name}', *SMALL) for name in TEXTS],
    ('script', '--text_file=one.txt', '--clean_text=False', *SMALL),
    ('script', '--text_file=good.txt', '--clean_text=False', '--min_word_freq=1000000', *SMALL),
    ('script', '--text_file=rare.txt', '--clean_text=False', *SMALL),
    ('script', '--text_file=good.txt'),
    ('script', *RUN, '--prime_texts=\u0301'),
    ('script', *RUN, '--temp_dir=a_file'),
    ('script', *RUN, '--temp_dir=new[1]'),
    ('script', '--text_file=short.txt', *SMALL, '--temp_dir=new/below/it'),
    ('script', *RUN, '--temp_dir=a_file/below'),
    ('script', *RUN, '--temp_dir=/proc/nowhere'),
    ('script', '--data_dir=a_file'),
    ('script', '--data_dir=/proc/nowhere'),
    ('script', '--data_dir=wrong'),
    ('script', *RUN, '--rnn_size=100000'),
    ('script', *RUN, '--num_layers=1000', '--rnn_size=10000'),
    ('script', *SMALL, '--temp_dir=trained', '--text_file=latin1.txt'),
    ('script', *RUN, '--temp_dir=damaged_settings'),
    ('script', *RUN, '--temp_dir=damaged_model'),
    ('script', *RUN, '--temp_dir=new', '--init_from=nowhere'),
    ('script', *RUN, '--temp_dir=new', '--init_from=folder'),
    ('script', *RUN, '--temp_dir=new', '--init_from=trained', '--num_layers=2'),
    ('script', *RUN, '--temp_dir=new', '--init_from=damaged_settings'),
    ('script', *RUN, '--temp_dir=trained', '--init_from=trained', '--restart'),
    # What became programs of their own
    ('script', '--checkpoint=trained/model-2'),
    ('script', '--trained'),
    ('script', *RUN, '--temp_dir='),
    ('script', '--data_dir='),
    ('tools.sample',),
    ('tools.sample', '--temp_dir='),
    ('tools.sample', '--temp_dir=nowhere'),
    ('tools.sample', '--temp_dir=folder'),
    ('tools.sample', '--temp_dir=a_file'),
    ('tools.sample', '--temp_dir=damaged_settings'),
    ('tools.sample', '--temp_dir=incomplete_settings'),
    ('tools.sample', '--temp_dir=no_vocabulary'),
    ('tools.sample', '--temp_dir=damaged_vocabulary'),
    ('tools.sample', '--temp_dir=doubled_vocabulary'),
    ('tools.sample', '--temp_dir=no_model'),
    ('tools.sample', '--temp_dir=damaged_model'),
    ('tools.sample', '--temp_dir=trained', '--checkpoint=trained/model-7'),
    ('tools.sample', '--temp_dir=trained', '--checkpoint=trained'),
    ('tools.sample', '--temp_dir=trained', '--checkpoint=good.txt'),
    ('tools.sample', '--temp_dir=trained', '--prime_text=\u0301'),
    ('tools.sample', '--temp_dir=trained', '--stop_at=Exit.'),
    ('tools.sample', '--temp_dir=trained', r'--stop_at=\n'),
    ('tools.sample', '--temp_dir=trained', '--stop_at'),
    ('tools.sample', '--temp_dir=trained', '<', 'latin1.txt'),
    ('tools.sample', '--temp_dir=trained', '<', 'utf16.txt'),
    ('tools.sample', '--prime_text'),
    ('tools.sample', '--prime_texts=to be'),
    ('tools.sample', '--rnn_size=64'),
    ('tools.sample', '--device=tpu'),
    ('tools.sample', '--sample'),
    ('tools.sample', 'to be'),
    ('tools.evaluate',),
    *[('tools.evaluate', '--temp_dir=trained', f'--text_file={name}') for name in TEXTS_TO_MEASURE],
    ('tools.evaluate', '--temp_dir=another_text'),
    ('tools.evaluate', '--batch_size=16'),
    ('tools.evaluate', '--temp_dir=trained', '--text_files', 'good.txt', 'nowhere.txt'),
    ('tools.evaluate', '--temp_dir=trained', '--text_files'),
    ('tools.evaluate', '--temp_dir=trained', '--lines', '--text_file=nowhere.txt'),
    ('tools.evaluate', '--temp_dir=trained', '--lines', '--text_file=latin1.txt'),
    ('tools.evaluate', '--temp_dir=trained', '--lines', '--csv', '--text_file=folder'),
    ('tools.evaluate', '--temp_dir=trained', '--lines=perhaps'),
    ('tools.evaluate', '--temp_dir=trained', '--csv=table.csv'),
    ('tools.heatmap',),
    ('tools.heatmap', '--temp_dir=trained', '--text='),
    ('tools.heatmap', '--temp_dir=trained', '--text=x'),
    ('tools.heatmap', '--temp_dir=trained', '--text=\u0301'),
    ('tools.heatmap', '--text', 'to', 'be'),
    ('tools.cells',),
    *[('tools.cells', '--temp_dir=trained', f'--text_file={name}') for name in TEXTS_TO_MEASURE],
    ('tools.cells', '--temp_dir=damaged_model'),
    ('tools.export',),
    ('tools.export', '--temp_dir=trained', '--folder=folder'),
    ('tools.export', '--temp_dir=trained', '--folder='),
    ('tools.export', '--temp_dir=trained', '--folder=a_file/1'),
    ('tools.export', '--temp_dir=trained', '--folder=/proc/nowhere/1'),
    ('tools.export', '--temp_dir=damaged_model', '--folder=new/1'),
    ('tools.plot',),
    ('tools.plot', '--folders', 'folder', 'a_file'),
    ('tools.plot', '--folders', 'trained', 'damaged_history'),
    ('tools.plot', '--folders', 'trained', 'another_text', '--temp_dir=a_file'),
    ('tools.plot', '--folders='),
    ('tools.plot', '--folders'),
    ('tools.plot', 'trained'),
    ('tools', 'sample'),
    ('tools', 'paint'),
]


def call(program, arguments, folder):
    """Call a program in a folder; return its exit status, standard output and standard error.

    In this process, since two hundred processes would take minutes. The last two arguments may be
    `<` and a file, the standard input.
    """
    matplotlib.use('Agg')  # no window to be closed
    here, errors = os.getcwd(), io.StringIO()
    output = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    os.chdir(str(folder))
    *words, name = arguments if '<' in arguments else (*arguments, '<', os.devnull)
    stdin = sys.stdin
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(errors))
            stack.enter_context(contextlib.redirect_stdout(output))
            sys.stdin = stack.enter_context(open(name))
            status = running.run(program.main, words[:-1])
    except SystemExit as end:  # so argparse ends
        status = end.code
    finally:
        sys.stdin = stdin
        os.chdir(here)
    output.seek(0)
    return status, output.read(), errors.getvalue()


def make_folder(folder):
    """Fill a folder with FILES, and with runs that are damaged, or not; return it."""
    for name, data in FILES.items():
        path = folder / name
        (path if data is None else path.parent).mkdir(exist_ok=True)
        if data is not None:
            path.write_bytes(data)
    (folder / 'another.txt').write_text(TEXT.upper() + 'And so on.')
    begin = [*RUN, '--max_iterations=2', '--temp_dir=trained']
    assert call(script, begin, folder)[::2] == (0, '')

    def copy(name):
        shutil.copytree(str(folder / 'trained'), str(folder / name))
        return folder / name

    settings = json.loads((folder / 'trained' / 'settings.json').read_text())
    (copy('damaged_settings') / 'settings.json').write_text('{"rnn_size": 16')
    incomplete = {name: value for name, value in settings.items() if name != 'rnn_size'}
    (copy('incomplete_settings') / 'settings.json').write_text(json.dumps(incomplete))
    another = {**settings, 'text_file': 'another.txt'}
    (copy('another_text') / 'settings.json').write_text(json.dumps(another))
    (copy('no_vocabulary') / 'vocabulary.json').unlink()
    (copy('damaged_vocabulary') / 'vocabulary.json').write_text('[1, 2]')
    vocabulary = json.loads((folder / 'trained' / 'vocabulary.json').read_text())
    (copy('doubled_vocabulary') / 'vocabulary.json').write_text(json.dumps(2 * vocabulary))
    (copy('damaged_history') / 'history.csv').write_text('{"losses": []}')
    for path in copy('no_model').rglob('model-*'):
        path.unlink()
    for path in copy('damaged_model').rglob('model-*.data-*'):
        os.truncate(str(path), 10)
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
    assert name == 'script' or not new, case
    assert all(path.is_dir() or path.name == 'lock' for path in new), case
    for path in reversed(new):
        (path.rmdir if path.is_dir() else path.unlink)()
    return said.replace(f'{os.path.realpath(str(folder))}{os.sep}', '')


def row(case, said):
    name, *arguments = case
    shown = ' '.join(argument for argument in arguments if argument not in SMALL)
    said = re.sub(r'there are [\d,]+ here', 'there are … here', said)
    said = said.replace(sys.executable, '.venv/bin/python').replace(f'{ROOT}{os.sep}', '')
    said = re.sub(r'^\w+\.py: ', '', said.strip()).replace('|', '\\|')
    return f'| {name} | `{shown}` | {said} |' if shown else f'| {name} | | {said} |'


@pytest.mark.parametrize('case', CASES, ids=' '.join)
def test_bad_input_gets_the_sentence_of_the_table(case, folder):
    assert row(case, sentence(case, folder)) in TABLE.read_text(encoding='utf-8').split('\n')


def test_the_table_has_no_row_that_is_not_tried():
    rows = TABLE.read_text(encoding='utf-8').split('\n')
    assert len([line for line in rows if line.split(' | ')[0][2:] in PROGRAMS]) == len(CASES)


@pytest.mark.parametrize(
    'case',
    [
        ('script', '--epochs=0'),
        ('script', '--text_file=latin1.txt', *SMALL),
        ('script', *RUN, '--temp_dir=a_file'),
        ('tools.sample', '--temp_dir=folder'),
        ('tools.plot', '--folders='),
    ],
    ids=' '.join,
)
def test_a_process_says_the_same(case, folder):
    name, *arguments = case
    run = functools.partial(run_tool, name[6:]) if name != 'script' else run_script
    status, _, errors = run(*arguments, cwd=folder)
    assert status == 2
    assert row(case, errors) in TABLE.read_text(encoding='utf-8').split('\n')


def test_unknown_characters_in_a_prime_text_are_told_and_no_error(tmp_path):
    (tmp_path / 'good.txt').write_text(TEXT)
    arguments = (*RUN, '--clean_text=False', '--max_iterations=2', '--prime_texts=\N{SNOWMAN} so')
    status, output, errors = call(script, arguments, tmp_path)
    assert (status, errors) == (0, '')
    told = "has '\N{SNOWMAN}', read as 'unknown': too rare"
    assert told in output
    # When sampling, standard output is for the sample alone.
    arguments = ('--prime_text=\N{SNOWMAN} so', '--sample_length=5')
    status, output, errors = call(sample, arguments, tmp_path)
    assert (status, output[:4], len(output)) == (0, '\ufffd so', 10)
    assert errors.count('\n') == 1 and told in errors


def run_without_privileges(*arguments, cwd):
    """Run the script as somebody who may not read and write everything, also if that is root.

    Root without these two capabilities; another user might not even reach the packages.
    """
    drop = ('setpriv', '--bounding-set=-dac_override,-dac_read_search')
    python = (*(drop if os.getuid() == 0 else ()), sys.executable)
    return end(start_script(*arguments, cwd=cwd, python=python))


@pytest.mark.parametrize(
    'what, words',
    [
        ('temp', ['temp cannot be written to', 'temp_dir']),
        ('good.txt', ['good.txt cannot be read', 'text_file']),
    ],
)
def test_what_the_user_may_not_write_or_read_is_named(tmp_path, what, words):
    (tmp_path / 'good.txt').write_text(TEXT)
    (tmp_path / 'temp').mkdir()
    (tmp_path / what).chmod(0o555 if what == 'temp' else 0)
    status, _, errors = run_without_privileges(*RUN, cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1), errors
    assert all(word in errors for word in words), errors


def write_table():
    """Write docs/bad-input.md."""
    with tempfile.TemporaryDirectory() as name:
        made = make_folder(pathlib.Path(name))
        rows = [row(case, sentence(case, made)) for case in CASES]
    lines = [
        '# What bad input gets',
        '',
        'Each case ends with status 2 and one line on standard error: the name of the program, and',
        'the sentence that stands here. Nothing else is written, but that the script may have made',
        'the folder `temp_dir` by then, with a file `lock` in it. Both can stay.',
        '',
        '`script` is `python stacked_lstm_shakespeare.py`; `tools.sample` and the others are',
        '`python -m tools.sample` and so on. Texts have the small settings of the tests: 8 streams',
        'of 12 characters. The folder `trained` holds a run. What is wrong in its copies, their',
        'names tell; the text of `another_text` is not the one that was learned. In the place of',
        '`.venv/bin/python` and `tools/` their whole paths stand.',
        '',
        '`make bad-input` writes the table; `make test` compares it with what is said.',
        '',
        '| program | arguments | what is said |',
        '| --- | --- | --- |',
        *rows,
        '',
    ]
    TABLE.write_text('\n'.join(lines), encoding='utf-8')


if __name__ == '__main__':
    write_table()
