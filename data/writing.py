"""A new data folder, all or nothing, made on all cores."""

import contextlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from joblib import cpu_count
from tqdm import tqdm

from data.files import PARTS
from run.command import UserError, deferred_signals, one_line


def add_flags(parser, outdir=None):
    """Add the flags that all commands have; `outdir` is --outdir's default, the script's folder, or None."""
    add, words = parser.add_argument, "folder to write" + ", default: this script's" * bool(outdir)
    add("-o", "--outdir", metavar="OUT", type=Path, default=outdir, required=not outdir, help=words)
    add("--skip-bad", action="store_true", help="leave out what can't be used, and list it")
    add("--overwrite", action="store_true", help="replace the data set that the folder holds")


def say_written(lines, skipped):
    """Print the lines that sum up what was written, and on stderr what was skipped."""
    for error in skipped:
        print(f"skipped: {one_line(error)}", file=sys.stderr)
    print(*lines, *[f"{len(skipped)} skipped"] * bool(skipped), sep="\n")


def check_free(outdir, overwrite):
    """UserError if `outdir` is no folder, or holds a data set that may not be replaced."""
    if outdir.exists() and not outdir.is_dir():
        raise UserError(f"{outdir}: found a file, expected a folder to write; name another with -o")
    there = [outdir / part for part in PARTS if (outdir / part).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]}: found a data set, expected none; --overwrite replaces it, -o names another")


@contextlib.contextmanager
def replacing_data(outdir, parts=PARTS):
    """Yields a hidden folder with empty `images/` and `labels/` to make a data set in.

    At the end of the block its `parts`, in this order, take the place of what `outdir` holds of them, all or, if the
    block raises, none.
    """
    fresh = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    # beside the result, so that renaming stays in one file system
    work = Path(tempfile.mkdtemp(prefix=".processing-", dir=outdir))
    try:
        for part in ("images", "labels", "before"):
            (work / part).mkdir()
        yield work
        with deferred_signals():  # it takes milliseconds
            for part in parts:
                if (outdir / part).exists():
                    os.replace(outdir / part, work / "before" / part)
                if (work / part).exists():
                    os.replace(work / part, outdir / part)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if fresh and not any(outdir.iterdir()):
            outdir.rmdir()


def run_all(calls, skip_bad):
    """(What functions return, their UserErrors), on all cores; raises the first error unless `skip_bad`."""
    pool, results, errors = ThreadPoolExecutor(cpu_count()), [], []
    try:
        tasks = [pool.submit(call) for call in calls]
        for task in tqdm(tasks, desc="processing", unit="image", dynamic_ncols=True):
            try:
                results.append(task.result())
            except UserError as error:
                if not skip_bad:
                    raise UserError(f"{error}; or use --skip-bad") from None
                errors.append(error)
    finally:
        pool.shutdown(cancel_futures=True)
    return results, errors


def write_numbered(work, make, records, skip_bad):
    """Write 0000.png, 0001.png, ... of records' `make(record)`, {part: image}, in a folder of `replacing_data`.

    Returns (the records written, errors), as `run_all`; UserError if none can be.
    """

    def write(number):
        parts = make(records[number])
        for part, image in parts.items():
            write_png(work / part / f"{number:04d}.png", image)
        return number, parts.keys()

    done, errors = run_all([partial(write, number) for number in range(len(records))], skip_bad)
    if not done:
        raise UserError(f"{errors[0]}; found no usable image, expected one")
    for new, (old, parts) in enumerate(done):
        for part in parts:
            os.replace(work / part / f"{old:04d}.png", work / part / f"{new:04d}.png")
    return [records[number] for number, _ in done], errors


def write_png(path, array):
    try:
        path.write_bytes(cv2.imencode(".png", array)[1])  # OpenCV dies of names that aren't UTF-8
    except OSError as error:
        raise OSError(f"{path}: could not be written ({error.strerror}); free space or name another by -o") from None
