"""benchmarks/: the tables of short runs (rows.py, rates.py, advice.py, megabyte.py)."""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT, SMALL, lstm_losses, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import advice
import megabyte
import rates
import rows

pytest_plugins = 'trained_model'


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """The folder of the runs, an empty one."""
    for module in advice, megabyte, rates:
        monkeypatch.setattr(module, 'RUNS', tmp_path / 'runs')
    return tmp_path / 'runs'


def leave(folder, *held_out, **found):
    """Leave what a run has to leave."""
    folder.mkdir(parents=True)
    (folder / 'found.json').write_text(json.dumps({**found, 'held_out': held_out}))


def test_rows_are_chosen_by_their_numbers_and_a_number_that_no_row_has_is_told():
    assert rows.chosen(['a', 'b', 'c'], []) == ['a', 'b', 'c']
    assert rows.chosen(['a', 'b', 'c'], ['2', '0']) == ['c', 'a']
    for wrong in '3', '-1', 'b', '²', '1.0', '':
        with pytest.raises(SystemExit, match=f'no row {wrong}: they are numbered from 0 to 2'):
            rows.chosen(['a', 'b', 'c'], ['0', wrong])


def test_each_run_has_a_folder_of_its_own(runs):
    of_rates = [folder for one in rates.TRIED for folder in rates.runs_of(one).values()]
    of_advice = [advice.folder_of(one) for row in advice.TRIED for one in advice.runs_of(*row)]
    of_megabyte = [rows.folder_of(runs, one) for one in megabyte.TRIED]
    for folders in of_rates, of_advice, of_megabyte:
        assert len(set(folders)) == len(folders)
        assert {folder.parent for folder in folders} == {runs}


def test_of_each_rate_a_row_has_the_loss_and_how_far_the_default_is_behind(monkeypatch):
    assert list(rates.measured()) == []
    monkeypatch.setattr(rates, 'RATES', (0.02, 0.03, 0.04))
    few, many = '--num_layers=8 --batch_size=25', '--batch_size=200'
    for arguments, rate, loss in (
        *(('', 0.03, 1.5), ('', 0.04, 1.4375), (few, 0.02, 1.25)),
        *((many, 0.042, 1.5), (many, 0.02, 1.4)),  # 0.042: the default of that row alone
    ):
        leave(rates.runs_of(arguments)[rate], 2.5, loss)
    assert list(rates.measured()) == [
        ('the default', '400', '', '1.5000', '1.4375', '0.03: 1.5000', '0.062'),
        (f'`{few}`', '400', '1.2500', '', '', '0.03', ''),
        (f'`{many}`', '400', '1.4000', '', '', '0.042: 1.5000', '0.100'),
    ]


def test_each_row_of_rates_goes_on_after_the_warm_up_and_has_the_characters_that_it_names():
    for arguments, characters in rates.TRIED.items():
        iterations, settings = rates.iterations_of(arguments), parse(*arguments.split())
        assert iterations >= 2 * script.warmup_iterations
        assert iterations * settings.batch_size * settings.training_seq_len == characters


def test_of_each_dropout_a_row_has_the_loss_at_the_end_and_the_best_before_it():
    assert list(advice.measured()) == []
    for size, rnn_size, iterations, keep_prob, losses in (
        (1_000_000, 128, 2500, 1, (2.0, 1.5, 1.625)),
        (1_000_000, 128, 2500, 0.85, (2.25, 2.0, 1.5625)),
        (300_000, 256, 800, 1, (2.25, 2.0)),
    ):
        runs = advice.runs_of(size, rnn_size, iterations)
        (one,) = [arguments for arguments in runs if arguments.endswith(f'={keep_prob}')]
        leave(advice.folder_of(one), *losses)
    assert list(advice.measured()) == [
        ('1,000,000', '128', '2.5', '2,500', '6.9', '2.8',
         '1.6250 (was 1.5000)', '', '**1.5625**', '', ''),
        ('300,000', '256', '0.2', '800', '7.4', '37.5', '**2.0000**', '', '', '', ''),
    ]  # fmt: skip


def test_the_texts_are_whole_lines_from_the_beginning_of_the_works(runs, monkeypatch):
    monkeypatch.setattr(advice, 'works', lambda: b'To be, or not to be\n' * 200_000)
    advice.leave_texts()
    for size, *_ in advice.TRIED:
        assert (runs / f'{size}.txt').read_bytes() == b'To be, or not to be\n' * (size // 20)


def test_a_text_of_a_megabyte_has_a_row_once_it_was_measured(runs):
    found = {'seconds': 1234.5, 'cores': 2, 'training': 1.25, 'windows': [1.75, 1.625]}
    leave(rows.folder_of(runs / 'my', megabyte.TRIED[1]), 1.375, 1.5, **found)
    time, losses = '1,234 s, 2 core(s)', ('1.5000', '1.3750', '1.2500', '1.7500', '1.6250')
    assert list(megabyte.measured()) == [('my', f'`{megabyte.TRIED[1]}`', time, *losses)]


@pytest.mark.long
def test_what_is_missing_is_trained_on_each_core_and_kept(runs, short_text, capfd):
    how = [rates.SCRIPT, *SMALL, f'--text_file={short_text}', '--save_every=2']
    jobs = {runs / f'{n}': [*how, f'--max_iterations={n}'] for n in (2, 4)}
    rows.train_missing(jobs)
    assert [len(rows.found_in(folder)['held_out']) for folder in jobs] == [1, 2]
    (runs / '2' / 'found.json').write_text('{"held_out": [9]}')
    rows.train_missing(jobs)
    assert rows.found_in(runs / '2')['held_out'] == [9]
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:  # one that fails ends the program as the script ended
        rows.train(runs / 'none', [rates.SCRIPT, '--text_file=nowhere.txt'], {0})
    assert end.value.code == 2 and capfd.readouterr().err.count('\n') == 1
    assert rows.found_in(runs / 'none') == {}


@pytest.mark.long
@pytest.mark.parametrize('size', [5, 64])
def test_in_windows_the_memory_is_empty_at_the_beginning_of_each(trained, size):
    ids = np.fromfile(str(trained.temp / 'text.ids'), np.uint8)
    ids = ids[script.held_out_begin(len(ids), script.held_out) :]
    count = (len(ids) - 1) // size
    assert count > 1
    x, y = (ids[begin : begin + count * size].reshape(count, size) for begin in (0, 1))
    losses, _ = lstm_losses(trained.lstm(trained.best), x, y, np.zeros((3, 2, count, 16)))
    for streams in 2, 200:
        loss = megabyte.measure_windows(trained.temp, size, streams)
        assert loss == pytest.approx(losses.mean(), rel=1e-5)
