"""List the tools: what `python -m tools` does."""

import ast
import pathlib
import shlex
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
NO_PROGRAM = 'trained'  # what the others import


def first_lines():
    """Return the first line that each tool says of itself: a dict from names."""
    paths = [path for path in sorted(FOLDER.glob('[a-z]*.py')) if path.stem != NO_PROGRAM]
    sources = {path.stem: ast.parse(path.read_text(encoding='utf-8')) for path in paths}
    return {name: ast.get_docstring(source).split('\n')[0] for name, source in sources.items()}


def main(arguments):
    """Print the list; return the exit status."""
    tools = first_lines()
    wrong = [word for word in arguments if word not in ('-h', '--help')]
    name = 'NAME'
    if wrong:
        name = wrong[0] if wrong[0] in tools else 'sample'
    command = ' '.join(map(shlex.quote, [sys.executable, str(FOLDER / f'{name}.py')]))
    if wrong:
        print(f'tools: a tool is a program of its own, such as {command}.', file=sys.stderr)
        return 2
    print(f'What can be done with a trained model, by {command}; --help says more:\n')
    width = max(map(len, tools))
    for name, line in tools.items():
        print(f'    {name:{width}}  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
