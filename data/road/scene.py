"""Light, layout, sky, hills and camera of a drawn highway scene, and the brushes of all its painters.

The ground is painted by `surface.py`, what stands on it by `objects.py`. Colors are RGB in 0..1, float32.
"""

from functools import lru_cache

import cv2
import numpy as np

from .geometry import HEIGHT, LANE_WIDTH, ROWS, WIDTH

TILE = 1024  # side of a noise tile, pixels


@lru_cache
def noise_tile(exponent):
    """Periodic (TILE, TILE) float32 noise, mean 0, deviation 1, with amplitude 1 / frequency ** exponent."""
    spectrum = np.fft.rfft2(np.random.default_rng(TILE).standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(spectrum * frequency**-exponent, (TILE, TILE))
    return (tile / tile.std()).astype(np.float32)


def noise_at(rng, exponent, x, y):
    """Noise tile sampled at float32 maps of tile pixels, shifted at random."""
    shift = rng.integers(0, TILE, 2).astype(np.float32)
    return cv2.remap(noise_tile(exponent), x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def color(rng, low, high):
    """Random RGB between two colors, one random fraction for all channels, so that the hue stays as chosen."""
    return np.float32(low) + np.float32(rng.random()) * (np.float32(high) - np.float32(low))


def fogged(rgb, distance, light):
    """RGB in 0..1 of a thing at a distance, in the scene's haze -> 8-bit tuple."""
    clear = np.exp(-distance / light["fog"])
    if light.get("night"):  # what the own headlights and the street lamps show of it
        rgb = np.asarray(rgb) * (light["night"]["ambient"] + 0.8 / (1 + (distance / light["night"]["reach"]) ** 2))
    return tuple(int(v) for v in np.clip(255 * (np.asarray(rgb) * clear + light["horizon"] * (1 - clear)), 0, 255))


def fixed(points):
    """Float pixel points in OpenCV's form with 4 fractional bits."""
    return np.int32(np.clip(points, -1500, 2000) * 16)


def fill(canvas, points, tone):
    """Fill an anti-aliased polygon given by float pixel points."""
    cv2.fillPoly(canvas, [fixed(points)], tone, cv2.LINE_AA, 4)


def stroke(canvas, points, tone, width):
    """Draw an anti-aliased line through float pixel points."""
    cv2.polylines(canvas, [fixed(points)], False, tone, max(1, int(width)), cv2.LINE_AA, 4)


def darken(canvas, points, strength, soft):
    """Multiply a polygon of the canvas by 1 - strength, its border blurred over `soft` pixels."""
    low = np.maximum(np.floor(points.min(0) - 2 * soft), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0) + 2 * soft), (WIDTH, HEIGHT)).astype(int)
    if (high - low).min() < 1:
        return
    mask = np.zeros((high - low)[::-1], np.uint8)
    fill(mask, points - low, 255)
    fraction = cv2.GaussianBlur(mask, (0, 0), max(0.3, soft / 2)).astype(np.float32)[..., None] * np.float32(
        strength / 255
    )
    region = canvas[low[1] : high[1], low[0] : high[0]]
    region[:] = region * (1 - fraction)


def draw_light(rng, other=False):
    """Random weather and light of a scene, with `other` at any hour: a dict that every painter reads."""
    kinds = ["clear", "backlit", "overcast", "haze", "dusk", "wet", "night"]
    common, rare = [0.36, 0.24, 0.2, 0.08, 0.06, 0.06, 0], [0.26, 0.16, 0.18, 0.05, 0.1, 0.1, 0.15]
    kind = str(rng.choice(kinds, p=rare if other else common))
    gray, night = kind in ("overcast", "wet", "dusk", "night"), kind == "night"
    zenith = ((0.33, 0.36, 0.4), (0.7, 0.72, 0.76)) if gray else ((0.27, 0.4, 0.62), (0.58, 0.72, 0.88))
    horizon = ((0.55, 0.58, 0.63), (0.88, 0.9, 0.92)) if gray else ((0.6, 0.72, 0.86), (0.88, 0.93, 0.97))
    if night:
        zenith, horizon = ((0.0, 0.0, 0.01), (0.05, 0.05, 0.09)), ((0.01, 0.01, 0.02), (0.14, 0.11, 0.1))
    return {
        "kind": kind,
        "gray": gray,
        "sun": {"clear": 0.66, "backlit": 0.7, "haze": 0.25}.get(kind, 0.05),  # fraction of light lost in a shadow
        "sun_side": rng.uniform(-1.6, 1.6),  # shadow, m to the right per m of height
        "sun_ahead": rng.uniform(0.3, 1.6) if kind == "backlit" else rng.uniform(-1.2, 0.4),  # m to the camera per m
        "night": draw_night(rng) if night else None,
        "lamps": night or (other and kind in ("dusk", "wet") and rng.random() < 0.6),  # cars have their lamps on
        "wet": other and kind == "wet" or night and rng.random() < 0.3,
        "objects": {"backlit": rng.uniform(0.15, 0.5), "dusk": 0.4}.get(kind, rng.uniform(0.5, 0.85 if gray else 1.0)),
        "fog": rng.uniform(150, 500) if kind == "haze" else rng.uniform(600, 4000),  # m at which 37 % shows through
        "zenith": color(rng, *zenith),
        "horizon": color(rng, *horizon),
        "cloud": rng.uniform(0.5, 1.0) if gray else rng.uniform(0, 0.9) * (rng.random() < 0.5),
    }


def draw_night(rng):
    """Random light of a night: of the own headlights up to `reach` m, and of the street lamps, if any."""
    lit = rng.random() < 0.6
    return {
        "reach": rng.uniform(14, 30),  # m
        "ambient": rng.uniform(0.06, 0.2) if lit else rng.uniform(0.01, 0.06),
        "lit": lit,
        "lamp": np.float32([1, 0.62, 0.25] if rng.random() < 0.5 else [0.95, 0.97, 1]),
        "headlight": color(rng, (1, 0.85, 0.6), (0.92, 0.97, 1)),
    }


def draw_style(rng, edge):
    """Random look of one lane line: left edge (-1), between lanes (0), right edge (1)."""
    kinds = ["solid", "dashed", "dots", "dots_dashed", "double", "mixed"]
    left, inner, right = (
        [0.72, 0.06, 0.06, 0, 0.16, 0],
        [0.08, 0.5, 0.2, 0.17, 0.03, 0.02],
        [0.86, 0.08, 0.05, 0, 0.01, 0],
    )
    yellow = rng.random() < {-1: 0.75, 0: 0.03, 1: 0.01}[edge]
    paint = ((0.62, 0.4, 0.1), (0.95, 0.72, 0.2)) if yellow else ((0.66, 0.67, 0.66), (1, 1, 0.98))
    period, dash = (
        (12.2, 3.05) if rng.random() < 0.8 else (rng.uniform(5, 14.6), rng.uniform(1, 4.5))
    )  # m, 40 and 10 ft
    return {
        "kind": str(rng.choice(kinds, p={-1: left, 0: inner, 1: right}[edge])),
        "width": rng.uniform(0.09, 0.16) if rng.random() < 0.85 else rng.uniform(0.15, 0.22),  # m
        "color": color(rng, *paint),
        "opacity": rng.uniform(0.85, 1) if rng.random() < 0.75 else rng.uniform(0.25, 0.85),
        "wear": rng.uniform(0, 0.3) if rng.random() < 0.7 else rng.uniform(0.3, 0.8),
        "period": period,
        "dash": min(dash, 0.6 * period),
        "phase": rng.uniform(0, period),
        "joint": (1 if rng.random() < 0.5 else -1) * rng.uniform(0.12, 0.45),  # m from the paint to the seam beside it
    }


def draw_layout(rng, road, beyond=0.35):
    """Random line styles, surface, shoulders, walls and bridges along a road: a dict that the painters read.

    `offsets` (m), `positions` ((ROWS,) x in pixels) and `styles` have one entry per painted line: the labeled ones and,
    with chance `beyond`, where two or more are labeled on a side of the car, one more that TuSimple would not label.
    """
    left = [road.offsets[0] - LANE_WIDTH] if (road.offsets < 0).sum() > 1 and rng.random() < beyond else []
    right = [road.offsets[-1] + LANE_WIDTH] if (road.offsets > 0).sum() > 1 and rng.random() < beyond else []
    ramps = []
    for side, sign in ((left, 1), (right, -1)):  # some of these lines are those of a ramp that joins or leaves the road
        toward = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.03, 0.12) * (road.distance - rng.uniform(10, 60))
        aside = np.clip(toward, 0, LANE_WIDTH - 0.5) * sign if rng.random() < 0.4 else 0
        ramps.append([road.x_at(np.arange(ROWS), u + aside) for u in side])
    count = len(left) + len(road.offsets) + len(right)
    styles = [draw_style(rng, (i == count - 1) - (i == 0)) for i in range(count)]
    inner = draw_style(rng, 0)
    for style in styles[1:-1]:
        if rng.random() < 0.75:  # a freeway's inner lines mostly look alike
            style.update({key: inner[key] for key in ("kind", "color", "width", "period", "dash")})
    bridges = rng.uniform(5, 250, rng.choice([0, 1, 2], p=[0.7, 0.22, 0.08]))  # m ahead
    return {
        "offsets": np.concatenate([left, road.offsets, right]).astype(np.float32),
        "positions": [*ramps[0], *road.lines.T, *ramps[1]],
        "styles": styles,
        "concrete": rng.random() < 0.5,
        # m from the outer line; as wide as a lane too, so that a wall's foot a lane away isn't taken for one more line
        "shoulders": [rng.uniform(0.3, 4.5), rng.uniform(0.5, 4.5)],
        "walls": [
            rng.choice([0, 0.85, 1.1, 4], p=p) for p in ([0.4, 0.38, 0.17, 0.05], [0.6, 0.23, 0.1, 0.07])
        ],  # m high
        "bridges": [{"distance": d, "deep": rng.uniform(8, 30), "shadow": d + rng.uniform(-8, 8)} for d in bridges],
    }


def paint_sky(rng, top, light):
    """Sky and clouds, (top, WIDTH, 3)."""
    y, x = np.mgrid[0:top, 0:WIDTH].astype(np.float32)
    fraction = (y / top)[..., None] ** rng.uniform(0.8, 2)
    sky = light["zenith"] * (1 - fraction) + light["horizon"] * fraction
    depth = 60 * 300 / (top + 40 - y)
    cloud = noise_at(rng, 1.5, (x - WIDTH / 2) * depth * rng.uniform(0.002, 0.008), depth * rng.uniform(1, 4))
    if light["gray"]:
        return sky * (1 + 0.12 * light["cloud"] * cloud[..., None])
    alpha = np.clip((cloud - rng.uniform(0, 1.2)) * rng.uniform(0.3, 1), 0, 1)[..., None] * light["cloud"]
    return sky * (1 - alpha) + np.float32([0.95, 0.96, 0.98]) * alpha


def paint_hills(rng, sky, light):
    """Hills and, along the horizon, far woods in front of the sky, in place; the farther, the deeper in haze."""
    x = np.arange(WIDTH, dtype=np.float32)
    depths = [*np.sort(rng.uniform(0.15, 0.85, rng.integers(0, 4)))[::-1], rng.uniform(0.02, 0.3)]
    for number, depth in enumerate(depths):
        woods = number == len(depths) - 1
        outline = noise_tile(1.1 if woods else 1.8)[rng.integers(TILE)]
        stretch = rng.uniform(0.3, 1.2) if woods else rng.uniform(0.15, 0.6)
        profile = np.interp(x * stretch + rng.uniform(0, TILE), np.arange(4 * TILE), np.tile(outline, 4))
        height, rough = (rng.uniform(2, 22), rng.uniform(2, 7)) if woods else (rng.uniform(5, 75), rng.uniform(6, 30))
        ridge = len(sky) - height - rough * profile - rng.uniform(-0.06, 0.06) * (x - WIDTH / 2)
        first = int(np.clip(ridge.min() - 3, 0, len(sky) - 1))
        region, y = sky[first:], np.arange(first, len(sky), dtype=np.float32)[:, None]
        map_x, map_y = np.broadcast_to(x * 2, region.shape[:2]), np.broadcast_to(y * 2, region.shape[:2])
        alpha = np.clip(y - ridge.astype(np.float32) + noise_at(rng, 0.7, map_x, map_y), 0, 1)[..., None]
        dark, dry = ((0.08, 0.1, 0.06), (0.2, 0.24, 0.13)), ((0.26, 0.2, 0.12), (0.5, 0.42, 0.28))
        bright = 0.1 if light["night"] else 0.4 + 0.6 * light["objects"]
        tone = color(rng, *(dark if woods or rng.random() < 0.6 else dry)) * np.float32(bright)
        speckle = 1 + 0.3 * noise_at(rng, 0.9, map_x, map_y * np.float32(2.5))[..., None]
        region += alpha * (light["horizon"] * np.float32(depth) + tone * speckle * np.float32(1 - depth) - region)
    if rng.random() < 0.15:  # power lines
        for height in np.arange(rng.integers(3, 8)) * rng.uniform(3, 8) + rng.uniform(20, 150):
            wire = (
                height + rng.uniform(0, 30) * ((x - rng.uniform(0, WIDTH)) / WIDTH) ** 2 + rng.uniform(-0.05, 0.05) * x
            )
            cv2.polylines(sky, [np.int32(np.stack([x, wire], 1))], False, (0.15, 0.16, 0.18))


def develop(rng, canvas, top, light, edge=True):
    """Camera: glare, smudge, tint, vignetting, exposure, blur, noise and hood.

    Args:
        rng: numpy Generator.
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB.
        top: int, row of the horizon.
        light: dict of `draw_light`.
        edge: whether a dark lower edge of the windshield may be seen.

    Returns:
        (HEIGHT, WIDTH, 3) uint8, RGB.
    """
    image = canvas.astype(np.float32) / 255
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]

    def spot(middle, row, width, height):
        return (np.exp(-(((x - middle) / width) ** 2)) * np.exp(-(((y - row) / height) ** 2)))[..., None]

    if light["kind"] in ("backlit", "wet"):
        glare = spot(rng.uniform(0.2, 0.8) * WIDTH, top, rng.uniform(150, 500), rng.uniform(80, 300))
        image += np.float32(rng.uniform(0, 0.35)) * glare
    if rng.random() < 0.2:  # a smudge on the windshield
        smudge = spot(rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(100, 500), rng.uniform(30, 90), rng.uniform(30, 80))
        image += rng.uniform(0.3, 0.8) * smudge * (cv2.blur(image, (31, 31)) * rng.uniform(0.8, 1.1) - image)
    tint = 1 + rng.normal(0, 0.02, 3) + rng.uniform(0, 0.05) * np.array([-1, 1, 0])
    vignette = 1 - rng.uniform(0, 0.4) * ((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2)
    image *= vignette[..., None]
    image *= tint.astype(np.float32)
    cv2.pow(image, rng.uniform(0.85, 1.4), image)
    target = rng.normal(0.38, 0.04) * (0.6 if light["kind"] == "dusk" else 1)  # TuSimple's frames: 95 to 105 of 255
    if light["night"]:  # a dark scene stays dark
        target = float(np.clip(image.mean() * rng.uniform(1, 3), 0.06, 0.3))
    for _ in range(2):  # automatic exposure; clipping takes some light away, hence the repetition
        image *= np.float32(target / image.mean())
        np.minimum(image, 1, out=image)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    grain = noise_tile(0.0 if rng.random() < 0.5 else 0.3)
    grain = np.stack(
        [np.tile(np.roll(grain, rng.integers(0, TILE, 2), (0, 1)), (1, 2))[:HEIGHT, :WIDTH] for _ in range(3)], 2
    )
    image += rng.uniform(0.003, 0.018) * (rng.uniform(1, 4) if light["night"] else 1) * grain * (0.4 + image)
    if edge and rng.random() < 0.35:  # lower edge of the windshield, or the hood
        rise, bend = rng.uniform(4, 14) if rng.random() < 0.8 else rng.uniform(20, 60), rng.uniform(0, 25)
        edge = HEIGHT - rise + bend * (2 * x / WIDTH - 1) ** 2 + rng.uniform(-3, 3) * (x / WIDTH)
        hood = np.clip((y - edge) / rng.uniform(1, 4), 0, 1)[..., None]
        image += hood * (color(rng, (0.02, 0.02, 0.03), (0.25, 0.25, 0.27)) - image)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
