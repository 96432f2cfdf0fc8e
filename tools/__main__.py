"""List the tools: what `python -m tools` does."""

import ast
import pathlib
import shlex
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
NO_PROGRAM = 'trained'  # what the others import
COMMAND = f'{shlex.quote(sys.executable)} {shlex.quote(str(FOLDER))}/NAME.py'


def first_lines():
    """Return the first line that each tool says of itself: a dict from names."""
    paths = [path for path in sorted(FOLDER.glob('[a-z]*.py')) if path.stem != NO_PROGRAM]
    sources = {path.stem: ast.parse(path.read_text(encoding='utf-8')) for path in paths}
    return {name: ast.get_docstring(source).split('\n')[0] for name, source in sources.items()}


def main(arguments):
    """Print the list; return the exit status."""
    if arguments not in ([], ['-h'], ['--help']):
        print(f'tools: each tool is a program of its own: {COMMAND}.', file=sys.stderr)
        return 2
    print(f'What can be done with a trained model, by {COMMAND}; --help says more:\n')
    for name, line in first_lines().items():
        print(f'    {name:8}  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
