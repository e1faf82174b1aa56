"""Lane geometry of a road in the image: of the pinhole model, or under the lane lines of a TuSimple label.

Both end in the same description, one entry per image row, so that the drawing need not know where it came from.
Lengths are meters (m), places in the image pixels (px), `rng` is a numpy Generator.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 1280, 720  # TuSimple's images, px
ROAD_ROWS = 1000  # rows of a Road; those past HEIGHT hold the near ends of cars and barriers beside the camera
LANE_WIDTH = 3.65  # m, U.S. freeways


@dataclass(frozen=True)
class Road:
    """Lane lines in the image and the scale of the ground, per image row."""

    lines: np.ndarray  # (ROAD_ROWS, N) float, x of the N labeled lane lines, left to right, px
    offsets: np.ndarray  # (N,) float, rising lateral position of those lines, m, 0 = the camera
    scale: np.ndarray  # (ROAD_ROWS,) float, pixels per meter across the road at that row
    distance: np.ndarray  # (ROAD_ROWS,) float, distance along the road, m, falling with the row
    top: int  # first row with road

    @cached_property
    def knots(self):
        """What ties x to meters: (ROAD_ROWS, N + 2) px, strictly rising, and (N + 2,) m; the outer two are far away."""
        gaps = np.maximum(np.diff(self.lines, axis=1), 0.2 * self.scale[:, None])
        inner = self.lines[:, :1] + np.concatenate([np.zeros((ROAD_ROWS, 1)), np.cumsum(gaps, axis=1)], axis=1)
        far = 500.0 * self.scale[:, None]
        pixels = np.concatenate([inner[:, :1] - far, inner, inner[:, -1:] + far], axis=1)
        return pixels, np.concatenate([[self.offsets[0] - 500.0], self.offsets, [self.offsets[-1] + 500.0]])

    def x_at(self, rows, offset):
        """x (px) of the lateral position `offset` (m) at float image rows; arguments broadcast."""
        pixels, meters = self.knots
        rows, offset = np.broadcast_arrays(np.clip(rows, 0, ROAD_ROWS - 1.001), offset)
        low = rows.astype(int)
        side = np.clip(np.searchsorted(meters, offset) - 1, 0, len(meters) - 2)
        fraction = (offset - meters[side]) / (meters[side + 1] - meters[side])
        here = pixels[low, side] * (1 - fraction) + pixels[low, side + 1] * fraction
        below = pixels[low + 1, side] * (1 - fraction) + pixels[low + 1, side + 1] * fraction
        return here + (below - here) * (rows - low)

    def row_at(self, distance):
        """Float image row of the ground at a distance (m)."""
        return np.interp(-np.asarray(distance, float), -self.distance[self.top :], np.arange(self.top, ROAD_ROWS))

    def scale_at(self, distance):
        """Pixels per meter across the road at a distance (m)."""
        return np.interp(self.row_at(distance), np.arange(ROAD_ROWS), self.scale)

    def project(self, offset, height, distance):
        """Image points (..., 2) of points `offset` m aside, `height` m above the road, `distance` m ahead."""
        rows = self.row_at(distance)
        lift = height * self.scale_at(distance)
        return np.stack(np.broadcast_arrays(self.x_at(rows, offset), rows - lift), axis=-1)


class PinholeCamera(NamedTuple):
    """Where a camera is that looks along the road."""

    focal: float  # px
    height: float  # m above the road
    horizon: float  # px, row
    middle: float  # px, column of the way straight ahead


class Course(NamedTuple):
    """Course of a road ahead of the camera, each (3000,) float, m."""

    ahead: np.ndarray  # distance along the road, rising
    side: np.ndarray  # how far the road has turned to the right there
    rise: np.ndarray  # height of the road above the ground under the camera


def road_in_view(camera, course, offsets, reach):
    """A Course as a PinholeCamera sees it, with lines at rising `offsets`, (N,) m, 0 = the camera.

    Returns:
        Road, and the first image row at which its lines are labeled if that is done up to `reach` m.
    """
    ahead, side = course.ahead, course.side
    row = camera.horizon + camera.focal * (camera.height - course.rise) / ahead
    visible = np.minimum.accumulate(row) == row  # the rest lies behind a crest
    ahead, row, side = ahead[visible], row[visible], side[visible]
    distance = np.interp(np.arange(ROAD_ROWS), row[::-1], ahead[::-1])
    scale = camera.focal / distance
    lines = camera.middle + scale[:, None] * (np.interp(distance, ahead, side)[:, None] + offsets)
    top = int(np.ceil(row[-1]))
    return Road(lines, offsets, scale, distance, top), int(max(top + 4, np.interp(reach, ahead, row)))


def random_course(rng, nearest=1.5, turn=45.0, waves=0.0):
    """Random Course from `nearest` m on: straight, bent or of changing curvature.

    It turns aside at most `turn` m within 150 m; 45 keeps the far end in a freeway's image. `waves` is the chance of
    dips and crests, behind which the road comes into sight again.
    """
    ahead = np.geomspace(nearest, 450, 3000)
    rise = rng.normal(0, 2.5e-5 if rng.random() < 0.6 else 1e-4) * ahead**2  # the latter 1 m in 100, 4 m in 200 m
    if waves and rng.random() < waves:
        pace, start, slope = 2 * np.pi / rng.uniform(120, 400), rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.04)
        rise += slope / pace * (np.cos(pace * ahead + start) - np.cos(start) + pace * ahead * np.sin(start))
    bend = rng.normal(0, 1e-4) if rng.random() < 0.5 else rng.choice([-1, 1]) / rng.uniform(300, 1500)  # 1/m
    bend *= turn / 45
    side = 0.5 * bend * ahead**2 + rng.normal(0, 2e-6) / 6 * ahead**3 + rng.normal(0, 0.01) * ahead
    return Course(ahead, side * min(1, turn / abs(np.interp(150, ahead, side))), rise)


def random_road(rng):
    """Random freeway of TuSimple's camera, and the first image row at which its lines are labeled."""
    focal, height, horizon = rng.uniform(1000, 1650), rng.uniform(1.3, 1.9), rng.uniform(215, 290)
    course = random_course(rng)
    left, right = rng.choice([(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], p=[0.08, 0.12, 0.12, 0.36, 0.16, 0.16])
    # In TuSimple's labels 22 % (0313, 0601) or 35 % (0531) of the lanes beside the car's differ in width from that by
    # more than 15 %; 98 % of 0531's lie between 0.53 and 1.8 times it.
    widths = rng.normal(1, 0.05, left + right)
    unusual = (rng.random(left + right) < 0.25) & (np.arange(left + right) != left)
    offsets = np.cumsum(rng.uniform(3.3, 3.9) * np.where(unusual, rng.uniform(0.6, 1.9, left + right), widths))
    aside = rng.normal(0, 0.25) if rng.random() < 0.85 else rng.uniform(-1.7, 1.7)  # keeping or changing the lane
    offsets += aside - (offsets[left - 1] + offsets[left]) / 2
    camera = PinholeCamera(focal, height, horizon, WIDTH / 2 + rng.normal(0, 40))
    # Labels end at some distance, on flat ground 6 to 40 rows below the horizon; uphill that is above it.
    return road_in_view(camera, course, offsets, focal * height / rng.uniform(6, 40))


def extend(rows, points, values):
    """Values at all rows from those at rising `points`: linear between, and beyond with the slope at the ends."""
    result = np.interp(rows, points, values)
    for end, anchor, outside in ((slice(3), 0, rows < points[0]), (slice(-3, None), -1, rows > points[-1])):
        slope = np.polyfit(points[end], values[end], 1)[0]
        result[outside] = values[anchor] + slope * (rows[outside] - points[anchor])
    return result


def smooth(values, sigma=2):
    """Gaussian smoothing that keeps straight lines straight; takes out the rounding of labels to whole pixels."""
    kernel = np.exp(-0.5 * (np.arange(-3 * sigma, 3 * sigma + 1) / sigma) ** 2)
    padded = np.pad(values, 3 * sigma, mode="reflect", reflect_type="odd")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def road_from_label(label):
    """Road whose lines pass through the points of a TuSimple dict with at least one lane of two points.

    On flat ground the gap between two lines grows linearly with the row and is 0 at the horizon; its growth per row is
    the lane's width over the camera's height. That gives the horizon, the scale, and the way on for lines that the
    label ends early.
    """
    rows, samples = np.arange(ROAD_ROWS, dtype=float), np.asarray(label["h_samples"], float)
    lanes = [np.asarray(lane, float) for lane in label["lanes"]]
    curves = [(samples[x >= 0], x[x >= 0]) for x in lanes if (x >= 0).sum() > 1]
    full = [smooth(extend(rows, y, x)) for y, x in curves]
    order = np.argsort([x[450] for x in full])
    curves, full = [curves[i] for i in order], [full[i] for i in order]

    horizons, slopes = [], []
    for (y_a, _), (y_b, _), a, b in zip(curves, curves[1:], full, full[1:], strict=False):
        common = slice(int(max(y_a[0], y_b[0])), int(min(y_a[-1], y_b[-1])) + 1)
        if common.stop - common.start > 50:
            slope, constant = np.polyfit(rows[common], (b - a)[common], 1)
            if slope > 0.5:
                slopes.append(slope)
                horizons.append(-constant / slope)
    top = int(min(y[0] for y, _ in curves))
    horizon = min(float(np.median(horizons)) if horizons else top - 10.0, top - 3.0)
    one_lane = [slope for slope in slopes if 1.6 < slope < 3.2] or [2.2]  # others are shoulders, ramps or two lanes
    scale = np.maximum(np.median(one_lane) / LANE_WIDTH * (rows - horizon), 1.0)

    leader = full[int(np.argmin([y[0] for y, _ in curves]))]  # the line seen farthest shows the others the way
    for (y, _), x in zip(curves, full, strict=True):
        first = int(y[0])
        far = rows < first
        x[far] = leader[far] + (x[first] - leader[first]) * scale[far] / scale[first]
    lines = np.stack(full, axis=1)
    offsets = (lines[600] - WIDTH / 2) / scale[600]
    for i in range(1, len(offsets)):
        offsets[i] = max(offsets[i], offsets[i - 1] + 0.3)
    focal = 1450  # px, fits the 12.2 m from dash to dash in TuSimple's images
    return Road(lines, offsets, scale, focal / scale, max(top - 2, int(np.ceil(horizon)) + 2))
