"""The scene that things are drawn into: its brushes, and their order."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import HEIGHT, WIDTH
from .geometry import Road
from .layout import Layout
from .weather import Light


def fixed_point(points):
    """Points in OpenCV's form with 4 fractional bits."""
    return np.int32(np.clip(points, -1500, 2000) * 16)


@dataclass
class Scene:
    road: Road
    layout: Layout
    light: Light
    canvas: np.ndarray  # (HEIGHT, WIDTH, 3) uint8
    shade: np.ndarray  # (HEIGHT - road.top, WIDTH) float, fraction of light on the ground

    def tone(self, rgb, distance):
        """8-bit color of a thing at a distance, in the haze."""
        clear = np.exp(-distance / self.light.fog)
        hazy = np.asarray(rgb) * clear + self.light.horizon * (1 - clear)
        return np.clip(255 * hazy, 0, 255).astype(int).tolist()

    def fill(self, points, rgb, distance):
        """Fill a polygon of pixel points in such a color."""
        cv2.fillPoly(self.canvas, [fixed_point(points)], self.tone(rgb, distance), cv2.LINE_AA, 4)

    def stroke(self, points, rgb, distance, width):
        """Draw a line of `width` px through pixel points in such a color."""
        tone, width = self.tone(rgb, distance), max(1, int(width))
        cv2.polylines(self.canvas, [fixed_point(points)], False, tone, width, cv2.LINE_AA, 4)

    def darken(self, points, strength, soft):
        """Multiply a polygon of pixel points by 1 - strength; `soft` px are blurred."""
        low = np.clip(points.min(0) - 2 * soft - 1, 0, (WIDTH - 1, HEIGHT - 1)).astype(int)
        high = np.clip(points.max(0) + 2 * soft + 2, low + 1, (WIDTH, HEIGHT)).astype(int)
        mask = np.zeros((high - low)[::-1], np.float32)
        cv2.fillPoly(mask, [fixed_point(points - low)], float(strength), cv2.LINE_8, 4)
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.3, soft / 2))[..., None]
        region = np.s_[low[1] : high[1], low[0] : high[0]]
        self.canvas[region] = self.canvas[region] * (1 - mask)


@dataclass
class Thing:
    """Drawn into a scene by `draw(rng, scene, distance, *arguments)`."""

    distance: float  # ahead at the beginning of a drive
    draw: Callable
    arguments: tuple
    length: float = 0.0
    approach: float = 1.0  # m that it comes nearer per m that the camera drives


def draw_things(rng, scene, things, travelled):
    """Draw Things from far to near, after `travelled` m."""
    placed, nearest, farthest = [], scene.road.distance[-1], scene.road.distance[scene.road.top]
    for thing, own_rng in zip(things, rng.spawn(len(things)), strict=True):
        distance = thing.distance - thing.approach * travelled
        if distance + thing.length > nearest and distance < farthest:  # behind is a crest
            placed.append((distance, own_rng, thing))
    for distance, own_rng, thing in sorted(placed, key=lambda item: -item[0]):
        thing.draw(own_rng, scene, distance, *thing.arguments)
