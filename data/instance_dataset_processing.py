"""Turn annotated images into the training data of this project.

    python data/instance_dataset_processing.py my_annotations -o my_data
    python data/instance_dataset_processing.py my_annotations -o my_data --classes car truck=car person

Writes `images/` (the files as they are), `labels/` (16-bit png, 0 = background, each instance of an image its own
number) and, where the annotations name classes, `classes/` (8-bit png, the class of each pixel) and `classes.txt`.
Later shapes lie on top; what is marked as ignored becomes 65535. See doc/own_data.md.
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
    **{form: partial(rasters.read_layout, form) for form in rasters.LAYOUTS},
    "masks": rasters.read_mask_folders,
    "labels": rasters.read_label_images,
}


def recognize(path):
    """Which of `READERS` a path is for; raises UserError, OSError."""
    if (path / "images").is_dir():
        for name in rasters.LABEL_FOLDERS:
            for form, suffixes in (("labels", IMAGE_SUFFIXES), ("yolo", (".txt",))):
                if (path / name).is_dir() and sources.list_files(path / name, suffixes):
                    return form
    for form, pattern in [("masks", "*/masks"), *((form, layout[0]) for form, layout in rasters.LAYOUTS.items())]:
        if any(path.glob(pattern)):
            return form
    found = [path] if path.is_file() else sources.list_files(path, (".json", ".xml"))
    for file in sorted(found, key=lambda file: file.suffix.lower()):
        if file.suffix.lower() == ".xml":
            return "cvat"
        content = sources.read_json(file)
        if "shapes" in content:
            return "labelme"
        if "annotations" in content:
            return "coco"
    raise UserError(f"{path}: found none of {', '.join(READERS)}, expected one; see doc/own_data.md, --format")


def choose_classes(images, wanted):
    """Keep and rename the classes of images' shapes, "CLASS" or "CLASS=NEW", or all; the `ClassName`s that are left."""
    known = {shape.name for image in images for shape in image.shapes} - {None}
    renamed = dict(word.partition("=")[::2] for word in wanted) if wanted else dict.fromkeys(known, "")
    for word in sorted(renamed.keys() - known):
        listed = ", ".join(sorted(known)[:30]) or "no classes"
        raise UserError(f"--classes {word}: found {listed}, expected one of them; name it")
    names = {name: " ".join((new or name).split()) for name, new in renamed.items()} | {None: ""}
    for image in images:
        instances = {shape.instance for shape in image.shapes}
        image.shapes = [shape for shape in image.shapes if shape.name in names]
        image.counts["left out: of other classes"] += len(instances - {shape.instance for shape in image.shapes})
        for shape in image.shapes:
            shape.name = names[shape.name]
    return [files.ClassName(*pair) for pair in enumerate(sorted({*names.values()} - {""}), 1)]


def process(
    source, outdir, form=None, classes=None, components=False, overwrite=False, skip_bad=False, empty_images=False
):
    """Write the data set of a `Source` by the flags: (lines that sum it up, UserErrors skipped)."""
    writing.check_free(outdir, overwrite)
    form = form or recognize(source.path)
    images, errors = writing.run_all(READERS[form](source), skip_bad)
    images = [image for image in images if image]
    images += _list_unannotated(source.path, form, images)
    # an image without an annotation may be of one that can't be read
    is_kept = (form == "yolo" or empty_images) and not errors
    count, images = len(images), [image for image in images if is_kept or image.is_annotated]
    names = choose_classes(images, classes)
    _check_apart(source.path, images, outdir)
    stems = name_outputs(images)
    with writing.replacing_data(outdir) as work:
        if names:
            (work / "classes").mkdir()
            files.write_class_names(work, names)
        write = partial(_process_image, work, {name.name: name.id for name in names}, components)
        calls = [partial(write, *pair) for pair in zip(stems, images, strict=True)]
        written, damaged = writing.run_all(calls, skip_bad)
        areas, numbers = [area for one, *_ in written for area in one], [len(one) for one, *_ in written]
        if not areas:
            why = "".join(f" ({error})" for error in (errors + damaged)[:1])
            found = f"found {len(written)} images ({form}) without an instance"
            raise UserError(f"{source.path}: {found}, expected some; name another, or its --format{why}")
    counts, kinds = (sum((one[place] for one in written), Counter()) for place in (1, 2))
    sizes = f"{min(numbers)} to {max(numbers)} per image, of {min(areas)} to {max(areas)} pixels"
    lines = [f"{len(written)} images ({form}) in {outdir}", f"{len(areas)} instances, {sizes}"]
    if max(numbers) == 1 and 2 * sum(one[3] for one in written) > len(areas) and not components:
        lines.append("every label has one id, most in separate pieces: if each is an instance, use --components")
    why = "they may be of what is skipped" if errors else "--empty-images keeps them"
    counts[f"left out: images without an annotation ({why})"] = count - len(images)
    if kinds:
        lines.append("classes: " + ", ".join(f"{number} {name}" for name, number in sorted(kinds.items())))
    return lines + [f"{number} {words}" for words, number in (+counts).items()], errors + damaged


def _list_unannotated(path, form, images):
    """Images of which labelme, COCO or CVAT say nothing, beside those of which they do."""
    if form not in ("labelme", "coco", "cvat") or form == "labelme" and path.is_file():
        return []
    used = {Path(os.path.abspath(image.file)) for image in images}
    beside = (file for folder in {file.parent for file in used} for file in folder.iterdir())
    found = files.select_files({*beside} - used, IMAGE_SUFFIXES)
    return [sources.AnnotatedImage(f"{p.parent.name}/{p.name}", str(p), p, is_annotated=False) for p in found]


def _check_apart(path, images, outdir):
    """UserError if what is read will be replaced, or one file is the image of several names."""
    parts, owners = [(outdir / part).resolve() for part in files.PARTS], {}
    for used in [path, *(file for image in images for file in (image.file, image.where.split(": ")[0]))]:
        if any(Path(used).resolve().is_relative_to(part) for part in parts):
            raise UserError(f"{used}: found in the data set to replace, expected it elsewhere; name another with -o")
    for image in images:
        other = owners.setdefault(os.path.abspath(image.file), image)
        if other.name != image.name:
            found = f"found {image.file} for the image {image.name}, and for {other.name} in {other.where}"
            raise UserError(f"{image.where}: {found}, expected a file for each; name their folder by --images")


def name_outputs(images):
    """Stems of the files to write, with their folders if one comes twice; raises UserError."""
    paths = [PurePosixPath(image.name.replace("\\", "/")) for image in images]
    stems, owners = [path.stem for path in paths], {}
    if len({*stems}) < len(stems):
        stems = ["-".join(part for part in (*path.parts[:-1], path.stem) if part not in ("..", "/")) for path in paths]
    stems = [stem.lstrip(".") for stem in stems]  # what is hidden, training would pass over
    for stem, image in zip(stems, images, strict=True):
        owner = owners.setdefault(stem, image)
        if owner is not image:
            found = f"found the image {image.name} and, in {owner.where}, {owner.name}"
            raise UserError(f"{image.where}: {found}, expected names that differ in more than the suffix")
    return stems


def _process_image(work, class_ids, components, stem, image):
    """Write one image with its label and, if there are `class_ids`, {name: id}, its classes.

    Returns its instances' areas (N,) in px, {words of the summary: number}, {class: instances}, whether its only
    instance is in pieces.
    """
    data, names = files.read_bytes(image.file), []
    if image.label:
        label = image.label()
        sources.size_of(data, label.shape, image.file)
    else:
        label, names = shapes.paint(image.shapes, sources.size_of(data, image.size, image.file))
    if class_ids:
        table = np.zeros(IGNORED + 1, np.uint8)
        table[1 : len(names) + 1] = [class_ids.get(name, files.NO_CLASS) for name in names]
        table[IGNORED] = files.IGNORED_CLASS
        writing.write_png(work / "classes" / f"{stem}.png", table[label])
    if components:
        label = sources.require(image.where, shapes.part_components, label)
    writing.write_png(work / "labels" / f"{stem}.png", label)
    (work / "images" / f"{stem}{image.file.suffix.lower()}").write_bytes(data)
    pixels_of = np.bincount(label.ravel(), minlength=IGNORED + 1)
    instances = {shape.instance for shape in image.shapes if shape.value is None}
    image.counts["left out: hidden by later ones or without a pixel in the image"] += len(instances) - len(names)
    image.counts["touch another one"] += shapes.count_touching(label)
    image.counts["images without an annotation, kept as empty"] += not image.is_annotated
    image.counts[f"pixels are ignored: train and evaluate with --ignore {IGNORED}"] += int(pixels_of[IGNORED])
    areas, shown = pixels_of[1:IGNORED][pixels_of[1:IGNORED] > 0], np.uint8((label > 0) & (label < IGNORED))
    in_pieces = len(areas) == 1 and cv2.connectedComponents(shown, connectivity=8)[0] > 2
    return areas, image.counts, Counter(filter(None, names)), in_pieces


@command("instance_dataset_processing.py")
def main(argv=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("instance_dataset_processing.py", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder or file with the annotations")
    add("--format", dest="form", choices=READERS, help="of the annotations; default: recognized")
    add("--images", metavar="DIR", type=Path, help="their folder; default: where the annotations say, or near")
    add("--classes", nargs="+", metavar="CLASS[=NEW]", help="classes to keep, renamed; default: all")
    add("--components", action="store_true", help="every connected piece becomes an instance")
    add("--line-width", type=bounded(int, least=1, most=1000), default=7, help="pixels of drawn lines; default 7")
    add("--empty-images", action="store_true", help="keep images without an annotation, as empty")
    writing.add_flags(parser)
    args = vars(parser.parse_args(argv))
    source = sources.Source(*map(args.pop, ("source", "images", "line_width")))
    writing.say_written(*process(source, **args))


if __name__ == "__main__":
    main()
