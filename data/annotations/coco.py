"""COCO instances: one JSON file with images, annotations and categories."""

import math
from functools import partial

from data.files import IGNORED
from run.command import UserError

from .shapes import AnnotatedImage, AnnotatedShape, expand_runs, fill_polygons, place_mask
from .sources import FAR, attempt, find_image, get_value, read_json, read_points, read_size


def is_coco(value):
    """Whether an object of JSON is a COCO file."""
    return isinstance(value, dict) and "images" in value and "annotations" in value


def read_coco(source):
    """Images of a COCO file, those without an annotation included; crowds are ignored, boxes without a mask left out.

    Images lie in the folder named, else beside the file or in the usual folders near it. What belongs to no image
    stands among them as UserErrors.
    """
    path = source.one_file("COCO", ".json", lambda path: is_coco(read_json(path, lenient=True)))
    file = read_json(path)
    names = {}
    for number, category in enumerate(get_value(file, "categories", list, path), start=1):
        where = f"{path}: category {number}"
        names[_id(category, "id", where)] = get_value(category, "name", str, where)
    images, errors = _read_images(file, _image_folders(source, path), path)
    for number, annotation in enumerate(get_value(file, "annotations", list, path), start=1):
        where = f"{path}: annotation {number}"
        key = attempt(_id, annotation, "image_id", where)
        if isinstance(key, UserError):
            errors.append(key)
        elif key not in images:
            problem = f"found image_id {key} that is none of images, expected one of them; fix it"
            errors.append(UserError(f"{where}: {problem}"))
        elif not isinstance(images[key], UserError):
            images[key].add(_read_shape, annotation, number, names, where)
    return [*errors, *images.values()]


def _image_folders(source, path):
    if source.images:
        return [source.images]
    here, above, split = path.parent, path.parent.parent, path.stem.split("_")[-1]
    folders = [here, here / "images", here / "data", here / split]
    folders += [above, above / "images", above / split, above / "images" / split]
    return [folder for folder in folders if folder.is_dir()]


def _read_images(file, folders, path):
    """({id: AnnotatedImage or UserError}, UserErrors of images without an id of their own)."""
    images, errors = {}, []
    for number, entry in enumerate(get_value(file, "images", list, path), start=1):
        where = f"{path}: image {number}"
        key = attempt(_id, entry, "id", where)
        if isinstance(key, UserError):
            errors.append(key)
        elif key in images:  # which of them an annotation is for, nobody knows
            errors.append(UserError(f"{where}: found the id {key} again, expected each once; remove one"))
            if not isinstance(first := images[key], UserError):
                images[key] = UserError(f"{first.where}: found its id {key} again, expected each once; remove one")
        else:
            images[key] = attempt(_read_image, entry, folders, where)
    return images, errors


def _id(entry, key, where):
    return get_value(entry, key, (int, str), where, most=math.inf)


def _read_image(entry, folders, where):
    name = get_value(entry, "file_name", str, where)
    file = find_image(name, folders, where)
    return AnnotatedImage(name, where, file, size=read_size(entry, "height", "width", where))


def _read_shape(annotation, number, names, where):
    category = _id(annotation, "category_id", where)
    if category not in names:
        raise UserError(f"{where}: found category_id {category} that is none of categories, expected one; fix it")
    segmentation = annotation.get("segmentation")
    is_crowd = get_value(annotation, "iscrowd", (int, bool), where, 0)
    if not segmentation:
        return "box without a mask"
    shape = AnnotatedShape(number, (names[category], str(category)), _read_segmentation(segmentation, where), where)
    if is_crowd:  # whose members may have masks of their own, which count
        shape.value, shape.depth = IGNORED, -1
    return shape


def _read_segmentation(value, where):
    if isinstance(value, dict):
        size, counts = get_value(value, "size", list, where), get_value(value, "counts", (list, str), where)
        if len(size) != 2 or not all(type(side) is int and 0 < side < FAR for side in size):
            raise UserError(f"{where}: found another size of its run lengths, expected [height, width]; fix it")
        counts = decode_counts(counts, where) if isinstance(counts, str) else counts
        if not all(type(count) is int for count in counts):
            raise UserError(f"{where}: found counts that are no whole numbers, expected run lengths; fix it")
        return partial(_place_runs, counts, tuple(size))
    if not isinstance(value, list) or not all(isinstance(polygon, list) for polygon in value):
        raise UserError(f"{where}: found another segmentation, expected [[x, y, x, y, ...], ...] or an RLE; fix it")
    polygons = []
    for numbers in value:
        if len(numbers) % 2:
            raise UserError(f"{where}: found {len(numbers)} coordinates, expected x and y of each point; fix it")
        pairs = [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        polygons.append(read_points(pairs, 3, where))
    return partial(fill_polygons, polygons)


def _place_runs(counts, runs_size, size):
    if runs_size != size:
        height, width = runs_size
        raise ValueError(f"found run lengths of {width}x{height} pixels, expected {size[1]}x{size[0]}; fix it")
    return place_mask(expand_runs(counts, size[::-1]).T, 0, 0, size)  # they go down the columns


def decode_counts(text, where):
    """Run lengths of COCO's compressed form.

    Each character holds six bits, from "0" on: five of a number, least significant first, and one that says whether
    more follow. The highest bit of the last five is the sign. From the fourth number on it is the difference to the
    number two before.

    Raises:
        UserError: another character, or an end within a number.
    """
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UserError(f"{where}: found {character!r} in counts, expected COCO's compressed run lengths; fix it")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise UserError(f"{where}: found counts that end within a number, expected whole ones; export them again")
    return counts
