"""Which images are frames of one clip: holding out whole clips, and near-equal images on both sides of a split."""

import re
import sys
from bisect import bisect
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from datagenerator import SPLIT_SEED, VALIDATION_FRACTION
from lanes.tusimple import read_lines
from run.command import UserError

# What is compared of a run's images, so that it takes seconds however many there are
MAX_HELD_OUT = 30  # validation images, evenly spread
MAX_TRAINING = 200  # training images; of more, those next to a validation image in the order of their names
NEIGHBORS = 3  # on each side
THUMBNAIL = 32  # pixels, side of what is compared
NEAR_EQUAL = 0.8  # correlation from which two images are; of TuSimple's frames, a second apart, few reach 0.7


def hold_out_clips(pairs):
    """Choose whole clips of about `VALIDATION_FRACTION` of the images, always the same ones.

    Args:
        pairs: list of pairs, of one or several data folders.

    Returns:
        list of the pairs to validate with; how many clips that are is printed.

    Raises:
        UserError: all images are of one clip.
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
    """The clip that each image is a frame of.

    It is the folder of the image's original name, and that name up to its last number: `a/drive2_0001.png` and
    `a/drive2_0002.png` are of one clip. Of a folder that holds one labeled frame alone, as TuSimple's do, it is the
    same of the folder: `clips/0313-1/6040/20.jpg` is of `clips/0313-1`.

    Args:
        images: paths.

    Returns:
        list of (folder, beginning of the name).
    """
    names = [(PurePosixPath(name or Path(image).as_posix()), name) for image, name in original_names(images)]
    clips = [(path.parent, _before_number(path.stem)) for path, _ in names]
    counts = Counter(clips)
    return [
        (path.parent.parent, _before_number(path.parent.name)) if name and counts[clip] == 1 else clip
        for (path, name), clip in zip(names, clips, strict=True)
    ]


def _before_number(name):
    return re.sub(r"\d+\D*$", "", name)


def original_names(images):
    """(image, `raw_file` of its line in the `labels.json` beside `images/`, or None) of each image."""
    raw_files, names = lru_cache(None)(_read_raw_files), []
    for image in images:
        path = Path(image)
        known = raw_files(path.parent.parent / "labels.json")
        number = int(path.stem) if path.stem.isdecimal() else len(known)
        names.append((image, known[number] if number < len(known) else None))
    return names


def _read_raw_files(path):
    """`raw_file` of each line of a `labels.json`, None where there is none; what is wrong there, `read_lanes` says."""
    try:
        entries = [entry for _, entry in read_lines(path)] if path.is_file() else []
    except UserError:
        return []
    return [None if isinstance(entry, UserError) else entry["raw_file"] for entry in entries]


def warn_of_near_equal(pairs, val_pairs):
    """Say on stderr how many validation images, of up to `MAX_HELD_OUT`, have a near-equal one in the training."""
    count, near_equal = find_near_equal([pair[0] for pair in pairs], [pair[0] for pair in val_pairs])
    if near_equal:
        print(
            f"warning: {len(near_equal)} of {count} validation images are nearly equal to a training image, first "
            f"{' and '.join(near_equal[0])}: the scores will be better than on new images; hold out whole clips by "
            "--split-by clip, or other data by --valdir",
            file=sys.stderr,
        )


def find_near_equal(training, validation):
    """Validation images that are nearly equal to a training image; those that are one are left out.

    Args:
        training, validation: paths of images.

    Returns:
        (number of validation images looked at, list of (validation image, the training image most like it)).
    """
    place_of = {image: _place(name or image) for image, name in original_names({*training, *validation})}
    training = sorted(set(training), key=place_of.get)
    validation = sorted(set(validation) - set(training), key=place_of.get)
    places = [place_of[image] for image in training]
    spread = np.linspace(0, len(validation) - 1, min(len(validation), MAX_HELD_OUT))
    candidates = {}
    for image in (validation[round(number)] for number in spread):
        here = bisect(places, place_of[image])
        is_small = len(training) <= MAX_TRAINING
        candidates[image] = training if is_small else training[max(here - NEIGHBORS, 0) : here + NEIGHBORS]
    needed = list({*candidates, *(image for images in candidates.values() for image in images)})
    with ThreadPoolExecutor() as pool:
        thumbnail_of = dict(zip(needed, pool.map(_thumbnail, needed), strict=True))
    near_equal = []
    for image, others in candidates.items():
        correlations = [float(thumbnail_of[image] @ thumbnail_of[other]) for other in others]
        if max(correlations, default=0) >= NEAR_EQUAL:
            near_equal.append((image, others[int(np.argmax(correlations))]))
    return len(candidates), near_equal


def _place(name):
    """What orders names as their numbers count: frame_9 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _thumbnail(path):
    """(1024,) float32 of length 1, gray values less those around them, so that light counts less than what is there.

    Zeros, which equal nothing, of what can't be read or shows nothing.
    """
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except (OSError, cv2.error):
        image = None
    if image is None:  # who trains on it says so
        return np.zeros(THUMBNAIL**2, np.float32)
    small = cv2.resize(np.float32(image), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    detail = (small - cv2.blur(small, (5, 5))).ravel()
    detail -= detail.mean()
    return detail / max(np.linalg.norm(detail), 1e-6)
