"""tools.trained: opening a trained model, damaged or not."""

import contextlib
import os
import re
import shutil
import zlib

import tools.trained
from backstage import folder as folders
from backstage import tf
from backstage.settings import UserError
from tools import plot, sample

import numpy as np
import pytest
from conftest import (
    IX2VOCAB,
    SMALL,
    answer,
    change,
    encode,
    parse,
    run_script,
    start_script,
    start_tool,
)

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')

LIKELIEST = ('--prime_text=to be or', '--temperature=0', '--sample_length=40')


def test_a_chosen_checkpoint_is_used_and_no_other_replaces_it(copy, use):
    expected = copy.likeliest(copy.older, 'to be or', 40) + '\n'
    assert expected != copy.likeliest(copy.best, 'to be or', 40) + '\n'
    for ending in '', '.index', '.data-00000-of-00001':
        chosen = f'--checkpoint={copy.older}{ending}'
        assert use(sample, copy, *LIKELIEST, chosen) == (0, expected, '')
    os.truncate(str(copy.folder / f'{copy.older}.data-00000-of-00001'), 10)
    for chosen, problem in (copy.older, f'{copy.older} cannot be used'), ('x', 'no checkpoint x.'):
        status, output, errors = use(sample, copy, f'--checkpoint={chosen}')
        assert (status, output, errors.count('\n')) == (2, '', 1)
        assert problem in errors and 'Set checkpoint to another' in errors


@pytest.mark.long
def test_the_untrained_model_has_the_first_weights_of_training(tmp_path, works):
    (tmp_path / 'text.txt').write_bytes(works[:20_000])
    more = ('--text_file=text.txt', '--max_iterations=1', '--learning_rate=1e-9', '--seed=5')
    assert run_script(*SMALL, *more, cwd=tmp_path)[::2] == (0, '')
    run, ix2vocab = tools.trained.read_run(str(tmp_path / 'temp'))
    reader = tf.train.load_checkpoint(str(tmp_path / 'temp' / 'model-1'))
    with tools.trained.untrained(run, len(ix2vocab), 'auto') as (session, sampler):
        weights = {w.op.name: w for w in sampler.embedding_mat.graph.get_collection('variables')}
        assert len(weights) == 9
        for name, value in session.run(weights).items():
            np.testing.assert_allclose(value, reader.get_tensor(name), 0, 1e-8, err_msg=name)


@pytest.mark.parametrize('damage', ['cut', 'link'])
def test_if_the_best_model_cannot_be_read_the_newest_is_used_and_reported(copy, use, damage):
    if damage == 'cut':
        os.truncate(str(copy.folder / f'{copy.best}.data-00000-of-00001'), 10)
    else:
        (copy.folder / f'{copy.best}.index').unlink()
        (copy.folder / f'{copy.best}.index').symlink_to('nowhere')
    status, output, errors = use(sample, copy, *LIKELIEST)
    assert (status, output) == (0, copy.likeliest(copy.newest, 'to be or', 40) + '\n')
    assert re.fullmatch(f'{copy.best} cannot be used: .* Using {copy.newest}\n', errors)


@pytest.mark.parametrize(
    'content, words',
    [
        ('["a", ', 'temp/vocabulary.json cannot be read: it is damaged'),
        ('[' * 100_000, 'temp/vocabulary.json cannot be read: it is damaged'),
        ('["unknown", "a", "b"]', 'the vocabulary in temp is damaged'),
    ],
)
def test_a_damaged_vocabulary_is_reported(record, content, words):
    (record / 'vocabulary.json').write_text(content)
    with pytest.raises(UserError, match=words):
        tools.trained.read_run('temp')


@pytest.fixture
def record(trained, tmp_path, monkeypatch):
    """A copy of the record of a trained model, in the folder temp."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'temp').mkdir()
    for name in 'settings.json', 'vocabulary.json':
        shutil.copy(str(trained.temp / name), 'temp')
    return tmp_path / 'temp'


@pytest.mark.parametrize('make', [os.mkfifo, lambda path: os.symlink(path, path)])
def test_a_pipe_or_a_link_in_place_of_the_settings_is_reported(record, make):
    (record / 'settings.json').unlink()
    make(str(record / 'settings.json'))
    with pytest.raises(UserError, match=r'temp/settings\.json cannot be read: '):
        tools.trained.read_run('temp')


def test_a_newer_setting_has_its_default_and_a_copied_pipe_is_the_text(record):
    change(record, text_file='elsewhere/text.txt', new='x', average_decay=None)
    run, ix2vocab = tools.trained.read_run('temp')
    assert (run.average_decay, run.rnn_size, ix2vocab) == (0.99, 16, IX2VOCAB)
    assert set(vars(run)) == {*vars(parse()), *folders.BESIDES}
    assert run.text_file == 'elsewhere/text.txt'
    (record / 'text.txt').write_text('a copy')
    assert tools.trained.read_run('temp')[0].text_file == 'temp/text.txt'


@pytest.mark.parametrize('ending', ['index', 'data-00000-of-00001'])
def test_a_pipe_in_place_of_a_checkpoint_is_refused_without_waiting(copy, ending):
    path = copy.folder / f'{copy.best}.{ending}'
    path.unlink()
    os.mkfifo(str(path))
    for chosen, status in ('', 0), (f'--checkpoint={copy.best}', 2):
        process = start_tool('sample', *[chosen] * bool(chosen), cwd=copy.folder)
        try:
            errors = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        assert (process.returncode, errors.count('\n')) == (status, 1)
        assert f'{copy.best} cannot be used: ' in errors


@pytest.mark.parametrize('folder', ['a', 'x.data-2'])
@pytest.mark.parametrize('name', ['model-²', 'mine', 'a b'])
def test_a_checkpoint_may_have_any_name_except_a_pattern(copy, use, folder, name):
    (copy.folder / folder).mkdir()
    for path in copy.temp.glob('model-740.*'):
        shutil.copy(str(path), str(copy.folder / folder / f'{name}{path.suffix}'))
    expected = copy.likeliest(copy.newest, 'to be or', 40) + '\n'
    for ending in '', '.index':
        chosen = f'--checkpoint={folder}/{name}{ending}'
        assert use(sample, copy, *LIKELIEST, chosen) == (0, expected, '')
    (copy.folder / folder).rename(copy.folder / f'{folder}[1]')
    status, _, errors = use(sample, copy, f'--checkpoint={folder}[1]/{name}')
    assert (status, errors.count('\n')) == (2, 1)
    assert r'TensorFlow reads []*?\ in its name as a pattern. Set checkpoint' in errors


# --- Its text ------------------------------------------------------------------------------------


@pytest.fixture
def own(trained, record):
    """The record of a trained model with its text beside it, and the ids of the text."""
    shutil.copy(str(trained.temp / 'text.ids'), 'temp')
    shutil.copy(str(trained.folder / 'moved.txt'), 'short.txt')
    return record, encode('short.txt', True, IX2VOCAB)


def changed(record, **changes):
    """Change settings in a record; return the run as a tool reads it."""
    change(record, **changes)
    return tools.trained.read_run('temp')[0]


def test_the_text_comes_from_temp_dir_or_else_from_its_source(own):
    record, expected = own
    run = tools.trained.read_run('temp')[0]
    for gone in None, record / 'text.ids':
        if gone:
            gone.unlink()
        ids, name = tools.trained.own_ids(run, IX2VOCAB)
        assert name == 'short.txt'
        np.testing.assert_array_equal(ids, expected)
    os.rename('short.txt', 'shakespeare.txt')
    for run in changed(record, text_file='', data_dir='.'), changed(record, data_dir='gone'):
        ids, name = tools.trained.own_ids(run, IX2VOCAB)
        assert name == 'the works of Shakespeare'
        np.testing.assert_array_equal(ids, expected)
        os.makedirs('data', exist_ok=True)
        shutil.copy('shakespeare.txt', 'data')  # our own copy


def test_a_tool_started_elsewhere_finds_the_text_beside_the_script(
    own, tmp_path_factory, monkeypatch
):
    record, expected = own
    run = tools.trained.read_run(str(record))[0]
    monkeypatch.setattr(tools.trained, 'ROOT', os.getcwd())
    monkeypatch.chdir(tmp_path_factory.mktemp('elsewhere'))
    np.testing.assert_array_equal(tools.trained.own_text(run, IX2VOCAB)[1], expected)


@pytest.mark.parametrize(
    'spoil',
    [
        os.remove,
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, os.path.getsize(path) - 1),
        lambda path: os.truncate(path, 2**33),
        lambda path: (os.remove(path), os.mkfifo(path)),
        lambda path: (os.remove(path), os.mkdir(path)),
        lambda path: (os.remove(path), os.symlink('nowhere', path)),
        lambda path: (os.remove(path), os.symlink('/dev/zero', path)),
        lambda path: (os.remove(path), os.symlink('/proc/kmsg', path)),
    ],
)
def test_if_text_ids_is_damaged_another_copy_of_the_text_is_used(own, spoil):
    record, expected = own
    spoil(str(record / 'text.ids'))
    run = tools.trained.read_run('temp')[0]
    np.testing.assert_array_equal(tools.trained.own_ids(run, IX2VOCAB)[0], expected)
    spoil('short.txt')
    with pytest.raises(UserError, match=r'is not in temp/text\.ids or short\.txt\. Set text'):
        tools.trained.own_ids(run, IX2VOCAB)


def test_ids_of_two_bytes_are_read_and_half_an_id_is_refused(own):
    record, ids = own
    run = tools.trained.read_run('temp')[0]
    ids.astype(np.uint16).tofile(str(record / 'text.ids'))
    run.text_crc = zlib.crc32(ids.astype(np.uint16))
    np.testing.assert_array_equal(tools.trained.read_ids(run, np.dtype(np.uint16)), ids)
    with (record / 'text.ids').open('ab') as file:
        file.write(b'\0')
    assert tools.trained.read_ids(run, np.dtype(np.uint16)) is None


def test_a_tool_fetches_writes_and_waits_for_nothing_that_a_record_names(own, tmp_path, site):
    record, _ = own
    (record / 'text.ids').unlink()
    os.mkfifo('pipe')
    site.pages['/works.txt'] = answer(b'to be')
    url = site.url('/works.txt')
    before = sorted(tmp_path.rglob('*'))
    for text_file in 'pipe', '/dev/stdin', '/dev/zero', '.', url, 'gone/short.txt', '':
        how = {'text_file': text_file, 'gutenberg_url': url, 'data_dir': 'theirs'}
        run = changed(record, **how)
        with pytest.raises(UserError, match='Set text_file to it, or to another text'):
            tools.trained.own_ids(run, IX2VOCAB)
        with pytest.raises(UserError, match='Set text_file to it, or to another text'):
            tools.trained.own_text(run, IX2VOCAB)
    assert site.requests == [] and sorted(tmp_path.rglob('*')) == before


# --- Beside other processes ----------------------------------------------------------------------


def test_a_tool_refuses_to_start_as_several_workers(trained, use, monkeypatch):
    monkeypatch.setenv('HOROVOD_SIZE', '2')
    status, output, errors = use(sample, trained)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'without horovodrun' in errors


@pytest.mark.long
def test_a_model_can_be_used_during_its_training(tmp_path, works, use):
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    arguments = (*SMALL, '--text_file=short.txt', '--epochs=1000', '--save_every=5')
    training = start_script(*arguments, cwd=tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(training.communicate)
        stack.callback(training.kill)
        while not (tmp_path / 'temp' / 'checkpoint').exists():
            assert training.poll() is None
        outputs = []
        while len(outputs) < 3 or len(set(outputs)) == 1:  # until the model has changed in between
            status, output, errors = use(sample, tmp_path, '--prime_text=so')
            assert (status, output[:2], errors) == (0, 'so', '')
            outputs.append(output)
        assert use(plot, tmp_path)[::2] == (0, '')
        assert training.poll() is None
