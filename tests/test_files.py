"""Files: whole or not at all, whatever happens to the one who writes, and folders to write in."""

import os
import resource
import signal
import threading

from backstage import files
from backstage.settings import UserError

import pytest


@pytest.fixture
def path(tmp_path):
    """The path of a file that holds b'old', alone in its folder."""
    (tmp_path / 'file').write_bytes(b'old')
    return tmp_path / 'file'


def in_another_process(function):
    """Call a function in a copy of this process, and return how that ended."""
    process = os.fork()
    if process == 0:
        try:
            function()
        finally:  # nothing else of this process is to go on in its copy
            os._exit(0)
    return os.waitpid(process, 0)[1]


def left_in(folder):
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def test_a_file_takes_the_place_of_the_old_one_when_it_is_complete(path):
    with files.whole_file(str(path)) as file:
        file.write(b'new')
        file.flush()
        assert path.read_bytes() == b'old'
    assert left_in(path.parent) == {'file': b'new'}


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(path, error):
    with pytest.raises(error), files.whole_file(str(path)) as file:
        file.write(b'new')
        raise error
    assert left_in(path.parent) == {'file': b'old'}
    path.unlink()
    with pytest.raises(error), files.whole_file(str(path)) as file:
        raise error
    assert left_in(path.parent) == {}


def test_a_writer_that_is_killed_leaves_the_old_file_and_a_part_that_nobody_takes_for_it(path):
    def write_half():
        with files.whole_file(str(path)) as file:
            file.write(b'half')
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_another_process(write_half) == signal.SIGKILL
    left = left_in(path.parent)
    assert left.pop('file') == b'old'
    ((name, data),) = left.items()
    assert name.startswith('file.') and name.endswith('.part') and data == b'half'
    files.write(str(path), b'new')  # and it is in nobody's way
    assert path.read_bytes() == b'new'


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            files.write(str(path), b'x' * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_in(path.parent) == {'file': b'old'}


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere/file'):
        files.write(str(tmp_path / 'nowhere' / 'file'), b'new')


def test_two_processes_that_write_the_same_file_do_not_meet(path):
    def write_other():
        files.write(str(path), b'of the other')

    with files.whole_file(str(path)) as file:
        file.write(b'of ')
        assert in_another_process(write_other) == 0
        assert path.read_bytes() == b'of the other'
        file.write(b'the last')
    assert left_in(path.parent) == {'file': b'of the last'}


def test_who_reads_while_another_writes_finds_the_old_file_or_the_new_one(path):
    texts = [b'a' * 300_000, b'b' * 200_000]
    files.write(str(path), texts[0])
    found, done = set(), threading.Event()

    def read():
        while not done.is_set():
            found.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(100):
            files.write(str(path), texts[k % 2])
    finally:
        done.set()
        reader.join()
    assert found == set(texts)


@pytest.mark.parametrize('content', [{'losses': [1.5, 2], 'a': None}, ['\u5510', '\ufffd', '"']])
def test_json_comes_back_as_it_was(path, content):
    files.write_json(str(path), content)
    assert files.read_json(str(path), type(content)) == content
    assert left_in(path.parent).keys() == {'file'}


@pytest.mark.parametrize(
    'data, kind',
    [
        (b'', dict),
        (b'{"losses": [1.5, 2', dict),
        (b'{"losses": 1} and more', dict),
        (b'\x00' * 100, dict),
        (b'{"a": "\xff"}', dict),
        (b'[1, 2]', dict),
        (b'null', dict),
        (b'{"a": 1}', list),
    ],
)
def test_damaged_json_is_told_with_its_path(path, data, kind):
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        files.read_json(str(path), kind)
    assert str(error.value) == f'{path} cannot be read: it is damaged'


def test_json_that_is_not_there_is_told_with_the_reason_of_the_system(tmp_path):
    for name, reason in ('nowhere', 'No such file or directory'), ('', 'Is a directory'):
        path = os.path.join(str(tmp_path), name)
        with pytest.raises(UserError) as error:
            files.read_json(path)
        assert str(error.value) == f'{path} cannot be read: {reason}'


def test_a_folder_is_made_with_those_above_it_and_may_be_there_already(tmp_path):
    path = tmp_path / 'a' / 'b'
    for _ in range(2):
        files.make_folder(str(path), 'temp_dir')
        assert list(path.iterdir()) == []


@pytest.mark.parametrize(
    'name, reason', [('file', 'it is no folder'), ('file/below', 'Not a directory')]
)
def test_a_folder_that_cannot_be_is_told_with_the_setting_to_change(path, name, reason):
    folder = path.parent / name
    with pytest.raises(UserError) as error:
        files.make_folder(str(folder), 'data_dir')
    told = f'{folder} cannot be written to: {reason}. Give another data_dir'
    assert str(error.value) == told
    assert left_in(path.parent) == {'file': b'old'}


def test_a_folder_that_only_others_may_write_to_is_told_too(tmp_path):
    (tmp_path / 'theirs').mkdir(mode=0o555)
    path = str(tmp_path / 'theirs') if os.getuid() else '/proc/self'  # where root cannot either
    with pytest.raises(UserError, match=f'{path} cannot be written to: .*Give another temp_dir'):
        files.make_folder(path, 'temp_dir')
