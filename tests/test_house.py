"""The house: tools import the script, the script imports backstage, and never the reverse."""

import ast

import pytest
from conftest import ROOT, SCRIPT

BACKSTAGE = sorted((ROOT / 'backstage').glob('*.py'))
FILES = [*BACKSTAGE, SCRIPT, *sorted((ROOT / 'tools').glob('*.py'))]


def imported(path):
    """Return the dotted names of everything that a file imports, in functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path.name} imports by a relative name'
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_imports_only_run_down_and_each_room_is_used(path):
    above = {'backstage': {SCRIPT.stem, 'tools'}, 'tools': set()}.get(path.parent.name, {'tools'})
    names = imported(path)
    assert not {name.split('.')[0] for name in names} & {*above, 'benchmarks', 'tests'}
    # A tool imports no other tool.
    assert {name for name in names if name.startswith('tools.')} <= {'tools.trained'}
    if path in BACKSTAGE and path.stem != '__init__':
        others = [other for other in FILES if other != path]
        assert any(f'backstage.{path.stem}' in imported(other) for other in others)
