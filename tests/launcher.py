"""Starts the programs of the project as processes that need not import TensorFlow first.

That takes three seconds, and the tests start some hundreds. So one process imports it, and each
program is a fork of that: a process of its own, with its own streams, folder and environment, which
ends, is killed and is waited for as any other. (Linux alone can make it a child of the tests.)
"""

import atexit
import ctypes
import importlib.util
import os
import runpy
import subprocess
import sys
import threading
from multiprocessing import connection, reduction

PR_SET_CHILD_SUBREAPER = 36  # of prctl: what loses its parent becomes a child of this process


class Process(subprocess.Popen):
    """A Popen of a Python program, [path, ...] or ['-m', module, ...], forked by the launcher.

    It needs `cwd` and `env`, and knows no other argument than the three streams.
    """

    pipe, lock = None, threading.Lock()  # to the launcher; a request of one thread at a time

    def _execute_child(self, args, *more):
        cwd, env = more[4:6]
        # Those of the program and ours, -1 where there is none, of each of the three streams.
        read_in, write_in, read_out, write_out, read_error, write_error = more[9:15]
        theirs, ours = (read_in, write_out, write_error), (write_in, read_out, read_error)
        with Process.lock:
            Process.pipe = Process.pipe or start_launcher()
            Process.pipe.send((args, cwd, env))
            for number, stream in enumerate(theirs):
                reduction.send_handle(Process.pipe, number if stream < 0 else stream, None)
            self.pid = Process.pipe.recv()
            Process.pipe.recv()  # it is ours by now
        self._child_created = self._closed_child_pipe_fds = True
        for stream, other in zip(theirs, ours):
            if other >= 0:
                os.close(stream)
        if hasattr(self, '_devnull'):
            os.close(self._devnull)


def start_launcher():
    """Start the process that forks; return the pipe for requests. It ends with this one."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    pipe, theirs = connection.Pipe()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': root},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # pipes, as those of the programs will be
            stdout=subprocess.PIPE,
        )
    atexit.register(lambda: (pipe.close(), process.wait()))
    pipe.recv()  # all is imported
    return pipe


def serve(pipe):
    """Fork for each request; return in the new process: command, folder, environment, streams."""
    pipe.send('ready')
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            os._exit(0)
        streams = [reduction.recv_handle(pipe) for _ in range(3)]
        between = os.fork()
        if not between:
            number = os.fork()
            if not number:
                pipe.close()
                return (*request, streams)
            pipe.send(number)
            os._exit(0)  # so the new process loses its parent
        os.waitpid(between, 0)
        pipe.send('done')
        for stream in streams:
            os.close(stream)


def become(command, cwd, env, streams):
    """Run a program, as if Python had been started with it."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    is_module = command[0] == '-m'
    sys.argv = command[1:] if is_module else command
    sys.path[0] = cwd if is_module else os.path.dirname(command[0])
    path = importlib.util.find_spec(command[1]).origin if is_module else command[0]
    sys.modules['__main__'].__file__ = path
    backstage.leave_signals_to_the_system()  # as where the program imports it first
    if is_module:
        runpy.run_module(command[1], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    import backstage
    from stacked_lstm_shakespeare import tf

    tf.contrib.rnn.BasicLSTMCell  # noqa: B018  it is found only now
    import matplotlib.pyplot  # noqa: F401

    become(*serve(connection.Connection(int(sys.argv[1]))))
