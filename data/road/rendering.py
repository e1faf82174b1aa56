"""Renders whole scenes with their labels; `rng` is a numpy Generator.

A label is a TuSimple dict of `lanes` and `h_samples`.
"""

from dataclasses import replace

import numpy as np

from .camera import photograph
from .canvas import WIDTH
from .geometry import LANE_WIDTH, random_route
from .ground import draw_background
from .layout import random_layout, without_paint
from .roadside import draw_dots, random_roadside
from .scene import Scene, draw_things
from .vehicles import random_traffic
from .weather import random_light

H_SAMPLES = list(range(160, 720, 10))
STEP = 1.0  # m from frame to frame of a drive, at 30 frames per second 108 km/h


def render_scene(rng, empty=False, frame=0):
    """Render one image.

    Args:
        rng: the scene is a function of its state and of the other arguments.
        empty: no lane line is painted.
        frame: number of the image in a drive along the road.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB image, and its label.
    """
    travelled, route = STEP * frame, random_route(rng)
    road = route.road_after(travelled)
    label = {"lanes": [], "h_samples": H_SAMPLES} if empty else make_label(road)
    # where two or more lines are labeled on a side of the car, there may be one more, which TuSimple leaves out
    left, right = rng.random(2) < 0.35
    lanes = road.offsets
    if left and (lanes < 0).sum() > 1:
        road = replace(road, offsets=np.insert(road.offsets, 0, lanes[0] - LANE_WIDTH))
    if right and (lanes > 0).sum() > 1:
        road = replace(road, offsets=np.append(road.offsets, lanes[-1] + LANE_WIDTH))
    light, layout = random_light(rng), random_layout(rng, road)
    if empty:
        layout = without_paint(layout)
    ground_rng, dots_rng, things_rng, camera_rng = rng.spawn(4)
    pan = route.pan(travelled)
    scene = Scene(road, layout, light, *draw_background(ground_rng, road, layout, light, travelled, pan))
    draw_dots(dots_rng, scene, travelled)
    things = [thing for number in (0, 1) for thing in random_roadside(things_rng, road, layout, number)]
    draw_things(things_rng, scene, things + random_traffic(things_rng, road, layout), travelled)
    return photograph(camera_rng, scene.canvas, road.top, light, frame), label


def make_label(road):
    """Label of a Road's lines; one of less than two points inside the image is left out."""
    x, rows = road.lines[H_SAMPLES].T, np.array(H_SAMPLES)
    visible = (rows >= road.labeled_from) & (x > -0.5) & (x < WIDTH - 0.5)
    points = np.where(visible, np.rint(x), -2).astype(int)
    return {"lanes": points[visible.sum(1) > 1].tolist(), "h_samples": H_SAMPLES}
