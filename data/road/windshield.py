"""Draws what lies between the road and the camera: dirt, wiper streaks, drops, reflections, a mirror, texts.

All of it is faint or small, so that the lines behind it stay labeled. Images are (HEIGHT, WIDTH, 3) uint8, RGB, and
are painted in place.
"""

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH
from .scene import color, fill, noise_at, stroke


def veil(image, alpha, rgb):
    """Lay a color (RGB in 0..1) over an image with alpha (rows, WIDTH) from row HEIGHT - rows on."""
    region = image[HEIGHT - len(alpha) :]
    region[:] = np.clip(region + alpha[..., None] * (255 * np.float32(rgb) - region), 0, 255)


def paint_dirt(rng, image):
    """Dust and streaks: spots of all sizes, or arcs that a wiper left around its joint below the image."""
    x, y = np.meshgrid(np.arange(0, WIDTH, 2, dtype=np.float32), np.arange(0, HEIGHT, 2, dtype=np.float32))
    if rng.random() < 0.5:
        joint = np.float32([rng.uniform(0.1, 0.9) * WIDTH, HEIGHT * rng.uniform(1.05, 1.5)])
        radius, angle = np.hypot(x - joint[0], y - joint[1]), np.arctan2(x - joint[0], joint[1] - y)
        spots = noise_at(rng, 0.8, radius * np.float32(rng.uniform(0.3, 1.2)), angle * np.float32(rng.uniform(10, 40)))
    else:
        spots = noise_at(rng, rng.uniform(0.4, 1.3), x, y)
    alpha = np.clip(spots - rng.uniform(-0.5, 1.2), 0, 1.5) * np.float32(rng.uniform(0.03, 0.11))
    alpha = cv2.resize(alpha, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    veil(image, alpha, color(rng, (0.45, 0.42, 0.38), (0.9, 0.9, 0.9)) * image.mean() / 110)


def paint_drops(rng, image):
    """Rain drops on the glass: each shows the scene upside down and out of focus."""
    upside_down = cv2.GaussianBlur(cv2.resize(image, (160, 90), interpolation=cv2.INTER_AREA), (0, 0), 3)[::-1]
    for _ in range(rng.integers(10, 120)):
        x, y, radius = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(1.5, 9)
        tone = upside_down[int(y / 8), int(x / 8)] * rng.uniform(0.6, 1.3)
        axes = (int(16 * radius), int(16 * radius * rng.uniform(0.8, 1.6)))
        shade = tuple(int(v) for v in np.clip(tone, 0, 255))
        cv2.ellipse(image, (int(16 * x), int(16 * y)), axes, 0, 0, 360, shade, -1, cv2.LINE_AA, 4)


def paint_reflection(rng, image):
    """The dashboard mirrored in the windshield: pale sheets, slats and long edges over the lower part of the image."""
    layer = np.zeros((HEIGHT // 2, WIDTH), np.uint8)
    for _ in range(rng.integers(1, 6)):
        middle, size = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT / 2), rng.uniform(30, 350)
        tone = int(rng.integers(40, 255))
        kind = rng.choice(3)
        if kind == 0:
            fill(layer, middle + size * np.array([(-1, -0.2), (0.9, -0.25), (1.1, 0.2), (-1.2, 0.3)]), tone)
        elif kind == 1:
            for step in np.linspace(-1, 1, int(rng.integers(4, 20))):
                slat = middle + size * np.array([(step, -0.1), (1.15 * step, 0.15)])
                stroke(layer, slat, tone, size * rng.uniform(0.01, 0.05))
        else:
            ends = middle + size * np.array([(-2, rng.uniform(-0.6, 0.6)), (2, rng.uniform(-0.6, 0.6))])
            stroke(layer, ends, tone, rng.uniform(2, 14))
    layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(1.5, 8))
    veil(image, layer * np.float32(rng.uniform(0.05, 0.25) / 255), color(rng, (0.5, 0.5, 0.5), (1, 0.97, 0.9)))


def paint_mirror(rng, image):
    """A rear-view mirror, a camera's holder or a sticker at the upper border, dark."""
    width, height = rng.uniform(40, 400), rng.uniform(15, 90)
    middle = np.array([rng.uniform(0, WIDTH), rng.uniform(-20, 20)])
    turn = np.linspace(0, 2 * np.pi, 24)
    corners = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.5, np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.5
    tone = tuple(int(v) for v in 255 * color(rng, (0.01, 0.01, 0.01), (0.15, 0.15, 0.16)))
    fill(image, middle + np.stack(corners, axis=1) * (width / 2, height), tone)


def paint_text(rng, image):
    """A faint watermark somewhere, or a camera's bright date at a border."""
    clock = rng.random() < 0.5
    letters = list("0123456789:/-" if clock else "abcdefghilmnoprstuvwy.ABCDEFGHKLMNOPRSTW")
    text = "".join(rng.choice(letters, rng.integers(6, 22)))
    size = rng.uniform(0.6, 1.2) if clock else rng.uniform(0.8, 2.5)
    low, high = ((0.9, 0.98) if rng.random() < 0.7 else (0.04, 0.08)) if clock else (0.1, 0.95)
    place = int(rng.uniform(0, 0.6) * WIDTH), int(rng.uniform(low, high) * HEIGHT)
    layer = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(layer, text, place, int(rng.integers(0, 5)), size, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    strength = rng.uniform(0.6, 1) if clock else rng.uniform(0.12, 0.5)
    veil(image, layer * np.float32(strength / 255), (1, 1, 1) if rng.random() < 0.8 else (1, 0.85, 0.1))


def paint_windshield(rng, image, light):
    """Everything between road and camera, each with its own chance.

    Args:
        rng: numpy Generator.
        image: (HEIGHT, WIDTH, 3) uint8, RGB.
        light: dict of `scene.draw_light`.
    """
    for paint, chance in (
        (paint_drops, 0.3 if light["wet"] else 0.01),
        (paint_dirt, 0.25),
        (paint_reflection, 0.1 if light["night"] else 0.25),
        (paint_mirror, 0.12),
    ):
        if rng.random() < chance:
            paint(rng, image)
