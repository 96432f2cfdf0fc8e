"""tools.sample: what a trained model writes."""

import json
import os
import pty
import signal
import subprocess
import sys

from tools import sample

import pytest
from conftest import ROOT, run_tool, start_tool

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


def test_without_a_prime_text_and_a_terminal_a_sample_begins_as_those_of_training(trained, use):
    assert use(sample, trained)[1].startswith('thou art more')


def test_a_sample_begins_as_those_of_its_own_run(copy, use):
    path = copy.temp / 'settings.json'
    record = json.loads(path.read_text())
    record['prime_texts'] = ['my lord of']
    path.write_text(json.dumps(record))
    assert use(sample, copy)[1].startswith('my lord of')


def test_in_a_terminal_one_prime_text_after_the_other_is_asked_for(trained):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'tools.sample', '--temperature=0', '--sample_length=30'],
        cwd=str(trained.folder), env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    output = b''
    for prime in (b'the king\n', b'\n', b'a lady\n', b'\x04'):
        while not output.endswith(b'ends): '):
            output += os.read(ours, 1000)
        output += b' '
        os.write(ours, prime)
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b''
    for prime in ('the king', 'a lady'):
        assert trained.likeliest(trained.best, prime, 30).encode() in output
    assert b'has no character to begin with' in output


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(trained):
    process = start_tool('sample', '--sample_length=100000', cwd=trained.folder)
    process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (1, '')


def test_ctrl_c_while_sampling_ends_in_one_word(trained):
    process = start_tool('sample', '--sample_length=1000000', cwd=trained.folder)
    process.stdout.read(100)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, 'sample.py: stopped.\n')
