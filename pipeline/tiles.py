"""Overlapping tiles of large images, whose instances are joined where they meet."""

import math

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SAME = 0.5  # of the smaller one, in the overlap of two tiles


def tile_starts(length, tile, overlap):
    """First pixels of the tiles along a side of an image, which overlap by at least `overlap` pixels."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def join_tiles(tiles, shape):
    """Label map of an image from those of its tiles.

    Two instances of neighboring tiles are one if in their overlap one covers at least `SAME` of the other. The middle
    of the overlap parts their pixels.

    Args:
        tiles: iterable of (top, left, (h, w) int label map), row after row as `tile_starts` has them.
        shape: (H, W) of the image.

    Returns:
        (H, W) int32 label map, 0 = background, the instances from 1 on by size.
    """
    joined = np.zeros(shape, np.int32)
    count, same = 1, [np.zeros((0, 2), int)]  # ids so far, with the background's; pairs of ids of one instance
    bottom = right = row_bottom = 0  # of this row, of the tiles to the left, of the rows above
    for top, left, label_map in tiles:
        if left == 0:
            row_bottom, right = bottom, 0
        height, width = label_map.shape
        above, beside = max(row_bottom - top, 0), max(right - left, 0)  # pixels in common with the tiles before
        window = joined[top : top + height, left : left + width]
        known = np.zeros((height, width), bool)
        known[:above] = known[:, :beside] = True
        ids = np.where(label_map > 0, label_map + count - 1, 0).astype(np.int32)
        count += int(label_map.max(initial=0))
        same.append(_matches(window[known], ids[known]))
        inner = np.s_[above // 2 :, beside // 2 :]
        window[inner] = ids[inner]
        bottom, right = top + height, left + width
    one, other = np.concatenate(same).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(count, count))
    return number_by_size(connected_components(graph, directed=False)[1][joined])  # the background stays number 0


def _matches(old, new):
    """Pairs of ids, (K, 2), of (N,) pixels of two label maps, of which one covers `SAME` of the other."""
    both = (old > 0) & (new > 0)
    pairs, common = np.unique(np.stack([old[both], new[both]], axis=1), axis=0, return_counts=True)
    areas, new_areas = np.bincount(old), np.bincount(new)
    return pairs[common >= SAME * np.minimum(areas[pairs[:, 0]], new_areas[pairs[:, 1]])]


def number_by_size(label_map):
    """Label map (H, W) of any integers -> int32, with ids from 1 on, the largest instance first."""
    areas = np.bincount(label_map.ravel(), minlength=1)
    areas[0] = label_map.size + 1
    order = np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]
    numbers = np.zeros(len(areas), np.int32)
    numbers[order] = np.arange(len(order))
    return numbers[label_map]
