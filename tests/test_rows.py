"""benchmarks/: the tables of short runs (rows.py, rates.py, advice.py)."""

import sys

import pytest
from conftest import ROOT, SMALL, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import advice
import rates
import rows
import shared


@pytest.mark.parametrize('table', [rates.table(), advice.table()])
def test_each_run_has_a_folder_of_its_own_and_settings_that_the_script_takes(table, tmp_path):
    runs = [(row, column) for row, columns in table.items() for column in columns]
    folders = {rows.folder_of(tmp_path, *run) for run in runs}
    assert len(folders) == len(runs) and {folder.parent for folder in folders} == {tmp_path}
    for row, column in runs:
        parse(*table[row][column].split())


def test_of_each_rate_a_row_has_the_loss_and_how_far_the_default_is_behind(monkeypatch):
    monkeypatch.setattr(rates, 'RATES', (0.02, 0.03, 0.04))
    losses = {0.03: {'held_out': [2.5, 1.5]}, 0.04: {'held_out': [1.4375]}}
    cells = 'the default', '400', '', '1.5000', '1.4375', '0.03: 1.5000', '0.062'
    assert rates.as_cells('', losses) == cells
    losses = {0.042: {'held_out': [1.5]}, 0.02: {'held_out': [1.4]}}  # the default of it alone
    cells = '`--batch_size=200`', '400', '1.4000', '', '', '0.042: 1.5000', '0.100'
    assert rates.as_cells('--batch_size=200', losses) == cells
    assert all(iterations >= 2 * script.warmup_iterations for iterations in rates.TRIED.values())


def test_of_each_dropout_a_row_has_the_loss_at_the_end_and_the_best_before_it():
    found = {1: {'held_out': [2.0, 1.5, 1.625]}, 0.85: {'held_out': [2.25, 2.0, 1.5625]}}
    assert advice.as_cells((1_000_000, 128, 2500), found) == (
        '1,000,000', '128', '2.5', '2,500', '6.9', '2.8',
        '1.6250 (was 1.5000)', '', '**1.5625**', '', '',
    )  # fmt: skip


@pytest.mark.long
def test_what_is_missing_is_trained_on_each_core_and_kept(tmp_path, short_text, capfd):
    same = [*SMALL, f'--text_file={short_text}', '--save_every=2']
    table = {n: {'': f'--max_iterations={n}'} for n in (2, 4)}
    found = rows.train(tmp_path, [shared.SCRIPT], table, same, ['1'])
    assert list(found) == [4] and found[4]['']['iterations'] == [2, 4]
    assert len(found[4]['']['held_out']) == 2
    rows.note(tmp_path / 'found.json', '4', {'held_out': [9]})
    found = rows.train(tmp_path, [shared.SCRIPT], table, same, measure=lambda folder: {'more': 1})
    assert found[4][''] == {'held_out': [9]} and found[2]['']['more'] == 1
    capfd.readouterr()
    table = {n: {'': '--text_file=nowhere.txt'} for n in range(3)}
    with pytest.raises(SystemExit) as end:  # one that fails ends the program as the script ended
        rows.train(tmp_path / 'none', [shared.SCRIPT], table)
    assert end.value.code == 2 and 'nowhere.txt' in capfd.readouterr().err
    assert rows.found(tmp_path / 'none', table) == {}
