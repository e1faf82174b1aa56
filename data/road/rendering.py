"""Renders whole scenes with their labels: of TuSimple's camera and freeways, or of other cameras on other roads.

A label is a TuSimple dict of `lanes` and `h_samples`; `rng` is a numpy Generator.
"""

import numpy as np

from .camera import photograph, random_camera, random_reach, random_warp, record
from .canvas import Scene
from .cockpit import draw_own_car, draw_text, draw_windshield
from .empty import draw_nothing, random_empty_kind
from .geometry import HEIGHT, ROAD_ROWS, WIDTH, random_course, random_road, road_from_label, road_in_view
from .ground import draw_background
from .layout import add_opposite, random_layout, random_plan, random_planned_layout, without_lines
from .objects import draw_objects, random_roadside, random_street_side
from .weather import random_light

H_SAMPLES = list(range(160, 720, 10))


def render_scene(rng, geometry=None, empty=False, other=False):
    """Render one scene.

    Args:
        rng: the scene is a function of its state and of the other arguments.
        geometry: TuSimple dict whose lane lines to use, at least one of two points; None for a random road.
        empty: no lane line; the image is of a kind of `empty.EMPTY_KINDS`.
        other: of another camera than TuSimple's, at any hour, through a windshield, with the own car in view; without
            `geometry` on another road too.

    Returns:
        (720, 1280, 3) uint8 RGB image, and its label.
    """
    kind = random_empty_kind(rng) if empty else "road"
    if kind not in ("road", "street"):
        return draw_nothing(rng, kind), {"lanes": [], "h_samples": H_SAMPLES}
    if other and geometry is None:
        canvas, top, light, label = render_other_road(rng, kind, empty)
    else:
        canvas, top, light, label = render_freeway(rng, kind, geometry, empty, other)
    if other:
        draw_windshield(rng, canvas, light)
        label = hide_below(label, draw_own_car(rng, canvas, light))
    image = photograph(rng, canvas, top, light, edge=not other)
    if other:
        if rng.random() < 0.12:
            draw_text(rng, image)
        image = record(rng, image)
    return image, {**label, "lanes": []} if empty else label


def render_freeway(rng, kind, geometry, empty, other):
    """Scene of TuSimple's camera, or of the lane lines of `geometry`; see `render_scene`.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB canvas, its horizon's row, light, label.
    """
    if geometry is None:
        road, first_row = random_road(rng)
        label = make_label(road.lines[H_SAMPLES].T, np.array(H_SAMPLES) >= first_row)
    else:
        road, label = road_from_label(geometry), {key: geometry[key] for key in ("lanes", "h_samples")}
    light = random_light(rng, other)
    layout = random_layout(rng, road)
    if kind == "street":  # no barriers and bridges, the curb close to the lanes
        layout.update({"shoulders": rng.uniform(0.2, 2.8, 2).tolist(), "walls": [0, 0], "bridges": []})
    if other:
        layout.update({"marks": {"tar": 0.3, "trunks": 0.25}, "curbs": 0.1, "posts": 0.2})
        if rng.random() < 0.35:
            add_opposite(rng, layout)
    if empty:
        layout = without_lines(layout)
    scene = Scene(road, layout, light, *draw_background(rng, road, layout, light))
    draw_objects(rng, scene, random_street_side if kind == "street" else random_roadside)
    return scene.canvas, road.top, light, label


def render_other_road(rng, kind, empty=False):
    """Scene of another camera on another road, "road" or "street"; see `render_scene`. Returns as `render_freeway`."""
    plan = random_plan(rng, "town" if kind == "street" else None)
    camera, light = random_camera(rng), random_light(rng, other=True)
    slow = plan.kind in ("country", "town")
    course = random_course(rng, 0.3, rng.uniform(45, 140) if slow else 45, waves=0.3 if slow else 0.1)
    road, first_row = road_in_view(camera, course, plan.offsets, random_reach(rng, camera, light))
    layout = random_planned_layout(rng, road, plan)
    if empty:
        layout = without_lines(layout)
    warp = random_warp(rng, road.top)
    lines = warp_lines(road, first_row, warp)
    scene = Scene(road, layout, light, *draw_background(rng, road, layout, light))
    points = unwarp_lines(lines, warp)
    hidden = draw_objects(rng, scene, random_street_side if plan.kind == "town" else random_roadside, points)
    if light["night"]:  # out of the light a line can't be told from the road
        x, y = np.moveaxis(np.clip(points, (0, road.top), (WIDTH - 1, HEIGHT - 1)), -1, 0)
        hidden |= scene.shade[y - road.top, x] < 0.2
    labeled = plan.labeled[::-1] if warp.mirrored else plan.labeled
    label = make_label(lines[labeled], visible_points(lines, hidden)[labeled])
    return warp.image(scene.canvas), int(np.clip(warp.points(WIDTH / 2, road.top)[1], 0, HEIGHT)), light, label


def make_label(x, visible):
    """Label of lines from left to right whose points at H_SAMPLES have `x` (N, len(H_SAMPLES)) px.

    `visible` (bool) broadcasts with x; a line of less than two visible points inside the image is left out.
    """
    visible = visible & (x > -0.5) & (x < WIDTH - 0.5)
    points = np.where(visible, np.rint(np.where(visible, x, 0)), -2).astype(int)
    return {"lanes": points[visible.sum(1) > 1].tolist(), "h_samples": H_SAMPLES}


def warp_lines(road, first_row, warp):
    """Lines of a Road in its warped image, labeled from row `first_row` of the rendered one on.

    Returns:
        (N, len(H_SAMPLES)) float, x in px of the warped image from left to right, NaN above a line's far end.
    """
    rows = np.arange(first_row, ROAD_ROWS)
    lines = []
    for line in road.lines.T:
        x, y = warp.points(line[rows], rows)
        lines.append(np.interp(H_SAMPLES, np.maximum.accumulate(y), x, left=np.nan, right=np.nan))
    return np.array(lines[::-1] if warp.mirrored else lines)


def unwarp_lines(x, warp):
    """Pixels of the rendered image, (N, len(H_SAMPLES), 2) int, of `warp_lines`; NaN gives (-1, -1)."""
    points = np.stack(warp.origin(np.nan_to_num(x), np.float64(H_SAMPLES)), axis=2)
    return np.where(np.isnan(x)[..., None], -1, np.rint(points)).astype(int)


def visible_points(x, hidden):
    """Which points of lines are labeled: each line's, from the first inside the image on until it leaves it for good.

    `x` is of `warp_lines`; `hidden` and the result are bool of its form. A line goes on behind a thing that stays
    there and hides a point, as behind a post, but does not end behind it.
    """
    inside = (x > -0.5) & (x < WIDTH - 0.5)  # False at NaN
    visible = np.zeros_like(inside)
    for line, (within, free) in enumerate(zip(inside, inside & ~hidden, strict=True)):
        if free.any():
            last = len(within) - np.argmax(within[::-1])  # nearest row inside
            gaps = np.flatnonzero(~within[:last])
            first = gaps[-1] + 1 if len(gaps) else 0
            first += np.argmax(free[first:last])
            visible[line, first:last] = free[first:last].any()
    return visible


def hide_below(label, border):
    """A label without the points at or below a border, (WIDTH,) float rows, where the own car begins."""
    lanes = []
    for lane in label["lanes"]:
        points = zip(lane, label["h_samples"], strict=True)
        lanes.append([x if x < 0 or y < border[min(int(x), WIDTH - 1)] else -2 for x, y in points])
    return {"lanes": lanes, "h_samples": label["h_samples"]}
