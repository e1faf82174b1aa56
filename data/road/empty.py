"""Images without a lane line: what is no road: noise, gradients, flat colors, shapes; `rng` is a numpy Generator.

They teach a network to find nothing where nothing is. Colors are RGB in 0..1, float32.
"""

import cv2
import numpy as np

from .canvas import fill, random_noise, stroke
from .geometry import HEIGHT, WIDTH

# fraction of each; the first two are unmarked roads
EMPTY_KINDS = {"road": 0.2, "street": 0.3, "flat": 0.07, "gradient": 0.15, "noise": 0.14, "shapes": 0.14}


def random_empty_kind(rng):
    return str(rng.choice(list(EMPTY_KINDS), p=list(EMPTY_KINDS.values())))


def random_flat_noise(rng, exponent, zoom=1.0):
    """Noise over the image, (HEIGHT, WIDTH, 1)."""
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    return random_noise(rng, exponent, x * np.float32(zoom), y * np.float32(zoom))[..., None]


def random_gradient(rng):
    """(HEIGHT, WIDTH, 1) float32, smooth, about -1..1: along a line, around a point, or cloudy."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    y, x = y / HEIGHT - 0.5, x / WIDTH - 0.5
    kind = rng.choice(3)
    if kind == 0:
        angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        return (2 * (np.cos(angle) * x + np.sin(angle) * y))[..., None].astype(np.float32)
    if kind == 1:
        middle = rng.uniform(-0.4, 0.4, 2)
        square = (x - middle[0]) ** 2 + (y - middle[1]) ** 2
        return (2 * np.exp(-square / rng.uniform(0.05, 0.5)) - 1)[..., None].astype(np.float32)
    return 0.6 * random_flat_noise(rng, 1.8, rng.uniform(0.1, 0.6))


def draw_shapes(rng, image):
    """The image with filled polygons and strokes of any color and direction."""
    canvas = (image * 255).astype(np.uint8)
    for _ in range(rng.integers(2, 25)):
        tone = tuple(int(c) for c in rng.integers(0, 256, 3))
        middle, size = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT), rng.uniform(10, 350)
        if rng.random() < 0.7:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
            fill(canvas, middle + size * np.stack([np.cos(angles), np.sin(angles)], axis=1), tone)
        else:
            stroke(canvas, middle + size * rng.normal(0, 1, (int(rng.integers(2, 6)), 2)), tone, rng.integers(1, 20))
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 12))
    return canvas.astype(np.float32) / 255


def draw_nothing(rng, kind):
    """(HEIGHT, WIDTH, 3) uint8 RGB image of a kind of EMPTY_KINDS that is no road.

    "flat" is one color, "gradient" a smooth one, as in an unsharp photo, "noise" goes from white to cloudy, "shapes"
    are polygons and strokes over a gradient.
    """
    image = np.ones((HEIGHT, WIDTH, 1), np.float32) * rng.uniform(0, 1, 3).astype(np.float32)
    if rng.random() < 0.5:  # gray
        image[:] = image.mean(axis=2, keepdims=True)
    if kind in ("gradient", "shapes"):
        image += random_gradient(rng) * rng.uniform(-0.6, 0.6, 3 if rng.random() < 0.5 else 1).astype(np.float32)
    if kind == "shapes":
        image = draw_shapes(rng, np.clip(image, 0, 1))
    if kind == "noise":
        channels = [random_flat_noise(rng, rng.uniform(0, 1.8)) for _ in range(3 if rng.random() < 0.5 else 1)]
        image += rng.uniform(0.02, 0.6) * np.concatenate(channels, axis=2)
    elif rng.random() < 0.5:  # a camera's noise
        image += rng.uniform(0, 0.04) * random_flat_noise(rng, 0.0)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
