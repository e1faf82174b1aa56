"""YOLO segmentation: `images/` and `labels/` with one text file per image, a class and a polygon per line."""

import re
from functools import partial
from pathlib import Path

import numpy as np

from data.files import IMAGE_SUFFIXES, pair_up
from run.command import UserError

from .files import attempt, by_key, list_files, read_bytes, read_number, read_text
from .shapes import Entry, Shape, fill_polygon

SLACK = 0.01  # beyond 0 and 1, which rounding and hasty clicks leave


def read_yolo(source, images, line_width):
    """Entries of a YOLO folder, images without a text file or with an empty one included.

    Args:
        source: folder with `images/` and `labels/`, which have the same subfolders; class names from `classes.txt`,
            `labels/classes.txt`, a `*.yaml` with `names` or a `data.yaml` beside the folder, if there is one.
        images: folder in place of `images/`, or None.
        line_width: not used.

    Raises:
        UserError: a file that can't be used.
    """
    source = Path(source)
    folder = Path(images) if images else source / "images"
    names = _read_names(source)
    texts, twice = by_key(list_files(source / "labels", (".txt",)), source / "labels")
    texts.pop("classes", None)
    images, again = by_key(list_files(folder, IMAGE_SUFFIXES, say=True), folder)
    pairs, more = pair_up(images, texts)
    entries = []
    for path, text in pairs:
        if text or not more:
            entries.append(attempt(_read_image, path, folder, text, names))
        else:  # of one whose text has another name this would make an image without an instance
            found = f"found no text of that name in {source / 'labels'}, where {more[0].name} has no image"
            entries.append(UserError(f"{path}: {found}, expected either to have its like; rename one"))
    alone = f"found no image of that name in {folder}, expected one; remove it"
    return [UserError(f"{path}: {alone}") for path in more] + twice + again + entries


def _read_image(path, folder, text, names):
    entry = Entry(path.relative_to(folder).as_posix(), partial(read_bytes, path), str(text or path), path)
    if text:
        lines = enumerate(read_text(text).splitlines(), start=1)
        entry.shapes = [_read_line(line, names, f"{text}:{number}", number) for number, line in lines if line.strip()]
    return entry


def _read_line(line, names, where, number):
    words = line.split()
    if len(words) == 5:
        raise UserError(f"{where}: found a box, expected a class and a polygon (x y of 3 points or more); export masks")
    if len(words) < 7 or len(words) % 2 == 0:
        raise UserError(f"{where}: found {len(words)} words, expected a class and x y of 3 points or more; fix it")
    if not re.fullmatch(r"\d{1,6}", words[0]):
        raise UserError(f"{where}: found the class {words[0][:40]}, expected a whole number; fix it")
    points = [read_number(word, where, -SLACK, 1 + SLACK) for word in words[1:]]
    key = str(int(words[0]))
    region = partial(_fill_fractions, np.array(points).reshape(-1, 2))
    return Shape(number, (names.get(key, key), key), region, where)


def _fill_fractions(points, size):
    return fill_polygon(points * (size[1], size[0]), size)


def _read_names(source):
    """{id: name}, both str; {} if no file tells."""
    for path in (source / "classes.txt", source / "labels" / "classes.txt"):
        if path.is_file():
            return {str(number): line.strip() for number, line in enumerate(read_text(path).splitlines())}
    beside = source.resolve().parent / "data.yaml"  # where the source is one split of several
    for path in [*list_files(source, (".yaml", ".yml"), recursive=False), *([beside] if beside.is_file() else [])]:
        text = read_text(path).replace("\r", "")
        lines = r"(?:[ \t]*(?:#.*)?(?:\n(?:[ \t-]+.*|[ \t]*#.*)?)+)"
        block = re.search(rf"^names:[ \t]*(\[[^]]*\]|\{{[^}}]*\}}|{lines})", text, re.MULTILINE)
        if block:
            return _parse_names(block.group(1))
    return {}


def _parse_names(text):
    # a list or a mapping, in brackets or on lines of its own: the forms that occur, without a YAML parser
    quoted, number = r"""("[^"]*"|'(?:[^']|'')*')""", r"""["']?(\d+)["']?[ \t]*:[ \t]*"""
    flow = rf"[ \t]*(?:{number})?{quoted}(?=[ \t]*(?:[,\n]|$))|[^,\n]+"
    pattern = flow if text[0] in "[{" else r".+"
    items = [item.group().strip() for item in re.finditer(pattern, text.strip("[]{}"))]
    names = {}
    for item in items:
        if item and not item.startswith("#"):
            form = rf"(?:-[ \t]+)?(?:{number})?(?:{quoted}|(.*?))(?:[ \t]+#.*|[ \t]*)"
            key, name, plain = re.fullmatch(form, item).groups()
            name = name[1:-1].replace("''", "'") if name else plain
            names[key or str(len(names))] = name
    return names
