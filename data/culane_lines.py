"""CULane's files: `*.lines.txt`, the lanes of one image, and lists of images."""

import posixpath
import re
from pathlib import Path

import numpy as np

SUFFIX = ".lines.txt"
# a name may hold blanks; what follows it on a line does so after its suffix
NAME = re.compile(r"(.*?\.(?:jpe?g|png|bmp|webp|tiff?|txt))(?:\s|$)", re.IGNORECASE)


class LinesError(ValueError):
    """A file of CULane's that can't be used; the message names it and the line."""


def lines_path(image):
    """Path of the lanes of an image: beside it, its suffix replaced; a path of lanes stays."""
    return Path(image) if str(image).endswith(SUFFIX) else Path(image).with_suffix(SUFFIX)


def read_lines(path):
    """Read the lanes of one image.

    Args:
        path: text file with one lane per line, "x y x y ..." in pixels; empty lines are passed over.

    Returns:
        list of (N, 2) float64, N >= 1.

    Raises:
        LinesError: the file can't be read, a line with an odd number of words or with one that is no finite number.
    """
    lanes = []
    for number, line in enumerate(_read_text(path, "lanes").splitlines(), start=1):
        words = line.split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.array([np.nan])
        if len(values) % 2 or not (np.abs(values) < 1e6).all():
            raise LinesError(f"{path}:{number}: found something else, expected x y x y ... in pixels; fix the line")
        if words:
            lanes.append(values.reshape(-1, 2))
    return lanes


def format_lines(lanes):
    """Text of a `*.lines.txt` of lanes, each (N, 2) x and y."""
    return "".join(" ".join(f"{x:g} {y:g}" for x, y in lane) + " \n" for lane in lanes)


def read_list(path):
    """Names of the images of a list, relative to CULane's folder; of lines with more words the first one.

    Raises:
        LinesError: the file can't be read, names none, one twice (however written) or one outside the folder.
    """
    lines = [line.strip() for line in _read_text(path, "image names").splitlines() if line.strip()]
    matches = [(NAME.match(line), line) for line in lines]
    names = [match.group(1) if match else line.split()[0] for match, line in matches]
    names = [posixpath.normpath(name.replace("\\", "/").lstrip("/")) for name in names]
    for name in names:
        if name in (".", "..") or name.startswith("../"):
            raise LinesError(f"{path}: found {name}, expected names within the folder of the images; fix the list")
    if not names:
        raise LinesError(f"{path}: found no line, expected one image name per line; name another list")
    known = {}
    for number, name in enumerate(names):
        other, first = known.setdefault(lines_path(name), (name, number))
        if first != number:
            again = "again" if name == other else f"and {other}, whose lanes are one file"
            raise LinesError(f"{path}: found {name} {again}, expected each image once; remove one")
    return names


def _read_text(path, what):
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "found bytes that are no text"
        raise LinesError(f"{path}: {reason}, expected CULane's {what}; name another file") from None
