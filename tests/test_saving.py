"""Saving and continuing: a run that was stopped ends as one that was not."""

import glob
import os
import random
import resource
import shutil
import signal

from backstage import tf

import pytest
from conftest import content, script, start_script
from runs import ARGUMENTS, finish, run_here, wait_for

pytest_plugins = 'runs'


def test_kills_at_random_moments_leave_a_run_that_ends_the_same(folder, undisturbed):
    moments = random.Random(5)
    for first in (1, 101, 201):  # each later than the one before, and before the end at 376
        process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
        wait_for(process, f'Iteration: {moments.randint(first, first + 99)},')
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert 'Continuing after iteration' in finish(folder, undisturbed)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(begun):
    (data,) = glob.glob(str(begun / 'temp' / 'model-60.data*'))
    os.truncate(data, os.path.getsize(data) // 2)
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'model-60 cannot be used' in output
    assert 'Continuing after iteration 50, from' in output
    # The one that cannot be read is the first to go when there are more than two.
    assert [path.name for path in sorted((begun / 'temp').glob('model-*.index'))] == [
        'model-50.index', 'model-61.index'
    ]  # fmt: skip


@pytest.mark.parametrize('size', [0, 10, 500])
def test_a_damaged_best_model_is_no_matter_and_the_next_one_takes_its_place(begun, size):
    (data,) = glob.glob(str(begun / 'temp' / 'best' / 'model-60.data*'))
    os.truncate(data, size)
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60, from' in output
    best = sorted((begun / 'temp' / 'best').glob('model-*.index'))
    assert [path.name for path in best] == ['model-61.index']


def test_when_no_checkpoint_can_be_read_one_sentence_says_what_to_do(begun):
    for path in glob.glob(str(begun / 'temp' / 'model-*.data*')):
        os.truncate(path, 10)
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'no checkpoint in temp can be used. Begin anew with --restart' in errors


def test_a_finished_run_says_so_and_is_not_trained_on(undisturbed):
    before = content(undisturbed[0] / 'temp')
    status, output, errors = run_here(*ARGUMENTS, cwd=undisturbed[0])
    assert (status, errors) == (0, '')
    assert 'This run is finished, after 376 iterations. To train it further, set epochs' in output
    assert 'Continuing' not in output
    assert content(undisturbed[0] / 'temp') == before


def allow_files_of(process, size):
    """Let a process write no file longer than this, as if the disk were full."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.parametrize('size', [100, 10_000], ids=['the history', 'the checkpoint'])
def test_a_save_that_fails_is_told_and_training_goes_on(folder, undisturbed, size):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 60,')
    allow_files_of(process, size)
    wait_for(process, 'not saved at iteration')
    assert tf.train.latest_checkpoint(str(folder / 'temp'))
    allow_files_of(process, resource.RLIM_INFINITY)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, '')
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


def test_an_end_that_cannot_be_saved_is_an_error_and_the_run_can_go_on(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 60,')
    allow_files_of(process, 10_000)
    _, errors = process.communicate()
    assert (process.returncode, errors.count('\n')) == (2, 1)
    assert 'not saved at iteration' in errors
    assert 'Continuing after iteration 50' in finish(folder, undisturbed)


def test_with_dropout_too_a_run_that_was_stopped_ends_as_one_that_was_not(folder):
    arguments = (*ARGUMENTS, '--keep_prob=0.7', '--save_every=20')
    ends = {}
    for temp, stops in ('once', [60]), ('twice', [33, 60]):
        for stop in stops:
            last = (f'--max_iterations={stop}', '--learning_rate=0.01', '--warmup_iterations=1000')
            status = run_here(*arguments, *last, f'--temp_dir={temp}', cwd=folder)[0]
            assert status == 0
        ends[temp] = content(folder / temp)
    losses = [history['losses'] for history, _ in ends.values()]
    assert losses[0] == losses[1]
    newest = [{name: value for (_, name), value in values.items()} for _, values in ends.values()]
    assert newest[0] == newest[1]


def test_an_older_checkpoint_goes_only_when_the_newer_one_is_on_the_disk(folder, monkeypatch):
    fsync, remove = os.fsync, tf.train.remove_checkpoint
    on_disk, removed = set(), []

    def note_fsync(descriptor):
        fsync(descriptor)
        on_disk.add(os.path.relpath(os.readlink(f'/proc/self/fd/{descriptor}'), str(folder)))

    def note_remove(path):
        removed.append(path)
        where = os.path.dirname(path)
        newest = tf.train.latest_checkpoint(where)
        assert newest != path
        assert {f'{newest}.index', f'{newest}.data-00000-of-00001', where} <= on_disk
        assert 'temp/history.csv' in on_disk
        remove(path)

    monkeypatch.setattr(os, 'fsync', note_fsync)
    monkeypatch.setattr(tf.train, 'remove_checkpoint', note_remove)
    more = ('--max_iterations=40', '--save_every=10')
    assert run_here(*ARGUMENTS, *more, cwd=folder)[0] == 0
    assert removed.count('temp/model-10') == removed.count('temp/model-20') == 1
    assert removed.count('temp/best/model-10') == 1
    assert {'temp', 'temp/best'} <= on_disk


def test_the_best_model_is_the_best_of_those_that_could_be_saved(begun, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=begun)
    wait_for(process, 'Iteration: 61,')
    shutil.rmtree(str(begun / 'temp' / 'best'))
    (begun / 'temp' / 'best').write_text('in the way')
    wait_for(process, 'not saved at iteration 100: ')
    (begun / 'temp' / 'best').unlink()
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, '')
    best = tf.train.latest_checkpoint(str(begun / 'temp' / 'best'))
    reader = tf.train.load_checkpoint(best)
    iteration, loss = (
        reader.get_tensor('lstm_model/global_step'),
        reader.get_tensor('held_out_loss'),
    )
    assert best.endswith(f'model-{iteration}')
    assert f'Best held-out loss, at iteration {iteration}: {loss:.4f} nats' in output
    assert content(begun / 'temp')[1] == content(undisturbed[0] / 'temp')[1]


def test_a_better_model_is_known_as_such_also_where_the_history_is_lost(begun, monkeypatch):
    (begun / 'temp' / 'history.csv').unlink()
    before = sorted(path.name for path in (begun / 'temp' / 'best').iterdir())
    loss = tf.train.load_variable(str(begun / 'temp' / 'best' / 'model-60'), 'held_out_loss')
    monkeypatch.setattr(script, 'measure', lambda *_: [loss + 1e-6])
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert f'Best held-out loss, at iteration 60: {loss:.4f} nats' in output
    assert sorted(path.name for path in (begun / 'temp' / 'best').iterdir()) == before


def test_a_best_model_that_somebody_removed_is_followed_by_the_best_after_it(folder):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 301,')
    shutil.rmtree(str(folder / 'temp' / 'best'))
    (folder / 'temp' / 'history.csv').unlink()
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, '')
    best = tf.train.latest_checkpoint(str(folder / 'temp' / 'best'))
    assert f'Best held-out loss, at iteration {best.rpartition("-")[2]}:' in output
    assert len(content(folder / 'temp')[0]['losses']) == 376


def test_a_best_model_that_somebody_removed_is_not_what_later_ones_are_compared_with(
    begun, monkeypatch
):
    losses = iter([1.0, 2.0, 3.0])

    def measure(*_):
        shutil.rmtree(str(begun / 'temp' / 'best'))
        return [next(losses)]

    monkeypatch.setattr(script, 'measure', measure)
    more = ('--max_iterations=63', '--save_every=1')
    status, output, errors = run_here(*ARGUMENTS, *more, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Best held-out loss, at iteration 63: 3.0000 nats' in output
