"""Images found, sent through stages that work at the same time, and outputs that appear whole or not at all."""

import contextlib
import glob
import itertools
import json
import os
import sys
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

import utils
from datagenerator import DataError, list_images, read_image

CORES = os.cpu_count() or 1
THREADS = min(4, max(1, CORES // 2))  # of a stage that may work on several frames


@dataclass
class Frame:
    """An image on its way through the stages; the first stage sets `image` or `problem`, or neither at the end."""

    raw_file: str  # its name in TuSimple lines
    source: Path | None = None
    outputs: dict = field(default_factory=dict)  # kind of image: file to write
    image: np.ndarray | None = None  # (h, w, 3) uint8 RGB
    problem: DataError | None = None
    prediction: dict | None = None  # of `segmentation.predict`
    label_map: np.ndarray | None = None  # (H, W) int32
    line: dict | None = None  # of TuSimple
    painted: dict = field(default_factory=dict)  # kind of image: (h, w, 3) uint8 RGB or (h, w)
    seconds: dict = field(default_factory=dict)  # time of each stage


def find_images(sources, recursive=False):
    """Images of folders, files and glob patterns, each once.

    Returns:
        list of (path, its path relative to the folder given or to the pattern's part before the first wildcard).
    """
    found = {}
    for source in sources:
        paths, base = list_images(source, recursive), Path(source)
        if not base.is_dir():
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), base.parts[:-1])
            base = paths[0].parent if base.exists() else Path(*fixed)
        for path in paths:
            found.setdefault(os.path.abspath(path), (path, path.relative_to(base)))
    return list(found.values())


def require_readable(paths):
    """Raise DataError unless one of the images can be read: it is found out before a model is loaded."""
    first = None
    for path in paths:
        try:
            read_image(path)
            return
        except DataError as error:
            first = first or error
    others = f"; nor can the other {len(paths) - 1}" if len(paths) > 1 else ""
    raise DataError(f"{first}{others}")


def name_outputs(names, outdir, kinds, keep_names):
    """Files to write for the images of `find_images`.

    Args:
        names: relative paths of the images.
        outdir: folder.
        kinds: of `--save`.
        keep_names: name the files after the images; the second image a, of another suffix or folder, becomes a-2.

    Returns:
        list of {kind: Path}, one per image.
    """
    taken, result = set(), []
    for number, name in enumerate(names):
        stem = name.with_suffix("").as_posix()
        tries = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        # some file systems don't tell upper from lower case
        stem = next(tried for tried in tries if tried.lower() not in taken)
        taken.add(stem.lower())
        named = "{stem}_{prefix}.png" if keep_names else "{prefix}_{number:04d}.png"
        files = {
            kind: named.format(stem=stem, prefix="cluster" if kind == "overlay" else kind, number=number)
            for kind in kinds
        }
        result.append({kind: Path(outdir, file) for kind, file in files.items()})
    return result


def overlapped(items, stages):
    """Send items through functions that work at the same time, each in threads of its own.

    Args:
        items: any iterable; it is read only as fast as results are taken.
        stages: list of (function of one item, number of threads).

    Yields:
        the last function's results in the order of the items. When the generator is closed, the threads end.
    """
    pools = [ThreadPoolExecutor(threads) for _, threads in stages]
    try:
        for (function, threads), pool in zip(stages, pools, strict=True):
            items = _ahead(pool, function, items, threads)
        yield from items
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _ahead(pool, function, items, count):
    """`map(function, items)` in a pool, `count` items ahead of the one that is waited for."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _timed(name, function, first):
    def stage(frame):
        if first or frame.image is not None:
            start = time.perf_counter()
            function(frame)
            frame.seconds[name] = time.perf_counter() - start
        return frame

    return stage


def run_stages(frames, stages, threads=None, total=None, unit="image", finish=None):
    """Send frames through stages until one comes out without an image; report and skip the bad; print the times.

    Args:
        frames: iterable of Frame.
        stages: {name: function of a Frame}.
        threads: {name: threads of that stage}, 1 for one that must see the frames in order; `THREADS` of the others.
        total: number of frames, if known.
        unit: what the progress bar calls a frame.
        finish: called with every finished frame, in order.

    Returns:
        (frames done, frames skipped, whether Ctrl-C ended it). With nothing done, KeyboardInterrupt is raised.
    """
    threaded = [
        (_timed(name, function, first=not position), (threads or {}).get(name, THREADS))
        for position, (name, function) in enumerate(stages.items())
    ]
    done, bad, interrupted, seconds, start = 0, 0, False, Counter(), time.perf_counter()
    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        try:
            with contextlib.closing(overlapped(frames, threaded)) as results:
                for frame in results:
                    if frame.problem:
                        bad += 1
                        tqdm.write(f"skipped: {frame.problem}", file=sys.stderr)
                    elif frame.image is None:
                        break
                    else:
                        done += 1
                        seconds.update(frame.seconds)
                        if finish:
                            finish(frame)
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


@contextlib.contextmanager
def output_folder(folder):
    """Make a folder, with its parents, for the block; what is still empty of it afterwards is removed again."""
    folder = Path(folder)
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "no right to write")
    except OSError as error:
        reason = error.strerror.lower()
        raise DataError(f"--outdir {folder}: {reason}, expected a folder to write to; name another one") from None
    try:
        yield
    finally:
        for part in missing:
            with contextlib.suppress(OSError):
                part.rmdir()


@contextlib.contextmanager
def json_lines(path):
    """Yield a function that writes an object as a line of `path`, which appears if the block ends well.

    Without a path the function does nothing.
    """
    if not path:
        yield lambda value: None
        return
    with utils.replacing(path) as temporary, open(temporary, "w", buffering=1, encoding="utf-8") as file:

        def write(value):
            try:
                file.write(json.dumps(value) + "\n")
            except OSError as error:
                raise OSError(f"{path}: could not be written ({error.strerror.lower()}); make room") from None

        yield write
