"""What lens, exposure and sensor make of a scene; `rng` is a numpy Generator."""

import cv2
import numpy as np

from .canvas import HEIGHT, NOISE_SIDE, WIDTH, noise_tile


def draw_lens(rng, image, top, light):
    """Glare of a low sun at the horizon's row `top`, tint and vignetting on a float32 image in 0..1, in place."""
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
    if light.kind == "backlit":
        across = ((x - rng.uniform(0.2, 0.8) * WIDTH) / rng.uniform(150, 500)) ** 2
        down = ((y - top) / rng.uniform(80, 300)) ** 2
        image += np.float32(rng.uniform(0, 0.35)) * np.exp(-across - down)[..., None]
    tint = 1 + rng.normal(0, 0.02, 3) + rng.uniform(0, 0.03) * np.array([-1, 1, 0])
    vignette = 1 - rng.uniform(0, 0.4) * ((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2)
    image *= vignette[..., None] * np.float32(tint)


def draw_grain(rng, frame):
    """Noise of a sensor, (HEIGHT, WIDTH, 3) float32, another one in each `frame`."""
    tile = noise_tile(0.0 if rng.random() < 0.5 else 0.3)
    shifts = rng.integers(0, NOISE_SIDE, (3, 2)) + frame * np.array([397, 211])
    return np.stack([np.tile(np.roll(tile, shift, (0, 1)), (1, 2))[:HEIGHT, :WIDTH] for shift in shifts], axis=2)


def photograph(rng, canvas, top, light, frame=0):
    """The image of a canvas whose horizon is at row `top`: lens, exposure, blur, noise."""
    image = canvas.astype(np.float32) / 255
    draw_lens(rng, image, top, light)
    cv2.pow(image, rng.uniform(0.9, 1.35), image)
    brightness = rng.normal(0.41, 0.03) * (0.75 if light.kind == "dusk" else 1)  # TuSimple's frames: about 0.4
    for _ in range(2):  # automatic exposure; clipping takes some light away, hence the repetition
        image *= np.float32(brightness / image.mean())
        np.minimum(image, 1, out=image)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    image += np.float32(rng.uniform(0.003, 0.018)) * draw_grain(rng, frame) * (0.4 + image)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
