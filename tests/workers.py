"""Several workers, as real processes that Horovod starts: `make workers`."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import ROOT, SCRIPT, content, end, history, run_script, start_script

ARGUMENTS = (
    *('--text_file=short.txt', '--rnn_size=16', '--embedding_size=8', '--training_seq_len=10'),
    *('--batch_size=12', '--max_iterations=200', '--save_every=50', '--eval_every=80'),
)
TWO_HOSTS = 'localhost:1,127.0.0.1:1'  # two names of this machine, as if they were two


def start(*arguments, cwd, count=2, hosts=None, program=(str(SCRIPT),), python=sys.executable):
    """Start workers as a user would. Horovod also writes their output to the folder logs."""
    launcher = pathlib.Path(python).with_name('horovodrun')
    many = '-np', str(count), '-H', hosts or f'localhost:{count}', '--output-filename', 'logs'
    return subprocess.Popen(
        [str(launcher), *many, python, *program, *arguments],
        cwd=str(cwd),
        env={**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )


def run(*arguments, **more):
    """Run workers to their end; return (exit status, all output)."""
    return end(start(*arguments, **more))[:2]


def printed(folder, number, stream='stdout'):
    text = (folder / 'logs' / f'rank.{number}' / stream).read_text()
    return re.sub(rf'^\[{number}\]<{stream}>:', '', text, flags=re.MULTILINE)


def assert_same_to_rounding(one, other):
    past, of_other = history(one / 'temp'), history(other / 'temp')
    assert len(past['losses']) == 200
    for name in past:
        np.testing.assert_allclose(of_other[name], past[name], rtol=1e-4)


def wait_for_save(folder):
    began = time.time()
    while not (folder / 'temp' / 'model-100.index').exists():
        assert time.time() - began < 120
        time.sleep(0.05)


def worker(started, number):
    """Return the process of a worker, by its number, from those that `start` has started."""
    for process in psutil.Process(started.pid).children(recursive=True):  # of no other run
        try:
            environment, (python, *_) = process.environ(), process.cmdline()
        except (psutil.Error, ValueError):
            continue
        if environment.get('HOROVOD_RANK') == str(number) and python == sys.executable:
            return process
    raise AssertionError(f'there is no worker {number}')


@pytest.fixture(scope='module')
def make_folder(tmp_path_factory, works):
    def make():
        folder = tmp_path_factory.mktemp('workers')
        (folder / 'short.txt').write_bytes(works[2_000_000:2_040_000])
        return folder

    return make


@pytest.fixture
def folder(make_folder):
    """A folder with a text."""
    return make_folder()


@pytest.fixture(scope='module')
def alone(make_folder):
    """The folder of a run of one worker."""
    folder = make_folder()
    assert run_script(*ARGUMENTS, cwd=folder)[::2] == (0, '')
    return folder


@pytest.fixture(scope='module')
def two(make_folder):
    """The folder of a run of two workers that nothing stopped."""
    folder = make_folder()
    status, output = run(*ARGUMENTS, cwd=folder)
    assert status == 0, output
    return folder


def test_two_workers_have_the_same_losses_as_one(alone, two):
    assert_same_to_rounding(alone, two)


def test_dropout_and_clipping_apply_to_the_whole_batch(make_folder, alone):
    one, other = make_folder(), make_folder()
    arguments = (*ARGUMENTS, '--keep_prob=0.5', '--max_gradient_norm=0.05')
    assert run_script(*arguments, cwd=one)[0] == 0
    assert run(*arguments, cwd=other)[0] == 0
    assert_same_to_rounding(one, other)


def test_only_the_first_worker_prints_and_it_prints_everything(alone, two):
    assert (printed(two, 1), printed(two, 1, 'stderr')) == ('', '')
    output = printed(two, 0)
    assert '2 workers, each on 6 of the 12 streams' in output
    assert 'Iteration: 200, Epoch: 1, Batch: 200 out of' in output
    assert len(re.findall('^thou art more', output, re.MULTILINE)) == 3
    assert len(re.findall('^Held-out loss', output, re.MULTILINE)) == 4
    names = [sorted(os.listdir(str(folder / 'temp'))) for folder in (alone, two)]
    assert names[0] == names[1]


@pytest.mark.parametrize('number', [0, 1])
def test_a_killed_worker_ends_the_run_which_resumes_to_the_same_end(folder, two, number):
    process = start(*ARGUMENTS, cwd=folder)
    wait_for_save(folder)
    began = time.time()
    worker(process, number).kill()
    status, output, _ = end(process)
    assert status != 0
    assert time.time() - began < 60
    assert 'another worker has ended. The checkpoints so far are intact' in output
    assert run(*ARGUMENTS, cwd=folder)[0] == 0
    assert 'Resuming after iteration 100' in printed(folder, 0)
    assert content(folder / 'temp') == content(two / 'temp')


def test_a_hanging_worker_ends_the_run(folder, monkeypatch):
    monkeypatch.setenv('HOROVOD_GLOO_TIMEOUT_SECONDS', '5')
    process = start(*ARGUMENTS, cwd=folder)
    wait_for_save(folder)
    worker(process, 1).suspend()
    status, output, _ = end(process)
    assert status != 0 and 'another worker has ended' in output


@pytest.mark.parametrize('number', [0, 1])
def test_a_signal_to_any_worker_saves_and_stops_all_of_them(folder, two, number):
    process = start(*ARGUMENTS, cwd=folder)
    wait_for_save(folder)
    worker(process, number).send_signal(signal.SIGTERM)
    end(process)
    (iteration,) = re.findall(r'Stopped after iteration (\d+)', printed(folder, 0))
    assert (folder / 'temp' / 'loss.png').exists()
    assert (folder / 'temp' / f'model-{iteration}.index').exists()
    assert run(*ARGUMENTS, cwd=folder)[0] == 0
    assert f'Resuming after iteration {iteration}' in printed(folder, 0)
    assert history(folder / 'temp')['losses'] == history(two / 'temp')['losses']


@pytest.mark.parametrize('before, now', [(1, 2), (2, 1), (2, 3)])
def test_a_run_resumes_with_another_number_of_workers_to_the_same_end(folder, alone, before, now):
    def start_so_many(count):
        if count == 1:
            return start_script(*ARGUMENTS, cwd=folder)
        return start(*ARGUMENTS, cwd=folder, count=count)

    process = start_so_many(before)
    wait_for_save(folder)
    process.send_signal(signal.SIGTERM)
    end(process)
    status, output, _ = end(start_so_many(now))
    assert status == 0, output
    assert f'Changed since then: workers is {now} (was {before})' in output
    assert_same_to_rounding(alone, folder)


def test_a_finished_run_is_finished_for_all_workers(two, tmp_path):
    (tmp_path / 'short.txt').write_bytes((two / 'short.txt').read_bytes())
    before = content(two / 'temp')
    status, output = run(*ARGUMENTS, f'--temp_dir={two}/temp', cwd=tmp_path)
    assert status == 0, output
    assert 'This run is finished after 200 iterations' in printed(tmp_path, 0)
    assert content(two / 'temp') == before


DIFFERING = (
    'import os, sys, stacked_lstm_shakespeare as script; from backstage import running; '
    "rank = os.environ['HOROVOD_RANK']; {}; sys.exit(running.run(script.main, sys.argv[1:]))"
)


@pytest.mark.parametrize(
    'program, argument, told',
    [
        ([str(SCRIPT)], '--batch_size=13', 'batch_size must be a multiple of 2, the number of '),
        ([str(SCRIPT)], '--text_file=nowhere.txt', 'nowhere.txt cannot be read: No such file or d'),
        (['-m', 'tools.sample'], '--prime_text=so', 'only training can use several workers. Start'),
        (
            ['-c', DIFFERING.format('script.rnn_size += int(rank)')],
            *('--text_file=short.txt', 'the workers differ: rnn_size is 128 or 129. Use the same'),
        ),
        (
            ['-c', DIFFERING.format("script.text_file = f'{rank}.txt'")],
            *('--rnn_size=16', 'the text differs between hosts. Copy the same text to all'),
        ),
    ],
    ids=['batch', 'text', 'tool', 'settings', 'another text'],
)
def test_a_mistake_ends_all_workers_with_a_message(folder, program, argument, told):
    for rank in 0, 1:
        (folder / f'{rank}.txt').write_text((folder / 'short.txt').read_text()[rank:])
    status, output = run(argument, cwd=folder, program=program, hosts=TWO_HOSTS)
    assert status != 0
    assert told in output
    assert 'Traceback' not in printed(folder, 0, 'stderr') + printed(folder, 1, 'stderr')


def test_launchers_other_than_horovodrun_are_refused(folder):
    for name in 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS':
        status, output, errors = run_script(*ARGUMENTS, cwd=folder, **{name: '2'})
        assert (status, output, errors.count('\n')) == (2, '', 1)
        assert 'Start them with horovodrun instead of mpirun or srun' in errors
        assert not (folder / 'temp').exists()
