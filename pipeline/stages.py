"""Images from file to results, several at a time, in order."""

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
    class_map: np.ndarray | None = None  # (h, w) uint8
    line: dict | None = None  # of TuSimple
    scores: np.ndarray | None = None  # (N,) mean lane probabilities of its instances
    instances: list = field(default_factory=list)  # of `describe_instances`
    time: float = 0.0  # seconds since its video's first frame


def map_ahead(function, items, threads):
    """`map(function, items)` in threads, in order, at most `threads` items ahead; items are taken in the caller's.

    When the generator is closed, or a call fails, the threads end.
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
    """`process` frames in threads, each giving the same Frame, and `finish` them in order; report and skip the bad.

    Returns (number done, number skipped, whether Ctrl-C ended it); with nothing done, KeyboardInterrupt is raised.
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
