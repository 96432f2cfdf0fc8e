"""List the tools: what `python -m tools` does."""

import ast
import os
import shlex
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
NO_PROGRAM = 'trained'  # what others import


def first_lines():
    """Return the first line that each tool says of itself: a dict from names."""
    lines = {}
    for name, ending in map(os.path.splitext, sorted(os.listdir(FOLDER))):
        if ending == '.py' and not name.startswith('_') and name != NO_PROGRAM:
            with open(os.path.join(FOLDER, name + ending), encoding='utf-8') as source:
                lines[name] = ast.get_docstring(ast.parse(source.read())).split('\n')[0]
    return lines


def main(arguments):
    """Print the list; return the exit status."""
    tools, python = first_lines(), shlex.quote(sys.executable)
    wrong = [word for word in arguments if word not in ('-h', '--help')]
    if wrong:
        name = wrong[0] if wrong[0] in tools else 'sample'
        path = shlex.quote(os.path.join(FOLDER, f'{name}.py'))
        print(f'tools: a tool is a program of its own, such as {python} {path}.', file=sys.stderr)
        return 2
    path = shlex.quote(os.path.join(FOLDER, 'NAME.py'))
    print(f'What can be done with a trained model, by {python} {path}; --help says more:\n')
    width = max(map(len, tools))
    for name, line in tools.items():
        print(f'    {name:{width}}  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
