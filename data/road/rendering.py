"""Renders whole scenes with their labels; `rng` is a numpy Generator.

A label is a TuSimple dict of `lanes` and `h_samples`.
"""

import numpy as np

from .camera import photograph
from .canvas import HEIGHT, WIDTH, random_noise
from .geometry import random_route, road_from_label
from .ground import draw_background
from .layout import random_layout, without_paint
from .roadside import draw_dots, random_roadside
from .scene import Scene, draw_things
from .vehicles import random_traffic
from .weather import random_light

H_SAMPLES = list(range(160, 720, 10))
NO_LANE = {"lanes": [], "h_samples": H_SAMPLES}
STEP = 1.0  # m from frame to frame of a drive, at 30 frames per second 108 km/h


def render_scene(rng, geometry=None, empty=False, frame=0):
    """Render one image.

    Args:
        rng: the scene is a function of its state and of the other arguments.
        geometry: TuSimple dict whose lane lines to use, at least one of two points; None for a random road.
        empty: no lane line, often no road.
        frame: number of the image in a drive along a random road.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB image, and its label.
    """
    if empty and rng.random() < 0.4:
        return draw_nothing(rng), NO_LANE
    travelled, pan = STEP * frame, 0.0
    if geometry is None:
        route = random_route(rng)
        road, first_row = route.road_after(travelled)
        pan, label = route.pan(travelled), make_label(road, first_row)
    else:
        road, label = road_from_label(geometry), {key: geometry[key] for key in ("lanes", "h_samples")}
    # where two or more lines are labeled on a side of the car, there may be one more, which TuSimple leaves out
    beyond = rng.random(2) < 0.35
    road = road.widened(beyond[0] and (road.offsets < 0).sum() > 1, beyond[1] and (road.offsets > 0).sum() > 1)
    light, layout = random_light(rng), random_layout(rng, road)
    if empty:
        layout, label = without_paint(layout), NO_LANE
    ground_rng, dots_rng, things_rng, camera_rng = rng.spawn(4)
    scene = Scene(road, layout, light, *draw_background(ground_rng, road, layout, light, travelled, pan))
    draw_dots(dots_rng, scene, travelled)
    things = [thing for number in (0, 1) for thing in random_roadside(things_rng, road, layout, number)]
    draw_things(things_rng, scene, things + random_traffic(things_rng, road, layout), travelled)
    return photograph(camera_rng, scene.canvas, road.top, light, frame), label


def make_label(road, first_row):
    """Label of a Road's lines from an image row on; a line of less than two points inside the image is left out."""
    x, rows = road.lines[H_SAMPLES].T, np.array(H_SAMPLES)
    visible = (rows >= first_row) & (x > -0.5) & (x < WIDTH - 0.5)
    points = np.where(visible, np.rint(x), -2).astype(int)
    return {"lanes": points[visible.sum(1) > 1].tolist(), "h_samples": H_SAMPLES}


def draw_nothing(rng):
    """(HEIGHT, WIDTH, 3) uint8 RGB image that is no road: a color with a gradient or clouds, and noise.

    It teaches a network to find nothing where nothing is.
    """
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
    image = np.ones((HEIGHT, WIDTH, 1), np.float32) * rng.uniform(0, 1, 3).astype(np.float32)
    if rng.random() < 0.5:
        gradient = rng.uniform(-1, 1) * (x / WIDTH - 0.5) + rng.uniform(-1, 1) * (y / HEIGHT - 0.5)
    else:
        zoom = rng.uniform(0.1, 0.6)
        gradient = 0.3 * random_noise(rng, 1.8, x * zoom, y * zoom)
    image += gradient[..., None] * rng.uniform(-1, 1, 3).astype(np.float32)
    image += rng.uniform(0, 0.4) ** 2 * random_noise(rng, float(rng.choice([0.0, 0.8, 1.8])), x, y)[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
