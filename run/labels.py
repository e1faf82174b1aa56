"""What the labels of a training run are like, and what the network's size makes of them."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
from scipy.ndimage import find_objects
from tqdm import tqdm

from datagenerator import network_size, prepare_label, read_label
from loss import MAX_INSTANCES

LOOKED_AT = 200  # labels, evenly spread: what is wrong with labels is wrong with many
FEW = 10  # pixels
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


def examine(pair, size, keep_aspect=False, ignore=None):
    """Numbers of the instances of one pair's label: all, of `FEW` pixels, those that `size` cuts, and that it loses."""
    label = read_label(pair[1])
    before = largest_pieces(label, ignore)
    after = largest_pieces(prepare_label(label, network_size(label.shape, size, keep_aspect)), ignore)
    few = sum(pixels < FEW for pixels, _ in before.values())
    whole = {identity for identity, (pixels, largest) in before.items() if largest >= WHOLE * pixels}
    cut = sum(identity in whole and largest < WHOLE * pixels for identity, (pixels, largest) in after.items())
    return len(before), few, cut, len(before.keys() - after.keys())


def warn_of_labels(pairs, size, keep_aspect=False, ignore=None):
    """Say on stderr what a training run would make of labels without a word.

    Args:
        pairs: list of (image path, label path), of which up to `LOOKED_AT` are looked at.
        size: (H, W) of the network.
        keep_aspect: see `datagenerator.network_size`.
        ignore: id that is no instance, or None.

    Raises:
        DataError: a label that can't be used.
    """
    pairs = list(dict.fromkeys(pairs))
    pairs = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, LOOKED_AT).astype(int))]
    with ThreadPoolExecutor() as pool:
        tasks = pool.map(partial(examine, size=size, keep_aspect=keep_aspect, ignore=ignore), pairs)
        found = np.array(list(tqdm(tasks, "labels", len(pairs), unit="label", dynamic_ncols=True, leave=False)))
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
