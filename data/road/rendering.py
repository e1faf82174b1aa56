"""Renders whole scenes with their labels: of TuSimple's camera and freeways, or of other cameras on other roads."""

import numpy as np

from .camera import cut, draw_frame, draw_view, moved, record, sight
from .empty import draw_empty_kind, paint_nothing, street_layout, without_lines
from .geometry import HEIGHT, WIDTH, draw_shape, random_road, road_from_label, road_in_view
from .hood import paint_own_car
from .label import H_SAMPLES, as_label, hide_below, label_of, lines_in_frame, places, seen_from_here
from .objects import paint_objects, roadside
from .plan import add_opposite, draw_plan, plan_layout
from .scene import develop, draw_layout, draw_light
from .street import street_side
from .surface import paint_background
from .windshield import paint_text, paint_windshield


def render_scene(rng, geometry=None, empty=False, other=False):
    """Render one scene.

    Args:
        rng: numpy Generator; the scene is a function of its state and of the other arguments.
        geometry: TuSimple dict whose lane lines to use, at least one of two points; None for a random road.
        empty: no lane line; the image is of a kind of `road.empty.KINDS`.
        other: of another camera than TuSimple's, at any hour, through a windshield, with the own car in view; without
            `geometry` on another road too.

    Returns:
        (720, 1280, 3) uint8 RGB image, and its label {"lanes": ..., "h_samples": ...}.
    """
    kind = draw_empty_kind(rng) if empty else "road"
    if kind not in ("road", "street"):
        return paint_nothing(rng, kind), {"lanes": [], "h_samples": H_SAMPLES}
    if other and geometry is None:
        canvas, top, light, label = elsewhere(rng, kind, empty)
    else:
        canvas, top, light, label = freeway(rng, kind, geometry, empty, other)
    if other:
        paint_windshield(rng, canvas, light)
        label = hide_below(label, paint_own_car(rng, canvas, light))
    image = develop(rng, canvas, top, light, edge=not other)
    if other:
        if rng.random() < 0.12:
            paint_text(rng, image)
        image = record(rng, image)
    return image, {**label, "lanes": []} if empty else label


def freeway(rng, kind, geometry, empty, other):
    """Scene of TuSimple's camera, or of the lane lines of `geometry`; see `render_scene`.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB canvas, its horizon's row, light, label.
    """
    if geometry is None:
        road, first_row = random_road(rng)
        label = label_of(road, first_row)
    else:
        road, label = road_from_label(geometry), {key: geometry[key] for key in ("lanes", "h_samples")}
    light = draw_light(rng, other)
    layout = street_layout(rng, road) if kind == "street" else draw_layout(rng, road)
    if other:
        layout.update({"marks": {"tar": 0.3, "trunks": 0.25}, "curbs": 0.1, "posts": 0.2})
        if rng.random() < 0.35:
            add_opposite(rng, layout)
    if empty:
        layout = without_lines(layout)
    canvas, shade = paint_background(rng, road, layout, light)
    paint_objects(rng, canvas, road, layout, light, shade, street_side if kind == "street" else roadside)
    return canvas, road.top, light, label


def elsewhere(rng, kind, empty=False):
    """Scene of another camera on another road, "road" or "street"; see `render_scene`. Returns as `freeway` does."""
    plan = draw_plan(rng, "town" if kind == "street" else None)
    view, light = draw_view(rng), draw_light(rng, other=True)
    slow = plan["kind"] in ("country", "town")
    shape = draw_shape(rng, 0.3, rng.uniform(45, 140) if slow else 45, waves=0.3 if slow else 0.1)
    road, first_row = road_in_view(view, shape, plan["offsets"], sight(rng, view, light))
    layout = plan_layout(rng, road, plan)
    if empty:
        layout = without_lines(layout)
    frame = draw_frame(rng, road.top)
    lines = lines_in_frame(road, first_row, frame)
    canvas, shade = paint_background(rng, road, layout, light)
    beside = street_side if plan["kind"] == "town" else roadside
    watched = places(lines, frame)
    hidden = paint_objects(rng, canvas, road, layout, light, shade, beside, watched)
    if light["night"]:  # out of the light a line can't be told from the road
        x, y = np.moveaxis(np.clip(watched, (0, road.top), (WIDTH - 1, HEIGHT - 1)), -1, 0)
        hidden |= shade[y - road.top, x] < 0.2
    labeled = plan["labeled"][::-1] if frame.mirrored else plan["labeled"]
    label = as_label(lines[labeled], seen_from_here(lines, hidden)[labeled])
    return cut(canvas, frame), int(np.clip(moved(frame, WIDTH / 2, road.top)[1], 0, HEIGHT)), light, label
