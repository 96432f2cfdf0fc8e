"""Saving and continuing: a run that was stopped ends as one that was not."""

import glob
import json
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
from conftest import SMALL, content, run_script, script, start_script

tf = script.tf

ARGUMENTS = (*SMALL, '--text_file=short.txt', '--epochs=2', '--save_every=50', '--eval_every=60')


def samples(output):
    return [line for line in output.split('\n') if line.startswith(script.prime_texts[0])]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, works):
    """The folder of a run that nothing stopped, and what it printed."""
    folder = tmp_path_factory.mktemp('undisturbed')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    status, output, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


@pytest.fixture
def folder(tmp_path, undisturbed):
    """A folder with the text of the undisturbed run."""
    (tmp_path / 'short.txt').write_bytes((undisturbed[0] / 'short.txt').read_bytes())
    return tmp_path


def wait_for(process, text):
    """Read the output of a process up to a line that begins so."""
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(f'no line {text}: {process.stderr.read()}')


def finish(folder, undisturbed):
    """Let the run in a folder go on to its end, and compare it with the undisturbed one."""
    status, output, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors) == (0, '')
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')
    assert len(list((folder / 'temp' / 'best').glob('*.index'))) == 1
    drawn, expected = samples(output), samples(undisturbed[1])
    assert drawn == expected[len(expected) - len(drawn) :]
    return output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on_to_the_same_end(folder, undisturbed, number):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 83,')
    process.send_signal(number)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (128 + number, '')
    stopped = int(output.split('Stopped after iteration ')[1].split('.')[0])
    assert stopped >= 83
    assert (folder / 'temp' / 'loss.png').exists()
    assert f'Continuing after iteration {stopped}, from' in finish(folder, undisturbed)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_in_the_middle_of_an_iteration(folder, number):
    """An iteration takes seconds here, and both signals come in its first half."""
    arguments = ('--batch_size=100', '--rnn_size=1000', '--training_seq_len=50', '--log_every=1')
    process = start_script('--text_file=short.txt', *arguments, cwd=folder)
    wait_for(process, 'Iteration: 1,')
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + number, '')
    assert errors == 'stacked_lstm_shakespeare.py: stopped at once.\n'


def test_kills_at_random_moments_leave_a_run_that_ends_the_same(folder, undisturbed):
    moments = random.Random(5)
    for first in (1, 101, 201):  # each later than the one before, and before the end at 376
        process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
        wait_for(process, f'Iteration: {moments.randint(first, first + 99)},')
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert 'Continuing after iteration' in finish(folder, undisturbed)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(folder, undisturbed):
    assert run_script(*ARGUMENTS, '--max_iterations=120', cwd=folder)[0] == 0
    (data,) = glob.glob(str(folder / 'temp' / 'model-120.data*'))
    with open(data, 'r+b') as file:
        file.truncate(os.path.getsize(data) // 2)
    status, output, _ = run_script(*ARGUMENTS, '--max_iterations=121', cwd=folder)
    assert status == 0
    assert 'model-120 cannot be used' in output
    assert 'Continuing after iteration 100, from' in output


def test_a_history_that_ends_before_the_newest_checkpoint_leaves_the_one_before(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=60', cwd=folder)[0] == 0
    path = folder / 'temp' / 'history.json'
    history = json.loads(path.read_text())
    history['losses'] = history['losses'][:55]
    path.write_text(json.dumps(history))
    status, output, _ = run_script(*ARGUMENTS, '--max_iterations=61', cwd=folder)
    assert status == 0
    assert 'model-60 cannot be used: history.json ends before it' in output
    assert 'Continuing after iteration 50, from' in output


def test_what_a_killed_run_began_to_write_is_cleared_away(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    temp = folder / 'temp'
    data = 'model-40.data-00000-of-00001.tempstate123'
    left = [temp / data, temp / 'best' / data, temp / 'checkpoint.tmp0123456789abcdef']
    left += [temp / 'history.json.host.123.part', temp / 'text.ids.host.1.part', temp / 'my.1.part']
    for path in left:
        path.write_text('{"lo')
    assert run_script(*ARGUMENTS, '--max_iterations=31', cwd=folder)[0] == 0
    assert [path.exists() for path in left] == [False, False, False, False, False, True]


def test_when_no_checkpoint_can_be_read_one_sentence_says_what_to_do(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=60', cwd=folder)[0] == 0
    for path in glob.glob(str(folder / 'temp' / 'model-*.data*')):
        os.truncate(path, 10)
    status, _, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert '--restart' in errors


@pytest.mark.parametrize(
    'argument, words',
    [
        ('--rnn_size=24', ['rnn_size is 24', '--rnn_size=16']),
        ('--seed=7', ['seed is 7', '--seed=1']),
        ('--held_out=0.1', ['held_out is 0.1', '--held_out=0.05']),
    ],
)
def test_a_setting_that_does_not_fit_is_named_with_both_values(undisturbed, argument, words):
    before = content(undisturbed[0] / 'temp')
    status, _, errors = run_script(*ARGUMENTS, argument, cwd=undisturbed[0])
    assert (status, errors.count('\n')) == (2, 1)
    assert all(word in errors for word in [*words, '--restart']), errors
    assert content(undisturbed[0] / 'temp') == before


def test_a_run_with_mixed_precision_does_not_go_on_without(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    path = folder / 'temp' / 'settings.json'
    text = path.read_text()
    assert '"mixed_precision": false' in text
    path.write_text(text.replace('"mixed_precision": false', '"mixed_precision": true'))
    status, _, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'mixed_precision is False, and the run in temp has --mixed_precision=True' in errors


def test_what_is_refused_leaves_the_ids_of_the_run_as_they_are(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    ids = (folder / 'temp' / 'text.ids').read_bytes()
    (folder / 'other.txt').write_text('so it begins ' * 2000)
    for argument in '--seed=7', '--text_file=other.txt':
        status, output, _ = run_script(*ARGUMENTS, argument, cwd=folder)
        assert status == 2
        assert ('Vocabulary' in output) == (argument != '--seed=7')  # settings are compared first
        assert (folder / 'temp' / 'text.ids').read_bytes() == ids
        assert not list((folder / 'temp').glob('*.part'))


def test_another_text_is_refused(undisturbed, tmp_path):
    text = (undisturbed[0] / 'short.txt').read_bytes()
    (tmp_path / 'other.txt').write_bytes(text.replace(b'e', b'o', 1))
    arguments = (*ARGUMENTS, f'--text_file={tmp_path}/other.txt')
    status, _, errors = run_script(*arguments, cwd=undisturbed[0])
    assert (status, errors.count('\n')) == (2, 1)
    assert 'and the run in temp has learned another, short.txt, of' in errors


def test_a_finished_run_says_so_and_is_not_trained_on(undisturbed):
    before = content(undisturbed[0] / 'temp')
    status, output, errors = run_script(*ARGUMENTS, cwd=undisturbed[0])
    assert (status, errors) == (0, '')
    assert 'This run ended after 376 iterations. More epochs go on from there' in output
    assert 'Continuing' not in output
    assert content(undisturbed[0] / 'temp') == before


def test_a_setting_that_came_later_than_a_run_does_not_stop_it(folder):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    path = folder / 'temp' / 'settings.json'
    record = json.loads(path.read_text())
    del record['mixed_precision']
    path.write_text(json.dumps(record))
    output = run_script(*ARGUMENTS, '--max_iterations=31', cwd=folder)[1]
    assert 'Continuing after iteration 30' in output
    path.write_text(json.dumps(record))
    status, output, errors = run_script('--sample', '--prime_text=so', cwd=folder)
    assert (status, errors, output[:2]) == (0, '', 'so')


@pytest.mark.parametrize('name', ['seed', 'training_seq_len', 'clean_text'])
def test_a_run_whose_settings_have_lost_one_does_not_go_on_with_another(name, folder):
    assert run_script(*ARGUMENTS, '--max_iterations=3', cwd=folder)[0] == 0
    path = folder / 'temp' / 'settings.json'
    record = json.loads(path.read_text())
    del record[name]
    path.write_text(json.dumps(record))
    status, _, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the settings in temp are damaged. Train anew, with --restart' in errors


def test_all_settings_that_do_not_fit_are_named_at_once(undisturbed):
    arguments = [a for a in ARGUMENTS if not a.startswith(('--batch_size', '--rnn_size'))]
    status, _, errors = run_script(*arguments, cwd=undisturbed[0])
    assert (status, errors.count('\n')) == (2, 1)
    assert 'rnn_size is 128, batch_size is 100, and the run in temp has' in errors
    assert 'has --rnn_size=16 --batch_size=8. Give that' in errors


def test_restart_begins_anew_and_keeps_the_earlier_run(folder, undisturbed):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    earlier = content(folder / 'temp')
    status, output, errors = run_script(*ARGUMENTS, '--restart', cwd=folder)
    assert (status, errors) == (0, '')
    (aside,) = (folder / 'temp').glob('earlier-*')
    assert f'The earlier run is now in temp/{aside.name}' in output
    assert content(aside) == earlier
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


def test_restart_without_an_earlier_run_just_begins(folder):
    status, output, errors = run_script(*ARGUMENTS, '--restart', '--max_iterations=3', cwd=folder)
    assert (status, errors) == (0, '')
    assert 'earlier' not in output


def test_a_run_that_ended_before_its_first_held_out_loss_is_reported_all_the_same(folder):
    process = start_script(*ARGUMENTS, '--save_every=1000', '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 5,')
    process.send_signal(signal.SIGINT)
    process.communicate()
    status, output, errors = run_script(*ARGUMENTS, '--max_iterations=2', cwd=folder)
    assert (status, errors) == (0, '')
    assert 'This run ended after' in output
    assert 'Final loss' in output and 'held-out loss' not in output


def test_a_lock_that_its_owner_removes_at_the_last_moment_is_made_again(tmp_path, monkeypatch):
    """Between opening the file and locking it, the run that had it may end and remove it."""
    flock, path = script.fcntl.flock, tmp_path / 'lock'
    removals = [path.unlink, lambda: None]

    def flock_late(*arguments):
        removals.pop(0)()
        return flock(*arguments)

    monkeypatch.setattr(script.fcntl, 'flock', flock_late)
    os.close(script.lock(str(path)))
    assert not removals
    assert path.read_text() == str(os.getpid())


def test_a_second_run_in_the_same_folder_is_refused_and_a_lock_left_behind_is_not(folder):
    first = start_script(*ARGUMENTS, '--epochs=1000', cwd=folder)
    wait_for(first, 'Starting Epoch')
    status, _, errors = run_script(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert f'process number {first.pid}' in errors
    first.kill()
    first.communicate()
    assert run_script(*ARGUMENTS, '--max_iterations=3', cwd=folder)[0] == 0


def test_a_loss_that_is_no_number_stops_the_run_with_advice(folder, monkeypatch, settings):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    steps = iter([2.0] * 11 + [float('nan')])
    train_step = script.train_step
    monkeypatch.setattr(
        script, 'train_step', lambda *a, **k: (next(steps), *train_step(*a, **k)[1:])
    )
    settings.text_file, settings.rnn_size, settings.training_seq_len = 'short.txt', 8, 10
    settings.save_every = 10
    with pytest.raises(script.UserError, match=r'nan .*at iteration 12.*--restart'):
        script.train(settings, script.ALONE)
    assert tf.train.latest_checkpoint(settings.temp_dir).endswith('model-10')


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


def test_a_plot_that_cannot_be_drawn_is_told_and_no_more(folder, undisturbed):
    (folder / 'temp' / 'loss.png').mkdir(parents=True)
    assert 'The plot was not drawn' in finish(folder, undisturbed)


def test_what_is_left_of_a_run_without_its_checkpoints_is_moved_aside(folder, undisturbed):
    assert run_script(*ARGUMENTS, '--max_iterations=30', cwd=folder)[0] == 0
    for path in (folder / 'temp').glob('model-*'):
        path.unlink()
    (folder / 'temp' / 'photo.png').write_bytes(b'not of a run')
    assert 'The earlier run is now in' in finish(folder, undisturbed)
    assert (folder / 'temp' / 'photo.png').exists()


def test_progress_is_that_of_the_checkpoint_where_the_history_is_ahead(folder, undisturbed):
    assert run_script(*ARGUMENTS, '--max_iterations=75', cwd=folder)[0] == 0
    path = folder / 'temp' / 'history.json'
    history = json.loads(path.read_text())
    history['losses'] += [9.0] * 10
    history['held_out_losses'].append([85, 0.1])
    path.write_text(json.dumps(history))
    output = run_script(*ARGUMENTS, '--max_iterations=76', cwd=folder)[1]
    assert 'Continuing after iteration 75' in output
    losses = json.loads(path.read_text())['losses']
    np.testing.assert_array_equal(losses[:75], history['losses'][:75])
    assert len(losses) == 76


def test_with_dropout_too_a_run_that_was_stopped_ends_as_one_that_was_not(folder):
    arguments = (*ARGUMENTS, '--keep_prob=0.7', '--save_every=20')
    ends = {}
    for temp, stops in ('once', [60]), ('twice', [33, 60]):
        for stop in stops:
            last = (f'--max_iterations={stop}', '--learning_rate=0.01', '--warmup_iterations=1000')
            status = run_script(*arguments, *last, f'--temp_dir={temp}', cwd=folder)[0]
            assert status == 0
        ends[temp] = content(folder / temp)
    losses = [history['losses'] for history, _ in ends.values()]
    assert losses[0] == losses[1]
    newest = [{name: value for (_, name), value in values.items()} for _, values in ends.values()]
    assert newest[0] == newest[1]
