"""What all commands share: start, the error that a user can cause, end, number flags.

Imports nothing slow: a command calls `start` before its other imports.
"""

import argparse
import contextlib
import functools
import math
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

# whatever another project or a notebook has set
SETTINGS = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,  # no keras.json: its channels_first or float16 break ours
    "MPLBACKEND": "agg",
}
DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # a second process finds room
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # our own line says it
}


class UserError(ValueError):
    """What a user can cause; the message: file or flag, found, expected, what to do."""


def set_environment():
    """Has to come before the first import of TensorFlow, OpenCV or matplotlib."""
    os.environ.update({**DEFAULTS, **os.environ, **SETTINGS})


def start():
    """Begin a command: SIGTERM is as Ctrl-C; a KeyboardInterrupt that nobody catches ends in one line."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def report(kind, error, trace, others=sys.excepthook):
        if issubclass(kind, KeyboardInterrupt):
            path = Path(sys.argv[0])
            print(f"{path.parent.name if path.stem == '__main__' else path.name}: interrupted", file=sys.stderr)
        else:
            others(kind, error, trace)

    set_environment()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not; there may be none
            stream.reconfigure(errors="backslashreplace")  # file names need be no UTF-8
    signal.signal(signal.SIGTERM, interrupt)
    sys.excepthook = report


def command(name, interrupted="nothing written"):
    """Decorator of a `main`: UserError and OSError end in one line and exit code 2, Ctrl-C in 130."""

    def decorate(main):
        @functools.wraps(main)
        def run(argv=None):
            try:
                code = main(argv) or 0
            except (UserError, OSError) as error:
                print(f"{name}: error: {one_line(error)}", file=sys.stderr)
                code = 2
            except KeyboardInterrupt:
                print(f"{name}: interrupted, {interrupted}", file=sys.stderr)
                code = 130
            if code:
                raise SystemExit(code)
            return code

        return run

    return decorate


def one_line(error):
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}, expected a usable path; mend it or name another"
    return " ".join(text.splitlines())


@contextlib.contextmanager
def deferred_signals(message=""):
    """Context whose `requested` becomes True at the first Ctrl-C or SIGTERM, with a message; a second one interrupts.

    Never outside the main thread, which alone gets signals.
    """
    state = SimpleNamespace(requested=False)

    def note(number, frame):
        if state.requested:
            raise KeyboardInterrupt
        state.requested = True
        if message:
            print(f"\n{message}", file=sys.stderr)

    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM) if in_main}
    try:
        yield state
    finally:
        for item in before.items():
            signal.signal(*item)


def bounded(kind, least=-math.inf, most=math.inf, above=-math.inf, below=math.inf, step=None):
    """A `type=` of argparse: finite int or float within limits, a multiple of `step`."""
    words = [f"a multiple of {step}" if step else "a whole number" if kind is int else "a number"]
    named = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    words += [f"{word} {limit}" for word, limit in named if math.isfinite(limit)]

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and above < value < below) or step and value % step:
            raise argparse.ArgumentTypeError(f"found {text}, expected {' '.join(words)}")
        return value

    return parse


def make_parser(name, description):
    """An ArgumentParser that shows a module's docstring as it is."""
    return argparse.ArgumentParser(name, None, description, formatter_class=argparse.RawDescriptionHelpFormatter)
