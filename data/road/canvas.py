"""Noise, random colors, brushes, and the scene that the things on a road are drawn into.

Colors are RGB in 0..1, float32; a canvas is (HEIGHT, WIDTH, 3) uint8, RGB; brushes change it in place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH, Road

NOISE_SIDE = 1024  # px


@lru_cache
def noise_tile(exponent):
    """Periodic (NOISE_SIDE, NOISE_SIDE) float32 noise, mean 0, deviation 1, of amplitude 1 / frequency ** exponent."""
    spectrum = np.fft.rfft2(np.random.default_rng(NOISE_SIDE).standard_normal((NOISE_SIDE, NOISE_SIDE)))
    frequency = np.hypot(np.fft.fftfreq(NOISE_SIDE)[:, None], np.fft.rfftfreq(NOISE_SIDE)[None])
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(spectrum * frequency**-exponent, (NOISE_SIDE, NOISE_SIDE))
    return (tile / tile.std()).astype(np.float32)


def random_noise(rng, exponent, x, y):
    """Noise tile sampled at float32 maps of tile pixels, shifted at random."""
    shift = rng.integers(0, NOISE_SIDE, 2).astype(np.float32)
    return cv2.remap(noise_tile(exponent), x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def random_color(rng, low, high):
    """Random RGB between two colors, one random fraction for all channels, so that the hue stays as chosen."""
    return np.float32(low) + np.float32(rng.random()) * (np.float32(high) - np.float32(low))


def fixed_point(points):
    """Float pixel points in OpenCV's form with 4 fractional bits."""
    return np.int32(np.clip(points, -1500, 2000) * 16)


def fill(canvas, points, tone):
    """Fill an anti-aliased polygon given by float pixel points with an 8-bit color."""
    cv2.fillPoly(canvas, [fixed_point(points)], tone, cv2.LINE_AA, 4)


def stroke(canvas, points, tone, width):
    """Draw an anti-aliased line through float pixel points in an 8-bit color."""
    cv2.polylines(canvas, [fixed_point(points)], False, tone, max(1, int(width)), cv2.LINE_AA, 4)


def draw_glow(canvas, point, radius, rgb, strength=1.0):
    """Add a lamp with its halo: white in the middle where it's bright."""
    x, y = np.asarray(point, float)
    reach = 4 * radius + 2
    x0, x1 = int(max(x - reach, 0)), int(min(x + reach, WIDTH))
    y0, y1 = int(max(y - reach, 0)), int(min(y + reach, HEIGHT))
    if x1 <= x0 or y1 <= y0:
        return
    square = ((np.arange(x0, x1) - x) ** 2 + ((np.arange(y0, y1) - y) ** 2)[:, None]).astype(np.float32) / radius**2
    core, halo = np.exp(-2 * square), 0.25 * np.exp(-0.45 * square)
    light = (core + halo)[..., None] * np.float32(rgb) * 255 + core[..., None] * 120
    region = canvas[y0:y1, x0:x1]
    region[:] = np.minimum(region + strength * light, 255)


@dataclass
class Scene:
    """A road, its light, and the canvas on which they are drawn."""

    road: Road
    layout: dict  # of layout.random_layout
    light: dict  # of weather.random_light
    canvas: np.ndarray  # (HEIGHT, WIDTH, 3) uint8, RGB
    shade: np.ndarray  # (HEIGHT - road.top, WIDTH) float, fraction of light on the ground

    def tone(self, rgb, distance):
        """8-bit color of a thing at a distance (m) in the scene's haze."""
        clear, night = np.exp(-distance / self.light["fog"]), self.light["night"]
        if night:  # what the own headlights and the street lamps show of it
            rgb = np.asarray(rgb) * (night["ambient"] + 0.8 / (1 + (distance / night["reach"]) ** 2))
        hazy = np.asarray(rgb) * clear + self.light["horizon"] * (1 - clear)
        return tuple(int(v) for v in np.clip(255 * hazy, 0, 255))

    def fill(self, points, rgb, distance):
        """Fill a polygon of pixel points in the color of a thing at a distance (m)."""
        fill(self.canvas, points, self.tone(rgb, distance))

    def stroke(self, points, rgb, distance, width):
        """Draw a line through pixel points, `width` px, in the color of a thing at a distance (m)."""
        stroke(self.canvas, points, self.tone(rgb, distance), width)

    def darken(self, points, strength, soft):
        """Multiply a polygon of pixel points by 1 - strength, its border blurred over `soft` px."""
        low = np.maximum(np.floor(points.min(0) - 2 * soft), 0).astype(int)
        high = np.minimum(np.ceil(points.max(0) + 2 * soft), (WIDTH, HEIGHT)).astype(int)
        if (high - low).min() < 1:
            return
        mask = np.zeros((high - low)[::-1], np.uint8)
        fill(mask, points - low, 255)
        blurred = cv2.GaussianBlur(mask, (0, 0), max(0.3, soft / 2)).astype(np.float32)[..., None]
        region = self.canvas[low[1] : high[1], low[0] : high[0]]
        region[:] = region * (1 - blurred * np.float32(strength / 255))


class Thing(NamedTuple):
    """A thing to draw into a scene: `draw(rng, scene, *arguments)`."""

    distance: float  # m
    draw: Callable
    arguments: tuple
