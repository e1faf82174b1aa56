"""Embeddings to instances: flat-kernel mean shift, label maps, colors of instances.

As in De Brabandere et al., arXiv 1708.02551, every mode of the embeddings' density is an instance. Mean shift finds
them: balls move to the mean of their pixels until they stand still (Comaniciu and Meer, PAMI 24(5), 2002).

`cluster` does what `sklearn.cluster.MeanShift(bandwidth, bin_seeding=True)` does, some 50 times as fast. First all
balls climb at once, by matrix products, over small cells where pixels are many; one that comes upon the path of a ball
from a fuller bin is dropped. The few left settle, over the pixels.
"""

import colorsys
import math

import numpy as np
from scipy.special import softmax
from sklearn.cluster import MeanShift

BANDWIDTH = 1.0
THRESHOLD = 0.7  # best on the training frames; at 0.5 lanes come out 2.8 times too wide
COLORS = bytes.fromhex("ff0000 00ff00 0000ff 7d7d00 007d7d 7d007d 326432 643264")  # RGB, those of the original
MIN_FRACTION = 0.0005  # of the image: 131 of 512x512 pixels; a lane has some 1,000

# Lengths in bandwidths, as all those below `cluster`
CELL, PIXEL, PATH = 1 / 12, 1e-6, 1 / 64  # sides of a cell, of a pixel, and of the cubes in which paths meet
FAR = 2.0**20  # from zero; what is farther away counts as there
FEW = 2**13  # pixels that need no cells
SLOW, STOP = 0.003, 0.001  # moves that end the climb, before it overruns an exact halt, and settling
MAX_SEEDS, MAX_PAIRS = 2**10, 2**30  # pairs of a ball and a cell or pixel; only noise gets there
BLOCK, ROWS = 512, 16  # cells and balls of a matrix product; larger ones go to cores that the network uses


def instance_colors(count):
    """`(count, 3)` uint8 RGB: the original's eight, then others, all different, none black."""
    colors, i = dict.fromkeys(zip(COLORS[::3], COLORS[1::3], COLORS[2::3], strict=True)), 0
    while len(colors) < count:
        i += 1
        hue, pale, dark = (0.8192 * i) % 1, (0.6711 * i) % 1, (0.5497 * i) % 1  # Roberts' R3 sequence
        colors[tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 1 - 0.6 * pale, 1 - 0.5 * dark))] = None
    return np.array(list(colors)[:count], np.uint8).reshape(-1, 3)


def get_instance_masks(prediction, bandwidth):
    """As the original: `(B, H, W, D)` embeddings to a list of B `(H, W, 3)` uint8 RGB, background black."""
    label_maps = [instance_label_map(embedding, bandwidth, min_fraction=0.0) for embedding in prediction]
    return [np.vstack([np.zeros((1, 3), np.uint8), instance_colors(ids.max(initial=0))])[ids] for ids in label_maps]


def lane_mask(outputs, threshold=THRESHOLD):
    """Where the probability of `outputs["semantic"]`, `(H, W, 1)` logits, is above `threshold`; None without them."""
    return outputs["semantic"][:, :, 0] > math.log(threshold / (1 - threshold)) if "semantic" in outputs else None


def find_instances(
    outputs,
    bandwidth=BANDWIDTH,
    threshold=THRESHOLD,
    method="fast",
    confidence=0.0,
    min_pixels=None,
    image_confidence=0.0,
):
    """`instance_label_map` of a model's outputs {"embedding": `(H, W, D)`, "semantic": `(H, W, 1)` if it has it}.

    Instances of a mean lane probability below `confidence` are dropped, and the others numbered anew; all are if none
    reaches `image_confidence`. Clusters of fewer than `min_pixels` are noise; default `MIN_FRACTION` of the image.
    """
    mask = lane_mask(outputs, threshold)
    fraction = MIN_FRACTION if min_pixels is None else min_pixels / max(1, np.prod(outputs["embedding"].shape[:2]))
    label_map = instance_label_map(outputs["embedding"], bandwidth, mask, fraction, method)
    if mask is None or not (confidence or image_confidence):
        return label_map
    means = mean_probabilities(outputs, label_map)
    kept = np.append(False, (means >= confidence) & (means.max(initial=0.0) >= image_confidence))
    return np.take((np.cumsum(kept) * kept).astype(np.int32), label_map)


def lane_probability(logits):
    """Sigmoid."""
    return 0.5 + 0.5 * np.tanh(logits / 2)


def mean_probabilities(outputs, label_map):
    """Mean lane probability of instances 1..N of a `(H, W)` label map: `(N,)`, 0 without pixels."""
    pixels = np.flatnonzero(label_map > 0)
    labels, logits = np.take(label_map, pixels), np.take(outputs["semantic"], pixels)
    sums, sizes = np.bincount(labels, lane_probability(logits), minlength=1), np.bincount(labels, minlength=1)
    return (sums / np.maximum(sizes, 1))[1:]


def class_map(outputs, stuff, mask=None):
    """Class of each pixel by the `(H, W, C)` logits of outputs' "classes": `(H, W)` uint8, 1 to C.

    Outside of `mask`, `(H, W)` bool or None, classes that aren't `stuff`, C bools, become 0.
    """
    classes = outputs["classes"].argmax(axis=-1)
    kept = mask is None or mask | np.array(stuff)[classes]
    return np.where(kept, classes + 1, 0).astype(np.uint8)


def instance_classes(logits, label_map, stuff):
    """Classes of the highest mean probability, but stuff, C bools, of the instances 1..N of a `(H, W)` label map.

    `(H, W, C)` logits -> `(N,)` int, from 1 on or 0 for none, and `(N,)` probabilities.
    """
    chosen = label_map > 0
    labels, probabilities = label_map[chosen], softmax(np.float32(logits[chosen]), axis=-1)
    sizes = np.bincount(labels)[1:]
    sums = [np.bincount(labels, column, len(sizes) + 1)[1:] for column in probabilities.T]
    means = np.where(stuff, 0, np.transpose(sums) / np.maximum(sizes, 1)[:, None])  # (N, C)
    best = means.max(axis=1)
    return np.where(best > 0, means.argmax(axis=1) + 1, 0), best


def instance_label_map(embedding, bandwidth, mask=None, min_fraction=MIN_FRACTION, method="fast"):
    """Instances of `(H, W, D)` embeddings, `(H, W)` int32: 0 = background and noise, 1, 2, ..., the largest first.

    Only pixels in `mask`, `(H, W)` bool, are clustered; without it all, and the largest cluster is the background.
    Clusters of less than `min_fraction` of the image are noise. Else as `cluster`.
    """
    height, width, dimensions = np.shape(embedding)
    chosen = slice(None) if mask is None else np.flatnonzero(mask)
    num_clusters, labels, _ = cluster(np.reshape(embedding, (-1, dimensions))[chosen], bandwidth, method)
    sizes = np.bincount(labels, minlength=num_clusters)
    ids = np.empty(num_clusters, np.int32)
    ids[np.argsort(-sizes, kind="stable")] = np.arange(num_clusters) + (mask is not None)
    ids[sizes < min_fraction * height * width] = 0
    label_map = np.zeros((height, width), np.int32)
    label_map.ravel()[chosen] = ids[labels]
    return label_map


def cluster(prediction, bandwidth, method="fast"):
    """Clusters `(N, D)` embeddings by mean shift with a kernel of this radius, by `method` "sklearn" with scikit-learn.

    Returns `(num_clusters, labels, cluster_centers)`: labels `(N,)` int64, centers by descending number of pixels in
    reach. Raises ValueError, with scikit-learn also if no pixel is in reach of a seed.
    """
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth: found {bandwidth}, expected a positive number")
    points = np.asarray(prediction)
    points = points if points.dtype == np.float64 else points.astype(np.float32, copy=False)
    if not np.isfinite(points).all():
        raise ValueError("embeddings: found NaN or infinite numbers, expected finite ones")
    if not len(points):
        return 0, np.zeros(0, np.int64), points
    if method == "sklearn":
        result = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
        return len(result.cluster_centers_), result.labels_, result.cluster_centers_
    columns = np.ascontiguousarray(points.T)
    if not 1e-30 < bandwidth < 1e30 or np.abs(points).max() >= 2**12 * bandwidth:  # float32 has too few digits
        columns = np.clip(columns.astype(np.float64), -FAR * bandwidth, FAR * bandwidth)
    centers, labels = _mean_shift(columns / columns.dtype.type(bandwidth))
    return len(centers), labels, (centers * bandwidth).astype(points.dtype)


def _mean_shift(columns):
    """Centers `(K, D)` and labels `(N,)` of pixels `(D, N)`, in bandwidths."""
    side = PIXEL if len(columns.T) <= FEW else CELL
    grid = np.floor(columns / side)
    index, members = _group(grid)
    middles = (grid[:, members] + 0.5) * side  # of the cells, (D, C)
    sums = np.stack([np.bincount(index, weights=row) for row in (*columns, np.ones(len(index)))])  # (D + 1, C)
    means, counts = sums[:-1] / sums[-1], sums[-1]
    balls = _climb(_bin_seeds(middles, means, counts), means, counts, side)
    settled = _settle(balls, columns, index, middles, sums, side)
    if not settled:  # no seed has pixels in reach
        fullest = np.argsort(-counts, kind="stable")[:MAX_SEEDS]
        settled = _settle(means[:, fullest].T, columns, index, middles, sums, side)
    centers = _merge(*map(np.array, zip(*settled, strict=True)))
    return centers, _nearest(centers, columns)


def _group(grid):
    """Groups equal columns of whole numbers `(D, N)`: group of each `(N,)`, a member of each group `(G,)`."""
    # by a hash, as all digits have no room in 64 bits
    factors = np.random.default_rng(0).integers(2**62, size=len(grid), dtype=np.int64) * 2 + 1
    _, members, index = np.unique(factors @ grid.astype(np.int64), return_index=True, return_inverse=True)
    return index, members


def _bin_seeds(middles, means, counts):
    """Middles of occupied bins, or the pixels if each has its own, as in scikit-learn: `(S, D)`, fullest first."""
    bins = np.round(middles)
    index, members = _group(bins)
    pixels = np.bincount(index, weights=counts)
    order = np.lexsort((np.random.default_rng(0).random(len(pixels)), -pixels))  # ties from everywhere
    return (means if pixels.max() == 1 else bins)[:, members[order[:MAX_SEEDS]]].T


def _climb(balls, means, counts, side):
    """Moves balls `(S, D)` over cells of these means `(D, C)`, numbers of pixels `(C,)` and side, to a move of `SLOW`.

    Returns the places `(K, D)` of those that met no earlier one's path and aren't empty.
    """
    places, sum_balls, owners = balls.astype(np.float64), _make_sums(means, counts, side), {}
    active, kept, pairs = np.arange(len(balls)), np.ones(len(balls), bool), 0
    while len(active) and pairs < MAX_PAIRS:
        pairs += len(active) * len(counts)
        sums = sum_balls(places[active])
        empty = sums[:, -1] <= 0
        kept[active[empty]] = False
        active, sums = active[~empty], sums[~empty]
        before, places[active] = places[active], sums[:, :-1] / sums[:, -1:]
        active = active[((places[active] - before) ** 2).sum(axis=1) > SLOW**2]
        cubes = [tuple(cube) for cube in np.floor(places[active] / PATH).tolist()]
        for ball, cube in zip(active.tolist(), cubes, strict=True):
            owners[cube] = min(ball, owners.get(cube, ball))
        leads = np.array([owners[cube] for cube in cubes], np.intp) == active
        kept[active[~leads]] = False
        active = active[leads]
    return places[kept]


def _settle(balls, columns, index, middles, sums, side):
    """Moves balls `(S, D)` on over pixels `(D, N)` in cells `index` `(N,)` until they move by `STOP`.

    `sums` are those of the cells' pixels' places and number `(D + 1, C)`. Returns a list of (place `(D,)`, number of
    pixels before its last move) of balls that aren't empty.
    """
    reach, settled, pairs = CELL + side * len(columns) ** 0.5 / 2, [], 0
    for ball in balls:
        start = np.full(len(ball), np.inf)
        while True:
            if np.linalg.norm(ball - start) > CELL:  # until then these cells stay inside, and only those near are cut
                start, distances = ball, np.sqrt(_squares(middles, ball))
                whole = sums[:, distances <= 1 - reach].sum(axis=1)
                near = columns[:, (abs(distances - 1) < reach)[index]]
                pairs += len(distances)
            pairs += near.shape[1]
            inside = near[:, _squares(near, ball) <= 1 + PIXEL]  # on the sphere is inside
            count = whole[-1] + inside.shape[1]
            if not count:
                break
            before, ball = ball, (whole[:-1] + inside.sum(axis=1, dtype=np.float64)) / count
            if np.linalg.norm(ball - before) <= STOP or pairs > MAX_PAIRS:
                settled.append((ball, count))
                break
    return settled


def _squares(columns, center):
    return sum((row - x) ** 2 for row, x in zip(columns, center, strict=True))


def _make_sums(means, counts, side):
    """Function from centers `(S, D)` to sums of their balls' pixels' places and number, `(S, D + 1)`."""
    # The fraction of a cell at x in the ball around c: 1/2 + (1 - |x - c|^2) / (2 side), clipped to 0..1
    slopes = 0.5 / np.where(counts == 1, PIXEL, side)
    constants = 0.5 + slopes * (1 + PIXEL - (means**2).sum(axis=0))  # on the sphere is inside
    factors = np.concatenate([2 * slopes * means, [-slopes, constants]])
    moments = np.concatenate([means * counts, [counts]])
    real = np.float32 if side > PIXEL and np.abs(means).max() < 32 else np.float64  # exact without cells
    padding = ((0, 0), (0, -len(counts) % BLOCK))
    factors, moments = (np.pad(rows, padding).astype(real).reshape(len(rows), -1, BLOCK) for rows in (factors, moments))

    def sum_balls(centers):
        queries = np.column_stack([centers, (centers**2).sum(axis=1), np.ones(len(centers))]).astype(real)
        sums = []
        for first in range(0, len(centers), ROWS):
            inside = queries[first : first + ROWS] @ factors.swapaxes(0, 1)  # (blocks, ROWS, BLOCK)
            np.clip(inside, 0, 1, out=inside)
            sums.append((inside @ moments.transpose(1, 2, 0)).sum(axis=0, dtype=np.float64))
        return np.concatenate(sums)

    return sum_balls


def _merge(centers, counts):
    """The centers by descending count, without those within a bandwidth of an earlier one."""
    order, kept = np.lexsort((*centers.T[::-1], counts))[::-1], []  # ties as in scikit-learn, by coordinates
    while len(order):
        kept.append(order[0])
        order = order[((centers[order] - centers[order[0]]) ** 2).sum(axis=1) > 1]
    return centers[kept]


def _nearest(centers, columns):
    """Every pixel's nearest center, `(N,)` int64."""
    squares, step = (centers**2).sum(axis=1, keepdims=True), max(1, 2**18 // centers.size)
    parts = np.split(columns, range(step, len(columns.T), step), axis=1)
    return np.concatenate([(squares - 2 * centers @ part).argmin(axis=0) for part in parts])
