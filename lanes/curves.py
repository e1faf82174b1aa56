"""Instance label map -> lane curves in image coordinates.

A lane is x(y) = a t + b + c / t + d / t^2, t = (y - horizon) / (height - horizon): how a flat road shows a line whose
lateral position is a cubic of the distance, which goes as 1 / t.

Lengths below are pixels of an image 1280 wide and are scaled to the image at hand.
"""

from typing import NamedTuple

import numpy as np

IMAGE_SIZE = (720, 1280)  # TuSimple, (height, width)
TOLERANCE = 10.0  # distance from the curve up to which a pixel supports it
HORIZON_MARGIN = 30.0  # of the horizon above the highest point of the labels
MAX_THICKNESS = 30.0  # a wider stripe is a blob, no line
MIN_LENGTH = 120.0  # of a lane's evidence along its curve
MIN_ROWS = 5  # of the label map
MIN_INSIDE = 0.25  # fraction of a line's pixels near its curve
MIN_COVER = 0.25  # fraction of a lane's rows, to where it leaves the image, with evidence
HYPOTHESES = 64  # three-point curves tried per piece
MAX_PIECES = 12
# Mean and spread of the coefficients over TuSimple's labels, in image widths: the prior of a ridge regression that
# keeps short pieces straight and aimed at the vanishing point. Terms are scaled to alike spreads.
TERM_SCALE = np.array([1.0, 1.0, 0.05, 0.0025])
PRIOR_MEAN = np.array([0.0, 0.5, 0.0, 0.0])
PRIOR_SPREAD = np.array([1.5, 0.1, 0.12, 0.12])
NOISE = 8.0  # spread of a run's center; large as neighboring runs err alike


class Lane(NamedTuple):
    """A lane curve, in image pixels."""

    coefficients: np.ndarray  # (4,) float64, of the terms t, 1, 1/t, 1/t^2 times TERM_SCALE
    horizon: float  # row where t = 0
    height: float  # of the image, the row where t = 1
    top: float  # first row
    bottom: float  # last row
    support: float  # length of the evidence along the curve


class _Geometry(NamedTuple):
    """What all fits of an image have in common, in its pixels."""

    horizon: float
    height: float
    width: float
    unit: float  # per pixel of an image 1280 wide
    row_height: float  # rows per row of the label map


def _terms(rows, geometry):
    """The four functions of the row whose sum is a lane, (N,) -> (N, 4), and their derivatives (N, 4)."""
    height = geometry.height - geometry.horizon
    t = np.maximum((rows - geometry.horizon) / height, 0.02)  # above the horizon there is no road
    one = np.ones_like(t)
    terms = np.stack([t, one, 1 / t, 1 / t**2], axis=-1) * TERM_SCALE
    slopes = np.stack([one, 0 * one, -1 / t**2, -2 / t**3], axis=-1) * TERM_SCALE / height
    return terms, slopes


def lane_x(lane, rows):
    """x of a `Lane`, (N,) float64, at any (N,) image rows, whether or not it reaches them."""
    return _terms(np.asarray(rows, float), lane)[0] @ lane.coefficients


def _stretches(label_map):
    """Labels row after row, a zero after each, and the indices where runs start and end."""
    flat = np.pad(label_map, ((0, 0), (0, 1))).ravel()
    return flat, np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])


def _runs(label_map, image_size):
    """Horizontal runs of equal label, but 0 and blobs: (N,) label and (N, 3) row, center and width in image pixels."""
    height, width = label_map.shape
    scale_y, scale_x = image_size[0] / height, image_size[1] / width
    flat, cuts = _stretches(label_map)
    filled = np.flatnonzero(flat[cuts[:-1]])
    start, length = cuts[filled], cuts[filled + 1] - cuts[filled]
    row, first = np.divmod(start, width + 1)
    # Rows and columns cut a stripe of thickness w in lengths w / sin and w / cos.
    _, column_cuts = _stretches(label_map.T)
    after = np.searchsorted(column_cuts, (first + length // 2) * (height + 1) + row, side="right")
    across, down = length * scale_x, (column_cuts[after] - column_cuts[after - 1]) * scale_y
    thin = across * down / np.hypot(across, down) < MAX_THICKNESS * image_size[1] / 1280
    runs = np.stack([(row + 0.5) * scale_y - 0.5, (first + length / 2) * scale_x - 0.5, across], axis=1)
    return flat[start][thin], runs[thin]


def _ridge(terms, centers, weights, geometry):
    """Weighted least squares with the prior: terms (..., N, K) -> (..., K)."""
    weighted = np.swapaxes(terms * weights[..., None], -1, -2)
    return _solve(weighted @ terms, (weighted @ centers[..., None])[..., 0], geometry)


def _solve(matrix, right, geometry):
    """Normal equations (..., K, K), (..., K) with the prior added -> coefficients (..., K)."""
    count = right.shape[-1]
    precision = (NOISE * geometry.unit / (PRIOR_SPREAD[:count] * geometry.width)) ** 2
    right = right + precision * PRIOR_MEAN[:count] * geometry.width
    return np.linalg.solve(matrix + np.diag(precision), right[..., None])[..., 0]


def _search(centers, terms, slopes, weights, geometry):
    """Coefficients (3,) of the curve with most support, by MSAC (Torr and Zisserman 2000)."""
    draws = np.random.default_rng(0).random((HYPOTHESES, 3))
    mass = np.cumsum(weights)
    picks = np.searchsorted(mass, (draws + np.arange(3)) / 3 * mass[-1])  # (M, 3), of each third of the pixels
    curves = _ridge(terms[picks], centers[picks], np.full(picks.shape, 20.0), geometry)  # (M, 3)
    curves = np.concatenate([curves, _ridge(terms, centers, weights, geometry)[None]])
    distance = np.abs(curves @ terms.T - centers) / np.hypot(1, curves @ slopes.T)  # (M + 1, N)
    cost = np.minimum(distance / (TOLERANCE * geometry.unit), 1) ** 2 @ weights
    return curves[cost.argmin()]


def _fit(runs, geometry, search):
    """Robust curve through runs (N, 3+): coefficients (4,), x (N,), stretch ds/dy (N,), support (N,) bool."""
    rows, centers, widths = runs[:, :3].T
    terms, slopes = _terms(rows, geometry)
    weights = np.minimum(widths, 3 * np.median(widths))
    weights = weights / weights.mean()
    if search:
        curve = _search(centers, terms[:, :3], slopes[:, :3], weights, geometry)
    else:
        curve = _ridge(terms[:, :3], centers, weights, geometry)
    for count in (3, 4, 4, 0):
        x = terms[:, : len(curve)] @ curve
        stretch = np.hypot(1, slopes[:, : len(curve)] @ curve)
        near = np.abs(x - centers) < TOLERANCE * geometry.unit * stretch
        if count:
            curve = _ridge(terms[:, :count], centers, near * weights / stretch**2, geometry)
    return curve, x, stretch, near


def _trim(piece, geometry):
    """A piece without strays: ends beyond a gap of more than twice their length."""
    rows, height = np.unique(piece[:, 0]), geometry.row_height
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 3.5 * height) + 1)
    while len(parts) > 1 and 2 * (parts[0][-1] - parts[0][0] + height) < parts[1][0] - parts[0][-1]:
        parts.pop(0)
    while len(parts) > 1 and 2 * (parts[-1][-1] - parts[-1][0] + height) < parts[-1][0] - parts[-2][-1]:
        parts.pop()
    return piece[(piece[:, 0] >= parts[0][0]) & (piece[:, 0] <= parts[-1][-1])]


def _split(runs, geometry):
    """Line pieces (N, 4) in the runs of one instance, best first, with the stretch of their curves."""
    pieces = []
    while len(runs) >= MIN_ROWS and len(pieces) < 4:
        _, x, stretch, near = _fit(runs, geometry, search=True)
        _, centers, widths = runs.T
        reach = TOLERANCE * geometry.unit * stretch
        inside = np.minimum(centers + widths / 2, x + reach) - np.maximum(centers - widths / 2, x - reach)
        if near.sum() < MIN_ROWS or np.maximum(inside, 0).sum() < MIN_INSIDE * widths.sum():
            break
        pieces.append(_trim(np.column_stack([runs, stretch])[near], geometry))
        runs = runs[np.abs(x - centers) > 2 * reach]
    return pieces


def _join(pieces, geometry):
    """Join pieces that lie on one three-term curve, the best pair first."""
    while len(pieces) > 1:
        runs = np.concatenate(pieces)
        counts = np.array([len(piece) for piece in pieces])
        starts = counts.cumsum() - counts
        pairs = np.array(np.triu_indices(len(pieces), 1))  # (2, pairs)
        rows, centers, _, stretch = runs.T
        terms, slopes = (part[:, :3] for part in _terms(rows, geometry))
        # The normal equations of a pair are the sum of its pieces'.
        weighted = terms / stretch[:, None] ** 2
        matrix = np.add.reduceat(weighted[:, :, None] * terms[:, None], starts)  # (P, 3, 3)
        right = np.add.reduceat(weighted * centers[:, None], starts)  # (P, 3)
        curves = _solve(matrix[pairs].sum(axis=0), right[pairs].sum(axis=0), geometry)  # (pairs, 3)
        distance = np.abs(curves @ terms.T - centers) / np.hypot(1, curves @ slopes.T)  # (pairs, N)
        near = distance < TOLERANCE * geometry.unit
        fraction = np.add.reduceat(near, starts, axis=1, dtype=float) / counts  # (pairs, P)
        error = np.add.reduceat(distance**2, starts, axis=1)
        each = np.arange(len(curves))
        high, low = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
        row_counts = np.array([len(np.unique(piece[:, 0])) for piece in pieces])
        span = (low[pairs].max(axis=0) - high[pairs].min(axis=0)) / geometry.row_height + 1
        cover = np.minimum(row_counts[pairs].sum(axis=0) / span, 1)
        cost = error[each, pairs].sum(axis=0) / counts[pairs].sum(axis=0) / cover
        fits = (fraction[each, pairs] > 0.8).all(axis=0) & (cover > MIN_COVER)
        if not fits.any():
            break
        one, other = pairs[:, np.where(fits, cost, np.inf).argmin()]
        rest = [piece for k, piece in enumerate(pieces) if k not in (one, other)]
        pieces = [*rest, np.concatenate([pieces[one], pieces[other]])]
    return pieces


def _finish(piece, geometry):
    """The lane through a piece's runs, or None if it is too short or too sparse to be one."""
    piece = _trim(piece, geometry)
    curve, _, stretch, near = _fit(piece, geometry, search=False)
    rows, first = np.unique(piece[near, 0], return_index=True)
    support = stretch[near][first].sum() * geometry.row_height
    if len(rows) < MIN_ROWS or support < MIN_LENGTH * geometry.unit:
        return None
    start, end = rows[[0, -1]]
    # A line of thickness w reaches w / 2 beyond its end points, a row half its height beyond its center.
    cap = max(np.median(piece[near, 2] / stretch[near]) / 2 - geometry.row_height / 2, 0)
    lane = Lane(curve, geometry.horizon, geometry.height, start + cap, end - cap, support)
    return lane if len(rows) * geometry.row_height > MIN_COVER * (_last_row(lane, geometry) - lane.top) else None


def _last_row(lane, geometry):
    """The row at which a lane leaves the image, through the lower border or one side."""
    below = np.arange(np.ceil(lane.bottom), geometry.height)
    x = lane_x(lane, below)
    outside = np.flatnonzero((x < 0) | (x > geometry.width - 1))
    return below[outside[0]] - 1 if outside.size else geometry.height - 1


def _agree(lane, other, geometry):
    """Whether lanes neither cross nor run within a line's width of each other."""
    rows = np.arange(max(lane.top, other.top), min(lane.bottom, other.bottom), 10 * geometry.unit)
    if len(rows) < 2:
        return True
    reach = TOLERANCE * geometry.unit
    x = lane_x(lane, rows)
    gap = (x - lane_x(other, rows)) / np.hypot(1, np.gradient(x, rows))
    return min(gap.max(), -gap.min()) < reach and np.abs(gap).mean() > reach


def _last_likely_row(lane, logits, geometry):
    """The row down to which a lane goes on while lane is likelier than not by logits (H, W, 1) of the whole image."""
    rows = np.arange(np.ceil(lane.bottom), _last_row(lane, geometry) + 1)
    places = np.stack([(rows + 0.5) / geometry.height, (lane_x(lane, rows) + 0.5) / geometry.width])
    row, column = (places * np.reshape(logits.shape[:2], (2, 1))).astype(int)
    ends = np.flatnonzero(logits[row, column, 0] < 0)
    return (rows[: ends[0]] if ends.size else rows).max(initial=lane.bottom)


def fit_lanes(label_map, image_size=IMAGE_SIZE, max_lanes=5, logits=None):
    """At most `max_lanes` lane curves, of the longest evidence first, of an (H, W) label map of a whole image.

    Lines of instances are joined, and what is short, sparse or in conflict with a better lane is dropped. With the
    semantic head's `logits` (H, W, 1) a lane goes on downwards while they aren't below 0, unless it meets another: the
    label map shows what is above a higher threshold.
    """
    labels, runs = _runs(label_map, image_size)
    groups = (runs[labels == value] for value in np.unique(labels))
    groups = [group for group in groups if len(group) >= MIN_ROWS]
    height, width = image_size
    unit = width / 1280
    top = min((np.quantile(group[:, 0], 0.02) for group in groups), default=0.0)
    for _ in range(2):
        geometry = _Geometry(top - HORIZON_MARGIN * unit, height, width, unit, height / len(label_map))
        below = [group[group[:, 0] > geometry.horizon + 10 * unit] for group in groups]
        pieces = [piece for group in below for piece in _split(group, geometry)]
        pieces = _join(sorted(pieces, key=len, reverse=True)[:MAX_PIECES], geometry)
        lanes, kept = filter(None, (_finish(piece, geometry) for piece in pieces)), []
        for lane in sorted(lanes, key=lambda lane: -lane.support):
            if all(_agree(lane, other, geometry) for other in kept):
                kept.append(lane)
        # The lanes say where the horizon is.
        highest = min((lane.top for lane in kept), default=top)
        if abs(highest - top) < HORIZON_MARGIN * unit / 2:
            break
        top = highest
    kept = kept[:max_lanes]
    for index, lane in enumerate(kept if logits is not None else ()):
        longer = lane._replace(bottom=_last_likely_row(lane, logits, geometry))
        if all(_agree(longer, other, geometry) for other in kept if other is not lane):
            kept[index] = longer
    return kept
