"""Running a program: how it is asked to stop, and what it says when something is wrong."""

import errno
import math
import os
import signal
import socket
import sys
import threading

from backstage import tf, workers
from backstage.settings import UserError

from tqdm import tqdm


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a request; the next one ends the process at once.

    It does so from `listen` on, to the end of the `with` in which it is used.

    Python calls its own handlers only between two calls, and a session call can last. Therefore
    a thread waits for what Python writes into a socket at the moment that a signal comes.

    Attributes:
      signal: int, the number of the signal that came; 0 before.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.signal = 0
        self.earlier = {}  # what was done at each signal before

    def __enter__(self):
        return self

    def listen(self):
        """Begin to take signals as requests."""
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        signal.set_wakeup_fd(self.writer.fileno())
        threading.Thread(target=self.watch, daemon=True).start()
        self.earlier = {number: signal.signal(number, lambda *_: None) for number in self.SIGNALS}

    @property
    def status(self):
        """The exit status of a program that was stopped, as a shell reports it."""
        if not workers.is_first():
            return 0  # the launcher would end all at once, and worker 0 is still saving
        return 128 + (self.signal or signal.SIGTERM)  # without a signal here another worker got it

    def watch(self):
        with self.reader:
            for (number,) in iter(lambda: self.reader.recv(1), b''):
                if self.signal:
                    program = os.path.basename(sys.argv[0])
                    print(f'{program}: stopped at once.', file=sys.stderr, flush=True)
                    os._exit(128 + number)
                self.signal = number

    def __exit__(self, *_):
        if self.earlier:
            signal.set_wakeup_fd(-1)
            for number, handler in self.earlier.items():
                signal.signal(number, handler)
            self.writer.close()  # the thread reads to the end, and ends


def progress_bar(done, num_iterations, settings):
    """Return a tqdm bar of the characters read in so many iterations, where there is a terminal."""
    characters = settings.batch_size * settings.training_seq_len
    return tqdm(
        initial=done * characters,
        total=num_iterations * characters,
        unit='char',
        unit_scale=True,
        dynamic_ncols=True,
        disable=None if workers.is_first() else True,  # None: quiet but for a terminal
    )


def check_finite(iteration, loss, norm):
    """Raise UserError if the loss, or the norm of its gradient, is not a number any more."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
            f'the loss is {loss} and the norm of its gradient {norm} at iteration {iteration}; '
            f'nothing was saved after the last checkpoint. Begin anew with --restart and a lower '
            f'learning_rate or max_gradient_norm'
        )


def one_line(error):
    """Return what an error says, without the graph that TensorFlow adds."""
    text = str(getattr(error, 'message', error)).split('Original error:')[-1]
    return text.strip().split('\n')[0]


def run(main, arguments):
    """Call the `main` of a program; return the exit status, after one line for a mistake."""
    # A log file is never far behind; a terminal that lacks a character shows '?' in its place.
    sys.stdout.reconfigure(line_buffering=True, errors='replace')
    try:
        return main(arguments)
    except BrokenPipeError:  # the reader of the output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError, UnicodeError) as error:
        problem, status = str(error), 2
    except (tf.errors.OpError, MemoryError) as error:
        problem, status = f'TensorFlow failed: {one_line(error)}', 2
        # TensorFlow has one kind of error for a memory, a disk, or a table of files that is full.
        files = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)]
        is_exhausted = isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError))
        if is_exhausted and not any(reason in str(error) for reason in files):
            sizes = 'rnn_size, num_layers, batch_size, training_seq_len or streams'
            problem = f'memory is full; lower {sizes}'
    except KeyboardInterrupt:
        problem, status = 'stopped', 130  # what a shell reports of a program that Ctrl-C ended
    program = os.path.basename(main.__code__.co_filename)
    print(f'{program}: {" ".join(problem.split())}.', file=sys.stderr)
    return status
