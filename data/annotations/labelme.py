"""labelme: a folder of JSON files, one per image, which they name or hold."""

import base64
import os
from collections import Counter
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.files import IMAGE_SUFFIXES
from run.command import UserError

from .files import (
    attempt,
    decode,
    find_image,
    get,
    list_files,
    read_any_json,
    read_bytes,
    read_json,
    read_points,
    read_size,
)
from .shapes import Entry, Shape, box, draw_line, fill_ellipse, fill_polygon, place_mask

LEAST = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}  # points
NO_AREA = ("point", "points")


def is_labelme(value):
    """Whether an object of JSON is a labelme file."""
    return isinstance(value, dict) and "shapes" in value


def read_labelme(source, images, line_width):
    """Entries of labelme files.

    Args:
        source: a JSON file, or a folder with such files, also in its subfolders; other JSON files are passed over.
        images: folder of the images, or None: each file knows where.
        line_width: pixels of `line` and `linestrip`.

    Raises:
        UserError: a file that can't be used.
    """
    source = Path(source)
    files = [source] if source.is_file() else list_files(source, (".json",))
    base = source.parent if source.is_file() else source
    entries = []
    for path in tqdm(files, desc="reading", unit="file", dynamic_ncols=True):
        file = attempt(read_json if len(files) == 1 else read_any_json, path)
        if isinstance(file, UserError):
            entries.append(file)
        elif is_labelme(file):
            entries.append(attempt(_read_file, path, file, base, images, line_width))
    good = [entry for entry in entries if isinstance(entry, Entry)]
    if good and source.is_dir() and not images:
        used = {os.path.abspath(entry.file) for entry in good if entry.file}
        bad = {path.stem for path in files} if len(good) < len(entries) else set()  # theirs are skipped already
        there = {os.path.abspath(path) for path in list_files(source, IMAGE_SUFFIXES) if path.stem not in bad}
        good[0].left_out["images without a JSON file"] += len(there - used)
    return entries


def _read_file(path, file, base, images, line_width):
    name = get(file, "imagePath", str, path)
    shapes, left_out = [], Counter()
    for number, shape in enumerate(get(file, "shapes", list, path), start=1):
        where = f"{path}: shape {number}"
        kind = get(shape, "shape_type", str, where, "polygon")
        if kind in NO_AREA:
            left_out[f"{kind}, which has no area"] += 1
            continue
        label = get(shape, "label", (str, int), where)
        group = shape.get("group_id")
        if type(group) not in (int, str, type(None)):
            raise UserError(f"{where}: found {type(group).__name__} for group_id, expected a number; fix it")
        instance = number if group is None else (str(label), group)
        shapes.append(Shape(instance, (str(label),), _region(kind, shape, line_width, where), where))
    size = read_size(file, "imageHeight", "imageWidth", path)
    # the image's folder tells apart what has the same name in two of them
    folder = path.parent.relative_to(base)
    name = f"{folder.as_posix()}/{name.replace(chr(92), '/').split('/')[-1]}"
    entry = Entry(name, None, str(path), size=size, shapes=shapes, left_out=left_out)
    try:
        folders = [Path(images) / folder, Path(images)] if images else [path.parent]
        entry.file = find_image(file["imagePath"], dict.fromkeys(folders), path)
        entry.read = partial(read_bytes, entry.file)
    except UserError:
        if file.get("imageData") is None:
            raise
        entry.read = partial(_read_embedded, path)
    return entry


def _read_embedded(path):
    # read again when its turn comes: all images at once would fill the memory
    return _from_base64(get(read_json(path), "imageData", str, path), f"{path}: imageData")


def _from_base64(text, where):
    try:
        return base64.b64decode(text, validate=False)
    except ValueError:
        raise UserError(f"{where}: found no base64, expected an image in it; save it again") from None


def _region(kind, shape, line_width, where):
    if kind not in LEAST:
        raise UserError(f"{where}: found the shape_type {kind[:40]}, expected {', '.join(LEAST)}; remove it")
    points = read_points(shape.get("points"), LEAST[kind], where)
    if kind in ("line", "linestrip"):
        return partial(draw_line, points, line_width)
    if kind == "circle":
        radius = np.hypot(*(points[1] - points[0]))
        if not radius:
            raise UserError(f"{where}: found a circle of radius 0, expected a larger one; fix or remove it")
        return partial(fill_ellipse, points[0], (radius, radius), 0)
    if kind == "mask":
        return _mask_region(shape, points, where)
    if kind == "rectangle" and len(points) == 2:
        return box(*points[0], *points[1])
    return partial(fill_polygon, points)


def _mask_region(shape, points, where):
    data = _from_base64(get(shape, "mask", str, where), where)
    mask = decode(data, cv2.IMREAD_GRAYSCALE, f"{where}: mask") > 0
    left, top = np.floor(points.min(axis=0)).astype(int)
    return partial(place_mask, mask, top, left)
