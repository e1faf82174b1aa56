"""How benchmark.py times things: variants in turn, and the rows of a table, the first of which is the reference."""

import statistics
import time

from tqdm import tqdm

TIMES = ["ms", "range", "ratio"]


def measure(functions, repeat, warm=False):
    """Time functions in turn, `repeat` rounds.

    Args:
        functions: dict of functions without arguments.
        repeat: number of rounds.
        warm: call each once before, for tracing and compiling.

    Returns:
        (seconds, results): dicts of each function's list of times in s and of its last result.
    """
    seconds, results = {name: [] for name in functions}, {}
    with tqdm(total=len(functions) * (repeat + warm), unit="run", leave=False, dynamic_ncols=True) as bar:
        for number in range(repeat + warm):
            for name, function in functions.items():
                bar.set_description(name)
                start = time.perf_counter()
                results[name] = function()
                if number or not warm:
                    seconds[name].append(time.perf_counter() - start)
                bar.update()
    return seconds, results


def time_rows(seconds, per=1, more=None):
    """Table rows of `measure`'s times, the first the reference.

    Args:
        seconds: dict of each variant's list of times in s.
        per: number of images or steps that a time is divided by.
        more: one more cell for each row.

    Returns:
        list of [variant, median in ms, range in ms, ratio of the reference's median to this one, more].
    """
    reference, rows = statistics.median(next(iter(seconds.values()))), []
    for name, times in seconds.items():
        low, middle, high = (1000 * f(times) / per for f in (min, statistics.median, max))
        rows.append([name, f"{middle:.1f}", f"{low:.1f}-{high:.1f}", f"{1000 * reference / per / middle:.3g}"])
    return [[*row, cell] for row, cell in zip(rows, more, strict=True)] if more else rows
