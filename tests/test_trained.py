"""tools.trained: a trained model is opened, whatever has happened to it."""

import json
import os
import signal

import tools.trained
from backstage import tf
from tools import plot, sample

import numpy as np
import pytest
from conftest import SMALL, run_script, run_tool, start_script

pytest_plugins = 'trained_model'
pytestmark = pytest.mark.xdist_group('tools')

LIKELIEST = ('--prime_text=to be or', '--temperature=0', '--sample_length=40')


@pytest.mark.parametrize('ending', ['', '.index', '.data-00000-of-00001'])
def test_another_checkpoint_can_be_chosen(trained, use, ending):
    expected = trained.likeliest(trained.older, 'to be or', 40) + '\n'
    assert expected != trained.likeliest(trained.best, 'to be or', 40) + '\n'
    chosen = f'--checkpoint={trained.older}{ending}'
    assert use(sample, trained, *LIKELIEST, chosen) == (0, expected, '')


def test_the_untrained_model_is_the_one_that_training_begins_with(tmp_path, works):
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


def test_where_the_best_model_is_damaged_the_newest_is_used_and_that_is_told(copy, use):
    os.truncate(str(copy.folder / f'{copy.best}.data-00000-of-00001'), 10)
    status, output, errors = use(sample, copy, *LIKELIEST)
    assert (status, output) == (0, copy.likeliest(copy.newest, 'to be or', 40) + '\n')
    assert errors.count('\n') == 1
    assert f'{copy.best} cannot be used' in errors and f'Using {copy.newest}' in errors


def test_where_no_model_can_be_read_one_sentence_says_so(copy, use):
    for path in copy.temp.rglob('*.data-*'):
        os.truncate(str(path), 10)
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'{copy.best} cannot be used' in errors and 'Train anew' in errors


def test_where_nothing_is_saved_yet_one_sentence_says_so(copy, use):
    for path in copy.temp.rglob('model-*'):
        path.unlink()
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'there is no model in temp' in errors


def test_a_checkpoint_that_was_chosen_is_not_replaced_by_another(copy, use):
    os.truncate(str(copy.folder / f'{copy.older}.data-00000-of-00001'), 10)
    status, output, errors = use(sample, copy, f'--checkpoint={copy.older}')
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'{copy.older} cannot be used' in errors


def test_a_model_that_training_replaces_while_it_is_read_is_looked_for_again(tmp_path, monkeypatch):
    """The checkpoint that was found first is gone when it is to be restored; another is there."""
    first, second = f'{tmp_path}/model-1', f'{tmp_path}/model-2'
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('v', initializer=7.0)
        saver = tf.train.Saver()
        session.run(variable.initializer)
        saver.save(session, first, write_meta_graph=False)
        restore = saver.restore

        def restore_late(session, path):
            if path == first:
                for path_of_first in tmp_path.glob('model-1.*'):
                    path_of_first.rename(str(path_of_first).replace('model-1', 'model-2'))
            return restore(session, path)

        monkeypatch.setattr(saver, 'restore', restore_late)
        variable.load(0.0, session)
        assert tools.trained.restore(session, saver, str(tmp_path)) == second
        assert session.run(variable) == 7.0


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('settings', '[]', 'temp/settings.json cannot be read: it is damaged'),
        ('settings', '{"seed": 1}', 'the settings in temp are damaged. Train anew'),
        ('vocabulary', '{}', 'temp/vocabulary.json cannot be read: it is damaged'),
        ('vocabulary', '[1]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["a", ', 'temp/vocabulary.json cannot be read: it is damaged'),
        ('vocabulary', '[]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["a", "b"]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["unknown", "a", "bc"]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["unknown", "a", ""]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["unknown", "a", "a"]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["unknown", "a", ["b"]]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["unknown", "a", "b"]', 'do not go with its vocabulary'),
        ('vocabulary', '[' * 100_000, 'temp/vocabulary.json cannot be read: it is damaged'),
    ],
)
def test_damaged_notes_of_a_model_are_told(copy, use, name, content, words):
    (copy.temp / f'{name}.json').write_text(content)
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert words in errors


def test_notes_that_leave_nothing_to_be_drawn_are_told(copy, use):
    settings = copy.temp / 'settings.json'
    record = {**json.loads(settings.read_text()), 'unseen': [*range(1, 40)]}
    settings.write_text(json.dumps(record))
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'the settings in temp do not go with its vocabulary' in errors


def test_a_model_of_more_layers_than_its_settings_say_is_not_used_in_part(copy, use):
    path = copy.temp / 'settings.json'
    path.write_text(path.read_text().replace('"num_layers": 3', '"num_layers": 2'))
    status, output, errors = use(sample, copy)
    assert (status, output) == (2, '')
    assert errors == f'sample.py: {copy.best} has more layers than num_layers in temp says.\n'


@pytest.mark.parametrize('name', ['settings.json', 'vocabulary.json'])
def test_what_stands_in_the_place_of_a_note_is_told(copy, use, name):
    path = copy.temp / name
    path.unlink()
    path.symlink_to(name)  # to itself
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'temp/{name} cannot be read: Too many levels of symbolic links' in errors
    path.unlink()
    path.mkdir()
    status, output, errors = use(sample, copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'temp/{name} cannot be read: Is a directory' in errors


def test_where_a_link_to_the_best_model_leads_nowhere_the_newest_is_used(copy, use):
    path = copy.folder / f'{copy.best}.index'
    path.unlink()
    path.symlink_to('nowhere')
    status, output, errors = use(sample, copy, *LIKELIEST)
    assert (status, output) == (0, copy.likeliest(copy.newest, 'to be or', 40) + '\n')
    assert f'{copy.best} cannot be used' in errors and f'Using {copy.newest}' in errors


def test_a_tool_that_is_started_as_several_workers_is_told_to_be_started_alone(
    trained, use, monkeypatch
):
    monkeypatch.setenv('HOROVOD_SIZE', '2')
    status, output, errors = use(sample, trained)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'without horovodrun' in errors


def test_a_model_can_be_used_while_it_is_being_trained(tmp_path, works, use):
    (tmp_path / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    arguments = (*SMALL, '--text_file=short.txt', '--epochs=1000', '--save_every=5')
    training = start_script(*arguments, cwd=tmp_path)
    try:
        while not (tmp_path / 'temp' / 'checkpoint').exists():
            assert training.poll() is None
        outputs = []
        while len(outputs) < 3 or len(set(outputs)) == 1:  # till the model has learned in between
            status, output, errors = use(sample, tmp_path, '--prime_text=so')
            assert (status, output[:2], errors) == (0, 'so', '')
            outputs.append(output)
        assert use(plot, tmp_path)[::2] == (0, '')
        assert training.poll() is None
    finally:
        training.send_signal(signal.SIGKILL)
        training.communicate()


def test_what_is_no_program_says_so(tmp_path):
    status, output, errors = run_tool('trained', cwd=tmp_path)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'trained.py: no program of its own, as sample.py beside it is.' in errors
