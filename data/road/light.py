"""Lamps and wet ground: what headlights and street lamps show at night, glows, their streaks on a wet road.

Colors are RGB in 0..1, float32.
"""

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH


def night_light(rng, ground, layout, light):
    """Light on the ground at night, (rows, WIDTH, 3) float32, 1 = a bright headlight 10 m ahead.

    Args:
        rng: numpy Generator.
        ground: surface.Ground.
        layout: dict of `scene.draw_layout`.
        light: dict of `scene.draw_light` at night.
    """
    night, (u, s, _, _) = light["night"], ground
    cone = np.exp(-(((u - rng.normal(0, 0.5)) / (1.5 + rng.uniform(0.12, 0.3) * s)) ** 2))
    beam = 1.1 * cone * np.exp(-s / night["reach"]) * (1 - 0.8 * np.exp(-s / rng.uniform(1.5, 4)))
    lit = beam[..., None] * night["headlight"] + np.float32(night["ambient"])
    if night["lit"]:
        aside = layout["offsets"][0 if rng.random() < 0.5 else -1] + np.float32(rng.uniform(-3, 3))
        period, phase = rng.uniform(25, 50), rng.uniform(0, 2 * np.pi)
        pool = np.exp(-(((u - aside) / rng.uniform(5, 12)) ** 2)) * (
            0.6 + 0.4 * np.cos(s * (2 * np.pi / period) + phase)
        )
        lit += (rng.uniform(0.1, 0.5) * pool)[..., None].astype(np.float32) * night["lamp"]
    return lit


def glow(canvas, point, radius, rgb, strength=1.0):
    """Add a lamp with its halo to an 8-bit canvas, in place: white in the middle where it's bright."""
    x, y = np.asarray(point, float)
    reach = 4 * radius + 2
    x0, x1, y0, y1 = (
        int(v) for v in (max(x - reach, 0), min(x + reach, WIDTH), max(y - reach, 0), min(y + reach, HEIGHT))
    )
    if x1 <= x0 or y1 <= y0:
        return
    square = ((np.arange(x0, x1) - x) ** 2 + ((np.arange(y0, y1) - y) ** 2)[:, None]).astype(np.float32) / radius**2
    core, halo = np.exp(-2 * square), 0.25 * np.exp(-0.45 * square)
    add = (core + halo)[..., None] * np.float32(rgb) * 255 + core[..., None] * 120
    region = canvas[y0:y1, x0:x1]
    region[:] = np.minimum(region + strength * add, 255)


def paint_streaks(rng, canvas, top):
    """Reflections of lamps and of the bright sky on a wet road: bright parts drawn out downward, in place.

    Args:
        rng: numpy Generator.
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB.
        top: first row of the ground.
    """
    small = cv2.resize(canvas, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA).astype(np.float32)
    bright = np.maximum(small - max(100.0, float(np.percentile(small, 80))), 0)
    length = int(rng.uniform(15, 90))
    kernel = np.exp(np.linspace(-3, 0, length, dtype=np.float32))[:, None]
    smear = cv2.filter2D(bright, -1, kernel / 6, anchor=(0, length - 1), borderType=cv2.BORDER_CONSTANT)
    smear = cv2.resize(cv2.GaussianBlur(smear, (0, 0), 1), (WIDTH, HEIGHT))[top:]
    fade_in = np.clip(np.arange(len(smear), dtype=np.float32) / 12, 0, 1)[:, None, None]
    region = canvas[top:]
    region[:] = np.clip(region + np.float32(rng.uniform(0.15, 0.8)) * fade_in * smear, 0, 255)
