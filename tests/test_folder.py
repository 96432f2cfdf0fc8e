"""The folder of a run: another run is kept out, and so is a run from files that are not its own."""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

from backstage import folder as folders
from tools import evaluate

import pytest
from conftest import SCRIPT, content, end, parse, script, start, start_script
from runs import ARGUMENTS, run_here, wait_for

pytest_plugins = ['runs', 'trained_model']


def test_a_second_run_in_the_same_folder_is_refused_and_a_lock_left_behind_is_not(folder):
    first = start_script(*ARGUMENTS, '--epochs=1000', cwd=folder)
    wait_for(first, 'Starting Epoch')
    status, output, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert f'temp is in use by the run with process number {first.pid}.' in errors
    first.kill()
    first.communicate()
    assert (folder / 'temp' / 'lock').read_text() == str(first.pid)
    assert run_here(*ARGUMENTS, '--max_iterations=3', cwd=folder)[0] == 0
    assert (folder / 'temp' / 'lock').read_text() == str(os.getpid())
    assert run_here(*ARGUMENTS, '--max_iterations=4', cwd=folder)[0] == 0


@pytest.mark.parametrize('code', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_a_line_says_so_and_the_run_goes_on(folder, monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folders.fcntl, 'flock', flock)
    status, output, errors = run_here(*ARGUMENTS, '--max_iterations=3', cwd=folder)
    assert (status, errors) == (0, '')
    line = f'Other runs are not kept out of temp: no locks there ({os.strerror(code)})\n'
    assert output.startswith(line)


FOREIGN = [
    'train.log', 'slurm-17.out', 'notes.md', '.gitkeep', 'model-final.h5', 'model-notes.txt',
    'model-60.index.old', 'data.csv.1.part', 'history.csv.part', 'my.text.ids.host.1.part',
    'checkpoint.tmp', 'settings.json.bak', 'best/photo.jpg', 'board/map.txt', 'other/loss.png',
    'earlier-20200101-000000/notes.md', 'earlier.part', 'earlier-1.part/notes.md',
]  # fmt: skip


def add_foreign_files(temp):
    """Put files of somebody else into a folder; return what they hold."""
    for name in FOREIGN:
        (temp / name).parent.mkdir(parents=True, exist_ok=True)
        (temp / name).write_text(f'this is {name}')
    return {name: f'this is {name}' for name in FOREIGN}


def read_foreign_files(temp):
    return {name: (temp / name).read_text() for name in FOREIGN}


def test_files_with_other_names_are_nobodys_business(folder):
    """A log that is written beside the model, as by `> temp/train.log`, notes, other models."""
    temp = folder / 'temp'
    files = add_foreign_files(temp)
    how = (*ARGUMENTS, '--max_iterations=3')
    for more in [], ['--max_iterations=4'], ['--rnn_size=8'], ['--rnn_size=8', '--restart']:
        status, _, errors = run_here(*how, *more, cwd=folder)
        assert (status, errors) == (0, '')
        assert read_foreign_files(temp) == files
    kept = [path for path in temp.glob('earlier-*-*') if path.name != 'earlier-20200101-000000']
    assert len(kept) == 2
    assert not {path.name for one in kept for path in one.rglob('*')} & set(FOREIGN)


def test_a_log_in_a_fresh_folder_gets_what_is_printed(folder):
    (folder / 'temp').mkdir()
    command = [sys.executable, str(SCRIPT), *ARGUMENTS, '--max_iterations=3']
    with open(str(folder / 'temp' / 'train.log'), 'w') as log:
        assert subprocess.call(command, cwd=str(folder), stdout=log, stderr=log) == 0
    assert 'Held-out loss' in (folder / 'temp' / 'train.log').read_text()


@pytest.mark.parametrize(
    'name, text',
    [
        ('settings.json', '{"editor.fontSize": 14}'),
        ('settings.json', '{"rnn_size": 128}'),
        ('settings.json', 'not even JSON'),
        ('history.csv', 'day,weight\n1,70\n'),
        ('vocabulary.json', '["unknown"]'),
        ('checkpoint', 'of another program'),
        ('model-1.index', 'of another program'),
        ('best/model-1.index', 'of another program'),
        ('best', 'a file'),
        ('board', 'a file'),
        ('loss.png', 'a picture'),
        ('text.ids', 'of another program'),
        ('text.txt', 'a text'),
        ('lock', 'of another program'),
    ],
)
@pytest.mark.parametrize('restart', [False, True])
def test_something_else_with_a_name_that_a_run_writes_is_left_as_it_is(folder, name, text, restart):
    path = folder / 'temp' / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    status, output, errors = run_here(*ARGUMENTS, f'--restart={restart}', cwd=folder)
    assert (status, output) == (2, '')
    assert errors == (
        f'stacked_lstm_shakespeare.py: temp/{name} is not of a run, and a run would write there. '
        f'Move it away, or give another temp_dir.\n'
    )
    left = [path for path in (folder / 'temp').rglob('*') if path.is_file()]
    assert left == [path]
    assert path.read_text() == text


def test_a_folder_in_the_place_of_the_lock_gets_a_sentence(folder):
    (folder / 'temp' / 'lock').mkdir(parents=True)
    status, _, errors = run_here(*ARGUMENTS, cwd=folder)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'temp/lock is not of a run' in errors


def test_a_text_of_ones_own_may_stand_where_a_copy_of_a_pipe_would(folder):
    (folder / 'temp').mkdir()
    (folder / 'short.txt').rename(folder / 'temp' / 'text.txt')
    how = (*ARGUMENTS, '--text_file=temp/text.txt', '--max_iterations=3')
    assert run_here(*how, cwd=folder)[::2] == (0, '')
    assert run_here(*how, '--rnn_size=8', cwd=folder)[::2] == (0, '')
    assert (folder / 'temp' / 'text.txt').exists()


LEFT = [
    'model-70.data-00000-of-00001.tempstate123', 'model-70.index.tempstate9',
    'best/model-70.data-00000-of-00001.tempstate123', 'checkpoint.tmp0123456789abcdef',
    'settings.json.host.12.part', 'history.csv.my.host-1.9.part', 'text.ids.host.1.part',
]  # fmt: skip


@pytest.mark.parametrize('before', ['a first run', 'a run'])
def test_what_a_killed_run_began_to_write_is_no_hindrance_and_is_cleared_away(begun, before):
    temp = begun / 'temp'
    if before == 'a first run':
        shutil.rmtree(str(temp))
        (temp / 'best').mkdir(parents=True)
    for name in LEFT:
        (temp / name).write_text('{"lo')
    assert run_here(*ARGUMENTS, '--max_iterations=61', cwd=begun)[::2] == (0, '')
    assert [name for name in LEFT if (temp / name).exists()] == []


def test_a_run_with_damaged_settings_is_still_known_as_one(begun):
    (begun / 'temp' / 'settings.json').write_text('{')
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'settings.json cannot be read: it is damaged. Train anew, with --restart' in errors
    status, output, errors = run_here(*ARGUMENTS, '--restart', '--max_iterations=3', cwd=begun)
    assert (status, errors) == (0, '')
    # No command is named that would go on with it, since none does.
    (aside,) = (begun / 'temp').glob('earlier-*')
    told = f'The earlier run, of 60 iterations, is in temp/{aside.name}'
    assert output.splitlines()[-1] == told


def test_two_earlier_runs_of_one_second_go_into_folders_of_their_own(begun, monkeypatch):
    monkeypatch.setattr(folders.time, 'strftime', lambda how: 'earlier-20200101-000000')
    for _ in range(3):
        how = (*ARGUMENTS, '--restart', '--max_iterations=3')
        assert run_here(*how, cwd=begun)[::2] == (0, '')
    names = sorted(path.name for path in (begun / 'temp').glob('earlier-*'))
    first = 'earlier-20200101-000000'
    assert names == [first, f'{first}-2', f'{first}-3']
    assert all((begun / 'temp' / name / folders.history.NAME).exists() for name in names)


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_an_earlier_run_is_put_aside_whole_and_goes_on_there_with_the_command_that_is_named(begun):
    earlier, files = content(begun / 'temp'), names_in(begun / 'temp')
    how = (*ARGUMENTS, '--learning_rate=0.01', '--max_iterations=3')
    status, output, errors = run_here(*how, cwd=begun)
    assert (status, errors) == (0, '')
    (aside,) = (begun / 'temp').glob('earlier-*')
    assert content(aside) == earlier
    assert names_in(aside) == files - {'lock'}
    first, *_, last = output.splitlines()
    assert first.startswith('A new run begins: learning_rate is 0.01 (0.0 before). ')
    command = last.split('To go on with it: ')[1]
    assert f'The earlier run, of 60 iterations, moves to temp/{aside.name}. ' in first
    assert last.startswith(f'The earlier run, of 60 iterations, is in temp/{aside.name}. ')
    assert first.endswith(command)
    # It holds whatever the constants are by then, and wherever it is pasted.
    edited = SCRIPT.read_text(encoding='utf-8').replace('keep_prob = 1.0', 'keep_prob = 0.5')
    edited = edited.replace('seed = 1 ', 'seed = 2 ').replace('epochs = 10 ', 'epochs = 3 ')
    assert edited.count(' = 0.5  #') + edited.count('seed = 2 ') + edited.count('epochs = 3 ') == 3
    for name in 'backstage', 'tools':
        shutil.copytree(str(SCRIPT.parent / name), str(begun / 'project' / name))
    (begun / 'project' / SCRIPT.name).write_text(edited, encoding='utf-8')
    command = command.replace(str(SCRIPT), str(begun / 'project' / SCRIPT.name))
    shown = f'{command} --max_iterations=61 --show_plot=False'
    result = subprocess.run(shown, shell=True, check=True, cwd='/', stdout=subprocess.PIPE)
    assert b'Continuing after iteration 60' in result.stdout
    (changed,) = re.findall('Changed since then: (.*)', result.stdout.decode())
    assert 'max_iterations=61 (60 before)' in changed
    assert not re.search('keep_prob|seed|epochs', changed)
    assert (aside / 'model-61.index').exists()


def test_the_command_holds_where_the_script_was_started_by_a_relative_path(begun):
    where = os.path.relpath(str(SCRIPT), str(begun))
    how = (*ARGUMENTS, '--seed=2', '--max_iterations=2')
    status, output, errors = end(start(sys.executable, where, *how, cwd=begun))
    assert (status, errors) == (0, '')
    assert f' {SCRIPT} --temp_dir={begun}/temp/earlier-' in output.splitlines()[-1]


def test_a_run_that_came_through_a_pipe_takes_its_text_aside(begun, use):
    text = (begun / 'short.txt').read_bytes()
    (begun / 'temp' / 'text.txt').write_bytes(text)
    record = json.loads((begun / 'temp' / 'settings.json').read_text())
    record['text_file'] = 'temp/text.txt'
    (begun / 'temp' / 'settings.json').write_text(json.dumps(record))
    (begun / 'other.txt').write_bytes(text[:-100])
    how = (*ARGUMENTS, '--text_file=other.txt', '--max_iterations=2')
    output = run_here(*how, cwd=begun)[1]
    (aside,) = (begun / 'temp').glob('earlier-*')
    assert f'--text_file={aside}/text.txt' in output.splitlines()[-1]
    assert (aside / 'text.txt').read_bytes() == text
    status, output, errors = use(evaluate, begun, f'--temp_dir={aside}')
    assert (status, errors) == (0, '')
    assert f'the held-out part of {aside}/text.txt' in output


def test_where_the_script_itself_says_restart_the_command_says_that_it_does_not(begun, monkeypatch):
    monkeypatch.setattr(script, 'restart', True)
    output = run_here(*ARGUMENTS, '--max_iterations=2', cwd=begun)[1]
    assert output.startswith('A new run begins: restart is True. ')
    assert ' --restart=False' in output.splitlines()[-1]


class Killed(BaseException):
    """Ends a process as a kill does: nothing is cleaned up after it."""


def test_a_run_that_is_put_aside_loses_nothing_wherever_that_is_killed(begun, monkeypatch):
    """At each rename; the next start finishes it first."""
    files = names_in(begun / 'temp') - {'lock'}
    before = {name: (begun / 'temp' / name).read_bytes() for name in files}
    rename = os.rename
    for moment in itertools.count():
        here = begun / f'killed-{moment}'
        shutil.copytree(str(begun / 'temp'), str(here))
        aside, left = str(here / 'earlier-20200101-000000'), iter(range(moment))

        def rename_or_die(*names, left=left):
            if next(left, None) is None:
                raise Killed
            rename(*names)

        monkeypatch.setattr(folders.os, 'rename', rename_or_die)
        with contextlib.suppress(Killed):
            folders.put_aside(str(here), aside, '')
            break
        monkeypatch.setattr(folders.os, 'rename', rename)
        with folders.only_run_in(parse(f'--temp_dir={here}'), vars(script)) as run_folder:
            assert run_folder.is_new and run_folder.aside is None
        after = {name: (here / aside / name).read_bytes() for name in names_in(here / aside)}
        assert after == before
    assert moment == len(files) + 1


@pytest.mark.parametrize('how', [['--device=gpu'], ['--text_file=none.txt'], ['--batch_size=9000']])
@pytest.mark.parametrize('kind', ['--rnn_size=8', '--restart'])
def test_nothing_is_moved_for_a_new_run_that_is_refused(begun, how, kind):
    before = content(begun / 'temp'), names_in(begun / 'temp')
    status, _, errors = run_here(*ARGUMENTS, kind, *how, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert (content(begun / 'temp'), names_in(begun / 'temp')) == before


def test_nothing_is_moved_while_another_run_is_there(folder):
    first = start_script(*ARGUMENTS, '--epochs=1000', cwd=folder)
    wait_for(first, 'Held-out loss')
    time.sleep(0.5)
    for more in '--rnn_size=8', '--restart':
        status, output, errors = run_here(*ARGUMENTS, more, cwd=folder)
        assert (status, output, errors.count('\n')) == (2, '', 1)
        assert 'temp is in use' in errors
    assert not list((folder / 'temp').glob('earlier-*'))
    first.kill()
    first.communicate()
