"""Files of annotations, and the images that they are of.

What reads a part of a file raises ValueError ("found ..., expected ..."); `require` adds the file and the place in it.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from reprlib import repr as shorten

import cv2
import numpy as np

from data import files
from data.files import IMAGE_SUFFIXES
from run.command import UserError


@dataclass
class Source:
    path: Path  # file or folder
    images: Path | None = None  # their folder, if not where the annotations say, or near
    line_width: int = 7  # px

    def one_file(self, suffix, fits=lambda path: True):
        """`path` if it is a file, else its only file that `fits`; raises UserError."""
        if self.path.is_file():
            return self.path
        found = [path for path in list_files(self.path, (suffix,)) if fits(path)]
        if len(found) != 1:
            raise UserError(f"{self.path}: found {len(found)} such {suffix} files, expected one; name the file")
        return found[0]


@dataclass
class AnnotatedImage:
    """One image with its annotation: either `shapes` or `label`."""

    name: str  # "/" between folders
    where: str  # the annotation, for messages
    file: Path
    size: tuple = (None, None)  # (h, w), as the annotation states
    shapes: list = field(default_factory=list)  # `shapes.AnnotatedShape`s
    label: Callable | None = None  # gives ids, (h, w) uint16
    counts: Counter = field(default_factory=Counter)  # {words of the summary: number}
    is_annotated: bool = True

    def add(self, where, read, *args):
        """Add the shape that `read(*args)` gives, or count the reason that it gives for none; raises UserError."""
        shape = require(where, read, *args)
        if isinstance(shape, str):
            self.counts[f"left out: {shape}"] += 1
        else:
            shape.where = where
            self.shapes.append(shape)


def require(where, read, *args):
    """What `read(*args)` returns; UserError with `where`, file and place in it, for any of its errors."""
    try:
        return read(*args)
    except UserError:  # which names its place
        raise
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        found = f"found {'no ' * isinstance(error, KeyError)}{error}, expected what can be read; fix it"
        raise UserError(f"{where}: {error if str(error).startswith('found ') else found}") from None


def list_files(folder, suffixes):
    """`files.select_files` of a folder and its subfolders; raises OSError."""
    return files.select_files(files.walk_files(folder), suffixes)


def pair_files(folder, labels, endings=("",), image_ending=""):
    """[(image, label)] of a folder's images and of labels, {name: path}; None for one that lacks.

    A label's name has one of `endings` for `image_ending`; files without theirs are passed over.
    """
    pairs, left = [], {name: label for name, label in labels.items() if name.endswith(endings)}
    for name, image in files.list_by_stem(folder, IMAGE_SUFFIXES, True).items():
        if name.endswith(image_ending):
            names = [name.removesuffix(image_ending) + ending for ending in endings]
            pairs.append((image, left.pop(next((one for one in names if one in left), None), None)))
    return pairs + [(None, label) for label in left.values()]


def read_json(path):
    """A JSON file's object, {} for other JSON; raises UserError."""
    text = files.read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: found no JSON, expected one object; export it again") from None
    return value if isinstance(value, dict) else {}


def get(record, key, *kinds, default=None):
    """`record[key]` of one of the types `kinds`, where a bool is no int; `default` for null or none; or ValueError."""
    value = record.get(key) if isinstance(record, dict) else None
    if value is None and default is not None:
        return default
    if type(value) not in kinds:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"found {shorten(value)} for {key}, expected {expected}; fix it")
    return value


def read_points(value, least):
    """(N, 2) float64 of [[x, y], ...] or [x, y, x, y, ...], numbers or texts, `least` points or more; or ValueError."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        points = np.array(value, float)
        points = points.reshape(-1, 2) if points.ndim == 1 else points
        if points.shape[1:] == (2,) and len(points) >= least:
            return points
    raise ValueError(f"found {shorten(value)}, expected at least {least} points, pairs of numbers; fix it")


def find_image(name, folders):
    """The image that an annotation names, perhaps by a path of another machine; else ValueError."""
    path = PurePosixPath(name.replace("\\", "/"))
    for candidate in (folder / part for folder in folders for part in (path, path.name)):
        if candidate.is_file():
            return candidate
    places = ", ".join(dict.fromkeys(map(str, folders)))
    raise ValueError(f"found no image {shorten(name)} in {places}, expected it there or in --images")


def size_of(data, size, where):
    """(h, w) of an image's bytes as annotated, `size` by the annotation, or (None, None); UserError for another one.

    Tools annotate a photo turned as its EXIF says, unless only the pixels as stored have that size; training goes by
    the label's size.
    """
    shown = files.decode_image(data, where, files.read_color).shape[:2]
    if None in size or shown == size:
        return shown
    stored = files.decode_image(data, where, partial(files.read_color, flags=cv2.IMREAD_IGNORE_ORIENTATION)).shape[:2]
    if stored != size:
        found, expected = (f"{width}x{height}" for height, width in (shown, size))
        raise UserError(f"{where}: found {found} pixels, expected {expected} as annotated; name those images")
    return stored
