"""YOLO segmentation: `images/` and `labels/` with one text file per image, a class and a polygon per line."""

import re
from functools import partial

import numpy as np

from run.command import UserError

from .shapes import AnnotatedImage, AnnotatedShape, fill_polygon
from .sources import attempt, list_files, pair_files, read_number, read_text

SLACK = 0.01  # beyond 0 and 1, which rounding and hasty clicks leave


def read_yolo(source):
    """Images of a YOLO folder, those without a text file or with an empty one included.

    `images/` and `labels/` have the same subfolders; class names are from `classes.txt`, `labels/classes.txt`, a
    `*.yaml` with `names` or a `data.yaml` beside the folder, if there is one.
    """
    folder, text_folder = source.images or source.path / "images", source.path / "labels"
    names = _read_names(source.path)
    texts = [path for path in list_files(text_folder, (".txt",)) if path != text_folder / "classes.txt"]
    pairs, results = pair_files(folder, text_folder, texts)
    for path, text in pairs:
        image = AnnotatedImage(path.relative_to(folder).as_posix(), str(text or path), path, is_annotated=bool(text))
        content = attempt(read_text, text) if text else ""
        if isinstance(content, UserError):
            image.errors.append(content)
        else:
            for number, line in enumerate(content.splitlines(), start=1):
                if line.strip():
                    image.add(_read_line, line, number, names, f"{text}:{number}")
        results.append(image)
    return results


def _read_line(line, number, names, where):
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
    return AnnotatedShape(number, (names.get(key, key), key), region, where)


def _fill_fractions(points, size):
    return fill_polygon(points * (size[1], size[0]), size)


def _read_names(folder):
    """{id: name}, both str; {} if no file tells."""
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if path.is_file():
            return {str(number): line.strip() for number, line in enumerate(read_text(path).splitlines())}
    beside = folder.resolve().parent / "data.yaml"  # where the source is one split of several
    for path in [*list_files(folder, (".yaml", ".yml"), recursive=False), *([beside] if beside.is_file() else [])]:
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
