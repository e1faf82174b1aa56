"""Mean shift on embeddings, with scikit-learn."""

import colorsys

import numpy as np
from sklearn.cluster import MeanShift

COLORS = np.array(
    [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (125, 125, 0),
        (0, 125, 125),
        (125, 0, 125),
        (50, 100, 50),
        (100, 50, 100),
    ],
    np.uint8,
)


def instance_colors(count):
    """(count, 3) uint8 RGB, the first eight those of the original, further ones by golden-angle hue."""
    more = [np.multiply(255, colorsys.hsv_to_rgb(0.618 * i % 1, 0.8, 0.9)) for i in range(max(0, count - len(COLORS)))]
    return np.vstack([COLORS, np.array(more, np.uint8).reshape(-1, 3)])[:count]


def instance_label_map(embedding, bandwidth, mask=None, min_share=0.0005, method="sklearn"):
    """(H, W, D) embeddings -> (H, W) int32 label map, 0 = background, 1.. = instances by size."""
    mask = np.ones(embedding.shape[:2], bool) if mask is None else mask
    label_map = np.zeros(embedding.shape[:2], np.int32)
    if mask.any():
        labels = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(embedding[mask]).labels_
        sizes = np.bincount(labels)
        order = np.argsort(-sizes, kind="stable")
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order)) + (0 if mask.all() else 1)
        rank[sizes < min_share * mask.size] = 0
        label_map[mask] = rank[labels]
    return label_map
