"""CVAT for images 1.1: one XML file with the shapes of every image, or frame of a video."""

import xml.etree.ElementTree as ET
from functools import partial

import numpy as np

from data.files import IGNORED, read_bytes
from run.command import UserError

from . import shapes
from .sources import FAR, AnnotatedImage, attempt, find_image, read_points

MASK_LABELS = {"background": 0, "ignored": IGNORED}  # what these labels mean where CVAT exports masks
IGNORING = ("ignored", "is_crowd", "iscrowd")  # attributes that say so of a shape
NO_AREA = ("points", "tag", "skeleton", "cuboid")


def read_cvat(source):
    """Images of a CVAT file, those without a shape included; they lie beside it or in `images/` there, if not named."""
    path = source.one_file("XML", ".xml")
    root = _read_xml(path)
    if root.tag != "annotations" or root.find("track") is not None:
        found = "tracks, as in CVAT for video" if root.tag == "annotations" else f"<{root.tag[:40]}>"
        raise UserError(f"{path}: found {found}, expected the shapes of each image; export CVAT for images 1.1")
    folders = [source.images] if source.images else [path.parent, path.parent / "images"]
    results = []
    for number, image in enumerate(root.iter("image"), start=1):
        where = f"{path}: image {number}"
        results.append(attempt(where, _read_image, image, where, folders, source.line_width))
    return results


def _read_xml(path):
    data = read_bytes(path)
    try:
        if b"<!ENTITY" in data:  # a few of them can stand for gigabytes
            raise ET.ParseError
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError):
        raise UserError(f"{path}: found no XML, or a part, expected CVAT for images 1.1; export it again") from None


def _read_image(element, where, folders, line_width):
    name, size = element.attrib["name"], (_number(element, "height", 1, int), _number(element, "width", 1, int))
    image = AnnotatedImage(name, where, find_image(name, folders), size=size)
    for place, shape in enumerate(element, start=1):
        if shape.tag != "attribute":
            image.add(f"{where} ({name[:60]}): <{shape.tag}> {place}", _read_shape, shape, place, line_width)
    return image


def _read_shape(element, place, line_width):
    if element.tag in NO_AREA:
        return f"{element.tag}, which has no area"
    label, group = element.attrib["label"], element.get("group_id")
    instance = place if group in (None, "", "0") else (label, group)
    names, value = () if label in MASK_LABELS else (label,), MASK_LABELS.get(label)
    for attribute in element.iter("attribute"):
        if attribute.get("name") in IGNORING and (attribute.text or "").strip().lower() == "true":
            value = IGNORED
    depth = _number(element, "z_order", kind=int) if element.get("z_order") else 0
    return shapes.AnnotatedShape(instance, names, _region(element, line_width), depth, value)


def _number(element, key, least=-FAR, kind=float):
    try:
        value = kind(element.get(key))
    except (TypeError, ValueError):
        value = np.nan
    if not least <= value <= FAR:
        expected = f"{'a whole number' if kind is int else 'a number'} from {least:g} to {FAR:g}"
        raise ValueError(f"found {element.get(key)!r} for {key}, expected {expected}; fix it")
    return value


def _region(element, line_width):
    degrees = _number(element, "rotation") if element.get("rotation") else 0.0
    points = [pair.split(",") for pair in (element.get("points") or "").split(";")]
    if element.tag == "polygon":
        return partial(shapes.fill_polygon, read_points(points, 3))
    if element.tag == "polyline":
        return partial(shapes.draw_line, read_points(points, 2), line_width)
    if element.tag == "box":
        left, top, right, bottom = (_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if left > right or top > bottom:
            raise ValueError("found a right side left of the left one, or so, expected xtl ytl xbr ybr; fix it")
        return shapes.box(left, top, right, bottom, degrees)
    if element.tag == "ellipse":
        center, radii = ([_number(element, key) for key in keys] for keys in (("cx", "cy"), ("rx", "ry")))
        return partial(shapes.fill_ellipse, np.array(center), radii, degrees)
    if element.tag == "mask":
        left, top, width, height = (_number(element, key, 0, int) for key in ("left", "top", "width", "height"))
        counts = [int(word) for word in (element.get("rle") or "").split(",")]
        expand = partial(shapes.expand_runs, counts, (height, width))
        return partial(shapes.place_mask, expand, (height, width), top, left)
    raise ValueError("found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it")
