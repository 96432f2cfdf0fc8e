"""Several workers, as far as one process can tell. The rest is in workers.py: `make workers`."""

import os
import sys

import numpy as np
import pytest
from conftest import script


def worker(number, count):
    workers = script.Workers()
    workers.number, workers.count = number, count
    return workers


def test_the_shares_of_all_workers_together_are_the_batch():
    ids = np.random.RandomState(0).randint(40, size=1000)
    whole = script.read_batch(ids, 6, 10, 3, 2)
    shares = [script.read_batch(ids, 6, 10, 3, 2, worker(k, 3).rows(6)) for k in range(3)]
    for part, expected in zip(zip(*shares), whole):
        np.testing.assert_array_equal(np.concatenate(part), expected)


def test_a_worker_alone_has_all_and_shares_with_nobody():
    assert script.ALONE.is_first_on_host()
    assert list(range(100))[script.ALONE.rows(100)] == list(range(100))
    for share in script.ALONE.mean, script.ALONE.total, script.ALONE.whole, script.ALONE.told:
        assert share([1.0, 2.0]) == [1.0, 2.0]


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='only Linux keeps to cores')
def test_workers_keep_to_cores_of_their_own_as_far_as_there_are_enough():
    cores = os.sched_getaffinity(0)
    taken = []
    for count in 2, 1000:
        for number in range(2):
            script.keep_to_cores(number, count)
            taken.append(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores)
    half = max(1, len(cores) // 2)
    assert [len(one) for one in taken] == [half, half, 1, 1]
    assert (taken[0] & taken[1] == set()) == (len(cores) > 1)


def test_without_horovod_there_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('HOROVOD_SIZE', '2')
    monkeypatch.setitem(sys.modules, 'horovod', None)
    monkeypatch.chdir(tmp_path)
    assert script.main([]) == 2
    errors = capsys.readouterr().err
    assert 'Horovod cannot be used' in errors
    assert 'make horovod installs it.' in errors
    assert errors.count('\n') == 1
    assert not list(tmp_path.iterdir())
