"""Cameras other than TuSimple's: height, focal length, pitch, the frame that is cut out of the image, video quality."""

from typing import NamedTuple

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH, View

MIDDLE = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
CORNER = float(np.hypot(*MIDDLE))  # pixels from the middle


class Frame(NamedTuple):
    """Part of the rendered image that is kept, as a camera shows it."""

    matrix: np.ndarray  # (2, 3), takes pixels (x, y, 1) of the rendered image to those of the frame
    barrel: float = 0.0  # how much smaller a wide-angle lens shows things in the corners than in the middle

    @property
    def mirrored(self):
        return self.matrix[0, 0] < 0


def draw_view(rng):
    """Random View: from a phone's focal length to a wide angle, from a low car to a truck."""
    low, high = [(1.05, 1.6), (1.6, 2.2), (2.2, 3.4)][rng.choice(3, p=[0.68, 0.2, 0.12])]  # m
    middle = WIDTH / 2 + (rng.normal(0, 50) if rng.random() < 0.8 else rng.uniform(-260, 260))
    return View(np.exp(rng.uniform(np.log(560), np.log(1800))), rng.uniform(low, high), rng.uniform(180, 400), middle)


def sight(rng, view, light):
    """Random distance at which a line's paint can no longer be told from the road, m.

    Real labels of other cameras begin where a lane is 30 to 100 of 1280 pixels wide, a line 1 to 3; nearer in fog and
    where headlights end.
    """
    night = light["night"]
    lit = (5 if night["lit"] else 2.2) * night["reach"] if night else np.inf
    return min(rng.uniform(0.05, 0.13) * view.focal, 1.3 * light["fog"], lit)


def draw_frame(rng, horizon):
    """Random frame: a flat strip, 4:3 or 5:4 as 16:9, a part enlarged, a camera not level; mirrored: left-hand traffic.

    Args:
        rng: numpy Generator.
        horizon: row of the horizon, which stays in the upper part of the frame.
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
    return Frame(np.concatenate([zoom, (MIDDLE - zoom @ middle)[:, None]], axis=1), barrel)


def cut(image, frame):
    """The frame of an image, (HEIGHT, WIDTH, 3) uint8."""
    if frame.barrel:
        x, y = origin(frame, np.arange(WIDTH), np.arange(HEIGHT)[:, None])
        maps = np.float32(x), np.float32(y)
        return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    size, flat = (WIDTH, HEIGHT), frame.matrix
    return cv2.warpAffine(image, flat, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def moved(frame, x, y):
    """Points of the image in the frame: two arrays."""
    x, y = (row[0] * x + row[1] * y + row[2] for row in frame.matrix)
    if not frame.barrel:
        return x, y
    away = np.hypot(x - MIDDLE[0], y - MIDDLE[1]) / CORNER
    radius = away * (1 + frame.barrel)
    for _ in range(12):  # Newton's method on the cubic of `origin`, from above, where it can't overshoot
        radius -= (radius * (1 + frame.barrel * radius**2) - away * (1 + frame.barrel)) / (
            1 + 3 * frame.barrel * radius**2
        )
    zoom = radius / np.maximum(away, 1e-9)
    return MIDDLE[0] + zoom * (x - MIDDLE[0]), MIDDLE[1] + zoom * (y - MIDDLE[1])


def origin(frame, x, y):
    """Where in the image points of the frame are from, the inverse of `moved`; arguments broadcast."""
    x, y = x - MIDDLE[0], y - MIDDLE[1]
    zoom = (1 + frame.barrel * (x**2 + y**2) / CORNER**2) / (1 + frame.barrel)
    inverse = np.linalg.inv(frame.matrix[:, :2])
    x, y = MIDDLE[0] + zoom * x - frame.matrix[0, 2], MIDDLE[1] + zoom * y - frame.matrix[1, 2]
    return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


def record(rng, image):
    """Camera and video: a small frame enlarged, a low bitrate's blocks, motion, too much sharpening.

    Args:
        rng: numpy Generator.
        image: (HEIGHT, WIDTH, 3) uint8, RGB.

    Returns:
        (HEIGHT, WIDTH, 3) uint8, RGB.
    """
    if rng.random() < 0.12:  # the scene moves toward the camera while the shutter is open
        zoom = Frame(cv2.getRotationMatrix2D((WIDTH / 2, 0.45 * HEIGHT), 0, 1 + rng.uniform(0.002, 0.006)))
        image = cv2.addWeighted(image, 0.5, cut(image, zoom), 0.5, 0)
    small, quality = rng.random() < 0.35, int(rng.integers(12, 60))
    if small:
        width = int(rng.uniform(400, 960))
        quality = max(quality, 25)
        image = cv2.resize(image, (width, width * HEIGHT // WIDTH), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    if small:
        way = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=way)
    if rng.random() < 0.2:
        image = cv2.addWeighted(image, 1.8, cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 3)), -0.8, 0)
    return image
