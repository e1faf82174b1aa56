"""Scenes of other cameras and roads: geometry by hand, labels against the paint, what hides a line and what doesn't."""

import cv2
import numpy as np
import pytest
from test_road_scenes import flat_label, flat_road

from data.road import camera, cockpit, rendering
from data.road.canvas import draw_glow
from data.road.geometry import HEIGHT, ROAD_ROWS, WIDTH, Course, PinholeCamera, road_in_view
from data.road.layout import ROAD_KINDS, Plan, add_opposite, random_plan, random_planned_layout
from data.road.rendering import H_SAMPLES, render_other_road, render_scene
from data.road.weather import random_light

MAGENTA = np.float32([1, 0, 1])  # no thing beside a road has this color
LEVEL = camera.Warp(np.array([[1.0, 0, 0], [0, 1, 0]]))  # changes nothing


def magenta(image):
    """How far red and blue exceed green, (HEIGHT, WIDTH)."""
    pixels = image.astype(int)
    return np.minimum(pixels[..., 0], pixels[..., 2]) - pixels[..., 1]


def flat(ahead=np.geomspace(0.3, 450, 3000)):  # noqa: B008
    return Course(ahead, np.zeros(3000), np.zeros(3000))


def test_roads_are_those_of_the_pinhole_camera():
    view, offsets = PinholeCamera(900.0, 2.5, 300.0, 700.0), np.array([-4.0, 0.5, 3.0])
    road, first_row = road_in_view(view, flat(), offsets, reach=100.0)
    for distance in (5.0, 20.0, 80.0):
        row = 300 + 900 * 2.5 / distance
        assert float(road.row_at(distance)) == pytest.approx(row, abs=0.1)
        x = [np.interp(row, np.arange(ROAD_ROWS), line) for line in road.lines.T]
        assert x == pytest.approx(700 + 900 * offsets / distance, abs=0.5)
    assert first_row == int(300 + 900 * 2.5 / 100)


def test_road_behind_a_crest_is_not_seen():
    """A hill of 4 m, 60 m ahead: a line of sight by hand from 1.5 m over every point of the road."""
    ahead = np.geomspace(0.3, 450, 3000)
    rise = 4 * np.exp(-(((ahead - 60) / 15) ** 2))
    road, _ = road_in_view(
        PinholeCamera(1200.0, 1.5, 250.0, 640.0), Course(ahead, 0 * ahead, rise), np.array([-2.0, 2.0]), 300
    )
    slope = (rise - 1.5) / ahead
    hidden = [d for d, at_d in zip(ahead, slope, strict=True) if at_d < slope[ahead < d].max(initial=-9) - 1e-3]
    near, far = min(hidden), max(hidden)
    assert 55 < near < 62
    assert not ((road.distance > near + 1) & (road.distance < far - 1)).sum() > 1  # at most the row of the crest
    assert np.all(np.diff(road.distance) <= 0)


def test_at_most_five_lines_are_labeled_own_lane_first():
    cases = (
        ([1, 1, 1, 1, 1, 1], 0, [1, 1, 1, 1, 1, 0]),
        ([1, 1, 1, 1, 1, 1], 4, [0, 1, 1, 1, 1, 1]),
        ([0, 1, 0], 1, [0, 1, 0]),
    )
    for painted, own_lane, labeled in cases:
        assert Plan("town", None, [], np.array(painted, bool), [], own_lane).labeled.tolist() == labeled
    kinds = set()
    for seed in range(80):
        plan = random_plan(np.random.default_rng(seed))
        kinds.add(plan.kind)
        assert 1 <= plan.labeled.sum() <= 5 and not (plan.labeled & ~plan.painted).any()
        assert np.all(np.diff(plan.offsets) > 2)
        left, right = plan.offsets[plan.own_lane : plan.own_lane + 2]
        assert left < 0.3 and right > -0.3  # the camera is in its lane or about to leave it
        if plan.center is not None:
            assert plan.center <= left
    assert kinds == set(ROAD_KINDS)


def test_labels_follow_a_line_through_the_warp():
    """Lines drawn on the image and warped with it, against the label of `warp_lines`."""
    mirrored = turned = stretched = bent = 0
    for seed in range(40):
        warp = camera.random_warp(np.random.default_rng(seed), 250)
        mirrored, turned = mirrored + warp.mirrored, turned + (abs(warp.matrix[1, 0]) > 0.005)
        stretched, bent = stretched + (abs(warp.matrix[1, 1] / warp.matrix[0, 0]) > 1.2), bent + (warp.barrel > 0)
        x = rendering.warp_lines(flat_road(), 270, warp)
        assert np.all(np.nan_to_num(np.diff(x, axis=0), nan=1) > 0)  # left to right
        order = slice(None, None, -1 if warp.mirrored else 1)
        for line, expected in zip(flat_road().lines.T[order], x, strict=True):
            canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            ends = (np.int32([16 * line[y], 16 * y]) for y in (270, 900))
            cv2.line(canvas, *ends, (255, 255, 255), 3, cv2.LINE_AA, 4)
            drawn = warp.image(canvas)[..., 0].astype(float)
            for y, column in zip(H_SAMPLES, expected, strict=True):
                if 40 < column < WIDTH - 40 and 40 < line[HEIGHT - 1] < WIDTH - 40 and y < 560:
                    assert drawn[y] @ np.arange(WIDTH) / drawn[y].sum() == pytest.approx(column, abs=1)
    assert mirrored > 2 and turned > 2 and stretched > 5 and bent > 2


def paint_magenta(monkeypatch, opposite=True):
    """Make every line of other roads solid magenta by day, with an opposite carriageway beyond each; returns a list
    that gets the road and the layout of each scene."""
    scenes = []

    def layout_of(rng, road, plan):
        layout = random_planned_layout(rng, road, plan)
        layout.update({"concrete": False, "marks": {}, "decals": 0})
        if opposite:
            add_opposite(rng, layout)
        painted = [style for style in layout["styles"] if style["opacity"] > 0]
        for style in painted + (layout["opposite"]["styles"] if opposite else []):
            style.update({"kind": "solid", "width": 0.2, "color": MAGENTA, "opacity": 1.0, "wear": 0.0})
        scenes.append((road, layout))
        return layout

    day = {"kind": "clear", "night": None, "lamps": False, "wet": False, "fog": 4000.0, "sun": 0.0, "objects": 0.8}
    monkeypatch.setattr(rendering, "random_planned_layout", layout_of)
    monkeypatch.setattr(rendering, "random_light", lambda rng, other: {**random_light(rng, other), **day})
    monkeypatch.setattr("data.road.objects.random_traffic", lambda rng, layout: [])
    monkeypatch.setattr("data.road.objects.draw_vehicle", lambda *arguments: None)
    return scenes


def test_labels_lie_on_the_paint_and_end_where_it_does(monkeypatch):
    paint_magenta(monkeypatch, opposite=False)
    on_paint, counts = [], set()
    for seed in range(6):
        canvas, top, _, written = render_other_road(np.random.default_rng(seed), "road")
        counts.add(len(written["lanes"]))
        purple = magenta(canvas)
        for lane in written["lanes"]:
            points = [(x, y) for x, y in zip(lane, H_SAMPLES, strict=True) if x >= 0]
            rows = [y for _, y in points]
            assert np.all(np.diff(rows) == 10) and rows[0] > top - 12
            on_paint += [purple[y, max(x - 1, 0) : x + 2].max() > 15 for x, y in points]
    assert np.mean(on_paint) > 0.97  # a sign's post or a lamp's may stand before a line
    assert len(counts) > 1


def test_opposite_carriageway_is_painted_and_not_labeled(monkeypatch):
    scenes = paint_magenta(monkeypatch)
    monkeypatch.setattr(rendering, "random_warp", lambda rng, horizon: LEVEL)
    monkeypatch.setattr(rendering, "random_roadside", lambda *arguments: [])
    monkeypatch.setattr(rendering, "random_street_side", lambda *arguments: [])
    painted = count = 0
    for seed in range(8):
        canvas, top, _, written = render_other_road(np.random.default_rng(seed), "road")
        (road, layout), purple = scenes[-1], magenta(canvas)
        assert len(written["lanes"]) <= 5
        for y in [row for row in H_SAMPLES if row > top + 40][::4]:
            # the road's own scale and leftmost line carry the meters over
            left = road.lines[y, 0] + road.scale[y] * (layout["opposite"]["lines"] - road.offsets[0])
            for x in left[(left > 3) & (left < WIDTH - 3)]:
                painted += purple[y, int(x) - 2 : int(x) + 4].max() > 15
                count += 1
                assert all(abs(lane[H_SAMPLES.index(y)] - x) > 20 for lane in written["lanes"])
    assert count > 15 and painted > 0.9 * count


def test_own_car_hides_what_is_below_its_border():
    day, hoods = random_light(np.random.default_rng(0)), 0
    for seed in range(30):
        image = np.full((HEIGHT, WIDTH, 3), (255, 0, 255), np.uint8)
        border = cockpit.draw_own_car(np.random.default_rng(seed), image, day)
        assert border.shape == (WIDTH,) and border.max() <= HEIGHT and border.min() > 0.6 * HEIGHT
        written = rendering.hide_below(flat_label(H_SAMPLES), border)
        for given, lane in zip(flat_label(H_SAMPLES)["lanes"], written["lanes"], strict=True):
            for x, kept, y in zip(given, lane, H_SAMPLES, strict=True):
                assert kept == (x if x >= 0 and y < border[x] else -2)
        purple = magenta(image)
        for x in range(0, WIDTH, 80):
            assert purple[: int(border[x]) - 80, x].min(initial=255) == 255 or (image[0] == 0).all()
            if border[x] < HEIGHT - 12:
                hoods += 1
                assert purple[int(border[x]) + 10, x] < 250
    assert hoods > 50


def test_lines_end_at_the_far_side_of_what_hides_them():
    x = np.full((3, len(H_SAMPLES)), 100.0)
    x[1, :20], x[2, 30:40] = np.nan, -5.0  # the third leaves the image and comes back
    hidden = np.zeros(x.shape, bool)
    hidden[0, :10] = hidden[0, 25] = True  # a house at the far end, a post nearer by
    visible = rendering.visible_points(x, hidden)
    assert visible[0].tolist() == [False] * 10 + [True] * (len(H_SAMPLES) - 10)
    assert visible[1].tolist() == [False] * 20 + [True] * (len(H_SAMPLES) - 20)
    assert visible[2].tolist() == [False] * 40 + [True] * (len(H_SAMPLES) - 40)
    assert not rendering.visible_points(x[:1], np.ones((1, len(H_SAMPLES)), bool)).any()


def test_glow_is_round_and_stays_in_the_image():
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    draw_glow(canvas, (600.0, 300.0), 5.0, (1, 0.5, 0.2))
    assert canvas[300, 600].min() > 100 and canvas[300, 608].tolist() == canvas[292, 600].tolist()
    assert canvas[300, 606, 0] > canvas[300, 606, 2] > 0 and canvas[300, 640].max() == 0
    draw_glow(canvas, (-3.0, 719.0), 8.0, (1, 1, 1))
    draw_glow(canvas, (-300.0, 300.0), 8.0, (1, 1, 1))
    assert canvas[715, 0].min() > 20


@pytest.mark.parametrize(
    ("geometry", "other"),
    [(None, False), (None, True), (flat_label(H_SAMPLES), True)],
    ids=["freeway", "other camera", "other camera, given lines"],
)
def test_scenes_are_functions_of_the_seed(geometry, other):
    (image, label), (same_image, same_label), (other_image, other_label) = (
        render_scene(np.random.default_rng([seed, 0]), geometry, other=other) for seed in (4, 4, 5)
    )
    assert np.array_equal(image, same_image) and label == same_label
    assert np.abs(image.astype(int) - other_image).mean() > 5
    for scene, written in ((image, label), (other_image, other_label)):
        assert scene.shape == (HEIGHT, WIDTH, 3) and scene.dtype == np.uint8
        lanes = np.array(written["lanes"])
        assert lanes.shape[1] == len(H_SAMPLES) and np.all((lanes == -2) | (lanes >= 0) & (lanes < WIDTH))
        if geometry:  # the given lines as far as the own car doesn't hide them
            given = np.array(geometry["lanes"])
            assert np.all((lanes == given) | (lanes == -2)) and (lanes == given).mean() > 0.6
        else:
            assert label != other_label


def test_roads_without_lines_show_none(monkeypatch):
    """Kinds without a lane have none in other cameras' scenes either; not even on the opposite carriageway."""
    scenes = paint_magenta(monkeypatch)
    for seed, kind in enumerate(("road", "street", "road")):
        canvas, _, _, _ = render_other_road(np.random.default_rng(seed), kind, empty=True)
        assert len(scenes[-1][1]["opposite"]["styles"]) > 1 and (magenta(canvas) > 60).mean() < 1e-3
        monkeypatch.setattr(rendering, "random_empty_kind", lambda rng, kind=kind: kind)
        assert render_scene(np.random.default_rng(seed), empty=True, other=True)[1]["lanes"] == []
