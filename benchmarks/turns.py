"""Processes that take turns on the same cores, so that their speeds can be compared.

This needs only NumPy, because PyTorch and JAX have their own environments.
"""

import contextlib
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

STEPS = str(pathlib.Path(__file__).with_name('steps.py'))


def memory():
    """Return the peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def serve(steps):
    """Take as many steps as each line of standard input says; print the seconds and the memory.

    Args:
      steps: iterator. It yields once when it is ready, and then after each step.
    """
    output, sys.stdout = sys.stdout, sys.stderr  # keep other output apart from the answers
    next(steps)
    print(0, memory(), file=output, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            next(steps)
        print(time.perf_counter() - start, memory(), file=output, flush=True)


class Stepper:
    """A process that calls `serve`.

    Attributes:
      seconds: list of float, the seconds for a step in each turn.
      memory, memory_at_start: float, MB, the peak so far, and the peak until it was ready.
    """

    def __init__(self, name, *arguments, python=sys.executable, program=STEPS, **environment):
        # The script lets TensorFlow keep freed memory; the recipe uses the default allocator.
        keeps_memory = str(not name.startswith('recipe')).lower()
        self.errors = tempfile.TemporaryFile('w+')  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, program, name, *arguments],
            env={**os.environ, 'TF_CPU_ALLOCATOR_USE_BFC': keeps_memory, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            universal_newlines=True,
        )
        self.seconds, self.memory_at_start = [], None

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            self.end()
            self.errors.seek(0)
            how = f'status {self.process.returncode}: {self.errors.read()}'
            raise RuntimeError(f'{" ".join(self.process.args)} ended early, {how}')
        seconds, self.memory = map(float, line.split())
        return seconds

    def run(self, steps):
        """Take this many steps; return the seconds for each."""
        if self.memory_at_start is None:
            self._read()
            self.memory_at_start = self.memory
        with contextlib.suppress(BrokenPipeError):  # it has ended; _read says why
            self.process.stdin.write(f'{steps}\n')
            self.process.stdin.flush()
        return self._read() / steps

    def end(self):
        self.process.communicate()  # it ends with its input

    @property
    def median(self):
        return statistics.median(self.seconds)


def take_turns(turns, *steppers, seconds=1.0):
    """Let the Steppers take `turns` turns of about `seconds` seconds each; return them."""
    steps = []
    for stepper in steppers:
        stepper.run(1)  # the first takes longer
        steps.append(max(1, round(seconds / stepper.run(1))))
    for _ in range(turns):
        for stepper, number in zip(steppers, steps):
            stepper.seconds.append(stepper.run(number))
    for stepper in steppers:
        stepper.end()
    return steppers


def with_quartiles(values, form=',.0f'):
    """Return the median of some numbers, with their quartiles in brackets: str."""
    first, median, third = (format(v, form) for v in np.percentile(values, [25, 50, 75]))
    return f'{median} ({first} to {third})'
