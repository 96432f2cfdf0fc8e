"""benchmarks/rates.py: the rows of the table of learning rates."""

import sys

from backstage import history

import pytest
from conftest import ROOT, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import rates
import rows


def leave_a_run(arguments, rate, loss):
    """Leave what a run has to leave, a history with a held-out loss at its end."""
    folder = rates.folder_of(arguments, rate)
    folder.mkdir(parents=True)
    of_run = history.Writer(str(folder), [], [])
    of_run.losses += [2.5] * rates.iterations_of(arguments)
    of_run.held_out_losses.append((len(of_run.losses), loss))
    of_run.append()


def test_a_row_has_the_losses_of_each_rate_and_how_far_the_default_is_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, 'RUNS', tmp_path)
    assert list(rates.measured()) == []
    monkeypatch.setattr(rates, 'RATES', (0.25, 0.5, 0.75))
    monkeypatch.setattr(script, 'learning_rate', 0.5)
    leave_a_run('', 0.5, 1.5)
    assert list(rates.measured()) == [('the default', '400', '', '1.5000', '', '0.000')]
    leave_a_run('', 0.75, 1.4375)
    leave_a_run('--num_layers=8 --batch_size=25', 0.25, 1.25)
    assert list(rates.measured()) == [
        ('the default', '400', '', '1.5000', '1.4375', '0.062'),
        ('`--num_layers=8 --batch_size=25`', '400', '1.2500', '', '', ''),
    ]


@pytest.mark.parametrize('arguments', rates.TRIED)
def test_a_row_goes_on_after_the_warm_up_and_has_the_characters_that_it_names(arguments):
    iterations = rates.iterations_of(arguments)
    batch = rates.value_of(arguments, 'batch_size') * rates.value_of(arguments, 'training_seq_len')
    assert iterations >= 2 * script.warmup_iterations
    assert iterations * batch == rates.TRIED[arguments]


def test_a_run_that_did_not_end_has_no_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, 'RUNS', tmp_path)
    leave_a_run('', 0.5, 1.5)
    path = rates.folder_of('', 0.5) / 'history.csv'
    path.write_text(path.read_text().rsplit('\n', 2)[0] + '\n')
    assert rates.held_out_loss('', 0.5) is None


def test_the_default_rate_is_among_those_that_are_tried():
    assert script.learning_rate in rates.RATES


def test_rows_are_chosen_by_their_numbers_and_a_number_that_no_row_has_is_told():
    assert rows.chosen(['a', 'b', 'c'], []) == ['a', 'b', 'c']
    assert rows.chosen(['a', 'b', 'c'], ['2', '0']) == ['c', 'a']
    for wrong in '3', '-1', 'b', '²', '1.0', '':
        with pytest.raises(SystemExit, match=f'no row {wrong}: they are numbered from 0 to 2'):
            rows.chosen(['a', 'b', 'c'], ['0', wrong])
