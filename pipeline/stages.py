"""Images on their way from file to results, several at a time, in order."""

import contextlib
import sys
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from run.command import UserError, deferred_signals, one_line


@dataclass
class Frame:
    """An image of a file or video with what is made of it."""

    raw_file: str  # its name in TuSimple lines
    source: Path | None = None
    outputs: dict = field(default_factory=dict)  # kind of output: file to write
    image: np.ndarray | None = None  # (h, w, 3) uint8 RGB
    problem: UserError | None = None
    note: str = ""  # what the user is to know of it
    prediction: dict | None = None  # of `segmentation.predict`
    label_map: np.ndarray | None = None  # (H, W) int32
    classes: dict = field(default_factory=dict)  # id of an instance: (number of its class, mean probability)
    class_map: np.ndarray | None = None  # (h, w) uint8, see `classes.find_classes`
    line: dict | None = None  # of TuSimple
    instances: list = field(default_factory=list)  # of `instance_files.describe_instances`
    painted: dict = field(default_factory=dict)  # kind of output: (h, w, 3) uint8 RGB or (h, w)
    seconds: dict = field(default_factory=dict)  # time of each stage
    number: int = 0  # in its video
    time: float = 0.0  # seconds since its video's first frame

    @contextlib.contextmanager
    def timed(self, stage):
        """Note how long the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


@dataclass
class Result:
    """What became of the frames of a run."""

    done: int = 0
    skipped: int = 0
    interrupted: bool = False  # by Ctrl-C
    seconds: Counter = field(default_factory=Counter)  # in each stage, of all frames


def map_ahead(function, items, threads):
    """`map(function, items)` in threads, in order, never more than `threads` items ahead of the one that is waited for.

    Items are taken in the caller's thread. When the generator is closed, or a call fails, the threads end.
    """
    pool, waiting = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_frames(frames, process, finish, threads, total=None, unit="image"):
    """Process frames in threads and finish them in order; report and skip the bad; print the mean times.

    Args:
        frames: iterable of Frame, of a number `total`, if known; a frame is called a `unit`.
        process: function from a Frame to the same Frame, called in so many threads.
        finish: function of a processed Frame, called in the caller's thread, in order.

    Returns:
        Result. With nothing done, KeyboardInterrupt is raised.
    """
    result, start = Result(), time.perf_counter()
    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        try:
            with contextlib.closing(map_ahead(process, frames, threads)) as processed:
                for frame in processed:
                    _finish(frame, finish, result)
                    bar.update()
        except KeyboardInterrupt:
            if not result.done:
                raise
            result.interrupted = True
    if result.done:
        wall = time.perf_counter() - start
        print(f"per {unit}, {threads} at a time")
        for name, spent in (*result.seconds.items(), ("all stages", result.seconds.total())):
            print(f"{name:10} {1000 * spent / result.done:8.1f} ms")
        print(f"end to end {wall:8.1f} s, {result.done / wall:.1f} {unit}s a second")
    return result


def _finish(frame, finish, result):
    """Finish one frame, or say why it is skipped; counts it in `result`."""
    if frame.problem:
        result.skipped += 1
        tqdm.write(f"skipped: {one_line(frame.problem)}", file=sys.stderr)
        return
    with deferred_signals() as stop:  # no frame is finished in part
        finish(frame)
        result.done += 1
        result.seconds.update(frame.seconds)
    if frame.note:
        tqdm.write(one_line(frame.note), file=sys.stderr)
    if stop.requested:
        raise KeyboardInterrupt
