"""Draws what of the own car is in view at the lower border: hood, dashboard, wipers, bars of a small video.

Everything below the border that the painters return is hidden. Colors are RGB in 0..1, float32.
"""

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH
from .scene import color, noise_at, stroke
from .vehicles import CAR_COLORS

COLUMNS = np.arange(WIDTH, dtype=np.float32)
ACROSS = 2 * COLUMNS / WIDTH - 1  # -1 at the left border, 1 at the right


def draw_border(rng, base, bend):
    """Upper border of a hood or a dashboard, (WIDTH,) float32 rows: an arc, often askew, with a bump or two.

    Args:
        rng: numpy Generator.
        base: row of its middle.
        bend: by how many rows it is lower at the sides.
    """
    power, middle = rng.uniform(1.7, 4), rng.normal(0, 0.15)
    border = base + bend * np.abs(ACROSS - middle) ** power + rng.normal(0, 8) * ACROSS
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])):
        middle, half = rng.uniform(-0.9, 0.9), rng.uniform(0.03, 0.35)
        border -= rng.uniform(3, 22) * np.clip(1.5 - np.abs(ACROSS - middle) / half, 0, 1)
    return border.astype(np.float32)


def cover(image, border, soft, tones):
    """Paint what lies below a border, in place.

    Args:
        image: (HEIGHT, WIDTH, 3) uint8.
        border: (WIDTH,) rows.
        soft: rows over which the border is unsharp.
        tones: function of the first row that returns (HEIGHT - first, WIDTH, 3) float32 in 0..1.
    """
    first = int(np.clip(border.min() - soft - 1, 0, HEIGHT - 1))
    rows = np.arange(first, HEIGHT, dtype=np.float32)[:, None]
    alpha = np.clip((rows - border) / soft + 0.5, 0, 1)[..., None]
    region = image[first:]
    region[:] = region + alpha * (255 * np.clip(tones(first), 0, 1) - region)


def paint_hood(rng, image, border, light):
    """A car's hood below a border, in place: paint, creases, and the sky, trees and lamps that it mirrors."""
    shine, night = rng.uniform(0.1, 0.7), light["night"]
    own = np.float32(rng.choice(CAR_COLORS)) * np.float32(
        rng.uniform(0.5, 1.1) * (0.15 if night else 0.3 + 0.7 * light["objects"])
    )
    gradient, rim = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 1.2)
    creases = [(rng.uniform(-1.2, 1.2), rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.6)) for _ in range(rng.integers(5))]

    def tones(first):
        below = np.arange(first, HEIGHT, dtype=np.float32)[:, None] - border
        depth = below / max(float((HEIGHT - border).max()), 20.0)
        source_y = np.clip(0.5 * HEIGHT - rng.uniform(1.5, 6) * below, 0, HEIGHT - 1)
        source_x = np.broadcast_to(WIDTH / 2 + (COLUMNS - WIDTH / 2) * rng.uniform(0.6, 1.2), below.shape)
        blurred = cv2.GaussianBlur(cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA), (0, 0), 1.5)
        mirror = cv2.remap(blurred, source_x.astype(np.float32) / 4, source_y / 4, cv2.INTER_LINEAR)
        rgb = own * (1 + gradient * depth + rim * np.exp(-np.abs(below) / 5))[..., None]
        for where, slant, strength in creases:
            bar = np.exp(-(((ACROSS - where - slant * depth) / 0.02) ** 2))
            rgb *= 1 + np.float32(strength) * bar[..., None]
        return rgb + np.float32(shine) * (mirror / np.float32(255) - 0.4 * rgb)

    cover(image, border, rng.uniform(1, 5), tones)


def paint_dashboard(rng, image, border, light):
    """A dashboard below a border, in place: dark, grained, with vents, often blurred."""
    own = color(rng, (0.01, 0.01, 0.012), (0.2, 0.19, 0.18)) * np.float32(0.25 if light["night"] else 1)
    grain, rim, slats = rng.uniform(0, 0.3), rng.uniform(-0.4, 1.5), rng.random() < 0.4
    middle, half, pitch = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.5), rng.uniform(8, 25)

    def tones(first):
        rows = np.arange(first, HEIGHT, dtype=np.float32)[:, None]
        below = rows - border
        texture = noise_at(
            rng, 0.7, np.broadcast_to(COLUMNS, below.shape).copy(), np.broadcast_to(rows, below.shape) * 2
        )
        tone = 1 + grain * texture + rim * np.exp(-np.abs(below) / 4) - 0.3 * np.clip(below / 150, 0, 1)
        if slats:
            vent = (np.abs(ACROSS - middle) < half) & (below > 8) & (below < 40) & (COLUMNS % pitch < pitch / 2)
            tone -= 0.7 * vent
        return own * tone[..., None]

    cover(image, border, rng.uniform(1, 7), tones)


def paint_wipers(rng, image, border):
    """Wiper blades that rest above a border, in place: dark and nearly level."""
    for _ in range(rng.integers(1, 3)):
        start, length, rise = rng.uniform(-0.1, 0.8) * WIDTH, rng.uniform(200, 600), rng.uniform(0, 0.12)
        x = np.linspace(start, start + length, 8)
        y = np.interp(x, COLUMNS, border) + rng.uniform(-8, 12) - rise * (x - start) * rng.choice([-1, 1])
        tone = tuple(int(v) for v in 255 * color(rng, (0.01, 0.01, 0.01), (0.15, 0.15, 0.16)))
        stroke(image, np.stack([x, y], axis=1), tone, rng.uniform(2, 8))


def paint_own_car(rng, image, light):
    """Hood, dashboard, both or nothing of the own car at the lower border, and black bars of a video, in place.

    Args:
        rng: numpy Generator.
        image: (HEIGHT, WIDTH, 3) uint8, RGB.
        light: dict of `scene.draw_light`.

    Returns:
        (WIDTH,) float, row per column at and below which the road is hidden; HEIGHT where nothing hides it.
    """
    kind = str(rng.choice(["none", "hood", "dashboard", "both"], p=[0.4, 0.3, 0.15, 0.15]))
    lowest = np.full(WIDTH, float(HEIGHT), np.float32)
    if kind in ("hood", "both"):
        border = draw_border(rng, rng.uniform(0.8, 0.97) * HEIGHT, rng.uniform(0, 70))
        paint_hood(rng, image, border, light)
        lowest = np.minimum(lowest, border)
    if kind in ("dashboard", "both"):
        base = rng.uniform(0.93, 0.99) if kind == "both" else rng.uniform(0.82, 0.98)
        border = draw_border(rng, base * HEIGHT, rng.uniform(-25, 25))
        paint_dashboard(rng, image, border, light)
        lowest = np.minimum(lowest, border)
    if rng.random() < 0.3:
        paint_wipers(rng, image, lowest)
    if rng.random() < 0.05:
        bar = int(rng.uniform(8, 60))
        image[HEIGHT - bar :] = 0
        image[: int(bar * rng.choice([0, 1]))] = 0
        lowest = np.minimum(lowest, HEIGHT - bar)
    return np.minimum(lowest, HEIGHT)
