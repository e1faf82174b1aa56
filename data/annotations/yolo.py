"""YOLO segmentation: `images/` and `labels/` with one text file per image, a class and a polygon per line."""

import re
from functools import partial

from data.files import list_by_stem, read_text
from run.command import UserError

from .shapes import AnnotatedShape, fill_polygon
from .sources import AnnotatedImage, pair_files, read_points, require

# a name in a yaml, of a list or a mapping
NAME = re.compile(r"""(?:-[ \t]+)?(?:["']?(\d+)["']?[ \t]*:[ \t]*)?(["']?)([^"',:#]+)\2""")


def read_yolo(source):
    """Images of a YOLO folder, also those without a text file."""
    folder, names = source.images or source.path / "images", read_names(source.path)
    texts = list_by_stem(source.path / "labels", (".txt",), recursive=True)
    texts.pop("classes", None)
    return [partial(require, text, _read_image, folder, path, text, names) for path, text in pair_files(folder, texts)]


def _read_image(folder, path, text, names):
    if not path:
        raise ValueError(f"found no image of that name in {folder}, expected one; remove it")
    image = AnnotatedImage(path.relative_to(folder).as_posix(), str(text or path), path, is_annotated=bool(text))
    for number, line in enumerate(read_text(text).splitlines() if text else (), 1):
        if line.strip():
            image.add(f"{text}:{number}", _read_line, line.split(), number, names)
    return image


def _read_line(words, number, names):
    if not words[0].isdecimal() or len(words) < 7 or len(words) % 2 == 0:
        expected = "a class number and x y of 3 points or more; fix it or export masks"
        raise ValueError(f"found {words[0][:40]} and {len(words) - 1} words, expected {expected}")
    points, key = read_points(words[1:], 3), str(int(words[0]))
    if not ((points > -0.01) & (points < 1.01)).all():  # rounding and hasty clicks leave so much
        raise ValueError(f"found {points.min():g} to {points.max():g}, expected fractions of the image's size; fix it")
    return AnnotatedShape(number, names.get(key) or key, lambda size: fill_polygon(points * size[::-1], size))


def read_names(folder):
    """{id: name}, both str, of `classes.txt`, `labels/classes.txt`, a yaml, or `data.yaml` beside the folder; else {}.

    UserError for a yaml's names that are no plain words.
    """
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if path.is_file():
            return {str(number): line.strip() for number, line in enumerate(read_text(path).splitlines())}
    beside = folder.resolve().parent / "data.yaml"  # of several splits
    for path in [*sorted(folder.glob("*.y*ml")), *[beside] * beside.is_file()]:
        text = re.sub(r"(^|[ \t])#.*", "", read_text(path).replace("\r", ""), flags=re.MULTILINE)
        if block := re.search(r"^names:(.*(?:\n(?:[ \t-].*)?)*)", text, re.MULTILINE):
            content = block[1].strip()
            items = re.split("," if content[:1] in "[{" else "\n", content.strip("[]{}"))
            found = [NAME.fullmatch(item.strip()) for item in items if item.strip()]
            if None in found:
                raise UserError(f"{path}: found names that aren't plain, expected words; write classes.txt")
            return {match[1] or str(number): match[3] for number, match in enumerate(found)}
    return {}
