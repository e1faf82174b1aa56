"""What the labels of a training run are like at the network's size."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from datagenerator import STRETCH, enlarge, network_size, prepare_label, read_classes, read_label, require_ignored
from loss import LANE_WEIGHT, MAX_INSTANCES

MAX_LABELS = 200  # measured, evenly spread: what is wrong with labels is wrong with many
TINY = 10  # pixels
SMALL_PERCENT, NARROW_PERCENT = 2, 5  # of the instances need not be found
WIDEST = 16  # pixels; half of them are more than what mixes at a border of instances


@dataclass
class LabelStatistics:
    """Of labels at the network's size; 0 where there is no instance."""

    foreground: float  # mean fraction of pixels of instances
    diameter: float = 0.0  # of a disk of an instance's area, median, in pixels
    small_area: float = 0.0  # below which `SMALL_PERCENT` of the instances lie, in pixels; at most the median / 4
    small_width: int = 1  # a square as wide fits in all but `NARROW_PERCENT`; at most half the median

    def foreground_weight(self):
        """Weight of a foreground pixel in the semantic loss: ratio of ENet's class weights, at most that of lanes.

        These are 1 / log(1.02 + fraction) (Paszke et al. 2016, section 5.2).
        """
        foreground, background = (1 / math.log(1.02 + p) for p in (self.foreground, 1 - self.foreground))
        return round(min(foreground / background, LANE_WEIGHT), 2)


class MeasuredLabel(NamedTuple):
    """A label: pixels of its instances, {id: int}, in the file and at the network's size."""

    path: str
    in_file: dict
    in_network: dict
    widths: list  # of those: sides of the largest squares that fit in, up to `WIDEST`
    is_apart: bool  # a single instance in several pieces
    foreground: float  # fraction at the network's size


def measure_label(path, size, view=STRETCH, ignore=None):
    """`MeasuredLabel` of a file; the rest as in `measure_labels`."""
    label = read_label(path)
    require_ignored(label, path, ignore)
    in_file = _count_pixels(label, ignore)
    is_apart = len(in_file) == 1 and cv2.connectedComponents(np.uint8(label == next(iter(in_file))))[0] > 2
    label = _seen(label, size, view)
    in_network, values = _count_pixels(label, ignore), np.float32(label)
    widths = dict.fromkeys(in_network, 1)
    for side in range(2, WIDEST + 1):
        square = np.ones((side, side), np.uint8)
        lowest = cv2.erode(values, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        inside = label[lowest == cv2.dilate(values, square)]
        widths.update(dict.fromkeys(_count_pixels(inside, ignore), side))
    foreground = sum(in_network.values()) / label.size
    return MeasuredLabel(path, in_file, in_network, list(widths.values()), is_apart, foreground)


def _count_pixels(label, ignore):
    counts = np.bincount(label.ravel())
    return {i: int(counts[i]) for i in np.flatnonzero(counts).tolist() if i not in (0, ignore)}


def measure_labels(pairs, size, view=STRETCH, ignore=None):
    """The `LabelStatistics` of up to `MAX_LABELS` labels for a network of `size` (H, W); warns of what looks wrong.

    `ignore` is an id that is no instance, or None.
    """
    labels = _measure(partial(measure_label, size=size, view=view, ignore=ignore), [pair[1] for pair in pairs])
    _warn_of(labels, size)
    areas = np.array([pixels for label in labels for pixels in label.in_network.values()], float)
    if not areas.size:
        return LabelStatistics(0.0)
    foreground = float(np.mean([label.foreground for label in labels]))
    diameter = float(np.median(np.sqrt(4 / np.pi * areas)))
    widths = [width for label in labels for width in label.widths]
    area = min(np.percentile(areas, SMALL_PERCENT), np.median(areas) / 4)
    width = min(np.percentile(widths, NARROW_PERCENT, method="lower"), np.median(widths) // 2)
    return LabelStatistics(foreground, diameter, float(area), max(1, int(width)))


def measure_class_weights(data, size, view=STRETCH):
    """Weights of the classes in the class loss, a list: 1 / log(1.02 + p), as in `foreground_weight`.

    p is a class's fraction of the pixels that have one, in up to `MAX_LABELS` training images of `pairs.Data`.
    """

    def count(class_map):
        return np.bincount(_seen(read_classes(class_map), size, view).ravel(), minlength=256)

    pixels = np.sum(_measure(count, [pair[2] for pair in data.pairs]), axis=0)[1 : len(data.classes) + 1]
    return [round(1 / math.log(1.02 + p), 3) for p in pixels / max(1, pixels.sum())]


def _seen(label, size, view):
    label = enlarge(label, view.zoom)
    return prepare_label(label, network_size(label.shape, size, view.kind), view.kind)


def _measure(measure, files):
    """`measure` of up to `MAX_LABELS` of the files, evenly spread, without None."""
    files = [file for file in dict.fromkeys(files) if file]
    chosen = np.unique(np.linspace(0, len(files) - 1, MAX_LABELS).astype(int)) if files else []
    with ThreadPoolExecutor() as pool:
        return list(pool.map(measure, [files[i] for i in chosen]))


def _warn_of(labels, size):
    def warn(counts, text):
        if any(counts):
            most = f"most ({max(counts)}) in {labels[counts.index(max(counts))].path}"
            print(f"warning: {sum(counts)} of {total} instances {text}; {most}", file=sys.stderr)

    instances = [len(label.in_file) for label in labels]
    total = sum(instances)
    tiny = [sum(pixels < TINY for pixels in label.in_file.values()) for label in labels]
    warn(tiny, f"have fewer than {TINY} pixels, as after JPEG or a smooth resize of the label")
    lost = [len(label.in_file.keys() - label.in_network.keys()) for label in labels]
    warn(lost, f"have no pixel left at the network's {size[0]}x{size[1]}: train at a larger --image-size")
    over = [max(0, count + 1 - MAX_INSTANCES) for count in instances]  # one is the background
    warn(over, f"are more than the {MAX_INSTANCES - 1} of an image that the loss counts")
    if max(instances, default=0) == 1 and 2 * sum(label.is_apart for label in labels) > total:
        print(
            "warning: every label has a single id, mostly in several pieces: if each is an instance, "
            "data/instance_dataset_processing.py --components parts them",
            file=sys.stderr,
        )
