"""Lane geometry of a road, as a pinhole camera on it sees it; places in the image are px."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from .canvas import WIDTH

ROAD_ROWS = 1000  # those past HEIGHT hold the near ends of cars and barriers beside the camera
LANE_WIDTH = 3.65  # m, U.S. freeways


@dataclass(frozen=True)
class Road:
    """What a camera sees of a road; (ROAD_ROWS,) floats are of the image's rows."""

    center: np.ndarray  # (ROAD_ROWS,), x of the lateral position 0, px
    scale: np.ndarray  # (ROAD_ROWS,), px per m across the road
    distance: np.ndarray  # (ROAD_ROWS,), along the road, m, falling
    offsets: np.ndarray  # (N,), rising lateral position of the lane lines, m, 0 = the camera
    top: int  # first row with road
    labeled_from: int  # first row with labeled lines

    @property
    def lines(self):
        """x of the lane lines, left to right, (ROAD_ROWS, N) px."""
        return self.center[:, None] + self.scale[:, None] * self.offsets

    def row_at(self, distance):
        """Float row of the ground at a distance."""
        return np.interp(-np.asarray(distance, float), -self.distance[self.top :], np.arange(self.top, ROAD_ROWS))

    def scale_at(self, distance):
        """px per m across the road at a distance."""
        return np.interp(self.row_at(distance), np.arange(ROAD_ROWS), self.scale)

    def project(self, offset, height, distance):
        """Image points (..., 2) of points `offset` aside, `height` above the road, `distance` ahead."""
        row, scale = self.row_at(distance), self.scale_at(distance)
        x = np.interp(row, np.arange(ROAD_ROWS), self.center) + scale * offset
        return np.stack(np.broadcast_arrays(x, row - scale * height), axis=-1)


@dataclass(frozen=True)
class Route:
    """A freeway and the camera that drives along it."""

    focal: float  # px
    height: float  # m, of the camera above the road
    horizon: float  # row
    middle: float  # column straight ahead
    side: Polynomial  # m to the right at a distance, from the camera at its start
    rise: Polynomial  # m up
    offsets: np.ndarray  # (N,), as a Road's
    reach: float  # m ahead, as far as lines are labeled

    def pan(self, travelled):
        """px that the camera has turned to the right after `travelled` m."""
        slope = self.side.deriv()
        return self.focal * (slope(travelled) - slope(0))

    def road_after(self, travelled):
        """Road that the camera sees after `travelled` m."""
        ahead = np.geomspace(1.5, 450, 3000)
        side, rise = (follow(course, travelled)(ahead) for course in (self.side, self.rise))
        row = self.horizon + self.focal * (self.height - rise) / ahead
        visible = np.minimum.accumulate(row) == row  # the rest lies behind a crest
        ahead, row, side = ahead[visible], row[visible], side[visible]
        distance = np.interp(np.arange(ROAD_ROWS), row[::-1], ahead[::-1])
        scale = self.focal / distance
        center = self.middle + scale * np.interp(distance, ahead, side)
        top = int(np.ceil(row[-1]))
        labeled_from = int(max(top + 4, np.interp(self.reach, ahead, row)))
        return Road(center, scale, distance, self.offsets, top, labeled_from)


def follow(course, travelled):
    """A Polynomial as seen `travelled` m farther, from a camera that has turned with it."""
    moved = course(Polynomial([travelled, 1]))
    return Polynomial([*course.coef[:2], *moved.coef[2:]])


def random_offsets(rng):
    """Lateral positions of two to five lines, the camera about in the middle of a lane."""
    left, right = rng.choice([(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], p=[0.08, 0.12, 0.12, 0.36, 0.16, 0.16])
    # 22 % (0313, 0601) or 35 % (0531) of TuSimple's lanes beside the car's differ in width from it by more than 15 %;
    # 98 % of 0531's have 0.53 to 1.8 times its width
    widths = rng.normal(1, 0.05, left + right)
    unusual = (rng.random(left + right) < 0.25) & (np.arange(left + right) != left)
    offsets = np.cumsum(rng.uniform(3.3, 3.9) * np.where(unusual, rng.uniform(0.6, 1.9, left + right), widths))
    aside = rng.normal(0, 0.25) if rng.random() < 0.85 else rng.uniform(-1.7, 1.7)  # keeping or changing the lane
    return offsets + aside - (offsets[left - 1] + offsets[left]) / 2


def random_route(rng):
    """Random freeway, straight or bent, uphill or downhill, and a camera as TuSimple's."""
    focal, height, horizon = rng.uniform(1000, 1650), rng.uniform(1.3, 1.9), rng.uniform(215, 290)
    middle, offsets = WIDTH / 2 + rng.normal(0, 40), random_offsets(rng)
    rise = Polynomial([0, 0, rng.normal(0, 2.5e-5 if rng.random() < 0.6 else 1e-4)])
    bend = rng.normal(0, 1e-4) if rng.random() < 0.5 else rng.choice([-1, 1]) / rng.uniform(300, 1500)  # 1/m
    side = Polynomial([0, rng.normal(0, 0.01), bend / 2, rng.normal(0, 2e-6) / 6])
    side *= min(1, 45 / abs(side(150)))  # its far end stays in the image
    # labels end, on flat ground, 6 to 40 rows below the horizon
    reach = focal * height / rng.uniform(6, 40)
    return Route(focal, height, horizon, middle, side, rise, offsets, reach)
