"""What Ctrl-C does to a program, at moments at which nothing has to be saved.

C functions of TensorFlow, and of what it imports, call Python, and not all of them look whether an
error came of it. A KeyboardInterrupt that is raised there is lost, or becomes a SystemError, or
ends in a segmentation fault. So none is raised there.
"""

import contextlib
import os
import signal
import sys
import threading

HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def end_while_importing():
    """Let Ctrl-C end the process as it does one that is not Python, until `between_calls`.

    That is for the script and the tools. A notebook that imports one of them lives on.
    """
    program = os.path.realpath(getattr(sys.modules['__main__'], '__file__', None) or os.devnull)
    folder = os.path.dirname(program)
    is_ours = folder in (HOME, os.path.join(HOME, 'tools'))
    if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def between_calls():
    """Let Ctrl-C raise KeyboardInterrupt, but never within a call of TensorFlow: at its end."""
    earlier = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()  # Python asks that
    is_taken = is_main and earlier in (signal.default_int_handler, signal.SIG_DFL)
    if is_taken:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if is_taken:
            signal.signal(signal.SIGINT, earlier)


def interrupt(_, frame):
    """Raise KeyboardInterrupt, where TensorFlow is called at the next line after that call."""
    caller = None
    while frame:
        if frame.f_globals.get('__name__', '').startswith('tensorflow'):
            caller = frame.f_back
        frame = frame.f_back

    def end(*_):
        raise KeyboardInterrupt

    if not caller:
        end()
    caller.f_trace = end  # as a debugger stops where a function has returned
    sys.settrace(lambda *_: None)
