"""Turn annotated images into the training data of this project.

    python data/instance_dataset_processing.py my_annotations -o my_data
    python data/instance_dataset_processing.py my_annotations -o my_data --classes car truck=car person

Writes `images/` (the image files as they are), `labels/` (16-bit png, 0 = background, each instance of an image its own
number) and, where the annotations name classes, `classes/` (8-bit png, the class of each pixel) and `classes.txt`.
doc/own_data.md has what each form may hold. A pixel belongs to a shape if its center lies inside, coordinates counting
from the image's upper left corner. Where shapes overlap, the later one lies on top. What the form marks as ignored
becomes 65535.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import os
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from data import files, writing
from data.annotations import coco, cvat, labelme, rasters, shapes, sources, yolo
from data.files import IGNORED, IMAGE_SUFFIXES
from run.command import UserError, bounded, command

READERS = {
    "labelme": labelme.read_labelme,
    "coco": coco.read_coco,
    "cvat": cvat.read_cvat,
    "yolo": yolo.read_yolo,
    "voc": rasters.read_voc,
    "cityscapes": rasters.read_cityscapes,
    "cvppp": rasters.read_cvppp,
    "masks": rasters.read_mask_folders,
    "labels": rasters.read_label_images,
}
# what lies in the folders of some of them
PATTERNS = {"masks": "*/masks", "voc": "SegmentationObject*", "cityscapes": "**/*_instanceIds.png"}
PATTERNS |= {"cvppp": "**/*_rgb.png"}


def recognize(path):
    """Which of `READERS` a path is for; raises UserError if that can't be told."""
    if path.is_dir():
        for name in rasters.LABEL_FOLDERS if (path / "images").is_dir() else ():
            for form, suffixes in (("labels", IMAGE_SUFFIXES), ("yolo", (".txt",))):
                if (path / name).is_dir() and sources.list_files(path / name, suffixes):
                    return form
        for form, pattern in PATTERNS.items():
            if any(path.glob(pattern)):
                return form
    paths = [path] if path.is_file() else sources.list_files(path, (".json", ".xml"))
    errors = []
    for file in (file for file in paths if file.suffix.lower() == ".json"):
        content = sources.attempt(file, sources.read_json, file)
        if labelme.is_labelme(content):
            return "labelme"
        if coco.is_coco(content):
            return "coco"
        errors += [content] if isinstance(content, UserError) else []
    if any(file.suffix.lower() == ".xml" for file in paths):
        return "cvat"
    if errors:
        raise errors[0]
    found = f"found none of {', '.join(READERS)}"
    raise UserError(f"{path}: {found}, expected one of them; see doc/own_data.md, name it by --format")


def choose_classes(images, wanted, where):
    """Keep and rename the classes of `AnnotatedImage`s' shapes, and number those that are left.

    `wanted` are "CLASS" or "CLASS=NEW", by name or id; None keeps all. Returns `ClassName`s, none where nothing has a
    class, or everything the same one without a name. UserError for a class that isn't there, or can't be written.
    """
    known = {shape.names for image in images for shape in image.shapes if shape.names}
    is_unnamed = len(known) == 1 and not any(names[0] for names in known)
    new_names = {} if wanted else {names: "" if is_unnamed else names[0] or names[-1] for names in known}
    renamed = dict(word.partition("=")[::2] for word in wanted or ())  # as {"truck": "car", "bus": ""}
    for word, new_name in renamed.items():
        found = [names for names in known if word in names]
        if not found:
            listed = ", ".join(sorted(" = ".join(filter(None, names[::-1])) for names in known)[:30])
            raise UserError(f"--classes {word}: found {listed or 'no classes'}, expected one of these; name them")
        new_names |= {names: new_name or names[0] or word for names in found}
    new_names = {names: " ".join(name.split()) for names, name in new_names.items()}
    for image in images:
        instances = {shape.instance for shape in image.shapes}
        image.shapes = [shape for shape in image.shapes if not shape.names or shape.names in new_names]
        image.counts["left out: of other classes"] += len(instances - {shape.instance for shape in image.shapes})
        for shape in image.shapes:
            shape.names = (new_names[shape.names],) if shape.names else ()
    names = sorted({*new_names.values()} - {""})
    if len(names) > files.MAX_CLASS:
        found = f"found {len(names)} classes"
        raise UserError(f"{where}: {found}, expected at most {files.MAX_CLASS}; name some by --classes")
    for name in names:
        if name.endswith(" stuff"):  # a word of classes.txt
            todo = f"expected another end; rename it by --classes '{name}=NEW'"
            raise UserError(f"{where}: found the class {name}, {todo}")
    return [files.ClassName(number, name) for number, name in enumerate(names, start=1)]


def process(
    source, outdir, form=None, classes=None, components=False, overwrite=False, skip_bad=False, empty_images=False
):
    """Write the data set of a `Source`: (list of lines that sum it up, list of the UserErrors skipped).

    `form` is of `READERS`, or None to recognize it; the others are the command's flags.
    """
    writing.check_free(outdir, overwrite)
    form = form or recognize(source.path)
    results = READERS[form](source)
    errors = [result for result in results if isinstance(result, UserError)]
    is_certain = not errors  # or an image without an annotation may be that of one that can't be read
    writing.require_good(errors, skip_bad)
    read = [result for result in results if not isinstance(result, UserError)]
    images = [image for image in read if image.is_annotated]
    unannotated = [image for image in read if not image.is_annotated] + _list_unannotated(source, form, read)
    is_kept = is_certain and (form == "yolo" or empty_images)
    if not images and not (is_kept and unannotated):
        why = f" ({errors[0]})" if errors else ""
        raise UserError(f"{source.path}: found no annotated image, expected {form}; name another, or its --format{why}")
    names = choose_classes(images, classes, source.path)
    images += unannotated if is_kept else []
    _check_apart(source.path, images, outdir)
    stems = name_outputs(images, outdir)
    with writing.replacing_data(outdir) as work:
        if names:
            (work / "classes").mkdir()
            files.write_class_names(work, names)
        write = partial(_process_image, work, {name.name: name.id for name in names}, components)
        calls = [partial(write, *pair) for pair in zip(stems, images, strict=True)]
        written, damaged = writing.run_all(calls, skip_bad)
        if not any(len(image.areas) for image in written):
            found = f"found {len(written)} images without an instance"
            raise UserError(f"{source.path}: {found}, expected some; annotate them")
    lines = [f"{len(written)} images ({form}) in {outdir}", *summarize(written, components)]
    if unannotated and is_kept:
        lines.append(f"{len(unannotated)} images without an annotation kept as empty")
    elif unannotated:
        why = "--empty-images keeps them" if is_certain else "they may be of the annotations that are skipped"
        lines.append(f"{len(unannotated)} left out: images without an annotation ({why})")
    return lines, errors + damaged


def _list_unannotated(source, form, images):
    """Images without an annotation beside labelme's, COCO's or CVAT's that have one."""
    if form not in ("labelme", "coco", "cvat") or form == "labelme" and source.path.is_file():
        return []
    used = {Path(os.path.abspath(image.file)) for image in images}
    folders = sorted({path.parent for path in used})
    paths = [path for folder in folders for path in sources.list_files(folder, IMAGE_SUFFIXES, recursive=False)]
    return [sources.AnnotatedImage(f"{p.parent.name}/{p.name}", str(p), p) for p in paths if p not in used]


def _check_apart(path, images, outdir):
    """Raise UserError if what is read lies in what will be replaced, or one file is the image of several names."""
    parts, owners = [(Path(outdir) / part).resolve() for part in files.PARTS], {}
    for used in [path, *(file for image in images for file in (image.file, image.where.split(": ")[0]))]:
        if any(Path(used).resolve().is_relative_to(part) for part in parts):
            raise UserError(f"{used}: found in the data set to replace, expected it elsewhere; name another with -o")
    for image in images:
        other = owners.setdefault(os.path.abspath(image.file), image)
        if other.name != image.name:
            found = f"found {image.file} for the image {image.name}, and for {other.name} in {other.where}"
            raise UserError(f"{image.where}: {found}, expected a file for each; name their folder by --images")


def name_outputs(images, outdir):
    """Stems of the files to write, with the images' folders before all where one comes twice; raises UserError."""
    paths = [PurePosixPath(image.name.replace("\\", "/")) for image in images]
    stems, owners = [path.stem for path in paths], {}
    if len({files.normalize_name(stem) for stem in stems}) < len(stems):
        stems = ["-".join(part for part in (*path.parts[:-1], path.stem) if part not in ("..", "/")) for path in paths]
    # what is hidden, training would pass over
    stems = [files.fit_name(stem.lstrip(".") or "image", outdir) for stem in stems]
    for stem, image in zip(stems, images, strict=True):
        owner = owners.setdefault(files.normalize_name(stem), image)
        if owner is not image:
            found = f"found the image {image.name} and, in {owner.where}, {owner.name}"
            raise UserError(f"{image.where}: {found}, expected names that differ in more than the suffix; rename one")
    return stems


class WrittenImage(NamedTuple):
    """What the summary tells of an image."""

    areas: np.ndarray  # (N,) pixels of its instances
    counts: Counter  # {what the summary says of as many: number}
    classes: Counter  # {name: instances}
    in_pieces: bool  # its only instance has several separate pieces


def _process_image(work, class_ids, components, stem, image):
    """Write one image with its label and, if there are `class_ids`, {name: id}, its classes; a `WrittenImage`."""
    data = files.read_bytes(image.file)
    painted = image.label() if image.label else None
    size = painted.label.shape if painted else image.size
    pixels, is_stored, is_assumed = sources.read_view(data, size, image.file)
    painted = painted or shapes.paint(image.shapes, pixels.shape[:2])
    label = sources.require(image.where, shapes.part_components, painted.label) if components else painted.label
    pixels_of = np.bincount(label.ravel(), minlength=IGNORED + 1)
    areas = pixels_of[1:IGNORED][pixels_of[1:IGNORED] > 0]
    if class_ids:
        table = np.zeros(IGNORED + 1, np.uint8)
        table[1 : len(painted.names) + 1] = [class_ids.get(name, files.NO_CLASS) for name in painted.names]
        table[IGNORED] = files.IGNORED_CLASS
        writing.write_png(work / "classes" / f"{stem}.png", table[painted.label])
    writing.write_png(work / "labels" / f"{stem}.png", label)
    suffix = PurePosixPath(image.name).suffix.lower()
    if is_stored or suffix not in IMAGE_SUFFIXES:
        writing.write_png(work / "images" / f"{stem}.png", pixels)
    else:
        (work / "images" / f"{stem}{suffix}").write_bytes(data)
    counts = painted.counts + image.counts
    counts["touch another one"] += shapes.count_touching(label)
    counts["images say that they are shown turned (EXIF): annotations are taken to be so too"] += is_assumed
    counts[f"pixels are ignored: train and evaluate with --ignore {IGNORED}"] += int(pixels_of[IGNORED])
    counts[sources.MORE_PAGES] += files.count_images(data) - 1
    shown = ((label > 0) & (label < IGNORED)).astype(np.uint8)
    in_pieces = len(areas) == 1 and cv2.connectedComponents(shown, connectivity=8)[0] > 2
    return WrittenImage(areas, counts, Counter(filter(None, painted.names)), in_pieces)


def summarize(written, components=False):
    """Lines that sum up the `WrittenImage`s."""
    numbers = np.array([len(image.areas) for image in written])
    areas = np.concatenate([image.areas for image in written])
    counts, classes = (sum((getattr(image, name) for image in written), Counter()) for name in ("counts", "classes"))
    lines = [
        f"{len(areas)} instances, {numbers.min()} to {numbers.max()} per image, {numbers.mean():.1f} on average",
        f"smallest {areas.min()} pixels, largest {areas.max()}, median {np.median(areas):.0f}",
    ]
    if classes:
        lines.append("classes: " + ", ".join(f"{number} {name}" for name, number in sorted(classes.items())))
    if not components and numbers.max() == 1 and 2 * sum(image.in_pieces for image in written) > len(areas):
        pieces = "most of them in several separate pieces: if each piece is an instance, --components parts them"
        lines.append(f"every label has a single id, {pieces}")
    return lines + [f"{number} {words}" for words, number in counts.items()]


@command("instance_dataset_processing.py")
def main(argv=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("instance_dataset_processing.py", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder or file with the annotations")
    add("--format", choices=READERS, help="of the annotations; default: recognized")
    add("--images", metavar="DIR", type=Path, help="folder of the images; default: where the annotations say, or near")
    add("--classes", nargs="+", metavar="CLASS[=NEW]", help="classes to keep, by name or id, renamed; default: all")
    add("--components", action="store_true", help="every connected piece of an instance becomes one")
    add("--line-width", type=bounded(int, least=1, most=1000), default=7, help="pixels of drawn lines; default 7")
    add("--empty-images", action="store_true", help="keep images without an annotation, as empty")
    writing.add_flags(parser)
    args = parser.parse_args(argv)
    source = sources.Source(args.source, args.images, args.line_width)
    flags = args.components, args.overwrite, args.skip_bad, args.empty_images
    writing.say_written(*process(source, args.outdir, args.format, args.classes, *flags))


if __name__ == "__main__":
    main()
