"""CVAT for images 1.1: one XML file with the shapes of every image."""

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import numpy as np

from run.command import UserError

from .files import FAR, attempt, find_image, list_files, read_bytes, read_number
from .shapes import Entry, Shape, box, draw_line, expand_runs, fill_ellipse, fill_polygon, place_mask

NO_AREA = ("points", "tag", "skeleton", "cuboid", "attribute")


def find_cvat(source):
    """The XML file of a path: itself, or the only one in the folder."""
    source = Path(source)
    files = [source] if source.is_file() else list_files(source, (".xml",))
    if len(files) != 1:
        raise UserError(f"{source}: found {len(files)} XML files, expected one; name the file")
    return files[0]


def read_cvat(source, images, line_width):
    """Entries of a CVAT file, images without a shape included, shapes ordered by `z_order`.

    Args:
        source: the XML file, or a folder that holds one.
        images: folder of the images, or None: beside the file or in `images/` there.
        line_width: pixels of a polyline.

    Raises:
        UserError: a file that can't be used.
    """
    path = find_cvat(source)
    data = read_bytes(path)
    try:
        if b"<!ENTITY" in data:  # a few of them can stand for gigabytes
            raise ET.ParseError
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError):
        raise UserError(
            f"{path}: found no XML, or a part of it, expected CVAT for images 1.1; export it again"
        ) from None
    if root.tag != "annotations" or root.find("track") is not None:
        found = "CVAT for video" if root.tag == "annotations" else f"<{root.tag[:40]}>"
        raise UserError(f"{path}: found {found}, expected CVAT for images 1.1, <annotations> of <image>; export that")
    folders = [Path(images)] if images else [path.parent, path.parent / "images"]
    numbered = enumerate(root.iter("image"), 1)
    return [attempt(_read_image, path, number, image, folders, line_width) for number, image in numbered]


def _read_image(path, number, image, folders, line_width):
    where = f"{path}: image {number}"
    name = image.get("name")
    if not name:
        raise UserError(f"{where}: found no name, expected that of the image file; fix it")
    size = tuple(_whole(image, key, where, 1) for key in ("height", "width"))
    found = find_image(name, folders, where)
    entry = Entry(name, partial(read_bytes, found), where, found, size)
    ordered = []
    for place, element in enumerate(image, start=1):
        if element.tag in NO_AREA:
            entry.left_out[f"{element.tag}, which has no area"] += element.tag != "attribute"
            continue
        what = f"{where} ({name[:60]}): <{element.tag[:40]}> {place}"
        label, group = element.get("label"), element.get("group_id")
        if not label:
            raise UserError(f"{what}: found no label, expected the class of the shape; fix it")
        instance = place if group in (None, "", "0") else (label, group)
        depth = _whole(element, "z_order", what, -FAR) if element.get("z_order") else 0
        ordered.append((depth, Shape(instance, (label,), _region(element, line_width, what), what)))
    entry.shapes = [shape for _, shape in sorted(ordered, key=lambda pair: pair[0])]
    return entry


def _number(element, key, where, least=-FAR):
    return read_number(element.get(key), f"{where}: {key}", least)


def _whole(element, key, where, least):
    value = _number(element, key, where, least)
    if value % 1:
        raise UserError(f"{where}: found {value:g} for {key}, expected a whole number; fix it")
    return int(value)


def _points(element, least, where):
    pairs = [pair.split(",") for pair in (element.get("points") or "").split(";")]
    if any(len(pair) != 2 for pair in pairs) or len(pairs) < least:
        raise UserError(f"{where}: found other points, expected at least {least} as x,y;x,y;...; fix it")
    return np.array([[read_number(text, where) for text in pair] for pair in pairs])


def _region(element, line_width, where):
    turn = _number(element, "rotation", where) if element.get("rotation") else 0.0
    if element.tag == "polygon":
        return partial(fill_polygon, _points(element, 3, where))
    if element.tag == "polyline":
        return partial(draw_line, _points(element, 2, where), line_width)
    if element.tag == "box":
        sides = [_number(element, key, where) for key in ("xtl", "ytl", "xbr", "ybr")]
        if sides[0] > sides[2] or sides[1] > sides[3]:
            raise UserError(
                f"{where}: found a right side left of the left one, or so, expected xtl ytl xbr ybr; fix it"
            )
        return box(*sides, turn)
    if element.tag == "ellipse":
        middle = np.array([_number(element, key, where) for key in ("cx", "cy")])
        return partial(fill_ellipse, middle, [_number(element, key, where, 1e-3) for key in ("rx", "ry")], turn)
    if element.tag == "mask":
        left, top, width, height = (_whole(element, key, where, 0) for key in ("left", "top", "width", "height"))
        texts = (element.get("rle") or "").split(",")
        counts = [int(read_number(text, where, 0)) for text in texts]
        return partial(_place_runs, counts, top, left, (height, width))
    raise UserError(
        f"{where}: found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it"
    )


def _place_runs(counts, top, left, shape, size):
    if top + shape[0] > size[0] or left + shape[1] > size[1]:
        height, width = shape
        raise ValueError(
            f"found {width}x{height} pixels at ({left}, {top}), expected them within {size[1]}x{size[0]}; fix it"
        )
    return place_mask(expand_runs(counts, shape), top, left, size)
