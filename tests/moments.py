"""Programs that are killed, or whose disk fails, at any call that changes files.

A scenario is a folder and a command. Each call of the command that changes files is a moment. A
moment is tried in a copy of the folder. Then the same command runs again, undisturbed. It must end
as if nothing had happened. Each process is a fork of one that has built the graph, so it takes only
a second.
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
# Every character occurs in it, so `unseen` is [0].
WORKS = ('Hamlet, Romeo and Macbeth. ' + script.CHARACTERS + '\n') * 75_000
DOWNLOAD = (*RUN, '--text_file=', '--gutenberg_url=URL', '--held_out=1e-4')
# The earlier commands, and the command to disturb. All earlier files must survive, except those of
# a run that goes on, which change.
SCENARIOS = {
    'a first run': ([], RUN),
    'a run that goes on': ([RUN], MORE),
    '--restart': ([RUN], (*RUN, '--restart')),
    'another seed': ([RUN], (*RUN, '--seed=2')),
    'an export': ([RUN], EXPORT),
    'a download': ([], DOWNLOAD),  # only the calls in data/ count
}
HOW = 'kill', 'full', 'fail'  # as in tests/moments.c
# The programs import these when they need them. Here it is done once, not in every fork.
LAZY = (
    'matplotlib.figure', 'matplotlib.backends.backend_agg', 'requests', 'tqdm',
    'tensorboard.plugins.histogram.summary', 'tensorboard.plugins.text.summary',
)  # fmt: skip
new_graph, build_models = machine.new_graph, script.build_models


# --- The process that forks ----------------------------------------------------------------------


def prepare(command):
    """Build the graph of a command; return substitutes for `new_graph` and `build_models`."""
    arguments = settings.read_settings(vars(script), command), len(script.CHARACTERS) + 1, [0]
    with new_graph() as graph:
        models = build_models(*arguments)

    def built(*others):
        assert others == arguments
        return models

    return graph.as_default, built


def serve():
    """Run a command for each line of standard input: [folder, environment, command] as JSON."""
    for name in LAZY:
        importlib.import_module(name)
    prepared = {}
    # A plot takes a third of a second, and its content does not matter here.
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
      earlier: dict, the files of the earlier run.
      calls: list of str, the calls that change files: the moments.
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

        From a series of writes to one file, these are the first two and the last two. A kill at the
        others leaves the same, but for the length of that file.
        """
        files = [call.split()[-1] if 'write' in call else None for call in self.calls]
        numbers = []
        for path, group in itertools.groupby(range(len(files)), files.__getitem__):
            row = list(group)
            numbers += sorted({*row[:2], *row[-2:]}) if path else row
        is_download = self.name == 'a download'  # the rest is as in a first run
        return [n for n in numbers if not is_download or ' data/' in f'{self.calls[n]}/']

    @contextlib.contextmanager
    def copy(self, name):
        """Make a copy of the folder, and remove it at the end."""
        folder = self.place / name / 'work'
        try:
            shutil.copytree(str(self.folder), str(folder))
            yield folder
        finally:
            shutil.rmtree(str(folder.parent))

    def end_of(self, folder):
        """Return the results that must be the same in the end."""
        if self.name == 'an export':
            return sorted(files_of(folder / 'serving'))
        texts = {n: data for n, data in files_of(folder / 'data').items() if n.endswith('.txt')}
        return texts, content(folder / 'temp')

    def problem(self, how, number):
        """Try a moment, then the same command again; return what went wrong, or ''."""
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
        """Return the iterations saved in a folder before a moment: list of int."""
        pattern = rf'rename temp/{where}model-([0-9]+)\.index'
        found = [re.fullmatch(pattern, call) for call in self.calls[:number]]
        earlier = [20] * (self.name == 'a run that goes on')
        return earlier + [int(one.group(1)) for one in found if one]

    def lost_best(self, number, folder):
        """Return a message if a best model was saved and none can be read, else ''."""
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
        """Return a message if a run did not resume from its last save, else ''.

        Such a run ends the same, only later.
        """
        saved = self.saved(number, '')
        if not saved or self.name in ('--restart', 'an export', 'a download'):
            return ''
        said = r'Resuming after iteration ([0-9]+)|is finished after ([0-9]+) iterations'
        found = [int(a or b) for a, b in re.findall(said, output)]
        return '' if max(found, default=0) >= max(saved) else f'lost the save of {max(saved)}'

    def difference(self, folder):
        """Return what is wrong with the files in the end, or ''."""
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
    """Start two servers, one for each core. They end with this process."""
    environment = {**os.environ, 'LD_PRELOAD': library(), 'MPLBACKEND': 'Agg'}
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'universal_newlines': True}
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', __file__], env=environment, bufsize=1, **pipes
        )
        SERVERS.put(process)


def run(command, folder, moment=''):
    """Run a command in a folder; return (exit status, standard output, standard error)."""
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
    """Compile tests/moments.c; return the path of the library. This needs a C compiler."""
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
    """Return the bytes of all files in a folder except a lock: a dict from their names."""
    paths = [path for path in folder.rglob('*') if path.is_file() and path.name != 'lock']
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def content(temp):
    """Return the history of a run, and all variables of its newest and its best checkpoint.

    `run_id` is left out: it is a random number.
    """
    found = [(temp / 'history.csv').read_bytes()]
    for paths in folders.checkpoints(str(temp)), folders.checkpoints(str(temp / 'best')):
        reader = tf.train.load_checkpoint(paths[-1])
        names = sorted(set(reader.get_variable_to_shape_map()) - {'run_id'})
        found.append({name: reader.get_tensor(name).tobytes() for name in names})
    return found


def try_all(scenario, how, numbers):
    """Try moments, two at a time; yield (number, call, problem) for each."""
    with futures.ThreadPoolExecutor(2) as pool:
        problems = pool.map(functools.partial(scenario.problem, how), numbers)
        for number, problem in zip(numbers, problems):
            yield number, scenario.calls[number], problem


if __name__ == '__main__':
    serve()
