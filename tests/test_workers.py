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


class WatchedText(np.ndarray):
    """A text that remembers which of its characters were read."""

    def __getitem__(self, places):
        self.read.update(np.unique(places))
        return np.asarray(self)[places]


def test_a_worker_reads_its_own_part_of_the_text_and_no_more():
    parts = []
    for number in range(3):
        ids = np.arange(2000).view(WatchedText)
        ids.read = set()
        for batch in range(script.batches_per_epoch(len(ids), 6, 10)):
            script.read_batch(ids, 6, 10, 3, batch, worker(number, 3).rows(6))
        parts.append(ids.read)
    for part, following in zip(parts, parts[1:]):
        assert len(part) == max(part) - min(part) + 1 == 2 * 330 + 1
        assert len(part & following) == 1  # the last target is the first character of the next


def test_a_worker_alone_has_all_and_shares_with_nobody():
    assert script.ALONE.is_first_on_host()
    assert list(range(100))[script.ALONE.rows(100)] == list(range(100))
    assert script.ALONE.mean([1.0, 2.0]) == script.ALONE.told([1.0, 2.0]) == [1.0, 2.0]
    assert script.ALONE.gathered(1.0) == [1.0]


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


def test_each_worker_has_a_gpu_of_its_own_of_those_that_are_allowed():
    assert [script.gpu_of(k, 2, None) for k in range(2)] == ['0', '1']
    assert [script.gpu_of(k, 2, '5,3,4') for k in range(2)] == ['5', '3']
    assert [script.gpu_of(k, 2, none) for k in range(2) for none in ('', '-1')] == ['', '-1'] * 2
    with pytest.raises(script.UserError, match='is 5, and 2 workers need as many GPUs'):
        script.gpu_of(0, 2, '5')


@pytest.mark.parametrize('name', ['HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'])
@pytest.mark.parametrize('size', ['', '1'])
def test_one_worker_is_alone_whoever_starts_it(monkeypatch, name, size):
    monkeypatch.setenv(name, size)
    assert script.join_workers() is script.ALONE


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
