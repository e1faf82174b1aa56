"""Lane geometry of a road in the image: of the pinhole model, or under the lane lines of a TuSimple label.

Both end in the same description, one entry per image row, so that the drawing need not know where it came from.
Lengths are meters (m), places in the image pixels (px), `rng` is a numpy Generator.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.polynomial import Polynomial

from .camera import Camera, random_camera
from .canvas import WIDTH

ROAD_ROWS = 1000  # rows of a Road; those past HEIGHT hold the near ends of cars and barriers beside the camera
LANE_WIDTH = 3.65  # m, U.S. freeways


@dataclass(frozen=True)
class Road:
    """Lane lines in the image and the scale of the ground, per image row."""

    lines: np.ndarray  # (ROAD_ROWS, N) float, x of the N lane lines, left to right, px
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

    def widened(self, left, right):
        """The road with one more line on its left and its right, or not, a lane beyond the outermost one."""
        rows, lines, offsets = np.arange(ROAD_ROWS), self.lines, self.offsets
        if left:
            offsets = np.insert(offsets, 0, offsets[0] - LANE_WIDTH)
            lines = np.column_stack([self.x_at(rows, offsets[0]), lines])
        if right:
            offsets = np.append(offsets, offsets[-1] + LANE_WIDTH)
            lines = np.column_stack([lines, self.x_at(rows, offsets[-1])])
        return replace(self, lines=lines, offsets=offsets)


@dataclass(frozen=True)
class Route:
    """A freeway and the camera that drives along it.

    `side` (to the right) and `rise` (up) say where the road runs, in m at a distance (m), seen from the camera at its
    start.
    """

    camera: Camera
    side: Polynomial
    rise: Polynomial
    offsets: np.ndarray  # (N,) m, rising lateral position of the lines, 0 = the camera
    reach: float  # m ahead, as far as lines are labeled

    def pan(self, travelled):
        """How many px the camera has turned to the right after `travelled` m."""
        slope = self.side.deriv()
        return self.camera.focal * (slope(travelled) - slope(0))

    def road_after(self, travelled):
        """What the camera sees after `travelled` m: Road, and the first image row at which its lines are labeled."""
        camera, ahead = self.camera, np.geomspace(1.5, 450, 3000)
        side, rise = (follow(course, travelled)(ahead) for course in (self.side, self.rise))
        row = camera.horizon + camera.focal * (camera.height - rise) / ahead
        visible = np.minimum.accumulate(row) == row  # the rest lies behind a crest
        ahead, row, side = ahead[visible], row[visible], side[visible]
        distance = np.interp(np.arange(ROAD_ROWS), row[::-1], ahead[::-1])
        scale = camera.focal / distance
        lines = camera.middle + scale[:, None] * (np.interp(distance, ahead, side)[:, None] + self.offsets)
        top = int(np.ceil(row[-1]))
        first_row = int(max(top + 4, np.interp(self.reach, ahead, row)))
        return Road(lines, self.offsets, scale, distance, top), first_row


def follow(course, travelled):
    """A Polynomial as seen `travelled` m farther along it, from a camera that has turned with it."""
    moved = course(Polynomial([travelled, 1]))
    return Polynomial([*course.coef[:2], *moved.coef[2:]])


def random_offsets(rng):
    """Lateral positions (m) of two to five lines, with the camera about in the middle of a lane."""
    left, right = rng.choice([(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], p=[0.08, 0.12, 0.12, 0.36, 0.16, 0.16])
    # In TuSimple's labels 22 % (0313, 0601) or 35 % (0531) of the lanes beside the car's differ in width from that by
    # more than 15 %; 98 % of 0531's lie between 0.53 and 1.8 times it.
    widths = rng.normal(1, 0.05, left + right)
    unusual = (rng.random(left + right) < 0.25) & (np.arange(left + right) != left)
    offsets = np.cumsum(rng.uniform(3.3, 3.9) * np.where(unusual, rng.uniform(0.6, 1.9, left + right), widths))
    aside = rng.normal(0, 0.25) if rng.random() < 0.85 else rng.uniform(-1.7, 1.7)  # keeping or changing the lane
    return offsets + aside - (offsets[left - 1] + offsets[left]) / 2


def random_route(rng):
    """Random freeway: straight, bent or of changing curvature, uphill or downhill."""
    camera, offsets = random_camera(rng), random_offsets(rng)
    rise = Polynomial([0, 0, rng.normal(0, 2.5e-5 if rng.random() < 0.6 else 1e-4)])  # the latter 4 m in 200 m
    bend = rng.normal(0, 1e-4) if rng.random() < 0.5 else rng.choice([-1, 1]) / rng.uniform(300, 1500)  # 1/m
    side = Polynomial([0, rng.normal(0, 0.01), bend / 2, rng.normal(0, 2e-6) / 6])
    side *= min(1, 45 / abs(side(150)))  # its far end stays in the image
    # Labels end at some distance, on flat ground 6 to 40 rows below the horizon; uphill that is above it.
    reach = camera.focal * camera.height / rng.uniform(6, 40)
    return Route(camera, side, rise, offsets, reach)


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
