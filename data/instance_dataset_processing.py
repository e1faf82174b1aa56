"""Turn annotated images into the training data of this project.

    python data/instance_dataset_processing.py my_annotations -o my_data

Writes `images/` (the image files as they are, a tiff as png) and `labels/` (16-bit png, 0 = background, each instance
of an image its own number) of the same stems. What it reads, recognized or named with --format:

    labelme     folder of JSON files, X-AnyLabeling's too: polygon, (rotated) rectangle, circle, line, linestrip, mask
    coco        COCO instances JSON: polygons, run lengths, compressed or not
    cvat        CVAT for images or video 1.1, XML: polygon, box, ellipse, polyline, mask
    yolo        YOLO segmentation: images/ and labels/*.txt
    voc         JPEGImages/ and SegmentationObject/
    cityscapes  leftImg8bit/ and gtFine/, *_instanceIds.png
    masks       ID/images/ with one image and ID/masks/ with one file per instance (2018 Data Science Bowl)
    labels      images/ and labels/ or masks/: label images, gray ids (8, 16, 32 bits) or one color per instance

What the form marks as ignored (crowds, VOC's 255, Cityscapes' groups, labelme's __ignore__) becomes 65535.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from data.annotations import coco, cvat, labelme, rasters, yolo
from data.annotations.shapes import AnnotatedImage, count_touching, paint
from data.annotations.sources import MORE_PAGES, Source, attempt, list_files, read_bytes, read_json, read_view
from data.files import IGNORED, IMAGE_SUFFIXES, PARTS, count_images, fit_name, normalize_name
from data.writing import check_free, replacing_data, require_good, run_all, write_png
from run.command import UserError, bounded, command, one_line

READERS = {
    "labelme": labelme.read_labelme,
    "coco": coco.read_coco,
    "cvat": cvat.read_cvat,
    "yolo": yolo.read_yolo,
    "voc": rasters.read_voc,
    "cityscapes": rasters.read_cityscapes,
    "masks": rasters.read_mask_folders,
    "labels": rasters.read_label_images,
}


def recognize(path):
    """Which of `READERS` a path is for; raises UserError if that can't be told."""
    if path.is_dir():
        for name in rasters.LABEL_FOLDERS if (path / "images").is_dir() else ():
            if (path / name).is_dir():
                if list_files(path / name, IMAGE_SUFFIXES):
                    return "labels"
                if list_files(path / name, (".txt",)):
                    return "yolo"
        if rasters.is_mask_folders(path):
            return "masks"
        if any((path / name).is_dir() for name in rasters.OBJECT_FOLDERS):
            return "voc"
        if rasters.is_cityscapes(path):
            return "cityscapes"
    files = [path] if path.is_file() else list_files(path, (".json", ".xml"))
    contents = []
    for file in (file for file in files if file.suffix.lower() == ".json"):
        contents.append(attempt(read_json, file))
        for name, fits in (("labelme", labelme.is_labelme), ("coco", coco.is_coco)):
            if fits(contents[-1]):
                return name
    if any(file.suffix.lower() == ".xml" for file in files):
        return "cvat"
    for content in contents:
        if isinstance(content, UserError):
            raise content
    raise UserError(
        f"{path}: found none of {', '.join(READERS)}, expected one of them; see --help, name it by --format"
    )


def keep_classes(images, classes):
    """Leave out of the images what is of other classes (names or ids); raises UserError for one that isn't there."""
    known = {shape.names for image in images for shape in image.shapes if shape.names}
    for wanted in classes:
        if not any(wanted in names for names in known):
            listed = ", ".join(sorted({" = ".join(dict.fromkeys(reversed(names))) for names in known})[:30])
            raise UserError(f"--classes {wanted}: found {listed or 'no classes'}, expected one of these; name them")
    for image in images:
        instances = {shape.instance for shape in image.shapes}
        image.shapes = [shape for shape in image.shapes if not shape.names or set(shape.names) & set(classes)]
        image.left_out["of other classes"] += len(instances - {shape.instance for shape in image.shapes})


def process(source, outdir, form=None, classes=None, overwrite=False, skip_bad=False, empty_images=False):
    """Write the data set of annotations to `outdir`.

    Args:
        source: `Source`.
        outdir: folder to write `images/` and `labels/` in, made if absent.
        form: of `READERS`, or None to recognize it.
        classes: names or ids of the classes to keep, or None for all.
        overwrite: replace the data set that `outdir` holds.
        skip_bad: leave out images, annotations and shapes that can't be used.
        empty_images: keep images without an annotation as images without an instance.

    Returns:
        (list of lines that sum it up, list of the UserErrors skipped).

    Raises:
        UserError: bad input and not `skip_bad`, no instance at all, or a data set in `outdir` and not `overwrite`.
    """
    check_free(outdir, overwrite)
    if not source.path.exists():
        raise UserError(f"{source.path}: no such file or folder, expected annotations; name another one")
    if source.images and not source.images.is_dir():
        raise UserError(f"--images {source.images}: no such folder, expected that of the images; name another one")
    form = form or recognize(source.path)
    results = _without_mixed_up(READERS[form](source))
    errors, images, unannotated = [], [], []
    for result in results:
        if isinstance(result, UserError):
            errors.append(result)
            continue
        errors += result.errors
        # one whose shapes are all bad is no image without an instance
        if not result.errors or any(shape.value is None for shape in result.shapes):
            (images if result.is_annotated else unannotated).append(result)
    require_good(errors, skip_bad)
    if form in ("labelme", "coco", "cvat"):
        unannotated += _list_unannotated(source, form, results)
    # where an annotation is of no image or can't be read, one of them may be its image
    is_certain = not any(isinstance(result, UserError) for result in results)
    is_kept = is_certain and (form == "yolo" or empty_images)
    if not images and not (is_kept and unannotated):
        why = f" ({errors[0]})" if errors else ""
        raise UserError(f"{source.path}: found no annotated image, expected {form}; name another, or its --format{why}")
    if classes:
        keep_classes(images, classes)
    images += unannotated if is_kept else []
    _check_apart(source.path, images, outdir)
    stems = name_outputs(images, outdir)
    with replacing_data(outdir) as work:
        write = partial(_process_image, work, skip_bad)
        written, damaged = run_all([partial(write, *pair) for pair in zip(stems, images, strict=True)], skip_bad)
        if not any(len(image.areas) for image in written):
            raise UserError(
                f"{source.path}: found {len(written)} images without an instance, expected some; annotate them"
            )
    lines = [f"{len(written)} images ({form}) in {outdir}", *summarize(written)]
    if unannotated and is_kept:
        lines.append(f"{len(unannotated)} images without an annotation kept as empty")
    elif unannotated:
        why = "--empty-images keeps them" if is_certain else "they may be of the annotations that are skipped"
        lines.append(f"{len(unannotated)} left out: images without an annotation ({why})")
    return lines, errors + damaged + [error for image in written for error in image.errors]


def _list_unannotated(source, form, results):
    """Images beside the annotated ones that no annotation is for."""
    used = {os.path.abspath(result.file) for result in results if not isinstance(result, UserError) and result.file}
    if form == "labelme" and source.path.is_file():
        return []
    if form == "labelme":
        paths = list_files(source.images or source.path, IMAGE_SUFFIXES)
        if any(isinstance(result, UserError) for result in results):  # its image is skipped already
            stems = {path.stem for path in list_files(source.path, (".json",))}
            paths = [path for path in paths if path.stem not in stems]
    else:
        folders = sorted({os.path.dirname(path) for path in used})
        paths = [path for folder in folders for path in list_files(folder, IMAGE_SUFFIXES, recursive=False)]
    paths = [path for path in paths if os.path.abspath(path) not in used]
    return [AnnotatedImage(f"{path.parent.name}/{path.name}", str(path), path) for path in paths]


def _without_mixed_up(results):
    """The results, with UserErrors in place of images of different names that were found in one file."""
    names = {}
    for result in results:
        if not isinstance(result, UserError) and result.file:
            names.setdefault(os.path.abspath(result.file), {})[result.name] = result.where
    checked = []
    for result in results:
        same_file = {} if isinstance(result, UserError) else names.get(os.path.abspath(result.file or ""), {})
        if len(same_file) > 1:
            other = next(where for name, where in same_file.items() if name != result.name)
            problem = f"found {result.file} for the image {result.name}, and for another one in {other}"
            result = UserError(f"{result.where}: {problem}, expected a file for each; name their folder by --images")
        checked.append(result)
    return checked


def _check_apart(path, images, outdir):
    """Raise UserError if what is read lies in what will be replaced."""
    parts = [(Path(outdir) / part).resolve() for part in PARTS]
    paths = [path, *(image.file for image in images if image.file)]
    for path in [*paths, *(image.where.split(": ")[0] for image in images)]:
        if any(Path(path).resolve().is_relative_to(part) for part in parts):
            raise UserError(f"{path}: found in the data set to replace, expected it elsewhere; name another with -o")


def name_outputs(images, outdir):
    """Stems of the files to write, in the order of the images.

    The stem of the image; where several have the same one (however written), all images of their folders have the
    folders before it, so that those of a video go on having one beginning.

    Raises:
        UserError: two images have the same name but for the suffix.
    """
    paths = [PurePosixPath(image.name.replace("\\", "/")) for image in images]
    counts = Counter(normalize_name(path.stem) for path in paths)
    named = {path.parent for path in paths if counts[normalize_name(path.stem)] > 1}
    stems, owners = [], {}
    for path, image in zip(paths, images, strict=True):
        folders = path.parts[:-1] if path.parent in named else ()
        stem = "-".join([*(name for name in folders if name not in ("..", "/")), path.stem])
        stems.append(fit_name(stem.lstrip(".") or "image", outdir))  # what is hidden, training would pass over
        owner = owners.setdefault(normalize_name(stems[-1]), image)
        if owner is not image:
            raise UserError(
                f"{image.where}: found the image {image.name} and, in {owner.where}, {owner.name}, expected names that "
                "differ in more than the suffix; rename one"
            )
    return stems


@dataclass
class WrittenImage:
    """What the summary tells of an image."""

    areas: np.ndarray  # (N,) pixels of its instances
    ignored: int  # pixels that count as nothing
    touching: int  # instances that touch another one
    counts: Counter  # of `Painted`, and {reason: number left out}
    errors: list  # UserErrors of shapes that are left out


def _process_image(work, skip_bad, stem, image):
    """Write one image and its label; returns a `WrittenImage`."""
    data = image.read() if image.read else read_bytes(image.file)
    painted = image.label() if image.label else None
    view = read_view(data, painted.label.shape if painted else image.size, image.file or image.where)
    size_is_known = bool(painted or image.size)
    painted = painted or paint(image.shapes, view.pixels.shape[:2])
    areas = np.bincount(painted.label.ravel(), minlength=IGNORED + 1)
    areas, ignored = areas[1:IGNORED], int(areas[IGNORED])
    # shapes that don't fit an image of a size that nothing confirms may be another image's, all of them
    if painted.errors and not (skip_bad and size_is_known and areas.any()):
        raise painted.errors[0]
    write_png(work / "labels" / f"{stem}.png", painted.label)
    if view.suffix:
        (work / "images" / f"{stem}{view.suffix}").write_bytes(data)
    else:
        write_png(work / "images" / f"{stem}.png", view.pixels)
    counts = painted.counts + image.left_out
    counts += Counter({MORE_PAGES: count_images(data) - 1, "assumed": int(view.is_assumed)})
    return WrittenImage(areas[areas > 0], ignored, count_touching(painted.label), counts, painted.errors)


def summarize(written):
    """Lines that sum up the `WrittenImage`s."""
    numbers = np.array([len(image.areas) for image in written])
    areas = np.concatenate([image.areas for image in written])
    counts = sum((image.counts for image in written), Counter())
    lines = [
        f"{len(areas)} instances, {numbers.min()} to {numbers.max()} per image, {numbers.mean():.1f} on average",
        f"smallest {areas.min()} pixels, largest {areas.max()}, median {np.median(areas):.0f}",
        f"{sum(image.touching for image in written)} touch another one",
    ]
    for name, words in (
        ("covered", "lie in part under a later one"),
        ("hidden", "left out: hidden by later ones"),
        ("empty", "left out: without a pixel in the image"),
        ("holes", "holes"),
        ("assumed", "images say that they are shown turned (EXIF): their annotations are taken to be so too"),
    ):
        if number := counts.pop(name, 0):
            lines.append(f"{number} {words}")
    if ignored := sum(image.ignored for image in written):
        number = sum(image.ignored > 0 for image in written)
        lines.append(f"{ignored} pixels of {number} images are ignored: train and evaluate with --ignore {IGNORED}")
    return lines + [f"{number} left out: {reason}" for reason, number in sorted(counts.items()) if number]


@command("instance_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="instance_dataset_processing.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder or file with the annotations")
    add("-o", "--outdir", metavar="OUT", required=True, help="folder to write")
    add("--format", choices=READERS, help="of the annotations; default: recognized")
    add(
        "--images",
        metavar="DIR",
        type=Path,
        help="folder of the images; default: where the annotations say, or near them",
    )
    add("--classes", nargs="+", metavar="CLASS", help="names or ids of the classes to keep; default: all")
    add("--line-width", type=bounded(int, least=1, most=1000), default=7, help="pixels of drawn lines; default 7")
    add("--empty-images", action="store_true", help="keep images without an annotation, as empty")
    add("--skip-bad", action="store_true", help="leave out bad images, annotations and shapes, and list them")
    add("--overwrite", action="store_true", help="replace the data set that the folder holds")
    args = parser.parse_args(argv)
    source = Source(args.source, args.images, args.line_width)
    flags = args.overwrite, args.skip_bad, args.empty_images
    lines, errors = process(source, args.outdir, args.format, args.classes, *flags)
    for error in errors:
        print(f"skipped: {one_line(error)}", file=sys.stderr)
    print("\n".join([*lines, *([f"{len(errors)} skipped"] if errors else [])]))


if __name__ == "__main__":
    main()
