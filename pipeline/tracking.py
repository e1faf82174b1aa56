"""Instances of a video that keep their ids from frame to frame.

They are matched to those before by lateral distance, all at once (Hungarian method: Kuhn 1955). A profile is (R,), the
lateral position of one of them in each row, in widths of the image, NaN where there is none.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

REACH = 0.06  # of the image's width: a lane moves less from one frame to the next
MEMORY = 25  # frames


class Tracker:
    """Ids for things that have one lateral position per row and move little."""

    def __init__(self):
        self.frame = 0
        self.tracks = {}  # id: (profile when it was last seen, `_extend` of it)
        self.seen = {}  # id: frame

    def update(self, profiles):
        """(N,) int ids of a frame's (N, R) profiles: that which each had before, else the smallest free one."""
        self.frame += 1
        current = [(profile, _extend(profile)) for profile in profiles]
        ids = np.zeros(len(current), int)
        known_ids = list(self.tracks)
        if known_ids and current:
            cost = np.array([[_distance(track, self.tracks[known]) for known in known_ids] for track in current])
            # what is out of reach costs as much as no partner
            for new, known in zip(*linear_sum_assignment(np.minimum(cost, REACH)), strict=True):
                if cost[new, known] < REACH:
                    ids[new] = known_ids[known]
        for known in known_ids:
            if self.frame - self.seen[known] > MEMORY and known not in ids:
                del self.tracks[known]
        for new, track in enumerate(current):
            if not ids[new]:
                ids[new] = next(free for free in range(1, len(self.tracks) + 2) if free not in self.tracks)
            self.tracks[ids[new]], self.seen[ids[new]] = track, self.frame
        return ids


def _distance(track, other):
    """Mean lateral distance of two tracks over the rows of both; inf if one of them has no row."""
    (profile, extended), (other_profile, other_extended) = track, other
    if extended is None or other_extended is None:
        return math.inf
    rows = np.isfinite(profile) | np.isfinite(other_profile)
    return np.abs(extended - other_extended)[rows].mean()


def _extend(profile):
    """A profile interpolated, and beyond its ends on the straight line through it; None if empty."""
    rows, known = np.arange(len(profile)), np.isfinite(profile)
    if known.sum() < 3:
        return np.full(len(profile), profile[known].mean()) if known.any() else None
    line = np.polyval(np.polyfit(rows[known], profile[known], 1), rows)
    inside = (rows >= rows[known][0]) & (rows <= rows[known][-1])
    return np.where(inside, np.interp(rows, rows[known], profile[known]), line)


def instance_profiles(label_map):
    """(N, H) profiles of instances 1..N of a (H, W) label map: their mean position in each row."""
    height, width = label_map.shape
    count = int(label_map.max(initial=0))
    pixels = np.flatnonzero(label_map.ravel() != 0)
    rows, columns = np.divmod(pixels, width)
    cells = (np.take(label_map, pixels) - 1) * height + rows
    counts = np.bincount(cells, minlength=count * height)
    sums = np.bincount(cells, columns + 0.5, minlength=count * height)
    with np.errstate(invalid="ignore"):
        return (sums / counts / width).reshape(count, height)
