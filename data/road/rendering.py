"""Scenes, as a camera takes them, with their labels: TuSimple dicts of `lanes` and `h_samples`."""

from dataclasses import replace

import cv2
import numpy as np

from .canvas import HEIGHT, NOISE_SIDE, WIDTH, noise_tile
from .geometry import LANE_WIDTH, random_route
from .ground import draw_background
from .layout import random_layout
from .roadside import draw_dots, random_roadside
from .scene import Scene, draw_things
from .vehicles import random_traffic
from .weather import random_light

H_SAMPLES = list(range(160, 720, 10))
STEP = 1.0  # m from frame to frame, at 30 a second 108 km/h


def render_scene(rng, empty=False, frame=0):
    """Image number `frame` of a drive along a random road, (HEIGHT, WIDTH, 3) uint8 RGB, and its label.

    Equal states of `rng` make equal roads. If `empty`, no lane line is painted.
    """
    travelled, route = STEP * frame, random_route(rng)
    road = route.road_after(travelled)
    label = make_label(road)
    # beside two or more labeled lines there may be one more, which TuSimple leaves out
    lines, (left, right) = road.offsets, rng.random(2) < 0.35
    if left and (lines < 0).sum() > 1:
        lines = np.append(lines[0] - LANE_WIDTH, lines)
    if right and (lines > 0).sum() > 1:
        lines = np.append(lines, lines[-1] + LANE_WIDTH)
    road = replace(road, offsets=lines)
    light, layout = random_light(rng), random_layout(rng, road)
    if empty:
        label["lanes"] = []
        layout = replace(layout, lines=[replace(line, kind="solid", opacity=0.0) for line in layout.lines])
    ground_rng, dots_rng, things_rng, camera_rng = rng.spawn(4)
    pan = route.pan(travelled)
    scene = Scene(road, layout, light, *draw_background(ground_rng, road, layout, light, travelled, pan))
    draw_dots(dots_rng, scene, travelled)
    things = [thing for number in (0, 1) for thing in random_roadside(things_rng, road, layout, number)]
    draw_things(things_rng, scene, things + random_traffic(things_rng, road, layout), travelled)
    return photograph(camera_rng, scene.canvas, road.top, light, frame), label


def make_label(road):
    """Label of a Road's lines of two or more points in the image."""
    x, rows = road.lines[H_SAMPLES].T, np.array(H_SAMPLES)
    visible = (rows >= road.labeled_from) & (x > -0.5) & (x < WIDTH - 0.5)
    points = np.where(visible, np.rint(x), -2).astype(int)
    return {"lanes": points[visible.sum(1) > 1].tolist(), "h_samples": H_SAMPLES}


def draw_lens(rng, image, top, light):
    """Glare of a low sun at the horizon's row `top`, tint and vignetting, in place on a float32 image."""
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
    if light.kind == "backlit":
        across = ((x - rng.uniform(0.2, 0.8) * WIDTH) / rng.uniform(150, 500)) ** 2
        down = ((y - top) / rng.uniform(80, 300)) ** 2
        image += np.float32(rng.uniform(0, 0.35)) * np.exp(-across - down)[..., None]
    tint = 1 + rng.normal(0, 0.02, 3) + rng.uniform(0, 0.03) * np.array([-1, 1, 0])
    vignette = 1 - rng.uniform(0, 0.4) * ((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2)
    image *= vignette[..., None] * np.float32(tint)


def photograph(rng, canvas, top, light, frame):
    """The image of a canvas whose horizon is at row `top`: lens, exposure, blur, noise."""
    image = canvas.astype(np.float32) / 255
    draw_lens(rng, image, top, light)
    cv2.pow(image, rng.uniform(0.9, 1.35), image)
    brightness = rng.normal(0.41, 0.03) * (0.75 if light.kind == "dusk" else 1)  # TuSimple: about 0.4
    for _ in range(2):  # automatic exposure, twice as clipping takes some light away
        image *= np.float32(brightness / image.mean())
        np.minimum(image, 1, out=image)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    tile = noise_tile(0.0 if rng.random() < 0.5 else 0.3)
    shifts = rng.integers(0, NOISE_SIDE, (3, 2)) + frame * np.array([397, 211])
    grain = [np.tile(np.roll(tile, shift, (0, 1)), (1, 2))[:HEIGHT, :WIDTH] for shift in shifts]
    image += np.float32(rng.uniform(0.003, 0.018)) * np.stack(grain, axis=2) * (0.4 + image)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
