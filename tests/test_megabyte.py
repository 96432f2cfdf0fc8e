"""benchmarks/megabyte.py: what is measured of a text of about a megabyte."""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT, lstm_losses, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import megabyte

pytest_plugins = 'trained_model'


@pytest.mark.parametrize('size', [5, 64])
def test_in_windows_the_memory_is_empty_at_the_begin_of_each(trained, size):
    ids = np.fromfile(str(trained.temp / 'text.ids'), np.uint8)
    ids = ids[script.held_out_begin(len(ids), script.held_out) :]
    count = (len(ids) - 1) // size
    assert count > 1
    x, y = (ids[begin : begin + count * size].reshape(count, size) for begin in (0, 1))
    losses, _ = lstm_losses(trained.lstm(trained.best), x, y, np.zeros((3, 2, count, 16)))
    for streams in 2, 200:
        loss = megabyte.measure_windows(trained.temp, size, streams)
        assert loss == pytest.approx(losses.mean(), rel=1e-5)


def test_each_run_has_a_folder_of_its_own_and_a_row_once_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(megabyte, 'RUNS', tmp_path)
    folders = [megabyte.folder_of('my.txt', arguments) for arguments in megabyte.TRIED]
    assert len(set(folders)) == len(folders)
    folders[1].mkdir(parents=True)
    found = {'seconds': 1234.5, 'cores': 2, 'training': 1.25, 'held_out': 1.5, 'best': 1.375}
    (folders[1] / 'found.json').write_text(json.dumps({**found, 'windows': [1.75, 1.625]}))
    time, losses = '1,234 s, 2 core(s)', ('1.5000', '1.3750', '1.2500', '1.7500', '1.6250')
    assert list(megabyte.rows_of('my')) == [('my', f'`{megabyte.TRIED[1]}`', time, *losses)]


def test_a_run_that_fails_ends_the_program_as_the_script_ended(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(megabyte, 'RUNS', tmp_path)
    with pytest.raises(SystemExit) as end:
        megabyte.main(str(tmp_path / 'none.txt'), '0')
    assert end.value.code == 2
    assert capfd.readouterr().err.count('\n') == 1
