"""The house: tools call the script, the script calls backstage, and nothing calls upstairs."""

import ast
import re

import pytest
from conftest import ROOT, SCRIPT

BACKSTAGE = sorted((ROOT / 'backstage').glob('*.py'))
TOOLS = sorted((ROOT / 'tools').glob('*.py'))


def imported(path):
    """Return the first names of all modules that a file imports anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path.name} imports by a relative name'
            modules.add(node.module.split('.')[0])
    return modules


def test_each_storey_is_there():
    assert len(BACKSTAGE) > 8 and len(TOOLS) > 5


@pytest.mark.parametrize('path', BACKSTAGE, ids=lambda path: path.stem)
def test_backstage_imports_neither_the_script_nor_a_tool(path):
    assert not imported(path) & {'stacked_lstm_shakespeare', 'tools', 'benchmarks', 'tests'}


def test_the_script_imports_no_tool():
    assert not imported(SCRIPT) & {'tools', 'benchmarks', 'tests'}
    assert 'backstage' in imported(SCRIPT)


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_a_tool_imports_no_other_program_than_the_script(path):
    assert not imported(path) & {'benchmarks', 'tests'}
    text = path.read_text(encoding='utf-8')
    assert set(re.findall(r'^(?:from|import) tools.*', text, re.M)) <= {'from tools import trained'}
