"""Which images are frames of one clip, and the clips to validate with."""

import re
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from datagenerator import SPLIT_SEED, VALIDATION_FRACTION
from lanes.tusimple import read_lines
from run.command import UserError


def hold_out_clips(pairs):
    """The pairs to validate with: whole clips of about `VALIDATION_FRACTION` of the images, always the same ones.

    Prints how many that are; raises UserError if all images are of one clip.
    """
    clips = {}
    for pair, clip in zip(pairs, name_clips([pair[0] for pair in pairs]), strict=True):
        clips.setdefault(clip, []).append(pair)
    if len(clips) < 2:
        raise UserError(
            f"--split-by clip: found {len(pairs)} images of one clip, {pairs[0][0]}, ..., expected several clips, told "
            "by raw_file of labels.json, a data folder each or names before numbers; name a folder with --valdir"
        )
    wanted, count, chosen, groups = VALIDATION_FRACTION * len(pairs), 0, [], list(clips.values())
    for number in np.random.default_rng(SPLIT_SEED).permutation(len(groups)):
        size = len(groups[number])
        if abs(count + size - wanted) < abs(count - wanted):
            chosen.append(groups[number])
            count += size
    chosen = chosen or [min(groups, key=len)]  # all clips are large
    held_out = [pair for group in chosen for pair in group]
    print(f"{len(chosen)} of {len(clips)} clips held out, {len(held_out)} of {len(pairs)} images")
    return held_out


def name_clips(images):
    """The clip that each image is a frame of: list of (folder, beginning of the name).

    It is the folder of the image's original name, and that name up to its last number: `a/drive2_0001.png` and
    `a/drive2_0002.png` are of one clip. Of a folder that holds one labeled frame alone, as TuSimple's do, it is the
    same of the folder: `clips/0313-1/6040/20.jpg` is of `clips/0313-1`.
    """
    lines = lines_of(images)
    names = [line["raw_file"] if line else Path(image).as_posix() for image, line in zip(images, lines, strict=True)]
    paths = list(map(PurePosixPath, names))
    clips = [(path.parent, _before_number(path.stem)) for path in paths]
    counts = Counter(clips)
    return [
        (path.parent.parent, _before_number(path.parent.name)) if line and counts[clip] == 1 else clip
        for path, line, clip in zip(paths, lines, clips, strict=True)
    ]


def _before_number(name):
    return re.sub(r"\d+\D*$", "", name)


def lines_of(images):
    """The TuSimple line of each image, None where it has none: that of its number in `labels.json` beside `images/`.

    A `labels.json` without any such line is another program's, which is said; raises UserError for some bad lines.
    """
    files, lines = {}, []
    for path in map(Path, images):
        file = path.parent.parent / "labels.json"
        if file not in files:
            files[file] = _read_lines(file) if file.is_file() else []
        number = int(path.stem) if path.stem.isdecimal() else len(files[file])
        lines.append(files[file][number] if number < len(files[file]) else None)
    return lines


def _read_lines(path):
    try:
        entries = [entry for _, entry in read_lines(path)]
    except UserError:
        entries = []
    errors = [entry for entry in entries if isinstance(entry, UserError)]
    if len(errors) == len(entries):
        print(f"{path}: found no TuSimple line; validation goes without TuSimple's score", file=sys.stderr)
        return []
    if errors:
        raise errors[0]
    return entries
