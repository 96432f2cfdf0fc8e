"""A kill or a disk failure, at any call that changes files, loses nothing.

These tests try some of the calls; benchmarks/torture.py tries all.
"""

import sys

import moments
import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group('moments'),
    pytest.mark.skipif(sys.platform != 'linux', reason='it needs LD_PRELOAD and /proc'),
]
EVERY = {'kill': 25, 'full': 70, 'fail': 70}


@pytest.fixture(scope='module', autouse=True)
def servers():
    moments.start_servers()


@pytest.mark.parametrize('name', moments.SCENARIOS)
def test_after_a_kill_or_a_failure_the_same_command_ends_as_usual(name, tmp_path):
    scenario = moments.Scenario(name, tmp_path)
    numbers = scenario.moments()
    problems = [
        (how, scenario.calls[number], problem)
        for how in moments.HOW
        for number, _, problem in moments.try_all(scenario, how, numbers[:: EVERY[how]])
        if problem
    ]
    assert problems == []


def test_the_library_notices_each_kind_of_call(tmp_path):
    """With a library that counts no calls, the other tests could not fail."""
    calls = moments.Scenario('another seed', tmp_path).calls
    for call in 'open', 'write', 'write, second half', 'fwrite', 'fsync', 'rename', 'unlink':
        assert any(one.startswith(f'{call} temp/') for one in calls)
