"""The folder of a run: another run is kept out, and so is a run from files that are not its own."""

import errno
import os

from backstage import folder as folders

import pytest
from conftest import start_script
from runs import ARGUMENTS, run_here, wait_for

pytest_plugins = 'runs'


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
        ('best/photo.jpg', 'a picture'),
        ('board/map.txt', 'a text'),
        ('loss.png', 'a picture'),
        ('thesis.tex', 'years of work'),
        ('text.txt', 'a text'),
        ('text.tex', 'years of work'),
    ],
)
@pytest.mark.parametrize('restart', [False, True])
def test_a_folder_of_somebody_elses_files_is_left_as_it_is(folder, name, text, restart):
    path = folder / 'temp' / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    status, output, errors = run_here(*ARGUMENTS, f'--restart={restart}', cwd=folder)
    first = name.split('/')[0]
    assert (status, output) == (2, '')
    assert errors == (
        f'stacked_lstm_shakespeare.py: temp has files that are not of a run, such as {first}. Give '
        f'another temp_dir.\n'
    )
    left = [path for path in (folder / 'temp').rglob('*') if path.is_file()]
    assert left == [path]
    assert path.read_text() == text


def test_folders_of_other_runs_and_what_a_run_leaves_before_its_first_save_are_no_hindrance(folder):
    temp = folder / 'temp'
    (temp / 'three_layers').mkdir(parents=True)
    (temp / 'earlier-20200101-000000').mkdir()
    for name in '.gitkeep', '.DS_Store', 'lock', 'text.ids', 'text.ids.host.12.part', 'runs.png':
        (temp / name).write_text('')
    status, _, errors = run_here(*ARGUMENTS, '--max_iterations=3', cwd=folder)
    assert (status, errors) == (0, '')


def test_a_run_with_damaged_settings_is_still_known_as_one(begun):
    (begun / 'temp' / 'settings.json').write_text('{')
    status, _, errors = run_here(*ARGUMENTS, cwd=begun)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'settings.json cannot be read: it is damaged. Train anew, with --restart' in errors
    status, output, errors = run_here(*ARGUMENTS, '--restart', '--max_iterations=3', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'The earlier run is now in temp/earlier-' in output


def test_two_earlier_runs_of_one_second_go_into_folders_of_their_own(begun, monkeypatch):
    monkeypatch.setattr(folders.time, 'strftime', lambda how: 'earlier-20200101-000000')
    for _ in range(3):
        how = (*ARGUMENTS, '--restart', '--max_iterations=3')
        assert run_here(*how, cwd=begun)[::2] == (0, '')
    names = sorted(path.name for path in (begun / 'temp').glob('earlier-*'))
    first = 'earlier-20200101-000000'
    assert names == [first, f'{first}-2', f'{first}-3']
    assert all((begun / 'temp' / name / folders.history.NAME).exists() for name in names)
