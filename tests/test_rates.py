"""benchmarks/rates.py: the rows of the table of learning rates."""

import sys

from backstage import saving

import pytest
from conftest import ROOT, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import rates
import rows


def leave_a_run(arguments, rate, loss):
    """Leave what a run has to leave, a history with a held-out loss at its end."""
    folder = rates.folder_of(arguments, rate)
    folder.mkdir(parents=True)
    of_run = saving.History(str(folder), [], [])
    of_run.losses += [2.5] * rates.iterations_of(arguments)
    of_run.held_out_losses.append((len(of_run.losses), loss))
    of_run.append()


def test_a_row_has_the_losses_of_each_rate_and_how_far_the_default_is_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, 'RUNS', tmp_path)
    assert list(rates.measured()) == []
    monkeypatch.setattr(rates, 'RATES', (0.02, 0.03, 0.04))
    leave_a_run('', 0.03, 1.5)
    first = ('the default', '400', '', '1.5000')
    assert list(rates.measured()) == [(*first, '', '0.03: 1.5000', '0.000')]
    leave_a_run('', 0.04, 1.4375)
    leave_a_run('--num_layers=8 --batch_size=25', 0.02, 1.25)
    leave_a_run('--batch_size=200', 0.042, 1.5)  # a rate that only this row is tried with
    leave_a_run('--batch_size=200', 0.02, 1.4)
    assert list(rates.measured()) == [
        (*first, '1.4375', '0.03: 1.5000', '0.062'),
        ('`--num_layers=8 --batch_size=25`', '400', '1.2500', '', '', '0.03', ''),
        ('`--batch_size=200`', '400', '1.4000', '', '', '0.042: 1.5000', '0.100'),
    ]


@pytest.mark.parametrize('arguments', rates.TRIED)
def test_a_row_goes_on_after_the_warm_up_and_has_the_characters_that_it_names(arguments):
    iterations, settings = rates.iterations_of(arguments), parse(*arguments.split())
    assert iterations >= 2 * script.warmup_iterations
    batch = settings.batch_size * settings.training_seq_len
    assert iterations * batch == rates.TRIED[arguments]


def test_a_run_that_did_not_end_has_no_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, 'RUNS', tmp_path)
    leave_a_run('', 0.5, 1.5)
    path = rates.folder_of('', 0.5) / 'history.csv'
    path.write_text(path.read_text().rsplit('\n', 2)[0] + '\n')
    assert rates.held_out_loss('', 0.5) is None


def test_rows_are_chosen_by_their_numbers_and_a_number_that_no_row_has_is_told():
    assert rows.chosen(['a', 'b', 'c'], []) == ['a', 'b', 'c']
    assert rows.chosen(['a', 'b', 'c'], ['2', '0']) == ['c', 'a']
    for wrong in '3', '-1', 'b', '²', '1.0', '':
        with pytest.raises(SystemExit, match=f'no row {wrong}: they are numbered from 0 to 2'):
            rows.chosen(['a', 'b', 'c'], ['0', wrong])
