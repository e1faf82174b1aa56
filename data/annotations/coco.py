"""COCO instances: one JSON file with images, annotations and categories."""

import math
from functools import partial
from pathlib import Path

from run.command import UserError

from .files import (
    FAR,
    attempt,
    find_image,
    get,
    list_files,
    read_any_json,
    read_bytes,
    read_json,
    read_points,
    read_size,
)
from .shapes import Entry, Shape, expand_runs, fill_polygons, place_mask


def is_coco(value):
    """Whether an object of JSON is a COCO file."""
    return isinstance(value, dict) and "images" in value and "annotations" in value


def find_coco(source):
    """The COCO file of a path: itself, or the only one in the folder."""
    source = Path(source)
    if source.is_file():
        return source
    files = [path for path in list_files(source, (".json",)) if is_coco(read_any_json(path))]
    if len(files) != 1:
        names = f": {', '.join(path.name for path in files[:3])}" if files else ""
        raise UserError(f"{source}: found {len(files)} COCO files{names}, expected one; name the file")
    return files[0]


def read_coco(source, images, line_width):
    """Entries of a COCO file, images without an annotation included; `iscrowd` and boxes without a mask are left out.

    What can't be used of it stands among them as UserErrors.

    Args:
        source: the JSON file, or a folder that holds one.
        images: folder of the images, or None: beside the file, or in the usual folders near it.
        line_width: not used.

    Raises:
        UserError: a file that can't be used.
    """
    path = find_coco(source)
    file = read_json(path)
    names = {}
    for number, category in enumerate(get(file, "categories", list, path), start=1):
        where = f"{path}: category {number}"
        names[_id(category, "id", where)] = get(category, "name", str, where)
    split, here = path.stem.split("_")[-1], path.parent
    folders = [here, here / "images", here / "data", here / split, here.parent, here.parent / "images"]
    folders += [here.parent / split, here.parent / "images" / split]
    folders = [Path(images)] if images else [folder for folder in folders if folder.is_dir()]
    entries, bad = {}, []
    for number, image in enumerate(get(file, "images", list, path), start=1):
        where = f"{path}: image {number}"
        key = attempt(_id, image, "id", where)
        if isinstance(key, UserError):
            bad.append(key)
        elif key in entries:  # which of them an annotation is for, nobody knows
            bad.append(UserError(f"{where}: found the id {key} again, expected each once; remove one"))
            if not isinstance(first := entries[key], UserError):
                entries[key] = UserError(f"{first.where}: found its id {key} again, expected each once; remove one")
        else:
            entries[key] = attempt(_read_image, image, folders, where)
    for number, annotation in enumerate(get(file, "annotations", list, path), start=1):
        where = f"{path}: annotation {number}"
        key = attempt(_id, annotation, "image_id", where)
        if isinstance(key, UserError):
            bad.append(key)
        elif key not in entries:
            found = f"found image_id {key} that is none of images, expected one of them; fix it"
            bad.append(UserError(f"{where}: {found}"))
        elif not isinstance(entries[key], UserError):
            error = attempt(_add, annotation, number, entries[key], names, where)
            entries[key] = error or entries[key]
    return [*bad, *entries.values()]


def _id(entry, key, where):
    return get(entry, key, (int, str), where, most=math.inf)


def _read_image(image, folders, where):
    name = get(image, "file_name", str, where)
    found = find_image(name, folders, where)
    size = read_size(image, "height", "width", where)
    return Entry(name, partial(read_bytes, found), where, found, size)


def _add(annotation, number, entry, names, where):
    category = _id(annotation, "category_id", where)
    if category not in names:
        raise UserError(f"{where}: found category_id {category} that is none of categories, expected one; fix it")
    segmentation = annotation.get("segmentation")
    if get(annotation, "iscrowd", (int, bool), where, 0):
        entry.left_out["iscrowd"] += 1
    elif not segmentation:
        entry.left_out["box without a mask"] += 1
    else:
        region = _read_segmentation(segmentation, where)
        entry.shapes.append(Shape(number, (names[category], str(category)), region, where))


def _read_segmentation(value, where):
    if isinstance(value, dict):
        size, counts = get(value, "size", list, where), get(value, "counts", (list, str), where)
        if len(size) != 2 or not all(type(x) is int and 0 < x < FAR for x in size):
            raise UserError(f"{where}: found another size of its run lengths, expected [height, width]; fix it")
        counts = decode_counts(counts, where) if isinstance(counts, str) else counts
        if not all(type(count) is int for count in counts):
            raise UserError(f"{where}: found counts that are no whole numbers, expected run lengths; fix it")
        return partial(_place_runs, counts, size)
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value):
        raise UserError(f"{where}: found another segmentation, expected [[x, y, x, y, ...], ...] or an RLE; fix it")
    polygons = []
    for part in value:
        if len(part) % 2:
            raise UserError(f"{where}: found {len(part)} coordinates, expected x and y of each point; fix it")
        polygons.append(read_points([part[i : i + 2] for i in range(0, len(part), 2)], 3, where))
    return partial(fill_polygons, polygons)


def _place_runs(counts, runs_size, size):
    if tuple(runs_size) != tuple(size):
        height, width = runs_size
        raise ValueError(f"found run lengths of {width}x{height} pixels, expected {size[1]}x{size[0]}; fix it")
    return place_mask(expand_runs(counts, (size[1], size[0])).T, 0, 0, size)  # they go down the columns


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
