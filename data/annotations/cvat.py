"""CVAT for images 1.1: one XML file with the shapes of every image, or frame of a video."""

import xml.etree.ElementTree as ET
from functools import partial

import numpy as np

from data.files import IGNORED, read_bytes
from run.command import UserError

from . import shapes
from .sources import AnnotatedImage, find_image, read_points, require

MASK_LABELS = {"background": 0, "ignored": IGNORED}  # as where CVAT exports masks
IGNORING = ("ignored", "is_crowd", "iscrowd")  # attributes
NO_AREA = ("points", "tag", "skeleton", "cuboid")


def read_cvat(source):
    """Images of a CVAT file; they lie in the folder named, else beside it or in `images/` there."""
    path = source.one_file(".xml")
    try:
        root = ET.fromstring(read_bytes(path))
    except (ET.ParseError, ValueError, LookupError):
        raise UserError(f"{path}: found no whole XML, expected CVAT for images 1.1; export it again") from None
    folders = [source.images] if source.images else [path.parent, path.parent / "images"]
    images = ((f"{path}: image {number}", image) for number, image in enumerate(root.iter("image"), 1))
    return [partial(require, where, _read_image, image, where, folders, source.line_width) for where, image in images]


def _read_image(element, where, folders, line_width):
    name, size = element.attrib["name"], (int(element.attrib["height"]), int(element.attrib["width"]))
    image = AnnotatedImage(name, where, find_image(name, folders), size)
    for place, shape in enumerate(element, 1):
        if shape.tag != "attribute":
            image.add(f"{where} ({name[:60]}): <{shape.tag}> {place}", _read_shape, shape, place, line_width)
    return image


def _read_shape(element, place, line_width):
    if element.tag in NO_AREA:
        return f"{element.tag}, which has no area"
    label, group = element.attrib["label"], element.get("group_id")
    instance = place if group in (None, "", "0") else (label, group)
    name, value = None if label in MASK_LABELS else label, MASK_LABELS.get(label)
    for attribute in element.iter("attribute"):
        if attribute.get("name") in IGNORING and (attribute.text or "").strip().lower() == "true":
            value = IGNORED
    return shapes.AnnotatedShape(instance, name, _region(element, line_width), int(element.get("z_order") or 0), value)


def _region(element, line_width):
    degrees = float(element.get("rotation") or 0)
    points = [pair.split(",") for pair in element.get("points", "").split(";")]
    if element.tag == "polygon":
        return partial(shapes.fill_polygon, read_points(points, 3))
    if element.tag == "polyline":
        return partial(shapes.draw_line, read_points(points, 2), line_width)
    if element.tag == "box":
        return shapes.box(*(float(element.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")), degrees)
    if element.tag == "ellipse":
        x, y, *radii = (float(element.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return partial(shapes.fill_ellipse, np.array([x, y]), radii, degrees)
    if element.tag == "mask":
        left, top, width, height = (int(element.attrib[key]) for key in ("left", "top", "width", "height"))
        counts = [int(word) for word in element.attrib["rle"].split(",")]
        return lambda size: shapes.place_mask(shapes.expand_runs(counts, (height, width)), top, left, size)
    raise ValueError("found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it")
