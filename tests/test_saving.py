"""Saving and resuming: a resumed run ends like an uninterrupted one, and nothing is lost."""

import contextlib
import json
import math
import os
import resource
import shutil

from backstage import folder as folders
from backstage import saving, tf
from backstage.settings import UserError

import numpy as np
import pytest
from conftest import IX2VOCAB, content, parse, script, start_script
from conftest import history as kept
from runs import ARGUMENTS, finish, run_here, wait_for

pytest_plugins = 'runs'
pytestmark = pytest.mark.xdist_group('runs')

STILL = ('--max_iterations=1', '--warmup_iterations=0', '--learning_rate=1e-9')  # learns nothing
AVERAGE = '/ExponentialMovingAverage'


def go_on(begun, *arguments):
    """Resume a run in this process; return its output."""
    status, output, errors = run_here(*ARGUMENTS, *arguments, cwd=begun)
    assert (status, errors) == (0, '')
    return output


def damage(temp, pattern, size=100):
    """Truncate files of a run, as a full disk does."""
    paths = list(temp.glob(pattern))
    assert paths
    for path in paths:
        os.truncate(str(path), size)


def models(temp):
    return sorted(str(path.relative_to(temp))[:-6] for path in temp.rglob('*.index'))


# --- Resuming a run ------------------------------------------------------------------------------


@pytest.mark.long
def test_with_dropout_too_a_resumed_run_ends_like_an_uninterrupted_one(folder):
    rates = ('--learning_rate=0.01', '--warmup_iterations=1000')
    arguments = (*rates, '--keep_prob=0.7', '--save_every=20')
    ends = {}
    for temp, stops in ('once', [45]), ('twice', [33, 45]):
        for stop in stops:
            go_on(folder, *arguments, f'--max_iterations={stop}', f'--temp_dir={temp}')
        ends[temp] = content(folder / temp)
    losses = [history['losses'] for history, _ in ends.values()]
    assert losses[0] == losses[1]
    newest = [{name: value for (_, name), value in values.items()} for _, values in ends.values()]
    assert newest[0] == newest[1]


@pytest.mark.long
def test_a_moved_run_resumes_and_names_the_changed_settings(begun):
    (begun / 'temp').rename(begun / 'moved')
    (begun / 'short.txt').rename(begun / 'moved.txt')
    how = ('--text_file=moved.txt', '--temp_dir=moved', '--weight_decay=0', '--max_iterations=61')
    output = go_on(begun, *how)
    assert 'Resuming after iteration 60, from moved/model-60\nChanged since then: ' in output
    assert 'weight_decay is 0.0 (was 0.1)' in output
    assert 'max_iterations is 61 (was 60)' in output
    assert folders.read_record(str(begun / 'moved'))['weight_decay'] == 0


# --- Which checkpoint is read --------------------------------------------------------------------


def shapes_in(temp):
    every = tf.train.load_checkpoint(str(temp / 'model-60')).get_variable_to_shape_map()
    return {name: shape for name, shape in every.items() if name.endswith((AVERAGE, '_step'))}


def run_id_of(temp):
    return folders.read_record(str(temp))['run_id']


def read(temp, shapes, **how):
    """Read the newest checkpoint; return (path, iteration)."""
    path, values = saving.read_newest(str(temp), shapes, run_id_of(temp), **how)
    return os.path.relpath(path, str(temp)), int(values['lstm_model/global_step'])


@pytest.mark.parametrize('size', [0, 500])
@pytest.mark.parametrize(
    'damaged, newest, best',
    [
        ([], 'model-60', 'best/model-60'),
        (['model-60.data*'], 'best/model-60', 'best/model-60'),
        (['model-60.index'], 'best/model-60', 'best/model-60'),
        (['best/*.data*'], 'model-60', 'model-60'),
        (['model-60.data*', 'best/*.data*'], 'model-50', 'model-50'),
        (['model-??.index'], 'best/model-60', 'best/model-60'),  # killed in the first save
    ],
)
def test_the_newest_readable_checkpoint_is_used_and_reported(
    begun, capsys, damaged, newest, best, size
):
    shapes = shapes_in(begun / 'temp')
    for pattern in damaged:
        damage(begun / 'temp', pattern, size)
    assert read(begun / 'temp', shapes) == (newest, int(newest[-2:]))
    told = capsys.readouterr().out
    assert ('temp/model-60 cannot be used: ' in told) == (newest != 'model-60')
    assert told.endswith(f'Using {begun}/temp/{newest}\n' if newest != 'model-60' else '')
    assert read(begun / 'temp', shapes, best_first=True) == (best, int(best[-2:]))


def test_a_corrupt_checkpoint_is_not_used_and_without_any_the_error_helps(begun):
    temp, shapes = begun / 'temp', shapes_in(begun / 'temp')
    (path,) = temp.glob('model-60.data*')
    data = np.fromfile(str(path), np.uint8)
    data[100::500] ^= 1
    data.tofile(str(path))
    assert read(temp, shapes)[0] == 'best/model-60'
    damage(temp, '**/model-*.data*')
    with pytest.raises(UserError, match=r'model-60 cannot be used: .*\. No other checkpoint can '):
        read(temp, shapes)
    for path in temp.rglob('*.index'):
        path.unlink()
    with pytest.raises(UserError, match='there is no model in '):
        read(temp, shapes)


@pytest.mark.parametrize('change', [{'lstm_model/W': [16, 41]}, {'lstm_model/W2': []}, 'cell_1'])
def test_a_checkpoint_of_another_shape_is_refused(begun, change):
    every = tf.train.load_checkpoint(str(begun / 'temp' / 'model-60')).get_variable_to_shape_map()
    if change == 'cell_1':  # one layer less
        every = {name: shape for name, shape in every.items() if change not in name}
    else:
        every.update(change)
    with pytest.raises(UserError, match='cannot be used: its model has different layers'):
        saving.read_newest(str(begun / 'temp'), every, run_id_of(begun / 'temp'))


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_looked_up_again(
    begun, monkeypatch, capsys
):
    real, temp = saving.read_checkpoint, begun / 'temp'
    shapes = shapes_in(temp)

    def read_late(path, shapes, run_id):
        if path.endswith('model-60'):
            for old in temp.rglob('model-60.*'):
                old.unlink()
            for new in begun.glob('model-50.*'):
                new.rename(temp / new.name)
        return real(path, shapes, run_id)

    for path in temp.glob('model-50.*'):
        path.rename(begun / path.name)
    monkeypatch.setattr(saving, 'read_checkpoint', read_late)
    assert read(temp, shapes) == ('model-50', 50)
    assert capsys.readouterr().out == ''


def test_a_run_resumes_from_an_earlier_checkpoint_to_the_same_end(begun):
    (history, values), path = content(begun / 'temp'), begun / 'temp' / 'history.csv'
    damage(begun / 'temp', '**/model-60.data*')
    path.write_bytes(path.read_bytes().replace(b'\n7,', b'\nx,') + b'61,9.0,0.1\n62,9.0,')
    output = go_on(begun, '--max_iterations=60')  # without the damage it would be finished
    assert 'temp/model-60 cannot be used: ' in output
    assert 'Resuming after iteration 50, from temp/model-50' in output
    assert '\n1 of the losses so far cannot be read\n' in output
    after, values_after = content(begun / 'temp')
    assert values_after == values
    assert math.isnan(after['losses'][6])
    after['losses'][6] = history['losses'][6]
    assert after == history
    assert models(begun / 'temp') == ['best/model-60', 'model-50', 'model-60']


# --- Damage, and files of another run ------------------------------------------------------------


def with_a_bit_turned(data):
    """For each byte, yield the data with one bit of that byte flipped."""
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        yield bytes(changed)


def test_no_flipped_bit_changes_what_is_read_of_a_run(begun):
    temp = begun / 'temp'

    def read_again():
        record = folders.read_record(str(temp))
        return record, folders.read_vocabulary(str(temp), record)

    expected = read_again()
    for name in 'settings.json', 'vocabulary.json':
        whole = (temp / name).read_bytes()
        for damaged in with_a_bit_turned(whole):
            (temp / name).write_bytes(damaged)
            with contextlib.suppress(UserError):  # "is damaged"
                assert read_again() == expected
        (temp / name).write_bytes(whole)
    assert folders.describe_change(str(temp)) == ''
    for damaged in with_a_bit_turned((temp / 'history.csv').read_bytes()):
        (temp / 'history.csv').write_bytes(damaged)
        assert 'history.csv has changed since' in folders.describe_change(str(temp))


def test_an_edited_history_is_reported_and_used_as_it_is(begun):
    path = begun / 'temp' / 'history.csv'
    path.write_bytes(path.read_bytes().replace(b'\n7,', b'\n7,1').replace(b'\n', b'\r\n'))
    edited = kept(begun / 'temp')['losses']
    told = 'history.csv has changed since the run wrote it (edited or damaged). Using it as is\n'
    assert told in go_on(begun, '--max_iterations=61')
    assert kept(begun / 'temp')['losses'][:60] == edited
    assert told not in go_on(begun, '--max_iterations=62')


def test_a_checkpoint_of_another_run_of_the_same_shape_is_skipped(begun, capsys):
    shutil.copytree(str(begun), str(begun / 'other'))
    go_on(begun / 'other', '--max_iterations=60', '--restart')
    temp, other = begun / 'temp', begun / 'other' / 'temp'
    assert run_id_of(temp) != run_id_of(other)
    for path in [*other.glob('model-60.*'), *other.glob('best/model-60.*')]:
        shutil.copy(str(path), str(temp / path.relative_to(other)))
    assert read(temp, shapes_in(temp))[0] == 'model-50'
    told = f'{temp}/model-60 cannot be used: it belongs to another run. Using {temp}/model-50\n'
    assert capsys.readouterr().out == told
    assert 'Best held-out loss, at iteration 61: ' in go_on(begun, '--max_iterations=61')


@pytest.mark.parametrize('number', [60, 70])
def test_a_checkpoint_with_the_name_of_another_iteration_is_skipped(begun, capsys, number):
    temp = begun / 'temp'
    for path in temp.glob('model-50.*'):
        shutil.copy(str(path), str(temp / path.name.replace('-50', f'-{number}')))
    shutil.rmtree(str(temp / 'best'))
    assert read(temp, shapes_in(temp))[0] == ('model-50' if number == 60 else 'model-60')
    assert f'model-{number} cannot be used: it is from iteration 50. ' in capsys.readouterr().out


def test_a_checkpoint_with_a_wrong_name_does_not_count_as_progress(begun):
    for path in (begun / 'temp').glob('model-60.*'):
        (begun / 'temp' / path.name.replace('60', '99999999')).write_bytes(path.read_bytes())
    output = go_on(begun, '--max_iterations=61', '--learning_rate=0.01')
    assert 'Resuming after iteration 60, from temp/model-60' in output
    assert 'learning_rate is 0.01 (was 0.0)' in output


def test_a_damaged_vocabulary_is_rewritten_even_in_a_finished_run(begun):
    path = begun / 'temp' / 'vocabulary.json'
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"b"', b'"c"'))
    for told in True, False:
        output = go_on(begun, '--max_iterations=60')
        assert ('temp/vocabulary.json was damaged' in output) == told
        assert path.read_bytes() == whole


# --- Saves ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_an_old_checkpoint_is_removed_only_after_the_new_one_is_on_disk(folder, monkeypatch):
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
        assert any(name.startswith('temp/history.csv') for name in on_disk)  # its .part
        if removed.count(path) == 1:  # a failed removal does not fail the save, and is retried
            raise PermissionError(path)
        remove(path)

    monkeypatch.setattr(os, 'fsync', note_fsync)
    monkeypatch.setattr(tf.train, 'remove_checkpoint', note_remove)
    output = go_on(folder, '--max_iterations=40', '--save_every=10')
    assert 'not saved' not in output
    assert removed.count('temp/model-10') == removed.count('temp/best/model-10') == 2
    assert models(folder / 'temp') == [
        'best/model-30', 'best/model-40', 'model-20', 'model-30', 'model-40'
    ]  # fmt: skip
    assert {'temp', 'temp/best'} <= on_disk


def allow_files_of(process, size):
    """Limit the size of files that a process writes, as if the disk were full."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.long
@pytest.mark.parametrize('size', [100, 10_000], ids=['the history', 'the checkpoint'])
def test_a_failed_save_is_reported_and_training_continues(folder, undisturbed, size):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 60,')
    allow_files_of(process, size)
    wait_for(process, 'not saved at iteration')
    allow_files_of(process, resource.RLIM_INFINITY)
    assert list((folder / 'temp').glob('model-*.index'))
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, '')
    assert content(folder / 'temp') == content(undisturbed[0] / 'temp')


@pytest.mark.long
def test_a_failed_last_save_is_an_error_and_the_run_can_resume(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 60,')
    allow_files_of(process, 10_000)
    _, errors = process.communicate()
    assert (process.returncode, errors.count('\n')) == (2, 1)
    assert 'not saved at iteration' in errors
    assert 'Resuming after iteration 50' in finish(folder, undisturbed)


def test_the_best_model_is_the_best_on_the_disk(begun, monkeypatch):
    """Also if a best model was removed or could not be saved, and without the history."""
    temp, known = begun / 'temp', {}
    (temp / 'history.csv').unlink()
    before = float(tf.train.load_variable(str(temp / 'best' / 'model-60'), 'held_out_loss'))
    losses = {60: before + 1e-6, 61: before + 1e-6, 62: 2.0, 63: 3.0, 64: 1.0, 65: 2.0}
    iterations = iter(losses)

    def measure(*_):
        iteration = next(iterations)
        known[iteration] = [name for name in models(temp) if name.startswith('best')]
        if iteration in (62, 64):
            shutil.rmtree(str(temp / 'best'))
        if iteration == 64:
            (temp / 'best').write_text('in the way')
        if iteration == 65:
            (temp / 'best').unlink()
        return [losses[iteration]]

    monkeypatch.setattr(script, 'measure', measure)
    output = go_on(begun, '--max_iterations=65', '--save_every=1')
    assert '60 of the losses so far cannot be read\n' in output
    assert 'not saved at iteration 64: ' in output
    assert 'Best held-out loss, at iteration 65: 2.0000 nats' in output
    assert [known[i] for i in (61, 62, 63)] == [['best/model-60']] * 2 + [['best/model-62']]
    assert models(temp) == ['best/model-65', 'model-63', 'model-65']
    ended = kept(temp)
    assert np.isnan(ended['losses'][:60]).all() and np.isfinite(ended['losses'][60:]).all()
    assert ended['held_out_losses'] == [list(one) for one in losses.items()]


@pytest.mark.long
def test_text_ids_cut_during_training_are_an_error_and_the_run_can_resume(folder, undisturbed):
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    wait_for(process, 'Iteration: 60,')
    os.truncate(str(folder / 'temp' / 'text.ids'), 100)
    _, errors = process.communicate()
    assert (process.returncode, errors.count('\n')) == (2, 1)
    assert 'temp/text.ids was truncated while in use. Run the same command again' in errors
    assert 'Resuming after iteration 50' in finish(folder, undisturbed)


# --- The history ---------------------------------------------------------------------------------

LOSSES = [3.5, 2.25, 1.1, 0.1 + 0.2]
HELD_OUT = [(2, 2.5), (4, 1.0 / 3)]


@pytest.fixture
def four(tmp_path):
    folders.write_history(str(tmp_path), {}, LOSSES, HELD_OUT)
    return tmp_path


def test_the_history_is_csv_and_keeps_every_bit(four):
    assert (four / 'history.csv').read_text() == (
        'iteration,loss,held_out_loss\n1,3.5,\n2,2.25,2.5\n3,1.1,\n'
        '4,0.30000000000000004,0.3333333333333333\n'
    )
    losses, held_out_losses = saving.read_history(str(four))
    assert (list(losses), held_out_losses) == (LOSSES, HELD_OUT)
    losses, held_out_losses = saving.read_history(str(four), 3)
    assert (list(losses), held_out_losses) == (LOSSES[:3], HELD_OUT[:1])


@pytest.mark.parametrize('moment', ['before', 'after'])
def test_a_save_while_the_history_is_read_is_not_reported_as_an_edit(four, monkeypatch, moment):
    more = {**dict.fromkeys(folders.COUNTS, 1), 'unseen': [], 'history_crcs': []}
    folders.write_record(str(four), {**vars(parse()), **more})
    record, read = folders.read_record(str(four)), folders.crc_of_history
    folders.write_history(str(four), record, LOSSES, HELD_OUT)

    def read_meanwhile(folder):
        monkeypatch.undo()
        found = read(folder)
        folders.write_history(folder, record, [1.0], [])
        return found if moment == 'before' else read(folder)

    monkeypatch.setattr(folders, 'crc_of_history', read_meanwhile)
    assert folders.describe_change(str(four)) == ''
    (four / 'history.csv').write_text('edited')
    assert folders.describe_change(str(four))


DAMAGED = {  # how the file is damaged, and which of the four losses can still be read
    'torn in a number': (lambda data: data[:-25], [1, 2, 3]),
    'torn in the last number': (lambda data: data[:-5], [1, 2, 3]),
    'without its head': (lambda data: data.split(b'\n', 1)[1], [1, 2, 3, 4]),
    'saved by a spreadsheet': (lambda data: data.replace(b'\n', b'\r\n'), [1, 2, 3, 4]),
    'without a line': (lambda data: data.replace(b'3,1.1,\n', b''), [1, 2, 4]),
    'bytes of another kind': (lambda data: data.replace(b'2,2.25', b'\xff\0\xfe'), [1, 3, 4]),
    'numbers out of place': (lambda data: data.replace(b'3,1.1', b'9' * 5000 + b',1.1'), [1, 2, 4]),
    'lines of what was lost': (lambda data: data + b'5,9.0,0.1\n', [1, 2, 3, 4]),
    'zeros, as after a power cut': (lambda data: b'\0' * len(data), []),
}


@pytest.mark.parametrize('damage', DAMAGED)
def test_everything_readable_in_a_damaged_history_is_read(four, damage):
    change, known = DAMAGED[damage]
    (four / 'history.csv').write_bytes(change((four / 'history.csv').read_bytes()))
    losses, held_out_losses = saving.read_history(str(four), 4)
    expected = [loss if i in known else math.nan for i, loss in enumerate(LOSSES, start=1)]
    np.testing.assert_array_equal(losses, expected)
    assert held_out_losses == [one for one in HELD_OUT if one[0] in known]


@pytest.mark.parametrize('make', [lambda path: None, os.mkfifo, os.mkdir])
def test_a_folder_without_a_history_is_reported(tmp_path, make):
    make(str(tmp_path / 'history.csv'))
    with pytest.raises(UserError, match=r'no history of a run in .* Use a different folder'):
        saving.read_history(str(tmp_path))


# --- init_from -----------------------------------------------------------------------------------


def weights(checkpoint, suffix=''):
    """Return the trainable variables of a checkpoint, or their averages: a dict by name."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    shapes = reader.get_variable_to_shape_map()
    # The variables of an average have the name of the model twice.
    names = {n.split('lstm_model/')[-1][: -len(AVERAGE)]: n for n in shapes if n.endswith(AVERAGE)}
    return {
        name: reader.get_tensor(long if suffix else f'lstm_model/{name}')
        for name, long in names.items()
    }


def test_a_run_begins_with_the_averaged_weights_of_another_runs_best_model(begun):
    """The new text has capitals and other characters that the clean vocabulary lacks."""
    text = (begun / 'short.txt').read_text().upper()[:9000]
    (begun / 'new.txt').write_text(text + '\N{GREEK SMALL LETTER ALPHA}', encoding='utf-8')
    how = (*STILL, '--text_file=new.txt', '--clean_text=False', '--min_word_freq=1', '--seed=2')
    output = go_on(begun, *how, '--init_from=temp', '--temp_dir=next')
    assert 'Starting from the weights of temp/best/model-60\n' in output
    go_on(begun, *how, '--temp_dir=fresh')
    ix2vocab = json.loads((begun / 'next' / 'vocabulary.json').read_text())
    new = [symbol for symbol in ix2vocab if symbol not in IX2VOCAB]
    assert {'A', '\n', '\N{GREEK SMALL LETTER ALPHA}'} < set(new) and len(new) > 26
    assert f'Symbols not in that model: {len(new)}, {"".join(new)!r}\n' in output
    theirs = weights(begun / 'temp' / 'best' / 'model-60', AVERAGE)
    fresh = weights(begun / 'fresh' / 'model-1')
    for suffix in '', AVERAGE:
        ours = weights(begun / 'next' / 'model-1', suffix)
        assert set(ours) == set(theirs) == set(fresh) and len(ours) == 7
        for ix, symbol in enumerate(ix2vocab):
            there = IX2VOCAB.index(symbol) if symbol in IX2VOCAB else ix
            known = fresh if symbol in new else theirs
            for name, axis in ('embedding_mat', 0), ('W', 1), ('b', 0):
                one, other = ours[name].take(ix, axis), known[name].take(there, axis)
                np.testing.assert_allclose(one, other, atol=1e-6)
        for name in set(ours) - {'embedding_mat', 'W', 'b'}:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)
            assert abs(ours[name] - fresh[name]).max() > 0.01
