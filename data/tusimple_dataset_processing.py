"""Turn TuSimple folders into the training data of this project.

    python data/tusimple_dataset_processing.py train_set extra_set -o data/tusimple
    python data/tusimple_dataset_processing.py train_set -o data/kinds --lane-classes lane_classes.json

Reads every `label_data*.json` and `test_label*.json` of the folder(s) and writes `images/0000.png`, ... (the clips),
`labels/0000.png`, ... (8-bit, lane i 7 px wide with its own gray value, 50 * i + 20 for the first five) and
`labels.json` (the TuSimple line of each image). With `--lane-classes`, a file of `lanes.tusimple.read_lane_classes`,
also `classes/0000.png`, ..., each lane with its class, that of its line before that of the file, else to be ignored,
and `classes.txt`, their names.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np

from data.files import IGNORED_CLASS, ClassName, read_bgr, write_class_names
from data.writing import add_flags, check_free, replacing_data, say_written, write_numbered
from lanes.tusimple import GRAY_VALUES, are_classes, draw_label, format_lines, read_lane_classes, read_lines
from run.command import UserError, command

LABEL_FILES = ("label_data*.json", "test_label*.json")


def find_clips(folders):
    """[(path, label dict)] of the clips of TuSimple folders, each once; of bad lines (place, UserError)."""
    clips = {}
    for folder in map(Path, folders):
        files = sorted(path for pattern in LABEL_FILES for path in folder.glob(pattern))
        lines = [(f"{file}:{number}", label) for file in files for number, label in read_lines(file)]
        if not lines:
            raise UserError(f"{folder}: found no line in {' or '.join(LABEL_FILES)}, expected some; name another")
        for where, label in lines:
            if isinstance(label, UserError):
                clips[where] = where, label
                continue
            clip = folder / label["raw_file"]
            _, other = clips.setdefault(os.path.realpath(clip), (clip, label))
            if any(other[key] != label[key] for key in ("lanes", "h_samples")):
                clips[where] = where, UserError(f"{where}: found {clip} again, with other lanes, expected it once")
    return list(clips.values())


def process(folders, outdir, skip_bad=False, overwrite=False, lane_classes=None):
    """Write the data set of TuSimple folders; returns (number of images, errors skipped)."""
    check_free(outdir, overwrite)
    kinds = read_lane_classes(lane_classes) if lane_classes else None
    clips = find_clips(folders)
    with replacing_data(outdir) as work:
        if kinds:
            (work / "classes").mkdir()
            write_class_names(work, [ClassName(identity, name) for identity, name in sorted(kinds[0].items())])
        done, bad = write_numbered(work, partial(_draw, kinds), clips, skip_bad)
        (work / "labels.json").write_text(format_lines(label for _, label in done), encoding="utf-8")
    return len(done), bad


def _draw(kinds, clip):
    path, label = clip
    if isinstance(label, UserError):
        raise label
    image = read_bgr(path)
    drawn = draw_label(label, image.shape[:2])
    classes = {"classes": _class_table(path, label, *kinds)[drawn]} if kinds else {}
    return {"images": image, "labels": drawn, **classes}


def _class_table(clip, label, names, classes):
    """(256,) uint8, class of each gray value."""
    lanes = label["lanes"]
    ids = label.get("classes", classes.get(label["raw_file"], [IGNORED_CLASS] * len(lanes)))
    if not are_classes(ids, {*names, IGNORED_CLASS}) or len(ids) != len(lanes):
        expected = f"one of {', '.join(map(str, names))} for each of its {len(lanes)} lanes"
        raise UserError(f"{clip}: found classes {ids}, expected {expected}; fix its line")
    table = np.zeros(256, np.uint8)
    table[list(GRAY_VALUES[: len(lanes)])] = ids
    return table


@command("tusimple_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser("tusimple_dataset_processing.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("train_data_dir", nargs="+", help="TuSimple folder(s) with clips/ and label files")
    parser.add_argument("--lane-classes", metavar="FILE", help="kinds of lanes, for classes/ and classes.txt")
    add_flags(parser, Path(__file__).resolve().parent)
    args = parser.parse_args(argv)
    count, bad = process(args.train_data_dir, args.outdir, args.skip_bad, args.overwrite, args.lane_classes)
    say_written([f"{count} images in {args.outdir}"], bad)


if __name__ == "__main__":
    main()
