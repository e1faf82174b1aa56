"""COCO instances: one JSON file with images, annotations and categories."""

from functools import partial

from data.files import IGNORED
from run.command import UserError

from . import sources
from .shapes import AnnotatedShape, expand_runs, fill_polygons
from .sources import get, require


def read_coco(source):
    """Images of a COCO file; they lie in the folder named, else beside it or in the usual folders near it."""
    path = source.one_file(".json", lambda path: "annotations" in sources.read_json(path))
    return require(path, _read_file, path, sources.read_json(path), source.images)


def _read_file(path, file, images):
    entries, annotations, categories = (get(file, key, list) for key in ("images", "annotations", "categories"))
    names = {get(one, "id", int, str): get(one, "name", str) for one in categories}
    shapes_of = {get(entry, "id", int, str): [] for entry in entries}
    if len(shapes_of) < len(entries):
        raise ValueError("found an id of images twice, expected each once; fix it")
    for number, annotation in enumerate(annotations, 1):
        where = f"{path}: annotation {number}"
        key = require(where, get, annotation, "image_id", int, str)
        if key not in shapes_of:
            raise UserError(f"{where}: found image_id {key}, expected one of the file's images; fix it")
        shapes_of[key].append((where, _read_shape, annotation, number, names))
    split, calls = path.stem.split("_")[-1], []
    places = [".", "images", "data", split, f"images/{split}"]
    folders = [base / place for base in (path.parent, path.parent.parent) for place in places]
    folders = [images] if images else [folder for folder in folders if folder.is_dir()]
    for number, record in enumerate(zip(entries, shapes_of.values(), strict=True), 1):
        where = f"{path}: image {number}"
        calls.append(partial(require, where, _read_image, where, folders, *record))
    return calls


def _read_image(where, folders, entry, shapes):
    name, size = get(entry, "file_name", str), (entry.get("height"), entry.get("width"))
    image = sources.AnnotatedImage(name, where, sources.find_image(name, folders), size)
    for shape in shapes:
        image.add(*shape)
    return image


def _read_shape(annotation, number, names):
    category, segmentation = get(annotation, "category_id", int, str), annotation.get("segmentation")
    if not segmentation:
        return "box without a mask"
    if isinstance(segmentation, dict):
        counts = get(segmentation, "counts", list, str)
        counts = decode_counts(counts) if isinstance(counts, str) else counts
        region = partial(_place_runs, counts, get(segmentation, "size", list))
    else:
        region = partial(fill_polygons, [sources.read_points(polygon, 3) for polygon in segmentation])
    shape = AnnotatedShape(number, names[category], region)
    if annotation.get("iscrowd"):  # members may have masks of their own, which count
        shape.value, shape.depth = IGNORED, -1
    return shape


def _place_runs(counts, runs_size, size):
    if runs_size != list(size):
        raise ValueError(f"found the size {sources.shorten(runs_size)}, expected {list(size)}; fix it")
    return expand_runs(counts, size[::-1]).T, 0, 0  # they go down the columns


def decode_counts(text):
    """Run lengths of COCO's compressed form; damaged ones don't add up to the image.

    A character, from "0" on, holds five bits of a number, lowest first, and whether more follow. The highest of all is
    the sign; the fourth number and later ones are differences to the number two before.
    """
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return counts
