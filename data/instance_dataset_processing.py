"""Turn annotated images into the training data of this project.

    python data/instance_dataset_processing.py my_annotations -o my_data

Writes `images/` (the image files as they are, a tiff as png) and `labels/` (16-bit png, 0 = background, each instance
of an image its own number) of the same stems. What it reads, recognized or named with --format:

    labelme  folder of JSON files: polygon, rectangle, circle, line, linestrip, mask; a group_id joins shapes
    coco     COCO instances JSON: polygons, run lengths, compressed or not; iscrowd is left out
    cvat     CVAT for images 1.1, XML: polygon, box, ellipse, polyline, mask; a group_id joins shapes
    yolo     YOLO segmentation: images/ and labels/*.txt
    masks    ID/images/ with one image and ID/masks/ with one file per instance (2018 Data Science Bowl)
    labels   images/ and labels/ or masks/: label images, gray ids (8, 16, 32 bits) or one color per instance

A pixel belongs to a shape if its center lies inside, coordinates counting from the image's upper left corner; lines are
drawn --line-width wide. Where shapes overlap, the later one lies on top. Nothing appears in the output folder before
every image is done, and a data set that is there is replaced only with `--overwrite`.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from data.annotations.coco import is_coco, read_coco
from data.annotations.cvat import read_cvat
from data.annotations.files import MORE_PAGES, attempt, list_files, name_outputs, read_json, read_view
from data.annotations.labelme import is_labelme, read_labelme
from data.annotations.rasters import LABEL_FOLDERS, is_mask_folders, read_label_images, read_mask_folders
from data.annotations.shapes import count_touching, paint
from data.annotations.yolo import read_yolo
from data.files import IMAGE_SUFFIXES, PARTS, check_free, count_images, replacing_data, require_good, run_all, write_png
from run.command import UserError, bounded, command, one_line

READERS = {
    "labelme": read_labelme,
    "coco": read_coco,
    "cvat": read_cvat,
    "yolo": read_yolo,
    "masks": read_mask_folders,
    "labels": read_label_images,
}


def recognize(source):
    """Which of `READERS` a path is for; raises UserError if that can't be told."""
    source = Path(source)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder, expected annotations; name another one")
    if source.is_dir():
        for name in LABEL_FOLDERS if (source / "images").is_dir() else ():
            if (source / name).is_dir():
                if list_files(source / name, IMAGE_SUFFIXES):
                    return "labels"
                if list_files(source / name, (".txt",)):
                    return "yolo"
        if is_mask_folders(source):
            return "masks"
    bad = []
    files = [source] if source.is_file() else list_files(source, (".json", ".xml"))
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        value = attempt(read_json, path)
        bad.append(value)
        for name, fits in (("labelme", is_labelme), ("coco", is_coco)):
            if fits(value):
                return name
    if any(path.suffix.lower() == ".xml" for path in files):
        return "cvat"
    for value in bad:
        if isinstance(value, UserError):
            raise value
    raise UserError(
        f"{source}: found none of {', '.join(READERS)}, expected one of them; see --help, name it by --format"
    )


def keep_classes(entries, classes):
    """Leave out of the entries what is of other classes (names or ids); raises UserError for one that isn't there."""
    found = {shape.names for entry in entries for shape in entry.shapes}
    unknown = [name for name in classes if not any(name in names for names in found)]
    if unknown:
        known = ", ".join(sorted({" = ".join(dict.fromkeys(reversed(names))) for names in found})[:30])
        raise UserError(f"--classes {unknown[0]}: found {known or 'no classes'}, expected one of these; name them")
    for entry in entries:
        others = {shape.instance for shape in entry.shapes if not set(shape.names) & set(classes)}
        entry.shapes = [shape for shape in entry.shapes if set(shape.names) & set(classes)]
        entry.left_out["of other classes"] += len(others)


def process(source, outdir, form=None, images=None, classes=None, line_width=7, overwrite=False, skip_bad=False):
    """Write the data set of annotations to `outdir`.

    Args:
        source: file or folder.
        outdir: folder to write `images/` and `labels/` in, made if absent.
        form: of `READERS`, or None to recognize it.
        images: folder of the images, or None where the annotations tell.
        classes: names or ids of the classes to keep, or None for all.
        line_width: pixels.
        overwrite: replace the data set that `outdir` holds.
        skip_bad: leave out images that, or whose annotations, can't be used.

    Returns:
        (list of lines that sum it up, list of the UserErrors skipped).

    Raises:
        UserError: bad input and not `skip_bad`, no instance at all, or a data set in `outdir` and not `overwrite`.
    """
    check_free(outdir, overwrite)
    if not Path(source).exists():
        raise UserError(f"{source}: no such file or folder, expected annotations; name another one")
    if images and not Path(images).is_dir():
        raise UserError(f"--images {images}: no such folder, expected that of the images; name another one")
    form = form or recognize(source)
    results = list(_tell_apart(READERS[form](source, images, line_width)))
    bad = [result for result in results if isinstance(result, UserError)]
    require_good(bad, skip_bad)
    entries = [result for result in results if not isinstance(result, UserError)]
    if not entries:
        why = f" ({bad[0]})" if bad else ""
        raise UserError(f"{source}: found no annotated image, expected {form}; name another one, or its --format{why}")
    if classes:
        keep_classes(entries, classes)
    _check_apart(source, entries, outdir)
    stems = name_outputs(entries)
    with replacing_data(outdir) as work:
        calls = [partial(_process_image, work, stem, entry) for stem, entry in zip(stems, entries, strict=True)]
        found, damaged = run_all(calls, skip_bad)
        if not any(len(areas) for areas, _, _ in found):
            raise UserError(f"{source}: found {len(found)} images without an instance, expected some; annotate them")
    return [f"{len(found)} images ({form}) in {outdir}", *summarize(found)], bad + damaged


def _tell_apart(results):
    """Entries and UserErrors; of entries for images of different names that were found in one file, UserErrors."""
    names = {}
    for result in results:
        if not isinstance(result, UserError) and result.file:
            names.setdefault(os.path.abspath(result.file), {})[result.name] = result.where
    for result in results:
        others = {} if isinstance(result, UserError) else names.get(os.path.abspath(result.file or ""), {})
        if len(others) < 2:
            yield result
        else:
            other = next(where for name, where in others.items() if name != result.name)
            found = f"found {result.file} for the image {result.name}, and for another one in {other}"
            yield UserError(f"{result.where}: {found}, expected a file for each; name their folder by --images")


def _check_apart(source, entries, outdir):
    """Raise UserError if what is read lies in what will be replaced."""
    parts = [(Path(outdir) / part).resolve() for part in PARTS]
    paths = [source, *(entry.file for entry in entries if entry.file)]
    for path in [*paths, *(entry.where.split(": ")[0] for entry in entries)]:
        if any(Path(path).resolve().is_relative_to(part) for part in parts):
            raise UserError(f"{path}: found in the data set to replace, expected it elsewhere; name another with -o")


def _process_image(work, stem, entry):
    """Write one image and its label; returns (areas of its instances, number that touch, Counter of `paint`)."""
    where = entry.file or entry.where
    data = entry.read()
    label, counts = entry.label() if entry.label else (None, Counter())
    size, suffix, image = read_view(data, entry.size if label is None else label.shape, where)
    if label is None:
        label, counts = paint(entry.shapes, size)
    write_png(work / "labels" / f"{stem}.png", label)
    if suffix:
        (work / "images" / f"{stem}{suffix}").write_bytes(data)
    else:
        write_png(work / "images" / f"{stem}.png", image)
    areas = np.bincount(label.ravel())[1:]
    counts = counts + Counter(entry.left_out) + Counter({MORE_PAGES: count_images(data) - 1})
    return areas[areas > 0], count_touching(label), counts


def summarize(found):
    """Lines that sum up what `_process_image` gave for each image."""
    numbers = np.array([len(areas) for areas, _, _ in found])
    areas = np.concatenate([areas for areas, _, _ in found])
    counts = sum((counts for _, _, counts in found), Counter())
    lines = [
        f"{len(areas)} instances, {numbers.min()} to {numbers.max()} per image, {numbers.mean():.1f} on average",
        f"smallest {areas.min()} pixels, largest {areas.max()}, median {np.median(areas):.0f}",
        f"{sum(touching for _, touching, _ in found)} touch another one",
    ]
    for name, words in (
        ("covered", "lie in part under a later one"),
        ("hidden", "left out: hidden by later ones"),
        ("empty", "left out: without a pixel in the image"),
    ):
        if number := counts.pop(name, 0):
            lines.append(f"{number} {words}")
    return lines + [f"{number} left out: {reason}" for reason, number in sorted(counts.items()) if number]


@command("instance_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="instance_dataset_processing.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder or file with the annotations")
    add("-o", "--outdir", metavar="OUT", required=True, help="folder to write")
    add("--format", choices=READERS, help="of the annotations; default: recognized")
    add("--images", metavar="DIR", help="folder of the images; default: where the annotations say, or near them")
    add("--classes", nargs="+", metavar="CLASS", help="names or ids of the classes to keep; default: all")
    add("--line-width", type=bounded(int, least=1, most=1000), default=7, help="pixels of drawn lines; default 7")
    add("--skip-bad", action="store_true", help="leave out bad images and annotations, and list them")
    add("--overwrite", action="store_true", help="replace the data set that the folder holds")
    args = parser.parse_args(argv)
    lines, bad = process(
        args.source,
        args.outdir,
        args.format,
        args.images,
        args.classes,
        args.line_width,
        args.overwrite,
        args.skip_bad,
    )
    for error in bad:
        print(f"skipped: {one_line(error)}", file=sys.stderr)
    print("\n".join([*lines, *([f"{len(bad)} skipped"] if bad else [])]))


if __name__ == "__main__":
    main()
