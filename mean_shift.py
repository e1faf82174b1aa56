"""Flat-kernel mean shift with scikit-learn's answer in milliseconds.

Pixels of an instance lie within delta_v of their mean and the means 2 delta_d apart, so a ball of radius `bandwidth`
climbs to the instances: post-processing of De Brabandere et al., arXiv 1708.02551; mean shift with a flat kernel:
Comaniciu and Meer, "Mean Shift: A Robust Approach Toward Feature Space Analysis", PAMI 24(5), 2002. The rules are those
of `sklearn.cluster.MeanShift(bandwidth, bin_seeding=True)`; only the sums are found faster:

 1. Cells: pixels are summed in grid cells of side bandwidth / 8. Cells of up to 40 pixels are kept as single pixels
    (20 or 8 where that would be too many).
 2. Seeds: every occupied bin of side bandwidth holds one.
 3. Climb: all seeds move at once to the mean of the cells in their balls, by matrix products; a cell on the sphere
    counts by the part of it inside, as if its pixels were spread evenly.
 4. A seed that meets another's path follows it to its end; one that moves less than 0.003 bandwidth is a candidate.
 5. Settle: candidates go on with the exact mean, of whole cells and of the single pixels of the cells on the sphere, to
    scikit-learn's stop, a move of at most 0.001 bandwidth. One that goes far had only slowed down on a slope: it climbs
    as in step 3 again first.
 6. Merge: the center with most pixels in its ball removes all others within one bandwidth, and so on down.
 7. Label: cells get their nearest center; where the boundary between two centers crosses a cell, each pixel does.

Exact, up to float32 rounding: settled centers, their counts, merging, labels; all of it up to 1024 pixels, where every
seed is settled. Approximate: the climb, which only chooses where settling starts. It misplaces pixels on the sphere
only, by less than a cell's diagonal (0.22 bandwidth in 3 dimensions); so a seed on a watershed may end in the next
cluster, a slope where scikit-learn happens to halt may be missed (in none of 87 comparisons on a trained network, all
pixels of 29 pictures of 256x512, bandwidths 0.7 to 1.5), clusters nearly equal in count may swap. Bounded: without
cells (above 4 dimensions, or too many) the climb sees 65,536 pixels, a fixed random 32,768 of more, and may miss
clusters below 0.1 %; climb and settling stop at a fixed amount of work. Too diffuse is noise wider than the bandwidth:
of 50,000 normal pixels in 3 dimensions, spread 1 bandwidth, the answers are alike; spread 2, scikit-learn finds 161
clusters, this 42, with 55 % of the labels alike.
"""

from typing import NamedTuple

import numpy as np

# Lengths, in bandwidths
STOP = 1e-3  # a smaller move ends the climb, as in scikit-learn
CANDIDATE = 3e-3  # the same for the approximate climb, so loose that it overruns no halt of the exact one
PATH = 1 / 64  # paths are one where they pass the same cell of this side
DUPLICATE = 0.02  # candidates closer than this are one
ESCAPE = 0.1  # a candidate that has gone this far had halted on a slope, and is on its way to somewhere else
SLACK = 0.05  # way a candidate may go before the pixels near the sphere are collected anew
PIXEL_EDGE = 1e-6  # single pixels are in or out
MAX_SPREAD = 2**20  # over a wider range float32 doesn't resolve the bandwidth
# Cells and work
PARTS = (8, 4)  # cells per bandwidth and dimension, the first that gives few enough
SPARSE = (40, 20, 8)  # pixels up to which a cell is kept as single pixels, the first that gives few enough
MAX_CELL_DIMENSIONS = 4
DENSE_GRID = 2**22  # up to this volume the grid is an array, above it the occupied cells are sorted
EXACT_PIXELS = 1024
MAX_ATOMS = 2**16  # cells, or single pixels, in the climb
SAMPLE = 2**15
MAX_MOVES = 300  # of a seed in the climb, of a candidate in settling, as in scikit-learn
MAX_SEED_PAIRS = 2**25  # seeds times atoms
MAX_PAIRS = 3 * 2**26  # pairs of a seed and an atom in the climb, in all moves together
MAX_READS = 2**26  # coordinates of pixels looked at in settling
ROWS = 64  # most seeds per matrix product
OVERHEAD = 2048  # atoms that take as long as starting a product
PRODUCT = 2**18  # multiplications OpenBLAS does in the calling thread; waking others stalls if the network is running


def mean_shift(prediction, bandwidth):
    """Flat-kernel mean shift; seeds, stop and merging are those of `MeanShift(bandwidth, bin_seeding=True)`.

    Args:
        prediction: `(N, D)` embeddings, float64 or computed with as float32.
        bandwidth: radius of the kernel, in embedding units.
    Returns:
        `(cluster_centers, labels)`: `(K, D)`, by descending number of pixels within one bandwidth, and the index of
        every pixel's nearest center, `(N,)` int64. No pixels, no clusters.
    Raises:
        ValueError: bandwidth not a positive number; embeddings not `(N, D)`, not finite, or spread over more than
            2^20 bandwidths.
    """
    points = check_points(prediction, bandwidth)
    if not len(points):
        return points, np.zeros(0, np.int64)
    columns = np.ascontiguousarray(points.T, np.float64 if len(points) <= EXACT_PIXELS else None)
    cells = _sum_cells(columns, bandwidth)
    candidates, density = _bin_seeds(cells, bandwidth), 0
    if len(points) > EXACT_PIXELS:
        candidates, density = _climb(candidates, columns, cells, bandwidth)
    centers, counts = _settle(candidates, density, columns, cells, bandwidth)
    if not len(centers):  # above 4 dimensions a bin's middle may be out of reach of its pixels: these are the seeds
        seeds = np.random.default_rng(0).permutation(columns, axis=1).T[:EXACT_PIXELS]
        centers, counts = _settle(seeds, 1, columns, cells, bandwidth)
    centers = centers[_strongest(centers, counts, bandwidth)]
    return centers.astype(points.dtype), _nearest(centers, columns, cells)


class Cells(NamedTuple):
    """Pixels summed in grid cells; where there is no grid every pixel is a cell of side 0."""

    index: np.ndarray  # (N,) cell of each pixel
    middles: np.ndarray  # (D, C)
    side: float  # embedding units
    reach: float  # half the diagonal: no pixel lies farther from its cell's middle
    counts: np.ndarray  # (C,) pixels
    sums: np.ndarray  # (D, C)


def check_points(prediction, bandwidth):
    """`prediction` as (N, D) float64 or float32; raises ValueError as `mean_shift`."""
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth: found {bandwidth}, expected a positive number")
    points = np.asarray(prediction)
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"embeddings: found shape {points.shape}, expected (N, D)")
    points = points if points.dtype == np.float64 else points.astype(np.float32, copy=False)
    if not len(points):
        return points
    bad = points.size - np.count_nonzero(np.isfinite(points))
    if bad:
        raise ValueError(f"embeddings: found {bad} of {points.size} numbers NaN or infinite, expected finite ones")
    spread = (float(points.max()) - float(points.min())) / bandwidth
    if spread > MAX_SPREAD:
        raise ValueError(f"embeddings: found a spread of {spread:.3g} bandwidths, expected at most {MAX_SPREAD}")
    return points


def _occupied(rows):
    """Groups the columns of whole numbers, given row by row: each one's group `(N,)`, a member of each group `(C,)`."""
    key, volume = np.int32(0), 1
    for row in rows:
        low = row.min()
        size = int(row.max() - low) + 1
        if volume * size > 2**62:  # number the groups so far anew, without gaps
            key = np.unique(key, return_inverse=True)[1]
            volume = int(key.max()) + 1
        volume *= size
        whole = np.int32 if volume < 2**31 else np.int64
        row -= low
        key = key * whole(size) + row.astype(whole)
    if volume <= DENSE_GRID:
        present = np.flatnonzero(np.bincount(key, minlength=volume) > 0)
        number = np.empty(volume, np.intp)
        number[present] = np.arange(len(present))
        index = number.take(key)
    else:
        present, index = np.unique(key, return_inverse=True)
    member = np.empty(len(present), np.intp)
    member[index] = np.arange(len(index))
    return index, member


def _sum_cells(columns, bandwidth):
    dimensions, total = columns.shape
    real = columns.dtype.type
    if total > EXACT_PIXELS and dimensions <= MAX_CELL_DIMENSIONS:
        for parts in PARTS:
            index, member = _occupied(np.floor(row * real(parts / bandwidth)) for row in columns)
            if len(member) <= min(MAX_ATOMS, total // 2):
                side = bandwidth / parts
                middles = (np.floor(columns[:, member] * real(parts / bandwidth)) + 0.5) * real(side)
                sums = np.stack([np.bincount(index, weights=row) for row in columns])
                return Cells(index, middles, side, 0.5 * side * dimensions**0.5, np.bincount(index), sums)
    return Cells(np.arange(total), columns, 0.0, 0.0, np.ones(total, np.intp), columns)


def _bin_seeds(cells, bandwidth):
    """Middles of the occupied bins, as in scikit-learn; the pixels if each has its own. `(S, D)`, fullest bin first."""
    bins = np.round(cells.middles / cells.middles.dtype.type(bandwidth))
    index, member = _occupied(bins.copy())
    counts = np.bincount(index, weights=cells.counts)
    if len(member) == counts.sum():
        return cells.middles.T
    order = np.lexsort((np.random.default_rng(0).random(len(member)), -counts))  # bins equally full: from everywhere
    return bins[:, member[order]].T.astype(np.float32) * np.float32(bandwidth)


def _climb(seeds, columns, cells, bandwidth):
    """Candidates `(K, D)`, where their last move began, and their densities `(K,)`, by descending density."""
    for sparse in SPARSE:
        full = cells.counts > sparse
        if cells.counts[~full].sum() <= MAX_ATOMS:
            break
    single, weight = np.flatnonzero(~full.take(cells.index)), 1.0
    if len(single) > MAX_ATOMS:
        weight = len(single) / SAMPLE
        single = np.random.default_rng(0).choice(single, SAMPLE, replace=False)
    offset = (cells.sums.sum(axis=1, keepdims=True) / len(cells.index)).astype(columns.dtype)
    means = (cells.sums[:, full] / cells.counts[full] - offset).astype(columns.dtype)
    positions = np.concatenate([means, columns.take(single, axis=1) - offset], axis=1)
    weights = np.concatenate([cells.counts[full], np.full(len(single), weight)])
    edges = np.repeat([cells.side / bandwidth, PIXEL_EDGE], [np.count_nonzero(full), len(single)])
    axis = np.argmax(np.ptp(positions, axis=1))  # sorted along the longest axis, a seed's surroundings are a slice
    # Squared distances are expanded, which in float32 costs 1e-7 of the squared distance from the offset.
    real = np.float32 if np.abs(positions).max() < 30 * bandwidth else np.float64
    order = np.argsort(positions[axis])
    positions, weights, edges = positions.take(order, axis=1).astype(real), weights.take(order), edges.take(order)
    # Part of an atom inside the ball: 1/2 + (bandwidth^2 - |x - seed|^2) / (2 edge bandwidth^2), clipped to 0..1
    slopes = 0.5 / (edges * bandwidth**2)
    constant = 0.5 + slopes * (bandwidth**2 - (positions.astype(np.float64) ** 2).sum(axis=0))
    factors = np.concatenate([positions * (2 * slopes).astype(real), -slopes[None], constant[None]]).astype(real)
    moments = np.concatenate([positions, np.ones_like(positions[:1])]).T * weights[:, None].astype(real)
    along, reach = positions[axis], float(bandwidth * (1 + edges.max()) ** 0.5)
    centers = (seeds[: max(1, MAX_SEED_PAIRS // len(weights))] - offset.T).astype(real)
    starts, density = centers.copy(), np.zeros(len(centers))
    active, leaders, passed, work = np.arange(len(centers)), list(range(len(centers))), {}, 0
    for _ in range(MAX_MOVES):
        active = active[np.argsort(centers[active, axis])]
        old = centers[active]
        queries = np.concatenate([old, (old**2).sum(axis=1, keepdims=True), np.ones((len(old), 1), real)], axis=1)
        sums = np.zeros((len(old), len(moments.T)), real)
        # An interval of atoms with all the seeds that it may concern, which are neighbors in the order too
        width = max(1, PRODUCT // (len(factors) * min(len(old), ROWS)))
        firsts = np.arange(0, len(along), width)
        lows = np.searchsorted(old[:, axis], along[firsts] - reach)
        highs = np.searchsorted(old[:, axis], along[np.minimum(firsts + width, len(along)) - 1] + reach, side="right")
        for first, low, high in zip(firsts.tolist(), lows.tolist(), highs.tolist(), strict=True):
            near = slice(first, first + width)
            for row in range(low, high, ROWS):
                rows = slice(row, min(row + ROWS, high))
                inside = queries[rows] @ factors[:, near]
                sums[rows] += inside.clip(0, 1, out=inside) @ moments[near]
        work += int(width * (highs - lows).sum()) + OVERHEAD * len(firsts)
        found = np.flatnonzero(sums[:, -1] > 0)
        active, old, sums = active[found], old[found], sums[found]
        starts[active], density[active], centers[active] = old, sums[:, -1], sums[:, :-1] / sums[:, -1:]
        active = active[((centers[active] - old) ** 2).sum(axis=1) > (CANDIDATE * bandwidth) ** 2]
        places = np.floor(centers[active] / real(PATH * bandwidth)).tolist()
        for i, place in zip(active.tolist(), places, strict=True):
            leader = passed.setdefault(tuple(place), i)
            while leaders[leader] != leader:  # it follows another by now, even this one perhaps
                leader = leaders[leader]
            leaders[i] = leader
        active = np.array([i for i in active.tolist() if leaders[i] == i], np.intp)
        if not len(active) or work > MAX_PAIRS:
            break
    kept = np.flatnonzero((np.array(leaders) == np.arange(len(leaders))) & (density > 0))
    kept = kept[_strongest(starts[kept], density[kept], DUPLICATE * bandwidth)]
    return starts[kept] + offset.T, density[kept]


def _settle(candidates, density, columns, cells, bandwidth):
    """Exact centers `(K, D)` and pixel counts `(K,)`; past MAX_READS the candidates stay where they are."""
    centers, counts, work = candidates.astype(np.float64), np.full(len(candidates), density, np.float64), 0
    for i, center in enumerate(centers):
        if work > MAX_READS:
            break
        centers[i], counts[i], pairs = _settle_one(center, columns, cells, bandwidth, centers[:i])
        work += pairs
    return centers[counts > 0], counts[counts > 0]


def _settle_one(center, columns, cells, bandwidth, settled):
    """Exact center, its count and the work; count 0 if it climbed to one of `settled`."""

    def squared_distances(rows):
        return sum((row - row.dtype.type(x)) ** 2 for row, x in zip(rows, center, strict=True))

    anchor, work, start = None, 0, center if cells.side else None
    for _ in range(MAX_MOVES + 1):
        if start is not None and ((center - start) ** 2).sum() > (ESCAPE * bandwidth) ** 2:
            start = None  # once: the moves stay bounded
            center, pairs = _drift(center, columns, cells, bandwidth)
            work += pairs
            if (((settled - center) ** 2).sum(axis=1) <= (DUPLICATE * bandwidth) ** 2).any():
                return center, 0, work
        if anchor is None or ((center - anchor) ** 2).sum() > (SLACK * bandwidth) ** 2:
            anchor = center
            distances, shell = squared_distances(cells.middles), cells.reach + 1.01 * SLACK * bandwidth
            cut = distances <= (bandwidth + shell) ** 2
            whole = np.flatnonzero(distances < (bandwidth - shell) ** 2)
            whole_count, whole_sum = cells.counts[whole].sum(), cells.sums[:, whole].sum(axis=1, dtype=np.float64)
            cut[whole] = False
            pixels = columns.take(np.flatnonzero(cut.take(cells.index) if cells.side else cut), axis=1)
            work += cells.middles.size + len(cells.index)
        inside = squared_distances(pixels) <= bandwidth**2
        work += pixels.size
        count = whole_count + np.count_nonzero(inside)
        if not count:
            break
        old, center = center, (whole_sum + pixels.compress(inside, axis=1).sum(axis=1, dtype=np.float64)) / count
        if ((center - old) ** 2).sum() <= (STOP * bandwidth) ** 2:
            break
    return center, count, work


def _drift(center, columns, cells, bandwidth):
    """Approximate climb over whole cells of one candidate that was on a slope: where `_climb` would stop, and work."""
    real = columns.dtype.type
    moments = np.concatenate([cells.sums, cells.counts[None]]).astype(real)
    positions = moments[:-1] / moments[-1]
    work = 0
    for _ in range(MAX_MOVES):
        work += positions.size
        squared = sum((row - real(x)) ** 2 for row, x in zip(positions, center, strict=True))
        inside = (0.5 + (bandwidth**2 - squared) / (2 * cells.side * bandwidth)).clip(0, 1)
        *total, count = (moments @ inside).astype(np.float64)
        if not count:
            break
        old, center = center, np.array(total) / count
        if ((center - old) ** 2).sum() <= (CANDIDATE * bandwidth) ** 2:
            break
    return center, work


def _strongest(centers, counts, radius):
    """Indices, by descending count, of the centers that no stronger kept one has within the radius."""
    order = np.lexsort((*centers.T[::-1], counts))[::-1]  # ties as in scikit-learn, by coordinates
    kept = []
    while len(order):
        kept.append(order[0])
        order = order[((centers[order] - centers[order[0]]) ** 2).sum(axis=1) > radius**2]
    return np.array(kept, np.intp)


def _nearest(centers, columns, cells):
    """Index of the nearest center `(N,)` int64."""
    labels, sure = _nearest_within(cells.reach, centers, cells.middles)
    labels, unsure = labels.take(cells.index), np.flatnonzero(~sure.take(cells.index))
    labels[unsure] = _nearest_within(0.0, centers, columns.take(unsure, axis=1))[0]
    return labels


def _nearest_within(reach, centers, columns):
    """Nearest center of each point, and whether it is the nearest of everything within `reach` of the point too."""
    labels, sure = np.zeros(columns.shape[1], np.int64), np.ones(columns.shape[1], bool)
    real, offset = columns.dtype, centers.mean(axis=0)
    moved = (centers - offset).astype(real).T
    factors = np.concatenate([-2 * moved, (moved**2).sum(axis=0, keepdims=True)])
    apart = np.sqrt(((centers[:, None] - centers) ** 2).sum(axis=2)) if reach else None
    step = max(1, PRODUCT // factors.size)
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        points = columns[:, part].T - offset.astype(real)
        gaps = np.concatenate([points, np.ones_like(points[:, :1])], axis=1) @ factors  # distance^2 - |point|^2
        labels[part] = gaps.argmin(axis=1)
        if reach:  # the boundary between two centers lies (difference of gaps) / (2 * their distance) from the point
            gaps -= gaps[np.arange(len(gaps)), labels[part]][:, None]
            sure[part] = np.count_nonzero(gaps <= 2 * reach * apart[labels[part]], axis=1) == 1
    return labels, sure
