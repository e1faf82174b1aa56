"""Annotated shapes and how they become pixels.

Coordinates are those of the annotation tools: in pixels, x to the right, y down, the origin in the upper left corner of
the image, so that the pixel in row r and column c covers x from c to c + 1 and y from r to r + 1. A pixel belongs to a
shape when its center (c + 0.5, r + 0.5) lies inside, for a polygon that crosses itself by the even-odd rule; a center
exactly on an edge belongs to what is to the right of the edge, or below a level one, so that shapes with a common edge
neither overlap nor leave a gap. Lines are the exception: they are drawn by OpenCV as the lanes of the TuSimple command.

A region is a function from the image's size (h, w) to a `PlacedMask`; ValueError if it can't be of that image.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data.files import IGNORED
from run.command import UserError

MOST = IGNORED - 1  # instances that 16 bits can number
RESERVED = {"_background_": 0, "__ignore__": IGNORED}  # labelme's names of holes and of what counts as nothing


class PlacedMask(NamedTuple):
    """Pixels in an image."""

    pixels: np.ndarray  # (a, b) bool
    top: int  # row and column of the upper left of them
    left: int


EMPTY = PlacedMask(np.zeros((0, 0), bool), 0, 0)


@dataclass
class AnnotatedShape:
    """One annotated shape."""

    instance: Hashable  # shapes with the same one are parts of one instance
    names: tuple  # of its class: its name and, if it has one, its id, both str; () for what concerns all classes
    region: Callable
    where: str  # file and place in it, for messages
    depth: int = 0  # what has a higher one lies on top, of the same depth what comes later
    value: int | None = None  # of what is no instance: 0 for a hole, or IGNORED

    def __post_init__(self):
        if self.names and self.names[0] in RESERVED:
            self.value, self.names = RESERVED[self.names[0]], ()  # of no class


@dataclass
class Painted:
    """Ids of an image, and how they came about."""

    label: np.ndarray  # (h, w) uint16
    counts: Counter  # what the summary says: see `paint`
    errors: list = field(default_factory=list)  # UserErrors of shapes that can't be of this image


@dataclass
class AnnotatedImage:
    """One image with its annotation: either `shapes` or `label`."""

    name: str  # of the image, "/" between folders
    where: str  # the annotation, for messages
    file: Path | None = None  # the image file
    read: Callable | None = None  # gives the bytes of an image that is no file
    size: tuple | None = None  # (h, w) that the annotation states
    shapes: list = field(default_factory=list)
    label: Callable | None = None  # gives a `Painted`
    left_out: Counter = field(default_factory=Counter)  # {reason: number of objects}
    errors: list = field(default_factory=list)  # UserErrors of shapes that can't be used
    is_annotated: bool = True  # False: nobody says what it shows

    def add(self, read, *args):
        """Add what `read(*args)` gives: an `AnnotatedShape`, or the reason to leave it out; or its UserError."""
        try:
            shape = read(*args)
        except UserError as error:
            self.errors.append(error)
            return
        if isinstance(shape, str):
            self.left_out[shape] += 1
        else:
            self.shapes.append(shape)


def check_bounds(points, size):
    """Raise ValueError unless (N, 2) points are in the image or not further out than it is wide or high."""
    extent = np.array([size[1], size[0]])
    outside = ((points < -extent) | (points > 2 * extent)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        raise ValueError(
            f"found the point ({x:g}, {y:g}), expected it within {size[1]}x{size[0]} pixels; "
            "fix it, or name the images it was drawn on"
        )


def fill_polygon(points, size):
    """Region of a polygon: (N, 2) float64 x and y of its corners, N >= 3."""
    check_bounds(points, size)
    height, width = size
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    # an edge is crossed by the rows whose center is at or below its upper end and above its lower end
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(int)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(int)
    count = last - first
    if not count.any():
        return EMPTY
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x[edge] + (row + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    top, left = row.min(), column.min()
    # every crossing turns what is right of it from outside to inside or back
    turns = np.zeros((row.max() - top + 1, column.max() - left + 1), bool)
    np.logical_xor.at(turns, (row - top, column - left), True)
    return PlacedMask(np.logical_xor.accumulate(turns, axis=1)[:, :-1], top, left)


def fill_polygons(polygons, size):
    """Region that several polygons cover together."""
    if len(polygons) == 1:
        return fill_polygon(polygons[0], size)
    covered = np.zeros(size, bool)
    for points in polygons:
        mask, top, left = fill_polygon(points, size)
        covered[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    return PlacedMask(covered, 0, 0)


def box(left, top, right, bottom, degrees=0.0):
    """Region of a box whose corners may come in any order, turned clockwise around its center."""
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    center = points.mean(axis=0)
    return partial(fill_polygon, (points - center) @ turn + center if degrees else points)


def fill_ellipse(center, radii, degrees, size):
    """Region of an ellipse: (2,) x and y of its center, (2,) radii > 0, turned clockwise."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    reach = np.hypot([radii[0] * cos, radii[0] * sin], [radii[1] * sin, radii[1] * cos])
    check_bounds(np.array([center - reach, center + reach]), size)
    left, top = np.maximum(np.floor(center - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(center + reach), (size[1], size[0])).astype(int)
    if left >= right or top >= bottom:
        return EMPTY
    x = np.arange(left, right) + 0.5 - center[0]
    y = (np.arange(top, bottom) + 0.5 - center[1])[:, None]
    inside = ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2 < 1
    return PlacedMask(inside, top, left)


def draw_line(points, width, size):
    """Region of a line through (N, 2) points, N >= 1, of the `width` that OpenCV draws (2 pixels more, if odd)."""
    check_bounds(points, size)
    pixels = np.floor(points).astype(np.int32)
    left, top = np.clip(pixels.min(axis=0) - width, 0, (size[1], size[0]))
    right, bottom = np.clip(pixels.max(axis=0) + width + 1, 0, (size[1], size[0]))
    if left >= right or top >= bottom:
        return EMPTY
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.polylines(mask, [pixels - (left, top)], isClosed=False, color=1, thickness=width)
    return PlacedMask(mask.astype(bool), top, left)


def place_mask(mask, top, left, size):
    """Region of a given (a, b) bool mask; ValueError if it isn't all in the image."""
    check_inside(mask.shape, top, left, size)
    return PlacedMask(mask, top, left)


def place_runs(counts, shape, top, left, size):
    """Region of run lengths, see `expand_runs`; ValueError if it isn't all in the image."""
    check_inside(shape, top, left, size)  # before they are expanded, as a wrong shape may be a huge one
    return PlacedMask(expand_runs(counts, shape), top, left)


def check_inside(shape, top, left, size):
    """Raise ValueError unless a mask of (a, b) pixels is in the image."""
    height, width = shape
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"found a mask of {width}x{height} pixels at ({left}, {top}), expected it in {size[1]}x{size[0]}; fix it"
        )


def expand_runs(counts, shape):
    """Mask of run lengths, the first of which is of background: (a, b) bool, row by row.

    Raises:
        ValueError: a negative length, or another sum than a * b.
    """
    if any(count < 0 for count in counts) or sum(counts) != shape[0] * shape[1]:
        raise ValueError(f"found run lengths of {sum(counts)} pixels, expected {shape[0] * shape[1]}; fix it")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(shape)


def paint(shapes, size):
    """Paint shapes, upper ones over lower ones.

    Args:
        shapes: list of `AnnotatedShape`.
        size: (h, w).

    Returns:
        `Painted`: the instances that are seen, numbered from 1 in the order of their first shapes, and `IGNORED`;
        counts of "holes" and of instances: "covered" in part by a later one, "hidden" wholly, "empty", without a pixel.

    Raises:
        UserError: too many instances.
    """
    shapes = sorted(shapes, key=lambda shape: shape.depth)
    numbers = {}
    for shape in shapes:
        if shape.value is None:
            numbers.setdefault(shape.instance, len(numbers) + 1)
    if len(numbers) > MOST:
        raise UserError(f"{shapes[0].where}: found {len(numbers)} instances in one image, expected at most {MOST}")
    label = np.zeros(size, np.uint16)
    drawn, covered, failed = np.zeros((3, IGNORED + 1), bool)
    errors = []
    for shape in shapes:
        number = numbers[shape.instance] if shape.value is None else shape.value
        try:
            mask, top, left = shape.region(size)
        except ValueError as error:
            errors.append(error if isinstance(error, UserError) else UserError(f"{shape.where}: {error}"))
            failed[number] = True
            continue
        window = label[top : top + mask.shape[0], left : left + mask.shape[1]]
        below = window[mask]
        if shape.value is None:
            covered[below[below != number]] = True
        drawn[number] |= below.size > 0
        window[mask] = number
    instances = np.arange(1, len(numbers) + 1)
    visible = np.bincount(label.ravel(), minlength=IGNORED + 1) > 0
    new_numbers = np.zeros(IGNORED + 1, np.uint16)
    new_numbers[instances] = np.where(visible, np.cumsum(visible) - visible[0], 0)[instances]
    new_numbers[IGNORED] = IGNORED
    groups = {"covered": covered & visible, "hidden": drawn & ~visible, "empty": ~drawn & ~failed}
    counts = Counter({name: int(members[instances].sum()) for name, members in groups.items()})
    counts["holes"] = sum(shape.value == 0 for shape in shapes)
    return Painted(new_numbers[label], counts, errors)


def count_touching(label):
    """Number of instances of (h, w) ids that share a pixel's edge or corner with another one."""
    label = np.where(label == IGNORED, 0, label)
    touching = []
    for ids, neighbors in (
        (label[:, :-1], label[:, 1:]),
        (label[:-1], label[1:]),
        (label[:-1, :-1], label[1:, 1:]),
        (label[:-1, 1:], label[1:, :-1]),
    ):
        meet = (ids != neighbors) & (ids > 0) & (neighbors > 0)
        touching += [ids[meet], neighbors[meet]]
    return np.unique(np.concatenate(touching)).size
