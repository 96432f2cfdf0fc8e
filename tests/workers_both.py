"""Several workers on TensorFlow 1.15 and on a 2.x: each resumes runs of the other.

`make workers-both` names the two Pythons in ONE and TWO.
"""

import os
import signal

import pytest
import workers
from conftest import end, history, start_script

PYTHONS = {name: os.path.abspath(os.environ[name]) for name in ('ONE', 'TWO')}
make_folder, folder = workers.make_folder, workers.folder  # fixtures


def start(name, count, folder):
    """Start `count` workers with a Python, as a user would."""
    python, arguments = PYTHONS[name], workers.ARGUMENTS
    if count == 1:
        return start_script(*arguments, cwd=folder, python=[python])
    return workers.start(*arguments, cwd=folder, count=count, python=python)


@pytest.fixture(scope='module')
def alone(make_folder):
    """The folder of a run of one worker on 1.15."""
    folder = make_folder()
    assert end(start('ONE', 1, folder))[0] == 0
    return folder


@pytest.mark.parametrize('before, now', [(2, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize('first, then', [('ONE', 'TWO'), ('TWO', 'ONE')])
def test_a_run_resumes_on_the_other_to_the_same_end(folder, alone, first, then, before, now):
    process = start(first, before, folder)
    workers.wait_for_save(folder)
    process.send_signal(signal.SIGTERM)
    end(process)
    kept = history(folder / 'temp')['losses']
    assert 100 <= len(kept) < 200
    status, output, _ = end(start(then, now, folder))
    assert status == 0, output
    assert f'Resuming after iteration {len(kept)}' in output
    assert history(folder / 'temp')['losses'][: len(kept)] == kept
    workers.assert_same_to_rounding(alone, folder)
