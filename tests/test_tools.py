"""python -m tools: the list of the tools, and how to start them."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPT, TOOLS

pytest_plugins = 'trained_model'
LONG, pytestmark = pytest.mark.long, pytest.mark.xdist_group('tools')


def call(*words, cwd=ROOT):
    """Run Python; return (exit status, standard output, standard error)."""
    result = subprocess.run(
        [sys.executable, *map(str, words)], check=False, cwd=str(cwd), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


def test_all_tools_are_listed_with_a_description_and_how_to_start_them():
    for words in ('-m', 'tools'), (ROOT / 'tools',):
        status, output, errors = call(*words)
        assert (status, errors) == (0, '')
        first, _, *lines = output.splitlines()
        expected = [[t.__name__.split('.')[1], t.__doc__.split('\n')[0]] for t in TOOLS]
        assert [line.split(None, 1) for line in lines] == expected and len(expected) > 4
        assert f'To run one: {sys.executable} {ROOT}/tools/NAME.py (' in first


@pytest.mark.parametrize('tool', [TOOLS[0], *(pytest.param(t, marks=LONG) for t in TOOLS[1:])])
def test_a_tool_starts_by_its_path_from_any_folder(tool, tmp_path):
    status, output, errors = call(tool.__file__, '--help', cwd=tmp_path)
    assert (status, errors) == (0, '')
    assert output.startswith(f'usage: python -m {tool.__name__} ')
    status, output, errors = call(tool.__file__, cwd=tmp_path)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'in temp. ' in errors


def test_a_tool_uses_the_edited_constants_of_the_script(trained, tmp_path):
    """Here temp_dir has been edited."""
    for name in 'backstage', 'tools', SCRIPT.name:
        copy = shutil.copy if name.endswith('.py') else shutil.copytree
        copy(str(ROOT / name), str(tmp_path / name))
    script = (tmp_path / SCRIPT.name).read_text(encoding='utf-8')
    edited = script.replace("\ntemp_dir = 'temp'  #", "\ntemp_dir = 'temp/edited'  #")
    assert edited != script
    (tmp_path / SCRIPT.name).write_text(edited, encoding='utf-8')
    shutil.copytree(str(trained.temp), str(tmp_path / 'temp' / 'edited'))
    words = ('sample', '--prime_text=the king', '--temperature=0', '--sample_length=30')
    expected = (0, trained.likeliest(trained.best, 'the king', 30) + '\n', '')
    assert call('-m', f'tools.{words[0]}', *words[1:], cwd=tmp_path) == expected
