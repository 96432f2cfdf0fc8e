"""List the tools: the program `python -m tools`."""

import ast
import pathlib
import shlex
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
NO_PROGRAM = 'trained'  # a module that the tools import
COMMAND = f'{shlex.quote(sys.executable)} {shlex.quote(str(FOLDER))}/NAME.py'


def first_lines():
    """Return the first line of each tool's docstring: a dict from names."""
    paths = [path for path in sorted(FOLDER.glob('[a-z]*.py')) if path.stem != NO_PROGRAM]
    sources = {path.stem: ast.parse(path.read_text(encoding='utf-8')) for path in paths}
    return {name: ast.get_docstring(source).split('\n')[0] for name, source in sources.items()}


def main(arguments):
    """Print the list; return the exit status."""
    if arguments not in ([], ['-h'], ['--help']):
        print(f'tools: unexpected arguments. To run a tool: {COMMAND}.', file=sys.stderr)
        return 2
    print(f'Tools for a trained model. To run one: {COMMAND} (--help lists its settings)\n')
    for name, line in first_lines().items():
        print(f'    {name:8}  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
