"""Types of number flags for argparse: what is out of range ends in one line that says what was expected."""

import argparse
import math


def bounded(kind, least=-math.inf, most=math.inf, above=-math.inf, below=math.inf, step=None):
    """A `type=` of argparse for finite numbers within limits.

    Args:
        kind: int or float.
        least, most: inclusive limits.
        above, below: exclusive limits.
        step: the number must be a multiple of it.

    Returns:
        function from text to the number; it raises argparse.ArgumentTypeError.
    """
    words = [f"a multiple of {step}"] if step else ["a whole number" if kind is int else "a number"]
    named = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    words += [f"{word} {limit}" for word, limit in named if math.isfinite(limit)]

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        inside = math.isfinite(value) and least <= value <= most and above < value < below
        if not inside or step and value % step:
            raise argparse.ArgumentTypeError(f"found {text}, expected {' '.join(words)}")
        return value

    return parse
