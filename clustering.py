"""Embeddings (and a semantic mask) -> instance label map, by mean shift; colors of instances.

The post-processing of De Brabandere et al., arXiv 1708.02551: pixels of an instance lie within delta_v of their mean
and the means 2 delta_d apart, so every mode of the embeddings' density is an instance. `mean_shift.py` finds the modes.
"""

import colorsys
import itertools

import numpy as np
from sklearn.cluster import MeanShift

from mean_shift import check_points, mean_shift

COLORS = bytes.fromhex("ff0000 00ff00 0000ff 7d7d00 007d7d 7d007d 326432 643264")  # RGB, those of the original
MIN_SHARE = 0.0005  # of the picture: 131 of 512x512 pixels; a lane has some 1,000


def instance_colors(count):
    """`(count, 3)` uint8 RGB: the original's eight, then others; all of them different and none black."""
    colors = dict.fromkeys(zip(COLORS[::3], COLORS[1::3], COLORS[2::3], strict=True))
    for i in itertools.count(1):
        if len(colors) >= count:
            return np.array(list(colors)[:count], np.uint8).reshape(-1, 3)
        hue, pale, dark = (0.8192 * i) % 1, (0.6711 * i) % 1, (0.5497 * i) % 1  # Roberts' R3 sequence
        colors[tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 1 - 0.6 * pale, 1 - 0.5 * dark))] = None


def get_instance_masks(prediction, bandwidth):
    """Paints the clusters of every picture, found on all its pixels; the largest, the background, is black.

    Args:
        prediction: `(B, H, W, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
    Returns:
        list of B pictures `(H, W, 3)`, uint8 RGB, painted with `instance_colors`, the largest instance first.
    Raises:
        ValueError: as `mean_shift`.
    """
    label_maps = [instance_label_map(embedding, bandwidth, min_share=0.0) for embedding in prediction]
    return [np.vstack([np.zeros((1, 3), np.uint8), instance_colors(ids.max(initial=0))])[ids] for ids in label_maps]


def instance_label_map(embedding, bandwidth, mask=None, min_share=MIN_SHARE, method="fast"):
    """Labels the instances of one picture.

    Args:
        embedding: `(H, W, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
        mask: `(H, W)` bool, True where the semantic branch sees an instance; only these pixels are clustered. Without
            it all pixels are clustered, and the largest cluster is the background, as in the original.
        min_share: clusters with a smaller share of the picture's H * W pixels are noise, labeled 0.
        method: "fast" or "sklearn", see `cluster`.
    Returns:
        `(H, W)` int32: 0 = background and noise, 1, 2, ... = instances, the largest first.
    Raises:
        ValueError: as `mean_shift`, or if the mask differs from the embedding in size.
    """
    embedding = np.asarray(embedding)
    if embedding.ndim != 3:
        raise ValueError(f"embedding: found shape {embedding.shape}, expected (H, W, D)")
    height, width, dimensions = embedding.shape
    if mask is not None and np.shape(mask) != (height, width):
        raise ValueError(f"mask: found shape {np.shape(mask)}, expected that of the embedding, {(height, width)}")
    chosen = slice(None) if mask is None else np.flatnonzero(mask)
    num_clusters, labels, _ = cluster(embedding.reshape(-1, dimensions)[chosen], bandwidth, method)
    sizes = np.bincount(labels, minlength=num_clusters)
    ids = np.empty(num_clusters, np.int32)
    ids[np.argsort(-sizes, kind="stable")] = np.arange(num_clusters) + (mask is not None)
    ids[sizes < min_share * height * width] = 0
    label_map = np.zeros(height * width, np.int32)
    label_map[chosen] = ids[labels]
    return label_map.reshape(height, width)


def cluster(prediction, bandwidth, method="fast"):
    """Clusters embeddings by mean shift.

    Args:
        prediction: `(N, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
        method: "fast" (`mean_shift`) or "sklearn" (scikit-learn itself, for comparison).
    Returns:
        `(num_clusters, labels, cluster_centers)`: labels `(N,)` int64, centers `(num_clusters, D)`, densest first.
    Raises:
        ValueError: as `mean_shift`; from scikit-learn also if no pixel lies within one bandwidth of any seed.
    """
    points = check_points(prediction, bandwidth)
    if method == "sklearn" and len(points):
        result = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
        return len(result.cluster_centers_), result.labels_, result.cluster_centers_
    if method not in ("fast", "sklearn"):
        raise ValueError(f"method: found {method!r}, expected 'fast' or 'sklearn'")
    centers, labels = mean_shift(points, bandwidth)
    return len(centers), labels, centers


BANDWIDTH = 1.0
THRESHOLD = 0.7


def lane_mask(outputs, threshold=THRESHOLD):
    if "semantic" not in outputs:
        return None
    return outputs["semantic"][:, :, 0] > np.log(threshold / (1 - threshold))


def find_instances(outputs, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    mask = lane_mask(outputs, threshold)
    label_map = instance_label_map(outputs["embedding"], bandwidth, mask, method=method).astype(np.int32)
    if mask is not None and confidence:
        return _drop_unsure(label_map, outputs["semantic"][:, :, 0], confidence)
    return label_map


def _drop_unsure(label_map, logits, confidence):
    inside = label_map > 0
    labels = label_map[inside]
    probability = 0.5 + 0.5 * np.tanh(logits[inside] / 2)
    means = np.bincount(labels, probability, minlength=1) / np.maximum(np.bincount(labels, minlength=1), 1)
    kept = means >= confidence
    return (np.cumsum(kept) * kept).astype(np.int32)[label_map]
