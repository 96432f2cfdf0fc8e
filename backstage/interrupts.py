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
    """Let Ctrl-C end the process as it does one that is not Python, but not in `between_calls`.

    That is for a process of the script or a tool alone. What imports or runs one of them, such as a
    notebook or a prompt, lives on.
    """
    program = os.path.realpath(getattr(sys.modules['__main__'], '__file__', None) or os.devnull)
    is_script = program == os.path.join(HOME, 'stacked_lstm_shakespeare.py')
    is_ours = is_script or os.path.dirname(program) == os.path.join(HOME, 'tools')
    # Where somebody types: with `python -i`, and in IPython, whose %run runs programs
    has_prompt = sys.flags.inspect or hasattr(sys, 'ps1')
    if is_ours and not has_prompt:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if hasattr(signal, 'SIGUSR1'):  # asks to save, and there is nothing to save yet
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextlib.contextmanager
def between_calls():
    """Let Ctrl-C raise KeyboardInterrupt, but never within a call of TensorFlow: after it.

    And let SIGUSR1 end nothing: it asks to save, and where this holds there is nothing to save.
    """
    earlier = {}
    if threading.current_thread() is threading.main_thread():  # which alone may set a handler
        if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
            earlier[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
        if hasattr(signal, 'SIGUSR1') and signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            earlier[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def interrupt(_, frame):
    """Raise KeyboardInterrupt. In a call of TensorFlow, let its caller raise it when that ends."""
    caller = None
    while frame:
        if frame.f_globals.get('__name__', '').startswith('tensorflow'):
            caller = frame.f_back
        frame = frame.f_back

    def end(*_):
        raise KeyboardInterrupt

    if not caller:
        end()
    # As a debugger stops where a function has returned. A caller that Python calls while it cleans
    # up, such as a `__del__`, could not raise it; there is none.
    caller.f_trace = end
    sys.settrace(lambda *_: None)
