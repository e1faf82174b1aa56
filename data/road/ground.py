"""The ground of a scene: pavement, lane lines, other marks, verges and shadows.

By inverse projection: each pixel below the top of the road gets its lateral position u (m) and its distance s along
the road (m), and texture, paint and shadow are functions of those two. Nothing is supersampled, because the fraction of
a pixel that a line or a dash covers has a closed form. A surface is (rows, WIDTH, 3) float32, RGB in 0..1, and is
changed in place; `rng` is a numpy Generator.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .canvas import random_color, random_noise
from .geometry import HEIGHT, LANE_WIDTH, ROAD_ROWS, WIDTH
from .weather import draw_hills, draw_night_light, draw_sky


class Ground(NamedTuple):
    """What the pixels from the road's top row to the bottom show of the ground, float32."""

    u: np.ndarray  # (rows, WIDTH), lateral position, m
    s: np.ndarray  # (rows, WIDTH), distance, m
    scale: np.ndarray  # (rows, 1), pixels per meter across the road
    footprint: np.ndarray  # (rows, 1), meters along the road that one row covers


def project_ground(road):
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


def blend(surface, alpha, rgb):
    """Lay a color over a surface."""
    surface += alpha[..., None] * (np.float32(rgb) - surface)


def draw_pavement(rng, ground, layout):
    """Pavement with slabs, wheel tracks, stains, grain, joints and patches: a surface."""
    u, s, scale, footprint = ground
    concrete, offsets = layout["concrete"], layout["offsets"]
    gray = ((0.36, 0.36, 0.34), (0.62, 0.61, 0.57)) if concrete else ((0.13, 0.135, 0.14), (0.4, 0.4, 0.4))
    outside = np.r_[offsets[0] - LANE_WIDTH, offsets, offsets[-1] + LANE_WIDTH]
    lane = np.interp(u, outside, np.arange(len(outside))).astype(np.float32)
    index = lane.astype(np.uint8)
    inside = lane - index
    slabs = rng.normal(0, 0.07 if concrete else 0.03, (len(outside), 1))
    slabs = 1 + slabs + rng.normal(0, 0.025 if concrete else 0.004, (len(outside), 128))
    tone = slabs.astype(np.float32)[index, (s / 4.6).astype(np.uint8) % 128]

    blotch = random_noise(rng, 1.3, u * 12, s * rng.uniform(1, 5))
    streak, clarity = random_noise(rng, 0.9, u * 45, s * 0.6), np.maximum(fade(0.3, footprint), 0.25)
    steps = np.linspace(0, 1, 256)  # across a lane
    stain = rng.uniform(0, 0.3) * np.exp(-(((steps - rng.uniform(0.45, 0.55)) / rng.uniform(0.08, 0.2)) ** 2))
    tracks = rng.uniform(-0.06, 0.14) * np.exp(-(((np.abs(steps - 0.5) - 0.25) / 0.09) ** 2))
    across = (inside * 255).astype(np.uint8)
    tone *= 1 - stain.astype(np.float32)[across] * np.clip(1 + 0.5 * blotch, 0, 2)
    tone *= 1 - tracks.astype(np.float32)[across]
    tone *= 1 + rng.uniform(0.02, 0.06) * blotch + rng.uniform(0.01, 0.04) * streak * clarity
    grit = rng.uniform(0.05, 0.2) * random_noise(rng, 0.0, u * 110, s * 110) * fade(0.012, footprint)
    tone *= 1 + grit + rng.uniform(0.01, 0.045) * random_noise(rng, 0.4, u * 30, s * 30) * fade(0.06, footprint)
    if concrete and rng.random() < 0.8:  # joints across the lanes
        phase = rng.uniform(0, 4.6, len(outside)).astype(np.float32)[index] * np.float32(rng.integers(0, 2))
        away = np.abs((s + rng.uniform(-0.15, 0.15) * u + phase) % np.float32(4.6) - np.float32(2.3))
        tone *= 1 - rng.uniform(0.2, 0.7) * stripe_fraction(away, rng.uniform(0.004, 0.015), footprint)
    surface = random_color(rng, *gray) * tone[..., None]

    for _ in range(rng.integers(1, 3) if rng.random() < 0.3 else 0):  # patches of other pavement, ends ragged
        left, start = rng.uniform(offsets[0] - 2, offsets[-1]), rng.uniform(5, 60)
        ragged = s + 0.3 * random_noise(rng, 0.6, u * 20, s * 0.2)
        patch = band(u, left, left + rng.uniform(1, 4), scale)
        patch *= band(ragged, start, start + rng.uniform(2, 60), 1 / footprint)
        surface *= 1 + patch[..., None] * np.float32(rng.uniform(-0.45, 0.3))
    return surface


def draw_seams(rng, ground, road, layout):
    """Seams, cracks and skid marks, (rows, WIDTH) float32, 1 = black."""
    mask = np.zeros((HEIGHT - road.top, WIDTH), np.uint8)
    low, high = layout["offsets"][0] - 1, layout["offsets"][-1] + 1

    def draw(offset, distance, width, strength):
        points = road.project(offset, 0, distance) - (0, road.top)
        widths = np.interp(points[:, 1] + road.top, np.arange(ROAD_ROWS), road.scale) * width
        points = np.clip(points * 16, -30000, 60000).astype(int)
        for a, b, pixels in zip(points[:-1], points[1:], widths[:-1], strict=True):
            tone = int(255 * strength * min(1.0, pixels))
            cv2.line(mask, a.tolist(), b.tolist(), tone, max(1, round(pixels)), cv2.LINE_AA, 4)

    ahead = np.geomspace(road.distance[HEIGHT] * 0.9, 120, 60)
    if rng.random() < (0.85 if layout["concrete"] else 0.25):  # seams between the lanes
        strength, width = rng.uniform(0.3, 0.8), rng.uniform(0.008, 0.028)
        for offset, style in zip(layout["offsets"], layout["styles"], strict=True):
            draw(offset + style["joint"] + 0.006 * rng.standard_normal(60).cumsum(), ahead, width, strength)
    for _ in range(rng.integers(0, 5)):  # cracks and tar
        start, length = rng.uniform(4, 40), rng.uniform(2, 25)
        steps = np.linspace(start, start + length, 120)
        wander = rng.uniform(0.004, 0.05) * rng.standard_normal(120).cumsum()
        if rng.random() < 0.5:
            draw(rng.uniform(low, high) + wander, steps, rng.uniform(0.004, 0.02), rng.uniform(0.2, 0.7))
        else:
            middle, half = rng.uniform(low, high), rng.uniform(1, 8)
            across = np.linspace(max(low, middle - half), min(high, middle + half), 120)
            draw(across, start + 0.3 * wander, rng.uniform(0.006, 0.03), rng.uniform(0.2, 0.7))
    if rng.random() < 0.2:  # skid marks
        steps = np.linspace(rng.uniform(4, 20), rng.uniform(30, 70), 40)
        bend = rng.uniform(low, high) + rng.uniform(-1.5, 1.5) * np.linspace(0, 1, 40) ** 2
        for side in (-0.75, 0.75):
            draw(bend + side, steps, rng.uniform(0.08, 0.2), rng.uniform(0.08, 0.3))
    broken = np.clip(0.75 + 0.35 * random_noise(rng, 0.7, ground.u * 40, ground.s * 15), 0.1, 1)
    return cv2.GaussianBlur(mask, (3, 3), 0.7) / np.float32(255) * broken


def draw_decal(rng, surface, ground, layout):
    """An arrow, letters or cross bars in one lane: paint that is no lane line."""
    mask = np.zeros((256, 96), np.uint8)
    kind = rng.choice(["arrow", "text", "bars"])
    if kind == "arrow":
        tip = int(rng.integers(20, 76))
        cv2.line(mask, (48, 10), (48, 160), 255, 14)
        cv2.line(mask, (48, 150), (tip, 175), 255, 14)
        cv2.fillPoly(mask, [np.int32([[tip - 20, 170], [tip + 20, 170], [tip, 245]])], 255)
    elif kind == "text":
        word = "".join(rng.choice(list("AEHLNOPSTXY"), rng.integers(3, 5)))
        cv2.putText(mask, word, (2, 120), cv2.FONT_HERSHEY_SIMPLEX, 5.0 / len(word), 255, 6)
        mask = cv2.resize(mask[80:124], (96, 256))[::-1].copy()
    else:
        for left in range(4, 96, 16):
            cv2.rectangle(mask, (left, 20), (left + 8, 235), 255, -1)
    lane = rng.integers(0, len(layout["offsets"]) - 1)
    width, length, start = rng.uniform(0.9, 2.2), rng.uniform(2, 6), rng.uniform(6, 30)
    left = float(layout["offsets"][lane]) + (LANE_WIDTH - width) / 2
    fraction = cv2.remap(mask, (ground.u - left) * (96 / width), (ground.s - start) * (256 / length), cv2.INTER_LINEAR)
    surface += (fraction.astype(np.float32) / 255)[..., None] * rng.uniform(0.4, 0.9) * (np.float32(0.85) - surface)


def draw_line(surface, ground, position, style, worn):
    """One lane line of a style of `layout.random_style`, as far as it is paint; dots are objects.

    `position` (ROAD_ROWS,) is its x in px, `worn` (rows, WIDTH) noise.
    """
    _, s, scale, footprint = ground
    columns, along, half_row = np.arange(WIDTH, dtype=np.float32), s[:, :1], footprint / 2
    rows = slice(HEIGHT - len(surface), HEIGHT)
    x = position[rows].astype(np.float32)[:, None]
    ramp = np.maximum(1, np.abs(np.gradient(position)[rows])).astype(np.float32)[:, None]
    dashes = dash_fraction(along - half_row, along + half_row, style["period"], style["dash"], style["phase"])
    apart = 0.5 * style["width"] + style["gap"]
    stripes = {
        "solid": [(0.0, 1)],
        "dashed": [(0.0, dashes)],
        "dots_dashed": [(0.0, dashes)],
        "dots": [],
        "double": [(-apart, 1), (apart, 1)],
        "mixed": [(-apart, dashes), (apart, 1)],
    }
    for aside, fraction in stripes[style["kind"]]:
        middle = x + aside * scale
        alpha = stripe_fraction(columns - middle, np.maximum(0.5 * style["width"] * scale, 0.45), ramp) * fraction
        alpha *= np.clip(1.1 - style["wear"] * (0.9 + 0.6 * worn), 0, 1)
        blend(surface, style["opacity"] * alpha, style["color"])


def draw_opposite(rng, surface, ground, road, opposite):
    """The opposite carriageway of `layout.add_opposite` with its lines."""
    u, s, scale, _ = ground
    tone = random_color(rng, (0.15, 0.15, 0.16), (0.5, 0.5, 0.48)) * np.float32(rng.uniform(0.9, 1.1))
    rough = 1 + 0.06 * random_noise(rng, 0.9, u * 20, s * 2)
    alpha = band(u, opposite["far"], opposite["near"], scale)
    surface += alpha[..., None] * (tone * rough[..., None] - surface)
    for offset, style in zip(opposite["lines"], opposite["styles"], strict=True):
        draw_line(surface, ground, road.x_at(np.arange(ROAD_ROWS), offset), style, rough - 1)


def draw_verge(rng, ground):
    """What lies beyond the shoulder: a surface of grass, dirt or gravel."""
    u, s, _, footprint = ground
    kinds = {
        "dry": [(0.42, 0.34, 0.2), (0.68, 0.58, 0.38), (0.3, 0.25, 0.15)],
        "green": [(0.16, 0.2, 0.08), (0.34, 0.38, 0.18), (0.3, 0.27, 0.14)],
        "dirt": [(0.38, 0.31, 0.24), (0.62, 0.54, 0.44), (0.5, 0.46, 0.4)],
        "gravel": [(0.35, 0.34, 0.32), (0.55, 0.53, 0.5), (0.42, 0.36, 0.28)],
    }
    low, high, other = kinds[str(rng.choice(list(kinds), p=[0.35, 0.2, 0.25, 0.2]))]
    mix = np.clip(0.5 + 0.5 * random_noise(rng, 1.2, u * 20, s * 8), 0, 1)[..., None] * rng.uniform(0.2, 0.9)
    main = random_color(rng, low, high)
    tone = 1 + 0.22 * random_noise(rng, 0.6, u * 60, s * 25) * fade(0.15, footprint)
    tone += 0.08 * random_noise(rng, 0.9, u * 8, s * 3)
    return (main + mix * (np.float32(other) - main)) * tone[..., None]


def draw_shoulder(rng, surface, ground, layout, side, wobble):
    """One shoulder (side 0 left, 1 right) and the verge beyond it; `wobble` (rows, WIDTH) makes its border ragged."""
    u, s, scale, footprint = ground
    shoulder, along, half_row = layout["shoulders"][side], s[:, :1], footprint / 2
    outward = (layout["offsets"][0] - u) if side == 0 else (u - layout["offsets"][-1])
    beyond = np.clip((outward - rng.uniform(0.15, 0.4)) * scale + 0.5, 0, 1)[..., None]
    surface *= 1 + beyond * np.float32(rng.uniform(-0.65, 0.1) * layout["dark"])
    if shoulder > 1.2 and rng.random() < layout["rumble"]:  # rumble strip
        bars = dash_fraction(along - half_row, along + half_row, 0.3, 0.15, 0)
        strip = stripe_fraction((outward - 0.55) * scale, 0.2 * scale, np.float32(1)) * (bars - 0.3)
        surface *= 1 - 0.5 * strip[..., None]
    ragged = outward - shoulder + rng.uniform(0.03, 0.15) * wobble
    surface += np.clip(ragged * scale * 0.7 + 0.5, 0, 1)[..., None] * (draw_verge(rng, ground) - surface)


def draw_crosswalk(rng, surface, ground, layout):
    """Broad white bars along the road in a row across it, or two lines across it."""
    u, s, scale, footprint = ground
    start, length, period = rng.uniform(6, 45), rng.uniform(2, 4.5), rng.uniform(0.8, 1.3)
    across = band(u, layout["offsets"][0] - 0.3, layout["offsets"][-1] + 0.3, scale)
    if rng.random() < 0.7:
        bars = dash_fraction(u - 0.5 / scale, u + 0.5 / scale, period, 0.5 * period, 0)
        alpha = bars * band(s, start, start + length, 1 / footprint)
    else:
        alpha = sum(band(s, start + at, start + at + 0.3, 1 / footprint) for at in (0, length))
    blend(surface, alpha * across * rng.uniform(0.5, 0.95), [0.86, 0.86, 0.84])


def draw_stop_line(rng, surface, ground, layout):
    """A broad white line across the own half of the road."""
    u, s, scale, footprint = ground
    start, left = rng.uniform(5, 40), layout["center"] if layout["center"] is not None else layout["offsets"][0]
    across = band(u, left + 0.1, layout["offsets"][-1], scale)
    blend(surface, across * band(s, start, start + rng.uniform(0.3, 0.6), 1 / footprint) * 0.9, [0.88] * 3)


def draw_bars(rng, surface, ground, layout):
    """Slanted bars beside a line: a painted island, a bus bay."""
    u, s, scale, footprint = ground
    edge = float(rng.choice(layout["offsets"])) + rng.uniform(-0.3, 0.3)
    width, start = rng.uniform(0.8, 2.2), rng.uniform(4, 40)
    slanted = s + rng.choice([-1, 1]) * rng.uniform(0.5, 2) * u
    half = 0.5 * footprint + 0.5 / scale
    bars = dash_fraction(slanted - half, slanted + half, rng.uniform(1.5, 4), rng.uniform(0.4, 0.9), 0)
    island = band(u, edge, edge + width, scale) * band(s, start, start + rng.uniform(6, 30), 1 / footprint)
    blend(surface, bars * island * 0.85, (0.86, 0.86, 0.84) if rng.random() < 0.7 else (0.85, 0.6, 0.12))


def draw_tram(rng, surface, ground, layout):
    """One or two tracks of two rails, in the asphalt or in a bed of their own."""
    u, _, scale, _ = ground
    middle = rng.uniform(layout["offsets"][0] - 2, layout["offsets"][-1] + 1)
    bed, rail = rng.random() < 0.4, random_color(rng, (0.1, 0.1, 0.1), (0.6, 0.6, 0.62))
    for track in (0, 3.1)[: rng.integers(1, 3)]:
        if bed:
            blend(surface, 0.8 * band(u, middle + track - 1.2, middle + track + 1.2, scale), [0.4, 0.38, 0.36])
        for aside in (-0.72, 0.72):
            x = u - middle - track - aside
            blend(surface, 0.8 * band(x, -0.06, 0.06, scale), rail)
            blend(surface, 0.8 * band(x, 0.0, 0.04, scale), [0.04, 0.04, 0.04])


def draw_gutter(rng, surface, ground, layout):
    """Pale strips of concrete or stone at the curbs, with a dark joint."""
    u, _, scale, _ = ground
    pale, width = random_color(rng, (0.4, 0.4, 0.38), (0.75, 0.73, 0.68)), rng.uniform(0.25, 0.6)
    left = layout["offsets"][0] - u - layout["shoulders"][0]
    right = u - layout["offsets"][-1] - layout["shoulders"][1]
    for outward in (left, right):
        blend(surface, band(outward, -width, 0, scale), pale)
        blend(surface, 0.6 * band(outward, -width - 0.03, -width, scale), [0.06, 0.06, 0.06])


def draw_manholes(rng, surface, ground, layout):
    """A few round covers."""
    u, s, scale, footprint = ground
    for _ in range(rng.integers(1, 5)):
        x, ahead = rng.uniform(layout["offsets"][0], layout["offsets"][-1]), rng.uniform(4, 35)
        away = np.hypot(u - x, s - ahead) - 0.32
        alpha = np.clip(0.5 - away * scale / np.maximum(1, scale * footprint), 0, 1)
        blend(surface, 0.8 * alpha, random_color(rng, (0.06, 0.06, 0.06), (0.3, 0.29, 0.28)))


def draw_colored_lane(rng, surface, ground, layout):
    """A red, green or blue bus or bicycle lane, or bands of color across the road."""
    u, s, scale, footprint = ground
    rgb = [(0.45, 0.2, 0.16), (0.2, 0.38, 0.25), (0.25, 0.3, 0.5)][rng.choice(3, p=[0.6, 0.2, 0.2])]
    if rng.random() < 0.5:
        left = float(rng.choice(layout["offsets"])) + rng.uniform(0, 1)
        alpha = band(u, left, left + rng.uniform(1.2, 3.2), scale)
    else:
        across = band(u, layout["offsets"][0], layout["offsets"][-1], scale)
        half = footprint / 2
        alpha = across * dash_fraction(s - half, s + half, rng.uniform(8, 20), rng.uniform(2, 5), rng.uniform(0, 20))
    blend(surface, alpha * rng.uniform(0.4, 0.9), rgb)


def draw_tar(rng, surface, ground, layout):
    """Seams sealed with tar, along the road in wavy lines and across it; dark, or pale and narrow."""
    u, s, scale, footprint = ground
    dark = rng.random() < 0.85
    rgb = (0.05, 0.05, 0.055) if dark else (0.6, 0.6, 0.58)
    for _ in range(rng.integers(1, 7)):
        wander = rng.uniform(0.01, 0.08) * rng.standard_normal(240).cumsum()
        bends = np.interp(s[:, :1], np.linspace(0, 120, 240), wander)
        half = rng.uniform(0.02, 0.08 if dark else 0.03)
        if rng.random() < 0.7:
            x = u - rng.uniform(layout["offsets"][0], layout["offsets"][-1]) - bends
            alpha = band(x, -half, half, scale)
        else:
            x = s + rng.uniform(-0.4, 0.4) * u - rng.uniform(4, 40)
            alpha = band(x, -half, half, 1 / footprint)
        blend(surface, alpha.astype(np.float32) * np.float32(rng.uniform(0.3, 0.9 if dark else 0.5)), rgb)


MARKS = {
    "colored": draw_colored_lane,
    "gutter": draw_gutter,
    "tram": draw_tram,
    "manholes": draw_manholes,
    "crosswalk": draw_crosswalk,
    "stop line": draw_stop_line,
    "bars": draw_bars,
    "tar": draw_tar,
}


def draw_marks(rng, surface, ground, layout):
    """What lies on streets and is no lane line: each kind of MARKS with its chance of `layout["marks"]`."""
    for name, draw in MARKS.items():
        if rng.random() < layout["marks"].get(name, 0):
            draw(rng, surface, ground, layout)


def draw_trunk_shadows(rng, ground):
    """Light left between the shadows of trunks, poles and wires across the road, (rows, WIDTH) in 0..1."""
    u, s, _, footprint = ground
    lit = np.ones_like(u)
    slant, soft = rng.uniform(-1.5, 1.5), rng.uniform(0.1, 0.6)
    broken = random_noise(rng, 0.9, u * 20, s * 20) if rng.random() < 0.6 else 0
    for _ in range(rng.integers(2, 14)):
        start, width = rng.uniform(3, 90), rng.exponential(0.6) + 0.1
        x = s + (slant + rng.normal(0, 0.1)) * u + 0.3 * soft * broken
        lit *= 1 - rng.uniform(0.5, 1) * band(x, start, start + width, 1 / (footprint + soft))
    return lit


def draw_sunlight(rng, ground, layout, light):
    """Sunlight left on the ground, (rows, WIDTH) in 0..1, in the shadows of bridges, trees and walls."""
    u, s, scale, footprint = ground
    lit = np.ones_like(u)
    for bridge in layout["bridges"]:
        slanted = s + rng.uniform(-0.5, 0.5) * u
        lit *= 1 - band(slanted, bridge["shadow"], bridge["shadow"] + bridge["deep"], 1 / footprint)
    if light["sun_side"] > 0:
        inward, wall = u - (layout["offsets"][0] - layout["shoulders"][0]), layout["walls"][0]
    else:
        inward, wall = layout["offsets"][-1] + layout["shoulders"][1] - u, layout["walls"][1]
    if rng.random() < 0.25:
        leaves = random_noise(rng, 1.5, u * 30, s * 10)
        lit *= np.clip(0.5 + (1.5 * leaves + (inward - rng.uniform(1, 9)) / 3) / rng.uniform(0.3, 1.2), 0, 1)
    if wall:
        lit *= np.clip((inward - float(wall) * abs(light["sun_side"])) * scale * 0.5 + 0.5, 0, 1)
    return lit


def draw_ground(rng, road, layout, light):
    """The road and its verges, a surface, and the fraction of light that falls there, (rows, WIDTH)."""
    ground = project_ground(road)
    surface = draw_pavement(rng, ground, layout)
    wobble = random_noise(rng, 1.0, ground.u * 2, ground.s * 4)
    for side in (0, 1):
        draw_shoulder(rng, surface, ground, layout, side, wobble)
    if layout["opposite"]:
        draw_opposite(rng, surface, ground, road, layout["opposite"])
    surface *= 1 - draw_seams(rng, ground, road, layout)[..., None]
    if layout["marks"]:
        draw_marks(rng, surface, ground, layout)
    if rng.random() < layout["decals"]:
        draw_decal(rng, surface, ground, layout)
    worn = random_noise(rng, 0.8, ground.u * 40, ground.s * 12)
    for position, style in zip(layout["positions"], layout["styles"], strict=True):
        if style["opacity"] > 0:
            draw_line(surface, ground, position, style, worn)
    lit = draw_sunlight(rng, ground, layout, light)
    if layout["marks"] and rng.random() < layout["marks"]["trunks"]:
        lit *= draw_trunk_shadows(rng, ground)
    shade = 1 - light["sun"] * (1 - lit)
    surface *= 1 - (1 - shade)[..., None] * np.float32([1, 0.97, 0.92])  # light of the sky makes shadows bluish
    if light["night"]:
        lamps = draw_night_light(rng, ground, layout, light)
        surface *= lamps
        shade = shade * np.minimum(2 * lamps[..., 1], 1)  # dots throw the headlights back
    return surface, shade


def draw_background(rng, road, layout, light):
    """Sky, hills and ground in haze: (HEIGHT, WIDTH, 3) uint8, and the light on the ground, (rows, WIDTH) float32."""
    sky = draw_sky(rng, road.top, light)
    draw_hills(rng, sky, light)
    ground, shade = draw_ground(rng, road, layout, light)
    haze = 1 - np.exp(-road.distance[road.top : HEIGHT, None, None] / light["fog"])
    ground += haze.astype(np.float32) * (light["horizon"] - ground)
    if light["kind"] == "wet":
        reach = min(road.top, HEIGHT - road.top)
        gloss = np.linspace(1, 0, reach, dtype=np.float32)[:, None, None]  # least where the view is steepest
        mirror = cv2.GaussianBlur(sky[::-1][:reach], (0, 0), 12)
        ground[:reach] += gloss * (np.float32(0.35) * mirror - np.float32(0.4) * ground[:reach])
    return (np.clip(np.concatenate([sky, ground]), 0, 1) * 255).astype(np.uint8), shade
