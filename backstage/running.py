"""Running a program: how it is asked to stop, and what it says when something is wrong."""

import contextlib
import errno
import math
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import traceback

from backstage import report, tf, workers
from backstage.settings import UserError

# The signals that ask to stop, and how many seconds later one counts as the second. Make, `timeout`
# and a shell whose terminal was closed pass it on to programs that have had it already; of the time
# that a process may take, the system reminds it each second.
SECONDS = {'SIGINT': 0.3, 'SIGTERM': 3, 'SIGHUP': 3, 'SIGUSR2': 3, 'SIGXCPU': math.inf}
SIGNALS = {getattr(signal, name): s for name, s in SECONDS.items() if hasattr(signal, name)}
SAVE = getattr(signal, 'SIGUSR1', None)  # asks to save, and to go on


class Stop:
    """Turns Ctrl-C and other signals into a request; once more, later, ends the process at once.

    It does so from `listen` on, to the end of its `with`. In all of the `with`, no reader that has
    gone, no full disk and no closed terminal ends the program. SIGUSR1 asks for a save (Slurm sends
    it some time before the end of a job, if asked to).

    Python calls its own handlers only between two calls, and a session call can last. Therefore
    a thread waits for what Python writes into a socket at the moment that a signal comes.

    Attributes:
      signal: int, the number of the signal that came; 0 before.
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
        """Begin to take signals as requests."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python gives them to the main thread alone
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self.stack.callback(writer.close)  # the thread reads to the end, and ends
        for number in filter(None, [*SIGNALS, SAVE]):
            is_ignored = signal.getsignal(number) == signal.SIG_IGN
            if not is_ignored or number in (signal.SIGINT, SAVE):  # others as nohup wants them
                earlier = signal.signal(number, lambda *_: None)
                self.stack.callback(signal.signal, number, earlier)
        self.stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno()))
        threading.Thread(target=self._watch, args=[reader], daemon=True).start()

    def wants_save(self):
        """Return whether a save was asked for since this was last called."""
        wanted = self.is_save_wanted
        if wanted:  # else one that comes now would be lost
            self.is_save_wanted = False
        return wanted

    @property
    def status(self):
        """The exit status of a program that was stopped, as a shell reports it."""
        if not workers.is_first():
            return 0  # the launcher would end all at once, and worker 0 is still saving
        return 128 + (self.signal or signal.SIGTERM)  # without a signal here another worker got it

    def _watch(self, reader):
        with reader:
            for (number,) in iter(lambda: reader.recv(1), b''):
                if number == SAVE:
                    self.is_save_wanted = True
                    say('saving, after this iteration')
                elif number in SIGNALS and not self.signal:
                    self.signal, first = number, time.monotonic()
                    say('stopping, once the run is saved; a second one stops it now, unsaved')
                elif number in SIGNALS and time.monotonic() - first > SIGNALS[number]:
                    say('stopped, unsaved')
                    os._exit(128 + number)


def say(what):
    """Tell at once what is done about a signal, if somebody can read it."""
    if not workers.is_first():
        return
    with contextlib.suppress(OSError, ValueError):  # not known of a notebook, and on Windows
        if not select.select([], [sys.stderr.fileno()], [], 0)[1]:
            return  # nobody reads, and a thread that waits would not hear the next signal
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        # Not by tqdm, whose lock another thread may hold while it waits for a reader.
        print(f'{os.path.basename(sys.argv[0])}: {what}.', file=sys.stderr, flush=True)


class Unbroken:
    """A text stream for which it does not matter whether what is written arrives."""

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
    """Let no reader that has gone, no full disk and no closed terminal end what is printing."""
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = map(Unbroken, streams)
        yield
    finally:
        sys.stdout, sys.stderr = streams
        flush_or_drop(*streams)


def flush_or_drop(*streams):
    """Flush streams. Where that fails, drop what is left: at its end Python would fail."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_finite(iteration, loss, norm=0.0):
    """Raise UserError if the loss, or the norm of its gradient, is not a number any more."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
            f'the loss is {loss} and the norm of its gradient {norm} at iteration {iteration}; '
            f'nothing was saved after the last checkpoint. Begin again with --restart and a lower '
            f'learning_rate than the line "Run:" names, or a lower max_gradient_norm'
        )


def one_line(error):
    """Return what an error says, without the graph that TensorFlow adds."""
    text = str(getattr(error, 'message', error)).split('Original error:')[-1]
    text = re.split(r"^Node: '.*\n", text, flags=re.MULTILINE)[-1]  # before it: where it is made
    return text.strip().split('\n')[0]


def explain(error):
    """Return what to tell the user of an error; None: it is a mistake in the program."""
    if isinstance(error, (UserError, OSError, UnicodeError)):
        return str(error)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return f'{error}. There is too little memory (see "ulimit -v" and "-u")'
    is_full = isinstance(error, MemoryError)
    if 'tensorflow' in sys.modules and isinstance(error, tf.errors.OpError):
        # TensorFlow has one kind of error for a memory, a disk, or a table of files that is full.
        files = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)]
        is_full = isinstance(error, tf.errors.ResourceExhaustedError)
        if not is_full or any(reason in str(error) for reason in files):
            return f'TensorFlow failed: {one_line(error)}'
    sizes = 'rnn_size, num_layers, batch_size, training_seq_len or streams'
    return f'memory is full; lower {sizes}' if is_full else None


def run(main, arguments):
    """Call the `main` of a program; return the exit status, after one line for a mistake.

    Where SHOW_TRACEBACK is set, its traceback comes before, for those who change the code.
    """
    for name, mode in ('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'):
        if getattr(sys, name) is None:  # a shell has closed it, as <&- does
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  to the end
    # A log file is never far behind; a terminal that lacks a character shows '?' in its place.
    if hasattr(sys.stdout, 'reconfigure'):  # not in a notebook
        sys.stdout.reconfigure(line_buffering=True, errors='replace')
    elif sys.version_info < (3, 7) and sys.stdout is sys.__stdout__:
        how = {'encoding': sys.stdout.encoding, 'errors': 'replace', 'closefd': False}
        sys.stdout = open(sys.stdout.fileno(), 'w', 1, **how)  # noqa: SIM115  to the end
    try:
        return main(arguments)
    except BrokenPipeError:  # the reader of the output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        if os.environ.get('SHOW_TRACEBACK'):
            traceback.print_exc()
    program = os.path.basename(main.__code__.co_filename)
    with contextlib.suppress(OSError):  # where standard error is full or gone, the status is left
        line = f'{program}: {" ".join(problem.split())}.'
        print(report.shown(line, sys.stderr), file=sys.stderr)
    flush_or_drop(sys.stdout, sys.stderr)
    return 2
