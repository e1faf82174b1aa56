"""Turn TuSimple folders into the training data of this project.

    python data/tusimple_dataset_processing.py train_set
    python data/tusimple_dataset_processing.py train_set extra_set -o data/tusimple

Reads every `label_data*.json` and `test_label*.json` of the folder(s), one JSON object per line: `raw_file` (a clip's
jpg, relative to the folder), `lanes` (lists of x in pixels, -2 = no point) and `h_samples` (rows y in pixels, 48 or 56
of them). Writes
`images/0000.png`, ... (the clips), `labels/0000.png`, ... (8-bit, lane i drawn 7 px wide with its own gray value, 50
* i + 20 for the first five, background 0) and `labels.json` (the TuSimple line of each image, in the same order).
Numbers follow the order of the folders, of their JSON files and of the lines. Nothing appears in the output folder
before every image is done, and a data set that is there is replaced only with `--overwrite`.
"""

if __name__ == "__main__":
    from ending import end_in_one_line

    end_in_one_line()

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from joblib import cpu_count
from tqdm import tqdm

if __package__:
    from .files import decode, read_color
else:  # of a script beside it
    from files import decode, read_color

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what OpenCV says of a file, our one line says

THICKNESS = 7
PARTS = ("images", "labels", "labels.json")  # of a data set
FIX = "fix it or use --skip-bad"
LABEL_FILES = ("label_data*.json", "test_label*.json")
LABEL_KEYS = ("raw_file", "lanes", "h_samples")
PREDICTION_KEYS = ("raw_file", "lanes", "run_time")
# The original's values for five lanes; further lanes get what lies between them, then the rest of 8 bits.
_FIRST = [*range(20, 256, 50), *range(45, 256, 50)]
GRAY_VALUES = (*_FIRST, *(value for value in range(1, 256) if value not in _FIRST))


class LabelError(ValueError):
    """A label file, a line of it or a clip that can't be used; the message names the file and the line."""


def find_file(folder, name):
    """Path of the file `name` in `folder`, else by itself; in this order, as many folders have labels of one name."""
    inside = Path(folder) / name
    return inside if inside.is_file() or not Path(name).is_file() else Path(name)


def read_labels(path, keys=LABEL_KEYS):
    """Read a TuSimple file, labels or, with `PREDICTION_KEYS`, predictions.

    Args:
        path: file with one JSON object per line; empty lines and a byte order mark are passed over.
        keys: what each object must hold.

    Returns:
        list of dicts in the order of the lines.

    Raises:
        LabelError: the file can't be read, or its first line that can't be used.
    """
    entries = [entry for _, entry in read_lines(path, keys)]
    for entry in entries:
        if isinstance(entry, LabelError):
            raise entry
    return entries


def read_lines(path, keys=LABEL_KEYS):
    """As `read_labels`, with the bad lines: list of (line number from 1, dict or LabelError)."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "found bytes that are no text"
        raise LabelError(f"{path}: {reason}, expected one JSON object per line; name another file") from None
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            check_line(entry, keys, f"{path}:{number}")
        except LabelError as error:
            entry = error
        except (ValueError, RecursionError):
            entry = LabelError(f"{path}:{number}: found no JSON, expected one object per line; fix it")
        lines.append((number, entry))
    return lines


def check_line(entry, keys, where):
    """Check one object of a TuSimple file.

    Args:
        entry: what JSON gave.
        keys: what it must hold, `LABEL_KEYS` or `PREDICTION_KEYS`.
        where: file and line, for the message.

    Raises:
        LabelError: a key is missing, a value is of another type, a row has no x, or the rows don't rise.
    """
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise LabelError(f"{where}: found no {missing[0]}, expected an object with {', '.join(keys)}; fix the line")
    rows, run_time = entry.get("h_samples", []), entry.get("run_time", 0)
    for right, expected in (
        (isinstance(entry["raw_file"], str), "raw_file to be a string"),
        (isinstance(entry["lanes"], list) and all(map(_is_row, entry["lanes"])), "lanes to be lists of numbers"),
        (_is_row(rows) and all(a < b for a, b in zip(rows, rows[1:], strict=False)), "h_samples to be rising numbers"),
        (type(run_time) in (int, float), "run_time to be a number of milliseconds"),
    ):
        if not right:
            raise LabelError(f"{where}: found something else, expected {expected}; fix the line")
    if "h_samples" in keys:
        check_lengths(entry["lanes"], rows, where)


def check_lengths(lanes, rows, where):
    """Raise LabelError unless every lane has one x per row."""
    wrong = [len(lane) for lane in lanes if len(lane) != len(rows)]
    if wrong or not rows:
        found = f"a lane of {wrong[0]} points" if wrong else "no h_samples"
        raise LabelError(f"{where}: found {found}, expected one x per row of h_samples ({len(rows)}); fix the line")


def _is_row(value):
    return isinstance(value, list) and all(type(x) in (int, float) and abs(x) < 1e6 for x in value)  # NaN is not


def find_clips(folders):
    """List the labelled clips of TuSimple folders.

    Returns:
        (clips, bad): clips are (path of the jpg, label dict) in order, each once, bad are LabelErrors.

    Raises:
        LabelError: a folder without label files or without a line in them.
    """
    clips, bad, repeated, known = [], [], [], {}
    for folder in map(Path, folders):
        files = sorted(path for pattern in LABEL_FILES for path in folder.glob(pattern))
        if not files:
            found = f"no {' or '.join(LABEL_FILES)}" if folder.is_dir() else "no such folder"
            raise LabelError(f"{folder}: {found}, expected a TuSimple folder with clips/ and its label files")
        before = len(clips) + len(bad) + len(repeated)
        for file in files:
            for number, label in read_lines(file):
                if isinstance(label, LabelError):
                    bad.append(label)
                    continue
                clip, where = folder / label["raw_file"], f"{file}:{number}"
                if not clip.is_file():
                    bad.append(LabelError(f"{where}: no file {clip}, expected the clip's jpg"))
                    continue
                other, first = known.setdefault(os.path.realpath(clip), (label, where))
                if first == where:
                    clips.append((clip, label))
                elif any(other[key] != label[key] for key in ("lanes", "h_samples")):
                    bad.append(LabelError(f"{where}: found {clip} with other lanes in {first}, expected it once"))
                else:
                    repeated.append(where)
        if len(clips) + len(bad) + len(repeated) == before:
            raise LabelError(f"{folder}: found label files without a line, expected one JSON object per image")
    if repeated:
        print(f"{len(repeated)} lines repeat an image with its lanes, first {repeated[0]}: left out", file=sys.stderr)
    return clips, bad


def draw_label(label, shape=(720, 1280)):
    """Draw the lanes of a TuSimple label as (h, w) uint8, lane i with value `GRAY_VALUES[i]`, background 0.

    Raises:
        LabelError: more lanes than gray values.
    """
    rows = label["h_samples"]
    lanes = [[(x, y) for x, y in zip(lane, rows, strict=True) if x >= 0] for lane in label["lanes"]]
    return draw_lanes(lanes, shape, THICKNESS, label["raw_file"])


def draw_lanes(lanes, shape, thickness, where):
    """Draw lanes, each N points (x, y) in pixels, N >= 0, as `draw_label` does, `thickness` pixels wide.

    Raises:
        LabelError: more lanes than gray values; begins with `where`.
    """
    if len(lanes) > len(GRAY_VALUES):
        raise LabelError(f"{where}: found {len(lanes)} lanes, expected at most {len(GRAY_VALUES)} gray values")
    image = np.zeros(shape, np.uint8)
    for points, gray in zip(lanes, GRAY_VALUES, strict=False):
        if len(points):
            cv2.polylines(image, [np.array(points, np.int32)], isClosed=False, color=gray, thickness=thickness)
    return image


def process(folders, outdir, skip_bad=False, overwrite=False):
    """Write the data set of TuSimple `folders` to `outdir`.

    Args:
        folders: TuSimple folders.
        outdir: folder to write `images/`, `labels/` and `labels.json` in, made if absent.
        skip_bad: leave out what can't be used.
        overwrite: replace the data set that `outdir` holds.

    Returns:
        (number of images written, list of LabelErrors skipped).

    Raises:
        LabelError: bad input and not `skip_bad`, nothing usable, or a data set in `outdir` and not `overwrite`.
    """
    check_free(outdir, overwrite)
    clips, bad = find_clips(folders)
    if bad and not skip_bad:
        raise LabelError(f"{bad[0]}; {FIX}")
    with replacing_data(outdir) as work:
        done = []
        calls = [partial(_process_clip, work, number, *clip) for number, clip in enumerate(clips)]
        with contextlib.closing(run_all(calls)) as results:
            for number, result in enumerate(results):
                if not isinstance(result, LabelError):
                    done.append(number)
                elif skip_bad:
                    bad.append(result)
                else:
                    raise LabelError(f"{result}; {FIX}")
        if not done:
            raise LabelError(f"{folders[0]}: found no usable image, expected at least one; fix the data ({bad[0]})")
        close_up(work, done)
        with open(work / "labels.json", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(clips[number][1]) + "\n" for number in done)
    return len(done), bad


def close_up(work, done):
    """Rename the images and labels of the numbers `done` to 0, 1, ...: what was skipped leaves no gap."""
    for new, old in enumerate(done):
        for part in ("images", "labels"):
            os.replace(work / part / f"{old:04d}.png", work / part / f"{new:04d}.png")


def check_free(outdir, overwrite):
    """Raise LabelError if `outdir` is no folder, or holds a data set that may not be replaced."""
    if Path(outdir).exists() and not Path(outdir).is_dir():
        raise LabelError(f"{outdir}: found a file, expected a folder to write; name another with -o")
    there = [Path(outdir) / part for part in PARTS if (Path(outdir) / part).exists()]
    if there and not overwrite:
        raise LabelError(f"{there[0]}: found a data set, expected none; --overwrite replaces it, -o names another")


@contextlib.contextmanager
def replacing_data(outdir):
    """Make a data set; at the end of the block it takes the place of what `outdir` holds of one, as a whole.

    Args:
        outdir: folder, made if absent; if the block raises, it is as it was.

    Yields:
        a hidden folder with empty `images/` and `labels/` to write in; `labels.json` may come beside them.
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
            for part in PARTS:
                if (outdir / part).exists():
                    os.replace(outdir / part, work / "before" / part)
                if (work / part).exists():
                    os.replace(work / part, outdir / part)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if fresh and not any(outdir.iterdir()):
            outdir.rmdir()


def run_all(calls):
    """Call functions on all cores and show the progress.

    Args:
        calls: list of functions without arguments.

    Yields:
        what each returns, or the LabelError that it raises, in their order.
    """
    pool = ThreadPoolExecutor(cpu_count())
    try:
        tasks = [pool.submit(call) for call in calls]
        for task in tqdm(tasks, desc="processing", unit="image", dynamic_ncols=True):
            try:
                yield task.result()
            except LabelError as error:
                yield error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def ignored_signals():
    """Ignore Ctrl-C and SIGTERM in the block, which must be short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_clip(clip):
    """Read the jpg of a clip as (h, w, 3) uint8 BGR; raises LabelError if it is cut off or no image."""
    try:
        image, state = decode(Path(clip).read_bytes(), read_color)
    except OSError as error:
        raise LabelError(f"{clip}: {error.strerror}, expected a jpg image") from None
    if image is None:
        raise LabelError(f"{clip}: {state}, expected a jpg image")
    return image


def _process_clip(work, number, clip, label):
    image = read_clip(clip)
    for part, array in (("images", image), ("labels", draw_label(label, image.shape[:2]))):
        write_png(work / part / f"{number:04d}.png", array)


def write_png(path, array):
    """Write an image or a label; raises OSError."""
    try:
        Path(path).write_bytes(cv2.imencode(".png", array)[1])  # OpenCV dies of names that aren't UTF-8
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"{path}: could not be written ({reason}); free space or name another folder with -o") from None


def main(argv=None):
    from ending import errors_in_one_line, one_line  # beside this script; as a module of the package it runs no command

    parser = argparse.ArgumentParser(prog="tusimple_dataset_processing.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("train_data_dir", nargs="+", help="TuSimple folder(s) with clips/ and label files")
    parser.add_argument(
        "-o", "--outdir", default=Path(__file__).resolve().parent, help="folder to write, default: this script's"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad lines and clips, and list them")
    parser.add_argument("--overwrite", action="store_true", help="replace the data set that the folder holds")
    args = parser.parse_args(argv)
    with errors_in_one_line(parser.prog, LabelError, OSError):
        count, bad = process(args.train_data_dir, args.outdir, args.skip_bad, args.overwrite)
    for error in bad:
        print(f"skipped: {one_line(error)}", file=sys.stderr)
    print(f"{count} images in {args.outdir}" + (f", {len(bad)} skipped" if bad else ""))


if __name__ == "__main__":
    main()
