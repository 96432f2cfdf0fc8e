"""Moments: a run that is killed, or whose disk fails, at any call, loses nothing.

Some of them; benchmarks/torture.py tries all.
"""

import sys

import moments
import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group('moments'),
    pytest.mark.skipif(sys.platform != 'linux', reason='it takes LD_PRELOAD and /proc'),
]
EVERY = {'kill': 25, 'full': 70, 'fail': 70}


@pytest.fixture(scope='module', autouse=True)
def servers():
    moments.start_servers()


@pytest.mark.parametrize('name', moments.SCENARIOS)
def test_the_same_command_again_ends_as_if_nothing_had_happened(name, tmp_path):
    scenario = moments.Scenario(name, tmp_path)
    numbers = scenario.moments()
    problems = [
        (how, scenario.calls[number], problem)
        for how in moments.HOW
        for number, _, problem in moments.try_all(scenario, how, numbers[:: EVERY[how]])
        if problem
    ]
    assert problems == []


def test_every_scenario_renames_and_writes_at_moments_that_are_tried(tmp_path):
    """A library that counts nothing would find nothing."""
    calls = moments.Scenario('another seed', tmp_path).calls
    for call in 'open', 'write', 'write, second half', 'fwrite', 'fsync', 'rename', 'unlink':
        assert any(one.startswith(f'{call} temp/') for one in calls)
