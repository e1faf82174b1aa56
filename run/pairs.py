"""The data of a run: image and label pairs, their split, lanes, classes."""

import hashlib
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

import utils
from data.files import CLASS_FILE, LEFT_OUT, MAX_CLASS, class_table, find_samples, read_class_names
from datagenerator import SPLIT_SEED, VALIDATION_FRACTION, ClassMap, read_label, split_pairs
from lanes.tusimple import read_labels
from run.command import UserError


@dataclass
class Data:
    pairs: list  # of `datagenerator.read_pair`, to train on, each as often as it stands here
    folders: dict  # {name of a validation folder: pairs}
    lanes: dict  # {the same name: `read_lanes` of its pairs}
    classes: dict = field(default_factory=dict)  # {name: whether it is stuff}, ordered as the network's output

    @property
    def has_labels(self):
        """Whether there are labels to train on, else classes alone."""
        return any(pair[1] for pair in self.pairs)

    @property
    def val_pairs(self):
        return [pair for pairs in self.folders.values() for pair in pairs]


def collect_data(flags):
    """The `Data` of a run's flags; raises UserError for files that can't be used."""
    pairs, folders = collect_pairs(flags.srcdir, flags.valdir, flags.split_by, flags.balance, flags.ignore)
    classes = collect_classes(pairs, flags.resume or flags.modeldir) if flags.cls else {}
    pairs = number_classes(pairs, classes)
    folders = {name: number_classes(val_pairs, classes) for name, val_pairs in folders.items()}
    # without a semantic head no lane is found
    lanes = {name: read_lanes(val_pairs) if flags.sem else None for name, val_pairs in folders.items()}
    return Data(pairs, folders, lanes, classes)


def collect_classes(pairs, modeldir):
    """Classes of training pairs, {name: whether it is stuff}, those of the model of `modeldir` first, in its order.

    A single one isn't learned.
    """
    classes = {}
    for folder in dict.fromkeys(_class_folder(pair) for pair in pairs if pair[2]):
        for identity, name, stuff in read_class_names(folder):
            if identity and name != LEFT_OUT and classes.setdefault(name, stuff) != stuff:
                what = f"{name}{'' if stuff else ' not'} to be stuff"
                raise UserError(f"{folder / CLASS_FILE}: found {what}, expected the same in all folders; change one")
    if len(classes) > MAX_CLASS:
        raise UserError(f"--srcdir: found {len(classes)} classes, expected at most {MAX_CLASS}; leave some out")
    if len(classes) == 1:
        return {}
    known = utils.read_classes(modeldir) if classes and modeldir.lower() != "none" else {}
    return {name: classes[name] for name in dict.fromkeys([*known, *classes]) if name in classes}


def number_classes(pairs, classes):
    """`collect_pairs`' pairs as `datagenerator.read_pair` takes them."""
    if classes:
        table = lru_cache(None)(lambda folder: class_table(folder, classes))
        return [(*pair[:2], pair[2] and ClassMap(pair[2], table(_class_folder(pair)))) for pair in pairs]
    for image, label, _ in pairs:
        if label is None:
            raise UserError(f"{image}: found no label, expected one without classes; add it or drop --cls 0")
    return [pair[:2] for pair in pairs]


def _class_folder(pair):
    return Path(pair[2]).parent.parent


def collect_pairs(srcdir, valdir=None, split_by="image", balance=False, ignore=None):
    """(training pairs, {name of a validation folder: pairs}), of `find_samples`.

    Without `valdir` 10 % of every source, or of all clips, are held out; copies of them aren't trained on.
    """
    pairs, held_out = [], []
    if valdir is None and split_by == "clip":
        held_out = hold_out_clips([pair for source in srcdir for pair in find_samples(parse_source(source)[0])])
    for folder, times in map(parse_source, srcdir):
        train_pairs = find_samples(folder)
        if valdir is None and split_by == "image":
            train_pairs, val_pairs = split_pairs(train_pairs)
            held_out += val_pairs
        train_pairs = [pair for pair in train_pairs if pair not in held_out]
        pairs += (balance_pairs(train_pairs, ignore) if balance else train_pairs) * times
    if valdir is not None:
        val_folders = list(dict.fromkeys(valdir))
        names = [Path(folder).resolve().name for folder in val_folders]
        names = names if len(set(names)) == len(names) else val_folders
        return pairs, dict(zip(names, map(find_samples, val_folders), strict=True))
    if copies := find_copies(held_out, pairs):
        found = f"{len(copies)} images are copies of held-out ones, first {min(copies)[0]}"
        print(f"warning: {found}: not trained on; remove them", file=sys.stderr)
        pairs = [pair for pair in pairs if pair not in copies]
    if not pairs:
        raise UserError(f"--srcdir {srcdir[0]}: found no other image than held-out ones; add images")
    return pairs, {"validation": list(dict.fromkeys(held_out))}


def hold_out_clips(pairs):
    """The pairs of a tenth of the clips, always the same, to validate with; UserError for a single clip.

    A clip: images of a folder whose names are equal up to their last number. TuSimple's frames have their `raw_file`
    for a name; where a folder has one alone, the folders' names are compared so.
    """

    def before_number(path):
        return re.sub(r"\d+[^\d/]*$", "", path.as_posix())

    files, names = {}, []
    for image, *_ in pairs:
        line = find_line(image, files)
        names.append((PurePosixPath(line["raw_file"] if line else image).with_suffix(""), bool(line)))
    counts = Counter(before_number(path) for path, _ in names)
    clips = [before_number(path.parent if line and counts[before_number(path)] == 1 else path) for path, line in names]
    if len(set(clips)) < 2:
        raise UserError(f"--split-by clip: found one clip, of {pairs[0][0]}, expected several; name --valdir")
    split = GroupShuffleSplit(1, test_size=VALIDATION_FRACTION, random_state=SPLIT_SEED)
    _, held_out = next(split.split(pairs, groups=clips))
    print(f"{len({clips[i] for i in held_out})} of {len(set(clips))} clips held out, {len(held_out)} images")
    return [pairs[i] for i in held_out]


def parse_source(source):
    """(folder, how often its images count) of FOLDER or FOLDER:N."""
    folder, _, times = source.rpartition(":")
    is_repeated = folder and times.isdigit() and int(times) and not Path(source).exists()
    return (folder, int(times)) if is_repeated else (source, 1)


def balance_pairs(pairs, ignore=None):
    """Repeat pairs so that images with a rare number of instances come more often.

    Each of `count` images with a number comes round(sqrt(most / count)) times: half way, by ratio, to as many of each.
    """

    def count_instances(pair):
        label = read_label(pair[1]) if pair[1] else np.zeros(0, int)
        return np.count_nonzero(np.bincount(label[label != ignore])[1:])

    with ThreadPoolExecutor() as pool:
        numbers = list(pool.map(count_instances, pairs))
    counts = Counter(numbers)
    times = {number: round((max(counts.values()) / count) ** 0.5) for number, count in counts.items()}
    return [pair for pair, number in zip(pairs, numbers, strict=True) for _ in range(times[number])]


def find_copies(pairs, others):
    """Set of those `others` whose image has the bytes of one of `pairs`."""

    def size(pair):
        return Path(pair[0]).stat().st_size

    sizes = set(map(size, pairs))
    likely = [other for other in set(others) if size(other) in sizes]
    contents = {_digest(image) for image, *_ in set(pairs)} if likely else set()
    return {other for other in likely if _digest(other[0]) in contents}


def _digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def describe_pairs(pairs):
    """What identifies data wherever they lie: {"images": int, "digest": of names, image sizes, labels}."""

    @lru_cache(None)
    def describe(pair):
        image, label, class_map = Path(pair[0]), pair[1], (*pair[2:], None)[0]
        paths = [path for path in (label, class_map and class_map.path) if path]
        table = class_map.table.hex() if class_map else ""
        return f"{image.name} {image.stat().st_size} {' '.join(map(_digest, paths))}{table}"

    digest = hashlib.sha256("\n".join(map(describe, pairs)).encode(errors="surrogateescape")).hexdigest()
    return {"images": len(pairs), "digest": digest[:16]}


def find_line(image, files):
    """TuSimple line of an image's number in `labels.json` beside `images/`, or None; `files` keeps what is read."""
    file, stem = Path(image).parent.parent / "labels.json", Path(image).stem
    if file not in files:
        files[file] = read_labels(file) if file.is_file() else []
    return files[file][int(stem)] if stem.isdecimal() and int(stem) < len(files[file]) else None


def read_lanes(pairs):
    """`find_line` of each pair, None if one has none; "raw_file" is the image's path, "size" its (h, w).

    Empty lanes are left out; UserError for lanes beside the label's instances.
    """
    files, labeled = {}, []
    for image, label, *_ in pairs:
        line = find_line(image, files)
        if label is None or line is None:
            return None
        ids = read_label(label)
        lanes = [lane for lane in line["lanes"] if max(lane, default=-1) >= 0]
        points = [(y, x) for lane in lanes for x, y in zip(lane, line["h_samples"], strict=True) if x >= 0]
        points = np.array(points, int).reshape(-1, 2)
        inside = points[((points >= 0) & (points < ids.shape)).all(axis=1)]
        wrong = len(points) - np.count_nonzero(ids[tuple(inside.T)])
        if 2 * wrong > len(points):
            found = f"found {wrong} of {len(points)} points of labels.json beside the instances of {label}"
            raise UserError(f"{image}: {found}, expected one size; make both again or remove labels.json")
        labeled.append({**line, "raw_file": image, "lanes": lanes, "size": ids.shape})
    return labeled
