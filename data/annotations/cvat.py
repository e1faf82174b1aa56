"""CVAT for images 1.1 and for video 1.1: one XML file with the shapes of every image, or the tracks of a video."""

import re
import xml.etree.ElementTree as ET
from functools import partial
from itertools import pairwise

import numpy as np

from data.files import IGNORED, IMAGE_SUFFIXES
from run.command import UserError

from .shapes import AnnotatedImage, AnnotatedShape, box, draw_line, fill_ellipse, fill_polygon, place_runs
from .sources import FAR, attempt, find_image, list_files, read_bytes, read_number

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
        return _read_tracks(root, path, folders, source.line_width)
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
    image = AnnotatedImage(name, where, file, size=size)
    for place, shape in enumerate(element, start=1):
        if shape.tag != "attribute":
            what = f"{where} ({name[:60]}): <{shape.tag[:40]}> {place}"
            image.add(_read_shape, shape, shape, place, line_width, what)
    return image


def _read_shape(element, owner, place, line_width, where):
    """A shape; `owner` is the element with its label and group: itself, or its track."""
    if element.tag in NO_AREA:
        return f"{element.tag}, which has no area"
    label, group = owner.get("label"), owner.get("group_id")
    if not label:
        raise UserError(f"{where}: found no label, expected the class of the shape; fix it")
    instance = place if group in (None, "", "0") else (label, group)
    depth = _whole(element, "z_order", where, -FAR) if element.get("z_order") else 0
    names, value = () if label in MASK_LABELS else (label,), MASK_LABELS.get(label)
    for attribute in element.iter("attribute"):
        if attribute.get("name") in IGNORING and (attribute.text or "").strip().lower() == "true":
            value = IGNORED
    return AnnotatedShape(instance, names, _region(element, line_width, where), where, depth, value)


def _read_tracks(root, path, folders, line_width):
    """Images of a video, each with the shapes that the tracks have in its frame."""
    if len({track.get("task_id") for track in root.iter("track")}) > 1:
        raise UserError(f"{path}: found several tasks, expected one, as frames are numbered in each; export each task")
    folder = folders[-1] if folders[-1].is_dir() else folders[0]
    images, errors = _list_frames(root, path, folder), {}
    for number, track in enumerate(root.iter("track"), start=1):
        where = f"{path}: track {number}"
        elements = {_whole(element, "frame", where, 0): element for element in track}
        shown = [frame for frame in sorted(elements) if elements[frame].get("outside") != "1"]
        for frame in shown:
            if frame in images:
                images[frame].add(_read_shape, elements[frame], track, number, line_width, f"{where}: frame {frame}")
            else:
                errors[frame] = UserError(f"{where}: found no image of frame {frame} in {folder}, expected one; add it")
        gaps = [range(frame + 1, end) for frame, end in pairwise(sorted(elements)) if frame in shown]
        for frame in (frame for gap in gaps for frame in gap if frame in images and images[frame].is_annotated):
            problem = "found a frame without its shape, but shapes before and after it, expected one in each"
            errors[frame] = UserError(f"{where}: frame {frame}: {problem}; export it again")
    return [*errors.values(), *(image for frame, image in images.items() if frame not in errors)]


def _list_frames(root, path, folder):
    """{frame: AnnotatedImage}: by CVAT's names of frames, else all images of the task in their order."""
    size, start, stop, step = (root.findtext(f"meta//{key}") for key in TASK)
    step = re.search(r"\d+", step or "1")[0]
    files = list_files(folder, IMAGE_SUFFIXES, recursive=False)
    numbers = [re.fullmatch(r"frame_(\d+)", file.stem) for file in files]
    frames = range(len(files))
    if files and all(numbers):
        frames = [int(number[1]) for number in numbers]
    else:
        by_number = sorted(files, key=lambda file: [int(part) for part in re.findall(r"\d+", file.name)])
        if str(len(files)) != size or start not in (None, "0") or step != "1" or by_number != files:
            problem = f"found {len(files)} images, expected frame_000000, ... or all {size} of the task in their order"
            raise UserError(f"{folder}: {problem}; export {path.name} with its images, or as CVAT for images 1.1")
    start, stop, step = (int(read_number(text, path, 0)) for text in (start or 0, stop or FAR, step))
    view = root.find("meta//original_size")
    shape = None
    if view is not None:
        shape = tuple(int(read_number(view.findtext(key), path, 1)) for key in ("height", "width"))
    return {
        frame: AnnotatedImage(
            file.name, f"{path}: frame {frame}", file, size=shape, is_annotated=frame in range(start, stop + 1, step)
        )
        for frame, file in zip(frames, files, strict=True)
    }


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
        return partial(place_runs, counts, (height, width), top, left)
    raise UserError(
        f"{where}: found a shape of another kind, expected polygon, polyline, box, ellipse or mask; remove it"
    )
