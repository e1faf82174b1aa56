"""CVAT for images 1.1 and for video 1.1: one XML file with the shapes of every image, or the tracks of a video."""

import re
import xml.etree.ElementTree as ET
from functools import partial
from itertools import pairwise

import numpy as np

from data.files import IGNORED, IMAGE_SUFFIXES
from run.command import UserError

from . import shapes
from .sources import FAR, AnnotatedImage, attempt, find_image, list_files, read_bytes, read_points, require

MASK_LABELS = {"background": 0, "ignored": IGNORED}  # what these labels mean where CVAT exports masks
IGNORING = ("ignored", "is_crowd", "iscrowd")  # attributes that say so of a shape
TASK = ("size", "start_frame", "stop_frame", "frame_filter")  # number of frames, first, last, "step=N"
NO_AREA = ("points", "tag", "skeleton", "cuboid")


def read_cvat(source):
    """Images of a CVAT file, those without a shape included; they lie beside it or in `images/` there, if not named."""
    path = source.one_file("XML", ".xml")
    root = _read_xml(path)
    if root.tag != "annotations":
        raise UserError(f"{path}: found <{root.tag[:40]}>, expected <annotations>; export CVAT for images 1.1")
    folders = [source.images] if source.images else [path.parent, path.parent / "images"]
    if root.find("track") is not None:
        return require(path, _read_tracks, root, path, folders, source.line_width)
    wheres = (f"{path}: image {number}" for number, _ in enumerate(root.iter("image"), start=1))
    images = zip(wheres, root.iter("image"), strict=True)
    return [attempt(where, _read_image, image, where, folders, source.line_width) for where, image in images]


def _read_xml(path):
    data = read_bytes(path)
    try:
        if b"<!ENTITY" in data:  # a few of them can stand for gigabytes
            raise ET.ParseError
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError):
        found = "found no XML, or a part of it"
        raise UserError(f"{path}: {found}, expected CVAT for images 1.1; export it again") from None


def _read_image(element, where, folders, line_width):
    name = element.get("name")
    if not name:
        raise ValueError("found no name, expected that of the image file; fix it")
    size = _whole(element, "height", 1), _whole(element, "width", 1)
    image = AnnotatedImage(name, where, find_image(name, folders), size=size)
    for place, shape in enumerate(element, start=1):
        if shape.tag != "attribute":
            image.add(f"{where} ({name[:60]}): <{shape.tag}> {place}", _read_shape, shape, shape, place, line_width)
    return image


def _read_shape(element, owner, place, line_width):
    """A shape; `owner` is the element with its label and group: itself, or its track."""
    if element.tag in NO_AREA:
        return f"{element.tag}, which has no area"
    label, group = owner.get("label"), owner.get("group_id")
    if not label:
        raise ValueError("found no label, expected the class of the shape; fix it")
    instance = place if group in (None, "", "0") else (label, group)
    names, value = () if label in MASK_LABELS else (label,), MASK_LABELS.get(label)
    for attribute in element.iter("attribute"):
        if attribute.get("name") in IGNORING and (attribute.text or "").strip().lower() == "true":
            value = IGNORED
    depth = _whole(element, "z_order", -FAR) if element.get("z_order") else 0
    return shapes.AnnotatedShape(instance, names, _region(element, line_width), depth, value)


def _read_tracks(root, path, folders, line_width):
    """Images of a video, each with the shapes that the tracks have in its frame."""
    if len({track.get("task_id") for track in root.iter("track")}) > 1:
        raise ValueError("found several tasks, expected one, as frames are numbered in each; export each task")
    folder = folders[-1] if folders[-1].is_dir() else folders[0]
    images, errors = _list_frames(root, path, folder), {}
    annotated = {frame for frame, image in images.items() if image.is_annotated}
    for number, track in enumerate(root.iter("track"), start=1):
        where = f"{path}: track {number}: frame"
        elements = {_whole(element, "frame", 0): element for element in track}
        shown = [frame for frame in sorted(elements) if elements[frame].get("outside") != "1"]
        for frame in shown:
            if frame not in images:
                errors[frame] = UserError(f"{where} {frame}: found no image of it in {folder}, expected one; add it")
            elif not isinstance(images[frame], UserError):
                arguments = f"{where} {frame}", _read_shape, elements[frame], track, number, line_width
                images[frame] = attempt(where, images[frame].add, *arguments)
        gaps = [range(frame + 1, end) for frame, end in pairwise(sorted(elements)) if frame in shown]
        for frame in (frame for gap in gaps for frame in gap if frame in annotated):
            problem = "found no shape, but some before and after it, expected one in each frame; export it again"
            errors[frame] = UserError(f"{where} {frame}: {problem}")
    return [*errors.values(), *(image for frame, image in images.items() if frame not in errors)]


def _list_frames(root, path, folder):
    """{frame: AnnotatedImage}: by CVAT's names of frames, else all images of the task in their order."""
    size, start, stop, step = (root.findtext(f"meta//{key}") for key in TASK)
    step = int(re.search(r"\d+", step or "1")[0])
    files = list_files(folder, IMAGE_SUFFIXES, recursive=False)
    numbers = [re.fullmatch(r"frame_(\d+)", file.stem) for file in files]
    frames = range(len(files))
    if files and all(numbers):
        frames = [int(number[1]) for number in numbers]
    else:
        by_number = sorted(files, key=lambda file: [int(part) for part in re.findall(r"\d+", file.name)])
        if str(len(files)) != size or start not in (None, "0") or step != 1 or by_number != files:
            problem = f"found {len(files)} images, expected frame_000000, ... or all {size} of the task in their order"
            raise UserError(f"{folder}: {problem}; export {path.name} with its images, or as CVAT for images 1.1")
    annotated = range(int(start or 0), int(stop or FAR) + 1, step)
    view = root.find("meta//original_size")
    shape = None if view is None else (int(view.findtext("height")), int(view.findtext("width")))
    return {
        frame: AnnotatedImage(file.name, f"{path}: frame {frame}", file, size=shape, is_annotated=frame in annotated)
        for frame, file in zip(frames, files, strict=True)
    }


def _number(element, key, least=-FAR):
    try:
        value = float(element.get(key))
    except (TypeError, ValueError):
        value = np.nan
    if not least <= value <= FAR:
        raise ValueError(f"found {element.get(key)!r} for {key}, expected a number from {least:g} to {FAR:g}; fix it")
    return value


def _whole(element, key, least):
    value = _number(element, key, least)
    if value % 1:
        raise ValueError(f"found {value:g} for {key}, expected a whole number; fix it")
    return int(value)


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
        left, top, width, height = (_whole(element, key, 0) for key in ("left", "top", "width", "height"))
        counts = [int(word) for word in (element.get("rle") or "").split(",")]
        expand = partial(shapes.expand_runs, counts, (height, width))
        return partial(shapes.place_mask, expand, (height, width), top, left)
    raise ValueError("found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it")
