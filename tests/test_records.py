"""Records: what a run notes of itself, which settings may change, and how it is moved aside."""

import json
import re
import shutil

from backstage import records
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
    assert set(record) - set(settings) == {'text_crc', 'unseen', 'workers', 'num_batches'}
    assert json.loads((begun / 'temp' / 'vocabulary.json').read_text()) == IX2VOCAB


@pytest.mark.parametrize(
    'changes',
    [{name: None} for name in [*records.NEEDED, 'text_file', 'text_crc', 'workers']]
    + [{'seed': '1'}, {'held_out': 2.0}, {'residual': 1}, {'device': 'tpu'}, {'prime_texts': 'so'}]
    + [{'rnn_size': {'a': 1}}, {'held_out': float('nan')}, {'temperature': 10**400}, {'seed': []}]
    + [{'prime_texts': [['so']]}, {'device': ['cpu']}, {'text_file': 'a\0b'}, {'data_dir': 1}]
    + [{'text_crc': '7'}, {'text_crc': [7]}, {'workers': 0.5}, {'workers': [2]}]
    + [{'num_batches': '7'}, {'num_batches': 0.5}]
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
    for ending in '100.index', '20.index', '3.data', 'x.index', '².index', '.index':
        (tmp_path / f'model-{ending}').write_text('')
    assert records.checkpoints(str(tmp_path)) == [f'{tmp_path}/model-20', f'{tmp_path}/model-100']


def test_a_run_whose_settings_have_lost_one_does_not_go_on_with_another(begun):
    change(begun / 'temp' / 'settings.json', training_seq_len=None)
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the settings in temp are damaged. Train anew, with --restart' in errors


LATER = ['average_decay', 'patience', 'init_from', 'epochs', 'max_iterations', 'save_every']


@pytest.mark.parametrize('arguments', [['--max_iterations=61'], ['--max_iterations=3', '--seed=5']])
def test_a_setting_that_came_later_than_a_run_does_not_stop_it(begun, arguments):
    missing = dict.fromkeys([*LATER, 'data_dir', 'num_batches'])
    change(begun / 'temp' / 'settings.json', **missing, text_file='')
    shutil.copy(str(begun / 'short.txt'), str(begun / 'temp' / 'text.txt'))
    status, output, errors = run_here(*ARGUMENTS, *arguments, cwd=begun)
    assert (status, errors) == (0, '')
    said = 'Continuing after iteration 60' if len(arguments) == 1 else 'A new run begins: seed is 5'
    assert said in output
    assert json.loads((begun / 'temp' / 'settings.json').read_text())['average_decay'] == 0.99


def test_a_tool_takes_a_setting_that_came_later_than_a_run_as_it_is_today(begun):
    change(begun / 'temp' / 'settings.json', average_decay=None)
    run, ix2vocab = trained.read_run(str(begun / 'temp'))
    assert (run.average_decay, run.rnn_size, ix2vocab) == (0.99, 16, IX2VOCAB)


def test_what_a_later_version_has_noted_besides_is_no_matter(begun):
    path = begun / 'temp' / 'settings.json'
    change(path, new_one=[1, {'a': 2}], other=float('nan'), **{'no name': 1})
    run, _ = trained.read_run(str(begun / 'temp'))
    assert set(vars(run)) == {*vars(parse()), 'text_crc', 'unseen', 'workers', 'num_batches'}
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60' in output


# Settings in another value, and what one sees of that: the whole table of README.
OTHER_MODEL = [
    '--num_layers=3', '--rnn_size=24', '--embedding_size=9', '--residual=False',
    '--clean_text=False', '--min_word_freq=6', '--held_out=0.1', '--batch_size=9',
    '--training_seq_len=13', '--seed=7', '--text_file=other.txt',
]  # fmt: skip
OTHER_TRAINING = [
    '--learning_rate=0.01', '--weight_decay=0', '--keep_prob=0.9', '--warmup_iterations=7',
    '--max_gradient_norm=1', '--average_decay=0.9',
]  # fmt: skip
DISPLAY = ['--prime_texts=so', '--temperature=1', '--sample_length=5', '--show_plot=False']
NO_MATTER = [
    '--epochs=1', '--device=cpu', '--threads_per_operation=2', '--log_every=3', '--eval_every=7',
    '--save_every=9', '--data_dir=elsewhere', '--gutenberg_url=http://nowhere', '--patience=3',
    '--text_file=./short.txt', '--download_timeout=7', '--text_file=moved.txt',
]  # fmt: skip
FINISHED = 'This run is finished, after 60 iterations. To train it further, set max_iterations'


def test_every_setting_has_its_row():
    rows = [*OTHER_MODEL, *OTHER_TRAINING, *DISPLAY, *NO_MATTER]
    named = {argument.split('=')[0][2:] for argument in rows}
    assert named == set(vars(parse())) - {'restart', 'init_from', 'max_iterations', 'temp_dir'}


def rerun(begun, *arguments):
    """Run the script again in a folder; return its output, and the iterations there, by folder."""
    (begun / 'other.txt').write_bytes((begun / 'short.txt').read_bytes().replace(b'e', b'o', 1))
    (begun / 'moved.txt').write_bytes((begun / 'short.txt').read_bytes())
    status, output, errors = run_here(*ARGUMENTS, *arguments, cwd=begun)
    assert (status, errors) == (0, '')
    folders = [begun / 'temp', *(begun / 'temp').glob('earlier-*')]
    newest = [records.checkpoints(str(one))[-1] for one in folders]
    return output, [records.iteration_of(path) for path in newest]


@pytest.fixture
def unfinished(begun):
    """A run that was stopped after 60 of its 376 iterations."""
    change(begun / 'temp' / 'settings.json', max_iterations=0)
    return begun


@pytest.mark.parametrize('argument', [*OTHER_MODEL, *OTHER_TRAINING])
def test_after_a_finished_run_another_model_text_or_training_begins_a_new_one(begun, argument):
    output, iterations = rerun(begun, '--max_iterations=3', argument)
    assert iterations == [3, 60]
    first, *_, last = output.splitlines()
    name = argument.split('=')[0][2:]
    if name == 'text_file':  # a text has to be read first
        (first,) = (line for line in output.splitlines() if line.startswith('A new run begins'))
    assert first.startswith(f'A new run begins: {name} is ')
    assert last.startswith('The earlier run, of 60 iterations, is in temp/earlier-')


@pytest.mark.parametrize('argument', [*DISPLAY, *NO_MATTER])
def test_after_a_finished_run_what_would_train_nothing_prints_its_samples(begun, argument):
    before = content(begun / 'temp')
    (begun / 'temp' / 'loss.png').unlink()
    output, iterations = rerun(begun, '--max_iterations=60', argument)
    assert iterations == [60]
    assert output.splitlines()[-1].startswith(FINISHED)
    prime = 'so' if argument == '--prime_texts=so' else 'thou art more'
    assert any(line.startswith(prime) for line in output.splitlines())
    assert 'Iteration:' not in output and 'Continuing' not in output
    assert content(begun / 'temp') == before
    assert (begun / 'temp' / 'loss.png').exists()


@pytest.mark.parametrize('argument', [*DISPLAY[:1], *OTHER_TRAINING[:1], ''])
def test_a_finished_run_with_more_iterations_goes_on_and_names_what_has_changed(begun, argument):
    output, iterations = rerun(begun, '--max_iterations=61', *filter(None, [argument]))
    assert iterations == [61]
    assert 'Continuing after iteration 60, from temp/model-60' in output
    changed = {
        '': 'max_iterations=61 (60 before)',
        '--prime_texts=so': "max_iterations=61 (60 before), prime_texts=['so'] (['thou art more'",
        '--learning_rate=0.01': 'learning_rate=0.01 (0.0 before), max_iterations=61 (60 before)',
    }[argument]
    assert f'Changed since then: {changed}' in output


@pytest.mark.parametrize('argument', OTHER_MODEL)
def test_an_unfinished_run_gives_way_to_one_that_it_cannot_become(unfinished, argument):
    output, iterations = rerun(unfinished, '--max_iterations=3', argument)
    assert iterations == [3, 60]
    assert output.splitlines()[-1].startswith('The earlier run, of 60 iterations, is in temp/earl')


def test_an_unfinished_run_goes_on_with_what_can_change_on_the_way(unfinished):
    (unfinished / 'temp').rename(unfinished / 'moved')
    (unfinished / 'short.txt').rename(unfinished / 'moved.txt')
    how = [*OTHER_TRAINING, *DISPLAY, *NO_MATTER, '--temp_dir=moved', '--max_iterations=61']
    status, output, errors = run_here(*ARGUMENTS, *how, cwd=unfinished)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 60, from moved/model-60' in output
    assert 'learning_rate=0.01 (0.0 before), weight_decay=0.0 (0.1 before)' in output
    record = records.read_record(str(unfinished / 'moved'))
    assert (record['learning_rate'], record['prime_texts']) == (0.01, ['so'])


def test_an_unfinished_run_that_is_given_less_than_it_has_ends_there(unfinished):
    output, iterations = rerun(unfinished, '--max_iterations=50')
    assert (iterations, 'Iteration:' in output) == ([60], False)
    assert output.splitlines()[-1].startswith(FINISHED)


@pytest.mark.parametrize('kind', ['finished', 'unfinished'])
def test_a_text_that_was_edited_is_refused_while_no_setting_names_another(request, kind):
    begun = request.getfixturevalue({'finished': 'begun'}.get(kind, kind))
    before = content(begun / 'temp'), (begun / 'temp' / 'text.ids').read_bytes()
    text = (begun / 'short.txt').read_bytes()
    (begun / 'short.txt').write_bytes(text.replace(b'e', b'o', 1))
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'has learned another text, short.txt as it was then. Give that, or another' in errors
    assert (content(begun / 'temp'), (begun / 'temp' / 'text.ids').read_bytes()) == before
    assert not list((begun / 'temp').glob('*.part'))


def test_another_beginning_is_another_run(begun):
    run_here(*ARGUMENTS, '--max_iterations=3', '--temp_dir=next', cwd=begun)
    how = (*ARGUMENTS, '--max_iterations=61', '--init_from=next')
    status, output, errors = run_here(*how, cwd=begun)
    assert (status, errors) == (0, '')
    assert output.startswith("A new run begins: init_from is 'next' ('' before). ")
    again = run_here(*ARGUMENTS, '--max_iterations=62', '--init_from=./next', cwd=begun)[1]
    assert 'Continuing after iteration 61' in again


def test_what_is_said_to_train_a_finished_run_further_does(begun):
    """The last line is followed word for word."""
    how, wanted = {'epochs': 1, 'max_iterations': 60}, []
    for _ in range(3):
        output, _ = rerun(begun, *(f'--{name}={value}' for name, value in how.items()))
        more = dict(re.findall(r'(\w+) above (\d+)', output.splitlines()[-1]))
        wanted.append(list(more))
        how.update({name: int(value) + 1 for name, value in more.items()})
    assert wanted == [['max_iterations'], [], ['max_iterations']]
    how['max_iterations'] = 0
    output, (iterations,) = rerun(begun, *(f'--{name}={value}' for name, value in how.items()))
    assert iterations == 188
    output, _ = rerun(begun, *(f'--{name}={value}' for name, value in how.items()))
    assert 'To train it further, set epochs above 1; to train a new one' in output


def test_restart_begins_anew_and_keeps_the_earlier_run(begun):
    earlier = content(begun / 'temp')
    status, output, errors = run_here(*ARGUMENTS, '--restart', '--max_iterations=60', cwd=begun)
    assert (status, errors) == (0, '')
    (aside,) = (begun / 'temp').glob('earlier-*')
    assert f'The earlier run, of 60 iterations, is in temp/{aside.name}' in output
    assert content(aside) == earlier
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
    assert 'The earlier run, of 60 iterations, is in temp/earlier-' in finish(begun, undisturbed)
    assert (begun / 'temp' / 'photo.png').exists()
