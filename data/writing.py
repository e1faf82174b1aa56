"""A new data folder: all of it or nothing, made on all cores."""

import contextlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from joblib import cpu_count
from tqdm import tqdm

from data.files import PARTS
from run.command import UserError, ignored_signals


def check_free(outdir, overwrite):
    """Raise UserError if `outdir` is no folder, or holds a data set that may not be replaced."""
    if Path(outdir).exists() and not Path(outdir).is_dir():
        raise UserError(f"{outdir}: found a file, expected a folder to write; name another with -o")
    there = [Path(outdir) / part for part in PARTS if (Path(outdir) / part).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]}: found a data set, expected none; --overwrite replaces it, -o names another")


@contextlib.contextmanager
def replacing_data(outdir, parts=PARTS):
    """Make a data set; at the end of the block it takes the place of what `outdir` holds of one, as a whole.

    Args:
        outdir: folder, made if absent; if the block raises, it is as it was.
        parts: names of what a data set consists of; the last is written last.

    Yields:
        a hidden folder with empty `images/` and `labels/` to write in; others of `parts` may come beside them.
    """
    outdir = Path(outdir)
    fresh = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    # hidden beside the result, so that renaming stays within one file system
    work = Path(tempfile.mkdtemp(prefix=".processing-", dir=outdir))
    try:
        for part in ("images", "labels", "before"):
            (work / part).mkdir()
        yield work
        with ignored_signals():  # all of it or nothing; it takes milliseconds
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
    """Call functions on all cores and show the progress.

    Args:
        calls: list of functions without arguments.
        skip_bad: go on after a UserError.

    Returns:
        (what they return, in their order; the UserErrors that were raised).

    Raises:
        UserError: the first one, unless `skip_bad`.
    """
    pool, results, errors = ThreadPoolExecutor(cpu_count()), [], []
    try:
        tasks = [pool.submit(call) for call in calls]
        for task in tqdm(tasks, desc="processing", unit="image", dynamic_ncols=True):
            try:
                results.append(task.result())
            except UserError as error:
                require_good([error], skip_bad)
                errors.append(error)
    finally:
        pool.shutdown(cancel_futures=True)
    return results, errors


def require_good(errors, skip_bad):
    """Raise the first of the UserErrors, if there is one, unless `skip_bad`."""
    if errors and not skip_bad:
        raise UserError(f"{errors[0]}; fix it or use --skip-bad")


def close_up(work, done):
    """Rename the images and labels of the numbers `done` to 0, 1, ...: what was skipped leaves no gap."""
    for part in ("images", "labels", "classes"):
        for new, old in enumerate(done if (work / part).exists() else ()):
            os.replace(work / part / f"{old:04d}.png", work / part / f"{new:04d}.png")


def write_png(path, array):
    """Write an image or a label; raises OSError."""
    try:
        Path(path).write_bytes(cv2.imencode(".png", array)[1])  # OpenCV dies of names that aren't UTF-8
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"{path}: could not be written ({reason}); free space or name another folder with -o") from None
