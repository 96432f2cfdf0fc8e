"""Records: what a run notes of itself, which settings may change, and how it is moved aside."""

import json
import shutil

from backstage import folder, records
from backstage.settings import UserError
from tools import trained

import pytest
from conftest import IX2VOCAB, content, parse
from runs import ARGUMENTS, finish, run_here

pytest_plugins = 'runs'


def change(path, **changes):
    """Give the settings in `settings.json` other values; None takes one out."""
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: value for k, value in record.items() if value is not None}))


def test_a_run_notes_its_settings_its_vocabulary_its_text_and_its_losses(begun):
    record = records.read_record(str(begun / 'temp'))
    settings = vars(parse(*ARGUMENTS, '--max_iterations=60'))
    assert {name: record[name] for name in settings} == settings
    assert set(record) - set(settings) == {'text_crc', 'unseen', 'workers'}
    assert json.loads((begun / 'temp' / 'vocabulary.json').read_text()) == IX2VOCAB


@pytest.mark.parametrize(
    'changes',
    [{name: None} for name in [*records.FIXED, 'text_file', 'text_crc', 'workers']]
    + [{'seed': '1'}, {'held_out': 2.0}, {'residual': 1}, {'device': 'tpu'}, {'prime_texts': 'so'}]
    + [{'rnn_size': {'a': 1}}, {'held_out': float('nan')}, {'temperature': 10**400}, {'seed': []}]
    + [{'prime_texts': [['so']]}, {'device': ['cpu']}, {'text_file': 'a\0b'}, {'data_dir': 1}]
    + [{'text_crc': '7'}, {'text_crc': [7]}, {'workers': 0.5}, {'workers': [2]}]
    + [{'unseen': 'a'}, {'unseen': ['a']}, {'unseen': [-1]}, {'unseen': [True]}, {'unseen': {}}],
    ids=str,
)
def test_damaged_settings_of_a_run_are_told(begun_once, tmp_path, changes):
    shutil.copy(str(begun_once / 'temp' / 'settings.json'), str(tmp_path))
    change(tmp_path / 'settings.json', **changes)
    with pytest.raises(UserError, match=r'the settings in .* are damaged. Train anew, with --rest'):
        records.read_record(str(tmp_path))


@pytest.mark.parametrize('text', ['', '[]', '{"seed": 1', '\udcff'])
def test_what_is_no_record_at_all_is_told_with_its_path(tmp_path, text):
    (tmp_path / 'settings.json').write_text(text, errors='surrogateescape')
    with pytest.raises(UserError, match=r'settings.json cannot be read: it is damaged'):
        records.read_record(str(tmp_path))


def test_checkpoints_are_found_in_the_order_of_their_iterations(tmp_path):
    for name in 'model-100.index', 'model-20.index', 'model-3.data', 'model-x.index', 'model.index':
        (tmp_path / name).write_text('')
    assert records.checkpoints(str(tmp_path)) == [f'{tmp_path}/model-20', f'{tmp_path}/model-100']


def test_a_run_whose_settings_have_lost_one_does_not_go_on_with_another(begun):
    change(begun / 'temp' / 'settings.json', training_seq_len=None)
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the settings in temp are damaged. Train anew, with --restart' in errors


def test_a_setting_that_came_later_than_a_run_does_not_stop_it(begun):
    change(begun / 'temp' / 'settings.json', average_decay=None)
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60' in output
    assert json.loads((begun / 'temp' / 'settings.json').read_text())['average_decay'] == 0.99


def test_a_tool_takes_a_setting_that_came_later_than_a_run_as_it_is_today(begun):
    change(begun / 'temp' / 'settings.json', average_decay=None)
    run, ix2vocab = trained.read_run(str(begun / 'temp'))
    assert (run.average_decay, run.rnn_size, ix2vocab) == (0.99, 16, IX2VOCAB)


def test_what_a_later_version_has_noted_besides_is_no_matter(begun):
    path = begun / 'temp' / 'settings.json'
    change(path, new_one=[1, {'a': 2}], other=float('nan'), **{'no name': 1})
    run, _ = trained.read_run(str(begun / 'temp'))
    assert set(vars(run)) == {*vars(parse()), 'text_crc', 'unseen', 'workers'}
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60' in output


OTHERS = {
    'num_layers': 3, 'rnn_size': 24, 'embedding_size': 9, 'residual': False, 'clean_text': False,
    'min_word_freq': 6, 'held_out': 0.1, 'batch_size': 9, 'training_seq_len': 13, 'seed': 7,
}  # fmt: skip


@pytest.mark.parametrize('name', records.FIXED)
def test_a_setting_that_does_not_fit_is_named_with_both_values(begun_once, name):
    arguments = (*ARGUMENTS, f'--temp_dir={begun_once}/temp')
    before, now = getattr(parse(*arguments), name), OTHERS[name]
    with pytest.raises(UserError) as caught:
        folder.check_continues(parse(*arguments, f'--{name}={now}'))
    assert str(caught.value) == (
        f'{name} is {now}, and the run in {begun_once}/temp has --{name}={before}. Give that, or '
        f'another temp_dir, or --restart to begin anew'
    )
    folder.check_continues(parse(*arguments))


def test_all_settings_that_do_not_fit_are_named_at_once_and_nothing_changes(begun):
    before = content(begun / 'temp')
    arguments = [a for a in ARGUMENTS if not a.startswith(('--batch_size', '--rnn_size'))]
    status, output, errors = run_here(*arguments, cwd=begun)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'rnn_size is 128, batch_size is 100, and the run in temp has' in errors
    assert 'has --rnn_size=16 --batch_size=8. Give that' in errors
    assert content(begun / 'temp') == before


def test_all_other_settings_may_change_from_one_part_of_a_run_to_the_next(begun):
    changes = [
        '--learning_rate=0.01', '--weight_decay=0', '--keep_prob=0.9', '--warmup_iterations=7',
        '--max_gradient_norm=1', '--average_decay=0.9', '--epochs=3', '--log_every=3',
        '--eval_every=7', '--save_every=9', '--sample_length=5', '--temperature=1',
        '--prime_texts=so', '--device=cpu', '--threads_per_operation=2', '--download_timeout=7',
        '--show_plot=False',
        '--gutenberg_url=http://nowhere', '--data_dir=elsewhere', '--text_file=./short.txt',
    ]  # fmt: skip
    (begun / 'temp').rename(begun / 'moved')
    more = ('--temp_dir=moved', '--max_iterations=61')
    changed = {argument.split('=')[0][2:] for argument in (*changes, *more)}
    assert changed == set(vars(parse())) - set(records.FIXED) - {'restart', 'init_from'}
    status, output, errors = run_here(*ARGUMENTS, *changes, *more, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60' in output
    record = records.read_record(str(begun / 'moved'))
    assert (record['learning_rate'], record['prime_texts']) == (0.01, ['so'])


def test_what_is_refused_leaves_the_ids_of_the_run_as_they_are(begun):
    ids = (begun / 'temp' / 'text.ids').read_bytes()
    (begun / 'other.txt').write_text('so it begins ' * 2000)
    for argument in '--seed=7', '--text_file=other.txt':
        status, output, _ = run_here(*ARGUMENTS, argument, cwd=begun)
        assert status == 2
        assert ('Vocabulary' in output) == (argument != '--seed=7')  # settings are compared first
        assert (begun / 'temp' / 'text.ids').read_bytes() == ids
        assert not list((begun / 'temp').glob('*.part'))


def test_another_text_is_refused(begun):
    text = (begun / 'short.txt').read_bytes()
    (begun / 'other.txt').write_bytes(text.replace(b'e', b'o', 1))
    status, _, errors = run_here(*ARGUMENTS, '--text_file=other.txt', cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'has learned another text, short.txt as it was then. Give that, or another' in errors


def test_restart_begins_anew_and_keeps_the_earlier_run(begun):
    earlier = content(begun / 'temp')
    (begun / 'temp' / 'photo.png').write_bytes(b'not of a run')
    arguments = ('--restart', '--max_iterations=60')
    status, output, errors = run_here(*ARGUMENTS, *arguments, cwd=begun)
    assert (status, errors) == (0, '')
    (aside,) = (begun / 'temp').glob('earlier-*')
    assert f'The earlier run is now in temp/{aside.name}' in output
    assert content(aside) == earlier
    assert {'board', 'loss.png', 'settings.json', 'vocabulary.json'} <= {
        path.name for path in aside.iterdir()
    }
    assert (begun / 'temp' / 'photo.png').exists()
    assert 'Iteration: 10,' in output
    assert content(begun / 'temp') == earlier  # the same came of it


def test_restart_takes_other_settings_and_another_text(begun):
    (begun / 'other.txt').write_text('so it begins ' * 2000)
    more = ('--restart', '--text_file=other.txt', '--rnn_size=8', '--num_layers=1')
    status, _, errors = run_here(*ARGUMENTS, *more, '--max_iterations=3', cwd=begun)
    assert (status, errors) == (0, '')
    assert records.read_record(str(begun / 'temp'))['rnn_size'] == 8


def test_restart_without_an_earlier_run_just_begins(folder):
    status, output, errors = run_here(*ARGUMENTS, '--restart', '--max_iterations=3', cwd=folder)
    assert (status, errors) == (0, '')
    assert 'earlier' not in output


def test_what_is_left_of_a_run_without_its_checkpoints_is_moved_aside(begun, undisturbed):
    for path in (begun / 'temp').glob('model-*'):
        path.unlink()
    (begun / 'temp' / 'photo.png').write_bytes(b'not of a run')
    assert 'The earlier run is now in' in finish(begun, undisturbed)
    assert (begun / 'temp' / 'photo.png').exists()
