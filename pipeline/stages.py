"""Images on their way from file to results, several at a time, in order."""

import contextlib
import sys
from collections import deque
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
    prediction: dict | None = None  # of `segmentation.segment_outputs`, as is the label map
    label_map: np.ndarray | None = None  # (H, W) int32
    classes: dict = field(default_factory=dict)  # id of an instance: (number of its class, mean probability)
    class_map: np.ndarray | None = None  # (h, w) uint8, see `classes.find_classes`
    line: dict | None = None  # of TuSimple
    instances: list = field(default_factory=list)  # of `instance_files.describe_instances`
    time: float = 0.0  # seconds since its video's first frame


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
    """Process frames in threads and finish them in order; report and skip the bad.

    `process`, from a Frame to the same Frame, is called in so many threads, `finish` in the caller's. The progress bar
    counts them as `unit`, to `total` if that is known. Returns (number done, number skipped, whether Ctrl-C ended it);
    with nothing done, KeyboardInterrupt is raised.
    """
    done = skipped = 0
    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        try:
            with contextlib.closing(map_ahead(process, frames, threads)) as processed:
                for frame in processed:
                    if frame.problem:
                        skipped += 1
                        tqdm.write(f"skipped: {one_line(frame.problem)}", file=sys.stderr)
                    else:
                        with deferred_signals() as stop:  # no frame is finished in part
                            finish(frame)
                            done += 1
                        if stop.requested:
                            raise KeyboardInterrupt
                    bar.update()
        except KeyboardInterrupt:
            if not done:
                raise
            return done, skipped, True
    return done, skipped, False
