"""Embeddings to instances: flat-kernel mean shift, label maps, colors of instances.

The post-processing of De Brabandere et al., arXiv 1708.02551: embeddings of one instance lie within `delta_v` of their
mean, and the means 2 `delta_d` apart, so every mode of their density is an instance. Mean shift finds the modes: a ball
of radius `bandwidth` moves to the mean of the pixels in it, again and again, until it stands still (Comaniciu and Meer,
"Mean Shift: A Robust Approach Toward Feature Space Analysis", PAMI 24(5), 2002).

`cluster` follows `sklearn.cluster.MeanShift(bandwidth, bin_seeding=True)`, which moves one ball after the other and
looks at every pixel in it. Here few pixels are looked at one by one. All lengths are in bandwidths:

 1. Cells: pixels are counted and summed in the cells of a grid, 8 cells per bandwidth.
 2. Seeds: as in scikit-learn, a ball starts in the middle of every occupied bin of a grid with one bin per bandwidth.
 3. Atoms: the balls climb over the means of the cells. The pixels of the emptiest cells, up to 16,384 in all, stay
    single, so that with a mask, which leaves no more pixels than that, the climb is exact.
 4. Climb: all balls move at once, by two matrix products. A cell cut by the sphere counts by the fraction of it that is
    inside. A ball that meets the path of one from a fuller bin is dropped: from there on both go the same way.
 5. Settle: the few balls left go on with exact means, of the cells inside and of the pixels of the cells that the sphere
    cuts, until one moves by no more than 0.001, as in scikit-learn.
 6. Merge: the ball with most pixels removes all others within 1, then the fullest of the rest does, and so on.
 7. Label: every pixel belongs to the nearest of the centers that are left.

The climb only chooses where to settle; centers, their order and labels are exact. A ball that starts between two
instances may reach the other one, and a slope on which a ball of scikit-learn happens to halt may be missed. Work is
bounded for any input: more bins, atoms and moves than the limits below allow has only noise, which has no clusters.
"""

import colorsys
import itertools
import math
from typing import NamedTuple

import numpy as np
from sklearn.cluster import MeanShift

BANDWIDTH = 1.0
# Training weights lane pixels up: at 0.5 lanes come out 2.8 times too wide. Best on the training frames, see
# doc/experiments.md.
THRESHOLD = 0.7
COLORS = bytes.fromhex("ff0000 00ff00 0000ff 7d7d00 007d7d 7d007d 326432 643264")  # RGB, those of the original
MIN_FRACTION = 0.0005  # of the image: 131 of 512x512 pixels; a lane has some 1,000

# Lengths in bandwidths
CELL = 1 / 8
PATH = 1 / 64  # balls in the same cube of this side are on the same path
SLOW = 0.003  # a smaller move ends the climb, before it overruns a halt of the exact one
STOP = 0.001  # a smaller move ends settling, as in scikit-learn
WIDE = 2**12  # coordinates beyond this leave floats too few digits
# Work
MAX_MOVES = 300  # of a ball, as in scikit-learn
MAX_SEEDS = 2**10
MAX_SINGLES = 2**14
MAX_ATOMS = 2**16
MAX_PAIRS = 2**30  # of a ball and an atom, in all moves of the climb
MAX_READS = 2**26  # coordinates of pixels, in settling
TABLE = 2**22  # cells of a grid that is looked up in a table
BLOCK, ROWS = 512, 16  # atoms and balls of one matrix product; larger ones run on all cores, which the network is using


def instance_colors(count):
    """`(count, 3)` uint8 RGB: the original's eight, then others; all of them different and none black."""
    colors = dict.fromkeys(zip(COLORS[::3], COLORS[1::3], COLORS[2::3], strict=True))
    for i in itertools.count(1):
        if len(colors) >= count:
            return np.array(list(colors)[:count], np.uint8).reshape(-1, 3)
        hue, pale, dark = (0.8192 * i) % 1, (0.6711 * i) % 1, (0.5497 * i) % 1  # Roberts' R3 sequence
        colors[tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 1 - 0.6 * pale, 1 - 0.5 * dark))] = None


def get_instance_masks(prediction, bandwidth):
    """Paints the clusters of every image, found on all its pixels, as the original does.

    Args:
        prediction: `(B, H, W, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
    Returns:
        list of B `(H, W, 3)` uint8 RGB: the largest cluster, the background, black, the others in `instance_colors`.
    Raises:
        ValueError: as `cluster`.
    """
    label_maps = [instance_label_map(embedding, bandwidth, min_fraction=0.0) for embedding in prediction]
    return [np.vstack([np.zeros((1, 3), np.uint8), instance_colors(ids.max(initial=0))])[ids] for ids in label_maps]


def lane_mask(outputs, threshold=THRESHOLD):
    """Where a model's outputs show a lane.

    Args:
        outputs: {"embedding": `(H, W, D)`, "semantic": `(H, W, 1)` logits if the model has that head}.
        threshold: lane probability above which a pixel counts as lane.
    Returns:
        `(H, W)` bool, None without semantic head.
    Raises:
        ValueError: logits that are not finite.
    """
    if "semantic" not in outputs:
        return None
    _check_finite("semantic", outputs["semantic"])
    return outputs["semantic"][:, :, 0] > math.log(threshold / (1 - threshold))


def find_instances(outputs, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    """Label map of a model's outputs, see `lane_mask` and `instance_label_map`.

    With `confidence`, instances whose pixels have a lower mean lane probability are dropped and the others numbered anew.
    """
    mask = lane_mask(outputs, threshold)
    label_map = instance_label_map(outputs["embedding"], bandwidth, mask, method=method)
    if mask is None or not confidence:
        return label_map
    labels = label_map[label_map > 0]
    probability = 0.5 + 0.5 * np.tanh(outputs["semantic"][label_map > 0, 0] / 2)  # a sigmoid that doesn't overflow
    means = np.bincount(labels, probability, minlength=1) / np.maximum(np.bincount(labels, minlength=1), 1)
    kept = means >= confidence  # not the background, number 0, which has no pixels here
    return (np.cumsum(kept) * kept).astype(np.int32)[label_map]


def instance_label_map(embedding, bandwidth, mask=None, min_fraction=MIN_FRACTION, method="fast"):
    """Labels the instances of one image.

    Args:
        embedding: `(H, W, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
        mask: `(H, W)` bool, True where the semantic head sees an instance; only these pixels are clustered. Without it
            all pixels are clustered, and the largest cluster is the background, as in the original.
        min_fraction: clusters with a smaller fraction of the image's H * W pixels are noise, labeled 0.
        method: "fast" or "sklearn", see `cluster`.
    Returns:
        `(H, W)` int32: 0 = background and noise, 1, 2, ... = instances, the largest first.
    Raises:
        ValueError: as `cluster`, or if the mask differs from the embedding in size.
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
    ids[sizes < min_fraction * height * width] = 0
    label_map = np.zeros(height * width, np.int32)
    label_map[chosen] = ids[labels]
    return label_map.reshape(height, width)


def cluster(prediction, bandwidth, method="fast"):
    """Clusters embeddings by mean shift.

    Args:
        prediction: `(N, D)` embeddings.
        bandwidth: radius of the kernel, in embedding units.
        method: "fast" (the steps above) or "sklearn" (scikit-learn itself, for comparison).
    Returns:
        `(num_clusters, labels, cluster_centers)`: labels `(N,)` int64, centers `(num_clusters, D)`, by descending
        number of pixels within one bandwidth. No pixels, no clusters.
    Raises:
        ValueError: bandwidth not a positive number; embeddings not `(N, D)` or not finite; unknown method; from
            scikit-learn also if no pixel lies within one bandwidth of any seed.
    """
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth: found {bandwidth}, expected a positive number")
    if method not in ("fast", "sklearn"):
        raise ValueError(f"method: found {method!r}, expected 'fast' or 'sklearn'")
    points = np.asarray(prediction)
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"embeddings: found shape {points.shape}, expected (N, D)")
    points = points if points.dtype == np.float64 else points.astype(np.float32, copy=False)
    _check_finite("embeddings", points)
    if not len(points):
        return 0, np.zeros(0, np.int64), points
    if method == "sklearn":
        result = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
        return len(result.cluster_centers_), result.labels_, result.cluster_centers_
    if max(np.abs(points).max(), 1e-30) < WIDE * bandwidth:
        centers, labels = _mean_shift(np.ascontiguousarray(points.T) / points.dtype.type(bandwidth))
        return len(centers), labels, (centers * bandwidth).astype(points.dtype)
    columns = _close_gaps(points.T.astype(np.float64), bandwidth)
    centers, labels = _mean_shift(columns)
    axes = zip(centers.T, np.sort(columns), np.sort(points.T), strict=True)  # closing gaps leaves the order as it is
    return len(centers), labels, np.stack([np.interp(*axis) for axis in axes], axis=1).astype(points.dtype)


def _check_finite(name, numbers):
    bad = np.size(numbers) - np.count_nonzero(np.isfinite(numbers))
    if bad:
        raise ValueError(f"{name}: found {bad} of {np.size(numbers)} numbers NaN or infinite, expected finite ones")


def _close_gaps(columns, bandwidth):
    """Columns in bandwidths, without gaps of 4 and more: whole bandwidths are taken out, so that seeds stay the same."""
    with np.errstate(over="ignore"):
        columns = np.clip(columns / bandwidth, -1e307, 1e307)
    for column in columns:
        order = np.argsort(column)
        steps = np.diff(column[order], prepend=np.floor(column.min()))
        column[order] = np.cumsum(steps - np.floor(np.maximum(steps - 3, 0)))
    return columns


class Cells(NamedTuple):
    index: np.ndarray  # (N,) cell of each pixel
    middles: np.ndarray  # (D, C)
    counts: np.ndarray  # (C,) pixels
    sums: np.ndarray  # (D, C)


def _mean_shift(columns):
    """Centers `(K, D)` and labels `(N,)` of the pixels `(D, N)`, all in bandwidths."""
    grid = np.floor(columns / CELL)
    index, member = _group(grid)
    sums = np.stack([np.bincount(index, weights=row) for row in columns])
    cells = Cells(index, (grid[:, member] + 0.5) * CELL, np.bincount(index), sums)
    atoms = _make_atoms(columns, cells)
    candidates = _climb(_bin_seeds(cells), *atoms)
    centers, counts = _settle_all(*candidates, columns, cells)
    if not len(centers):  # above 4 dimensions the middle of a bin may be out of reach of its pixels
        candidates = _climb(atoms[0].T[:MAX_SEEDS], *atoms)
        centers, counts = _settle_all(*candidates, columns, cells)
    centers = centers[_strongest(centers, counts, 1.0)]
    return centers, _nearest(centers, columns)


def _group(grid):
    """Groups equal columns of whole numbers `(D, N)`: the group of each `(N,)` and a member of each group `(G,)`."""
    key, volume = 0, 1
    for row in grid - grid.min(axis=1, keepdims=True):
        size = int(row.max()) + 1
        if volume * size > 2**62:  # number the groups so far without gaps
            key = np.unique(key, return_inverse=True)[1]
            volume = int(key.max()) + 1
        key, volume = key * size + row.astype(np.int64), volume * size
    if volume > TABLE:
        return np.unique(key, return_index=True, return_inverse=True)[:0:-1]
    members, numbers = np.full(volume, -1), np.empty(volume, np.intp)
    members[key] = np.arange(len(key))
    occupied = np.flatnonzero(members >= 0)
    numbers[occupied] = np.arange(len(occupied))
    return numbers[key], members[occupied]


def _bin_seeds(cells):
    """Middles of the occupied bins, or the pixels if each has its own, as in scikit-learn: `(S, D)`, fullest first."""
    middles = np.round(cells.middles)
    index, member = _group(middles)
    counts = np.bincount(index, weights=cells.counts)
    if len(member) == len(cells.index):
        middles = cells.sums
    order = np.lexsort((np.random.default_rng(0).random(len(counts)), -counts))  # equally full: from everywhere
    return middles[:, member[order[:MAX_SEEDS]]].T


def _make_atoms(columns, cells):
    """Positions `(D, A)`, numbers of pixels `(A,)` and sides `(A,)` of cells and single pixels."""
    order, single = np.argsort(cells.counts, kind="stable"), np.empty(len(cells.counts), bool)
    single[order] = np.cumsum(cells.counts[order]) <= MAX_SINGLES
    pixels = columns[:, single[cells.index]]
    positions = np.concatenate([cells.sums[:, ~single] / cells.counts[~single], pixels], axis=1)
    weights = np.append(cells.counts[~single], np.ones(len(pixels.T)))
    sides = np.repeat([CELL, 1e-6], [len(positions.T) - len(pixels.T), len(pixels.T)])
    chosen = np.random.default_rng(0).permutation(len(weights))[:MAX_ATOMS]
    return positions[:, chosen], weights[chosen], sides[chosen]


def _climb(seeds, positions, weights, sides):
    """Candidates `(K, D)`, where the last move of each began, and their densities `(K,)`."""
    # The fraction of an atom at x in the ball around c is 1/2 + (1 - |x - c|^2) / (2 side), clipped to 0..1
    slopes = 0.5 / sides
    factors = [2 * slopes * positions, [-slopes, 0.5 + slopes * (1 - (positions**2).sum(axis=0))]]
    factors, moments = np.concatenate(factors), np.concatenate([positions * weights, [weights]])
    real = np.float32 if np.abs(positions).max() < 32 else np.float64
    factors, moments = (
        np.pad(rows, ((0, 0), (0, -len(weights) % BLOCK))).astype(real).reshape(len(rows), -1, BLOCK).swapaxes(0, 1)
        for rows in (factors, moments)
    )  # (blocks, D + 2, BLOCK), (blocks, D + 1, BLOCK)
    centers, starts, density = seeds.astype(np.float64), seeds.astype(np.float64), np.zeros(len(seeds))
    active, owners, pairs = np.arange(len(seeds)), {}, 0
    for _ in range(MAX_MOVES):
        starts[active] = centers[active]
        old, sums = centers[active], np.empty((len(active), len(positions) + 1))
        queries = np.column_stack([old, (old**2).sum(axis=1), np.ones(len(old))]).astype(real)
        for first in range(0, len(active), ROWS):
            inside = np.clip(queries[first : first + ROWS] @ factors, 0, 1)  # (blocks, ROWS, BLOCK)
            sums[first : first + ROWS] = (inside @ moments.swapaxes(1, 2)).sum(axis=0)
        pairs += len(active) * len(weights)
        density[active] = sums[:, -1]
        active, sums = active[sums[:, -1] > 0], sums[sums[:, -1] > 0]
        centers[active] = sums[:, :-1] / sums[:, -1:]
        active = active[((centers[active] - starts[active]) ** 2).sum(axis=1) > SLOW**2]
        places = [tuple(place) for place in np.floor(centers[active] / PATH).tolist()]
        for ball, place in zip(active.tolist(), places, strict=True):
            owners[place] = min(ball, owners.get(place, ball))
        first = np.array([owners[place] for place in places], np.intp) == active
        density[active[~first]] = 0
        active = active[first]
        if not len(active) or pairs > MAX_PAIRS:
            break
    return starts[density > 0], density[density > 0]


def _settle_all(candidates, density, columns, cells):
    """Exact centers `(K, D)` and pixel counts `(K,)`, but for candidates left when MAX_READS are spent."""
    kept = _strongest(candidates, density, PATH)
    centers, counts, reads = candidates[kept], density[kept], 0
    for i in range(len(kept)):
        if reads < MAX_READS:
            centers[i], counts[i], more = _settle(centers[i], columns, cells)
            reads += more
    return centers[counts > 0], counts[counts > 0]


def _settle(center, columns, cells):
    """Exact center, the number of pixels in its ball, and how many coordinates it read."""
    anchor, reads, diagonal = np.inf, 0, 1.001 * CELL * len(columns) ** 0.5
    for _ in range(MAX_MOVES):
        if ((center - anchor) ** 2).sum() > (diagonal / 2) ** 2:
            anchor, distances = center, np.sqrt(_squared_distances(cells.middles, center))
            whole, cut = distances < 1 - diagonal, abs(distances - 1) <= diagonal
            whole_count, whole_sum = cells.counts[whole].sum(), cells.sums[:, whole].sum(axis=1)
            pixels = columns[:, np.flatnonzero(cut[cells.index])]
            reads += columns.size
        inside = _squared_distances(pixels, center) <= 1
        reads += pixels.size
        count = whole_count + np.count_nonzero(inside)
        if not count:
            break
        old, center = center, (whole_sum + pixels[:, inside].sum(axis=1, dtype=np.float64)) / count
        if ((center - old) ** 2).sum() <= STOP**2:
            break
    return center, count, reads


def _strongest(centers, counts, radius):
    """Indices, by descending count, of the centers that no stronger kept one has within the radius."""
    order, kept = np.lexsort((*centers.T[::-1], counts))[::-1], []  # ties as in scikit-learn, by coordinates
    while len(order):
        kept.append(order[0])
        order = order[((centers[order] - centers[order[0]]) ** 2).sum(axis=1) > radius**2]
    return np.array(kept, np.intp)


def _nearest(centers, columns):
    """Index of every pixel's nearest center, `(N,)` int64."""
    labels, nearest = np.zeros(len(columns.T), np.int64), np.full(len(columns.T), np.inf)
    for k, center in enumerate(centers):
        distances = _squared_distances(columns, center)
        labels[distances < nearest] = k
        np.minimum(nearest, distances, out=nearest)
    return labels


def _squared_distances(columns, center):
    return sum((row - row.dtype.type(x)) ** 2 for row, x in zip(columns, center, strict=True))
