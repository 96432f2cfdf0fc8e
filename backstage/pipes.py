"""A text that can be read only once, such as a pipe, and that is therefore kept."""

import contextlib
import os
import shutil
import stat

from backstage import encodings, files, sources
from backstage.settings import UserError

BLOCK = 1 << 20  # bytes
LIMIT = 100e9  # bytes, at most, and half of what is free: an endless text has to end somewhere


@contextlib.contextmanager
def text_at_hand(settings, folder):
    """Find the text, and yield its path; one that can be read only once is copied first.

    The copy is the part of `folder`/text.txt, which `settings.text_file` names in the end.

    Raises:
      UserError: no source has the text, or it cannot be read, or it does not end.
    """
    path = sources.find_text(settings)
    if not is_pipe(path):
        yield path
        return
    copy = os.path.join(folder, 'text.txt')
    print(f'{path} can be read only once: reading it to its end, into {copy}')
    with open(files.part_of(copy), 'wb') as file:
        try:
            copy_pipe(path, file)
            yield file.name
        except UserError as error:
            said = str(error).replace(encodings.to_new(file.name), ' (in the pipe)')
            raise UserError(said.replace(file.name, path))
    settings.text_file = copy


def is_pipe(path):
    """Return whether what is at a path is no file, or not the same one for another program."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # who reads it will say why not
    is_own = os.path.abspath(path).startswith(('/dev/', '/proc/'))  # /dev/stdin may be a file
    is_own = is_own and not os.path.abspath(path).startswith('/dev/shm/')
    return not stat.S_ISDIR(mode) and (is_own or not stat.S_ISREG(mode))


def copy_pipe(path, file):
    """Copy what can be read at a path into a binary file, as long as it is text and ends."""
    limit = min(LIMIT, shutil.disk_usage(os.path.dirname(os.path.abspath(file.name))).free // 2)
    for block in read_blocks(path):
        problem = encodings.kind(block, file.name) if file.tell() == 0 else None
        if problem or b'\0' in block:
            raise UserError(f'{path} {problem or "is no text: it has bytes that are 0"}')
        if file.tell() + len(block) > limit:
            raise UserError(
                f'{path} has not ended after {limit / 1e9:,.3g} GB, and there is no room for more '
                f'in {os.path.dirname(file.name) or "."}. Give another text_file'
            )
        file.write(block)
    file.flush()


def read_blocks(path):
    """Yield what can be read at a path, in blocks of bytes."""
    try:
        with open(path, 'rb') as pipe:
            yield from iter(lambda: pipe.read(BLOCK), b'')
    except OSError as error:
        raise UserError(f'{path} {encodings.unreadable(path, error)}')
