"""Data folders: which files are images, which belong together, what their bytes hold; without TensorFlow.

A data folder holds `images/` and beside it `labels/` or `classes/` or both, files of the same stems.
"""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from run.command import UserError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our one line says it
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # files are no stranger's
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**30

CLASS_FILE = "classes.txt"
PARTS = ("images", "labels", "classes", CLASS_FILE, "labels.json")  # of a data folder
NO_CLASS, IGNORED_CLASS = 0, 255  # in class maps
MAX_CLASS = 250  # largest id of a class
UNKNOWN_CLASS = MAX_CLASS + 1  # of an id that isn't in classes.txt
LEFT_OUT = "-"  # name of what is to be ignored
IGNORED = 65535  # in labels: neither background nor an instance

# what OpenCV reads into 8 bits
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".avif", ".gif", ".tif")
IMAGE_SUFFIXES += (".tiff", ".jp2", ".pbm", ".pgm", ".ppm", ".pnm", ".ras", ".sr")
LABEL_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # without loss
IMAGES = "image (jpg, png, tif, webp, avif, gif, bmp, ...)"
CAMERA_BITS = 8, 10, 12, 14, 16
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how its files begin
SEVERAL = (*TIFF, b"GIF8", b"\x89PNG", b"RIFF")  # and those of several images


def walk_files(folder):
    """Paths of all files of a folder and its subfolders, links too, but not hidden ones, each folder once."""

    def fail(error):  # a folder that can't be read must not pass for an empty one
        raise error

    known, paths = set(), []
    for here, subfolders, names in os.walk(folder, onerror=fail, followlinks=True):
        is_new = (place := os.path.realpath(here)) not in known
        known.add(place)
        subfolders[:] = sorted(name for name in subfolders if is_new and not name.startswith("."))
        paths += [Path(here, name) for name in names if is_new]
    return paths


def select_files(paths, suffixes):
    """Those of the paths, sorted, that are files of one of the suffixes and not hidden."""
    named = (path for path in sorted(paths) if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return [path for path in named if not path.is_dir()]


def read_color(data, flags=0):
    """`cv2.imdecode` as (h, w, 3) uint8 BGR, None for no image of 8 or 16 bits.

    16 bits are taken for as few of `CAMERA_BITS` as hold the values: cameras leave the upper ones empty.
    """
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | flags)  # _RGB: wrong for a tif of 16 bits
    if image is not None and image.dtype == np.uint16:
        white = next(2**bits - 1 for bits in CAMERA_BITS if image.max() < 2**bits)
        return np.round(image * np.float32(255 / white)).astype(np.uint8)
    return image if image is not None and image.dtype == np.uint8 else None


def _ask_pillow(file, question):
    """What `question` says of Pillow's image of a path or bytes, not decoded yet; None if Pillow can't read it."""
    with contextlib.suppress(Exception):  # whatever damage leads to; who reads the file says so
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            return question(image)


def palette_ids(data):
    """(h, w) uint8 numbers of a png's colors, 0 where transparent; None without a palette that begins with black."""
    if not data.startswith(b"\x89PNG") or data[25:26] != b"\3":
        return None
    image = Image.open(io.BytesIO(data))
    if image.getpalette()[:3] != [0, 0, 0]:
        return None
    return np.where(np.array(image.convert("RGBA"))[:, :, 3], np.array(image), 0).astype(np.uint8)


def count_images(data):
    """How many images, pages or frames, a file's bytes hold, of which OpenCV reads one; 1 if not known."""
    # a jpg's others are previews
    return data.startswith(SEVERAL) and _ask_pillow(data, lambda image: getattr(image, "n_frames", 1)) or 1


def is_turn_unknown(path, size):
    """Whether an image is shown turned (EXIF), and has the size of its label, (h, w), as stored, too."""
    # without this Pillow would decode a png's pixels to look behind them
    has_exif = _ask_pillow(path, lambda image: "exif" in image.info or image.format == "TIFF")
    turn = has_exif and _ask_pillow(path, lambda image: image.getexif().get(274)) or 1
    return 2 <= turn <= 4 or 5 <= turn <= 8 and size[0] == size[1]


def lossy_kind(data):
    """What a file's bytes say of lossy compression, as "a jpg", or ""."""
    if data.startswith(b"\xff\xd8"):
        return "a jpg"
    if data.startswith((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")) or data[4:12] in (b"ftypavif", b"ftypheic"):
        return "a JPEG 2000, AVIF or HEIC image"
    if data[8:12] == b"WEBP" and b"VP8L" not in data:  # the lossless chunk
        return "a lossy webp"
    compression = data.startswith(TIFF) and _ask_pillow(data, lambda image: image.info.get("compression"))
    return "a tiff of jpg tiles" if compression in ("jpeg", "tiff_jpeg") else ""


def find_pairs(folder):
    """[(image path, label path)] of a data folder, as `find_samples`."""
    return [sample[:2] for sample in find_samples(folder, ["labels"])]


def find_samples(folder, parts=None):
    """[(image path, label path or None, class map's path or None)] of a data folder as str, sorted by stem.

    `parts`: "labels" or "classes", by default what there is. UserError for a folder that is missing or empty, a stem
    that stands twice, or a file without partner.
    """
    folder = Path(folder)
    images = dict(sorted(list_by_stem(folder / "images", IMAGE_SUFFIXES).items()))
    found = {}
    for part in parts or [part for part in ("labels", "classes") if (folder / part).exists()] or ["labels"]:
        found[part] = list_by_stem(folder / part, LABEL_SUFFIXES)
        for some, others, missing in ((images, found[part], part), (found[part], images, "images")):
            if alone := sorted(some.keys() - others.keys()):
                found = f"no file of that stem in {folder / missing} ({len(alone)} such file(s))"
                raise UserError(f"{some[alone[0]]}: {found}, expected one label per image; add them or remove these")
    columns = [images, *(found.get(part, {}) for part in ("labels", "classes"))]
    return [tuple(str(column[stem]) if column else None for column in columns) for stem in images]


class ClassName(NamedTuple):
    """A line of `classes.txt`: an id of class maps and what it stands for."""

    id: int
    name: str  # of one name: one class; `LEFT_OUT`: ignored
    stuff: bool = False  # has no instances, as the sky


def read_class_names(folder):
    """The `ClassName`s of a data folder's `classes.txt`, "ID NAME [stuff]" a line; raises UserError."""
    path, names = Path(folder) / CLASS_FILE, {}
    expected = f'"ID NAME" or "ID NAME stuff" a line, ids up to {MAX_CLASS}, each once'
    for number, line in enumerate(read_text(path, expected).splitlines(), 1):
        first, *words = line.split() or [""]
        stuff = words[1:] and words[-1] == "stuff"
        name = " ".join(words[:-1] if stuff else words)
        if first.isdecimal() and int(first) <= MAX_CLASS and int(first) not in names and name:
            names[int(first)] = ClassName(int(first), name, bool(stuff))
        elif first:
            raise UserError(f"{path}:{number}: found {line!r}, expected {expected}; fix the line")
    return list(names.values())


def class_table(folder, classes):
    """What a run's or a model's classes, their names, make of the ids of a data folder's class maps: 256 bytes.

    Of each id the number of its class, from 1 on, `NO_CLASS`, `IGNORED_CLASS`, or `UNKNOWN_CLASS` where `classes.txt`
    lacks it. UserError as `read_class_names`, and for a name that is none of the classes.
    """
    numbers = {LEFT_OUT: IGNORED_CLASS, **{name: number for number, name in enumerate(classes, 1)}}
    table = bytearray([UNKNOWN_CLASS]) * 256
    table[0], table[255] = NO_CLASS, IGNORED_CLASS
    for identity, name, _ in read_class_names(folder):
        if identity and name not in numbers:
            expected = f"expected the model's classes, {', '.join(classes)}"
            todo = f"rename it there, to {LEFT_OUT} to ignore it, or train with it"
            raise UserError(f"{Path(folder, CLASS_FILE)}: found {name}, {expected}; {todo}")
        table[identity] = numbers.get(name, NO_CLASS) if identity else IGNORED_CLASS * (name == LEFT_OUT)
    return bytes(table)


def write_class_names(folder, names):
    """Write a data folder's `classes.txt` of `ClassName`s; UserError for one that it can't hold."""
    for number, name, _ in names:
        if number > MAX_CLASS or name.endswith(" stuff"):
            expected = f"numbers up to {MAX_CLASS}, names that don't end in ' stuff'; rename or leave out some"
            raise UserError(f"{CLASS_FILE}: found class {number}, {name}, expected {expected}")
    lines = (f"{number} {name}{' stuff' * stuff}\n" for number, name, stuff in names)
    Path(folder, CLASS_FILE).write_text("".join(lines), encoding="utf-8")


def list_by_stem(folder, suffixes, recursive=False):
    """{stem, with its folders: Path} of a folder's files; UserError for none, or two of one stem."""
    if not folder.is_dir():
        expected = f"one of {suffixes[0]}, ...; make it by data/*_dataset_processing.py or name another"
        raise UserError(f"{folder}: no such folder, expected {expected}")
    files = {}
    for path in select_files(walk_files(folder) if recursive else folder.iterdir(), suffixes):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if files.setdefault(stem, path) is not path:
            same = f"{files[stem].name} has the same stem"
            raise UserError(f"{path}: {same}, expected one file per stem; rename or remove one")
    if not files:
        raise UserError(f"{folder}: found no file, expected {' '.join(suffixes)}; name another folder")
    return files


def list_images(source, recursive=False):
    """[Path] of a folder's images, with `recursive` of its subfolders, too; or of a file of any suffix."""
    source = Path(source)
    if source.is_file():
        return [source]
    paths = walk_files(source) if recursive else source.iterdir()
    files = {path for path in paths if not path.is_dir() and not path.name.startswith(".")}
    images = select_files(files, IMAGE_SUFFIXES)
    if not images:
        inside = "" if recursive else " (--recursive looks into subfolders)"
        raise UserError(f"{source}: found no {IMAGES}{inside}; name another folder")
    if others := files.difference(images):
        print(f"{source}: {len(others)} files left out, as {min(others).name}, which are no {IMAGES}", file=sys.stderr)
    return images


def read_bytes(path, expected="one"):
    """Content of a file; raises UserError."""
    if not Path(path).is_file():  # opening a named pipe would wait for its writer
        raise UserError(f"{path}: found no regular file, expected {expected}; make it or name another")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected a file that can be read; make it so") from None


def read_text(path, expected="text"):
    """Text of a file; raises UserError."""
    try:
        return read_bytes(path, expected).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: found bytes that are no UTF-8 text, expected {expected}; save it as UTF-8") from None


def decode_image(data, where, read=lambda data: cv2.imdecode(data, cv2.IMREAD_UNCHANGED)):
    """Image of a file's bytes, which `read` gets as `cv2.imdecode` does; UserError for no image or one cut off."""
    # OpenCV fills up a jpg with gray
    is_cut = data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[len(data) // 2 :]
    # libpng takes wrong checksums, and says itself what it doesn't take
    is_cut |= data.startswith(b"\x89PNG") and not _ask_pillow(data, lambda image: image.verify() is None)
    try:
        image = read(np.frombuffer(data, np.uint8)) if data and not is_cut else None
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{where}: could not be decoded, cut off or damaged, expected an image; replace it")
    return image


def read_bgr(path):
    """An image as (h, w, 3) uint8 BGR; raises UserError."""
    return decode_image(read_bytes(path), path, read_color)


def find_file(folder, name):
    """Path of the file `name` in `folder`, else by itself: many folders have labels of one name."""
    inside = Path(folder) / name
    return inside if inside.is_file() or not Path(name).is_file() else Path(name)
