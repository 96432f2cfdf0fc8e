"""Settings: constants at the top of a program, each of which the command line can change."""

import ast
import dis
import importlib.util
import inspect
import re
import sys
import types

from backstage.settings import KINDS, PATHS, RANGES, read_settings
from tools import export, heatmap, plot, sample

import pytest
from conftest import SCRIPT, TOOLS, parse, run_script, run_tool, script

PROGRAMS = [script, *TOOLS]
of_each_program = pytest.mark.parametrize('program', PROGRAMS, ids=lambda one: one.__name__)


def constants(program):
    """Return the name, value and comment of each lower-case constant, as its file has them."""
    source = inspect.getsource(program)
    found = re.findall(r'^([a-z_]+) = (.+?)  # (.+)$', source, re.M)
    assigned = [one.targets[0].id for one in ast.parse(source).body if isinstance(one, ast.Assign)]
    assert [name for name, _, _ in found] == [name for name in assigned if name.islower()]
    return found


def changed(program, argument):
    """Return the settings of a program with one argument on the command line."""
    return read_settings(vars(program), [argument])


def refusal(call, *arguments, capsys):
    """Return the one line with which a call ends the program with status 2."""
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    output, errors = capsys.readouterr()
    assert (end.value.code, output, errors.count('\n')) == (2, '', 1)
    return errors


def help_of(program, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '1000')
    with pytest.raises(SystemExit) as end:
        changed(program, '--help')
    output, errors = capsys.readouterr()
    assert (end.value.code, errors) == (0, '')
    return output


@pytest.fixture
def edited(tmp_path):
    """Return the script with changes in its lines, as a module of another file."""

    def edit(*changes):
        source = SCRIPT.read_text(encoding='utf-8')
        for before, after in changes:
            assert source.count(before) == 1
            source = source.replace(before, after)
        path = tmp_path / 'edited.py'
        path.write_text(source, encoding='utf-8')
        spec = importlib.util.spec_from_file_location('edited', str(path))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return edit


def test_the_recipes_names_and_values_are_kept(settings):
    assert settings.num_layers == 3
    assert settings.min_word_freq == 5
    assert settings.rnn_size == 128
    assert settings.epochs == 10
    assert (settings.batch_size, settings.training_seq_len) == (100, 50)
    assert settings.prime_texts == ['thou art more', 'to be or not to', 'wherefore art thou']


@of_each_program
def test_help_lists_every_setting_with_its_comment_and_default(program, monkeypatch, capsys):
    output = ' '.join(help_of(program, monkeypatch, capsys).split())
    for name, _, comment in constants(program):
        default = getattr(program, name)
        metavar = {str: 'text', list: 'text [text ...]', bool: '[bool]'}.get(
            type(default), 'number'
        )
        if name in PATHS:
            metavar = metavar.replace('text', 'path')
        metavar = 'auto|cpu|gpu' if name == 'device' else metavar
        shown = f'{default:g}' if type(default) is float else repr(default)
        assert f'--{name} {metavar} {comment} ({shown})' in output


@of_each_program
def test_help_says_what_a_program_does_and_shows_the_examples_of_its_first_lines(
    program, monkeypatch, capsys
):
    lines = help_of(program, monkeypatch, capsys).split('\n')
    first, blank, *rest = program.__doc__.split('\n')
    examples = rest[: rest.index('')]
    assert blank == '' and all(example.startswith('    python ') for example in examples)
    assert {first, *examples} <= set(lines)
    command = 'stacked_lstm_shakespeare.py' if program is script else f'-m {program.__name__}'
    assert lines[0] == f'usage: python {command} [--setting=value ...]'
    assert all(f'python {command}' in example for example in examples[:2])


def test_help_has_the_groups_of_the_file(monkeypatch, capsys):
    output = help_of(script, monkeypatch, capsys)
    groups = re.findall(r'^(\w.*):\n  --(\w+)', output, re.M)
    assert groups == [
        ('The text', 'text_file'),
        ('The model', 'num_layers'),
        ('The training', 'epochs'),
        ('What is shown and saved', 'log_every'),
        ('Where things are', 'data_dir'),
    ]


def test_a_tool_that_runs_as_a_program_prints_the_same_help(tmp_path, monkeypatch, capsys):
    expected = help_of(sample, monkeypatch, capsys)
    assert run_tool('sample', '--help', cwd=tmp_path, COLUMNS='1000') == (0, expected, '')


@of_each_program
def test_every_setting_can_be_given_by_name(program):
    other = {int: '7', float: '0.25', str: 'elsewhere', list: 'one'}
    for name, value, _ in constants(program):
        default = getattr(program, name)
        text = 'cpu' if name == 'device' else other.get(type(default), not default)
        now = getattr(changed(program, f'--{name}={text}'), name)
        assert type(now) is type(default), name
        assert now != default, (name, value)


@of_each_program
def test_a_program_has_the_settings_of_its_own_file_and_no_other(program):
    names = [name for name, _, _ in constants(program)]
    assert vars(read_settings(vars(program), [])) == {
        name: getattr(program, name) for name in names
    }


def test_every_number_has_a_range_and_every_other_setting_a_kind_that_stays():
    values = {name: getattr(one, name) for one in PROGRAMS for name, _, _ in constants(one)}
    numbers = {name for name, value in values.items() if type(value) in (int, float)}
    assert numbers == set(RANGES)
    assert set(values) - numbers == set(KINDS)


def test_a_setting_edited_at_the_top_is_found_with_or_without_its_comment(edited):
    texts = "prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']"
    module = edited(
        ('rnn_size = 128  # units in each layer', 'rnn_size = 4 * 48'),
        (texts, "prime_texts = [\n    'so',\n    'long',\n]"),
    )
    settings = read_settings(vars(module), [])
    assert (settings.rnn_size, settings.prime_texts) == (192, ['so', 'long'])
    assert changed(module, '--rnn_size=8').rnn_size == 8


def test_a_setting_edited_in_another_style_is_one_all_the_same(edited):
    module = edited(
        ('\nrnn_size = 128  # units', '\nrnn_size=64 # units'),
        ('\nkeep_prob = 1.0 ', '\nkeep_prob: float = 1 '),
    )
    settings = changed(module, '--keep_prob=0.5')
    assert (settings.rnn_size, settings.keep_prob) == (64, 0.5)


def test_a_new_setting_has_to_stand_at_the_top_of_the_file_only(edited, monkeypatch, capsys):
    new = {'many': 3, 'share': 0.5, 'loud': False, 'title': 'so', 'names': ['a', 'b']}
    lines = ''.join(f'{name} = {value!r}  # what is {name}\n' for name, value in new.items())
    module = edited(('# The model\n', f'# What is new\n{lines}\n# The model\n'))
    given = {
        '--many=-7': -7, '--share=2': 2.0, '--loud': True, '--title=7': '7', '--names=c': ['c'],
    }  # fmt: skip
    for (name, value), (argument, expected) in zip(new.items(), given.items()):
        assert name not in RANGES and name not in KINDS
        assert getattr(read_settings(vars(module), []), name) == value
        now = getattr(changed(module, argument), name)
        assert (now, type(now)) == (expected, type(value))
    assert changed(module, '--loud=False').loud is False
    output = ' '.join(help_of(module, monkeypatch, capsys).split())
    assert (
        'What is new: --many number what is many (3) --share number what is share (0.5)' in output
    )
    for argument in '--many=1.5', '--share=much', '--loud=perhaps':
        assert argument[2:].split('=')[0] in refusal(changed, module, argument, capsys=capsys)


@pytest.mark.parametrize(
    'program, name, value, words',
    [
        (script, 'rnn_size', 64.0, 'a whole number'),
        (script, 'epochs', True, 'a whole number'),
        (script, 'keep_prob', None, 'a number'),
        (script, 'clean_text', 1, 'True or False'),
        (script, 'temp_dir', None, 'a text'),
        (script, 'prime_texts', 'so', 'a list'),
        (script, 'prime_texts', [1, 2], 'a list'),
        (script, 'prime_texts', [], 'a list'),
        (script, 'prime_texts', ['so', ''], 'none empty'),
        (script, 'device', 'tpu', 'one of auto, cpu, gpu'),
        (plot, 'folders', 'temp', 'a list'),
        (heatmap, 'text', None, 'a text'),
        (export, 'folder', 7, 'a text'),
        (sample, 'prime_text', ['so'], 'a text'),
    ],
)
def test_a_constant_edited_to_something_else_is_told(
    program, name, value, words, monkeypatch, capsys
):
    monkeypatch.setattr(program, name, value)
    errors = refusal(read_settings, vars(program), [], capsys=capsys)
    assert f'{name} is {value!r}' in errors and words in errors


def test_several_prime_texts_can_be_given():
    assert parse('--prime_texts', 'to be', 'or not').prime_texts == ['to be', 'or not']


@pytest.mark.parametrize('yes, no', [('true', 'FALSE'), ('Yes', 'no'), ('1', '0')])
def test_a_setting_that_is_true_or_false_can_be_so_in_other_words(yes, no):
    settings = parse(f'--clean_text={no}', f'--restart={yes}')
    assert (settings.clean_text, settings.restart) == (False, True)
    assert parse('--restart', f'--clean_text={yes}').restart is True


@pytest.mark.parametrize('text', ['1000', '1_000', ' 1000 ', '1e3', '1000.0', '+1000', '１０００'])
def test_a_number_can_be_written_in_several_ways(text):
    settings = parse(f'--rnn_size={text}', f'--temperature={text}')
    assert (settings.rnn_size, settings.temperature) == (1000, 1000.0)
    assert (type(settings.rnn_size), type(settings.temperature)) == (int, float)


@pytest.mark.parametrize('text', ['1,000', '1 000', '0x10', '1e', '--5', '', '1__0', 'five', '1/2'])
def test_what_is_no_number_is_told_with_what_is_valid(text, capsys):
    for name, valid in ('rnn_size', 'a whole number'), ('temperature', 'a number'):
        errors = refusal(parse, f'--{name}={text}', capsys=capsys)
        assert f'{name} is {text!r}, and has to be {valid}.' in errors


@pytest.mark.parametrize('text', ['1.5', 'nan', 'inf', '1e400'])
def test_a_number_that_is_not_whole_is_told_where_a_whole_one_is_needed(text, capsys):
    errors = refusal(parse, f'--rnn_size={text}', capsys=capsys)
    assert f'rnn_size is {float(text)}, and has to be a whole number.' in errors


def test_in_a_path_a_tilde_at_its_begin_is_the_folder_of_the_user(monkeypatch, capsys):
    monkeypatch.setenv('HOME', '/home/ann')
    for program in PROGRAMS:
        for name in {'text_file', 'data_dir', 'temp_dir', 'checkpoint', 'folder'} & {
            name for name, _, _ in constants(program)
        }:
            assert getattr(changed(program, f'--{name}=~/x'), name) == '/home/ann/x'
            assert getattr(changed(program, f'--{name}=x~/~'), name) == 'x~/~'
            with monkeypatch.context() as patch:  # as if edited at the top of the file
                patch.setattr(program, name, '~')
                assert getattr(read_settings(vars(program), []), name) == '/home/ann'
    several = read_settings(vars(plot), ['--folders', '~/a', 'b', '~nobody_such/c'])
    assert several.folders == ['/home/ann/a', 'b', '~nobody_such/c']
    assert parse('--prime_texts=~').prime_texts == ['~']


@pytest.mark.parametrize(
    'argument, words',
    [
        ('--rnn_sise=64', ['--rnn_sise=64']),
        ('--rnn_size=many', ['rnn_size is', "'many'", 'a whole number']),
        ('--rnn_size=1.5', ['rnn_size is', '1.5', 'a whole number']),
        ('--clean_text=perhaps', ['clean_text is', "'perhaps'", 'True or False']),
        ('--learning_rate=fast', ['learning_rate is', "'fast'", 'a number']),
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
def test_a_wrong_setting_ends_in_one_sentence_and_status_2(
    argument, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    errors = refusal(script.main, [argument, '--text_file=nowhere.txt'], capsys=capsys)
    assert errors.startswith('stacked_lstm_shakespeare.py: ')
    assert all(word in errors for word in words), errors
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_of_a_tool_ends_in_the_same_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refusal(sample.main, ['--rnn_size=64'], capsys=capsys).startswith('sample.py: ')
    assert 'top_k is -1' in refusal(sample.main, ['--top_k=-1'], capsys=capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'typed, meant',
    [
        ('--ephocs=3', 'epochs'),
        ('--rnn-size=64', 'rnn_size'),
        ('--LEARNING_RATE=1', 'learning_rate'),
        ('--temp_dri=x', 'temp_dir'),
        ('--zzz', None),
        ('--../tools/sample', None),
        ('so', None),
    ],
)
def test_a_name_that_is_nearly_one_is_asked_for(typed, meant, capsys):
    errors = refusal(parse, typed, capsys=capsys)
    hint = f'; did you mean --{meant}?' if meant else '.'
    assert f'unrecognized arguments: {typed}{hint} --help' in errors


def test_several_texts_get_the_command_that_makes_one_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in 'one.txt', 'the other.txt':
        (tmp_path / name).write_text('so')
    with pytest.raises(SystemExit) as end:
        read_settings(vars(script), ['--text_file=one.txt', 'the other.txt'])
    assert end.value.code == 2
    assert "Join them: cat one.txt 'the other.txt' > texts.txt (then" in capsys.readouterr().err


def functions_of(module):
    for value in vars(module).values():
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            yield value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            yield from (f for f in vars(value).values() if isinstance(f, types.FunctionType))


def globals_read(code):
    """Yield the global names that a function reads, and those of the functions within it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == 'LOAD_GLOBAL':
            yield instruction.argval
        elif isinstance(instruction.argval, types.CodeType):
            yield from globals_read(instruction.argval)


@of_each_program
def test_no_function_reads_a_constant_behind_the_back_of_the_command_line(program):
    names = {name for name, _, _ in constants(program)}
    functions = list(functions_of(program))
    assert program.main in functions
    for function in functions:
        assert not set(globals_read(function.__code__)) & names, function.__name__


def test_importing_the_programs_does_nothing(tmp_path):
    names = ', '.join(one.__name__ for one in PROGRAMS)
    status, output, errors = run_script(
        cwd=tmp_path, python=(sys.executable, '-c', f'import {names}'),
        PYTHONDONTWRITEBYTECODE='1',
    )  # fmt: skip
    assert (status, output, errors) == (0, '', '')
    assert not list(tmp_path.iterdir())
