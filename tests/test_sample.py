"""tools.sample: what a trained model writes."""

import argparse
import os
import pty
import signal
import subprocess
import sys
import threading
import time

from backstage.settings import UserError
from tools import sample

import pytest
from conftest import IX2VOCAB, ROOT, change, run_tool, script, start_tool

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')

KING = ('--prime_text=the king', '--temperature=0')
VARIED = ('--temperature=1', '--sample_length=60')
PROMPTS = ['so', 'my lord', 'a', 'to']


@pytest.fixture
def piped(use, monkeypatch):
    """Return a function that calls the tool as `use` does, with bytes on its standard input."""

    def piped(where, data, *arguments):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        with open(reader) as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, 'stdin', stdin)
            return use(sample, where, *arguments)

    return piped


def test_temperature_0_or_top_k_1_prints_the_likeliest_text_and_nothing_else(trained, use):
    how = ('--prime_text=The king', '--sample_length=45')
    expected = trained.likeliest(trained.best, 'the king', 45) + '\n'
    assert run_tool('sample', *how, '--temperature=0', cwd=trained.folder) == (
        0,
        expected,
        '',
    )
    assert use(sample, trained, *how, '--temperature=5', '--top_k=1') == (0, expected, '')


def test_a_sample_does_not_depend_on_other_prompts(trained, use, piped):
    """Each prompt has its own random numbers. With shared ones all samples would end alike."""
    alone = {text: use(sample, trained, f'--prime_text={text}', *VARIED)[1] for text in PROMPTS}
    assert len({text[-30:] for text in alone.values()}) == len(PROMPTS)
    for texts in PROMPTS, PROMPTS[::-1]:
        data = ''.join(f'{text}\n' for text in texts).encode()
        assert piped(trained, data, *VARIED) == (0, ''.join(alone[text] for text in texts), '')


def test_samples_differ_and_are_reproducible_with_the_seed(trained, use, piped):
    output = use(sample, trained, '--prime_text=so', '--num_samples=130', *VARIED)[1]
    lines = output.splitlines()
    assert len(set(lines)) == 130 and {len(line) for line in lines} == {62}
    assert all(line.startswith('so') for line in lines)
    # A repeated prompt gets its next samples.
    _, output, _ = piped(trained, b'so\nmy lord\nso\nso\n', *VARIED, '--num_samples=2')
    again = output.splitlines()
    assert [*again[:2], *again[4:]] == lines[:6] and again[2].startswith('my lord')
    assert use(sample, trained, '--prime_text=so', '--seed=6', *VARIED)[1] != f'{lines[0]}\n'


def test_a_terminal_asks_for_prompts_and_prints_the_same_samples(trained, use):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'tools.sample', *VARIED],
        cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    output = b''
    for line in b'so\n', b'\n', b'the king\n', b'so\n', b'\x04':
        while not output.endswith(b'ends): '):
            output += os.read(ours, 1000)
        output += b' '
        os.write(ours, line)
    assert process.wait(timeout=60) == 0
    assert b'has no character that the model reads' in output
    expected = use(sample, trained, '--prime_text=so', '--num_samples=2', *VARIED)[1].splitlines()
    between = use(sample, trained, '--prime_text=the king', *VARIED)[1].strip()
    places = [output.decode().find(text) for text in (expected[0], between, expected[1])]
    assert -1 < places[0] < places[1] < places[2]


def test_without_a_prompt_a_sample_begins_with_a_prime_text_of_the_run(copy, piped):
    change(copy.temp, prime_texts=['my lord of'])
    assert piped(copy, b'')[1].startswith('my lord of')  # from an empty pipe


def test_unknown_characters_of_a_prompt_are_reported(trained, use):
    status, output, errors = use(sample, trained, '--prime_text=мой lord 7')
    assert (status, output[:7], errors.count('\n')) == (0, ' lord 7', 2)
    assert "has '7', which the model has never read" in errors
    assert "is read as ' lord 7': the model has no other letters" in errors


def test_each_input_line_gets_samples_unless_a_prime_text_is_given(
    trained, tmp_path, piped, use, monkeypatch
):
    data = 'The king\r\n\n  \nto\na lady\nto be or not\nto'.encode()
    how = ('--temperature=0', '--sample_length=30', '--num_samples=2')
    status, output, errors = piped(trained, data, *how)
    assert (status, errors) == (0, '')
    texts = ['the king', 'to', 'a lady', 'to be or not', 'to']
    expected = [trained.likeliest(trained.best, text, 30) for text in texts]
    assert output.splitlines() == [line for line in expected for _ in range(2)]
    (tmp_path / 'primes.txt').write_bytes(data)
    for more, lines in [(), expected], [KING, expected[:1]]:
        with (tmp_path / 'primes.txt').open() as file, monkeypatch.context() as patch:
            patch.setattr(sys, 'stdin', file)
            output = use(sample, trained, *how[:2], *more)[1]
            assert output.splitlines() == lines


@pytest.mark.parametrize('size', [1, 5, 1000])
def test_samples_do_not_depend_on_how_the_lines_arrive(trained, use, monkeypatch, size):
    data = 'so\nthe king\r\n\nto be\nso'.encode()
    reader, writer = os.pipe()

    def write():
        with open(writer, 'wb', 0) as pipe:
            for begin in range(0, len(data), size):
                pipe.write(data[begin : begin + size])
                time.sleep(0.01)

    threading.Thread(target=write).start()
    with open(reader) as stdin, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdin', stdin)
        output = use(sample, trained, *VARIED)[1].splitlines()
    so = use(sample, trained, '--prime_text=so', '--num_samples=2', *VARIED)[1].splitlines()
    king, to_be = (
        use(sample, trained, f'--prime_text={text}', *VARIED)[1][:-1]
        for text in ('the king', 'to be')
    )
    assert output == [so[0], king, to_be, so[1]]


def test_an_open_pipe_is_answered_line_by_line_until_a_line_is_not_utf8(trained):
    process = subprocess.Popen(
        [sys.executable, '-m', 'tools.sample', '--temperature=0', '--sample_length=30'],
        cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    expected = [trained.likeliest(trained.best, text, 30) for text in ('the king', 'so', 'to be')]
    said = process.stderr.readline().decode()
    assert 'reading prime texts from standard input, one per line. To give one directly' in said
    process.stdin.write(b'\xef\xbb\xbfThe king\r\nso')  # the second line has no end yet
    process.stdin.flush()
    assert process.stdout.readline().decode() == expected[0] + '\n'
    process.stdin.write(b'\n\nto be\nwhat \xff\nto\n')
    process.stdin.flush()  # and the pipe stays open
    assert process.wait(timeout=60) == 2
    assert process.stdout.read().decode().splitlines() == expected[1:]
    assert process.stderr.read().decode() == (
        'sample.py: line 5 of standard input is not UTF-8: invalid start byte. Convert the '
        'input to UTF-8 first.\n'
    )
    for pipe in process.stdin, process.stdout, process.stderr:
        pipe.close()


def test_with_a_prime_text_standard_input_is_not_read(trained, use, monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, b'so\n')
    with open(reader, 'rb') as stdin, open(writer):  # the pipe stays open
        monkeypatch.setattr(sys, 'stdin', stdin)
        output = use(sample, trained, *KING, '--sample_length=30')[1]
        assert output == trained.likeliest(trained.best, 'the king', 30) + '\n'
        assert os.read(reader, 9) == b'so\n'


def test_a_batch_is_drawn_when_full_when_no_line_waits_and_before_an_error():
    def samples():
        yield from [1, 2, 3, None, None, 4, 5, 6]
        raise UserError('a line is no text')

    batches = sample.batches_of(samples(), 2)
    assert [next(batches) for _ in range(4)] == [[1, 2], [3], [4, 5], [6]]
    with pytest.raises(UserError):
        next(batches)
    assert list(sample.batches_of([1, 2, 3], 2)) == [[1, 2], [3]]


def test_each_sample_ends_before_the_text_to_stop_at(trained, use):
    how = ('--prime_text=so', '--num_samples=9', *VARIED)
    lines = use(sample, trained, *how)[1].splitlines()
    for stop_at in lines[0][21:31], lines[4][25:27]:  # the first crosses two pieces of 20
        ends = [line.find(stop_at, 2) for line in lines]
        expected = [line[:end] if end >= 0 else line for line, end in zip(lines, ends)]
        status, output, errors = use(sample, trained, *how, f'--stop_at={stop_at}')
        assert (status, output.splitlines()) == (0, expected)
        told = f'{ends.count(-1)} samples did not reach {stop_at!r} in 60 characters.'
        assert errors.startswith(told) == (-1 in ends)
    assert len({len(text) for text in expected}) > 2


def test_a_stop_text_in_the_prompt_does_not_stop_a_sample(trained, use):
    whole = trained.likeliest(trained.best, 'the king', 30)
    _, output, errors = use(sample, trained, *KING, '--sample_length=30', '--stop_at=king')
    assert output == whole + '\n'
    assert errors.startswith("1 sample did not reach 'king' in 30 characters. Raise")


def test_a_stop_text_that_the_model_never_writes_is_refused():
    run = argparse.Namespace(unseen=[IX2VOCAB.index('z')], clean_text=True)
    assert sample.read_stop_at('exit', IX2VOCAB, run) == 'exit'
    for stop_at, never in (r'\n', r"'\\n'"), ('Exit.', "'.', 'E'"), ('zoe', "'z'"):
        with pytest.raises(UserError, match=f'the model writes. It never writes {never}: '):
            sample.read_stop_at(stop_at, IX2VOCAB, run)
    run.clean_text, written = False, [script.UNKNOWN, *'\n\t\\né']
    assert sample.read_stop_at('\\n\\t\\\\ne\u0301', written, run) == '\n\t\\né'


def test_a_sample_has_only_characters_that_the_model_has_learned(trained, use):
    text = script.clean((trained.folder / 'moved.txt').read_text())
    how = ('--prime_text=so', '--temperature=1000', '--sample_length=1000')
    status, output, errors = use(sample, trained, *how)
    assert (status, errors) == (0, '')
    assert set(output.strip('\n')) == set(text[: int(len(text) * 0.95)])


@pytest.mark.parametrize('what, status', [('close', 1), ('ctrl-c', -signal.SIGINT)])
def test_a_single_sample_is_printed_as_it_is_drawn_and_can_be_interrupted(trained, what, status):
    process = start_tool('sample', '--sample_length=100000', cwd=trained.folder)  # takes a minute
    assert len(process.stdout.read(100)) == 100
    if what == 'close':
        process.stdout.close()
    else:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == status
    assert process.stderr.read() == ''
