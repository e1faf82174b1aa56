"""CVAT for images 1.1: one XML file with the shapes of every image."""

import xml.etree.ElementTree as ET
from functools import partial

import numpy as np

from run.command import UserError

from .shapes import AnnotatedImage, AnnotatedShape, box, draw_line, expand_runs, fill_ellipse, fill_polygon, place_mask
from .sources import FAR, attempt, find_image, read_bytes, read_number

NO_AREA = ("points", "tag", "skeleton", "cuboid", "attribute")


def read_cvat(source):
    """Images of a CVAT file, those without a shape included; they lie beside it or in `images/` there, if not named."""
    path = source.one_file("XML", ".xml")
    root = _read_xml(path)
    if root.tag != "annotations" or root.find("track") is not None:
        kind = "CVAT for video" if root.tag == "annotations" else f"<{root.tag[:40]}>"
        raise UserError(f"{path}: found {kind}, expected CVAT for images 1.1, <annotations> of <image>; export that")
    folders = [source.images] if source.images else [path.parent, path.parent / "images"]
    numbered = enumerate(root.iter("image"), start=1)
    return [attempt(_read_image, path, number, image, folders, source.line_width) for number, image in numbered]


def _read_xml(path):
    data = read_bytes(path)
    try:
        if b"<!ENTITY" in data:  # a few of them can stand for gigabytes
            raise ET.ParseError
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError):
        raise UserError(
            f"{path}: found no XML, or a part of it, expected CVAT for images 1.1; export it again"
        ) from None


def _read_image(path, number, element, folders, line_width):
    where = f"{path}: image {number}"
    name = element.get("name")
    if not name:
        raise UserError(f"{where}: found no name, expected that of the image file; fix it")
    size = tuple(_whole(element, key, where, 1) for key in ("height", "width"))
    file = find_image(name, folders, where)
    image = AnnotatedImage(name, partial(read_bytes, file), where, file, size)
    for place, shape in enumerate(element, start=1):
        if shape.tag in NO_AREA:
            image.left_out[f"{shape.tag}, which has no area"] += shape.tag != "attribute"
        else:
            what = f"{where} ({name[:60]}): <{shape.tag[:40]}> {place}"
            image.shapes.append(_read_shape(shape, place, line_width, what))
    return image


def _read_shape(element, place, line_width, where):
    label, group = element.get("label"), element.get("group_id")
    if not label:
        raise UserError(f"{where}: found no label, expected the class of the shape; fix it")
    instance = place if group in (None, "", "0") else (label, group)
    depth = _whole(element, "z_order", where, -FAR) if element.get("z_order") else 0
    return AnnotatedShape(instance, (label,), _region(element, line_width, where), where, depth)


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
    degrees = _number(element, "rotation", where) if element.get("rotation") else 0.0
    if element.tag == "polygon":
        return partial(fill_polygon, _points(element, 3, where))
    if element.tag == "polyline":
        return partial(draw_line, _points(element, 2, where), line_width)
    if element.tag == "box":
        left, top, right, bottom = (_number(element, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        if left > right or top > bottom:
            raise UserError(
                f"{where}: found a right side left of the left one, or so, expected xtl ytl xbr ybr; fix it"
            )
        return box(left, top, right, bottom, degrees)
    if element.tag == "ellipse":
        center = np.array([_number(element, key, where) for key in ("cx", "cy")])
        return partial(fill_ellipse, center, [_number(element, key, where, 1e-3) for key in ("rx", "ry")], degrees)
    if element.tag == "mask":
        left, top, width, height = (_whole(element, key, where, 0) for key in ("left", "top", "width", "height"))
        counts = [int(read_number(text, where, 0)) for text in (element.get("rle") or "").split(",")]
        return partial(_place_runs, counts, top, left, (height, width))
    raise UserError(
        f"{where}: found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it"
    )


def _place_runs(counts, top, left, shape, size):
    # before they are expanded, as a wrong size may be a huge one
    if top + shape[0] > size[0] or left + shape[1] > size[1]:
        height, width = shape
        raise ValueError(
            f"found {width}x{height} pixels at ({left}, {top}), expected them within {size[1]}x{size[0]}; fix it"
        )
    return place_mask(expand_runs(counts, shape), top, left, size)
