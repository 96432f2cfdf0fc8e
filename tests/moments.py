"""Runs that are ended, or whose disk fails, at one of the calls by which they change files.

A scenario is a folder and a command. Each of its moments is tried in a copy of the folder; then the
same command again, which nothing disturbs, has to end as if nothing had happened. Each process is
forked from one that has built the graph: so it takes a second, and is as real as any other.
"""

import atexit
import contextlib
import functools
import http.server
import importlib
import itertools
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from concurrent import futures

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import stacked_lstm_shakespeare as script  # noqa: E402
from backstage import folder as folders  # noqa: E402
from backstage import machine, running, settings, tf  # noqa: E402
from tools import export  # noqa: E402

RUN = (
    '--rnn_size=4', '--embedding_size=2', '--num_layers=1', '--batch_size=8',
    '--training_seq_len=4', '--text_file=short.txt', '--warmup_iterations=5', '--log_every=100',
    '--eval_every=100', '--sample_length=1', '--save_every=10', '--max_iterations=20',
)  # fmt: skip
MORE = (*RUN, '--max_iterations=40')
EXPORT = ('--folder=serving/1',)
# All characters occur in it, so that `unseen` is [0].
WORKS = ('Hamlet, Romeo and Macbeth. ' + script.CHARACTERS + '\n') * 75_000
DOWNLOAD = (*RUN, '--text_file=', '--gutenberg_url=URL', '--held_out=1e-4')
# What was done before, and what is disturbed. All that was there before is kept, but for a run that
# goes on, whose files change.
SCENARIOS = {
    'a first run': ([], RUN),
    'a run that goes on': ([RUN], MORE),
    '--restart': ([RUN], (*RUN, '--restart')),
    'another seed': ([RUN], (*RUN, '--seed=2')),
    'an export': ([RUN], EXPORT),
    'a download': ([], DOWNLOAD),  # what happens in data/ alone
}
HOW = 'kill', 'full', 'fail'  # as tests/moments.c has them
# What the programs import when they need it: once here, instead of in every fork
LAZY = (
    'matplotlib.figure', 'matplotlib.backends.backend_agg', 'requests', 'tqdm',
    'tensorboard.plugins.histogram.summary', 'tensorboard.plugins.text.summary',
)  # fmt: skip
new_graph, build_models = machine.new_graph, script.build_models


# --- The process that forks ----------------------------------------------------------------------


def prepare(command):
    """Build the graph of a command, and let `train` take it instead of another."""
    arguments = settings.read_settings(vars(script), command), len(script.CHARACTERS) + 1, [0]
    with new_graph() as graph:
        models = build_models(*arguments)

    def built(*others):
        assert others == arguments
        return models

    return graph.as_default, built


def serve():
    """Run a command for each line of standard input: in a folder, disturbed at a moment if any."""
    for name in LAZY:
        importlib.import_module(name)
    prepared = {}
    # A picture takes a third of a second; what is drawn is no matter here.
    script.draw_losses = lambda figure, *losses: None
    for line in sys.stdin:
        folder, moment, command = json.loads(line)
        main = export.main if command == list(EXPORT) else script.main
        if main is script.main:
            key = tuple(command)
            prepared[key] = prepared.get(key) or prepare(command)
            machine.new_graph, script.build_models = prepared[key]
        else:
            machine.new_graph = new_graph
        child = os.fork()
        if not child:
            os.chdir(folder)
            for number, name in (1, '../out'), (2, '../err'):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.environ.update(moment)
            try:
                status = running.run(main, command) or 0
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            os._exit(status)
        print(os.waitpid(child, 0)[1], flush=True)


# --- Scenarios -----------------------------------------------------------------------------------


class Scenario:
    """A command, and the folder in which it is disturbed.

    Attributes:
      earlier: dict, the files of the run that is there before.
      calls: list of str, the calls by which the command changes files: its moments.
    """

    def __init__(self, name, place):
        self.name, self.place = name, pathlib.Path(place)
        before, command = SCENARIOS[name]
        self.command = [site() if word == '--gutenberg_url=URL' else word for word in command]
        self.folder = self.place / 'before' / 'work'
        self.folder.mkdir(parents=True)
        random = np.random.RandomState(1)
        text = ''.join(random.choice(list(script.CHARACTERS), 5000))
        (self.folder / 'short.txt').write_text(text)
        for command in before:
            assert run(command, self.folder)[::2] == (0, '')
        self.earlier = files_of(self.folder / 'temp')
        with self.copy('expected') as folder:
            log = self.place / 'calls'
            status, _, errors = run(self.command, folder, f'count 0 {folder} {log}')
            assert (status, errors) == (0, ''), errors
            self.end = self.end_of(folder)
        self.calls = log.read_text().replace(f'{folder}/', '').splitlines()

    def moments(self):
        """Return the numbers of the moments to try.

        Of the writes of one file in a row they are the first two and the last two: what a kill
        leaves at the others differs in the length of that file alone.
        """
        files = [call.split()[-1] if 'write' in call else None for call in self.calls]
        numbers = []
        for path, group in itertools.groupby(range(len(files)), files.__getitem__):
            row = list(group)
            numbers += sorted({*row[:2], *row[-2:]}) if path else row
        is_download = self.name == 'a download'  # the rest is that of a first run
        return [n for n in numbers if not is_download or ' data/' in f'{self.calls[n]}/']

    @contextlib.contextmanager
    def copy(self, name):
        """Make a copy of the folder, for a while."""
        folder = self.place / name / 'work'
        try:
            shutil.copytree(str(self.folder), str(folder))
            yield folder
        finally:
            shutil.rmtree(str(folder.parent))

    def end_of(self, folder):
        """Return what has to be the same in the end."""
        if self.name == 'an export':
            return sorted(files_of(folder / 'serving'))
        texts = {n: data for n, data in files_of(folder / 'data').items() if n.endswith('.txt')}
        return texts, content(folder / 'temp')

    def problem(self, how, number):
        """Try a moment, and the same command again; return what is wrong then, '' if nothing is."""
        with self.copy(f'{how}-{number}') as folder:
            status, output, errors = run(self.command, folder, f'{how} {number} {folder}')
            ended = f'{status}: {output}{errors}'
            if how == 'kill' and status != -signal.SIGKILL:
                return f'was not killed, but ended with {ended}'
            if how != 'kill' and (status not in (0, 2) or errors.count('\n') > 1):
                return f'ended with {ended}'
            is_exported = (folder / 'serving' / '1').exists()
            lost = self.lost_best(number, folder) if how == 'kill' else ''
            status, output, errors = run(self.command, folder)
            lost = lost or (self.lost_save(number, output) if how == 'kill' else '')
            if is_exported and errors.endswith('already exists. Set folder to a new one.\n'):
                status, errors = 0, ''
            if (status, errors) != (0, ''):
                return f'was refused: {status}: {errors}'
            return lost or self.difference(folder)

    def saved(self, number, where):
        """Return the iterations that are saved in a folder by a moment: list of int."""
        pattern = rf'rename temp/{where}model-([0-9]+)\.index'
        found = [re.fullmatch(pattern, call) for call in self.calls[:number]]
        earlier = [20] * (self.name == 'a run that goes on')
        return earlier + [int(one.group(1)) for one in found if one]

    def lost_best(self, number, folder):
        """Say so if a kill left no best model that can be read, though one was saved."""
        temp = str(folder / 'temp')
        if not self.saved(number, 'best/'):
            return ''
        run_id = folders.read_record(temp)['run_id']
        for path in folders.checkpoints(os.path.join(temp, 'best')):
            with contextlib.suppress(*folders.unreadable()):
                folders.open_checkpoint(path, run_id)
                return ''
        return 'lost the best model'

    def lost_save(self, number, output):
        """Say so if a run did not go on from what was saved: it would end alike, but later."""
        saved = self.saved(number, '')
        if not saved or self.name in ('--restart', 'an export', 'a download'):
            return ''
        said = r'Resuming after iteration ([0-9]+)|is finished after ([0-9]+) iterations'
        found = [int(a or b) for a, b in re.findall(said, output)]
        return '' if max(found, default=0) >= max(saved) else f'lost the save of {max(saved)}'

    def difference(self, folder):
        """Return what is not as it should be in the end, '' if nothing is."""
        names = files_of(folder)
        if self.end_of(folder) != self.end:
            return f'ended otherwise: {sorted(names)}'
        if any(re.search(r'\.(part|tempstate\d+|tmp\w+)($|/)', name) for name in names):
            return f'left half written: {sorted(names)}'
        places = [folder / 'temp', *folder.glob('temp/earlier-*')]
        is_kept = any(self.earlier.items() <= files_of(place).items() for place in places)
        if self.name != 'a run that goes on' and not is_kept:
            return f'lost: {sorted(names)}'
        return ''


SERVERS = queue.Queue()  # processes that fork commands


def start_servers():
    """Start a server for each of two cores. They end with this process."""
    environment = {**os.environ, 'LD_PRELOAD': library(), 'MPLBACKEND': 'Agg'}
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'universal_newlines': True}
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', __file__], env=environment, bufsize=1, **pipes
        )
        SERVERS.put(process)


def run(command, folder, moment=''):
    """Return the status, the standard output and the standard error of a command in a folder."""
    environment = {'MOMENT': moment} if moment else {}
    server = SERVERS.get()
    server.stdin.write(json.dumps([str(folder), environment, command]) + '\n')
    status = int(server.stdout.readline())
    SERVERS.put(server)
    signal_number, status = status & 0x7F, status >> 8
    texts = [(folder.parent / name).read_text() for name in ('out', 'err')]
    return (-signal_number or status, *texts)


@functools.lru_cache(maxsize=None)
def library():
    """Return the path of the library that is preloaded, compiled. It takes a C compiler."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path, source = os.path.join(folder, 'moments.so'), ROOT / 'tests' / 'moments.c'
    subprocess.run(['cc', '-O1', '-shared', '-fPIC', '-o', path, str(source), '-ldl'], check=True)
    return path


@functools.lru_cache(maxsize=None)
def site():
    """Start a server that sends WORKS; return the argument that names it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(WORKS.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f'--gutenberg_url=http://127.0.0.1:{server.server_port}/'


def files_of(folder):
    """Return what the files in a folder hold, but for a lock: a dict from their names."""
    paths = [path for path in folder.rglob('*') if path.is_file() and path.name != 'lock']
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def content(temp):
    """Return the history of a run, and all variables of its newest and of its best checkpoint.

    But for the name of the run, a random number.
    """
    found = [(temp / 'history.csv').read_bytes()]
    for paths in folders.checkpoints(str(temp)), folders.checkpoints(str(temp / 'best')):
        reader = tf.train.load_checkpoint(paths[-1])
        names = sorted(set(reader.get_variable_to_shape_map()) - {'run_id'})
        found.append({name: reader.get_tensor(name).tobytes() for name in names})
    return found


def try_all(scenario, how, numbers):
    """Try moments, two at a time; yield the number of each, its call, and what is wrong."""
    with futures.ThreadPoolExecutor(2) as pool:
        problems = pool.map(functools.partial(scenario.problem, how), numbers)
        for number, problem in zip(numbers, problems):
            yield number, scenario.calls[number], problem


if __name__ == '__main__':
    serve()
