"""Settings: the constants at the top of a program, each of which the command line can change."""

import argparse
import contextlib
import difflib
import functools
import os
import re
import shlex


class UserError(Exception):
    """A mistake that the user can mend. It is told in one line, and the exit status is 2."""


MANY = 10**9
TINY = 1e-9  # nothing smaller makes sense for a setting that must not be 0
RANGES = {  # lowest and highest; whole numbers where these are
    **dict.fromkeys(['log_every', 'eval_every', 'save_every', 'num_samples'], (1, MANY)),
    **dict.fromkeys(['min_word_freq', 'epochs'], (1, MANY)),
    **dict.fromkeys(['max_iterations', 'patience', 'warmup_iterations', 'top_k'], (0, MANY)),
    **dict.fromkeys(['rnn_size', 'embedding_size'], (1, 100_000)),
    **dict.fromkeys(['batch_size', 'sample_length', 'characters'], (1, 1_000_000)),
    **dict.fromkeys(['num_layers', 'training_seq_len'], (1, 1000)),  # each makes the graph longer
    'streams': (0, 1_000_000),
    'max_gradient_norm': (TINY, 1e9),
    'temperature': (0.0, 1e9),
    'held_out': (TINY, 0.9),
    'learning_rate': (0.0, 1.0),
    'weight_decay': (0.0, 10.0),
    'keep_prob': (0.01, 1.0),
    'average_decay': (0.0, 0.9999),
    'threads_per_operation': (1, 1024),
    'seed': (0, 2**32 - 1),  # what NumPy takes
    'download_timeout': (TINY, 86_400.0),  # a day
}
# Kinds of other settings, and the values that one may have. What is neither here nor above has the
# kind of its constant. (These stay what they are, whatever somebody edits the constant to.)
KINDS = {
    **dict.fromkeys(['clean_text', 'residual', 'restart', 'show_plot', 'lines', 'csv'], bool),
    **dict.fromkeys(['prime_texts', 'folders', 'text_files'], list),
    **dict.fromkeys(['text_file', 'data_dir', 'temp_dir', 'checkpoint', 'gutenberg_url'], str),
    **dict.fromkeys(['prime_text', 'stop_at', 'text', 'folder', 'init_from'], str),
    'device': ('auto', 'cpu', 'gpu'),
}

NEVER_EMPTY = ('data_dir', 'temp_dir', 'folder')
PATHS = (
    'text_file', 'text_files', 'data_dir', 'temp_dir', 'init_from', 'checkpoint', 'folder',
    'folders',
)  # fmt: skip
BOOLEANS = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line, with the names that may be meant."""

    def error(self, message, end='.'):
        self.exit(2, f'{self.prog}: {" ".join(message.split())}{end} --help lists the settings.\n')

    def parse_args(self, arguments):
        settings, unknown = self.parse_known_args(arguments)
        if unknown and getattr(settings, 'text_file', '') and all(map(os.path.isfile, unknown)):
            from backstage import reading  # which imports this

            words = map(shlex.quote, [settings.text_file, *unknown])
            self.error(f'text_file is one file. Join them: {reading.join(*words)}', '')
        if unknown:
            name = unknown[0].partition('=')[0].lower().replace('-', '_').strip('_')
            close = difflib.get_close_matches(name, vars(settings), 1)
            end = f'; did you mean --{close[0]}?' if close else '.'
            self.error(f'unrecognized arguments: {" ".join(unknown)}', end)
        return settings


def read_settings(program, arguments):
    """Return the settings of a program: its constants, with the changes of the command line.

    Every lower-case constant in its section "Settings" is one. Names, defaults, comments and groups
    are taken from the lines of its file, so that a setting is described in one place.

    Args:
      program: dict, the `globals()` of the program.
      arguments: list of str, such as ['--rnn_size=256', '--text_file=my.txt'].

    Returns:
      An argparse.Namespace with one attribute for each setting. A mistake ends the program.
    """
    parser = Parser(
        prog=os.path.basename(program['__file__']),
        usage=re.search(r'python (-m )?\S+', program['__doc__']).group() + ' [--setting=value ...]',
        description='\n\n'.join(program['__doc__'].split('\n\n')[:2]),  # what it is, and examples
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    with open(os.path.abspath(program['__file__']), encoding='utf-8') as source:
        section = source.read().split('\n# --- Settings')[1].split('\ndef ')[0]
    pattern = r'\n\n# (\w.*)|\n([a-z_]+) *(?::[^=\n]*)?= *[^#\n]*(?:# *(.*))?'
    group = parser
    for heading, name, comment in re.findall(pattern, section):
        if heading:
            group = parser.add_argument_group(heading)
            continue
        default = program[name]
        kind = kind_of(name, default)
        group.add_argument(
            f'--{name}',
            type=functools.partial(read_value, kind),
            nargs={list: '+', bool: '?'}.get(kind),
            const=True if kind is bool else None,  # --restart: short for --restart=True
            default=default,
            metavar=describe_kind(name, kind),
            help=f'{comment} ({describe(default)})'.replace('%', '%%'),
        )
    settings = parser.parse_args(arguments)
    for name, value in vars(settings).items():
        problem = find_fault(name, value, program[name])
        if problem:
            parser.error(problem)
        if name in PATHS:
            setattr(settings, name, expand_home(value))
    return settings


def describe_kind(name, kind):
    """Return what the help says that a setting takes."""
    if name in PATHS:
        return 'path'
    if isinstance(kind, tuple):
        return '|'.join(kind)
    return {int: 'number', float: 'number', bool: 'bool'}.get(kind, 'text')


def describe(default):
    """Return what the help says that a setting is: numbers as people write them."""
    return f'{default:g}' if type(default) is float else repr(default)


def read_value(kind, text):
    """Return what a text of the command line stands for; the text itself if for nothing.

    Numbers are what Python takes for them, such as 1_000, and whole ones may be 1e3 or 1000.0 too.
    """
    if kind is bool:
        return BOOLEANS.get(text.lower(), text)
    with contextlib.suppress(ValueError):
        if kind in (int, float):
            number = float(text)
            return int(number) if kind is int and number.is_integer() else number
    return text


def expand_home(path):
    """Return a path, or a list of them; a `~` at its begin becomes the home folder."""
    if isinstance(path, list):
        return [expand_home(one) for one in path]
    return os.path.expanduser(path)


def kind_of(name, default):
    """Return the type of a setting, or the tuple of values that it may have."""
    return type(RANGES[name][0]) if name in RANGES else KINDS.get(name, type(default))


def find_fault(name, value, default=''):
    """Return what is wrong with the value of a setting, str; None if nothing is."""
    kind = kind_of(name, default)
    if name in RANGES:
        low, high = RANGES[name]
        is_number = type(value) is kind or (kind is float and type(value) is int)
        fits = is_number and low <= value <= high
        wanted = f'from {low} to {high}' if is_number else f'a {"whole " * (kind is int)}number'
    elif kind is list:
        fits = isinstance(value, list) and all(isinstance(t, str) and t for t in value)
        fits = fits and (value or name in ('folders', 'text_files'))
        wanted = 'a list of texts, none empty'
    elif isinstance(kind, tuple):
        fits, wanted = value in kind, f'one of {", ".join(kind)}'
    elif kind is str:
        fits = isinstance(value, str) and (value or name not in NEVER_EMPTY) and '\0' not in value
        wanted = 'a text, not an empty one' if name in NEVER_EMPTY else 'a text'
        wanted += r', without \0' if '\0' in str(value) else ''  # no path has one
    else:
        fits = type(value) is kind
        wanted = 'True or False' if kind is bool else f'of the kind {kind.__name__}'
    return None if fits else f'{name} is {value!r}, and has to be {wanted}'
