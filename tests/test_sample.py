"""tools.sample: what a trained model writes."""

import json
import os
import pty
import signal
import subprocess
import sys

from tools import sample

import pytest
from conftest import ROOT, run_tool, script, start_tool

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')


def test_at_temperature_0_a_sample_is_the_likeliest_text_and_nothing_else_is_printed(trained):
    arguments = ('--prime_text=The king', '--sample_length=45', '--temperature=0')
    expected = trained.likeliest(trained.best, 'the king', 45) + '\n'
    assert run_tool('sample', *arguments, cwd=trained.folder) == (0, expected, '')


def test_of_the_likeliest_character_alone_the_likeliest_text_is_made_at_any_temperature(
    trained, use
):
    arguments = ('--prime_text=the king', '--sample_length=30', '--temperature=5', '--top_k=1')
    expected = trained.likeliest(trained.best, 'the king', 30) + '\n'
    assert use(sample, trained, *arguments) == (0, expected, '')


def test_samples_differ_from_each_other_and_repeat_with_the_seed(trained, use):
    arguments = ('--prime_text=so', '--seed=5')
    status, output, errors = use(sample, trained, *arguments, '--num_samples=3')
    lines = output.splitlines()
    assert (status, errors, len(set(lines))) == (0, '', 3)
    assert [len(line) for line in lines] == [102] * 3
    assert all(line.startswith('so') for line in lines)
    # However many are asked for, the first ones are the same.
    again = use(sample, trained, *arguments, '--num_samples=2')
    assert again == (0, ''.join(f'{line}\n' for line in lines[:2]), '')
    assert use(sample, trained, '--prime_text=so', '--seed=6')[1] != f'{lines[0]}\n'


def piped(trained, data, *arguments):
    """Run the tool with these bytes at its standard input; (exit status, output, errors)."""
    process = subprocess.run(
        [sys.executable, '-m', 'tools.sample', *arguments], check=False,
        cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)}, input=data,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return process.returncode, process.stdout.decode(), process.stderr.decode()


PROMPTS = ['so', 'my lord', 'what news', 'to be or not to be', 'the king', 'a', 'enter', 'o']


def test_three_prompts_get_three_answers(trained, use):
    """The first thing that everybody tries. With shared random numbers all would end alike."""
    how = ('--sample_length=400', '--temperature=1')
    outputs = [use(sample, trained, f'--prime_text={text}', *how) for text in PROMPTS]
    assert {(status, errors) for status, _, errors in outputs} == {(0, '')}
    assert len({output[-60:] for _, output, _ in outputs}) == len(PROMPTS)


def test_a_sample_is_the_same_alone_in_a_list_in_any_order_and_in_a_pipe(trained, use):
    how = ('--temperature=1', '--sample_length=60')
    alone = {text: use(sample, trained, f'--prime_text={text}', *how)[1] for text in PROMPTS}
    for texts in PROMPTS, PROMPTS[::-1], PROMPTS[2:3]:
        data = ''.join(f'{text}\n' for text in texts).encode()
        assert piped(trained, data, *how)[1] == ''.join(alone[text] for text in texts)


def test_a_prompt_that_comes_again_gets_its_next_sample(trained, use):
    how = ('--temperature=1', '--sample_length=60')
    output = use(sample, trained, '--prime_text=so', '--num_samples=4', *how)[1]
    first, second, third, fourth = output.splitlines()
    assert len({first, second, third, fourth}) == 4
    data = b'so\nmy lord\nso\nso\n'
    lines = piped(trained, data, *how)[1].splitlines()
    assert [lines[0], *lines[2:]] == [first, second, third]
    assert piped(trained, b'so\nso\n', '--num_samples=2', *how)[1] == output


def test_in_a_terminal_a_prompt_gets_the_same_samples_as_elsewhere(trained, use):
    how = ('--temperature=1', '--sample_length=60')
    expected = use(sample, trained, '--prime_text=so', '--num_samples=2', *how)[1].splitlines()
    _, output = typed(trained, [b'so\n', b'the king\n', b'so\n', b'\x04'], *how)
    between = use(sample, trained, '--prime_text=the king', *how)[1].strip()
    places = [output.decode().find(text) for text in (expected[0], between, expected[1])]
    assert -1 < places[0] < places[1] < places[2]


def test_without_a_prime_text_and_a_terminal_a_sample_begins_as_those_of_training(trained, use):
    assert use(sample, trained)[1].startswith('thou art more')


def test_a_sample_begins_as_those_of_its_own_run(copy, use):
    path = copy.temp / 'settings.json'
    record = json.loads(path.read_text())
    record['prime_texts'] = ['my lord of']
    path.write_text(json.dumps(record))
    assert use(sample, copy)[1].startswith('my lord of')


def test_of_a_character_that_the_model_has_never_read_it_is_told(trained, use):
    status, output, errors = use(sample, trained, '--prime_text=so 7')
    assert (status, output[:4]) == (0, 'so 7')
    assert errors == "The text 'so 7' has '7', which the model has never read\n"


def typed(trained, lines, *arguments):
    """Type lines to the tool in a terminal; return its exit status, and what the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'tools.sample', *arguments],
        cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    output = b''
    for line in lines:
        while not output.endswith(b'ends): '):
            output += os.read(ours, 1000)
        output += b' '
        os.write(ours, line)
    return process.wait(timeout=60), output


def test_in_a_terminal_one_prime_text_after_the_other_is_asked_for(trained):
    lines = (b'the king\n', b'\n', b'a lady\n', b'\x04')
    status, output = typed(trained, lines, '--temperature=0', '--sample_length=30')
    assert status == 0
    for prime in ('the king', 'a lady'):
        assert trained.likeliest(trained.best, prime, 30).encode() in output
    assert b'has no character to begin with' in output


def test_each_line_of_a_pipe_gets_its_samples_in_the_order_of_the_lines(trained):
    data = 'The king\r\n\n  \nto\na lady\nto be or not\nto'.encode()
    status, output, errors = piped(
        trained, data, '--temperature=0', '--sample_length=30', '--num_samples=2'
    )
    assert (status, errors) == (0, '')
    texts = ['the king', 'to', 'a lady', 'to be or not', 'to']
    expected = [trained.likeliest(trained.best, text, 30) for text in texts]
    assert output.splitlines() == [line for line in expected for _ in range(2)]


def test_a_file_is_read_as_a_pipe_is_and_not_where_a_prime_text_is_given(trained, tmp_path):
    (tmp_path / 'primes.txt').write_text('a lady\n')
    for more, prime in [(), 'a lady'], (('--prime_text=the king',), 'the king'):
        with open(str(tmp_path / 'primes.txt')) as file:
            process = subprocess.run(
                [sys.executable, '-m', 'tools.sample', '--temperature=0', *more], check=True,
                cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)}, stdin=file,
                stdout=subprocess.PIPE, universal_newlines=True,
            )  # fmt: skip
        assert process.stdout == trained.likeliest(trained.best, prime, 100) + '\n'


def test_an_empty_pipe_is_as_none(trained):
    status, output, errors = piped(trained, b'', '--sample_length=5')
    assert (status, errors) == (0, '') and output.startswith('thou art more')


def test_a_pipe_that_is_no_text_gets_a_sentence(trained):
    status, output, errors = piped(trained, b'so\n\xff\xfe\n')
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'the standard input is not UTF-8: invalid start byte. Convert it first' in errors


@pytest.mark.parametrize('num_samples', [1, 2])
def test_a_sample_ends_before_the_text_at_which_it_is_to_stop(trained, use, num_samples):
    whole = trained.likeliest(trained.best, 'the king', 60)
    stop_at = whole[27:31]  # across two of the pieces that are drawn at a time
    arguments = ('--prime_text=the king', '--sample_length=60', '--temperature=0')
    how = (*arguments, f'--num_samples={num_samples}', f'--stop_at={stop_at}')
    status, output, errors = use(sample, trained, *how)
    end = whole.index(stop_at, len('the king'))
    assert end <= 27
    assert (status, output, errors) == (0, f'{whole[:end]}\n' * num_samples, '')


def test_a_sample_that_does_not_stop_is_told_and_printed_all_the_same(trained, use):
    how = ('--prime_text=the king', '--sample_length=30', '--temperature=0', '--num_samples=2')
    status, output, errors = use(sample, trained, *how, '--stop_at=eeee')
    assert (status, output) == (0, f'{trained.likeliest(trained.best, "the king", 30)}\n' * 2)
    told = "samples did not come to 'eeee' in 30 characters. --sample_length draws more\n"
    assert errors == f'2 {told}'
    told = told.replace('samples', 'sample')
    assert use(sample, trained, *how, '--num_samples=1', '--stop_at=eeee')[2] == f'1 {told}'


def test_a_sample_holds_no_character_that_the_model_has_not_learned(trained, use):
    text = (trained.folder / 'moved.txt').read_text()
    learned = set(script.clean(text)[: int(len(script.clean(text)) * 0.95)])
    how = ('--prime_text=so', '--temperature=1000', '--sample_length=2000')
    status, output, errors = use(sample, trained, *how)
    assert (status, errors) == (0, '')
    assert set(output.strip('\n')) == learned


@pytest.mark.parametrize('stop_at, never', [(r'\n', r"'\n'"), ('Exit.', "'.E'"), (r'\t', r"'\t'")])
def test_what_the_model_never_writes_is_nothing_to_stop_at(trained, use, stop_at, never):
    status, output, errors = use(sample, trained, '--prime_text=so', f'--stop_at={stop_at}')
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'never writes {never}. Give another stop_at' in errors


def test_samples_stay_the_same_however_many_follow_and_however_they_are_drawn(
    trained, use, monkeypatch
):
    arguments = ('--prime_text=so', '--sample_length=25')
    many = use(sample, trained, *arguments, '--num_samples=130')[1].splitlines()
    few = use(sample, trained, *arguments, '--num_samples=7')[1].splitlines()
    assert many[:7] == few and len(set(many)) == 130


def test_letters_that_a_clean_model_does_not_have_are_told(trained, use):
    status, _, errors = use(sample, trained, '--prime_text=\u043c\u043e\u0439 lord?')
    text = '\u043c\u043e\u0439 lord?'
    told = f"The text {text!r} is read as ' lord ': the model has no other letters"
    assert (status, errors) == (0, f'{told}\n')


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(trained):
    process = start_tool('sample', '--sample_length=100000', cwd=trained.folder)
    process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (1, '')


def test_ctrl_c_while_sampling_ends_it_without_a_word(trained):
    process = start_tool('sample', '--sample_length=1000000', cwd=trained.folder)
    process.stdout.read(100)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, '')
