"""COCO instances: one JSON file with images, annotations and categories."""

from functools import partial

from data.files import IGNORED
from run.command import UserError

from . import sources
from .shapes import AnnotatedShape, expand_runs, fill_polygons
from .sources import attempt, get, require


def is_coco(value):
    """Whether an object of JSON is a COCO file."""
    return isinstance(value, dict) and "images" in value and "annotations" in value


def read_coco(source):
    """Images of a COCO file, those without an annotation included; crowds are ignored, boxes without a mask left out.

    Images lie in the folder named, else beside the file or in the usual folders near it.
    """
    path = source.one_file("COCO", ".json", lambda path: is_coco(sources.read_json(path)))
    file = sources.read_json(path)
    entries, annotations, categories = (
        require(path, get, file, key, list) for key in ("images", "annotations", "categories")
    )
    names = dict(require(f"{path}: categories", _read_category, category) for category in categories)
    folders, images, errors = _image_folders(source, path), {}, []
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: image {number}"
        key = attempt(where, _read_id, entry, "id")
        if key in images:  # which of them an annotation is for, nobody knows
            raise UserError(f"{where}: found the id {key} again, expected each once; number the images anew")
        if isinstance(key, UserError):
            errors.append(key)
        else:
            images[key] = attempt(where, _read_image, entry, folders, where)
    for number, annotation in enumerate(annotations, start=1):
        where = f"{path}: annotation {number}"
        key = attempt(where, _read_id, annotation, "image_id", images)
        if isinstance(key, UserError):
            errors.append(key)
        elif not isinstance(images[key], UserError):
            images[key] = attempt(where, images[key].add, where, _read_shape, annotation, number, names)
    return [*errors, *images.values()]


def _image_folders(source, path):
    if source.images:
        return [source.images]
    here, above, split = path.parent, path.parent.parent, path.stem.split("_")[-1]
    folders = [here, here / "images", here / "data", here / split]
    folders += [above, above / "images", above / split, above / "images" / split]
    return [folder for folder in folders if folder.is_dir()]


def _read_id(record, key, known=None):
    value = get(record, key, int, str)
    if known is not None and value not in known:
        raise ValueError(f"found {key} {value}, expected one of those in the file; fix it")
    return value


def _read_category(category):
    return _read_id(category, "id"), get(category, "name", str)


def _read_image(entry, folders, where):
    name, size = get(entry, "file_name", str), sources.read_size(entry, "height", "width")
    return sources.AnnotatedImage(name, where, sources.find_image(name, folders), size=size)


def _read_shape(annotation, number, names):
    category = _read_id(annotation, "category_id", names)
    is_crowd = get(annotation, "iscrowd", int, bool, default=0)
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return "box without a mask"
    if isinstance(segmentation, dict):
        counts = get(segmentation, "counts", list, str)
        counts = decode_counts(counts) if isinstance(counts, str) else counts
        region = partial(_place_runs, counts, get(segmentation, "size", list))
    else:
        region = partial(fill_polygons, [sources.read_points(polygon, 3) for polygon in segmentation])
    shape = AnnotatedShape(number, (names[category], str(category)), region)
    if is_crowd:  # whose members may have masks of their own, which count
        shape.value, shape.depth = IGNORED, -1
    return shape


def _place_runs(counts, runs_size, size):
    if runs_size != list(size):
        raise ValueError(f"found run lengths of the size {sources.shorten(runs_size)}, expected {list(size)}; fix it")
    return expand_runs(counts, size[::-1]).T, 0, 0  # they go down the columns


def decode_counts(text):
    """Run lengths of COCO's compressed form; ValueError for another character, or an end within a number.

    Each character holds six bits, from "0" on: five of a number, least significant first, and one that says whether
    more follow. The highest bit of the last five is the sign. From the fourth number on it is the difference to the
    number two before.
    """
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"found {character!r} in counts, expected COCO's compressed run lengths; fix it")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("found counts that end within a number, expected whole ones; export them again")
    return counts
