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
    """An image with what is made of it; without `image` and `problem` it stands for the end of a video."""

    raw_file: str  # its name in TuSimple lines
    source: Path | None = None
    outputs: dict = field(default_factory=dict)  # kind of output: file to write
    image: np.ndarray | None = None  # (h, w, 3) uint8 RGB
    problem: UserError | None = None
    note: str = ""  # what the user is to know of it
    prediction: dict | None = None  # of `segmentation.predict`
    label_map: np.ndarray | None = None  # (H, W) int32
    line: dict | None = None  # of TuSimple
    instances: list = field(default_factory=list)  # of `instance_files.describe_instances`
    painted: dict = field(default_factory=dict)  # kind of output: (h, w, 3) uint8 RGB or (h, w)
    seconds: dict = field(default_factory=dict)  # time of each stage
    time: float = 0.0  # seconds since its video's first frame

    @contextlib.contextmanager
    def timed(self, stage):
        """Note how long the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


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
    """Process frames in threads and finish them in order; report and skip the bad; print the times.

    Args:
        frames: iterable of Frame.
        process: function from a Frame to the same Frame, called in the threads.
        finish: function of a processed Frame, called in the caller's thread, in order.
        threads: number of frames worked on at a time.
        total: number of frames, if known.
        unit: what the progress bar calls a frame.

    Returns:
        (frames done, frames skipped, whether Ctrl-C ended it). With nothing done, KeyboardInterrupt is raised.
    """
    done, bad, interrupted, seconds, start = 0, 0, False, Counter(), time.perf_counter()
    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        try:
            with contextlib.closing(map_ahead(process, frames, threads)) as results:
                for frame in results:
                    if frame.problem:
                        bad += 1
                        tqdm.write(f"skipped: {one_line(frame.problem)}", file=sys.stderr)
                    else:
                        with deferred_signals() as stop:  # no frame is finished in part
                            finish(frame)
                            done += 1
                            seconds.update(frame.seconds)
                        if frame.note:
                            tqdm.write(one_line(frame.note), file=sys.stderr)
                        if stop.requested:
                            raise KeyboardInterrupt
                    bar.update()
        except KeyboardInterrupt:
            if not done:
                raise
            interrupted = True
    wall = time.perf_counter() - start
    if done:
        for name, spent in (*seconds.items(), ("end to end", wall)):
            print(f"{name:10} {1000 * spent / done:8.1f} ms {done / spent:8.1f} fps")
    return done, bad, interrupted
