"""Annotated shapes and how they become pixels.

Coordinates are those of the annotation tools: in pixels, x to the right, y down, the origin in the upper left corner of
the image, so that the pixel in row r and column c covers x from c to c + 1 and y from r to r + 1. A pixel belongs to a
shape when its center (c + 0.5, r + 0.5) lies inside, for a polygon that crosses itself by the even-odd rule; a center
exactly on an edge belongs to what is to the right of the edge, or below a level one, so that shapes with a common edge
neither overlap nor leave a gap. Lines are the exception: they are drawn by OpenCV as the lanes of the TuSimple command.

A region is a function from the image's size (h, w) to (mask (a, b) bool, row, column): pixels, and where in the image
the mask's upper left corner lies. It raises ValueError if it can't be of that image.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from run.command import UserError

MOST = 65535  # instances that 16 bits can number
NOTHING = np.zeros((0, 0), bool), 0, 0


class Shape(NamedTuple):
    """One annotated shape."""

    instance: Hashable  # shapes with the same one are parts of one instance
    names: tuple  # of its class: its name and, if it has one, its id, both str
    region: Callable
    where: str  # file and place in it, for messages


@dataclass
class Entry:
    """One image with its annotation: either `shapes`, from below to the top, or `label`."""

    name: str  # of the image, "/" between folders
    read: Callable  # gives the bytes of the image file
    where: str  # the annotation, for messages
    file: Path | None = None  # the image file, if it is one
    size: tuple | None = None  # (h, w) that the annotation states
    shapes: list = field(default_factory=list)
    label: Callable | None = None  # gives what `paint` gives
    left_out: Counter = field(default_factory=Counter)  # {reason: number of objects}


def check_bounds(points, size):
    """Raise ValueError unless (N, 2) points are in the image or not further out than it is wide or high."""
    extent = np.array([size[1], size[0]])
    if ((points < -extent) | (points > 2 * extent)).any():
        x, y = points[((points < -extent) | (points > 2 * extent)).any(axis=1)][0]
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
        return NOTHING
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x[edge] + (row + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    top, left = row.min(), column.min()
    # every crossing turns what is right of it from outside to inside or back
    turns = np.zeros((row.max() - top + 1, column.max() - left + 1), bool)
    np.logical_xor.at(turns, (row - top, column - left), True)
    return np.logical_xor.accumulate(turns, axis=1)[:, :-1], top, left


def fill_polygons(polygons, size):
    """Region that several polygons cover together."""
    parts = [fill_polygon(points, size) for points in polygons]
    top, left = min(row for _, row, _ in parts), min(column for _, _, column in parts)
    bottom = max(row + mask.shape[0] for mask, row, _ in parts)
    right = max(column + mask.shape[1] for mask, _, column in parts)
    whole = np.zeros((bottom - top, right - left), bool)
    for mask, row, column in parts:
        whole[row - top : row - top + mask.shape[0], column - left : column - left + mask.shape[1]] |= mask
    return whole, top, left


def box(left, top, right, bottom, degrees=0.0):
    """Region of a box whose corners may come in any order, turned clockwise around its middle."""
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = points.mean(axis=0)
    return partial(fill_polygon, (points - middle) @ turn + middle if degrees else points)


def fill_ellipse(middle, radii, degrees, size):
    """Region of an ellipse: (2,) x and y of its middle, (2,) radii > 0, turned clockwise."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    reach = np.hypot([radii[0] * cos, radii[0] * sin], [radii[1] * sin, radii[1] * cos])
    check_bounds(np.array([middle - reach, middle + reach]), size)
    left, top = np.maximum(np.floor(middle - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + reach), (size[1], size[0])).astype(int)
    if left >= right or top >= bottom:
        return NOTHING
    x = np.arange(left, right) + 0.5 - middle[0]
    y = (np.arange(top, bottom) + 0.5 - middle[1])[:, None]
    return ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2 < 1, top, left


def draw_line(points, width, size):
    """Region of a line through (N, 2) points, N >= 1, of the `width` that OpenCV draws (2 pixels more, if odd)."""
    check_bounds(points, size)
    pixels = np.floor(points).astype(np.int32)
    left, top = np.clip(pixels.min(axis=0) - width, 0, (size[1], size[0]))
    right, bottom = np.clip(pixels.max(axis=0) + width + 1, 0, (size[1], size[0]))
    if left >= right or top >= bottom:
        return NOTHING
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.polylines(mask, [pixels - (left, top)], isClosed=False, color=1, thickness=width)
    return mask.astype(bool), top, left


def place_mask(mask, top, left, size):
    """Region of a given (a, b) bool mask; ValueError if it isn't all in the image."""
    height, width = mask.shape
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"found a mask of {width}x{height} pixels at ({left}, {top}), expected it in {size[1]}x{size[0]}; fix it"
        )
    return mask, top, left


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
    """Paint shapes, later ones over earlier ones.

    Args:
        shapes: list of `Shape`.
        size: (h, w).

    Returns:
        (h, w) uint16, the instances that are seen numbered from 1 in the order of their first shapes; Counter of
        instances: "covered" in part by a later one, "hidden" wholly, and "empty", without a pixel center.

    Raises:
        UserError: a shape that can't be of this image, or too many instances.
    """
    numbers = {}
    for shape in shapes:
        numbers.setdefault(shape.instance, len(numbers) + 1)
    if len(numbers) > MOST:
        raise UserError(f"{shapes[0].where}: found {len(numbers)} instances in one image, expected at most {MOST}")
    label = np.zeros(size, np.uint16)
    drawn, covered = np.zeros((2, len(numbers) + 1), bool)
    for shape in shapes:
        number = numbers[shape.instance]
        try:
            mask, top, left = shape.region(size)
        except ValueError as error:
            raise error if isinstance(error, UserError) else UserError(f"{shape.where}: {error}") from None
        window = label[top : top + mask.shape[0], left : left + mask.shape[1]]
        below = window[mask]
        covered[below[below != number]] = True
        drawn[number] |= below.size > 0
        window[mask] = number
    seen = np.bincount(label.ravel(), minlength=len(drawn)) > 0
    seen[0] = False
    new = np.where(seen, np.cumsum(seen), 0).astype(np.uint16)
    counts = {"covered": covered[1:] & seen[1:], "hidden": drawn[1:] & ~seen[1:], "empty": ~drawn[1:]}
    return new[label], Counter({name: int(found.sum()) for name, found in counts.items()})


def count_touching(label):
    """Number of instances of (h, w) ids that share a pixel's edge or corner with another one."""
    found = []
    for one, other in (
        (label[:, :-1], label[:, 1:]),
        (label[:-1], label[1:]),
        (label[:-1, :-1], label[1:, 1:]),
        (label[:-1, 1:], label[1:, :-1]),
    ):
        meet = (one != other) & (one > 0) & (other > 0)
        found += [one[meet], other[meet]]
    return np.unique(np.concatenate(found)).size
