"""What the labels of a training run are like, and what the network's size makes of them."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects
from tqdm import tqdm

from datagenerator import STRETCH, enlarge, network_size, prepare_label, read_label
from loss import LANE_WEIGHT, MAX_INSTANCES

LOOKED_AT = 200  # labels, evenly spread: what is wrong with labels is wrong with many
FEW = 10  # pixels
SMALL = 5  # percent of the instances are smaller than what a network need find
WHOLE = 0.9  # an instance is in pieces if its largest one has less than this fraction of its pixels


def largest_pieces(label, ignore=None):
    """Sizes of the instances of a label map and of their largest connected pieces.

    Args:
        label: (H, W) integer ids, 0 = background.
        ignore: id that is no instance, or None.

    Returns:
        {id: (pixels, pixels of the largest piece)}; pixels that share a corner are connected.
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


class Labels(NamedTuple):
    """What the labels of a training run are like at the network's size."""

    foreground: float  # mean fraction of the pixels that belong to an instance
    diameter: float  # median over the instances of that of a disk of their area, in pixels; 0 without any
    small: float = 0.0  # area below which `SMALL` percent of the instances lie, in pixels

    def foreground_weight(self):
        """Weight of a foreground pixel in the semantic loss.

        The ratio of ENet's class weights, 1 / log(1.02 + fraction) (Paszke et al. 2016, section 5.2), at most that of
        lanes, `LANE_WEIGHT`, which are thin.
        """
        foreground, background = (1 / math.log(1.02 + p) for p in (self.foreground, 1 - self.foreground))
        return round(min(foreground / background, LANE_WEIGHT), 2)


def examine(pair, size, view=STRETCH, ignore=None):
    """What there is to know of one pair's label.

    Returns:
        (numbers of its instances: all, of `FEW` pixels, those that `size` cuts, and that it loses; fraction of
        foreground, areas of the instances, pixels at the network's size).
    """
    label = read_label(pair[1])
    before = largest_pieces(label, ignore)
    large = enlarge(label, view.zoom)
    seen = prepare_label(large, network_size(large.shape, size, view.kind), view.kind)
    after = largest_pieces(seen, ignore)
    few = sum(pixels < FEW for pixels, _ in before.values())
    whole = {identity for identity, (pixels, largest) in before.items() if largest >= WHOLE * pixels}
    cut = sum(identity in whole and largest < WHOLE * pixels for identity, (pixels, largest) in after.items())
    areas = [pixels for pixels, _ in after.values()]
    return (len(before), few, cut, len(before.keys() - after.keys())), sum(areas) / seen.size, areas


def look_at_labels(pairs, size, view=STRETCH, ignore=None):
    """Measure labels, and say on stderr what a training run would make of them without a word.

    Args:
        pairs: list of (image path, label path), of which up to `LOOKED_AT` are looked at.
        size: (H, W) of the network.
        view: `datagenerator.View`.
        ignore: id that is no instance, or None.

    Returns:
        `Labels`.

    Raises:
        UserError: a label that can't be used.
    """
    pairs = list(dict.fromkeys(pairs))
    pairs = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, LOOKED_AT).astype(int))]
    with ThreadPoolExecutor() as pool:
        tasks = pool.map(partial(examine, size=size, view=view, ignore=ignore), pairs)
        tasks = tqdm(tasks, "labels", len(pairs), unit="label", dynamic_ncols=True, leave=False)
        found, fractions, areas = zip(*tasks, strict=True)
    found = np.array(found)
    total, few, cut, lost = found.sum(axis=0)

    def warn(column, text):
        worst = found[:, column].argmax()
        print(f"warning: {text}; most ({found[worst, column]}) in {pairs[worst][1]}", file=sys.stderr)

    among = f"of {total} instances in {len(pairs)} labels"
    network = f"at the network's {size[0]}x{size[1]}"
    if few:
        warn(1, f"{few} {among} have fewer than {FEW} pixels, as after JPEG or a smooth resize of the label")
    if cut:
        warn(2, f"{cut} {among} fall into pieces {network}: draw them wider or train at a larger --image-size")
    if lost:
        warn(3, f"{lost} {among} have no pixel left {network}: train at a larger --image-size")
    if found[:, 0].max() >= MAX_INSTANCES:  # the background is one of those
        warn(0, f"the loss counts {MAX_INSTANCES - 1} instances of an image, those of the smallest ids")
    areas = np.concatenate([np.array(part, float) for part in areas])
    if not areas.size:
        return Labels(float(np.mean(fractions)), 0.0)
    diameter = float(np.median(np.sqrt(4 / np.pi * areas)))
    return Labels(float(np.mean(fractions)), diameter, float(np.percentile(areas, SMALL)))
