"""Bad input: one line that says what is wrong and what to do, status 2, and nothing written.

The table of all that is tried here, with the sentence that each gets, is docs/bad-input.md;
`make bad-input` writes it anew.
"""

import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile

import pytest
from conftest import ROOT, SMALL, run_script, script, start_script

TABLE = ROOT / 'docs' / 'bad-input.md'
TEXT = 'Whether tis nobler in the mind to suffer the slings and arrows. ' * 40

# What is in the folder where the script is started; a name that ends with / is a folder.
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
    'marks.txt': b'*** START OF THE PROJECT GUTENBERG EBOOK X ***\n'
    b'*** END OF THE PROJECT GUTENBERG EBOOK X ***\n',
    'a_file': b'',
    'wrong/shakespeare.txt': b'to be or not to be',
}

RUN = ('--text_file=good.txt', *SMALL)
TEXTS = (
    *('nowhere.txt', 'folder', 'empty.txt', 'binary.bin', 'zeros.bin', 'utf16.txt', 'utf16le.txt'),
    *('latin1.txt', 'cut.txt', 'one.txt', 'blank.txt', 'short.txt', 'marks.txt'),
)


def settings_out_of_range():
    """Yield, for each number among the settings, values just outside its range, and no numbers."""
    for name, (low, high) in script.RANGES.items():
        is_whole = isinstance(low, int)
        yield f'--{name}={low - 1 if is_whole else -1.0 if low == 0 else 0.0}'
        yield f'--{name}={high + 1 if is_whole else 2 * high}'
        yield f'--{name}={"1.5" if is_whole else "nan"}'
        yield f'--{name}=many'


CASES = [
    *[(argument,) for argument in settings_out_of_range()],
    ('--rnn_sise=64',),
    ('--rnn=64',),
    ('rnn_size=64',),
    ('--rnn_size',),
    ('--clean_text=perhaps',),
    ('--restart=2',),
    ('--device=tpu',),
    ('--learning_rate=inf',),
    ('--prime_texts=',),
    ('--prime_texts',),
    *[(f'--text_file={name}', *SMALL) for name in TEXTS],
    ('--text_file=one.txt', '--clean_text=False', *SMALL),
    ('--text_file=good.txt', '--clean_text=False', '--min_word_freq=1000000', *SMALL),
    ('--text_file=good.txt',),
    (*RUN, '--prime_texts=\u0301'),
    (*RUN, '--temp_dir=a_file'),
    (*RUN, '--temp_dir=new[1]'),
    ('--text_file=short.txt', *SMALL, '--temp_dir=new/below/it'),
    (*RUN, '--temp_dir=a_file/below'),
    (*RUN, '--temp_dir=/proc/nowhere'),
    ('--data_dir=a_file',),
    ('--data_dir=/proc/nowhere',),
    ('--data_dir=wrong',),
    (*RUN, '--rnn_size=100000'),
    (*RUN, '--num_layers=1000', '--rnn_size=10000'),
    ('--sample',),
    ('--sample', '--temp_dir=folder'),
    ('--evaluate',),
    ('--heatmap=to be',),
    ('--export=new',),
    ('--export=',),
    ('--heatmap', ''),
    ('--plot',),
    ('--plot', 'folder', 'a_file'),
    ('--sample', '--plot'),
]


def make_folder(folder):
    """Fill a folder with FILES, and return it."""
    for name, data in FILES.items():
        path = folder / name
        (path if data is None else path.parent).mkdir(exist_ok=True)
        if data is not None:
            path.write_bytes(data)
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('bad'))


def content(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob('*')}


def sentence(arguments, folder):
    """Return what the script, called as by a user, writes to standard error.

    In this process, since a hundred processes would take minutes.
    """
    before = content(folder)
    here, errors, output = os.getcwd(), io.StringIO(), io.TextIOWrapper(io.BytesIO())
    os.chdir(str(folder))
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            status = script.main(arguments)
    except SystemExit as end:  # so argparse ends
        status = end.code
    finally:
        os.chdir(here)
    said = errors.getvalue()
    assert (status, said.count('\n')) == (2, 1), (arguments, said)
    assert content(folder) == before, arguments
    return said


def row(case, said):
    arguments = ' '.join(argument for argument in case if argument not in SMALL)
    said = re.sub(r'machine has [\d,]+', 'machine has …', said)
    said = said.strip().replace('stacked_lstm_shakespeare.py: ', '').replace('|', '\\|')
    return f'| `{arguments}` | {said} |'


@pytest.mark.parametrize('case', CASES, ids=' '.join)
def test_bad_input_gets_the_sentence_of_the_table(case, folder):
    assert row(case, sentence(case, folder)) in TABLE.read_text(encoding='utf-8').split('\n')


def test_the_table_has_no_row_that_is_not_tried():
    rows = TABLE.read_text(encoding='utf-8').split('\n')
    assert len([line for line in rows if line.startswith('| `')]) == len(CASES)


@pytest.mark.parametrize(
    'arguments', [('--rnn_size=0',), ('--text_file=latin1.txt',), (*RUN, '--temp_dir=a_file')]
)
def test_a_process_says_the_same(arguments, folder):
    status, _, errors = run_script(*arguments, cwd=folder)
    assert status == 2
    assert row(arguments, errors) in TABLE.read_text(encoding='utf-8').split('\n')


def test_unknown_characters_in_a_prime_text_are_told_and_no_error(tmp_path):
    (tmp_path / 'good.txt').write_text(TEXT)
    arguments = (*RUN, '--clean_text=False', '--max_iterations=2', '--prime_texts=\N{SNOWMAN} so')
    status, output, errors = run_script(*arguments, cwd=tmp_path, PYTHONIOENCODING='utf-8')
    assert (status, errors) == (0, '')
    told = "has \N{SNOWMAN}, read as 'unknown': too rare"
    assert told in output
    # When sampling, standard output is for the sample alone.
    arguments = ('--sample', '--prime_text=\N{SNOWMAN} so', '--sample_length=5')
    status, output, errors = run_script(*arguments, cwd=tmp_path, PYTHONIOENCODING='utf-8')
    assert (status, output[:4], len(output)) == (0, '\ufffd so', 10)
    assert errors.count('\n') == 1 and told in errors


def run_as_nobody(*arguments, cwd):
    """Run the script without the rights of root, if it is root who runs the tests."""
    # The packages are imported first, since they may lie where only root may read.
    probe = (
        'import os, pathlib, sys; sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent)); '
        'import stacked_lstm_shakespeare as script; os.getuid() or os.setuid(65534); '
        'sys.exit(script.main(sys.argv[2:]))'
    )
    python = (sys.executable, '-c', probe)
    process = start_script(*arguments, cwd=cwd, python=python)
    output, errors = process.communicate()
    return process.returncode, output, errors


@pytest.mark.parametrize(
    'what, arguments, words',
    [
        ('temp', (), ['temp cannot be written to', 'temp_dir']),
        ('good.txt', (), ['good.txt cannot be read', 'text_file']),
    ],
)
def test_what_the_user_may_not_write_or_read_is_named(tmp_path, what, arguments, words):
    (tmp_path / 'good.txt').write_text(TEXT)
    (tmp_path / 'temp').mkdir()
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    (tmp_path / 'temp').chmod(0o777)
    (tmp_path / what).chmod(0o555 if what == 'temp' else 0)
    status, _, errors = run_as_nobody(*RUN, *arguments, cwd=tmp_path)
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
        'Each case ends with this one line on standard error, status 2, and nothing written.',
        '`make bad-input` writes the table; `make test` compares it with what is said. Texts have',
        'the small settings of the tests: 8 streams of 12 characters.',
        '',
        '| arguments | what is said |',
        '| --- | --- |',
        *rows,
        '',
    ]
    TABLE.write_text('\n'.join(lines), encoding='utf-8')


if __name__ == '__main__':
    write_table()
