"""Running a program: requests to stop it, and its error messages."""

import contextlib
import errno
import math
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback

from backstage import first_line, report, tf, workers
from backstage.settings import UserError

# The signals that request a stop, and the seconds after which the next one counts as a second
# request. Make, `timeout` and the shell of a closed terminal send a signal again to programs that
# already have it. The system repeats SIGXCPU every second.
SECONDS = {'SIGINT': 0.3, 'SIGTERM': 3, 'SIGHUP': 3, 'SIGUSR2': 3, 'SIGXCPU': math.inf}
SIGNALS = {getattr(signal, name): s for name, s in SECONDS.items() if hasattr(signal, name)}
SAVE = getattr(signal, 'SIGUSR1', None)  # requests a checkpoint; training continues


class Stop:
    """Turns Ctrl-C and other signals into a stop request; a second one ends the process at once.

    It does so from `listen` to the end of the `with` block. In the whole block, an error while
    printing does not end the program. SIGUSR1 requests a checkpoint.

    Python runs its handlers only between two calls, and a session call may take long. So a thread
    waits on a socket to which Python writes as soon as a signal arrives.

    Attributes:
      signal: int, the number of the signal that arrived; 0 before that.
    """

    def __init__(self):
        self.signal = 0
        self.is_save_wanted = False
        self.stack = contextlib.ExitStack()  # what to restore

    def __enter__(self):
        self.stack.enter_context(unbroken_output())
        return self

    def __exit__(self, *error):
        self.stack.close()

    def listen(self):
        """Start to handle signals as requests."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals only to the main thread
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self.stack.callback(writer.close)  # ends the thread
        for number in filter(None, [*SIGNALS, SAVE]):
            is_ignored = signal.getsignal(number) == signal.SIG_IGN
            if not is_ignored or number in (signal.SIGINT, SAVE):  # nohup ignores SIGHUP
                earlier = signal.signal(number, lambda *_: None)
                self.stack.callback(signal.signal, number, earlier)
        self.stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno()))
        threading.Thread(target=self._watch, args=[reader], daemon=True).start()

    def wants_save(self):
        """Return whether a checkpoint was requested since the last call."""
        wanted = self.is_save_wanted
        if wanted:  # else a request that arrives now would be lost
            self.is_save_wanted = False
        return wanted

    @property
    def status(self):
        """The exit status of a stopped program, as a shell reports it."""
        if not workers.is_first():
            return 0  # otherwise, the launcher would end worker 0 while it is still saving
        return 128 + (self.signal or signal.SIGTERM)  # 0: another worker got the signal

    def _watch(self, reader):
        with reader:
            for (number,) in iter(lambda: reader.recv(1), b''):
                if number == SAVE:
                    self.is_save_wanted = True
                    say('saving after this iteration')
                elif number in SIGNALS and not self.signal:
                    self.signal, first = number, time.monotonic()
                    say('saving, then stopping; a second signal stops now without saving')
                elif number in SIGNALS and time.monotonic() - first > SIGNALS[number]:
                    say('stopped without saving')
                    os._exit(128 + number)


def say(what):
    """Print a line at once, if standard error can take it."""
    if not workers.is_first():
        return
    with contextlib.suppress(OSError, ValueError):  # a notebook and Windows cannot tell
        if not select.select([], [sys.stderr.fileno()], [], 0)[1]:
            return  # nobody reads; a thread that blocks here would miss the next signal
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        # Not with tqdm: another thread may hold its lock while it waits for a reader.
        print(f'{os.path.basename(sys.argv[0])}: {what}.', file=sys.stderr, flush=True)


class Unbroken:
    """A text stream that ignores errors when writing."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            self.stream.flush()


@contextlib.contextmanager
def unbroken_output():
    """Keep printing from ending the program if a pipe or terminal is closed or a disk is full."""
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = map(Unbroken, streams)
        yield
    finally:
        sys.stdout, sys.stderr = streams
        flush_or_drop(*streams)


def flush_or_drop(*streams):
    """Flush streams. If that fails, drop the rest, or Python would fail at exit."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_finite(iteration, loss, norm=0.0):
    """Raise UserError if the loss or the global norm of the gradient is not finite."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
            f'at iteration {iteration}, the loss is {loss} (gradient norm {norm}). Start over with '
            f'--restart and a learning_rate below that in the line "Run:", or a lower '
            f'max_gradient_norm'
        )


def explain(error):
    """Return the message of an error for the user; None if the error is a bug in the program."""
    if isinstance(error, (UserError, OSError, UnicodeError)):
        return str(error)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return f'{error}. There is too little memory (see "ulimit -v" and "ulimit -u")'
    is_full = isinstance(error, MemoryError)
    if 'tensorflow' in sys.modules and isinstance(error, tf.errors.OpError):
        # TensorFlow raises the same error if memory, a disk or a table of open files is full.
        files = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)]
        is_full = isinstance(error, tf.errors.ResourceExhaustedError)
        if not is_full or any(reason in str(error) for reason in files):
            return f'TensorFlow failed: {first_line(error)}'
    sizes = 'rnn_size, num_layers, batch_size or training_seq_len'
    return f'out of memory. Lower {sizes}' if is_full else None


def run(main, arguments):
    """Call the `main` of a program and return the exit status. A mistake is printed in one line.

    With SHOW_TRACEBACK set, a traceback for developers comes before that line.
    """
    for name, mode in ('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'):
        if getattr(sys, name) is None:  # closed by the shell, as with <&-
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  stays open
    # Lines reach a log file at once. A character that the encoding lacks is printed as '?'.
    if hasattr(sys.stdout, 'reconfigure'):  # not in a notebook
        sys.stdout.reconfigure(line_buffering=True, errors='replace')
    elif sys.version_info < (3, 7) and sys.stdout is sys.__stdout__:
        how = {'encoding': sys.stdout.encoding, 'errors': 'replace', 'closefd': False}
        sys.stdout = open(sys.stdout.fileno(), 'w', 1, **how)  # noqa: SIM115  stays open
    try:
        return main(arguments)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        if os.environ.get('SHOW_TRACEBACK'):
            traceback.print_exc()
    program = os.path.basename(main.__code__.co_filename)
    with contextlib.suppress(OSError):  # if standard error fails, the exit status remains
        line = f'{program}: {" ".join(problem.split())}.'
        print(report.shown(line, sys.stderr), file=sys.stderr)
    flush_or_drop(sys.stdout, sys.stderr)
    return 2
