"""What the labels of a training run are like, and what the network's size makes of them."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects
from tqdm import tqdm

from datagenerator import STRETCH, enlarge, network_size, prepare_label, read_classes, read_label, require_ignored
from loss import LANE_WEIGHT, MAX_INSTANCES

MAX_LABELS = 200  # that are measured, evenly spread: what is wrong with labels is wrong with many
TINY = 10  # pixels
SMALL_PERCENT = 5  # of the instances are smaller than what a network need find
WHOLE_FRACTION = 0.9  # an instance is in pieces if its largest one has less than this fraction of its pixels


@dataclass
class LabelStatistics:
    """What the labels of a training run are like at the network's size."""

    foreground: float  # mean fraction of the pixels that belong to an instance
    diameter: float = 0.0  # median over the instances of that of a disk of their area, in pixels; 0 without any
    small_area: float = 0.0  # below which `SMALL_PERCENT` of the instances lie, in pixels

    def foreground_weight(self):
        """Weight of a foreground pixel in the semantic loss.

        The ratio of ENet's class weights, 1 / log(1.02 + fraction) (Paszke et al. 2016, section 5.2), at most that of
        lanes, `LANE_WEIGHT`, which are thin.
        """
        foreground, background = (1 / math.log(1.02 + p) for p in (self.foreground, 1 - self.foreground))
        return round(min(foreground / background, LANE_WEIGHT), 2)


class MeasuredLabel(NamedTuple):
    """One label: instances in its file, and what the network's size makes of them."""

    path: str
    instances: int
    is_apart: bool  # the only one has several separate pieces
    tiny: int  # of fewer than `TINY` pixels in the file
    cut: int  # in one piece in the file, and in several at the network's size
    lost: int  # without a pixel at the network's size
    foreground: float  # fraction of the pixels at the network's size
    areas: list  # of the instances there, in pixels


def largest_pieces(label, ignore=None):
    """Sizes of the instances of (H, W) ids, 0 = background: {id: (pixels, pixels of the largest connected piece)}.

    Pixels that share a corner are connected; `ignore` is an id that is no instance, or None.
    """
    ids, index = np.unique(label, return_inverse=True)
    index = index.reshape(label.shape) + 1
    sizes = {}
    for number, (identity, box) in enumerate(zip(ids.tolist(), find_objects(index), strict=True), start=1):
        if identity not in (0, ignore):
            pieces = cv2.connectedComponentsWithStats((index[box] == number).astype(np.uint8), connectivity=8)[2]
            areas = pieces[1:, cv2.CC_STAT_AREA]
            sizes[identity] = int(areas.sum()), int(areas.max())
    return sizes


def measure_label(path, size, view=STRETCH, ignore=None):
    """The `MeasuredLabel` of a label's file; the rest as in `measure_labels`."""
    label = read_label(path)
    require_ignored(label, path, ignore)
    in_file = largest_pieces(label, ignore)
    label = _seen(label, size, view)
    in_network = largest_pieces(label, ignore)
    whole = {identity for identity, (pixels, largest) in in_file.items() if largest >= WHOLE_FRACTION * pixels}
    in_pieces = {identity for identity, (pixels, largest) in in_network.items() if largest < WHOLE_FRACTION * pixels}
    areas = [pixels for pixels, _ in in_network.values()]
    tiny, lost = sum(pixels < TINY for pixels, _ in in_file.values()), len(in_file.keys() - in_network.keys())
    is_apart = [largest < pixels for pixels, largest in in_file.values()] == [True]
    cut, foreground = len(whole & in_pieces), sum(areas) / label.size
    return MeasuredLabel(path, len(in_file), is_apart, tiny, cut, lost, foreground, areas)


def measure_labels(pairs, size, view=STRETCH, ignore=None):
    """The `LabelStatistics` of up to `MAX_LABELS` labels of pairs for a network of `size` (H, W) and a `View`.

    Warns on stderr of what a training run would make of them without a word; raises UserError for a label that can't
    be used. `ignore` is an id that is no instance, or None.
    """
    labels = _measure(partial(measure_label, size=size, view=view, ignore=ignore), [pair[1] for pair in pairs])
    if not labels:
        return LabelStatistics(0.0)
    _warn_of(labels, size)
    foreground = float(np.mean([label.foreground for label in labels]))
    areas = np.concatenate([np.array(label.areas, float) for label in labels])
    if not areas.size:
        return LabelStatistics(foreground)
    diameter = float(np.median(np.sqrt(4 / np.pi * areas)))
    return LabelStatistics(foreground, diameter, float(np.percentile(areas, SMALL_PERCENT)))


def measure_class_weights(data, size, view=STRETCH):
    """Weights of the classes in the class loss, a list: 1 / log(1.02 + p) (Paszke et al. 2016, section 5.2).

    p is the fraction of a class among the pixels that have one, at the network's size, of up to `MAX_LABELS` of the
    training images of `pairs.Data`; raises UserError for a class map that can't be used.
    """
    if not data.classes:
        return []

    def count(class_map):
        return np.bincount(_seen(read_classes(class_map), size, view).ravel(), minlength=256)

    pixels = np.sum(_measure(count, [pair[2] for pair in data.pairs]), axis=0)[1 : len(data.classes) + 1]
    return [round(1 / math.log(1.02 + p), 3) for p in pixels / max(1, pixels.sum())]


def _seen(label, size, view):
    label = enlarge(label, view.zoom)
    return prepare_label(label, network_size(label.shape, size, view.kind), view.kind)


def _measure(measure, files):
    """What `measure` says of up to `MAX_LABELS` of the files, evenly spread; those that are None are left out."""
    files = [file for file in dict.fromkeys(files) if file]
    files = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, MAX_LABELS).astype(int))] if files else []
    with ThreadPoolExecutor() as pool:
        tasks = pool.map(measure, files)
        return list(tqdm(tasks, "labels", len(files), unit="label", dynamic_ncols=True, leave=False))


def _warn_of(labels, size):
    total = sum(label.instances for label in labels)
    among = f"of {total} instances in {len(labels)} labels"
    network = f"at the network's {size[0]}x{size[1]}"
    for kind, text in (
        ("tiny", f"have fewer than {TINY} pixels, as after JPEG or a smooth resize of the label"),
        ("cut", f"fall into pieces {network}: draw them wider or train at a larger --image-size"),
        ("lost", f"have no pixel left {network}: train at a larger --image-size"),
    ):
        counts = [getattr(label, kind) for label in labels]
        if any(counts):
            most = f"most ({max(counts)}) in {labels[int(np.argmax(counts))].path}"
            print(f"warning: {sum(counts)} {among} {text}; {most}", file=sys.stderr)
    worst = max(labels, key=lambda label: label.instances)
    if worst.instances == 1 and 2 * sum(label.is_apart for label in labels) > total:
        print(
            "warning: every label has a single id, most of them in several separate pieces: if each piece is an "
            "instance, data/instance_dataset_processing.py --components parts them",
            file=sys.stderr,
        )
    if worst.instances >= MAX_INSTANCES:  # the background is one of those
        most = f"most ({worst.instances}) in {worst.path}"
        print(f"warning: the loss counts {MAX_INSTANCES - 1} instances of an image; {most}", file=sys.stderr)
