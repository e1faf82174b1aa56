"""Files of annotations: finding, reading and checking them, and the images that they are of.

What reads a part of a file raises ValueError ("found ..., expected ..."); `attempt` adds the file and the place in it.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from reprlib import repr as shorten

import cv2
import numpy as np

from data import files
from data.files import IMAGE_SUFFIXES
from run.command import UserError

FAR = 1e6  # no coordinate is larger
MORE_PAGES = "left out: pages or frames after a file's first"


@dataclass
class Source:
    """What the importer reads."""

    path: Path  # the annotations, file or folder
    images: Path | None = None  # folder of the images, or None: where the annotations say, or near them
    line_width: int = 7  # pixels of drawn lines

    def one_file(self, kind, suffix, fits=lambda path: True):
        """`path` if it is a file, else its only file of a suffix for which `fits` holds; raises UserError."""
        if self.path.is_file():
            return self.path
        found = [path for path in list_files(self.path, (suffix,)) if fits(path)]
        if len(found) != 1:
            names = f": {', '.join(path.name for path in found[:3])}" if found else ""
            raise UserError(f"{self.path}: found {len(found)} {kind} files{names}, expected one; name the file")
        return found[0]


@dataclass
class AnnotatedImage:
    """One image with its annotation: either `shapes` or `label`."""

    name: str  # of the image, "/" between folders
    where: str  # the annotation, for messages
    file: Path
    size: tuple | None = None  # (h, w) that the annotation states
    shapes: list = field(default_factory=list)  # `shapes.AnnotatedShape`s
    label: Callable | None = None  # gives a `shapes.Painted`
    counts: Counter = field(default_factory=Counter)  # {what the summary says of as many: number}
    is_annotated: bool = True  # False: nobody says what it shows

    def add(self, where, read, *args):
        """Add the shape that `read(*args)` gives, or count the reason to leave it out; UserError; returns self."""
        shape = require(where, read, *args)
        if isinstance(shape, str):
            self.counts[f"left out: {shape}"] += 1
        else:
            shape.where = where
            self.shapes.append(shape)
        return self


def attempt(where, read, *args):
    """What `read(*args)` returns, or a UserError of what it raises: one bad record is no reason to leave the others."""
    try:
        return read(*args)
    except UserError as error:  # which names its place
        return error
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        found = f"found {'no ' * isinstance(error, KeyError)}{error}, expected what can be read; fix it"
        return UserError(f"{where}: {error if str(error).startswith('found ') else found}")


def require(where, read, *args):
    """As `attempt`, but the UserError is raised."""
    result = attempt(where, read, *args)
    if isinstance(result, UserError):
        raise result
    return result


def list_files(folder, suffixes, recursive=True, say=False):
    """`files.select_files` of a folder and its subfolders; raises OSError."""
    return files.select_files(files.walk_files(folder) if recursive else folder.iterdir(), suffixes, folder, say)


def pair_files(folder, labels, endings=("",), image_endings=("",)):
    """[(image, label or None)] of a folder's images and of labels, {name: path}, and UserErrors of labels left over.

    One of `endings` may follow an image's name in its label's; images without one of theirs are passed over.
    """
    images = files.list_by_stem(folder, IMAGE_SUFFIXES, True, image_endings)
    pairs, unpaired = files.pair_up(images, labels, endings)
    alone = f"found no image of that name in {folder}, expected one; remove it"
    return pairs, [UserError(f"{path}: {alone}") for path in unpaired]


def read_json(path):
    """Content of a JSON file; raises UserError."""
    text = files.read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: found no JSON, or a part of it, expected one object; export it again") from None
    if isinstance(value, list) and '"original_width"' in text:
        expected = "COCO; export 'COCO with Images', of masks 'Brush labels to COCO'"
        raise UserError(f"{path}: found Label Studio's JSON, expected {expected}")
    return value


def get(record, key, *kinds, default=None):
    """`record[key]` of JSON's dict, of one of the types `kinds`, where a bool is no int; `default` for null or none."""
    value = record.get(key) if isinstance(record, dict) else None
    if value is None and default is not None:
        return default
    if type(value) not in kinds:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"found {shorten(value)} for {key}, expected {expected}; fix it")
    return value


def read_points(value, least):
    """[[x, y], ...] or [x, y, x, y, ...] of numbers or their texts, `least` points or more, as (N, 2) float64."""
    try:
        points = np.array(value, float)
    except (ValueError, TypeError, OverflowError):
        points = np.array(np.nan)
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least or not (np.abs(points) < FAR).all():
        raise ValueError(f"found {shorten(value)}, expected at least {least} points, pairs of finite numbers; fix it")
    return points


def read_size(record, height, width):
    """(h, w) of JSON's dict, or None if it states neither; raises ValueError unless they are positive whole numbers."""
    if record.get(height) is None and record.get(width) is None:
        return None
    size = [get(record, key, int, float) for key in (height, width)]
    if not all(1 <= side < FAR and side % 1 == 0 for side in size):
        raise ValueError(f"found an image of {size[1]}x{size[0]} pixels, expected whole numbers; fix it")
    return int(size[0]), int(size[1])


@lru_cache(maxsize=64)
def _files_by_name(folder):
    paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    return {files.normalize_name(path.name): path for path in paths}


def find_image(name, folders):
    """Path of the image that an annotation names; raises ValueError if it is in none of the folders.

    The name, or its last part, may be a path of another machine, with Windows' backslashes and in other letters.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for candidate in (folder / part for folder in folders for part in (path, path.name)):
        try:
            if not candidate.is_file():
                candidate = _files_by_name(candidate.parent).get(files.normalize_name(candidate.name))
            if candidate and candidate.is_file():
                return candidate
        except (OSError, ValueError):  # a name too long for the file system, or with a null character
            continue
    places = ", ".join(dict.fromkeys(map(str, folders)))
    raise ValueError(f"found no image {shorten(name)} in {places}, expected it there or in --images")


def read_view(data, size, where):
    """The pixels of an image's bytes as they were annotated, `size`, (h, w) or None, being that of the annotation.

    A photo may state that it is to be shown turned (EXIF); tools annotate it so, and training sees it so. Where the
    size fits only the pixels as they are stored, these are the view. UserError for no image, or one of another size.

    Returns (h, w, 3) uint8 BGR, whether they are as stored, whether nothing tells if that or the other was annotated.
    """
    if data.startswith(files.TIFF) and (kind := files.decode_image(data, where).dtype) not in (np.uint8, np.uint16):
        raise UserError(f"{where}: found pixels of {kind}, expected 8 or 16 bits; convert the image")
    shown = files.decode_image(data, where, files.read_color)
    if not size or shown.shape[:2] == size:
        return shown, False, files.is_turn_unknown(data, size)
    stored = files.decode_image(data, where, partial(files.read_color, flags=cv2.IMREAD_IGNORE_ORIENTATION))
    if stored.shape[:2] != size:
        found, expected = (f"{width}x{height}" for height, width in (shown.shape[:2], size))
        raise UserError(f"{where}: found {found} pixels, expected {expected} as annotated; name the annotated images")
    return stored, True, False
