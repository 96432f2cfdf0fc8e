"""Files that are there whole or not at all, and folders that can be written to."""

import contextlib
import glob
import json
import os
import re
import shutil
import socket
import tempfile

from backstage.settings import UserError

LIMIT = 20_000_000  # bytes of a JSON file: a vocabulary of all characters there are has 17 million


def make_folder(path, setting):
    """Make a folder unless it is there.

    Args:
      path: str.
      setting: str, the name of the setting that it comes from.

    Raises:
      UserError: it cannot be made, or nothing can be written there.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = 'it is no folder' if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f'{path} cannot be written to: {reason}. Give another {setting}')


def part_of(path):
    """Return where a file is written before it takes the place of `path`.

    No other process writes there, on no other host that shares the folder.
    """
    return f'{path}.{socket.gethostname()}.{os.getpid()}.part'


def remove_leftovers(pattern):
    """Remove what killed processes of this host left half written of files or folders.

    Those of other hosts stay, and on Windows all: nobody knows whether they are still written.

    Args:
      pattern: str, the paths, as `glob` takes them.
    """
    own = re.compile(rf'\.{re.escape(socket.gethostname())}\.([0-9]+)\.part$')
    for part in filter(own.search, glob.glob(f'{pattern}.*.part')):
        with contextlib.suppress(OSError):  # another process has removed it
            if os.name == 'posix' and not is_running(int(own.search(part).group(1))):
                (shutil.rmtree if os.path.isdir(part) else os.remove)(part)


def is_running(number):
    """Return whether there is a process with this number. Not on Windows, where it would end it."""
    try:
        os.kill(number, 0)
    except PermissionError:  # it is somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def write(path, data):
    """Write bytes so that a reader, or a run after a crash, finds the old file or the new one."""
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
    """Wait until files, and the lists of names in folders, are on the disk itself."""
    for path in paths:
        with contextlib.ExitStack() as stack:
            is_folder = os.path.isdir(path)
            if is_folder:  # some systems cannot do so for one
                stack.enter_context(contextlib.suppress(OSError))
            descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)


def write_json(path, content):
    """Write a dict or a list, as `write` does."""
    write(path, json.dumps(content, indent=1).encode())


def read_json(path, kind=dict):
    """Return the dict, or what `kind` names, that a JSON file holds.

    Raises:
      UserError: it cannot be read, or it holds something else.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
            raise OSError(0, 'it is no file')
        if os.path.getsize(path) > LIMIT:
            raise ValueError
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, 'strerror', None) or 'it is damaged'
        raise UserError(f'{path} cannot be read: {reason}')
    if not isinstance(content, kind):
        raise UserError(f'{path} cannot be read: it is damaged')
    return content
