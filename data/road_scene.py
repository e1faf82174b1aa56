"""Draws a highway scene, as a dash-cam sees it, over given road geometry.

Everything on the ground is painted by inverse projection: each pixel below the crest of the road gets its lateral
position (m) and its distance along the road (m), and texture, paint and shadow are functions of those two. That works
alike for a road of the pinhole model and for lane lines taken from a label file, and needs no supersampling, because
the share of a pixel that a line or a dash covers has a closed form. What stands on the ground is in `road_objects.py`.
All colors are RGB in 0..1 until the last step.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

WIDTH, HEIGHT = 1280, 720  # TuSimple's pictures, pixels
ROWS = 1000  # rows of a Road; those past HEIGHT hold the near ends of cars and barriers beside the camera
LANE_WIDTH = 3.65  # m, U.S. highways
TILE = 1024  # side of a noise tile, pixels


@dataclass(frozen=True)
class Road:
    """Lane lines in the image and the scale of the ground, per image row.

    Attributes:
        lines: (ROWS, N) float, x in pixels of the N labeled lane lines, left to right.
        offsets: (N,) float, lateral position of those lines, m, 0 = the camera.
        scale: (ROWS,) float, pixels per meter on the ground at that row.
        distance: (ROWS,) float, distance along the road, m, falling with the row.
        top: int, first row with road.
    """

    lines: np.ndarray
    offsets: np.ndarray
    scale: np.ndarray
    distance: np.ndarray
    top: int

    @cached_property
    def knots(self):
        """What ties x to meters: (ROWS, N + 2) pixels, strictly rising, and (N + 2,) m; the outer two lie far away."""
        gaps = np.maximum(np.diff(self.lines, axis=1), 0.2 * self.scale[:, None])
        inner = self.lines[:, :1] + np.concatenate([np.zeros((ROWS, 1)), np.cumsum(gaps, axis=1)], axis=1)
        far = 500.0 * self.scale[:, None]
        pixels = np.concatenate([inner[:, :1] - far, inner, inner[:, -1:] + far], axis=1)
        return pixels, np.concatenate([[self.offsets[0] - 500.0], self.offsets, [self.offsets[-1] + 500.0]])

    def x_at(self, rows, offset):
        """x in pixels of the lateral position `offset` (m) at float image rows; arguments broadcast."""
        pixels, meters = self.knots
        rows, offset = np.broadcast_arrays(np.clip(rows, 0, ROWS - 1.001), offset)
        low = rows.astype(int)
        side = np.clip(np.searchsorted(meters, offset) - 1, 0, len(meters) - 2)
        share = (offset - meters[side]) / (meters[side + 1] - meters[side])
        x = pixels[low, side] * (1 - share) + pixels[low, side + 1] * share
        below = pixels[low + 1, side] * (1 - share) + pixels[low + 1, side + 1] * share
        return x + (below - x) * (rows - low)

    def row_at(self, distance):
        """Float image row of the ground at a distance (m)."""
        return np.interp(-np.asarray(distance, float), -self.distance[self.top :], np.arange(self.top, ROWS))

    def project(self, offset, height, distance):
        """Image points (..., 2) of points `offset` m aside, `height` m above the road, `distance` m ahead."""
        rows = self.row_at(distance)
        scale = np.interp(rows, np.arange(ROWS), self.scale)
        return np.stack(np.broadcast_arrays(self.x_at(rows, offset), rows - height * scale), axis=-1)


@lru_cache
def noise_tile(exponent):
    """Periodic (TILE, TILE) float32 noise, mean 0, deviation 1, with amplitude 1 / frequency ** exponent."""
    spectrum = np.fft.rfft2(np.random.default_rng(TILE).standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(spectrum * frequency**-exponent, (TILE, TILE))
    return (tile / tile.std()).astype(np.float32)


def fade(size, footprint):
    """How much of a detail of `size` m survives where one pixel row covers `footprint` m."""
    return np.clip(size / footprint, 0, 1)


def noise_at(rng, exponent, x, y):
    """Noise tile sampled at float32 maps of tile pixels, shifted at random."""
    shift = rng.integers(0, TILE, 2).astype(np.float32)
    return cv2.remap(noise_tile(exponent), x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def color(rng, low, high):
    """Random RGB between two colors, one random share for all channels, so that hues stay as chosen."""
    return np.asarray(low) + rng.random() * (np.asarray(high) - np.asarray(low))


def draw_light(rng):
    """Random weather and light of a scene, as a dict that every painter reads."""
    kind = str(rng.choice(["clear", "backlit", "overcast", "haze", "dusk", "wet"], p=[0.36, 0.24, 0.2, 0.08, 0.06, 0.06]))
    light = {"kind": kind, "sun": {"clear": 0.75, "backlit": 0.75, "haze": 0.25}.get(kind, 0.05)}
    light["sun_side"] = rng.uniform(-1.6, 1.6)  # shadow, m to the right per m of height
    light["sun_ahead"] = rng.uniform(0.3, 1.6) if kind == "backlit" else rng.uniform(-1.2, 0.4)  # m toward the camera
    light["objects"] = {"backlit": rng.uniform(0.15, 0.5), "dusk": 0.4}.get(kind, rng.uniform(0.5, 1.0))
    light["fog"] = {"haze": rng.uniform(120, 400)}.get(kind, rng.uniform(500, 4000))  # m
    gray = kind in ("overcast", "wet", "dusk")
    light["zenith"] = color(rng, (0.33, 0.36, 0.4), (0.7, 0.72, 0.76)) if gray else color(rng, (0.16, 0.3, 0.58), (0.5, 0.68, 0.9))
    light["horizon"] = color(rng, (0.55, 0.58, 0.63), (0.88, 0.9, 0.92)) if gray else color(rng, (0.6, 0.74, 0.9), (0.88, 0.93, 0.97))
    light["cloud"] = rng.uniform(0.5, 1.0) if gray else rng.uniform(0, 0.9) * (rng.random() < 0.5)
    return light


def paint_sky(rng, top, light):
    """Sky and clouds, (top, WIDTH, 3) float32."""
    y, x = np.mgrid[0:top, 0:WIDTH].astype(np.float32)
    share = (y / top)[..., None] ** rng.uniform(0.8, 2)
    sky = light["zenith"] * (1 - share) + light["horizon"] * share
    depth = 60 * 300 / (top + 40 - y)
    cloud = noise_at(rng, 1.5, (x - WIDTH / 2) * depth * rng.uniform(0.002, 0.008), depth * rng.uniform(1, 4))
    if light["kind"] in ("overcast", "wet", "dusk"):
        return sky * (1 + 0.12 * light["cloud"] * cloud[..., None])
    alpha = np.clip((cloud - rng.uniform(0, 1.2)) * rng.uniform(0.3, 1), 0, 1)[..., None] * light["cloud"]
    return sky * (1 - alpha) + np.float32([0.95, 0.96, 0.98]) * alpha


def paint_hills(rng, sky, light):
    """Hill ranges in front of the sky, in place; farther ones fade into the haze."""
    top = len(sky)
    y, x = np.mgrid[0:top, 0:WIDTH].astype(np.float32)
    for depth in np.sort(rng.uniform(0.1, 0.85, rng.integers(0, 4)))[::-1]:
        outline = noise_tile(1.8)[rng.integers(TILE)]
        profile = np.interp(np.arange(WIDTH) * rng.uniform(0.15, 0.6) + rng.uniform(0, TILE), np.arange(4 * TILE), np.tile(outline, 4))
        ridge = top - rng.uniform(5, 70) - rng.uniform(6, 30) * profile - rng.uniform(-0.06, 0.06) * (np.arange(WIDTH) - WIDTH / 2)
        alpha = np.clip(y - ridge + noise_at(rng, 0.7, x * 2, y * 2), 0, 1)[..., None]
        tone = color(rng, *rng.choice([[(0.1, 0.12, 0.07), (0.2, 0.24, 0.13)], [(0.26, 0.2, 0.12), (0.5, 0.42, 0.28)]]))
        speckle = 1 + 0.25 * noise_at(rng, 0.9, x * 2, y * 5)[..., None]
        sky += alpha * (light["horizon"] * depth + tone * speckle * (1 - depth) * (0.4 + 0.6 * light["objects"]) - sky)


def dash_share(start, stop, period, length, phase):
    """Share of each stretch start..stop (m) covered by dashes of `length` that repeat every `period` m."""

    def painted(s):
        whole = np.floor((s + phase) / period)
        return whole * length + np.minimum(s + phase - whole * period, length)

    return (painted(stop) - painted(start)) / np.maximum(stop - start, 1e-6)


def stripe_share(distance_px, half_width_px, ramp):
    """Share of each pixel, widened to `ramp` pixels for slanted lines, that a stripe around distance 0 covers."""
    share = np.minimum(distance_px + ramp / 2, half_width_px) - np.maximum(distance_px - ramp / 2, -half_width_px)
    return np.clip(share / ramp, 0, 1)


def draw_style(rng, edge):
    """Random look of one lane line: left edge (-1), between lanes (0), right edge (1)."""
    kinds = ["solid", "dashed", "dots", "dots_dashed", "double", "mixed"]
    shares = {-1: [0.72, 0.06, 0.06, 0, 0.16, 0], 0: [0.08, 0.52, 0.18, 0.17, 0.03, 0.02], 1: [0.86, 0.08, 0.05, 0, 0.01, 0]}
    style = {"kind": str(rng.choice(kinds, p=shares[edge])), "width": rng.uniform(0.09, 0.2)}
    yellow = rng.random() < {-1: 0.75, 0: 0.03, 1: 0.01}[edge]
    style["color"] = color(rng, (0.62, 0.4, 0.1), (0.95, 0.72, 0.2)) if yellow else color(rng, (0.66, 0.67, 0.66), (1, 1, 0.98))
    style["wear"] = rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 0.8)], p=[0.7, 0.3])
    style["period"], style["dash"] = (12.2, 3.05) if rng.random() < 0.8 else (rng.uniform(5, 14.6), rng.uniform(1, 4.5))
    style["dash"] = min(style["dash"], 0.6 * style["period"])
    style["phase"] = rng.uniform(0, style["period"])
    style["joint"] = rng.choice([-1, 1]) * rng.uniform(0.12, 0.45)  # m from the paint to the seam beside it
    return style


def draw_layout(rng, road):
    """Random line styles, surface, shoulders and verges for a road, as a dict."""
    extra = [rng.random() < 0.35 and (road.offsets < 0).sum() > 1, rng.random() < 0.35 and (road.offsets > 0).sum() > 1]
    left = [road.offsets[0] - LANE_WIDTH] * bool(extra[0])
    right = [road.offsets[-1] + LANE_WIDTH] * bool(extra[1])
    offsets = np.concatenate([left, road.offsets, right]).astype(np.float32)  # not 64 bits: they meet whole pictures
    positions = [road.x_at(np.arange(ROWS), u) for u in left] + list(road.lines.T) + [road.x_at(np.arange(ROWS), u) for u in right]
    concrete = rng.random() < 0.5
    styles = [draw_style(rng, -(i == 0) + (i == len(offsets) - 1)) for i in range(len(offsets))]
    inner = draw_style(rng, 0)
    for style in styles[1:-1]:
        if rng.random() < 0.75:  # a freeway's inner lines mostly look alike
            style.update({k: inner[k] for k in ("kind", "color", "width", "period", "dash")})
    shoulders = [rng.uniform(0.3, 3.2), rng.uniform(0.5, 3.5)]
    walls = [rng.choice([0.0, 0.85, 1.1, 4.0], p=p) for p in ([0.4, 0.38, 0.17, 0.05], [0.55, 0.25, 0.1, 0.1])]  # m high
    bridges = [{"distance": d, "deep": rng.uniform(8, 30), "shadow": d + rng.uniform(-8, 8)} for d in rng.uniform(5, 250, rng.choice([0, 1, 2], p=[0.7, 0.22, 0.08]))]
    layout = {"offsets": offsets, "positions": positions, "styles": styles, "concrete": concrete}
    return layout | {"shoulders": shoulders, "walls": walls, "bridges": bridges}


def paint_marks(rng, road, layout):
    """Seams, cracks and skid marks, (rows, WIDTH) float32, 1 = black."""
    mask = np.zeros((HEIGHT - road.top, WIDTH), np.uint8)
    low, high = layout["offsets"][0] - 1, layout["offsets"][-1] + 1

    def draw(offset, distance, width, strength):
        points = road.project(offset, 0, distance) - (0, road.top)
        widths = np.interp(points[:, 1] + road.top, np.arange(ROWS), road.scale) * width
        points = np.clip(points, -2000, 4000)
        for a, b, w in zip(points[:-1], points[1:], widths[:-1], strict=True):
            tone = int(255 * strength * min(1.0, w))
            cv2.line(mask, *(tuple(int(v) for v in 16 * p) for p in (a, b)), tone, max(1, round(w)), cv2.LINE_AA, 4)

    ahead = np.geomspace(road.distance[HEIGHT] * 0.9, 90, 60)
    if rng.random() < (0.85 if layout["concrete"] else 0.25):
        strength, width = rng.uniform(0.3, 0.8), rng.uniform(0.008, 0.028)
        for offset, style in zip(layout["offsets"], layout["styles"], strict=True):
            draw(offset + style["joint"] + 0.02 * rng.standard_normal(60).cumsum() * 0.3, ahead, width, strength)
    for _ in range(rng.integers(0, 5)):
        start, length = rng.uniform(4, 40), rng.uniform(2, 25)
        steps = np.linspace(start, start + length, 40)
        wander = rng.uniform(0.02, 0.12) * rng.standard_normal(40).cumsum()
        if rng.random() < 0.5:
            draw(rng.uniform(low, high) + wander, steps, rng.uniform(0.005, 0.03), rng.uniform(0.3, 0.8))
        else:
            draw(np.linspace(low, high, 40), start + 0.5 * wander, rng.uniform(0.01, 0.05), rng.uniform(0.3, 0.8))
    if rng.random() < 0.2:
        steps = np.linspace(rng.uniform(4, 20), rng.uniform(30, 70), 40)
        bend = rng.uniform(low, high) + rng.uniform(-1.5, 1.5) * np.linspace(0, 1, 40) ** 2
        for side in (-0.75, 0.75):
            draw(bend + side, steps, 0.2, rng.uniform(0.15, 0.4))
    return cv2.GaussianBlur(mask, (3, 3), 0.7).astype(np.float32) / 255


def paint_decal(rng, u, s, layout):
    """Share of each pixel covered by an arrow, letters or cross bars in one lane: paint that is no lane line."""
    mask = np.zeros((256, 96), np.uint8)
    kind = rng.choice(["arrow", "text", "bars"])
    if kind == "arrow":
        cv2.line(mask, (48, 10), (48, 160), 255, 14)
        tip = rng.integers(20, 76)
        cv2.fillPoly(mask, [np.int32([[tip - 20, 170], [tip + 20, 170], [tip, 245]])], 255)
        cv2.line(mask, (48, 150), (int(tip), 175), 255, 14)
    elif kind == "text":
        word = "".join(rng.choice(list("AEHLNOPSTXY"), rng.integers(3, 5)))
        cv2.putText(mask, word, (2, 120), cv2.FONT_HERSHEY_SIMPLEX, 2.4 / len(word), 255, 5)
        mask = cv2.resize(mask[70:130], (96, 256))[::-1].copy()
    else:
        for bar in range(6):
            cv2.rectangle(mask, (bar * 16, 20), (bar * 16 + 8, 235), 255, -1)
    lane = rng.integers(0, max(1, len(layout["offsets"]) - 1))
    middle, start = layout["offsets"][lane] + LANE_WIDTH / 2, rng.uniform(6, 30)
    length, width = rng.uniform(2, 6), rng.uniform(0.9, 2.2)
    x = (u - np.float32(middle - width / 2)) * np.float32(96 / width)
    y = np.broadcast_to((s - start) * np.float32(256 / length), u.shape)
    share = cv2.remap(mask, x, np.ascontiguousarray(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return share.astype(np.float32) / 255


def paint_surface(rng, ground, layout):
    """Pavement with slabs, wheel tracks, stains, patches and grain, (rows, WIDTH, 3) float32."""
    u, s, scale, footprint = ground
    concrete = layout["concrete"]
    base = color(rng, (0.36, 0.36, 0.34), (0.62, 0.61, 0.57)) if concrete else color(rng, (0.13, 0.135, 0.14), (0.4, 0.4, 0.4))
    offsets = layout["offsets"]
    lane = np.interp(u, np.r_[offsets[0] - LANE_WIDTH, offsets, offsets[-1] + LANE_WIDTH], np.arange(len(offsets) + 2))
    index, inside = lane.astype(np.uint8), (lane % 1).astype(np.float32)
    slab = (s / 4.6).astype(int) % 128
    tones = rng.normal(0, 0.07 if concrete else 0.03, (len(offsets) + 2, 1)) + rng.normal(0, 0.025 if concrete else 0.004, (len(offsets) + 2, 128))
    tone = 1 + tones.astype(np.float32)[index, slab]
    stain = np.float32(rng.uniform(0, 0.3)) * np.exp(-(((inside - 0.5) / rng.uniform(0.08, 0.2)) ** 2))
    tracks = np.float32(rng.uniform(-0.06, 0.14)) * (np.exp(-(((inside - 0.25) / 0.09) ** 2)) + np.exp(-(((inside - 0.75) / 0.09) ** 2)))
    along = np.broadcast_to(s, u.shape)
    blotch = noise_at(rng, 1.3, u * 12, along * rng.uniform(1, 5))
    streak = noise_at(rng, 0.9, u * 45, along * 0.6)
    tone *= (1 - stain * np.clip(1 + 0.5 * blotch, 0, 2)) * (1 - tracks)
    tone *= 1 + rng.uniform(0.02, 0.07) * blotch + rng.uniform(0.01, 0.05) * streak * np.maximum(fade(0.3, footprint), 0.25)
    tone *= 1 + rng.uniform(0.04, 0.13) * noise_at(rng, 0.35, u * 90, along * 90) * fade(0.02, footprint) + rng.uniform(0.02, 0.06) * noise_at(rng, 0.5, u * 25, along * 25) * fade(0.08, footprint)
    if concrete and rng.random() < 0.8:
        phase = rng.uniform(0, 4.6, len(offsets) + 2).astype(np.float32)[index] * rng.integers(0, 2)
        near = np.abs((along + rng.uniform(-0.15, 0.15) * u + phase) % 4.6 - 2.3)
        reach = 0.5 * rng.uniform(0.01, 0.03)
        tone *= 1 - rng.uniform(0.2, 0.7) * np.clip((reach - near) / footprint + 0.5, 0, 1) * np.minimum(1, 2 * reach / footprint)
    surface = base.astype(np.float32) * tone[..., None]
    for _ in range(rng.integers(0, 3) if rng.random() < 0.5 else 0):  # patches of other asphalt
        side, start = rng.uniform(offsets[0] - 2, offsets[-1]), rng.uniform(5, 60)
        across, long = rng.uniform(1, 4), rng.uniform(2, 60)
        ragged = along + 0.3 * noise_at(rng, 0.6, u * 20, along * 0.2)
        inside = np.clip((u - side) * scale + 0.5, 0, 1) * np.clip((side + across - u) * scale + 0.5, 0, 1)
        inside *= np.clip((ragged - start) / footprint + 0.5, 0, 1) * np.clip((start + long - ragged) / footprint + 0.5, 0, 1)
        surface *= 1 + inside[..., None] * np.float32(rng.uniform(-0.45, 0.3))
    return surface


def ground_map(road):
    """Lateral position u (rows, WIDTH), and distance s, scale, and meters per row (rows, 1), of the ground pixels."""
    rows = np.arange(road.top, HEIGHT)
    pixels, meters = road.knots
    u = np.stack([np.interp(np.arange(WIDTH), pixels[row], meters) for row in rows]).astype(np.float32)
    footprint = -np.gradient(road.distance)[rows]
    return u, *(np.float32(a)[:, None] for a in (road.distance[rows], road.scale[rows], footprint))


def paint_lines(rng, surface, ground, road, layout):
    """Lane lines on the surface, in place: solid, dashed and double paint with wear."""
    u, s, scale, footprint = ground
    rows = np.arange(road.top, HEIGHT)
    along = np.broadcast_to(s, u.shape)
    worn = noise_at(rng, 0.8, u * 40, along * 12)
    for position, style in zip(layout["positions"], layout["styles"], strict=True):
        x = position[rows][:, None]
        ramp = np.maximum(1, np.abs(np.gradient(position)[rows]))[:, None]
        dashes = dash_share(s - footprint / 2, s + footprint / 2, style["period"], style["dash"], style["phase"])
        stripes = {"solid": [(0, 1)], "dashed": [(0, dashes)], "dots_dashed": [(0, dashes)], "dots": []}
        apart = 0.5 * style["width"] + 0.06
        stripes |= {"double": [(-apart, 1), (apart, 1)], "mixed": [(-apart, dashes), (apart, 1)]}
        for aside, share in stripes[style["kind"]]:
            distance = (np.arange(WIDTH) - x - aside * scale).astype(np.float32)
            alpha = stripe_share(distance, np.maximum(0.5 * style["width"] * scale, 0.45), ramp.astype(np.float32)) * share
            alpha *= np.clip(1.1 - style["wear"] * (0.9 + 0.6 * worn), 0, 1)
            surface += alpha[..., None] * (style["color"].astype(np.float32) - surface)


def paint_verge(rng, ground):
    """What lies beside the shoulder: grass, dirt, gravel or bare ground, (rows, WIDTH, 3) float32."""
    u, s, _, footprint = ground
    along = np.broadcast_to(s, u.shape)
    kinds = {
        "dry": [(0.42, 0.34, 0.2), (0.68, 0.58, 0.38), (0.3, 0.25, 0.15)],
        "green": [(0.16, 0.24, 0.08), (0.34, 0.44, 0.18), (0.3, 0.27, 0.14)],
        "dirt": [(0.38, 0.31, 0.24), (0.62, 0.54, 0.44), (0.5, 0.46, 0.4)],
        "gravel": [(0.35, 0.34, 0.32), (0.55, 0.53, 0.5), (0.42, 0.36, 0.28)],
    }
    low, high, other = kinds[str(rng.choice(list(kinds)))]
    mix = np.clip(0.5 + 0.5 * noise_at(rng, 1.2, u * 20, along * 8), 0, 1)[..., None] * rng.uniform(0.2, 0.9)
    tone = 1 + 0.22 * noise_at(rng, 0.6, u * 60, along * 25) * fade(0.15, footprint)
    return ((color(rng, low, high) * (1 - mix) + np.float32(other) * mix) * tone[..., None]).astype(np.float32)


def shade_ground(rng, ground, layout, light):
    """Sunlight left on the ground, (rows, WIDTH) float32 in 0..1: shadows of bridges, trees and barriers."""
    u, s, scale, footprint = ground
    lit = np.ones_like(u)
    along = np.broadcast_to(s, u.shape)
    for bridge in layout["bridges"]:
        start = along + rng.uniform(-0.5, 0.5) * u
        lit *= 1 - np.clip((start - bridge["shadow"]) / footprint, 0, 1) * np.clip((bridge["shadow"] + bridge["deep"] - start) / footprint, 0, 1)
    edges = (layout["offsets"][0] - layout["shoulders"][0], layout["offsets"][-1] + layout["shoulders"][1])
    side = 0 if light["sun_side"] > 0 else 1
    inward = (u - edges[0]) if side == 0 else (edges[1] - u)
    if rng.random() < 0.25:  # trees
        reach = rng.uniform(2, 14)
        leaves = noise_at(rng, 1.1, u * 14, along * 5) + 0.5 * noise_at(rng, 0.7, u * 40, along * 15) * fade(0.3, footprint)
        lit *= np.clip(0.5 + (1.2 * leaves + (inward - reach) / 3) / rng.uniform(0.2, 1), 0, 1)
    if layout["walls"][side]:
        reach = layout["walls"][side] * abs(light["sun_side"])
        lit *= np.clip((inward - reach) * scale * 0.5 + 0.5, 0, 1)
    return lit


def paint_ground(rng, road, layout, light):
    """The road and its verges, (HEIGHT - top, WIDTH, 3) float32, and how much light falls there, (rows, WIDTH)."""
    ground = ground_map(road)
    u, s, scale, footprint = ground
    surface = paint_surface(rng, ground, layout)
    wobble = 0.15 * noise_at(rng, 1.0, u * 2, np.broadcast_to(s * 4, u.shape))
    for side, (edge, shoulder) in enumerate(zip((layout["offsets"][0], layout["offsets"][-1]), layout["shoulders"], strict=True)):
        outward = (edge - u) if side == 0 else (u - edge)
        beyond = np.clip((outward - rng.uniform(0.15, 0.4)) * scale + 0.5, 0, 1)[..., None]
        surface *= 1 + beyond * (np.float32(rng.uniform(0.35, 1.1)) - 1)
        if shoulder > 1.2 and rng.random() < 0.4:  # rumble strip
            bars = dash_share(s - footprint / 2, s + footprint / 2, 0.3, 0.15, 0)
            strip = stripe_share((outward - 0.55) * scale, 0.2 * scale, np.float32(1)) * (bars - 0.3)
            surface *= 1 - 0.5 * strip[..., None]
        verge = np.clip((outward - shoulder + wobble) * scale * 0.7 + 0.5, 0, 1)[..., None]
        surface += verge * (paint_verge(rng, ground) - surface)
    surface *= 1 - paint_marks(rng, road, layout)[..., None]
    if rng.random() < 0.12:
        surface += paint_decal(rng, u, s, layout)[..., None] * rng.uniform(0.4, 0.9) * (np.float32(0.85) - surface)
    paint_lines(rng, surface, ground, road, layout)
    lit = shade_ground(rng, ground, layout, light)
    shade = 1 - light["sun"] * (1 - lit)[..., None] * np.float32([1, 0.97, 0.9])
    return surface * shade, shade[..., 1]


def develop(rng, canvas, road, light):
    """Camera: glare, smudge, exposure, tint, vignetting, blur, noise and hood; (HEIGHT, WIDTH, 3) uint8 -> uint8."""
    picture = canvas.astype(np.float32) / 255
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    if light["kind"] in ("backlit", "wet"):
        bright = np.exp(-(((x - rng.uniform(0.2, 0.8) * WIDTH) / rng.uniform(150, 500)) ** 2) - np.abs(y - road.top) / rng.uniform(80, 300))
        picture = picture + (rng.uniform(0, 0.35) * bright)[..., None]
    if rng.random() < 0.2:  # a smudge on the windshield
        spot = np.exp(-(((x - rng.uniform(0.2, 0.8) * WIDTH) / rng.uniform(30, 90)) ** 2) - ((y - rng.uniform(100, 500)) / rng.uniform(30, 80)) ** 2)
        soft = cv2.blur(picture, (31, 31))
        picture = picture + (rng.uniform(0.3, 0.8) * spot)[..., None] * (soft * rng.uniform(0.8, 1.1) - picture)
    tint = 1 + rng.normal(0, 0.03, 3) + rng.uniform(0, 0.06) * np.array([-1, 1, 0])
    gain = {"dusk": rng.uniform(0.35, 0.6)}.get(light["kind"], rng.uniform(0.6, 1.15))
    vignette = 1 - rng.uniform(0, 0.35) * (((x - WIDTH / 2) / WIDTH) ** 2 + ((y - HEIGHT / 2) / HEIGHT) ** 2)
    picture = np.clip(picture * (gain * tint).astype(np.float32) * vignette[..., None], 0, 1) ** np.float32(rng.uniform(0.85, 1.35))
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.1))
    noise = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32), (0, 0), rng.uniform(0.3, 0.7))
    picture = picture + rng.uniform(0.002, 0.014) * noise * (0.4 + picture)
    if rng.random() < 0.35:  # lower edge of the windshield or the hood
        rise, bend = rng.uniform(4, 14) if rng.random() < 0.8 else rng.uniform(20, 60), rng.uniform(0, 25)
        edge = HEIGHT - rise + bend * ((x - WIDTH / 2) / WIDTH * 2) ** 2 + rng.uniform(-3, 3) * (x / WIDTH)
        hood = np.clip((y - edge) / rng.uniform(1, 4), 0, 1)[..., None]
        picture = picture * (1 - hood) + hood * color(rng, (0.02, 0.02, 0.03), (0.25, 0.25, 0.27)).astype(np.float32)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def paint_background(rng, road, layout, light):
    """Sky, hills and ground in haze.

    Returns:
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB.
        shade: (HEIGHT - road.top, WIDTH) float32, share of light on the ground.
    """
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    picture[: road.top] = paint_sky(rng, road.top, light)
    paint_hills(rng, picture[: road.top], light)
    ground, shade = paint_ground(rng, road, layout, light)
    fog = np.exp(-road.distance[road.top : HEIGHT, None, None] / light["fog"]).astype(np.float32)
    picture[road.top :] = ground * fog + light["horizon"] * (1 - fog)
    if light["kind"] == "wet":
        mirror = cv2.GaussianBlur(picture[: road.top][::-1], (0, 0), 12)
        reach = min(len(mirror), HEIGHT - road.top)
        picture[road.top : road.top + reach] = 0.65 * picture[road.top : road.top + reach] + 0.3 * mirror[:reach]
    return np.clip(picture * 255, 0, 255).astype(np.uint8), shade
