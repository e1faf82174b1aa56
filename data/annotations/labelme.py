"""labelme: a folder of JSON files, one per image, which they name or hold."""

import base64
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from run.command import UserError

from .shapes import AnnotatedImage, AnnotatedShape, box, draw_line, fill_ellipse, fill_polygon, place_mask
from .sources import (
    attempt,
    decode_image,
    find_image,
    get_value,
    list_files,
    read_json,
    read_points,
    read_size,
)

POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}  # at least
POINTS |= {"oriented_rectangle": 4, "rotation": 4, "quadrilateral": 4}  # the last two are X-AnyLabeling's
NO_AREA = ("point", "points")


def is_labelme(value):
    """Whether an object of JSON is a labelme file."""
    return isinstance(value, dict) and "shapes" in value


def read_labelme(source):
    """Images of a JSON file, or of a folder and its subfolders, where other JSON files are passed over."""
    is_file = source.path.is_file()
    files = [source.path] if is_file else list_files(source.path, (".json",))
    base = source.path.parent if is_file else source.path
    results = []
    for path in tqdm(files, desc="reading", unit="file", dynamic_ncols=True):
        file = attempt(read_json, path, len(files) > 1)
        if isinstance(file, UserError):
            results.append(file)
        elif is_labelme(file):
            results.append(attempt(_read_file, path, file, base, source))
    return results


def _read_file(path, file, base, source):
    name = get_value(file, "imagePath", str, path)
    # the image's folder tells apart what has the same name in two of them
    folder = path.parent.relative_to(base)
    image = AnnotatedImage(f"{folder.as_posix()}/{name.replace(chr(92), '/').split('/')[-1]}", str(path))
    for number, shape in enumerate(get_value(file, "shapes", list, path), start=1):
        image.add(_read_shape, shape, number, source.line_width, f"{path}: shape {number}")
    image.size = read_size(file, "imageHeight", "imageWidth", path)
    try:
        folders = [source.images / folder, source.images] if source.images else [path.parent]
        image.file = find_image(name, dict.fromkeys(folders), path)
    except UserError:
        if file.get("imageData") is None:
            raise
        image.read = partial(_read_embedded, path)
    return image


def _read_embedded(path):
    # read again when its turn comes: all images at once would fill the memory
    return _from_base64(get_value(read_json(path), "imageData", str, path), f"{path}: imageData")


def _from_base64(text, where):
    try:
        return base64.b64decode(text, validate=False)
    except ValueError:
        raise UserError(f"{where}: found no base64, expected an image in it; save it again") from None


def _read_shape(shape, number, line_width, where):
    kind = get_value(shape, "shape_type", str, where, "polygon")
    if kind in NO_AREA:
        return f"{kind}, which has no area"
    label = str(get_value(shape, "label", (str, int), where))
    group = shape.get("group_id")
    if type(group) not in (int, str, type(None)):
        raise UserError(f"{where}: found {type(group).__name__} for group_id, expected a number; fix it")
    instance = number if group is None else (label, group)
    return AnnotatedShape(instance, (label,), _region(kind, shape, line_width, where), where)


def _region(kind, shape, line_width, where):
    if kind not in POINTS:
        raise UserError(f"{where}: found the shape_type {kind[:40]}, expected {', '.join(POINTS)}; remove it")
    points = read_points(shape.get("points"), POINTS[kind], where)
    if kind in ("line", "linestrip"):
        return partial(draw_line, points, line_width)
    if kind == "circle":
        radius = np.hypot(*(points[1] - points[0]))
        if not radius:
            raise UserError(f"{where}: found a circle of radius 0, expected a larger one; fix or remove it")
        return partial(fill_ellipse, points[0], (radius, radius), 0)
    if kind == "mask":
        data = _from_base64(get_value(shape, "mask", str, where), where)
        mask = decode_image(data, lambda array: cv2.imdecode(array, cv2.IMREAD_GRAYSCALE), f"{where}: mask") > 0
        left, top = np.floor(points.min(axis=0)).astype(int)
        return partial(place_mask, mask, top, left)
    if kind == "rectangle" and len(points) == 2:
        return box(*points[0], *points[1])
    return partial(fill_polygon, points)
