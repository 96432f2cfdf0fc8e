"""The losses of a run: kept as they come, and a run goes on without them."""

import math
import os

from backstage import history
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import content
from conftest import history as kept
from runs import ARGUMENTS, run_here

pytest_plugins = 'runs'

LOSSES = [3.5, 2.25, 1.1, 0.1 + 0.2]


@pytest.fixture
def folder_of_four(tmp_path):
    history.Writer(str(tmp_path), LOSSES, [(2, 2.5), (4, 1.0 / 3)])
    return tmp_path


def test_the_file_is_a_table_that_a_spreadsheet_reads(folder_of_four):
    assert (folder_of_four / 'history.csv').read_text() == (
        'iteration,loss,held_out_loss\n1,3.5,\n2,2.25,2.5\n3,1.1,\n'
        '4,0.30000000000000004,0.3333333333333333\n'
    )


def test_what_is_read_is_what_was_written_to_the_last_bit(folder_of_four):
    losses, held_out_losses = history.read(str(folder_of_four))
    assert list(losses) == LOSSES
    assert held_out_losses == [(2, 2.5), (4, 1.0 / 3)]
    losses, held_out_losses = history.read(str(folder_of_four), 3)
    assert (list(losses), held_out_losses) == (LOSSES[:3], [(2, 2.5)])


def test_a_run_that_goes_on_has_its_losses_at_every_moment(folder_of_four, monkeypatch):
    """Whatever is killed while it begins: the file is replaced whole, or not at all."""
    before = (folder_of_four / 'history.csv').read_bytes()
    replace, seen = os.replace, []

    def note(source, target):
        seen.append((folder_of_four / 'history.csv').read_bytes())
        replace(source, target)
        seen.append((folder_of_four / 'history.csv').read_bytes())

    monkeypatch.setattr(os, 'replace', note)
    history.Writer(str(folder_of_four), LOSSES, [(2, 2.5), (4, 1.0 / 3)])
    assert seen == [before, before]


def test_only_what_is_new_is_written(tmp_path):
    losses, held_out_losses = [1.0] * 5000, []
    writer = history.Writer(str(tmp_path), losses, held_out_losses)
    path = tmp_path / 'history.csv'
    before = path.read_bytes()
    os.truncate(str(path), len(before) - 20)  # the lines before the last one are not touched
    path.write_bytes(path.read_bytes() + b'x' * 20)
    losses += [2.0, 3.0]
    writer.append()
    assert path.read_bytes()[: len(before) - 20] == before[: len(before) - 20]
    assert path.read_bytes().endswith(b'\n5001,2.0,\n5002,3.0,\n')
    size = path.stat().st_size
    held_out_losses.append((5002, 2.5))  # measured after it was saved
    writer.append()
    assert path.read_bytes().endswith(b'\n5001,2.0,\n5002,3.0,2.5\n')
    assert path.stat().st_size == size + 3
    losses.append(4.0)
    writer.append()
    assert path.read_bytes().endswith(b'\n5002,3.0,2.5\n5003,4.0,\n')


@pytest.mark.parametrize('left', [None, 0, 40])
def test_what_somebody_removed_from_it_is_written_again(tmp_path, left):
    losses, held_out_losses = [1.0, 2.0, 3.0], [(2, 2.5)]
    writer = history.Writer(str(tmp_path), losses, held_out_losses)
    path = tmp_path / 'history.csv'
    if left is None:
        path.unlink()
    else:
        os.truncate(str(path), left)
    losses.append(4.0)
    writer.append()
    expected = {'losses': [1.0, 2.0, 3.0, 4.0], 'held_out_losses': [[2, 2.5]]}
    assert kept(tmp_path) == expected


def test_what_could_not_be_written_whole_is_written_again(tmp_path, monkeypatch):
    losses = [1.0]
    writer = history.Writer(str(tmp_path), losses, [])
    losses += [2.0, 3.0]

    def fail(_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as full, pytest.raises(OSError):
        full.setattr(os, 'fsync', fail)
        writer.append()
    losses.append(4.0)
    writer.append()
    assert kept(tmp_path)['losses'] == [1.0, 2.0, 3.0, 4.0]


DAMAGED = {  # what is done to the file, and which losses of four are known then
    'cut in a number': (lambda data: data[:-25], [1, 2, 3]),
    'without its head': (lambda data: data.split(b'\n', 1)[1], [1, 2, 3, 4]),
    'without a line': (lambda data: data.replace(b'3,1.1,\n', b''), [1, 2, 4]),
    'words in it': (lambda data: data.replace(b'2.25', b'low'), [1, 3, 4]),
    'bytes of another kind': (lambda data: data.replace(b'2,2.25', b'\xff\0\xfe'), [1, 3, 4]),
    'a line too long': (lambda data: data.replace(b'2,2.25,', b'2,2.25,,,'), [1, 3, 4]),
    'numbers out of place': (lambda data: data.replace(b'3,1.1', b'9' * 5000 + b',1.1'), [1, 2, 4]),
    'nothing': (lambda data: b'', []),
    'zeros, as after a power cut': (lambda data: b'\0' * len(data), []),
}


@pytest.mark.parametrize('damage', DAMAGED)
def test_of_a_damaged_file_all_is_read_that_can_be(folder_of_four, damage):
    path = folder_of_four / 'history.csv'
    change, known = DAMAGED[damage]
    path.write_bytes(change(path.read_bytes()))
    losses, _ = history.read(str(folder_of_four), 4)
    expected = [loss if i in known else math.nan for i, loss in enumerate(LOSSES, start=1)]
    np.testing.assert_array_equal(losses, expected)


def test_a_folder_without_a_history_is_told(tmp_path):
    with pytest.raises(UserError, match=r'there is no history of a run in .*\. Give '):
        history.read(str(tmp_path))


def test_a_run_goes_on_without_its_history_and_with_its_losses_unknown(begun, undisturbed):
    (begun / 'temp' / 'history.csv').unlink()
    status, output, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'There is no history.csv to be read. The losses so far are unknown\n' in output
    assert 'Continuing after iteration 60' in output
    ended, whole = kept(begun / 'temp'), kept(undisturbed[0] / 'temp')
    assert np.isnan(ended['losses'][:60]).all()
    assert ended['losses'][60:] == whole['losses'][60:]
    assert ended['held_out_losses'] == whole['held_out_losses'][1:]
    assert content(begun / 'temp')[1] == content(undisturbed[0] / 'temp')[1]


def test_a_run_goes_on_with_what_is_left_of_its_history(begun):
    path = begun / 'temp' / 'history.csv'
    before = kept(begun / 'temp')
    path.write_bytes(path.read_bytes()[:-200])
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    lost = int(output.split(' of the losses so far cannot be read')[0].split('\n')[-1])
    after = kept(begun / 'temp')
    assert 0 < lost < 20
    assert after['losses'][: 60 - lost] == before['losses'][: 60 - lost]
    assert np.isnan(after['losses'][60 - lost : 60]).all()
    assert math.isfinite(after['losses'][60])


def test_lines_after_the_newest_checkpoint_are_of_what_was_lost_with_it(begun, undisturbed):
    with open(str(begun / 'temp' / 'history.csv'), 'a') as file:
        file.writelines(f'{i},9.0,0.1\n' for i in range(61, 80))
    status, output, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60' in output
    ended, whole = kept(begun / 'temp'), kept(undisturbed[0] / 'temp')
    assert ended['losses'] == whole['losses']
    assert [one for one in ended['held_out_losses'] if one[0] != 60] == whole['held_out_losses']


@pytest.mark.parametrize(
    'losses, patience, stalled',
    [
        ([], 1, False),
        ([2.0], 1, False),
        ([2.0, 1.0], 1, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 1.0], 1, True),  # as good is not better
        ([1.0, 2.0, 0.9], 1, False),
        ([1.0, 2.0, 3.0], 2, True),
        ([3.0, 1.0, 2.0], 2, False),
        ([1.0, 2.0, 0.9], 2, False),
        ([1.0, 2.0, 1.5, 1.4], 3, True),  # the best counts, not the one before
        ([1.0, 2.0, 3.0], 3, False),
        ([1.0, 2.0, 3.0], 0, False),
    ],
)
def test_a_run_has_stalled_when_so_many_saves_brought_no_better_loss(losses, patience, stalled):
    at_saves = [(10 * (k + 1), loss) for k, loss in enumerate(losses)]
    assert history.has_stalled(at_saves, patience, 10) == stalled
    # What was measured at the end of an earlier part does not count.
    assert history.has_stalled([*at_saves, (10 * len(losses) + 5, 9.0)], patience, 10) == stalled
