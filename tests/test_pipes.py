"""Pipes: a text that can be read only once is kept, and read as any other."""

import contextlib
import gzip
import json
import os
import subprocess
import sys
import threading

from backstage import pipes
from tools import evaluate

import pytest
from conftest import ROOT, SCRIPT, SMALL, content
from runs import run_here

pytest_plugins = 'trained_model', 'runs'
pytestmark = pytest.mark.xdist_group('tools')

RUN = (*SMALL, '--num_layers=1', '--sample_length=5')


@contextlib.contextmanager
def fifo(path, data):
    """Make a FIFO, into which a thread writes these bytes when it is read."""
    os.mkfifo(str(path))

    def write():
        with open(str(path), 'wb') as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    yield path
    path.unlink()


def piped(command, *arguments, cwd):
    """Run a command in bash, in which "$@" is Python with the script and these arguments."""
    return subprocess.run(
        ['bash', '-c', command, 'bash', sys.executable, str(SCRIPT), *RUN, *arguments],
        check=False, cwd=str(cwd), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize('clean_text', ['True', 'False'])
def test_a_text_from_a_pipe_is_learned_as_the_same_one_in_a_file(tmp_path, short_text, clean_text):
    how = (*RUN, '--max_iterations=20', f'--clean_text={clean_text}')
    results = []
    with fifo(tmp_path / 'fifo', short_text.read_bytes()) as pipe:
        for path in pipe, short_text:
            folder = tmp_path / path.name[0]
            folder.mkdir()
            status, output, errors = run_here(*how, f'--text_file={path}', cwd=folder)
            assert (status, errors) == (0, '')
            results.append(content(folder / 'temp'))
            told = f'{path} can be read only once: reading it to its end, into temp/text.txt\n'
            assert (told in output) == (path == pipe)
    assert results[0] == results[1]
    assert (tmp_path / 'f' / 'temp' / 'text.txt').read_bytes() == short_text.read_bytes()
    assert not (tmp_path / 's' / 'temp' / 'text.txt').exists()


def test_a_run_whose_text_comes_from_a_pipe_goes_on_and_is_measured_by_its_copy(
    tmp_path, short_text, use
):
    for iterations in 10, 20:
        arguments = ('--text_file=/dev/stdin', f'--max_iterations={iterations}')
        process = piped('cat short.txt | "$@"', *arguments, cwd=tmp_path)
        assert (process.returncode, process.stderr) == (0, b'')
    assert b'Continuing after iteration 10' in process.stdout
    record = json.loads((tmp_path / 'temp' / 'settings.json').read_text())
    assert record['text_file'] == 'temp/text.txt'
    status, output, errors = use(evaluate, tmp_path)
    assert (status, errors) == (0, '')
    assert 'the held-out part of temp/text.txt' in output


def test_what_comes_through_a_pipe_is_known_by_its_first_bytes(tmp_path, short_text):
    with fifo(tmp_path / 'pipe', gzip.compress(short_text.read_bytes())):
        status, _, errors = run_here(*RUN, '--text_file=pipe', cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'pipe is compressed (gzip). Unpack it: gunzip (in the pipe)' in errors


def test_a_text_in_another_encoding_is_to_be_converted_in_its_pipe(tmp_path):
    text = 'Ist der Zügel lösbar? Ja, für Könige.\n' * 100
    (tmp_path / 'latin1.txt').write_bytes(text.encode('latin-1'))
    how = '--text_file=/dev/stdin', '--max_iterations=2'
    process = piped('cat latin1.txt | "$@"', *how, cwd=tmp_path)
    said = 'If that is right, convert it: iconv -f CP1252 -t UTF-8 (in the pipe).\n'
    assert process.stderr.decode().startswith(
        'stacked_lstm_shakespeare.py: /dev/stdin is not UTF-8'
    )
    assert process.stderr.decode().endswith(said)
    command = 'cat latin1.txt | iconv -f CP1252 -t UTF-8 | "$@"'
    process = piped(command, *how, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, b'')
    assert (tmp_path / 'temp' / 'text.txt').read_text(encoding='utf-8') == text


def test_process_substitution_and_a_file_as_standard_input_are_kept_too(tmp_path, short_text):
    for command, path in [('"$@" --text_file=<(cat short.txt)', 'fd/'), ('"$@" < short.txt', '')]:
        stdin = () if path else ('--text_file=/dev/stdin',)
        temp = ('--max_iterations=2', f'--temp_dir={tmp_path}/temp{len(path)}')
        process = piped(command, *temp, *stdin, cwd=tmp_path)
        assert (process.returncode, process.stderr) == (0, b'')
        kept = tmp_path / f'temp{len(path)}' / 'text.txt'
        assert kept.read_bytes() == short_text.read_bytes()


def test_another_text_from_a_pipe_is_refused_and_leaves_the_copy_as_it_is(tmp_path, short_text):
    first, other = short_text.read_bytes(), short_text.read_bytes()[:-100]
    how = (*RUN, '--max_iterations=2')
    with fifo(tmp_path / 'one', first), fifo(tmp_path / 'two', other):
        assert run_here(*how, '--text_file=one', cwd=tmp_path)[0] == 0
        status, _, errors = run_here(*how, '--text_file=two', cwd=tmp_path)
    assert status == 2
    assert 'has learned another text' in errors
    assert (tmp_path / 'temp' / 'text.txt').read_bytes() == first
    assert not list((tmp_path / 'temp').glob('*.part'))


def test_with_restart_the_earlier_text_goes_aside_with_its_run(tmp_path, short_text):
    first, other = short_text.read_bytes(), short_text.read_bytes()[:-100]
    for data in first, other:
        with fifo(tmp_path / 'pipe', data):
            how = (*RUN, '--max_iterations=2', '--text_file=pipe', '--restart')
            assert run_here(*how, cwd=tmp_path)[::2] == (0, '')
    assert (tmp_path / 'temp' / 'text.txt').read_bytes() == other
    (earlier,) = (tmp_path / 'temp').glob('earlier-*/text.txt')
    assert earlier.read_bytes() == first
    # The copy itself may be learned anew: then it stays where it is.
    how = (*RUN, '--max_iterations=3', '--text_file=temp/text.txt', '--restart')
    assert run_here(*how, cwd=tmp_path)[::2] == (0, '')
    assert (tmp_path / 'temp' / 'text.txt').read_bytes() == other


def test_a_mistake_in_a_text_from_a_pipe_names_the_pipe(tmp_path):
    with fifo(tmp_path / 'pipe', b'too short'):
        status, _, errors = run_here(*RUN, '--text_file=pipe', cwd=tmp_path)
    assert status == 2
    assert 'stacked_lstm_shakespeare.py: pipe has 9 characters, and' in errors
    assert os.listdir(str(tmp_path / 'temp')) == ['lock']


@pytest.mark.parametrize(
    'path, words',
    [
        ('/dev/zero', '/dev/zero is no text: it has bytes that are 0'),
        ('/dev/null', '/dev/null has no text'),
        ('/dev/stdin', '/dev/stdin has no text'),
        ('/dev', '/dev is a folder, and has no .txt file'),
        ('/proc/self/mem', '/proc/self/mem cannot be read'),
    ],
)
def test_a_device_is_read_or_gets_a_sentence(tmp_path, path, words):
    status, _, errors = run_here(*RUN, f'--text_file={path}', cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1)
    assert words in errors
    assert os.listdir(str(tmp_path / 'temp')) == ['lock']


def test_an_endless_text_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, 'LIMIT', 3e6)
    yes = subprocess.Popen(['yes', 'to be or not to be'], stdout=subprocess.PIPE)
    pipe = f'/proc/self/fd/{yes.stdout.fileno()}'
    status, _, errors = run_here(*RUN, f'--text_file={pipe}', cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1)
    assert f'{pipe} has not ended after 0.003 GB, and there is no room' in errors
    yes.stdout.close()
    yes.wait()
    assert os.listdir(str(tmp_path / 'temp')) == ['lock']


def test_another_text_is_measured_from_a_pipe_and_nothing_of_it_is_kept(
    trained, tmp_path, works, use
):
    data = works[3_000_000:3_001_000]
    (tmp_path / 'file').write_bytes(data)
    before = trained.content()
    with fifo(tmp_path / 'pipe', data) as pipe:
        outputs = [
            use(evaluate, trained, f'--text_file={path}') for path in (pipe, tmp_path / 'file')
        ]
    assert [status for status, *_ in outputs] == [0, 0]
    assert f'all of {pipe};' in outputs[0][1]
    figures = [output.split('Loss:')[1] for _, output, _ in outputs]
    assert figures[0] == figures[1]
    assert trained.content() == before
