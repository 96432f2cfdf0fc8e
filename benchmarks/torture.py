"""Disturb runs at random moments, let them go on, and compare how they end.

    python benchmarks/torture.py [runs]        100 runs, two at a time

What is done to them: SIGKILL at a random iteration; SIGKILL some thousandths of a second after a
save began; SIGTERM twice, as `timeout` and make deliver it; SIGHUP; a reader of the output that
goes away, and then Ctrl-C; a disk that is full for a while, for the log too; and a history that is
lost after a kill.

What is compared, bit for bit: the losses of all iterations (but those that were lost), the held-out
losses, every variable in the newest and in the best checkpoint, and the samples at the end. And a
run that was stopped, not killed, must have saved all that it had learned.
"""

import collections
import concurrent.futures
import pathlib
import random
import resource
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))

import numpy as np
from conftest import content, run_script, sources, start_script
from runs import ARGUMENTS, samples

SAVE_EVERY = 50  # in ARGUMENTS


def newest(temp):
    """Return the iteration of the newest checkpoint that is whole, 0 if there is none."""
    names = [path.stem for path in temp.glob('model-*.index')]
    return max((int(name.rpartition('-')[2]) for name in names), default=0)


def size_of_history(temp):
    """Return what grows when a save begins."""
    return sum(path.stat().st_size for path in temp.glob('history.csv'))


def kill(process, temp, moments):
    process.send_signal(signal.SIGKILL)


def kill_in_a_save(process, temp, moments):
    before = size_of_history(temp)
    while size_of_history(temp) == before and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(moments.uniform(0, 0.06))
    process.send_signal(signal.SIGKILL)


def terminate_twice(process, temp, moments):
    process.send_signal(signal.SIGTERM)
    time.sleep(moments.uniform(0, 0.5))
    process.send_signal(signal.SIGTERM)


def hang_up(process, temp, moments):
    process.send_signal(signal.SIGHUP)


def close_pipe(process, temp, moments):
    process.stdout.close()
    time.sleep(moments.uniform(0, 0.5))
    process.send_signal(signal.SIGINT)


def fill_disk(process, temp, moments):
    """Let files grow no longer than a random size, for a while; then kill."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (moments.randint(0, 40_000), hard))
    time.sleep(moments.uniform(0, 2))
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        time.sleep(moments.uniform(0, 1))
        process.send_signal(signal.SIGKILL)


def lose_history(process, temp, moments):
    process.send_signal(signal.SIGKILL)
    process.wait()
    if newest(temp):
        (temp / 'history.csv').unlink()


KILLS = kill, kill_in_a_save, fill_disk, lose_history
STOPS = terminate_twice, hang_up, close_pipe


def disturb(folder, moments, iterations):
    """Disturb a run of so many iterations, or one that goes on; return what happened, a Counter."""
    temp = folder / 'temp'
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    target, seen = moments.randint(1, iterations), 0
    for line in process.stdout:
        # A run that goes on begins later, and so it may be past its target.
        if line.startswith('Iteration: '):
            seen = int(line.split()[1].strip(','))
            if seen >= target:
                break
    how = moments.choice(KILLS + STOPS)
    was_there = (temp / 'history.csv').exists()
    how(process, temp, moments)
    if not process.stdout.closed:
        process.stdout.read()
    process.stderr.read()
    status = process.wait()
    happened = collections.Counter({how.__name__: 1})
    # At most what was learned since the last save is lost; by a stop nothing.
    kept = (seen - 1) // SAVE_EVERY * SAVE_EVERY if status == -signal.SIGKILL else seen
    happened['lost more'] += bool(status) and how is not fill_disk and newest(temp) < kept
    happened['lost histories'] += how is lose_history and was_there
    return happened


def is_alike(ended, expected):
    """Return whether two runs ended alike, but for losses that were lost with a history."""
    (ours, values), (theirs, expected_values) = ended, expected
    losses, known = np.array(ours['losses']), ~np.isnan(ours['losses'])
    held_out = [one for one in theirs['held_out_losses'] if known[one[0] - 1]]
    return (
        values == expected_values
        and len(losses) == len(theirs['losses'])
        and (losses[known] == np.array(theirs['losses'])[known]).all()
        and [one for one in ours['held_out_losses'] if known[one[0] - 1]] == held_out
    )


def torture(number, text, expected):
    """Disturb one run once to three times; return what happened, and whether it ended alike."""
    moments = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / 'short.txt').write_bytes(text)
        iterations, happened = len(expected[0][0]['losses']), collections.Counter()
        for _ in range(moments.randint(1, 3)):
            happened += disturb(folder, moments, iterations)
        status, output, errors = run_script(*ARGUMENTS, cwd=folder)
        drawn = samples(output)
        alike = (status, errors) == (0, '') and is_alike(content(folder / 'temp'), expected[0])
        alike = alike and drawn == expected[1][len(expected[1]) - len(drawn) :]
        alike = alike and (happened['lost histories'] or not np.isnan(
            content(folder / 'temp')[0]['losses']).any())  # fmt: skip
    return happened, alike


def main(runs):
    text = sources.read_package(timeout=60)[2_000_000:2_020_000]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / 'short.txt').write_bytes(text)
        status, output, _ = run_script(*ARGUMENTS, cwd=folder)
        assert status == 0
        expected = content(folder / 'temp'), samples(output)
    happened, differing = collections.Counter(), 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (more, alike) in enumerate(
            pool.map(lambda n: torture(n, text, expected), range(runs)), start=1
        ):
            happened += more
            differing += not alike
            counts = ', '.join(f'{count} {name}' for name, count in sorted(happened.items()))
            print(f'{number} runs: {counts}; {differing} runs ended differently', flush=True)
    return 1 if differing or happened['lost more'] else 0


if __name__ == '__main__':
    sys.exit(main(int((sys.argv[1:] or ['100'])[0])))
