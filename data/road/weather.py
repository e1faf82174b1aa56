"""Weather and light of a scene: sky and far hills, what headlights and street lamps show, reflections on a wet road.

Colors are RGB in 0..1, float32; `rng` is a numpy Generator.
"""

import cv2
import numpy as np

from .canvas import NOISE_SIDE, noise_tile, random_color, random_noise
from .geometry import HEIGHT, WIDTH


def random_light(rng, other=False):
    """Random weather and light of a scene, with `other` at any hour: a dict that all drawing reads."""
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
        "night": random_night(rng) if night else None,
        "lamps": night or (other and kind in ("dusk", "wet") and rng.random() < 0.6),  # cars have their lamps on
        "wet": other and kind == "wet" or night and rng.random() < 0.3,
        "objects": {"backlit": rng.uniform(0.15, 0.5), "dusk": 0.4}.get(kind, rng.uniform(0.5, 0.85 if gray else 1.0)),
        "fog": rng.uniform(150, 500) if kind == "haze" else rng.uniform(600, 4000),  # m at which 37 % shows through
        "zenith": random_color(rng, *zenith),
        "horizon": random_color(rng, *horizon),
        "cloud": rng.uniform(0.5, 1.0) if gray else rng.uniform(0, 0.9) * (rng.random() < 0.5),
    }


def random_night(rng):
    """Random light of a night: of the own headlights up to `reach` m, and of the street lamps, if any."""
    lit = rng.random() < 0.6
    return {
        "reach": rng.uniform(14, 30),  # m
        "ambient": rng.uniform(0.06, 0.2) if lit else rng.uniform(0.01, 0.06),
        "lit": lit,
        "lamp": np.float32([1, 0.62, 0.25] if rng.random() < 0.5 else [0.95, 0.97, 1]),
        "headlight": random_color(rng, (1, 0.85, 0.6), (0.92, 0.97, 1)),
    }


def draw_night_light(rng, ground, layout, light):
    """Light on the ground at night, (rows, WIDTH, 3) float32, 1 = a bright headlight 10 m ahead."""
    night, (u, s, _, _) = light["night"], ground
    cone = np.exp(-(((u - rng.normal(0, 0.5)) / (1.5 + rng.uniform(0.12, 0.3) * s)) ** 2))
    beam = 1.1 * cone * np.exp(-s / night["reach"]) * (1 - 0.8 * np.exp(-s / rng.uniform(1.5, 4)))
    lit = beam[..., None] * night["headlight"] + np.float32(night["ambient"])
    if night["lit"]:
        aside = layout["offsets"][0 if rng.random() < 0.5 else -1] + np.float32(rng.uniform(-3, 3))
        period, phase = rng.uniform(25, 50), rng.uniform(0, 2 * np.pi)
        wave = 0.6 + 0.4 * np.cos(s * (2 * np.pi / period) + phase)
        pool = np.exp(-(((u - aside) / rng.uniform(5, 12)) ** 2)) * wave
        lit += (rng.uniform(0.1, 0.5) * pool)[..., None].astype(np.float32) * night["lamp"]
    return lit


def draw_sky(rng, top, light):
    """Sky and clouds, (top, WIDTH, 3)."""
    y, x = np.mgrid[0:top, 0:WIDTH].astype(np.float32)
    fraction = (y / top)[..., None] ** rng.uniform(0.8, 2)
    sky = light["zenith"] * (1 - fraction) + light["horizon"] * fraction
    depth = 60 * 300 / (top + 40 - y)
    cloud = random_noise(rng, 1.5, (x - WIDTH / 2) * depth * rng.uniform(0.002, 0.008), depth * rng.uniform(1, 4))
    if light["gray"]:
        return sky * (1 + 0.12 * light["cloud"] * cloud[..., None])
    alpha = np.clip((cloud - rng.uniform(0, 1.2)) * rng.uniform(0.3, 1), 0, 1)[..., None] * light["cloud"]
    return sky * (1 - alpha) + np.float32([0.95, 0.96, 0.98]) * alpha


def draw_hills(rng, sky, light):
    """Hills and, along the horizon, far woods in front of the sky, in place; the farther, the deeper in haze."""
    x = np.arange(WIDTH, dtype=np.float32)
    depths = [*np.sort(rng.uniform(0.15, 0.85, rng.integers(0, 4)))[::-1], rng.uniform(0.02, 0.3)]
    for number, depth in enumerate(depths):
        woods = number == len(depths) - 1
        outline = noise_tile(1.1 if woods else 1.8)[rng.integers(NOISE_SIDE)]
        stretch = rng.uniform(0.3, 1.2) if woods else rng.uniform(0.15, 0.6)
        places = x * stretch + rng.uniform(0, NOISE_SIDE)
        profile = np.interp(places, np.arange(4 * NOISE_SIDE), np.tile(outline, 4))
        height, rough = (rng.uniform(2, 22), rng.uniform(2, 7)) if woods else (rng.uniform(5, 75), rng.uniform(6, 30))
        ridge = len(sky) - height - rough * profile - rng.uniform(-0.06, 0.06) * (x - WIDTH / 2)
        first = int(np.clip(ridge.min() - 3, 0, len(sky) - 1))
        region, y = sky[first:], np.arange(first, len(sky), dtype=np.float32)[:, None]
        map_x, map_y = np.broadcast_to(x * 2, region.shape[:2]), np.broadcast_to(y * 2, region.shape[:2])
        alpha = np.clip(y - ridge.astype(np.float32) + random_noise(rng, 0.7, map_x, map_y), 0, 1)[..., None]
        dark, dry = ((0.08, 0.1, 0.06), (0.2, 0.24, 0.13)), ((0.26, 0.2, 0.12), (0.5, 0.42, 0.28))
        bright = 0.1 if light["night"] else 0.4 + 0.6 * light["objects"]
        rgb = random_color(rng, *(dark if woods or rng.random() < 0.6 else dry)) * np.float32(bright)
        speckle = 1 + 0.3 * random_noise(rng, 0.9, map_x, map_y * np.float32(2.5))[..., None]
        region += alpha * (light["horizon"] * np.float32(depth) + rgb * speckle * np.float32(1 - depth) - region)
    if rng.random() < 0.15:  # power lines
        for height in np.arange(rng.integers(3, 8)) * rng.uniform(3, 8) + rng.uniform(20, 150):
            sag = rng.uniform(0, 30) * ((x - rng.uniform(0, WIDTH)) / WIDTH) ** 2
            wire = height + sag + rng.uniform(-0.05, 0.05) * x
            cv2.polylines(sky, [np.int32(np.stack([x, wire], 1))], False, (0.15, 0.16, 0.18))


def draw_streaks(rng, canvas, top):
    """Reflections on a wet road: bright parts of an 8-bit canvas drawn out downward from row `top` on, in place."""
    small = cv2.resize(canvas, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA).astype(np.float32)
    bright = np.maximum(small - max(100.0, float(np.percentile(small, 80))), 0)
    length = int(rng.uniform(15, 90))
    kernel = np.exp(np.linspace(-3, 0, length, dtype=np.float32))[:, None]
    smear = cv2.filter2D(bright, -1, kernel / 6, anchor=(0, length - 1), borderType=cv2.BORDER_CONSTANT)
    smear = cv2.resize(cv2.GaussianBlur(smear, (0, 0), 1), (WIDTH, HEIGHT))[top:]
    fade_in = np.clip(np.arange(len(smear), dtype=np.float32) / 12, 0, 1)[:, None, None]
    region = canvas[top:]
    region[:] = np.clip(region + np.float32(rng.uniform(0.15, 0.8)) * fade_in * smear, 0, 255)
