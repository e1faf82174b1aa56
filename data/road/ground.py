"""Which part of the road each pixel of the ground shows, and the fraction of it that stripes and dashes cover there."""

from typing import NamedTuple

import numpy as np

from .geometry import HEIGHT, WIDTH


class Ground(NamedTuple):
    """What the pixels from the road's top row to the bottom show of the ground, float32."""

    u: np.ndarray  # (rows, WIDTH), lateral position, m
    s: np.ndarray  # (rows, WIDTH), distance, m
    scale: np.ndarray  # (rows, 1), pixels per meter across the road
    footprint: np.ndarray  # (rows, 1), meters along the road that one row covers


def ground_of(road):
    """Ground of a Road."""
    rows = np.arange(road.top, HEIGHT)
    pixels, meters = road.knots
    u = np.stack([np.interp(np.arange(WIDTH), pixels[row], meters) for row in rows]).astype(np.float32)
    columns = [np.float32(a[rows])[:, None] for a in (road.distance, road.scale, -np.gradient(road.distance))]
    return Ground(u, np.ascontiguousarray(np.broadcast_to(columns[0], u.shape)), *columns[1:])


def fade(size, footprint):
    """How much of a detail of `size` m survives where one pixel row covers `footprint` m."""
    return np.clip(size / footprint, 0, 1)


def dash_fraction(start, stop, period, length, phase):
    """Fraction of each stretch start..stop (m) that is covered by dashes of `length` repeated every `period` m."""

    def painted(s):
        whole = np.floor((s + phase) / period)
        return whole * length + np.minimum(s + phase - whole * period, length)

    return (painted(stop) - painted(start)) / np.maximum(stop - start, 1e-6)


def stripe_fraction(distance, half_width, ramp):
    """Fraction of each pixel, widened to `ramp` pixels for slanted lines, that a stripe around distance 0 covers."""
    fraction = np.minimum(distance + ramp / 2, half_width) - np.maximum(distance - ramp / 2, -half_width)
    return np.clip(fraction / ramp, 0, 1)


def band(x, low, high, sharpness):
    """1 where low < x < high, 0 outside, with edges 1 / sharpness wide."""
    return np.clip((x - low) * sharpness + 0.5, 0, 1) * np.clip((high - x) * sharpness + 0.5, 0, 1)
