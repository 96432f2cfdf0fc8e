"""Settings: constants at the top of a program that the command line can change."""

import ast
import dis
import importlib.util
import inspect
import re
import types

from backstage.settings import RANGES, find_fault, read_settings
from tools import export, plot, sample

import pytest
from conftest import SCRIPT, TOOLS, parse, script

PROGRAMS = [script, *TOOLS]
of_each_program = pytest.mark.parametrize('program', PROGRAMS, ids=lambda one: one.__name__)


def constants(program):
    """Return the name, value and comment of each lower-case constant, as in its file."""
    source = inspect.getsource(program)
    found = re.findall(r'^([a-z_]+) = (.+?)  # (.+)$', source, re.M)
    assigned = [one.targets[0].id for one in ast.parse(source).body if isinstance(one, ast.Assign)]
    assert [name for name, _, _ in found] == [name for name in assigned if name.islower()]
    return found


def changed(program, argument):
    """Return the settings of a program with one argument on the command line."""
    return read_settings(vars(program), [argument])


def refusal(call, *arguments, capsys):
    """Make a call that ends the program with status 2; return the one line that it prints."""
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
    """Return a function that imports a copy of the script with changed lines."""

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
def test_help_has_the_docstring_and_every_setting_with_comment_and_default(
    program, monkeypatch, capsys
):
    output = help_of(program, monkeypatch, capsys)
    first, blank, *rest = program.__doc__.split('\n')
    examples = rest[: rest.index('')]
    assert blank == '' and all(example.startswith('    python ') for example in examples)
    assert {first, *examples} <= set(output.split('\n'))
    command = 'stacked_lstm_shakespeare.py' if program is script else f'-m {program.__name__}'
    assert output.startswith(f'usage: python {command} [--setting=value ...]\n')
    for name, _, comment in constants(program):
        default = getattr(program, name)
        default = f'{default:g}' if type(default) is float else repr(default)
        described = re.escape(f'{comment} ({default})')
        assert re.search(rf'--{name} [^-]*? {described}', ' '.join(output.split()))
    if program is script:
        assert re.findall(r'\n(\w.*):\n  --', output) == [
            'The text', 'The model', 'The training', 'What is shown and saved', 'Where things are',
        ]  # fmt: skip


@of_each_program
def test_every_constant_is_a_setting_that_the_command_line_can_change(program):
    defaults = {name: getattr(program, name) for name, _, _ in constants(program)}
    assert vars(read_settings(vars(program), [])) == defaults
    other = {int: '7', float: '0.25', str: 'elsewhere', list: 'one'}
    for name, default in defaults.items():
        text = 'cpu' if name == 'device' else other.get(type(default), not default)
        now = getattr(changed(program, f'--{name}={text}'), name)
        assert type(now) is type(default) and now != default, name


@of_each_program
def test_a_number_must_be_in_its_range(program, capsys):
    own = RANGES if program is script else program.RANGES
    assert set(own) <= {name for name, _, _ in constants(program)}
    for name, kind in own.items():
        assert find_fault(name, getattr(program, name), kind) is None
        if type(kind) is tuple:
            low, high = kind
            assert getattr(changed(program, f'--{name}={low!r}'), name) == low
            assert getattr(changed(program, f'--{name}={high!r}'), name) == high
            is_whole = type(low) is int
            assert is_whole == (type(getattr(program, name)) is int)
            below = low - 1 if is_whole else -1.0 if low == 0 else 0.0
            for value in below, high + 1 if is_whole else 2 * high:
                errors = refusal(changed, program, f'--{name}={value}', capsys=capsys)
                told = f': {name} must be between {low:,.10g} and {high:,.10g}, got {value}. --help'
                assert told in errors
            for text in ['many', '', 'nan'] + ['1.5'] * is_whole:
                errors = refusal(changed, program, f'--{name}={text}', capsys=capsys)
                assert f'{name} must be ' in errors


def test_a_setting_edited_at_the_top_is_found_in_any_style(edited):
    texts = "prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']"
    module = edited(
        ('rnn_size = 128  # units in each layer', 'rnn_size = 4 * 48'),
        ('\nembedding_size = 32  # width', '\nembedding_size=64 # width'),
        ('\nkeep_prob = 1.0 ', '\nkeep_prob: float = 1 '),
        (texts, "prime_texts = [\n    'so',\n    'long',\n]"),
    )
    settings = changed(module, '--keep_prob=0.5')
    assert (settings.rnn_size, settings.prime_texts) == (192, ['so', 'long'])
    assert (settings.embedding_size, settings.keep_prob) == (64, 0.5)
    assert changed(module, '--rnn_size=8').rnn_size == 8


def test_a_new_setting_needs_only_its_constant_and_a_number_needs_a_range(edited, capsys):
    new = ('# The model\n', '# New\nloud = False  # what\nshare = 0.5  # how much\n\n# The model\n')
    module = edited(new)
    errors = refusal(read_settings, vars(module), [], capsys=capsys)
    assert 'share must have a range: add it to RANGES. ' in errors
    module.RANGES = {'share': (0.0, 1.0)}
    assert changed(module, '--share=1').share == 1.0
    assert (changed(module, '--loud').loud, changed(module, '--loud=False').loud) == (True, False)


@pytest.mark.parametrize(
    'program, name, value, words',
    [
        (script, 'rnn_size', 64.0, 'a whole number, got 64.0'),
        (script, 'clean_text', 1, 'True or False'),
        (script, 'temp_dir', None, 'a string'),
        (script, 'prime_texts', 'so', 'a list'),
        (plot, 'folders', 'temp', 'a list'),
        (sample, 'prime_text', ['so'], 'a string'),
    ],
)
def test_a_constant_edited_to_another_type_is_reported(
    program, name, value, words, monkeypatch, capsys
):
    monkeypatch.setattr(program, name, value)
    errors = refusal(read_settings, vars(program), [], capsys=capsys)
    assert re.search(f'{name} must be .*{words}', errors)


def test_a_value_can_be_written_in_several_ways(capsys):
    for text in '1000', '1_000', ' 1000 ', '1e3', '1000.0', '+1000':
        settings = parse(f'--rnn_size={text}', f'--temperature={text}')
        assert (settings.rnn_size, settings.temperature) == (1000, 1000.0)
        assert (type(settings.rnn_size), type(settings.temperature)) == (int, float)
    for text in '1,000', '0x10', '1e', '--5', '1/2':
        errors = refusal(parse, f'--rnn_size={text}', capsys=capsys)
        assert f'rnn_size must be a whole number, got {text!r}.' in errors
    for yes, no in ('true', 'FALSE'), ('Yes', 'no'), ('1', '0'):
        settings = parse(f'--clean_text={no}', f'--restart={yes}')
        assert (settings.clean_text, settings.restart) == (False, True)


def test_a_tilde_at_the_start_of_a_path_is_the_home_folder(monkeypatch):
    monkeypatch.setenv('HOME', '/home/ann')
    for program, name in (script, 'text_file'), (script, 'temp_dir'), (export, 'folder'):
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
        ('--text_file=a\0b', r"text_file must be a string without \0, got 'a\x00b'"),
        ('--../tools/sample', 'unrecognized arguments: --../tools/sample.'),
        ('--ephocs=3', 'unrecognized arguments: --ephocs=3; did you mean --epochs?'),
        ('--rnn-size=64', 'unrecognized arguments: --rnn-size=64; did you mean --rnn_size?'),
        ('--TEMP_DRI=x', 'unrecognized arguments: --TEMP_DRI=x; did you mean --temp_dir?'),
    ],
)
def test_a_wrong_setting_gets_one_sentence_and_status_2(
    argument, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    errors = refusal(script.main, [argument], capsys=capsys)
    assert errors.startswith(f'stacked_lstm_shakespeare.py: {said}')
    assert errors.endswith(' --help lists the settings.\n')
    assert not list(tmp_path.iterdir())


def globals_read(code):
    """Return the global names that the functions in a code object read: set of str."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    own = {one.argval for one in dis.get_instructions(code) if one.opname == 'LOAD_GLOBAL'}
    return own.union(*map(globals_read, inner))


@of_each_program
def test_no_function_reads_the_constant_of_a_setting(program):
    read = globals_read(compile(inspect.getsource(program), program.__file__, 'exec'))
    assert 'read_settings' in read
    assert not read & {name for name, _, _ in constants(program)}
