"""Settings: constants at the top of the file, each of which the command line can change."""

import dis
import inspect
import re
import signal
import sys
import types

import pytest
from conftest import SCRIPT, run_script, script, start_script

CONSTANTS = re.findall(r'^([a-z_]+) = (.+?)  # (.+)$', SCRIPT.read_text(encoding='utf-8'), re.M)


def test_the_recipes_names_and_values_are_kept(settings):
    assert settings.num_layers == 3
    assert settings.min_word_freq == 5
    assert settings.rnn_size == 128
    assert settings.epochs == 10
    assert (settings.batch_size, settings.training_seq_len) == (100, 50)
    assert settings.prime_texts == ['thou art more', 'to be or not to', 'wherefore art thou']


def test_help_lists_every_setting_with_its_comment_and_default(tmp_path):
    status, output, errors = run_script('--help', cwd=tmp_path, COLUMNS='1000')
    assert (status, errors) == (0, '')
    assert len(CONSTANTS) > 20
    output = ' '.join(output.split())
    for name, value, comment in CONSTANTS:
        kind = type(getattr(script, name))
        metavar = {
            str: 'text',
            list: 'text [text ...]',
            bool: '[bool]',
            type(None): '[text [text ...]]' if name == 'plot' else 'text',
        }.get(kind, kind.__name__)
        assert f'--{name} {metavar} {comment} ({value})' in output


def test_every_setting_can_be_given_by_name():
    other = {int: '7', float: '0.25', str: 'elsewhere', list: 'one'}
    for name, value, _ in CONSTANTS:
        default = getattr(script, name)
        text = 'cpu' if name == 'device' else other.get(type(default), not default)
        settings = script.read_settings([f'--{name}={text}'])
        changed = getattr(settings, name)
        kind = type('' if name in ('heatmap', 'export') else [] if name == 'plot' else default)
        assert type(changed) is kind, name
        assert changed != default, (name, value)


def test_every_number_has_a_range():
    numbers = {name for name, _, _ in CONSTANTS if type(getattr(script, name)) in (int, float)}
    assert numbers == set(script.RANGES)


def test_a_setting_edited_at_the_top_is_found_with_or_without_its_comment(tmp_path):
    source = SCRIPT.read_text(encoding='utf-8')
    source = source.replace('rnn_size = 128  # units in each layer', 'rnn_size = 4 * 48')
    source = re.sub(r'prime_texts = .*', "prime_texts = [\n    'so',\n    'long',\n]", source)
    (tmp_path / 'edited.py').write_text(source, encoding='utf-8')
    probe = 'import edited; s = edited.read_settings([]); print(s.rnn_size, s.prime_texts)'
    status, output, errors = run_script(
        cwd=tmp_path, python=(sys.executable, '-c', probe), PYTHONPATH=str(tmp_path)
    )
    assert (status, output, errors) == (0, "192 ['so', 'long']\n", '')


def test_a_setting_edited_in_another_style_is_one_all_the_same(tmp_path):
    source = SCRIPT.read_text(encoding='utf-8')
    source = source.replace('\nrnn_size = 128  # units', '\nrnn_size=64 # units')
    source = source.replace('\nkeep_prob = 1.0 ', '\nkeep_prob: float = 1 ')
    (tmp_path / 'edited.py').write_text(source, encoding='utf-8')
    arguments = '["--keep_prob=0.5"]'
    probe = f'import edited; s = edited.read_settings({arguments}); print(s.rnn_size, s.keep_prob)'
    status, output, errors = run_script(
        cwd=tmp_path, python=(sys.executable, '-c', probe), PYTHONPATH=str(tmp_path)
    )
    assert (status, output, errors) == (0, '64 0.5\n', '')


@pytest.mark.parametrize(
    'name, value, words',
    [
        ('rnn_size', 64.0, 'a whole number'),
        ('epochs', True, 'a whole number'),
        ('keep_prob', None, 'a number'),
        ('clean_text', 1, 'True or False'),
        ('temp_dir', None, 'a text'),
        ('prime_texts', 'so', 'a list'),
        ('prime_texts', [1, 2], 'a list'),
        ('prime_texts', [], 'a list'),
        ('prime_texts', ['so', ''], 'none empty'),
        ('device', 'tpu', 'one of auto, cpu, gpu'),
        ('plot', 'temp', 'a list'),
        ('heatmap', '', 'not an empty one'),
        ('export', 7, 'a text'),
    ],
)
def test_a_constant_edited_to_something_else_is_told(name, value, words, monkeypatch, capsys):
    monkeypatch.setattr(script, name, value)
    with pytest.raises(SystemExit):
        script.read_settings([])
    errors = capsys.readouterr().err
    assert f'{name} is {value!r}' in errors and words in errors


def test_several_prime_texts_can_be_given():
    settings = script.read_settings(['--prime_texts', 'to be', 'or not'])
    assert settings.prime_texts == ['to be', 'or not']


@pytest.mark.parametrize(
    'argument, words',
    [
        ('--rnn_sise=64', ['--rnn_sise=64']),
        ('--rnn_size=many', ['--rnn_size', "'many'", 'int']),
        ('--rnn_size=1.5', ['--rnn_size', "'1.5'", 'int']),
        ('--clean_text=perhaps', ['--clean_text', "'perhaps'", 'bool']),
        ('--learning_rate=fast', ['--learning_rate', "'fast'", 'float']),
        ('--rnn=64', ['--rnn=64']),
        ('--rnn_size=0', ['rnn_size is', '0', 'from 1']),
        ('--log_every=0', ['log_every is', '0', 'from 1']),
        ('--epochs=-1', ['epochs is', '-1', 'from 1']),
        ('--held_out=1', ['held_out is', '1.0', 'to 0.9']),
        ('--held_out=0', ['held_out is', '0.0']),
        ('--temperature=-1', ['temperature is', '0.0']),
        ('--learning_rate=nan', ['learning_rate is', 'nan']),
        ('--seed=-1', ['seed is', '-1', 'from 0']),
        ('--prime_texts=', ['prime_texts', 'none empty']),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence_and_status_2(tmp_path, argument, words):
    status, output, errors = run_script(argument, cwd=tmp_path)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert all(word in errors for word in words), errors
    assert not list(tmp_path.iterdir())


def functions_of(module):
    for value in vars(module).values():
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            yield value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            yield from (f for f in vars(value).values() if isinstance(f, types.FunctionType))


def test_no_function_reads_a_constant_behind_the_back_of_the_command_line():
    names = {name for name, _, _ in CONSTANTS}
    functions = list(functions_of(script))
    assert script.train in functions
    for function in functions:
        read = {i.argval for i in dis.get_instructions(function) if i.opname == 'LOAD_GLOBAL'}
        assert not read & names, function.__name__


def test_importing_the_script_does_nothing(tmp_path):
    status, output, errors = run_script(
        cwd=tmp_path, python=(sys.executable, '-c', 'import stacked_lstm_shakespeare'),
        PYTHONPATH=str(SCRIPT.parent), PYTHONDONTWRITEBYTECODE='1',
    )  # fmt: skip
    assert (status, output, errors) == (0, '', '')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'tensorflow, words',
    [
        (None, ['requirements.txt', 'Python 3.7', "No module named 'tensorflow'"]),
        ("__version__ = '2.15.0'", ['TensorFlow 2.15.0 instead of 1.15']),
        ("raise TypeError('Descriptors cannot not be created directly.\\nSee')", ['Descriptors']),
    ],
)
def test_a_python_that_cannot_work_is_told_in_one_sentence(tmp_path, tensorflow, words):
    python = (sys.executable, '-S')  # without its packages
    if tensorflow:
        (tmp_path / 'tensorflow.py').write_text(tensorflow)
        python = (sys.executable,)
    status, output, errors = run_script(cwd=tmp_path, python=python, PYTHONPATH=str(tmp_path))
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert all(word in errors for word in words), errors


def test_a_python_without_matplotlib_is_told_before_it_trains(tmp_path):
    program = (
        "import runpy, sys; sys.modules['matplotlib'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    status, output, errors = run_script(cwd=tmp_path, python=(sys.executable, '-c', program))
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert "No module named 'matplotlib'" in errors


def test_ctrl_c_while_tensorflow_is_imported_is_no_traceback(tmp_path):
    (tmp_path / 'tensorflow.py').write_text(
        "import time; print('begun', flush=True); time.sleep(60)"
    )
    process = start_script(cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.stdout.readline() == 'begun\n'
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, '', '')
