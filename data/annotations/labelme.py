"""labelme: a folder of JSON files, one per image."""

import base64
from functools import partial

import cv2
import numpy as np

from data.files import decode_image

from . import shapes, sources
from .sources import get, require

POLYGONS = ("polygon", "rectangle", "oriented_rectangle", "rotation", "quadrilateral")  # the last two: X-AnyLabeling
NO_AREA = ("point", "points")


def read_labelme(source):
    """Images of a JSON file, or of those in a folder and its subfolders, where others are passed over."""
    is_file = source.path.is_file()
    files = [source.path] if is_file else sources.list_files(source.path, (".json",))
    base = source.path.parent if is_file else source.path
    return [partial(require, path, _read_file, path, base, source) for path in files]


def _read_file(path, base, source):
    file = sources.read_json(path)
    if "shapes" not in file:
        return None
    folder = path.parent.relative_to(base)
    folders = [source.images / folder, source.images] if source.images else [path.parent]
    image_file = sources.find_image(get(file, "imagePath", str), folders)
    name = f"{folder.as_posix()}/{image_file.name}"
    image = sources.AnnotatedImage(name, str(path), image_file, (file.get("imageHeight"), file.get("imageWidth")))
    for number, shape in enumerate(get(file, "shapes", list), 1):
        where = f"{path}: shape {number}"
        image.add(where, _read_shape, shape, where, number, source.line_width)
    return image


def _read_shape(shape, where, number, line_width):
    kind = get(shape, "shape_type", str, default="polygon")
    if kind in NO_AREA:
        return f"{kind}, which has no area"
    label, group = str(get(shape, "label", str, int)), get(shape, "group_id", int, str, default="")
    points = sources.read_points(shape.get("points"), 3 if kind == "polygon" else 2)
    if kind == "rectangle" and len(points) == 2:
        region = shapes.box(*points.ravel())
    elif kind in POLYGONS:
        region = partial(shapes.fill_polygon, points)
    elif kind in ("line", "linestrip"):
        region = partial(shapes.draw_line, points, line_width)
    elif kind == "circle":
        region = partial(shapes.fill_ellipse, points[0], [np.hypot(*(points[1] - points[0]))] * 2, 0)
    elif kind == "mask":
        data = base64.b64decode(get(shape, "mask", str))
        mask = decode_image(data, where, partial(cv2.imdecode, flags=cv2.IMREAD_GRAYSCALE)) > 0
        left, top = np.floor(points.min(axis=0)).astype(int)
        region = partial(shapes.place_mask, mask, top, left)
    else:
        raise ValueError(f"found the shape_type {kind[:40]}, expected {', '.join(POLYGONS)}, ...; remove it")
    return shapes.AnnotatedShape(number if group == "" else (label, group), label, region)
