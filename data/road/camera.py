"""Cameras: position, focal length, the part of the image that is kept, exposure, lens, video quality.

Images are (HEIGHT, WIDTH, 3) uint8, RGB; `rng` is a numpy Generator.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .canvas import NOISE_SIDE, noise_tile, random_color
from .geometry import HEIGHT, WIDTH, PinholeCamera

CENTER = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
CORNER = float(np.hypot(*CENTER))  # px from the center


def random_camera(rng):
    """Random PinholeCamera: from a phone's focal length to a wide angle, from a low car to a truck."""
    low, high = [(1.05, 1.6), (1.6, 2.2), (2.2, 3.4)][rng.choice(3, p=[0.68, 0.2, 0.12])]  # m
    middle = WIDTH / 2 + (rng.normal(0, 50) if rng.random() < 0.8 else rng.uniform(-260, 260))
    focal = np.exp(rng.uniform(np.log(560), np.log(1800)))
    return PinholeCamera(focal, rng.uniform(low, high), rng.uniform(180, 400), middle)


def random_reach(rng, camera, light):
    """Random distance (m) at which a line's paint can no longer be told from the road.

    Real labels of other cameras begin where a lane is 30 to 100 of 1280 pixels wide, a line 1 to 3; nearer in fog and
    where headlights end.
    """
    night = light["night"]
    lit = (5 if night["lit"] else 2.2) * night["reach"] if night else np.inf
    return min(rng.uniform(0.05, 0.13) * camera.focal, 1.3 * light["fog"], lit)


class Warp(NamedTuple):
    """From the rendered image to what a camera keeps of it."""

    matrix: np.ndarray  # (2, 3), takes pixels (x, y, 1) of the rendered image to those of the result
    barrel: float = 0.0  # how much smaller a wide-angle lens shows things in the corners than in the middle

    @property
    def mirrored(self):
        return self.matrix[0, 0] < 0

    def image(self, image):
        """The warped image."""
        if self.barrel:
            x, y = self.origin(np.arange(WIDTH), np.arange(HEIGHT)[:, None])
            maps = np.float32(x), np.float32(y)
            return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        size = (WIDTH, HEIGHT)
        return cv2.warpAffine(image, self.matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def points(self, x, y):
        """Where points of the rendered image are in the warped one: two arrays; arguments broadcast."""
        x, y = (row[0] * x + row[1] * y + row[2] for row in self.matrix)
        if not self.barrel:
            return x, y
        away = np.hypot(x - CENTER[0], y - CENTER[1]) / CORNER
        radius = away * (1 + self.barrel)
        for _ in range(12):  # Newton's method on the cubic of `origin`, from above, where it can't overshoot
            excess = radius * (1 + self.barrel * radius**2) - away * (1 + self.barrel)
            radius -= excess / (1 + 3 * self.barrel * radius**2)
        zoom = radius / np.maximum(away, 1e-9)
        return CENTER[0] + zoom * (x - CENTER[0]), CENTER[1] + zoom * (y - CENTER[1])

    def origin(self, x, y):
        """Where points of the warped image are from, the inverse of `points`."""
        x, y = x - CENTER[0], y - CENTER[1]
        zoom = (1 + self.barrel * (x**2 + y**2) / CORNER**2) / (1 + self.barrel)
        inverse = np.linalg.inv(self.matrix[:, :2])
        x, y = CENTER[0] + zoom * x - self.matrix[0, 2], CENTER[1] + zoom * y - self.matrix[1, 2]
        return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


def random_warp(rng, horizon):
    """Random Warp: a flat strip, 4:3 or 5:4 as 16:9, a part enlarged, a camera not level; mirrored: left-hand traffic.

    The row `horizon` of the rendered image stays in the upper part.
    """
    kind, wide, tall = rng.random(), 1.0, 1.0
    if kind < 0.25:
        tall = rng.uniform(1.2, 1.9)
    elif kind < 0.4:
        wide = rng.uniform(1.1, 1.4)
    elif kind < 0.55:
        wide = tall = rng.uniform(1.05, 1.5)
    turn = rng.normal(0, 0.012) if rng.random() < 0.4 else 0.0  # rad
    wide, tall = wide * (1 + abs(turn) * HEIGHT / WIDTH), tall * (1 + abs(turn) * WIDTH / HEIGHT)
    spare = 0.5 * (HEIGHT - HEIGHT / tall)  # rows that can be cut off above or below
    row = np.clip(horizon + (0.5 - rng.uniform(0.25, 0.5)) * HEIGHT / tall, HEIGHT / 2 - spare, HEIGHT / 2 + spare)
    column = WIDTH / 2 + rng.uniform(-0.4, 0.4) * (WIDTH - WIDTH / wide)
    middle = np.array([column, HEIGHT / 2 if turn else row])
    zoom = np.diag([wide, tall]) @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    if rng.random() < 0.2:
        zoom[0] *= -1
    barrel = rng.uniform(0.05, 0.3) if rng.random() < 0.15 else 0.0
    return Warp(np.concatenate([zoom, (CENTER - zoom @ middle)[:, None]], axis=1), barrel)


def draw_spot(x, y, width, height):
    """A bright round area, (HEIGHT, WIDTH, 1), 1 in its middle."""
    across = np.exp(-(((np.arange(WIDTH, dtype=np.float32) - x) / width) ** 2))
    down = np.exp(-(((np.arange(HEIGHT, dtype=np.float32)[:, None] - y) / height) ** 2))
    return (across * down)[..., None]


def draw_lens(rng, image, top, light):
    """Glare at the horizon's row `top`, a smudge, tint and vignetting on a float32 image in 0..1, in place."""
    if light["kind"] in ("backlit", "wet"):
        glare = draw_spot(rng.uniform(0.2, 0.8) * WIDTH, top, rng.uniform(150, 500), rng.uniform(80, 300))
        image += np.float32(rng.uniform(0, 0.35)) * glare
    if rng.random() < 0.2:  # a smudge on the windshield
        x, y = rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(100, 500)
        smudge = draw_spot(x, y, rng.uniform(30, 90), rng.uniform(30, 80))
        image += rng.uniform(0.3, 0.8) * smudge * (cv2.blur(image, (31, 31)) * rng.uniform(0.8, 1.1) - image)
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
    tint = 1 + rng.normal(0, 0.02, 3) + rng.uniform(0, 0.05) * np.array([-1, 1, 0])
    vignette = 1 - rng.uniform(0, 0.4) * ((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2)
    image *= vignette[..., None]
    image *= tint.astype(np.float32)


def photograph(rng, canvas, top, light, edge=True):
    """The image of a canvas whose horizon is at row `top`: lens, exposure, blur, noise.

    With `edge` a dark lower edge of the windshield may be in it.
    """
    image = canvas.astype(np.float32) / 255
    draw_lens(rng, image, top, light)
    cv2.pow(image, rng.uniform(0.85, 1.4), image)
    target = rng.normal(0.38, 0.04) * (0.6 if light["kind"] == "dusk" else 1)  # TuSimple's frames: 95 to 105 of 255
    if light["night"]:  # a dark scene stays dark
        target = float(np.clip(image.mean() * rng.uniform(1, 3), 0.06, 0.3))
    for _ in range(2):  # automatic exposure; clipping takes some light away, hence the repetition
        image *= np.float32(target / image.mean())
        np.minimum(image, 1, out=image)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    tile = noise_tile(0.0 if rng.random() < 0.5 else 0.3)
    channels = [np.tile(np.roll(tile, rng.integers(0, NOISE_SIDE, 2), (0, 1)), (1, 2)) for _ in range(3)]
    grain = np.stack(channels, 2)[:HEIGHT, :WIDTH]
    image += rng.uniform(0.003, 0.018) * (rng.uniform(1, 4) if light["night"] else 1) * grain * (0.4 + image)
    if edge and rng.random() < 0.35:  # lower edge of the windshield, or the hood
        x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
        rise, bend = rng.uniform(4, 14) if rng.random() < 0.8 else rng.uniform(20, 60), rng.uniform(0, 25)
        border = HEIGHT - rise + bend * (2 * x / WIDTH - 1) ** 2 + rng.uniform(-3, 3) * (x / WIDTH)
        hood = np.clip((y - border) / rng.uniform(1, 4), 0, 1)[..., None]
        image += hood * (random_color(rng, (0.02, 0.02, 0.03), (0.25, 0.25, 0.27)) - image)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def record(rng, image):
    """An image as a frame of a video: motion, a small frame enlarged, a low bitrate's blocks, too much sharpening."""
    if rng.random() < 0.12:  # the scene moves toward the camera while the shutter is open
        zoom = Warp(cv2.getRotationMatrix2D((WIDTH / 2, 0.45 * HEIGHT), 0, 1 + rng.uniform(0.002, 0.006)))
        image = cv2.addWeighted(image, 0.5, zoom.image(image), 0.5, 0)
    small, quality = rng.random() < 0.35, int(rng.integers(12, 60))
    if small:
        width = int(rng.uniform(400, 960))
        quality = max(quality, 25)
        image = cv2.resize(image, (width, width * HEIGHT // WIDTH), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    if small:
        interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=interpolation)
    if rng.random() < 0.2:
        image = cv2.addWeighted(image, 1.8, cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 3)), -0.8, 0)
    return image
