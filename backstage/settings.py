"""Settings: the constants at the top of a program. The command line can change each of them."""

import argparse
import contextlib
import difflib
import functools
import os
import re
import shlex


class UserError(Exception):
    """A mistake that the user can fix. The program prints it in one line; its status is 2."""


MANY = 10**9
TINY = 1e-9  # the minimum of a setting that must not be 0
# The kind of each setting of the script. A number has a lowest and a highest value; whole limits
# allow whole numbers only. Other kinds: a choice, bool, str, a list of texts, a path. A tool adds
# its own RANGES for other settings. A setting in neither has the type of its constant, but a number
# must be in one of them.
RANGES = {
    **dict.fromkeys(['log_every', 'eval_every', 'save_every'], (1, MANY)),
    **dict.fromkeys(['min_word_freq', 'epochs'], (1, MANY)),
    **dict.fromkeys(['max_iterations', 'patience', 'warmup_iterations'], (0, MANY)),
    **dict.fromkeys(['rnn_size', 'embedding_size'], (1, 100_000)),
    **dict.fromkeys(['batch_size', 'sample_length'], (1, 1_000_000)),
    **dict.fromkeys(['num_layers', 'training_seq_len'], (1, 1000)),  # the graph grows with both
    'max_gradient_norm': (TINY, 1e9),
    'temperature': (0.0, 1e9),
    'held_out': (TINY, 0.9),
    'learning_rate': (0.0, 1.0),
    'weight_decay': (0.0, 10.0),
    'keep_prob': (0.01, 1.0),
    'average_decay': (0.0, 0.9999),
    'threads_per_operation': (1, 1024),
    'seed': (0, 2**32 - 1),  # the range that NumPy allows
    'device': 'auto|cpu|gpu',
    **dict.fromkeys(['clean_text', 'residual', 'restart', 'show_plot'], bool),
    **dict.fromkeys(['text_file', 'init_from'], 'path'),
    **dict.fromkeys(['data_dir', 'temp_dir'], 'folder'),  # a non-empty path
    'gutenberg_url': str,
    'prime_texts': list,
}
PATHS = [name for name, kind in RANGES.items() if kind in ('path', 'folder')]
BOOLEANS = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line and suggests a similar name."""

    def error(self, message, end='.'):
        self.exit(2, f'{self.prog}: {" ".join(message.split())}{end} --help lists the settings.\n')

    def parse_args(self, arguments):
        settings, unknown = self.parse_known_args(arguments)
        if unknown and getattr(settings, 'text_file', '') and all(map(os.path.isfile, unknown)):
            files = ' '.join(map(shlex.quote, [settings.text_file, *unknown]))
            self.error(
                f'text_file must be a single file. To join them: '
                f'cat {files} | … --text_file=/dev/stdin'
            )
        if unknown:
            name = unknown[0].partition('=')[0].lower().replace('-', '_').strip('_')
            close = difflib.get_close_matches(name, vars(settings), 1)
            end = f'; did you mean --{close[0]}?' if close else '.'
            self.error(f'unrecognized arguments: {" ".join(unknown)}', end)
        return settings


def read_settings(program, arguments):
    """Return the settings of a program: its constants, as changed on the command line.

    Every lower-case constant in the section "Settings" of its file is a setting. Names, defaults,
    comments and groups are read from that file, so a setting is described in one place. The
    program's RANGES define the allowed values, or else RANGES here.

    Args:
      program: dict, the `globals()` of the program.
      arguments: list of str, such as ['--rnn_size=256', '--text_file=my.txt'].

    Returns:
      An argparse.Namespace with one attribute for each setting. A mistake ends the program.
    """
    parser = Parser(
        prog=os.path.basename(program['__file__']),
        usage=re.search(r'python (-m )?\S+', program['__doc__']).group() + ' [--setting=value ...]',
        description='\n\n'.join(program['__doc__'].split('\n\n')[:2]),  # summary and examples
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    with open(os.path.abspath(program['__file__']), encoding='utf-8') as source:
        section = source.read().split('\n# --- Settings')[1].split('\ndef ')[0]
    pattern = r'\n\n# (\w.*)|\n([a-z_]+) *(?::[^=\n]*)?= *[^#\n]*(?:# *(.*))?'
    group, kinds = parser, {}
    for heading, name, comment in re.findall(pattern, section):
        if heading:
            group = parser.add_argument_group(heading)
            continue
        default = program[name]
        kind = {**RANGES, **program.get('RANGES', {})}.get(name, type(default))
        if isinstance(kind, type) and kind not in (bool, str, list):
            parser.error(f'{name} must have a range: add it to RANGES')
        kinds[name] = kind
        group.add_argument(
            f'--{name}',
            type=functools.partial(read_value, kind),
            nargs={list: '+', 'paths': '+', bool: '?'}.get(kind),
            const=True if kind is bool else None,  # --restart is short for --restart=True
            default=default,
            metavar=describe_kind(kind),
            help=f'{comment} ({describe(default)})'.replace('%', '%%'),
        )
    settings = parser.parse_args(arguments)
    for name, value in vars(settings).items():
        problem = find_fault(name, value, kinds[name])
        if problem:
            parser.error(problem)
        if kinds[name] in ('path', 'folder'):
            setattr(settings, name, os.path.expanduser(value))
        elif kinds[name] == 'paths':
            setattr(settings, name, list(map(os.path.expanduser, value)))
    return settings


def describe_kind(kind):
    """Return the name that the help shows for a kind of value."""
    if type(kind) is tuple:
        return 'number'
    names = {bool: 'bool', str: 'text', list: 'text', 'paths': 'path', 'folder': 'path'}
    return names.get(kind, kind)


def describe(default):
    """Return a default as the help shows it, such as 5 for 5.0."""
    return f'{default:g}' if type(default) is float else repr(default)


def read_value(kind, text):
    """Return the value that a text on the command line stands for, or the text itself.

    Numbers follow Python's syntax, such as 1_000. Whole ones may also be written 1e3 or 1000.0.
    """
    if kind is bool:
        return BOOLEANS.get(text.lower(), text)
    with contextlib.suppress(ValueError):
        if type(kind) is tuple:
            number = float(text)
            return int(number) if type(kind[0]) is int and number.is_integer() else number
    return text


def find_fault(name, value, kind):
    """Return what is wrong with the value of a setting, str; None if it is valid.

    Args:
      kind: the allowed values, as in RANGES.
    """
    fits = False
    if type(kind) is tuple:
        low, high = kind
        wanted = 'a whole number' if type(low) is int else 'a number'
        if type(value) in (int, type(low)):
            fits, wanted = low <= value <= high, f'between {low:,.10g} and {high:,.10g}'
    elif kind is bool:
        fits, wanted = type(value) is bool, 'True or False'
    elif kind in (list, 'paths'):
        wanted = 'a list of non-empty strings'
        if isinstance(value, list) and (value or kind == 'paths'):
            fits = all(isinstance(text, str) and text for text in value)
    elif kind == 'counts':  # in a record, not a setting
        fits, wanted = isinstance(value, list) and len(value) < 2e6, 'a list of counts'
        fits = fits and all(type(one) is int and one >= 0 for one in value)
    elif kind == 'folder' and value == '':
        return f'{name} must not be empty'
    elif kind in (str, 'path', 'folder'):
        fits = isinstance(value, str) and '\0' not in value  # no path contains \0
        wanted = r'a string without \0' if isinstance(value, str) else 'a string'
    else:
        fits, wanted = value in kind.split('|'), f'one of {kind.replace("|", ", ")}'
    return None if fits else f'{name} must be {wanted}, got {value!r}'
