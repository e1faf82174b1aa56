"""labelme: a folder of JSON files, one per image."""

import base64
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from data.files import decode
from run.command import UserError

from . import shapes, sources
from .sources import get

POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}  # at least
POINTS |= {"oriented_rectangle": 4, "rotation": 4, "quadrilateral": 4}  # the last two are X-AnyLabeling's
NO_AREA = ("point", "points")


def is_labelme(value):
    """Whether an object of JSON is a labelme file."""
    return isinstance(value, dict) and "shapes" in value


def read_labelme(source):
    """Images of a JSON file, or of a folder and its subfolders, where other JSON files are passed over."""
    is_file = source.path.is_file()
    files = [source.path] if is_file else sources.list_files(source.path, (".json",))
    base = source.path.parent if is_file else source.path
    results = []
    for path in tqdm(files, desc="reading", unit="file", dynamic_ncols=True):
        file = sources.attempt(path, sources.read_json, path)
        if isinstance(file, UserError):
            results.append(file)
        elif is_labelme(file):
            results.append(sources.attempt(path, _read_file, path, file, base, source))
    return results


def _read_file(path, file, base, source):
    name = get(file, "imagePath", str)
    # the image's folder tells apart what has the same name in two of them
    folder = path.parent.relative_to(base)
    image_file = sources.find_image(name, [source.images / folder, source.images] if source.images else [path.parent])
    name = f"{folder.as_posix()}/{name.replace(chr(92), '/').split('/')[-1]}"
    size = sources.read_size(file, "imageHeight", "imageWidth")
    image = sources.AnnotatedImage(name, str(path), image_file, size)
    for number, shape in enumerate(get(file, "shapes", list), start=1):
        image.add(f"{path}: shape {number}", _read_shape, shape, number, source.line_width)
    return image


def _read_shape(shape, number, line_width):
    kind = get(shape, "shape_type", str, default="polygon")
    if kind in NO_AREA:
        return f"{kind}, which has no area"
    label, group = str(get(shape, "label", str, int)), get(shape, "group_id", int, str, default="")
    if kind not in POINTS:
        raise ValueError(f"found the shape_type {kind[:40]}, expected {', '.join(POINTS)}; remove it")
    points = sources.read_points(shape.get("points"), POINTS[kind])
    region = partial(shapes.fill_polygon, points)
    if kind in ("line", "linestrip"):
        region = partial(shapes.draw_line, points, line_width)
    elif kind == "circle":
        region = partial(shapes.fill_ellipse, points[0], [np.hypot(*(points[1] - points[0]))] * 2, 0)
    elif kind == "mask":
        data = base64.b64decode(get(shape, "mask", str))
        mask, damage = decode(data, partial(cv2.imdecode, flags=cv2.IMREAD_GRAYSCALE))
        if damage:
            raise ValueError(f"found a mask that {damage}, expected an image; save it again")
        left, top = np.floor(points.min(axis=0)).astype(int)
        region = partial(shapes.place_mask, lambda: mask > 0, mask.shape, top, left)
    elif kind == "rectangle" and len(points) == 2:
        region = shapes.box(*points[0], *points[1])
    return shapes.AnnotatedShape(number if group == "" else (label, group), (label,), region)
