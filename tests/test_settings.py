"""Settings: constants at the top of a program, each of which the command line can change."""

import ast
import dis
import importlib.util
import inspect
import re
import types

from backstage.settings import RANGES, find_fault, read_settings
from tools import evaluate, export, heatmap, plot, sample

import pytest
from conftest import SCRIPT, TOOLS, parse, script

PROGRAMS = [script, *TOOLS]
of_each_program = pytest.mark.parametrize('program', PROGRAMS, ids=lambda one: one.__name__)


def constants(program):
    """Return the name, value and comment of each lower-case constant, as its file has them."""
    source = inspect.getsource(program)
    found = re.findall(r'^([a-z_]+) = (.+?)  # (.+)$', source, re.M)
    assigned = [one.targets[0].id for one in ast.parse(source).body if isinstance(one, ast.Assign)]
    assert [name for name, _, _ in found] == [name for name in assigned if name.islower()]
    return found


def kinds_of(program):
    """Return what each setting of a program may be, as the program and the script say."""
    kinds = {**RANGES, **vars(program).get('RANGES', {})}
    return {name: kinds[name] for name, _, _ in constants(program)}


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
    recipe = {'num_layers': 3, 'min_word_freq': 5, 'rnn_size': 128, 'epochs': 10}
    recipe.update({'batch_size': 100, 'training_seq_len': 50})
    recipe['prime_texts'] = ['thou art more', 'to be or not to', 'wherefore art thou']
    assert recipe == {name: getattr(settings, name) for name in recipe}


@of_each_program
def test_help_lists_every_setting_with_its_comment_and_default(program, monkeypatch, capsys):
    output = ' '.join(help_of(program, monkeypatch, capsys).split())
    shown = {bool: '[bool]', list: 'text [text ...]', 'paths': 'path [path ...]', str: 'text'}
    shown.update({'path': 'path', 'folder': 'path', 'auto|cpu|gpu': 'auto|cpu|gpu'})
    kinds = kinds_of(program)
    for name, _, comment in constants(program):
        default = getattr(program, name)
        default = f'{default:g}' if type(default) is float else repr(default)
        assert f'--{name} {shown.get(kinds[name], "number")} {comment} ({default})' in output


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
    groups = re.findall(r'^(\w.*):\n  --(\w+)', help_of(script, monkeypatch, capsys), re.M)
    assert [group for group, _ in groups] == [
        'The text', 'The model', 'The training', 'What is shown and saved', 'Where things are',
    ]  # fmt: skip
    assert [name for _, name in groups[:2]] == ['text_file', 'num_layers']


@of_each_program
def test_a_program_has_the_settings_of_its_file_and_each_can_be_given_by_name(program):
    defaults = {name: getattr(program, name) for name, _, _ in constants(program)}
    assert vars(read_settings(vars(program), [])) == defaults
    other = {int: '7', float: '0.25', str: 'elsewhere', list: 'one'}
    for name, default in defaults.items():
        text = 'cpu' if name == 'device' else other.get(type(default), not default)
        now = getattr(changed(program, f'--{name}={text}'), name)
        assert type(now) is type(default) and now != default, name


@of_each_program
def test_every_setting_has_a_range_that_its_constant_is_in_and_every_range_a_setting(program):
    kinds = kinds_of(program)
    for name, kind in kinds.items():
        assert find_fault(name, getattr(program, name), kind) is None
    own = RANGES if program is script else vars(program)['RANGES']
    assert set(own) <= set(kinds)
    # What a tool takes over from the script, it does not say again.
    assert program is script or not set(own) & set(RANGES)


def bounds():
    """Yield each number among the settings: its program, its name, and its range."""
    for program in PROGRAMS:
        own = RANGES if program is script else program.RANGES
        yield from ((program, name, own[name]) for name in own if type(own[name]) is tuple)


@pytest.mark.parametrize('program, name, kind', bounds(), ids=str)
def test_a_number_must_be_in_its_range(program, name, kind, capsys):
    low, high = kind
    assert getattr(changed(program, f'--{name}={low!r}'), name) == low
    assert getattr(changed(program, f'--{name}={high!r}'), name) == high
    is_whole = type(low) is int
    assert is_whole == (type(getattr(program, name)) is int)
    below = low - 1 if is_whole else -1.0 if low == 0 else 0.0
    for value in below, high + 1 if is_whole else 2 * high:
        errors = refusal(changed, program, f'--{name}={value}', capsys=capsys)
        assert f': {name} must be from {low} to {high}, got {value}. --help' in errors
    kind = 'a whole number' if is_whole else 'a number'
    for text in ['many', ''] + ['1.5'] * is_whole:
        errors = refusal(changed, program, f'--{name}={text}', capsys=capsys)
        assert f'{name} must be {kind}, got ' in errors
    refusal(changed, program, f'--{name}=nan', capsys=capsys)


def test_a_setting_edited_at_the_top_is_found_in_every_style(edited):
    texts = "prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']"
    module = edited(
        ('rnn_size = 128  # units in each layer', 'rnn_size = 4 * 48'),
        ('\nembedding_size = 32  # num', '\nembedding_size=64 # num'),
        ('\nkeep_prob = 1.0 ', '\nkeep_prob: float = 1 '),
        (texts, "prime_texts = [\n    'so',\n    'long',\n]"),
    )
    settings = changed(module, '--keep_prob=0.5')
    assert (settings.rnn_size, settings.prime_texts) == (192, ['so', 'long'])
    assert (settings.embedding_size, settings.keep_prob) == (64, 0.5)
    assert changed(module, '--rnn_size=8').rnn_size == 8


def test_a_new_setting_has_to_stand_at_the_top_of_the_file_only_but_a_number_needs_a_range(
    edited, monkeypatch, capsys
):
    new = {'loud': False, 'title': 'so', 'names': ['a', 'b'], 'share': 0.5}
    lines = ''.join(f'{name} = {value!r}  # what is {name}\n' for name, value in new.items())
    module = edited(('# The model\n', f'# What is new\n{lines}\n# The model\n'))
    errors = refusal(read_settings, vars(module), [], capsys=capsys)
    assert 'share must have a range, add it to RANGES. ' in errors
    module.RANGES = {'share': (0.0, 1.0)}
    assert {**vars(read_settings(vars(module), [])), **new} == vars(read_settings(vars(module), []))
    given = {'--loud': True, '--title=7': '7', '--names=c': ['c'], '--share=1': 1.0}
    for name, (argument, expected) in zip(new, given.items()):
        assert getattr(changed(module, argument), name) == expected
    assert changed(module, '--loud=False').loud is False
    output = ' '.join(help_of(module, monkeypatch, capsys).split())
    assert 'What is new: --loud [bool] what is loud (False) --title text what is title' in output
    assert 'loud must be True or False' in refusal(changed, module, '--loud=x', capsys=capsys)


@pytest.mark.parametrize(
    'program, name, value, words',
    [
        (script, 'rnn_size', 64.0, 'a whole number, got 64.0'),
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
        (evaluate, 'lines', 1, 'True or False'),
        (sample, 'prime_text', ['so'], 'a text'),
    ],
)
def test_a_constant_edited_to_something_else_is_told(
    program, name, value, words, monkeypatch, capsys
):
    monkeypatch.setattr(program, name, value)
    errors = refusal(read_settings, vars(program), [], capsys=capsys)
    assert re.search(f'{name} must (be|have) .*{words}', errors)


def test_a_setting_that_is_true_or_false_can_be_so_in_other_words():
    for yes, no in ('true', 'FALSE'), ('Yes', 'no'), ('1', '0'):
        settings = parse(f'--clean_text={no}', f'--restart={yes}')
        assert (settings.clean_text, settings.restart) == (False, True)
        assert parse('--restart', f'--clean_text={yes}').restart is True


def test_a_number_can_be_written_in_several_ways():
    for text in '1000', '1_000', ' 1000 ', '1e3', '1000.0', '+1000', '１０００':
        settings = parse(f'--rnn_size={text}', f'--temperature={text}')
        assert (settings.rnn_size, settings.temperature) == (1000, 1000.0)
        assert (type(settings.rnn_size), type(settings.temperature)) == (int, float)


def test_what_is_no_number_is_told_with_what_is_valid(capsys):
    for text in '1,000', '1 000', '0x10', '1e', '--5', '1__0', 'five', '1/2':
        for name, valid in ('rnn_size', 'a whole number'), ('temperature', 'a number'):
            errors = refusal(parse, f'--{name}={text}', capsys=capsys)
            assert f'{name} must be {valid}, got {text!r}.' in errors


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
    assert parse('--prime_texts', '~', 'or not').prime_texts == ['~', 'or not']


@pytest.mark.parametrize(
    'argument, said',
    [
        ('--epochs=1.5', 'epochs must be a whole number, got 1.5'),
        ('--epochs=1e400', 'epochs must be a whole number, got inf'),
        ('--epochs=many', "epochs must be a whole number, got 'many'"),
        ('--batch_size=0', 'batch_size must be from 1 to 1000000, got 0'),
        ('--learning_rate=nan', 'learning_rate must be from 0.0 to 1.0, got nan'),
        ('--clean_text=perhaps', "clean_text must be True or False, got 'perhaps'"),
        ('--device=tpu', "device must be one of auto, cpu, gpu, got 'tpu'"),
        ('--temp_dir=', 'temp_dir must not be empty'),
        ('--data_dir=', 'data_dir must not be empty'),
        ('--text_file=a\0b', r"text_file must be a text without \0, got 'a\x00b'"),
        ('--prime_texts=', "prime_texts must be a list of texts, none empty, got ['']"),
        ('--rnn=64', 'unrecognized arguments: --rnn=64'),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence_and_status_2(
    argument, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    errors = refusal(script.main, [argument], capsys=capsys)
    assert errors.startswith(f'stacked_lstm_shakespeare.py: {said}')
    assert errors.endswith(' --help lists the settings.\n')
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_of_a_tool_ends_in_the_same_way(capsys):
    assert refusal(sample.main, ['--rnn_size=64'], capsys=capsys).startswith('sample.py: ')
    assert 'folder must not be empty' in refusal(export.main, ['--folder='], capsys=capsys)


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
    errors = refusal(parse, '--text_file=one.txt', 'the other.txt', capsys=capsys)
    assert "Join them: cat one.txt 'the other.txt' | … --text_file=/dev/stdin." in errors


def globals_read(code):
    """Return the global names that the functions in a piece of code read: set of str."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    own = {one.argval for one in dis.get_instructions(code) if one.opname == 'LOAD_GLOBAL'}
    return own.union(*map(globals_read, inner))


@of_each_program
def test_no_function_reads_a_constant_behind_the_back_of_the_command_line(program):
    read = globals_read(compile(inspect.getsource(program), program.__file__, 'exec'))
    assert 'read_settings' in read
    assert not read & {name for name, _, _ in constants(program)}
