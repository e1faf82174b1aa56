"""Weather and light of a scene: sun, haze, sky and far hills.

`pan`: px that the camera has turned to the right since the first image of a drive.
"""

from dataclasses import dataclass

import numpy as np

from .canvas import NOISE_SIDE, WIDTH, noise_tile, random_color, random_noise

KINDS = {"clear": 0.36, "backlit": 0.24, "overcast": 0.2, "haze": 0.1, "dusk": 0.1}  # fraction of each


@dataclass(frozen=True)
class Light:
    kind: str  # of KINDS
    sun: float  # fraction of the light that a shadow takes
    sun_side: float  # shadow, m to the right per m of height
    sun_ahead: float  # shadow, m toward the camera per m of height
    objects: float  # brightness of what stands on the ground
    fog: float  # m at which 37 % of a thing show through
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: float  # 0 to 1
    gray: bool  # clouds cover the whole sky


def random_light(rng):
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    gray = kind in ("overcast", "dusk")
    zenith = ((0.33, 0.36, 0.4), (0.7, 0.72, 0.76)) if gray else ((0.27, 0.4, 0.62), (0.58, 0.72, 0.88))
    horizon = ((0.55, 0.58, 0.63), (0.88, 0.9, 0.92)) if gray else ((0.6, 0.72, 0.86), (0.88, 0.93, 0.97))
    objects = {"backlit": rng.uniform(0.15, 0.5), "dusk": 0.4}
    return Light(
        kind=kind,
        sun={"clear": 0.66, "backlit": 0.7, "haze": 0.25}.get(kind, 0.05),
        sun_side=rng.uniform(-1.6, 1.6),
        sun_ahead=rng.uniform(0.3, 1.6) if kind == "backlit" else rng.uniform(-1.2, 0.4),
        objects=objects.get(kind, rng.uniform(0.5, 0.85 if gray else 1.0)),
        fog=rng.uniform(150, 500) if kind == "haze" else rng.uniform(600, 4000),
        zenith=random_color(rng, *zenith),
        horizon=random_color(rng, *horizon),
        cloud=rng.uniform(0.5, 1.0) if gray else rng.uniform(0, 0.9) * (rng.random() < 0.5),
        gray=gray,
    )


def draw_sky(rng, top, light, pan):
    """Sky, clouds, hills and far woods, (top, WIDTH, 3)."""
    x, y = np.arange(WIDTH, dtype=np.float32) + pan, np.arange(top, dtype=np.float32)[:, None]
    fraction = (y / top)[..., None] ** rng.uniform(0.8, 2)
    sky = light.zenith * (1 - fraction) + light.horizon * fraction
    depth = 60 * 300 / (top + 40 - y)  # of a level layer of clouds
    cloud = random_noise(rng, 1.5, (x - WIDTH / 2) * depth * rng.uniform(0.002, 0.008), depth * rng.uniform(1, 4))
    if light.gray:
        sky = sky * (1 + 0.12 * light.cloud * cloud[..., None])
    else:
        alpha = np.clip((cloud - rng.uniform(0, 1.2)) * rng.uniform(0.3, 1), 0, 1)[..., None] * light.cloud
        sky = sky * (1 - alpha) + np.float32([0.95, 0.96, 0.98]) * alpha
    for depth in np.sort(rng.uniform(0.15, 0.85, rng.integers(0, 4)))[::-1]:  # far first
        draw_ridge(rng, sky, light, pan, depth)
    draw_ridge(rng, sky, light, pan, rng.uniform(0.02, 0.3), woods=True)
    return sky


def draw_ridge(rng, sky, light, pan, depth, woods=False):
    """A ridge of hills or far woods, in place; `depth` in the haze is 0 to 1."""
    x, depth = np.arange(WIDTH, dtype=np.float32), np.float32(depth)
    outline = noise_tile(1.1 if woods else 1.8)[rng.integers(NOISE_SIDE)]
    places = (x + pan) * rng.uniform(0.15, 0.6) * (2 if woods else 1) + rng.uniform(0, NOISE_SIDE)
    profile = np.interp(places, np.arange(NOISE_SIDE), outline, period=NOISE_SIDE)
    height, rough = (rng.uniform(2, 22), rng.uniform(2, 7)) if woods else (rng.uniform(5, 75), rng.uniform(6, 30))
    ridge = np.float32(height + rough * profile + rng.uniform(-0.06, 0.06) * (x - WIDTH / 2))  # px above the horizon
    region = sky[-int(np.clip(ridge.max() + 3, 1, len(sky))) :]
    y = np.arange(-len(region), 0, dtype=np.float32)[:, None]  # rows from the horizon
    alpha = np.clip(y + ridge + random_noise(rng, 0.7, (x + pan) * 2, y * 2), 0, 1)[..., None]
    dark, dry = ((0.08, 0.1, 0.06), (0.2, 0.24, 0.13)), ((0.26, 0.2, 0.12), (0.5, 0.42, 0.28))
    rgb = random_color(rng, *(dark if woods or rng.random() < 0.6 else dry)) * np.float32(0.4 + 0.6 * light.objects)
    speckle = 1 + 0.3 * random_noise(rng, 0.9, (x + pan) * 2, y * 5)[..., None]
    region += alpha * (light.horizon * depth + rgb * speckle * (1 - depth) - region)
