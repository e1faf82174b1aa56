"""How a command ends when it is told to: Ctrl-C and SIGTERM alike, in one line, without a traceback."""

import _thread
import contextlib
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace


def end_in_one_line():
    """From now on SIGTERM raises KeyboardInterrupt, as Ctrl-C does, and one that nobody catches is one line on stderr.

    Commands call this before their imports, which take seconds.
    """

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def report(kind, error, trace, others=sys.excepthook):
        if issubclass(kind, KeyboardInterrupt):
            path = Path(sys.argv[0])
            print(f"{path.parent.name if path.stem == '__main__' else path.name}: interrupted", file=sys.stderr)
        else:
            others(kind, error, trace)

    def come_again(ignored, others=sys.unraisablehook):
        # an interrupt where Python can't raise, as in a destructor, would be shown with its traceback and lost
        if isinstance(ignored.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            others(ignored)

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not, and there may be none
            stream.reconfigure(errors="backslashreplace")  # file names need be no UTF-8
    signal.signal(signal.SIGTERM, interrupt)
    sys.excepthook, sys.unraisablehook = report, come_again


def one_line(error):
    """Text of an error in one line; a file's name may hold more."""
    return " ".join(str(error).splitlines())


@contextlib.contextmanager
def errors_in_one_line(name, *kinds):
    """End the command `name` in one line on stderr, with exit code 2 for these kinds of errors, with 130 for Ctrl-C.

    For commands that write all or nothing; SIGTERM is Ctrl-C to them, see `end_in_one_line`.
    """
    try:
        yield
    except kinds as error:
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing written", file=sys.stderr)
        raise SystemExit(130) from None


@contextlib.contextmanager
def deferred_signals(message=""):
    """Let the block decide when to end: the first Ctrl-C or SIGTERM is only noted, a second one ends it at once.

    Args:
        message: said on stderr at the first one.

    Yields:
        an object whose `requested` is True from the first signal on. Outside the main thread, which alone gets
        signals, it never is.
    """
    state = SimpleNamespace(requested=False)

    def note(number, frame):
        if state.requested:
            raise KeyboardInterrupt
        state.requested = True
        if message:
            print(f"\n{message}", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
