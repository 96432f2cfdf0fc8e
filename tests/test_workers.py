"""Several workers, as far as one process can test them. `make workers` tests the rest."""

import os
import sys
import types

from backstage import running, tf, workers
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import ROOT, parse, script

LAUNCHERS = 'HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS'


@pytest.fixture
def be(monkeypatch):
    """Return a function that makes this process one of several workers on a host."""

    def be_worker(rank, count, others=None):
        of_all = {'size': count, 'local_size': count, 'rank': rank, 'local_rank': rank}
        functions = {name: lambda value=value: value for name, value in of_all.items()}
        functions['init'] = lambda: None
        functions['allgather_object'] = lambda value, **_: [{**value, **o} for o in others or [{}]]
        monkeypatch.setattr(workers, 'horovod', types.SimpleNamespace(**functions))

    return be_worker


def test_the_shares_of_all_workers_make_up_the_batch(be):
    ids = np.random.RandomState(0).randint(40, size=1000)
    whole = script.read_batch(ids, 6, 10, 3, 2)
    shares = []
    for rank in range(3):
        be(rank, 3)
        shares.append(script.read_batch(ids, 6, 10, 3, 2, workers.rows(6)))
    for part, expected in zip(zip(*shares), whole):
        np.testing.assert_array_equal(np.concatenate(part), expected)


def test_only_the_first_worker_prints(be, capsys):
    for rank in range(3):
        be(rank, 3)
        with workers.together():
            print(f'worker {rank}')
        print(f'after {rank}')
    assert capsys.readouterr().out == 'worker 0\nafter 0\nafter 1\nafter 2\n'


@pytest.mark.parametrize('kind', [tf.errors.UnknownError, tf.errors.AbortedError])
def test_a_tensorflow_error_means_another_worker_ended_only_if_there_is_one(be, kind):
    with pytest.raises(kind), workers.together():
        raise kind(None, None, 'so')
    for rank in range(2):
        be(rank, 2)
        with pytest.raises(UserError, match='another worker has ended'), workers.together():
            raise kind(None, None, 'so')


@pytest.mark.skipif(
    not hasattr(os, 'sched_setaffinity'), reason='only Linux sets the cores of a process'
)
def test_each_worker_keeps_to_its_own_cores_if_there_are_enough():
    cores = os.sched_getaffinity(0)
    taken = []
    for count in 2, 1000:
        for rank in range(2):
            workers.keep_to_cores(rank, count)
            taken.append(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores)
    half = max(1, len(cores) // 2)
    assert [len(one) for one in taken] == [half, half, 1, 1]
    assert (taken[0] & taken[1] == set()) == (len(cores) > 1)


def test_each_worker_has_its_own_gpu_of_the_allowed_ones():
    assert [workers.gpu_of(k, 2, None) for k in range(2)] == ['0', '1']
    assert [workers.gpu_of(k, 2, '5,3,4') for k in range(2)] == ['5', '3']
    assert [workers.gpu_of(k, 2, none) for k in range(2) for none in ('', '-1')] == ['', '-1'] * 2
    with pytest.raises(UserError, match='2 GPUs for 2 workers, got 5'):
        workers.gpu_of(0, 2, '5')


@pytest.mark.parametrize('name', LAUNCHERS)
def test_one_worker_does_not_need_horovod_and_several_do(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'horovod', None)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.chdir(tmp_path)
    for size in '', '1':
        monkeypatch.setenv(name, size)
        workers.join(parse('--batch_size=7'))
        assert workers.count() == 1 and 'CUDA_VISIBLE_DEVICES' not in os.environ
    monkeypatch.setenv(name, '2')
    assert running.run(script.main, ['--text_file=nowhere.txt']) == 2
    errors = capsys.readouterr().err
    assert 'Horovod cannot be used' in errors and errors.count('\n') == 1
    assert f'To install it: make -C {ROOT} horovod.' in errors
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv('HOROVOD_SIZE', '1')  # Horovod's own launcher takes precedence
    assert not workers.is_launched()


def test_workers_may_differ_only_in_paths(be, capsys):
    same = {'temp_dir': '/tmp/elsewhere', 'text_file': 'my.txt', 'data_dir': '~'}
    others = [{}, same, {'seed': 2, 'rnn_size': 24, 'a_later_one': 7}]
    be(0, 3, [{}, same, same])
    workers.compare(parse('--rnn_size=16'))
    be(0, 3, others)
    with pytest.raises(UserError, match=r'a_later_one is 7 or None, rnn_size is 16 or 24, seed is'):
        workers.compare(parse('--rnn_size=16'))
    be(2, 3, others)
    with pytest.raises(SystemExit) as end:  # only the first worker says why
        workers.compare(parse('--rnn_size=16'))
    assert (end.value.code, capsys.readouterr()) == (2, ('', ''))
