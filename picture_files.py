"""The picture and label files of a data folder: finding them, reading them, and saying what is wrong with one.

A data folder holds `images/` (jpg, png, bmp or webp) and `labels/` (8- or 16-bit single-channel png whose grey values
are instance ids, 0 = background); a picture and its label have the same stem.
"""

import glob
import sys
import zlib
from pathlib import Path

import numpy as np

try:
    import cv2
except ImportError as error:
    sys.exit(f"opencv-python: {error}; on Debian or Ubuntu run: apt-get install -y libgl1 libglib2.0-0")

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class DataError(ValueError):
    """Input data that can't be used; the message names the file, what was found and what to do."""


def find_pairs(folder):
    """Pair the pictures of `folder/images` with the labels of `folder/labels` by stem.

    Args:
        folder: path of the data folder.

    Returns:
        list of (picture path, label path) as str, sorted by stem.

    Raises:
        DataError: a folder is missing or empty, a stem stands twice, or a file has no partner.
    """
    folder = Path(folder)
    pictures = _by_stem(folder / "images", PICTURE_SUFFIXES)
    labels = _by_stem(folder / "labels", (".png",))
    for found, other, missing in ((pictures, labels, "labels"), (labels, pictures, "images")):
        alone = sorted(found.keys() - other.keys())
        if alone:
            raise DataError(
                f"{found[alone[0]]}: no file of that stem in {folder / missing} ({len(alone)} such file(s)), "
                "expected one label per picture; add the missing files or remove these"
            )
    return [(str(pictures[stem]), str(labels[stem])) for stem in sorted(pictures)]


def _by_stem(folder, suffixes):
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected images/ and labels/ in the data folder; "
            "make them with data/tusimple_dataset_processing.py or name another folder"
        )
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise DataError(
                f"{path}: {files[path.stem].name} has the same stem, expected one file per stem; rename one"
            )
        files[path.stem] = path
    if not files:
        raise DataError(f"{folder}: found no file, expected {' '.join(suffixes)}; fill it or name another folder")
    return files


def list_pictures(source, recursive=False):
    """Find the pictures that a folder, a file's name or a glob pattern stands for.

    Args:
        source: folder; or a file, whatever its suffix; or a pattern, in which `**` stands for any number of folders.
        recursive: look into the folder's subfolders too.

    Returns:
        list of Path in the order of their names; of folders and patterns only files with a picture's suffix that, like
        the subfolders, are not hidden.

    Raises:
        DataError: nothing there.
    """
    source = Path(source)
    if source.is_dir():
        paths = source.rglob("*") if recursive else source.iterdir()
    elif source.exists() or not glob.has_magic(str(source)):
        paths = [source]
        if not source.exists():
            raise DataError(f"{source}: no such file or folder, expected pictures; name another one")
        return paths
    else:
        paths = map(Path, glob.glob(str(source), recursive=True))
    paths = sorted(path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES and not path.is_dir())
    hidden = len(source.parts) if source.is_dir() else 0
    paths = [path for path in paths if not any(part.startswith(".") for part in path.parts[hidden:] if part != "..")]
    if not paths:
        inside = "" if recursive or not source.is_dir() else " (--recursive looks into subfolders)"
        raise DataError(f"{source}: found no {' '.join(PICTURE_SUFFIXES)}{inside}; name another folder")
    return paths


def read_picture(path):
    """Read a picture as (h, w, 3) uint8 RGB; raises DataError if it can't be decoded."""
    return _read(path, cv2.IMREAD_COLOR_RGB, "a jpg, png, bmp or webp picture")


def read_label(path):
    """Read a label as (h, w) uint8 or uint16 ids; raises DataError if it can't be decoded or has several channels."""
    label = _read(path, cv2.IMREAD_UNCHANGED, "a png label")
    if label.ndim != 2 or label.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path}: found {label.dtype} of shape {label.shape}, expected one 8- or 16-bit channel whose values are "
            "instance ids; convert the colors to ids"
        )
    return label


def _read(path, flags, expected):
    try:
        # opening a named pipe would wait for its writer
        data = Path(path).read_bytes() if Path(path).is_file() or not Path(path).exists() else None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror.lower()}, expected {expected}; replace or remove it") from None
    picture, state = None, "no regular file" if data is None else _damage(data)
    if not state:
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            state = "could not be decoded"
        except cv2.error as error:
            state = " ".join(error.err.split())
    if picture is None:
        raise DataError(f"{path}: {state}, expected {expected}; replace or remove it")
    return picture


def _damage(data):
    """What shows that a file was cut off or changed, else None: OpenCV fills a cut jpg with gray and says nothing."""
    if not data:
        return "an empty file"
    if data.startswith(b"\xff\xd8"):
        start = 2
        while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] not in (b"\xda", b""):
            filler = data[start + 1] == 0xFF
            # segments are passed over: a thumbnail inside one has its own end
            start += 1 if filler else 2 + int.from_bytes(data[start + 2 : start + 4])
        return None if data.find(b"\xff\xd9", start) >= 0 else "cut off, no end of the jpg"
    if data.startswith(b"\x89PNG"):
        start = 8
        while kind := data[start + 4 : start + 8]:
            end = start + 8 + int.from_bytes(data[start : start + 4])
            if len(data) < end + 4:
                break
            if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
                return "damaged, a png checksum is wrong"
            if kind == b"IEND":
                return None
            start = end + 4
        return "cut off, no end of the png"
    return None
