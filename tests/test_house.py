"""The house: tools call the script, the script calls backstage, and nothing calls upstairs."""

import ast

import pytest
from conftest import ROOT, SCRIPT

BACKSTAGE = sorted((ROOT / 'backstage').glob('*.py'))
TOOLS = sorted((ROOT / 'tools').glob('*.py'))
HIGHER = {'benchmarks', 'tests'}


def imported(path):
    """Return the dotted names of all that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path.name} imports by a relative name'
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('path', [*BACKSTAGE, SCRIPT, *TOOLS], ids=lambda path: path.stem)
def test_imports_run_down_only(path):
    above = HIGHER | {'backstage': {SCRIPT.stem, 'tools'}, 'tools': set()}.get(
        path.parent.name, {'tools'}
    )
    names = imported(path)
    assert not {name.split('.')[0] for name in names} & above
    # A tool imports no other tool.
    assert {name for name in names if name.startswith('tools.')} <= {'tools.trained'}


@pytest.mark.parametrize('room', [path.stem for path in BACKSTAGE if path.stem != '__init__'])
def test_each_room_is_imported_by_somebody(room):
    others = [path for path in [*BACKSTAGE, SCRIPT, *TOOLS] if path.stem != room]
    assert any(f'backstage.{room}' in imported(path) for path in others)
