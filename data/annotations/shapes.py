"""Annotated shapes and how they become pixels.

Coordinates are pixels from the image's upper left corner. A pixel belongs to a shape if its center (column + 0.5,
row + 0.5) lies inside by the even-odd rule; a center on an edge belongs to what is right of it, or below, so that
shapes with a common edge neither overlap nor leave a gap.

A region is a function from the image's size (h, w) to (mask, top, left): (a, b) bool and the place of its upper left
pixel. It raises ValueError if it can't be of that image.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from data.files import IGNORED
from run.command import UserError

from .sources import require, shorten

MOST = IGNORED - 1  # instances that 16 bits can number
RESERVED = {"_background_": 0, "__ignore__": IGNORED}  # labelme's names


@dataclass
class AnnotatedShape:
    instance: Hashable  # equal for parts of one instance
    name: str | None  # of its class
    region: Callable
    depth: int = 0  # the highest is on top, of the same depth the last
    value: int | None = None  # of what is no instance: 0 for a hole, or IGNORED
    where: str = ""  # for messages: file and place in it

    def __post_init__(self):
        if self.name in RESERVED:
            self.value, self.name = RESERVED[self.name], None


def check_bounds(points, size):
    """ValueError if (N, 2) points are further out of the image than it is wide or high."""
    extent = np.array(size[::-1])
    outside = ~((points >= -extent) & (points <= 2 * extent)).all(axis=1)  # as nan is
    if outside.any():
        x, y = points[outside][0]
        expected = f"{size[1]}x{size[0]} pixels; fix it or name the images it was drawn on"
        raise ValueError(f"found the point ({x:g}, {y:g}), expected it within {expected}")


def fill_polygon(points, size):
    """Region of a polygon of (N, 2) float64 corners, N >= 3."""
    check_bounds(points, size)
    height, width = size
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    # rows whose center is at or below an edge's upper end and above its lower end cross it
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(int)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(int)
    count = last - first
    if not count.any():
        return np.zeros((0, 0), bool), 0, 0
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x[edge] + (row + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    top, left = row.min(), column.min()
    # a crossing turns what is right of it inside out
    turns = np.zeros((row.max() - top + 1, column.max() - left + 1), bool)
    np.logical_xor.at(turns, (row - top, column - left), True)
    return np.logical_xor.accumulate(turns, axis=1)[:, :-1], top, left


def fill_polygons(polygons, size):
    """Region that several polygons cover together."""
    covered = np.zeros(size, bool)
    for mask, top, left in (fill_polygon(points, size) for points in polygons):
        covered[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    return covered, 0, 0


def box(left, top, right, bottom, degrees=0.0):
    """Region of a box of any two opposite corners, turned clockwise around its center."""
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    center = points.mean(axis=0)
    return partial(fill_polygon, (points - center) @ turn + center if degrees else points)


def fill_ellipse(center, radii, degrees, size):
    """Region of an ellipse: (2,) x and y of its center, (2,) radii, turned clockwise."""
    if min(radii) <= 0:
        raise ValueError("found a radius of 0, expected a larger one; fix it")
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    reach = np.hypot([radii[0] * cos, radii[0] * sin], [radii[1] * sin, radii[1] * cos])
    check_bounds(np.array([center - reach, center + reach]), size)
    left, top = np.maximum(np.floor(center - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(center + reach), size[::-1]).astype(int)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    x, y = x - center[0], y - center[1]
    return ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2 < 1, top, left


def draw_line(points, width, size):
    """Region of a line through (N, 2) points, of the `width` that OpenCV draws (2 pixels more, if odd)."""
    check_bounds(points, size)
    mask = np.zeros(size, np.uint8)
    cv2.polylines(mask, [np.floor(points).astype(np.int32)], isClosed=False, color=1, thickness=width)
    return mask.astype(bool), 0, 0


def place_mask(mask, top, left, size):
    """Region of an (a, b) bool mask; ValueError if it isn't all in the image."""
    height, width = mask.shape
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        expected = f"expected them in {size[1]}x{size[0]}; fix it"
        raise ValueError(f"found {width}x{height} pixels at ({left}, {top}), {expected}")
    return mask, top, left


def expand_runs(counts, shape):
    """(a, b) bool of run lengths row by row, the first of background; or ValueError."""
    total = shape[0] * shape[1]
    lengths = np.array(counts)
    if lengths.dtype.kind != "i" or not ((lengths >= 0) & (lengths <= total)).all() or lengths.sum() != total:
        raise ValueError(f"found run lengths {shorten(counts)}, expected whole numbers that add up to {total}; fix it")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(shape)


def paint(shapes, size):
    """Paint `AnnotatedShape`s: ids, (h, w) uint16, and the name of each's class.

    Instances that are seen are numbered from 1 in the order of their first shapes. UserError for too many, or one that
    can't be of this image.
    """
    shapes, names = sorted(shapes, key=lambda shape: shape.depth), {}
    for shape in shapes:
        if shape.value is None:
            names.setdefault(shape.instance, shape.name)
    if len(names) > MOST:
        raise UserError(f"{shapes[0].where}: found {len(names)} instances in one image, expected at most {MOST}")
    numbers = {instance: number for number, instance in enumerate(names, 1)}
    label = np.zeros(size, np.uint16)
    for shape in shapes:
        mask, top, left = require(shape.where, shape.region, size)
        window = label[top : top + mask.shape[0], left : left + mask.shape[1]]
        window[mask] = numbers[shape.instance] if shape.value is None else shape.value
    seen = np.setdiff1d(label, (0, IGNORED))
    new_numbers = np.zeros(IGNORED + 1, np.uint16)
    new_numbers[seen], new_numbers[IGNORED] = np.arange(1, len(seen) + 1), IGNORED
    classes = list(names.values())
    return new_numbers[label], [classes[number - 1] for number in seen]


def part_components(label):
    """Number the connected pieces of all ids anew, (h, w) uint16; a common corner connects."""
    parted, count = np.where(label == IGNORED, label, 0).astype(np.uint16), 0
    for identity in np.setdiff1d(label, (0, IGNORED)):
        number, pieces = cv2.connectedComponents((label == identity).astype(np.uint8), connectivity=8)
        if count + number > MOST:
            raise ValueError(f"found more than {MOST} pieces, expected fewer; leave out --components")
        parted[pieces > 0] = pieces[pieces > 0] + count
        count += number - 1
    return parted


def count_touching(label):
    """Number of instances of (h, w) ids that touch another one, at a corner too."""
    label = np.where(label == IGNORED, 0, label).astype(np.uint16)
    around = np.ones((3, 3), np.uint8)
    highest, lowest = cv2.dilate(label, around), cv2.erode(np.where(label == 0, IGNORED, label), around)
    return np.unique(label[(label > 0) & ((highest > label) | (lowest < label))]).size
