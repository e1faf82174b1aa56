"""Paints what lies on streets and is no lane line: crosswalks, stop lines, bars, tram tracks, gutters, tar, shadows.

Each painter changes a surface, (rows, WIDTH, 3) float32 RGB in 0..1, in place. Much of it is long and straight as a
line is. Lengths are meters.
"""

import numpy as np

from .ground import band, dash_fraction
from .scene import color, noise_at


def lay(surface, alpha, rgb):
    """Lay a color over a surface."""
    surface += alpha[..., None] * (np.float32(rgb) - surface)


def paint_crosswalk(rng, surface, ground, layout):
    """Broad white bars along the road in a row across it, or two lines across it."""
    u, s, scale, footprint = ground
    start, length, period = rng.uniform(6, 45), rng.uniform(2, 4.5), rng.uniform(0.8, 1.3)
    across = band(u, layout["offsets"][0] - 0.3, layout["offsets"][-1] + 0.3, scale)
    if rng.random() < 0.7:
        bars = dash_fraction(u - 0.5 / scale, u + 0.5 / scale, period, 0.5 * period, 0)
        alpha = bars * band(s, start, start + length, 1 / footprint)
    else:
        alpha = sum(band(s, start + at, start + at + 0.3, 1 / footprint) for at in (0, length))
    lay(surface, alpha * across * rng.uniform(0.5, 0.95), [0.86, 0.86, 0.84])


def paint_stop_line(rng, surface, ground, layout):
    """A broad white line across the own half of the road."""
    u, s, scale, footprint = ground
    start, left = rng.uniform(5, 40), layout["center"] if layout["center"] is not None else layout["offsets"][0]
    across = band(u, left + 0.1, layout["offsets"][-1], scale)
    lay(surface, across * band(s, start, start + rng.uniform(0.3, 0.6), 1 / footprint) * 0.9, [0.88] * 3)


def paint_bars(rng, surface, ground, layout):
    """Slanted bars beside a line: a painted island, a bus bay."""
    u, s, scale, footprint = ground
    edge = float(rng.choice(layout["offsets"])) + rng.uniform(-0.3, 0.3)
    width, start = rng.uniform(0.8, 2.2), rng.uniform(4, 40)
    slanted = s + rng.choice([-1, 1]) * rng.uniform(0.5, 2) * u
    half = 0.5 * footprint + 0.5 / scale
    bars = dash_fraction(slanted - half, slanted + half, rng.uniform(1.5, 4), rng.uniform(0.4, 0.9), 0)
    island = band(u, edge, edge + width, scale) * band(s, start, start + rng.uniform(6, 30), 1 / footprint)
    lay(surface, bars * island * 0.85, (0.86, 0.86, 0.84) if rng.random() < 0.7 else (0.85, 0.6, 0.12))


def paint_tram(rng, surface, ground, layout):
    """One or two tracks of two rails, in the asphalt or in a bed of their own."""
    u, _, scale, _ = ground
    middle = rng.uniform(layout["offsets"][0] - 2, layout["offsets"][-1] + 1)
    bed, rail = rng.random() < 0.4, color(rng, (0.1, 0.1, 0.1), (0.6, 0.6, 0.62))
    for track in (0, 3.1)[: rng.integers(1, 3)]:
        if bed:
            lay(surface, 0.8 * band(u, middle + track - 1.2, middle + track + 1.2, scale), [0.4, 0.38, 0.36])
        for aside in (-0.72, 0.72):
            x = u - middle - track - aside
            lay(surface, 0.8 * band(x, -0.06, 0.06, scale), rail)
            lay(surface, 0.8 * band(x, 0.0, 0.04, scale), [0.04, 0.04, 0.04])


def paint_gutter(rng, surface, ground, layout):
    """Pale strips of concrete or stone at the curbs, with a dark joint."""
    u, _, scale, _ = ground
    pale, width = color(rng, (0.4, 0.4, 0.38), (0.75, 0.73, 0.68)), rng.uniform(0.25, 0.6)
    for outward in (
        layout["offsets"][0] - u - layout["shoulders"][0],
        u - layout["offsets"][-1] - layout["shoulders"][1],
    ):
        lay(surface, band(outward, -width, 0, scale), pale)
        lay(surface, 0.6 * band(outward, -width - 0.03, -width, scale), [0.06, 0.06, 0.06])


def paint_manholes(rng, surface, ground, layout):
    """A few round covers."""
    u, s, scale, footprint = ground
    for _ in range(rng.integers(1, 5)):
        x, ahead = rng.uniform(layout["offsets"][0], layout["offsets"][-1]), rng.uniform(4, 35)
        away = np.hypot(u - x, s - ahead) - 0.32
        alpha = np.clip(0.5 - away * scale / np.maximum(1, scale * footprint), 0, 1)
        lay(surface, 0.8 * alpha, color(rng, (0.06, 0.06, 0.06), (0.3, 0.29, 0.28)))


def paint_colored(rng, surface, ground, layout):
    """A red, green or blue bus or bicycle lane, or bands of color across the road."""
    u, s, scale, footprint = ground
    tone = [(0.45, 0.2, 0.16), (0.2, 0.38, 0.25), (0.25, 0.3, 0.5)][rng.choice(3, p=[0.6, 0.2, 0.2])]
    if rng.random() < 0.5:
        left = float(rng.choice(layout["offsets"])) + rng.uniform(0, 1)
        alpha = band(u, left, left + rng.uniform(1.2, 3.2), scale)
    else:
        across = band(u, layout["offsets"][0], layout["offsets"][-1], scale)
        half = footprint / 2
        alpha = across * dash_fraction(s - half, s + half, rng.uniform(8, 20), rng.uniform(2, 5), rng.uniform(0, 20))
    lay(surface, alpha * rng.uniform(0.4, 0.9), tone)


def paint_tar(rng, surface, ground, layout):
    """Seams sealed with tar, along the road in wavy lines and across it; dark, or pale and narrow."""
    u, s, scale, footprint = ground
    dark = rng.random() < 0.85
    tone = (0.05, 0.05, 0.055) if dark else (0.6, 0.6, 0.58)
    for _ in range(rng.integers(1, 7)):
        bends = np.interp(
            s[:, :1], np.linspace(0, 120, 240), rng.uniform(0.01, 0.08) * rng.standard_normal(240).cumsum()
        )
        half = rng.uniform(0.02, 0.08 if dark else 0.03)
        if rng.random() < 0.7:
            x = u - rng.uniform(layout["offsets"][0], layout["offsets"][-1]) - bends
            alpha = band(x, -half, half, scale)
        else:
            x = s + rng.uniform(-0.4, 0.4) * u - rng.uniform(4, 40)
            alpha = band(x, -half, half, 1 / footprint)
        lay(surface, alpha.astype(np.float32) * np.float32(rng.uniform(0.3, 0.9 if dark else 0.5)), tone)


def trunk_shadows(rng, ground):
    """Light left between the shadows of trunks, poles and wires across the road, (rows, WIDTH) in 0..1."""
    u, s, _, footprint = ground
    lit = np.ones_like(u)
    slant, soft = rng.uniform(-1.5, 1.5), rng.uniform(0.1, 0.6)
    broken = noise_at(rng, 0.9, u * 20, s * 20) if rng.random() < 0.6 else 0
    for _ in range(rng.integers(2, 14)):
        start, width = rng.uniform(3, 90), rng.exponential(0.6) + 0.1
        x = s + (slant + rng.normal(0, 0.1)) * u + 0.3 * soft * broken
        lit *= 1 - rng.uniform(0.5, 1) * band(x, start, start + width, 1 / (footprint + soft))
    return lit


PAINTERS = {
    "colored": paint_colored,
    "gutter": paint_gutter,
    "tram": paint_tram,
    "manholes": paint_manholes,
    "crosswalk": paint_crosswalk,
    "stop line": paint_stop_line,
    "bars": paint_bars,
    "tar": paint_tar,
}


def paint_street_marks(rng, surface, ground, layout):
    """Each kind of PAINTERS with its chance of `layout["marks"]`, in place."""
    for name, paint in PAINTERS.items():
        if rng.random() < layout["marks"].get(name, 0):
            paint(rng, surface, ground, layout)
