"""Paints the ground of a highway scene: pavement, lane lines, other marks, verges and shadows.

By inverse projection: each pixel below the top of the road gets its lateral position u (m) and its distance s along
the road (m), and texture, paint and shadow are functions of those two. Nothing is supersampled, because the fraction of
a pixel that a line or a dash covers has a closed form. Colors are RGB in 0..1, float32.
"""

import cv2
import numpy as np

from .geometry import HEIGHT, LANE_WIDTH, ROWS, WIDTH
from .ground import band, dash_fraction, fade, ground_of, stripe_fraction
from .light import night_light
from .marks import paint_street_marks, trunk_shadows
from .scene import color, noise_at, paint_hills, paint_sky


def paint_pavement(rng, ground, layout):
    """Pavement with slabs, wheel tracks, stains, grain, joints and patches, (rows, WIDTH, 3)."""
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

    blotch = noise_at(rng, 1.3, u * 12, s * rng.uniform(1, 5))
    streak = noise_at(rng, 0.9, u * 45, s * 0.6)
    steps = np.linspace(0, 1, 256)  # across a lane
    stain = rng.uniform(0, 0.3) * np.exp(-(((steps - rng.uniform(0.45, 0.55)) / rng.uniform(0.08, 0.2)) ** 2))
    tracks = rng.uniform(-0.06, 0.14) * np.exp(-(((np.abs(steps - 0.5) - 0.25) / 0.09) ** 2))
    across = (inside * 255).astype(np.uint8)
    tone *= 1 - stain.astype(np.float32)[across] * np.clip(1 + 0.5 * blotch, 0, 2)
    tone *= 1 - tracks.astype(np.float32)[across]
    tone *= (
        1 + rng.uniform(0.02, 0.06) * blotch + rng.uniform(0.01, 0.04) * streak * np.maximum(fade(0.3, footprint), 0.25)
    )
    grit = rng.uniform(0.05, 0.2) * noise_at(rng, 0.0, u * 110, s * 110) * fade(0.012, footprint)
    tone *= 1 + grit + rng.uniform(0.01, 0.045) * noise_at(rng, 0.4, u * 30, s * 30) * fade(0.06, footprint)
    if concrete and rng.random() < 0.8:  # joints across the lanes
        phase = rng.uniform(0, 4.6, len(outside)).astype(np.float32)[index] * np.float32(rng.integers(0, 2))
        away = np.abs((s + rng.uniform(-0.15, 0.15) * u + phase) % np.float32(4.6) - np.float32(2.3))
        tone *= 1 - rng.uniform(0.2, 0.7) * stripe_fraction(away, rng.uniform(0.004, 0.015), footprint)
    pavement = color(rng, *gray) * tone[..., None]

    for _ in range(rng.integers(1, 3) if rng.random() < 0.3 else 0):  # patches of other pavement, ends ragged
        left, start = rng.uniform(offsets[0] - 2, offsets[-1]), rng.uniform(5, 60)
        ragged = s + 0.3 * noise_at(rng, 0.6, u * 20, s * 0.2)
        patch = band(u, left, left + rng.uniform(1, 4), scale) * band(
            ragged, start, start + rng.uniform(2, 60), 1 / footprint
        )
        pavement *= 1 + patch[..., None] * np.float32(rng.uniform(-0.45, 0.3))
    return pavement


def paint_marks(rng, ground, road, layout):
    """Seams, cracks and skid marks, (rows, WIDTH) float32, 1 = black."""
    mask = np.zeros((HEIGHT - road.top, WIDTH), np.uint8)
    low, high = layout["offsets"][0] - 1, layout["offsets"][-1] + 1

    def draw(offset, distance, width, strength):
        points = road.project(offset, 0, distance) - (0, road.top)
        widths = np.interp(points[:, 1] + road.top, np.arange(ROWS), road.scale) * width
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
        steps, wander = (
            np.linspace(start, start + length, 120),
            rng.uniform(0.004, 0.05) * rng.standard_normal(120).cumsum(),
        )
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
    broken = np.clip(0.75 + 0.35 * noise_at(rng, 0.7, ground.u * 40, ground.s * 15), 0.1, 1)
    return cv2.GaussianBlur(mask, (3, 3), 0.7) / np.float32(255) * broken


def decal_fraction(rng, ground, layout):
    """Fraction of each pixel covered by an arrow, letters or cross bars in one lane: paint that is no lane line."""
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
    return fraction.astype(np.float32) / 255


def paint_line(surface, ground, position, style, worn):
    """One lane line on the surface, in place: solid, dashed or double paint with wear. Dots are objects.

    Args:
        surface: (rows, WIDTH, 3).
        ground: Ground.
        position: (ROWS,) float, x in pixels.
        style: dict of `scene.draw_style`.
        worn: (rows, WIDTH) noise.
    """
    _, s, scale, footprint = ground
    columns, along, half_row = np.arange(WIDTH, dtype=np.float32), s[:, :1], footprint / 2
    rows = slice(HEIGHT - len(surface), HEIGHT)
    x = position[rows].astype(np.float32)[:, None]
    ramp = np.maximum(1, np.abs(np.gradient(position)[rows])).astype(np.float32)[:, None]
    dashes = dash_fraction(along - half_row, along + half_row, style["period"], style["dash"], style["phase"])
    apart = 0.5 * style["width"] + style.get("gap", 0.06)
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
        surface += (style["opacity"] * alpha)[..., None] * (style["color"] - surface)


def paint_lines(rng, surface, ground, layout):
    """Lane lines of `paint_line`, in place."""
    worn = noise_at(rng, 0.8, ground.u * 40, ground.s * 12)
    for position, style in zip(layout["positions"], layout["styles"], strict=True):
        if style["opacity"] > 0:
            paint_line(surface, ground, position, style, worn)


def paint_opposite(rng, surface, ground, road, opposite):
    """The opposite carriageway of `plan.opposite` with its lines, in place."""
    u, s, scale, _ = ground
    tone = color(rng, (0.15, 0.15, 0.16), (0.5, 0.5, 0.48)) * np.float32(rng.uniform(0.9, 1.1))
    rough = 1 + 0.06 * noise_at(rng, 0.9, u * 20, s * 2)
    alpha = band(u, opposite["far"], opposite["near"], scale)
    surface += alpha[..., None] * (tone * rough[..., None] - surface)
    for offset, style in zip(opposite["lines"], opposite["styles"], strict=True):
        paint_line(surface, ground, road.x_at(np.arange(ROWS), offset), style, rough - 1)


def paint_verge(rng, ground):
    """What lies beyond the shoulder: grass, dirt or gravel, (rows, WIDTH, 3)."""
    u, s, _, footprint = ground
    kinds = {
        "dry": [(0.42, 0.34, 0.2), (0.68, 0.58, 0.38), (0.3, 0.25, 0.15)],
        "green": [(0.16, 0.2, 0.08), (0.34, 0.38, 0.18), (0.3, 0.27, 0.14)],
        "dirt": [(0.38, 0.31, 0.24), (0.62, 0.54, 0.44), (0.5, 0.46, 0.4)],
        "gravel": [(0.35, 0.34, 0.32), (0.55, 0.53, 0.5), (0.42, 0.36, 0.28)],
    }
    low, high, other = kinds[str(rng.choice(list(kinds), p=[0.35, 0.2, 0.25, 0.2]))]
    mix = np.clip(0.5 + 0.5 * noise_at(rng, 1.2, u * 20, s * 8), 0, 1)[..., None] * rng.uniform(0.2, 0.9)
    main = color(rng, low, high)
    tone = (
        1 + 0.22 * noise_at(rng, 0.6, u * 60, s * 25) * fade(0.15, footprint) + 0.08 * noise_at(rng, 0.9, u * 8, s * 3)
    )
    return (main + mix * (np.float32(other) - main)) * tone[..., None]


def shade_ground(rng, ground, layout, light):
    """Sunlight left on the ground, (rows, WIDTH) in 0..1, in the shadows of bridges, trees and walls."""
    u, s, scale, footprint = ground
    lit = np.ones_like(u)
    for bridge in layout["bridges"]:
        slanted = s + rng.uniform(-0.5, 0.5) * u
        lit *= 1 - band(slanted, bridge["shadow"], bridge["shadow"] + bridge["deep"], 1 / footprint)
    from_left = light["sun_side"] > 0
    edge = (
        (layout["offsets"][0] - layout["shoulders"][0])
        if from_left
        else (layout["offsets"][-1] + layout["shoulders"][1])
    )
    inward = (u - edge) if from_left else (edge - u)
    if rng.random() < 0.25:
        leaves = noise_at(rng, 1.5, u * 30, s * 10)
        lit *= np.clip(0.5 + (1.5 * leaves + (inward - rng.uniform(1, 9)) / 3) / rng.uniform(0.3, 1.2), 0, 1)
    wall = layout["walls"][0 if from_left else 1]
    if wall:
        lit *= np.clip((inward - float(wall) * abs(light["sun_side"])) * scale * 0.5 + 0.5, 0, 1)
    return lit


def paint_ground(rng, road, layout, light):
    """The road and its verges, (rows, WIDTH, 3), and the fraction of light that falls there, (rows, WIDTH)."""
    ground = ground_of(road)
    u, s, scale, footprint = ground
    surface = paint_pavement(rng, ground, layout)
    wobble = noise_at(rng, 1.0, u * 2, s * 4)
    along, half_row = s[:, :1], footprint / 2
    for side, shoulder in enumerate(layout["shoulders"]):
        outward = (layout["offsets"][0] - u) if side == 0 else (u - layout["offsets"][-1])
        beyond = np.clip((outward - rng.uniform(0.15, 0.4)) * scale + 0.5, 0, 1)[..., None]
        surface *= 1 + beyond * np.float32(rng.uniform(-0.65, 0.1) * layout.get("dark", 1))
        if shoulder > 1.2 and rng.random() < layout.get("rumble", 0.4):  # rumble strip
            bars = dash_fraction(along - half_row, along + half_row, 0.3, 0.15, 0)
            strip = stripe_fraction((outward - 0.55) * scale, 0.2 * scale, np.float32(1)) * (bars - 0.3)
            surface *= 1 - 0.5 * strip[..., None]
        ragged = outward - shoulder + rng.uniform(0.03, 0.15) * wobble
        surface += np.clip(ragged * scale * 0.7 + 0.5, 0, 1)[..., None] * (paint_verge(rng, ground) - surface)
    if layout.get("opposite"):
        paint_opposite(rng, surface, ground, road, layout["opposite"])
    surface *= 1 - paint_marks(rng, ground, road, layout)[..., None]
    if layout.get("marks"):
        paint_street_marks(rng, surface, ground, layout)
    if rng.random() < layout.get("decals", 0.12):
        surface += decal_fraction(rng, ground, layout)[..., None] * rng.uniform(0.4, 0.9) * (np.float32(0.85) - surface)
    paint_lines(rng, surface, ground, layout)
    lit = shade_ground(rng, ground, layout, light)
    if layout.get("marks") and rng.random() < layout["marks"].get("trunks", 0):
        lit *= trunk_shadows(rng, ground)
    shade = 1 - light["sun"] * (1 - lit)
    surface *= 1 - (1 - shade)[..., None] * np.float32([1, 0.97, 0.92])  # light of the sky makes shadows bluish
    if light["night"]:
        lamps = night_light(rng, ground, layout, light)
        surface *= lamps
        shade = shade * np.minimum(2 * lamps[..., 1], 1)  # dots throw the headlights back
    return surface, shade


def paint_background(rng, road, layout, light):
    """Sky, hills and ground in haze.

    Args:
        rng: numpy Generator.
        road: geometry.Road.
        layout: dict of `scene.draw_layout`.
        light: dict of `scene.draw_light`.

    Returns:
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB.
        shade: (HEIGHT - road.top, WIDTH) float32, fraction of light on the ground.
    """
    sky = paint_sky(rng, road.top, light)
    paint_hills(rng, sky, light)
    ground, shade = paint_ground(rng, road, layout, light)
    haze = 1 - np.exp(-road.distance[road.top : HEIGHT, None, None] / light["fog"])
    ground += haze.astype(np.float32) * (light["horizon"] - ground)
    if light["kind"] == "wet":
        reach = min(road.top, HEIGHT - road.top)
        gloss = np.linspace(1, 0, reach, dtype=np.float32)[:, None, None]  # least where the view is steepest
        mirror = cv2.GaussianBlur(sky[::-1][:reach], (0, 0), 12)
        ground[:reach] += gloss * (np.float32(0.35) * mirror - np.float32(0.4) * ground[:reach])
    return (np.clip(np.concatenate([sky, ground]), 0, 1) * 255).astype(np.uint8), shade
