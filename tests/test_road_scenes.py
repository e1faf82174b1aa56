"""Rendered scenes: geometry by hand, labels against the paint."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial import Polynomial

from data.road import ground, rendering, vehicles
from data.road.canvas import HEIGHT, WIDTH
from data.road.geometry import ROAD_ROWS, Road, Route, random_route
from data.road.layout import random_layout
from data.road.rendering import H_SAMPLES, make_label, render_scene
from data.road.scene import Scene, Thing, draw_things
from data.road.weather import random_light

FOCAL, HIGH, HORIZON = 1200.0, 1.5, 250.0  # px, m, px
OFFSETS = np.array([-5.4, -1.8, 1.8, 5.4])  # m
STRAIGHT = Polynomial([0, 0, 0])


def flat_road():
    """Straight, by the pinhole model."""
    distance = FOCAL * HIGH / np.maximum(np.arange(ROAD_ROWS) - HORIZON, 5)
    return Road(np.full(ROAD_ROWS, WIDTH / 2), FOCAL / distance, distance, OFFSETS, top=256, labeled_from=260)


def clear_day():
    return replace(random_light(np.random.default_rng(0)), kind="clear", fog=4000.0, sun=0.0, objects=1.0)


@pytest.mark.parametrize("travelled", [0.0, 30.0])
def test_routes_are_seen_by_the_pinhole_camera(travelled):
    bend, jerk, yaw, offsets = 1e-3, 2e-6, 0.01, np.array([-4.0, 0.5, 3.0])
    course = Polynomial([0, yaw, bend / 2, jerk / 6])
    route = Route(900.0, 2.5, 300.0, 700.0, course, STRAIGHT, offsets, 100.0)
    road = route.road_after(travelled)
    assert road.labeled_from == int(300 + 900 * 2.5 / 100)
    for distance in (5.0, 20.0, 80.0):
        row = 300 + 900 * 2.5 / distance
        assert float(road.row_at(distance)) == pytest.approx(row, abs=0.1)
        x = [np.interp(row, np.arange(ROAD_ROWS), line) for line in road.lines.T]
        curvature = bend + jerk * travelled
        side = yaw * distance + curvature * distance**2 / 2 + jerk * distance**3 / 6
        assert x == pytest.approx(700 + 900 * (offsets + side) / distance, abs=0.5)
    heading = bend * travelled + jerk * travelled**2 / 2
    assert route.pan(travelled) == pytest.approx(900 * heading)


def test_road_behind_a_crest_is_not_seen():
    """From 1.5 m a road that falls by fall * distance ** 2 is touched where it has fallen 1.5 m."""
    fall = 2e-4
    route = Route(1200.0, 1.5, 250.0, 640.0, STRAIGHT, Polynomial([0, 0, -fall]), np.array([-2.0, 2.0]), 300)
    road, crest = route.road_after(0), np.sqrt(1.5 / fall)
    assert road.top == np.ceil(250 + 1200 * 2 * 1.5 / crest)
    assert 0.8 * crest < road.distance[road.top] < crest


def test_random_roads_keep_the_form_of_labels():
    counts, rows = set(), np.array(H_SAMPLES)
    for seed in range(150):
        road = random_route(np.random.default_rng(seed)).road_after(0)
        assert np.all(np.diff(road.distance[road.top :]) <= 0)
        lanes = np.array(make_label(road)["lanes"])
        assert np.all((lanes == -2) | ((lanes >= 0) & (lanes < WIDTH)))
        assert np.all((lanes[:-1] <= lanes[1:]) | (lanes[:-1] < 0) | (lanes[1:] < 0))  # left to right
        for lane in lanes:
            valid = lane >= 0
            assert np.all(np.diff(np.flatnonzero(valid)) == 1)  # no gaps
            step, last = np.abs(np.diff(lane[valid])).max(), lane[valid][-1]
            assert rows[valid][-1] == 710 or min(last, WIDTH - 1 - last) <= step + 2  # to the border
        counts.add(len(lanes))
    assert counts == {2, 3, 4, 5}


def test_coverage_is_the_mean_over_the_stretch():
    x, pixel = np.array([3.0, 10.1, 24.0, 80.0]), np.array([0.02, 1.5, 9.0, 40.0])
    fine = x + pixel * np.linspace(-0.5, 0.5, 200_001)[:, None]
    expected = ((fine % 12.2) < 3.05).mean(0)
    assert np.allclose(ground.dash_coverage(x, 12.2, 3.05, pixel), expected, atol=1e-4)
    for high in (10.3, 25.0, 90.0):
        expected = ((fine > 9.8) & (fine < high)).mean(0)
        assert np.allclose(ground.coverage(x, 9.8, high, pixel), expected, atol=1e-4)


def fresh_layout(rng, road, **look):
    """Random layout on asphalt with fresh lines, solid and magenta unless `look` says else."""
    layout = random_layout(rng, road)
    look = {"kind": "solid", "wear": 0.0, "opacity": 1.0, "width": 0.15, "color": np.float32([1, 0, 1]), **look}
    return replace(layout, concrete=False, lines=[replace(line, **look) for line in layout.lines])


def paint_contrast(road, **look):
    """Brightness at label points less that 0.6 m to both sides."""
    rng, values = np.random.default_rng(3), []
    layout = fresh_layout(rng, road, color=np.ones(3), **look)
    gray = ground.draw_background(rng, road, layout, clear_day(), 0, 0)[0].mean(axis=2)
    for lane in make_label(road)["lanes"]:
        for x, y in zip(lane, H_SAMPLES, strict=True):
            aside = 0.6 * road.scale[y]
            if aside + 2 < x < WIDTH - aside - 3 and y > 300:
                values.append(gray[y, int(x)] - max(gray[y, int(x - aside)], gray[y, int(x + aside)]))
    return np.array(values)


def test_labels_lie_on_the_paint_of_random_roads():
    for seed in (1, 2):
        road = random_route(np.random.default_rng(seed)).road_after(0)
        assert (paint_contrast(road, kind="solid") > 25).mean() > 0.95
        assert (paint_contrast(road, kind="dots") > 25).mean() < 0.1  # dots are no paint on the ground


@pytest.mark.parametrize("name", ["sedan", "truck"])
def test_vehicle_fills_its_projected_box(name):
    canvas, kind, distance = np.full((HEIGHT, WIDTH, 3), 255, np.uint8), vehicles.VEHICLES[name], 25.0
    scene = Scene(flat_road(), None, clear_day(), canvas, None)
    vehicles.draw_vehicle(np.random.default_rng(1), scene, distance, 0.0, kind, False)
    width, height, _ = np.array(kind.size) * FOCAL / distance  # pixels
    bottom = HORIZON + FOCAL * HIGH / distance
    above_shadow = np.arange(HEIGHT)[:, None] < bottom - 0.3 * height
    rows, columns = np.nonzero((canvas != 255).any(2) & above_shadow)
    assert (columns.max() - columns.min()) / width == pytest.approx(1, abs=0.1)  # sizes vary by 8 %
    assert (bottom - rows.min()) / height == pytest.approx(1, abs=0.1)
    assert columns.mean() == pytest.approx(WIDTH / 2, abs=5)


def test_things_come_nearer_and_are_drawn_from_far_to_near():
    drawn = []

    def note(rng, scene, distance, name):
        drawn.append((name, distance))

    places = [(30, "tree"), (19, "passed"), (19, "wall", 5), (12, "car", 4, -0.1), (900, "too far")]
    things = [Thing(distance, note, (name,), *more) for distance, name, *more in places]
    scene = Scene(flat_road(), None, None, None, None)  # from 2.4 to 300 m ahead
    draw_things(np.random.default_rng(0), scene, things, travelled=20.0)
    assert drawn == [("car", 14.0), ("tree", 10.0), ("wall", -1.0)]


def test_a_drive_moves_the_paint_toward_the_camera():
    """Points of the road are equally bright in two images."""
    road, profiles = flat_road(), []
    layout = fresh_layout(np.random.default_rng(0), road, kind="dashed", period=12.2, dash=4)
    for travelled in (0.0, 7.0):
        canvas, _ = ground.draw_background(np.random.default_rng(5), road, layout, clear_day(), travelled, 0)
        rows = np.searchsorted(-road.distance, -(np.arange(15.0, 35.0, 0.25) - travelled))
        pixels = canvas[rows, np.rint(road.lines[rows, 1]).astype(int)].astype(int)
        profiles.append(pixels[:, 0] - pixels[:, 1])
    assert np.corrcoef(profiles)[0, 1] > 0.9 and np.ptp(profiles[0]) > 100


def test_images_without_a_lane_show_none(monkeypatch):
    """Neither paint nor dots."""
    monkeypatch.setattr(rendering, "random_layout", fresh_layout)
    monkeypatch.setattr(rendering, "random_traffic", lambda rng, road, layout: [])
    for seed, empty in ((1, False), (1, True)):
        image, label = render_scene(np.random.default_rng(seed), empty=empty)
        pixels = image.astype(int)
        magenta = np.minimum(pixels[..., 0], pixels[..., 2]) - pixels[..., 1] > 60
        assert not magenta.any() and not label["lanes"] if empty else magenta.mean() > 1e-3
