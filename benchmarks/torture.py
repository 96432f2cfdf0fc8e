"""Kill runs with SIGKILL at random moments, let them go on, and compare how they end.

    python benchmarks/torture.py [runs]        100 runs, two at a time

Half of the kills come at a random iteration. The other half waits there for the next save to begin
and comes some thousandths of a second later. What is compared, bit for bit: the losses of all
iterations, the held-out losses, every variable in the newest and in the best checkpoint, and the
samples at the end.
"""

import concurrent.futures
import json
import pathlib
import random
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))

from conftest import content, run_script, sources, start_script, tf
from runs import ARGUMENTS, ITERATIONS, samples


def is_inside_a_save(temp):
    """Return whether the files show a save that was begun and did not end."""
    if list(temp.rglob('*.part')) or list(temp.rglob('*.tempstate*')):
        return True
    if not (temp / 'history.json').exists():
        return False
    saved = len(json.loads((temp / 'history.json').read_text())['losses'])
    named = tf.train.latest_checkpoint(str(temp))
    return named is None or not named.endswith(f'model-{saved}')


def kill_once(folder, moments):
    """Start or continue the run in a folder and kill it; return (killed, inside a save)."""
    temp = folder / 'temp'
    process = start_script(*ARGUMENTS, '--log_every=1', cwd=folder)
    target = moments.randint(1, ITERATIONS)
    for line in process.stdout:
        # A run that goes on begins later, and so it may be past its target.
        if line.startswith('Iteration: ') and int(line.split()[1].strip(',')) >= target:
            break
    if moments.random() < 0.5:
        before = stamp(temp)
        while stamp(temp) == before and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.06))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = process.returncode == -signal.SIGKILL
    return killed, killed and is_inside_a_save(temp)


def stamp(temp):
    """Return what changes when a save begins."""
    parts = list(temp.glob('history.json.*.part'))
    return parts, [path.stat().st_mtime_ns for path in temp.glob('history.json')]


def torture(number, text, expected):
    """Kill one run once to three times; return (kills, inside a save, whether it ended alike)."""
    moments = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / 'short.txt').write_bytes(text)
        kills = [kill_once(folder, moments) for _ in range(moments.randint(1, 3))]
        status, output, errors = run_script(*ARGUMENTS, cwd=folder)
        ended = content(folder / 'temp') if status == 0 else errors
        is_alike = (status, errors, ended) == (0, '', expected[0])
        drawn = samples(output)
        is_alike = is_alike and drawn == expected[1][len(expected[1]) - len(drawn) :]
    return sum(killed for killed, _ in kills), sum(inside for _, inside in kills), is_alike


def main(runs):
    text = sources.read_package(timeout=60)[2_000_000:2_020_000]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / 'short.txt').write_bytes(text)
        status, output, _ = run_script(*ARGUMENTS, cwd=folder)
        assert status == 0
        expected = content(folder / 'temp'), samples(output)
        assert len(expected[0][0]['losses']) == ITERATIONS
    kills = inside = differing = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, result in enumerate(
            pool.map(lambda n: torture(n, text, expected), range(runs)), start=1
        ):
            kills, inside = kills + result[0], inside + result[1]
            differing += not result[2]
            print(
                f'{number} runs, {kills} kills, {inside} of them inside a save; '
                f'{differing} runs ended differently',
                flush=True,
            )
    return 1 if differing or kills < runs // 2 else 0


if __name__ == '__main__':
    sys.exit(main(int((sys.argv[1:] or ['100'])[0])))
