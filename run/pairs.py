"""The image and label pairs of a run: from its folders, none on both sides of the split, and what tells them apart."""

import hashlib
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.files import find_pairs
from datagenerator import read_label, split_pairs
from run.command import UserError


def collect_pairs(srcdir, valdir=None, balance=False, ignore=None):
    """Training and validation pairs; those that are equal to a held-out one are left out of the training, and said.

    With `valdir`, which somebody has chosen, they stay.

    Args:
        srcdir: data folders; one given as FOLDER:N counts N times.
        valdir: validation folders; None holds 10 % of every source out.
        balance, ignore: repeat pairs with a rare number of instances, see `balance_pairs`.

    Returns:
        (training pairs, {name of a validation folder: its pairs}).
    """
    pairs, val_pairs = [], []
    for source in srcdir:
        folder, _, times = source.rpartition(":")
        repeated = folder and times.isdigit() and int(times) and not Path(source).exists()
        folder, times = (folder, int(times)) if repeated else (source, 1)
        found = find_pairs(folder)
        if valdir is None:
            found, held_out = split_pairs(found)
            val_pairs += held_out
        pairs += (balance_pairs(found, ignore) if balance else found) * times
    if valdir is None:
        val_pairs = list(dict.fromkeys(val_pairs))
        again = set(find_copies(val_pairs, pairs))
        if again:
            print(
                f"warning: {len(again)} images are copies of held-out ones, first {min(again)[0]}: left out of the "
                "training; remove them",
                file=sys.stderr,
            )
            pairs = [pair for pair in pairs if pair not in again]
        if not pairs:
            raise UserError(f"--srcdir {srcdir[0]}: found no other image than held-out ones, expected some; add images")
        return pairs, {"validation": val_pairs}
    folders = list(dict.fromkeys(valdir))
    names = [Path(folder).resolve().name for folder in folders]
    names = names if len(set(names)) == len(names) else folders
    return pairs, {name: find_pairs(folder) for name, folder in zip(names, folders, strict=True)}


def balance_pairs(pairs, ignore=None):
    """Repeat pairs so that images with a rare number of instances come more often.

    Of every number of instances there are `count` images; each of them is taken round(sqrt(most / count)) times,
    which lies half way, by ratio, between the data as they are and as many images of every number.

    Args:
        pairs: list of pairs.
        ignore: id that is no instance, or None.

    Returns:
        list of pairs, each at least once.

    Raises:
        UserError: a label that can't be decoded.
    """
    with ThreadPoolExecutor() as pool:
        labels = tqdm(
            pool.map(partial(_count_instances, ignore=ignore), pairs),
            "instances",
            len(pairs),
            unit="label",
            dynamic_ncols=True,
        )
        numbers = list(labels)
    counts = Counter(numbers)
    most = max(counts.values())
    return [
        pair for pair, number in zip(pairs, numbers, strict=True) for _ in range(round((most / counts[number]) ** 0.5))
    ]


def _count_instances(pair, ignore=None):
    label = read_label(pair[1])
    return np.count_nonzero(np.bincount(label[label != ignore])[1:])


def find_copies(pairs, others):
    """Those of `others`, pairs that aren't among `pairs`, whose image file has the bytes of one of `pairs`: a list."""

    @lru_cache(None)
    def content(path):
        return hashlib.sha256(Path(path).read_bytes()).digest()

    @lru_cache(None)
    def contents(size):
        return {content(image) for image in by_size.get(size, ())}

    by_size = {}
    for image, _ in pairs:
        by_size.setdefault(Path(image).stat().st_size, []).append(image)
    different = dict.fromkeys(others).keys() - set(pairs)
    sizes = {other: Path(other[0]).stat().st_size for other in different}
    return [other for other, size in sizes.items() if size in by_size and content(other[0]) in contents(size)]


def describe_pairs(pairs):
    """What identifies a data set: number of pairs, and a digest of names, image sizes (bytes) and labels.

    Args:
        pairs: list of (image path, label path).

    Returns:
        {"images": int, "digest": str}; the same wherever the folders lie.
    """

    def describe(pair):
        image, label = map(Path, pair)
        return f"{image.name} {image.stat().st_size} {hashlib.sha256(label.read_bytes()).hexdigest()}"

    with ThreadPoolExecutor() as pool:
        different = list(dict.fromkeys(pairs))
        known = dict(zip(different, pool.map(describe, different), strict=True))
    digest = hashlib.sha256("\n".join(known[pair] for pair in pairs).encode(errors="surrogateescape")).hexdigest()
    return {"images": len(pairs), "digest": digest[:16]}
