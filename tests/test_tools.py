"""python -m tools: which tools there are, and how they are started."""

import subprocess
import sys

import pytest
from conftest import ROOT, TOOLS


def list_tools(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'tools', *arguments], check=False, cwd=str(ROOT),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip


@pytest.mark.parametrize('arguments', [(), ('--help',)])
def test_all_tools_are_listed_with_what_they_say_of_themselves(arguments):
    result = list_tools(*arguments)
    assert (result.returncode, result.stderr) == (0, '')
    listed = [line.split(None, 1) for line in result.stdout.splitlines()[2:]]
    expected = [[t.__name__.split('.')[1], t.__doc__.split('\n')[0]] for t in TOOLS]
    assert listed == expected and len(listed) > 4


@pytest.mark.parametrize('word, name', [('sample', 'sample'), ('train', 'NAME'), ('-x', 'NAME')])
def test_a_tool_that_is_started_in_another_way_gets_a_sentence(word, name):
    result = list_tools(word)
    assert (result.returncode, result.stdout, result.stderr.count('\n')) == (2, '', 1)
    assert f'started as python -m tools.{name}, and' in result.stderr
