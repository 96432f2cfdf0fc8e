"""The folder of a run: its files, its record, and where an earlier run goes."""

import contextlib
import errno
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess

from backstage import folder as folders
from backstage.settings import UserError

import pytest
from conftest import IX2VOCAB, SCRIPT, change, content, parse
from runs import ARGUMENTS, run_here

pytest_plugins = 'runs'
pytestmark = pytest.mark.xdist_group('runs')

CRC, NUM_BATCHES = 7, 188
HISTORY = 'iteration,loss,held_out_loss\n' + ''.join(f'{i},2.5,\n' for i in range(1, 61))


def settings_of(temp, *arguments):
    return parse(*ARGUMENTS, f'--temp_dir={temp}', *arguments)


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """A folder as a run of 60 iterations leaves it, with dummies in place of the checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'short.txt').write_text('a text')
    for name in 'best', 'board':
        (tmp_path / 'temp' / name).mkdir(parents=True)
    temp = tmp_path / 'temp'
    for name in (
        'model-60.index', 'model-60.data-00000-of-00001', 'best/model-50.index', 'checkpoint',
        'best/model-50.data-00000-of-00001', 'board/events.out.tfevents.1.host', 'loss.png',
        'text.ids', 'runs.png', 'page.html',
    ):  # fmt: skip
        (temp / name).write_text(name)
    record = {**vars(settings_of('temp')), 'text_crc': CRC, 'unseen': [0], 'workers': 1}
    record = {**record, 'num_batches': NUM_BATCHES, 'run_id': 7, 'history_crcs': []}
    folders.write_record(str(temp), {**record, 'vocabulary_crc': folders.crc_of(IX2VOCAB)})
    (temp / 'vocabulary.json').write_text(json.dumps(IX2VOCAB))
    (temp / 'history.csv').write_text(HISTORY)
    return temp


def files_in(folder):
    """Return the bytes of all files in a folder except a lock: a dict from their names."""
    paths = [path for path in folder.rglob('*') if path.is_file() and path.name != 'lock']
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def opened(temp, *arguments):
    return folders.only_run_in(settings_of(temp, *arguments), str(SCRIPT))


def decide(temp, *arguments, text_crc=CRC, num_batches=NUM_BATCHES):
    """Return the RunFolder after its decision."""
    with opened(temp, *arguments) as run_folder:
        run_folder.decide(text_crc, num_batches)
        return run_folder


# --- One run at a time, and foreign files --------------------------------------------------------


def test_a_second_run_is_refused_but_a_stale_lock_is_ignored(temp):
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with opened('temp'):
            os.write(writer, b'x')
            signal.pause()
    os.read(reader, 1)
    before = files_in(temp)
    try:
        for more in [], ['--rnn_size=8'], ['--restart']:
            with pytest.raises(UserError, match=f'temp is in use .* process {process}\\.'):
                decide('temp', *more)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert (temp / 'lock').read_text() == str(process)
    decide('temp')
    assert (temp / 'lock').read_text() == str(os.getpid())
    assert files_in(temp) == before


def test_without_file_locks_the_run_prints_a_line_and_continues(temp, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(folders.fcntl, 'flock', flock)
    decide('temp')
    line = 'Cannot lock temp (No locks available): start no other run in it\n'
    assert capsys.readouterr().out == line


FOREIGN = [
    'train.log', 'slurm-17.out', 'notes.md', '.gitkeep', 'model-final.h5', 'model-notes.txt',
    'model-60.index.old', 'data.csv.1.part', 'history.csv.part', 'my.text.ids.host.1.part',
    'checkpoint.tmp', 'settings.json.tmp1', 'best/photo.jpg', 'board/map.txt', 'other/loss.png',
    'earlier-20200101-000000/notes.md', 'earlier.part', 'earlier-1.part/notes.md',
]  # fmt: skip
LEFT = [
    'model-70.data-00000-of-00001.tempstate123', 'model-70.index.tempstate9',
    'best/model-70.data-00000-of-00001.tempstate123', 'checkpoint.tmp0123456789abcdef',
    'settings.json.host.12.part', 'history.csv.my.host-1.9.part', 'text.ids.host.1.part',
    'heatmap.png.host.1.part',
]  # fmt: skip


def add(temp, names):
    for name in names:
        (temp / name).parent.mkdir(parents=True, exist_ok=True)
        (temp / name).write_text(f'this is {name}')


@pytest.mark.parametrize('before', ['a first run', 'a run'])
@pytest.mark.parametrize('restart', [False, True])
def test_foreign_files_are_kept_and_leftovers_are_removed(temp, before, restart):
    """Foreign files are a log beside the model (`> temp/train.log`), notes, and other models."""
    if before == 'a first run':
        shutil.rmtree(str(temp))
    ours = files_in(temp)
    add(temp, [*FOREIGN, *LEFT])
    with opened('temp', f'--restart={restart}') as run_folder:
        run_folder.decide(CRC, NUM_BATCHES)
        run_folder.begin('', IX2VOCAB, {'text_crc': CRC})
        add(temp, ['model-70.data-00000-of-00001'])  # half a checkpoint
        folders.remove_leftovers('temp')
    found = files_in(temp)
    assert {name: found.pop(name).decode() for name in FOREIGN} == {
        name: f'this is {name}' for name in FOREIGN
    }
    aside = {name: data for name, data in found.items() if name.startswith('earlier-')}
    assert {name.partition('/')[2]: data for name, data in aside.items()} == (
        ours if restart else {}
    )
    expected = {'settings.json', 'vocabulary.json'} if restart or not ours else set(ours)
    assert set(found) - set(aside) == expected


@pytest.mark.parametrize(
    'name, text',
    [
        ('settings.json', '{"rnn_size": 128}'),
        ('settings.json', 'not even JSON'),
        ('history.csv', 'day,weight\n1,70\n'),
        ('vocabulary.json', '["unknown"]'),
        *[(name, 'of another program') for name in (
            'checkpoint', 'best/model-1.index', 'best', 'board', 'loss.png', 'text.ids', 'lock'
        )],
    ],
)  # fmt: skip
def test_a_foreign_file_with_the_name_of_a_run_file_is_refused_and_kept(tmp_path, name, text):
    temp = tmp_path / 'temp'
    (temp / name).parent.mkdir(parents=True)
    (temp / name).write_text(text)
    for restart in False, True:
        with pytest.raises(UserError, match=f'temp/{name} does not belong to a run, and a run'):
            decide(temp, f'--restart={restart}')
        assert [path for path in temp.rglob('*') if path.is_file()] == [temp / name]
        assert (temp / name).read_text() == text


@pytest.mark.parametrize('make', [os.mkdir, os.mkfifo, lambda path: os.symlink('x', path)])
def test_folders_pipes_and_links_in_place_of_files_are_refused(temp, make):
    for name in 'history.csv', 'model-60.index', 'settings.json', 'lock':
        with contextlib.suppress(FileNotFoundError):
            (temp / name).unlink()
        make(str(temp / name))
        with pytest.raises(UserError, match=r'temp/.* does not belong to a run'):
            decide('temp')


@pytest.mark.parametrize('name', ['new[1]', 'a*', 's3://bucket/run', 'a\\b'])
def test_a_folder_name_that_tensorflow_misreads_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'temp_dir must not contain .* TensorFlow reads'):
        decide(name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r'init_from must not contain .* TensorFlow reads'):
        decide('temp', f'--init_from={name}')


# --- The record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'changes',
    [{name: None} for name in [*folders.NEEDED, 'text_file', *folders.BESIDES]]
    + [{'seed': '1'}, {'held_out': 2.0}, {'residual': 1}, {'device': 'tpu'}, {'seed': []}]
    + [{'rnn_size': {'a': 1}}, {'held_out': float('nan')}, {'temperature': 10**400}]
    + [{'prime_texts': [['so']]}, {'text_file': 'a\0b'}, {'text_crc': [7]}, {'workers': 0.5}]
    + [{'unseen': 'a'}, {'unseen': [-1]}, {'unseen': [True]}],
    ids=str,
)
def test_damaged_settings_are_reported_and_restart_puts_them_aside(temp, changes):
    change(temp, **changes)
    with pytest.raises(UserError, match='the settings in temp are damaged'):
        decide('temp')
    run_folder = decide('temp', '--restart')
    assert run_folder.is_new and run_folder.aside
    assert run_folder.earlier == ''  # no command could resume it


def test_the_table_has_every_file_that_a_run_writes(begun):
    kinds = [kind for kind, _, _ in folders.FILES if kind != 'leftover']
    assert sorted(files_in(begun / 'temp')) == sorted(folders.find(str(begun / 'temp'), *{*kinds}))


def test_checkpoints_are_sorted_by_iteration(tmp_path):
    (tmp_path / 'best').mkdir()
    for name in '100.index', '20.index', '3.data', 'x.index', '².index', '.index':
        (tmp_path / f'model-{name}').write_text('')
        (tmp_path / 'best' / f'model-{name}'.replace('20', '30')).write_text('')
    expected = ['model-20', 'best/model-30', 'best/model-100', 'model-100']
    assert folders.checkpoints(str(tmp_path)) == [f'{tmp_path}/{name}' for name in expected]


# --- Whether a run resumes, is finished, or is replaced ------------------------------------------

# Changed settings: the whole table of README.
OTHER_MODEL = [
    '--num_layers=3', '--rnn_size=24', '--embedding_size=9', '--residual=False',
    '--clean_text=False', '--min_word_freq=6', '--held_out=0.1', '--batch_size=9',
    '--training_seq_len=13', '--seed=7', '--init_from=other',
]  # fmt: skip
OTHER_TRAINING = [
    '--learning_rate=0.01', '--weight_decay=0', '--keep_prob=0.9', '--warmup_iterations=7',
    '--max_gradient_norm=1', '--average_decay=0.9',
]  # fmt: skip
NO_MATTER = [
    '--prime_texts=so', '--temperature=1', '--sample_length=5', '--show_plot=False', '--device=cpu',
    '--threads_per_operation=2', '--log_every=3', '--eval_every=7', '--save_every=9',
    '--data_dir=elsewhere', '--gutenberg_url=http://nowhere', '--text_file=./short.txt',
    '--text_file=moved.txt', '--patience=3',
]  # fmt: skip
LENGTH = ['--epochs=5', '--max_iterations=0', '--restart']
FINISHED, UNFINISHED = '--max_iterations=60', '--max_iterations=61'


def test_every_setting_has_a_row():
    named = {a.split('=')[0][2:] for a in [*OTHER_MODEL, *OTHER_TRAINING, *NO_MATTER, *LENGTH]}
    assert named == set(vars(parse())) - {'temp_dir'}


@pytest.mark.parametrize(
    'arguments, outcome',
    [
        *itertools.product(itertools.product(OTHER_MODEL, [FINISHED, UNFINISHED]), ['new']),
        *itertools.product(itertools.product(OTHER_TRAINING, [FINISHED]), ['new']),
        *itertools.product(itertools.product(OTHER_TRAINING, [UNFINISHED]), ['goes on']),
        *itertools.product(itertools.product(NO_MATTER, [FINISHED]), ['finished']),
        *itertools.product(itertools.product(NO_MATTER, [UNFINISHED]), ['goes on']),
        (['--restart', UNFINISHED], 'new'),
        (['--epochs=1', FINISHED], 'finished'),
        (['--max_iterations=50'], 'finished'),
        (['--max_iterations=0'], 'goes on'),
    ],
    ids=str,
)
def test_changed_settings_decide_whether_a_run_resumes(temp, capsys, arguments, outcome):
    change(temp, max_iterations=60)
    shutil.copytree('temp', 'other')
    if arguments[0] == '--init_from=other':
        change(temp, init_from='from')
    run_folder = decide('temp', *arguments)
    run_folder.print_end()
    output = capsys.readouterr().out
    name = arguments[0].split('=')[0][2:]
    said = {
        'new': f'Starting a new run: {name} is ',
        'finished': 'This run is finished',
        'goes on': '',
    }
    assert output.startswith(said[outcome]) and bool(output) == bool(said[outcome])
    assert (run_folder.is_new, run_folder.is_finished) == (outcome == 'new', outcome == 'finished')
    assert (name in run_folder.changes) == (
        arguments[0] not in ('--restart', '--text_file=./short.txt', FINISHED)
    )


def test_a_run_of_an_earlier_version_resumes_and_new_settings_are_named(temp, capsys):
    change(temp, init_from=None, patience=None)
    run_folder = decide('temp', UNFINISHED)
    assert not run_folder.is_new and not run_folder.is_finished
    assert run_folder.changes['patience'] == 'patience is 0 (was absent)'
    assert 'init_from' not in run_folder.changes
    shutil.copytree('temp', 'other')
    assert decide('temp', UNFINISHED, '--init_from=other').is_new
    assert "init_from is 'other' (was absent). " in capsys.readouterr().out


@pytest.mark.parametrize('done', ['--max_iterations=60', '--max_iterations=0'])
def test_a_changed_text_is_refused_unless_a_setting_of_its_source_changed(temp, done):
    before = files_in(temp)
    with pytest.raises(UserError, match=r'a different text: short\.txt, as it was then\. Use'):
        decide('temp', done, text_crc=8)
    assert files_in(temp) == before
    assert decide('temp', done, '--text_file=moved.txt', text_crc=8).is_new
    change(temp, text_file='')
    with pytest.raises(UserError, match='a different text: the works of Shakespeare, as it was'):
        decide('temp', done, '--text_file=', text_crc=8)
    for more in '--data_dir=elsewhere', '--gutenberg_url=http://nowhere':
        assert decide('temp', done, '--text_file=', more, text_crc=8).is_new


def test_the_advice_to_train_a_finished_run_further_works(temp, capsys):
    def said(*arguments):
        run_folder = decide('temp', *arguments)
        run_folder.print_end()
        line = capsys.readouterr().out
        assert run_folder.is_finished == line.startswith('This run is finished after 60 iterations')
        return dict(re.findall(r'(\w+) above (\d+)', line))

    assert said('--epochs=1', '--max_iterations=60') == {'max_iterations': '60'}
    assert said('--epochs=1', '--max_iterations=61') == {}
    held_out = {20: 1.0, 40: 2.0, 50: 0.5, 60: 1.5}  # the loss at 50 came with a stop
    lines = [f'{i},2.5,{held_out.get(i, "")}\n' for i in range(1, 61)]
    (temp / 'history.csv').write_text(''.join(lines))
    assert said('--save_every=20', '--patience=2', '--epochs=9') == {'patience': '2'}
    assert said('--save_every=20', '--patience=3') == said('--save_every=20') == {}
    assert said('--save_every=10', '--patience=2') == {}
    (temp / 'history.csv').unlink()
    assert said('--save_every=20', '--patience=2') == {}


def test_a_bad_init_from_is_refused_before_the_text_is_read(temp):
    shutil.copytree('temp', 'damaged')
    (temp / '..' / 'damaged' / 'settings.json').write_text('{"text_crc": 1')
    for more, sentence in [
        (['--init_from=nowhere'], 'there is no model in nowhere. Set init_from to the temp_dir'),
        (['--init_from=temp', '--rnn_size=8'], 'different layers. Add --rnn_size=16, or '),
        (['--init_from=temp', '--num_layers=3', '--residual=False'], '--num_layers=2 --residual='),
        (['--init_from=./temp', '--temp_dir=temp', '--restart'], 'init_from and temp_dir must di'),
        (['--init_from=damaged'], 'damaged. Set init_from to another folder'),
    ]:
        with pytest.raises(UserError, match=sentence), opened('next', *more):
            pass
    with pytest.raises(UserError, match='there is no model in nowhere'):
        decide('temp', '--init_from=nowhere')


# --- Putting an earlier run aside ----------------------------------------------------------------


def test_earlier_runs_of_the_same_second_get_separate_folders(temp):
    for expected in 'earlier', 'earlier-2', 'earlier-3':
        assert folders.free_name('temp/earlier') == f'temp/{expected}'
        (temp / expected).mkdir()


def test_a_users_text_stays_and_the_copy_of_a_pipe_moves_with_its_run(temp):
    change(temp, text_file='temp/text.txt')
    (temp / 'text.txt').write_text('ours')
    for own in [True, False]:
        with opened('temp', '--seed=5', *['--text_file=temp/text.txt'] * own) as run_folder:
            run_folder.decide(CRC, NUM_BATCHES)
            copy = 'temp' if own else run_folder.aside
            assert f' --text_file={os.path.abspath(copy)}/text.txt ' in run_folder.earlier + ' '
    shutil.copytree('temp', 'copy')
    folders.put_aside('copy', 'copy/earlier', 'copy/text.txt')
    assert os.path.exists('copy/text.txt')
    run_folder.begin('', IX2VOCAB, {'text_crc': CRC})
    assert not (temp / 'text.txt').exists()
    assert os.path.exists(f'{run_folder.aside}/text.txt')


def test_the_command_to_resume_has_all_deciding_settings(temp):
    earlier = decide('temp', '--rnn_size=8').earlier
    _, program, *arguments = shlex.split(earlier.split('To resume it: ')[1])
    assert program == str(SCRIPT)
    settings = vars(parse(*arguments))
    deciding = [*folders.FIXED, *folders.OF_THE_TRAINING, 'epochs', 'max_iterations', 'patience']
    assert set(deciding) < {argument.split('=')[0][2:] for argument in arguments}
    record = folders.read_record('temp')
    assert {name: settings[name] for name in deciding} == {name: record[name] for name in deciding}
    assert '--restart=False' in arguments
    assert settings['text_file'] == os.path.abspath('short.txt')
    assert re.fullmatch(rf'{temp}/earlier-\d{{8}}-\d{{6}}', settings['temp_dir'])


def test_restart_keeps_the_earlier_run_and_gives_the_same_results(begun):
    earlier, files = content(begun / 'temp'), files_in(begun / 'temp')
    status, output, errors = run_here(*ARGUMENTS, '--restart', '--max_iterations=60', cwd=begun)
    assert (status, errors) == (0, '')
    (aside,) = (begun / 'temp').glob('earlier-*')
    assert files_in(aside) == files
    assert content(begun / 'temp') == earlier
    moves = f'The earlier run (60 iterations) moves to temp/{aside.name}\n'
    assert f'Starting a new run: restart is True. {moves}' in output
    told = f'The earlier run is in temp/{aside.name}. To resume it: '
    assert output.splitlines()[-1].startswith(told)


def test_a_start_that_is_refused_does_not_say_that_a_new_run_starts(begun):
    files = files_in(begun / 'temp')
    wrong = '--seed=7', '--text_file=nowhere.txt'
    status, output, errors = run_here(*ARGUMENTS, *wrong, cwd=begun)
    assert status == 2 and 'nowhere.txt' in errors
    assert 'new run' not in output and files_in(begun / 'temp') == files


@pytest.mark.long
def test_the_printed_command_resumes_an_earlier_run(begun):
    """It works in any folder, and after the constants have changed."""
    output = run_here(*ARGUMENTS, '--learning_rate=0.01', '--max_iterations=3', cwd=begun)[1]
    (aside,) = (begun / 'temp').glob('earlier-*')
    command = output.splitlines()[-1].split('To resume it: ')[1]
    edited = SCRIPT.read_text(encoding='utf-8').replace('keep_prob = 1.0', 'keep_prob = 0.5')
    edited = edited.replace('restart = False', 'restart = True').replace('seed = 1 ', 'seed = 2 ')
    for name in 'backstage', 'tools':
        shutil.copytree(str(SCRIPT.parent / name), str(begun / 'project' / name))
    (begun / 'project' / SCRIPT.name).write_text(edited, encoding='utf-8')
    command = command.replace(str(SCRIPT), str(begun / 'project' / SCRIPT.name))
    shown = f'{command} --max_iterations=61 --show_plot=False'
    result = subprocess.run(shown, shell=True, check=True, cwd='/', stdout=subprocess.PIPE)
    (changed,) = re.findall('Changed since then: (.*)', result.stdout.decode())
    assert 'max_iterations is 61 (was 60)' in changed
    assert not re.search('keep_prob|seed', changed)
    assert (aside / 'model-61.index').exists()


class Killed(BaseException):
    """Ends a process like a kill: nothing cleans up after it."""


def test_a_kill_while_a_run_is_put_aside_loses_nothing(temp, monkeypatch, capsys):
    """The kill comes at each rename. The next start finishes the move first."""
    before, rename = files_in(temp), os.rename
    for moment in itertools.count():
        here = temp.parent / f'killed-{moment}'
        shutil.copytree(str(temp), str(here))
        aside, left = here / 'earlier-20200101-000000', iter(range(moment))

        def rename_or_die(*names, left=left):
            if next(left, None) is None:
                raise Killed
            rename(*names)

        monkeypatch.setattr(folders.os, 'rename', rename_or_die)
        with contextlib.suppress(Killed):
            folders.put_aside(str(here), str(aside), '')
            break
        monkeypatch.setattr(folders.os, 'rename', rename)
        with opened(here, *['--restart'] * (moment % 2)) as run_folder:
            run_folder.decide(CRC, NUM_BATCHES)
            assert run_folder.is_new and not run_folder.aside
        assert files_in(aside) == before
        assert f'interrupted move of the earlier run to {aside}' in capsys.readouterr().out
    assert moment == len(before) + 1


def test_a_refused_new_run_moves_nothing(begun):
    before = files_in(begun / 'temp')
    for how in '--text_file=none.txt', '--init_from=nowhere':
        status, _, errors = run_here(*ARGUMENTS, '--rnn_size=8', how, cwd=begun)
        assert (status, errors.count('\n')) == (2, 1)
        assert files_in(begun / 'temp') == before
