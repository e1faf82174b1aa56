"""YOLO segmentation: `images/` and `labels/` with one text file per image, a class and a polygon per line."""

import re

from data.files import list_by_stem, read_text

from .shapes import AnnotatedShape, fill_polygon
from .sources import AnnotatedImage, attempt, list_files, pair_files, read_points

SLACK = 0.01  # beyond 0 and 1, which rounding and hasty clicks leave


def read_yolo(source):
    """Images of a YOLO folder, those without a text file or with an empty one included.

    `images/` and `labels/` have the same subfolders; class names are from `classes.txt`, `labels/classes.txt`, a
    `*.yaml` with `names` or a `data.yaml` beside the folder, if there is one.
    """
    folder, names = source.images or source.path / "images", read_names(source.path)
    texts = list_by_stem(source.path / "labels", (".txt",), recursive=True)
    texts.pop("classes", None)
    pairs, errors = pair_files(folder, texts)
    return errors + [attempt(text, _read_image, path, path.relative_to(folder), text, names) for path, text in pairs]


def _read_image(path, name, text, names):
    image = AnnotatedImage(name.as_posix(), str(text or path), path, is_annotated=bool(text))
    for number, line in enumerate(read_text(text).splitlines() if text else (), start=1):
        if line.strip():
            image.add(f"{text}:{number}", _read_line, line.split(), number, names)
    return image


def _read_line(words, number, names):
    if len(words) < 7 or len(words) % 2 == 0:
        found = "a box" if len(words) == 5 else f"{len(words)} words"
        raise ValueError(f"found {found}, expected a class and x y of 3 points or more; fix it or export masks")
    if not re.fullmatch(r"\d{1,6}", words[0]):
        raise ValueError(f"found the class {words[0][:40]}, expected a whole number; fix it")
    points = read_points(words[1:], 3)
    if points.min() < -SLACK or points.max() > 1 + SLACK:
        raise ValueError(f"found {points.min():g} to {points.max():g}, expected fractions of the image's size; fix it")
    key = str(int(words[0]))
    return AnnotatedShape(number, (names.get(key, ""), key), lambda size: fill_polygon(points * size[::-1], size))


def read_names(folder):
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
    names = {}
    for item in (item.group().strip() for item in re.finditer(pattern, text.strip("[]{}"))):
        if item and not item.startswith("#"):
            form = rf"(?:-[ \t]+)?(?:{number})?(?:{quoted}|(.*?))(?:[ \t]+#.*|[ \t]*)"
            key, name, plain = re.fullmatch(form, item).groups()
            names[key or str(len(names))] = name[1:-1].replace("''", "'") if name else plain
    return names
