"""Files: each write is complete or has no effect. Folders are made, or refused with a message."""

import os
import resource
import signal

from backstage import files
from backstage.settings import UserError

import pytest


@pytest.fixture
def path(tmp_path):
    """The path of a file that holds b'old', alone in its folder."""
    (tmp_path / 'file').write_bytes(b'old')
    return tmp_path / 'file'


def in_another_process(function):
    """Call a function in a fork of this process; return its wait status."""
    process = os.fork()
    if process == 0:
        try:
            function()
        finally:  # nothing else may run in the fork
            os._exit(0)
    return os.waitpid(process, 0)[1]


def left_in(folder):
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.mark.parametrize('moment', ['fsync', 'replace'])
@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_only_the_old_file(path, monkeypatch, moment, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(error):
        files.write(str(path), b'new')
    assert left_in(path.parent) == {'file': b'old'}


@pytest.mark.parametrize('moment', ['fsync', 'replace'])
def test_a_killed_write_leaves_the_old_file_and_a_harmless_part(path, monkeypatch, moment):
    with monkeypatch.context() as killing:
        killing.setattr(os, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert in_another_process(lambda: files.write(str(path), b'half')) == signal.SIGKILL
    left = left_in(path.parent)
    assert left.pop('file') == b'old'
    ((name, data),) = left.items()
    assert name.startswith('file.') and name.endswith('.part') and data == b'half'
    files.write(str(path), b'new')
    assert path.read_bytes() == b'new'


def test_a_full_disk_leaves_only_the_old_file(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            files.write(str(path), b'x' * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_in(path.parent) == {'file': b'old'}


def test_two_processes_can_write_the_same_file_at_once(path, monkeypatch):
    replace = os.replace

    def meanwhile(source, target):
        monkeypatch.setattr(os, 'replace', replace)
        assert in_another_process(lambda: files.write(target, b'of the other')) == 0
        assert path.read_bytes() == b'of the other'
        replace(source, target)

    monkeypatch.setattr(os, 'replace', meanwhile)
    files.write(str(path), b'of this one')
    assert left_in(path.parent) == {'file': b'of this one'}


@pytest.mark.parametrize('data', [b'', b'{"losses": [1.5, 2', b'\0' * 99, b'{"a": "\xff"}', b'[1]'])
def test_damaged_json_is_reported_with_its_path(path, data):
    path.write_bytes(data)
    with pytest.raises(UserError, match=f'^{path} cannot be read: it is damaged$'):
        files.read_json(str(path))


def test_a_folder_is_made_with_its_parents_unless_it_exists(tmp_path):
    for _ in range(2):
        files.make_folder(str(tmp_path / 'a' / 'b'), 'temp_dir')
        assert list((tmp_path / 'a' / 'b').iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported_with_its_setting(path):
    (path.parent / 'theirs').mkdir(mode=0o555)
    theirs = (
        path.parent / 'theirs' if os.getuid() else '/proc/self'
    )  # root cannot write there either
    for folder in path, path / 'below', theirs:
        with pytest.raises(UserError, match=f'^{folder} cannot be written .*Set data_dir to '):
            files.make_folder(str(folder), 'data_dir')
    assert path.read_bytes() == b'old'
