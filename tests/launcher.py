"""Starts the programs of the project as processes that need not import TensorFlow.

The import takes three seconds, and the tests start hundreds of programs. So one process, the
launcher, imports TensorFlow, and each program is a fork of it. A fork has its own streams, folder
and environment. It ends, is killed and is waited for like any process. This works only on Linux,
which can make it a child of the tests.
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

PR_SET_CHILD_SUBREAPER = 36  # for prctl: this process adopts orphaned descendants


class Process(subprocess.Popen):
    """A Popen of a Python program, [path, ...] or ['-m', module, ...], forked by the launcher.

    It needs `cwd` and `env`. Besides them it takes only the three streams.
    """

    pipe, lock = None, threading.Lock()  # to the launcher; one thread at a time may use it

    def _execute_child(self, args, *more):
        cwd, env = more[4:6]
        # For each of the three streams the program's end and ours, or -1 if there is none.
        read_in, write_in, read_out, write_out, read_error, write_error = more[9:15]
        theirs, ours = (read_in, write_out, write_error), (write_in, read_out, read_error)
        with Process.lock:
            Process.pipe = Process.pipe or start_launcher()
            Process.pipe.send((args, cwd, env))
            for number, stream in enumerate(theirs):
                reduction.send_handle(Process.pipe, number if stream < 0 else stream, None)
            self.pid = Process.pipe.recv()
            Process.pipe.recv()  # by now the process is our child
        self._child_created = self._closed_child_pipe_fds = True
        for stream, other in zip(theirs, ours):
            if other >= 0:
                os.close(stream)
        if hasattr(self, '_devnull'):
            os.close(self._devnull)


def start_launcher():
    """Start the launcher, which ends with this process; return the pipe for requests."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    pipe, theirs = connection.Pipe()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': root},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # pipes, like those of the programs
            stdout=subprocess.PIPE,
        )
    atexit.register(lambda: (pipe.close(), process.wait()))
    pipe.recv()  # everything is imported
    return pipe


def serve(pipe):
    """Fork for each request. The fork returns (command, folder, environment, streams)."""
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
            os._exit(0)  # which orphans the new process
        os.waitpid(between, 0)
        pipe.send('done')
        for stream in streams:
            os.close(stream)


def become(command, cwd, env, streams):
    """Run a program as if Python had been started with it."""
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
    backstage.leave_signals_to_the_system()  # as if the program had just imported it
    if is_module:
        runpy.run_module(command[1], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    import backstage
    from stacked_lstm_shakespeare import tf

    tf.contrib.rnn.BasicLSTMCell  # noqa: B018  the first access imports it
    import matplotlib.pyplot  # noqa: F401

    become(*serve(connection.Connection(int(sys.argv[1]))))
