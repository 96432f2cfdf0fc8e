"""Files that are written completely or not at all, and folders that must be writable."""

import contextlib
import glob
import json
import os
import re
import shutil
import socket
import tempfile

from backstage.settings import UserError


def make_folder(path, setting):
    """Make a folder if it does not exist.

    Args:
      path: str.
      setting: str, the name of the setting that holds the path.

    Raises:
      UserError: the folder cannot be made or is not writable.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = 'it is not a folder' if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f'{path} cannot be written to: {reason}. Set {setting} to another path')


def part_of(path):
    """Return the temporary path for a file that will replace `path`.

    The path is unique to this process, even if several hosts share the folder.
    """
    return f'{path}.{socket.gethostname()}.{os.getpid()}.part'


def remove_leftovers(pattern):
    """Remove incomplete files and folders that killed processes of this host left behind.

    Those of other hosts stay, because they may still be in use. On Windows, all stay.

    Args:
      pattern: str, a `glob` pattern of the paths.
    """
    own = re.compile(rf'\.{re.escape(socket.gethostname())}\.([0-9]+)\.part$')
    for part in filter(own.search, glob.glob(f'{pattern}.*.part')):
        with contextlib.suppress(OSError):  # another process has removed it
            if os.name == 'posix' and not is_running(int(own.search(part).group(1))):
                (shutil.rmtree if os.path.isdir(part) else os.remove)(part)


def is_running(number):
    """Return whether a process with this number exists. On Windows, this call would end it."""
    try:
        os.kill(number, 0)
    except PermissionError:  # another user's process
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def write(path, data):
    """Write bytes atomically: even after a crash, a reader finds the old file or the new one."""
    part = part_of(path)
    try:
        with open(part, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise
    reach_disk(os.path.dirname(path) or '.')


def reach_disk(*paths):
    """Wait until files, and the directory entries of folders, are on the disk itself."""
    for path in paths:
        with contextlib.ExitStack() as stack:
            is_folder = os.path.isdir(path)
            if is_folder:  # some systems cannot sync a folder
                stack.enter_context(contextlib.suppress(OSError))
            descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)


def write_json(path, content):
    """Write a dict or a list as JSON, with `write`."""
    write(path, json.dumps(content, indent=1).encode())


def read_json(path, kind=dict):
    """Return the content of a JSON file, which must be of type `kind`.

    Raises:
      UserError: the file cannot be read or holds another type.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe might never end
            raise OSError(0, 'it is not a file')
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, 'strerror', None) or 'it is damaged'
        raise UserError(f'{path} cannot be read: {reason}')
    if not isinstance(content, kind):
        raise UserError(f'{path} cannot be read: it is damaged')
    return content
