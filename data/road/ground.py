"""The ground of a scene: pavement, lane lines, verges and shadows.

Texture, paint and shadow are functions of a pixel's lateral position u and its distance s along the road. A surface is
(rows, WIDTH, 3) float32 and is changed in place.
"""

from dataclasses import dataclass

import numpy as np

from .canvas import HEIGHT, NOISE_SIDE, WIDTH, random_color, random_noise
from .geometry import LANE_WIDTH
from .weather import draw_sky


def coverage(x, low, high, pixel):
    """Fraction of a stretch of length `pixel` around x between low and high."""
    return np.clip((np.minimum(x + pixel / 2, high) - np.maximum(x - pixel / 2, low)) / pixel, 0, 1)


def dash_coverage(x, period, dash, pixel):
    """As `coverage`, of dashes that begin at multiples of `period`."""

    def painted(x):
        whole = np.floor(x / period)
        return whole * dash + np.minimum(x - whole * period, dash)

    return (painted(x + pixel / 2) - painted(x - pixel / 2)) / pixel


@dataclass(frozen=True)
class Ground:
    """What the pixels from the road's top row down show of the ground, float32, m."""

    u: np.ndarray  # (rows, WIDTH), lateral position
    ahead: np.ndarray  # (rows, 1), distance
    scale: np.ndarray  # (rows, 1), px per m across the road
    footprint: np.ndarray  # (rows, 1), how much of the road one row covers
    travelled: np.float32  # how far the camera has come
    s: np.ndarray  # (rows, 1), distance from the beginning of the drive

    def across(self, low, high):
        """Fraction of a pixel between two lateral positions."""
        return coverage(self.u, low, high, 1 / self.scale)

    def noise(self, rng, exponent, across, along):
        """(rows, WIDTH) noise of so many of its pixels per m across and along the road."""
        moved = self.travelled * along % NOISE_SIDE
        return random_noise(rng, exponent, self.u * np.float32(across), self.ahead * np.float32(along) + moved)

    def visible(self, size):
        """How much of a detail of `size` a row shows."""
        return np.clip(size / self.footprint, 0, 1)


def project_ground(road, travelled):
    travelled = np.float32(travelled)
    arrays = road.center, road.scale, road.distance, -np.gradient(road.distance)
    center, scale, ahead, footprint = (np.float32(array[road.top : HEIGHT, None]) for array in arrays)
    u = (np.arange(WIDTH, dtype=np.float32) - center) / scale
    return Ground(u, ahead, scale, footprint, travelled, ahead + travelled)


def blend(surface, alpha, rgb):
    surface += alpha[..., None] * (np.float32(rgb) - surface)


def draw_pavement(rng, ground, road, concrete):
    """Surface with slabs, wheel tracks, stains and grain."""
    gray = ((0.36, 0.36, 0.34), (0.62, 0.61, 0.57)) if concrete else ((0.13, 0.135, 0.14), (0.4, 0.4, 0.4))
    borders = np.r_[road.offsets[0] - LANE_WIDTH, road.offsets, road.offsets[-1] + LANE_WIDTH]
    lane = np.interp(ground.u, borders, np.arange(len(borders))).astype(np.float32)
    index = lane.astype(int)
    inside = lane - index  # 0 to 1, left to right
    slabs = 1 + rng.normal(0, 0.07 if concrete else 0.03, (len(borders), 1))
    slabs = slabs + rng.normal(0, 0.025 if concrete else 0.004, (len(borders), 128))
    tone = slabs.astype(np.float32)[index, (ground.s / 4.6).astype(int) % 128]

    blotch = ground.noise(rng, 1.3, 12, rng.uniform(1, 5))
    middle, half = rng.uniform(0.45, 0.55), rng.uniform(0.08, 0.2)
    stain = np.float32(rng.uniform(0, 0.3)) * np.exp(-(((inside - middle) / half) ** 2))
    tracks = np.float32(rng.uniform(-0.06, 0.14)) * np.exp(-(((np.abs(inside - 0.5) - 0.25) / 0.09) ** 2))
    tone *= (1 - stain * np.clip(1 + 0.5 * blotch, 0, 2)) * (1 - tracks)
    streak = ground.noise(rng, 0.9, 45, 0.6) * np.maximum(ground.visible(0.3), 0.25)
    tone *= 1 + rng.uniform(0.02, 0.06) * blotch + rng.uniform(0.01, 0.04) * streak
    tone *= 1 + rng.uniform(0.05, 0.2) * ground.noise(rng, 0.0, 110, 110) * ground.visible(0.012)
    return random_color(rng, *gray) * tone[..., None].astype(np.float32)


def draw_seams(rng, ground, road, layout):
    """Seams between slabs, (rows, WIDTH) float32, 1 = black."""
    dark = np.zeros_like(ground.u)
    if layout.concrete and rng.random() < 0.8:  # across the lanes
        dark += rng.uniform(0.2, 0.7) * dash_coverage(ground.s, 4.6, rng.uniform(0.008, 0.03), ground.footprint)
    if rng.random() < (0.85 if layout.concrete else 0.25):  # between the lanes
        strength, half = rng.uniform(0.3, 0.8), rng.uniform(0.004, 0.014)
        for offset, line in zip(road.offsets, layout.lines, strict=True):
            middle = offset + line.joint
            dark += strength * ground.across(middle - half, middle + half)
    return dark * np.clip(0.75 + 0.35 * ground.noise(rng, 0.7, 40, 15), 0.1, 1)


def draw_line(surface, ground, position, line, worn):
    """Paint of a Line at x = `position` (rows,) px; `worn` is (rows, WIDTH) noise."""
    if line.kind == "dots":
        return
    x, columns = position.astype(np.float32)[:, None], np.arange(WIDTH, dtype=np.float32)
    ramp = np.maximum(1, np.abs(np.gradient(x, axis=0)))  # px that it passes in a row
    half = np.maximum(np.float32(0.5 * line.width) * ground.scale, 0.45)
    paint = line.opacity * np.clip(1.1 - line.wear * (0.9 + 0.6 * worn), 0, 1)
    if line.kind in ("dashed", "dots_dashed"):
        paint *= dash_coverage(ground.s + np.float32(line.phase), line.period, line.dash, ground.footprint)
    apart = np.float32(0.5 * line.width + 0.06) * ground.scale
    for middle in (x - apart, x + apart) if line.kind == "double" else (x,):
        blend(surface, paint * coverage(columns, middle - half, middle + half, ramp), line.color)


def draw_verge(rng, ground):
    """Surface of grass, dirt or gravel."""
    dry = (0.42, 0.34, 0.2), (0.68, 0.58, 0.38), (0.3, 0.25, 0.15)
    green = (0.16, 0.2, 0.08), (0.34, 0.38, 0.18), (0.3, 0.27, 0.14)
    dirt = (0.38, 0.31, 0.24), (0.62, 0.54, 0.44), (0.5, 0.46, 0.4)
    gravel = (0.35, 0.34, 0.32), (0.55, 0.53, 0.5), (0.42, 0.36, 0.28)
    low, high, other = rng.choice([dry, green, dirt, gravel], p=[0.35, 0.25, 0.2, 0.2])
    surface = np.broadcast_to(random_color(rng, low, high), (*ground.u.shape, 3)).copy()
    blend(surface, np.clip(0.5 + 0.5 * ground.noise(rng, 1.2, 20, 8), 0, 1) * np.float32(rng.uniform(0.2, 0.9)), other)
    tone = 1 + 0.22 * ground.noise(rng, 0.6, 60, 25) * ground.visible(0.15) + 0.08 * ground.noise(rng, 0.9, 8, 3)
    return surface * tone[..., None]


def draw_side(rng, surface, ground, outward, side, wobble):
    """A shoulder and the verge, ragged by noise; `outward` (rows, WIDTH): m from the outer line."""
    darker = coverage(outward, rng.uniform(0.15, 0.4), np.inf, 1 / ground.scale)[..., None]
    surface *= 1 + darker * np.float32(rng.uniform(-0.5, 0.1))
    ragged = outward + np.float32(rng.uniform(0.03, 0.15)) * wobble
    blend(surface, coverage(ragged, side.shoulder, np.inf, 1.5 / ground.scale), draw_verge(rng, ground))


def draw_sunlight(rng, ground, outward, side, reach):
    """(rows, WIDTH) in 0..1, sunlight that the sun's `side` leaves: trees, a wall with a shadow of `reach` m."""
    lit, inward = np.ones_like(ground.u), side.shoulder - outward
    if rng.random() < 0.3:
        leaves, edge = 1.5 * ground.noise(rng, 1.5, 30, 10), rng.uniform(1, 9)
        lit *= np.clip(0.5 + (leaves + (inward - edge) / 3) / rng.uniform(0.3, 1.2), 0, 1)
    if side.high > 0 and side.low == 0:
        lit *= coverage(inward, reach, np.inf, 2 / ground.scale)
    return lit


def draw_ground(rng, ground, road, layout, light):
    """Surface of the road and its verges, and the fraction of light there, (rows, WIDTH)."""
    surface = draw_pavement(rng, ground, road, layout.concrete)
    wobble, outward = ground.noise(rng, 1.0, 2, 4), (road.offsets[0] - ground.u, ground.u - road.offsets[-1])
    for number in (0, 1):
        draw_side(rng, surface, ground, outward[number], layout.sides[number], wobble)
    if layout.opposite:
        pavement = random_color(rng, (0.15, 0.15, 0.16), (0.5, 0.5, 0.48))
        blend(surface, ground.across(*layout.opposite), pavement)
    surface *= 1 - draw_seams(rng, ground, road, layout)[..., None]
    worn = ground.noise(rng, 0.8, 40, 12)
    for position, line in zip(road.lines[road.top : HEIGHT].T, layout.lines, strict=True):
        draw_line(surface, ground, position, line, worn)
    number = int(light.sun_side < 0)
    side = layout.sides[number]
    lit = draw_sunlight(rng, ground, outward[number], side, side.high * abs(light.sun_side))
    shade = 1 - np.float32(light.sun) * (1 - lit)
    surface *= 1 - (1 - shade)[..., None] * np.float32([1, 0.97, 0.92])  # the sky makes shadows bluish
    return surface, shade


def draw_background(rng, road, layout, light, travelled, pan):
    """Sky, hills and ground, (HEIGHT, WIDTH, 3) uint8, and the light on the ground, (rows, WIDTH) float32."""
    sky_rng, ground_rng = rng.spawn(2)
    sky = draw_sky(sky_rng, road.top, light, pan)
    ground = project_ground(road, travelled)
    surface, shade = draw_ground(ground_rng, ground, road, layout, light)
    blend(surface, 1 - np.exp(-ground.ahead / np.float32(light.fog)), light.horizon)
    return (np.clip(np.concatenate([sky, surface]), 0, 1) * 255).astype(np.uint8), shade
