"""Rendered scenes: geometry against the pinhole model by hand, labels against the paint."""

import json

import numpy as np
import pytest

from data.road import empty, ground, objects, rendering, vehicles
from data.road.canvas import Scene
from data.road.geometry import HEIGHT, LANE_WIDTH, ROAD_ROWS, WIDTH, Road, random_road, road_from_label
from data.road.layout import random_layout
from data.road.rendering import H_SAMPLES, make_label, render_scene
from data.road.weather import random_light

FOCAL, CAMERA, HORIZON = 1200.0, 1.5, 250.0  # px, m, px
OFFSETS = np.array([-5.4, -1.8, 1.8, 5.4])  # m


def flat_road():
    """Straight road on flat ground, straight from the pinhole model."""
    distance = FOCAL * CAMERA / np.maximum(np.arange(ROAD_ROWS) - HORIZON, 5)
    lines = WIDTH / 2 + FOCAL * OFFSETS / distance[:, None]
    return Road(lines, OFFSETS, FOCAL / distance, distance, top=256)


def flat_label(h_samples, first_row=260):
    """TuSimple lanes of `flat_road`, from x = cx + u (y - horizon) / camera height."""
    x = WIDTH / 2 + OFFSETS[:, None] * (np.array(h_samples) - HORIZON) / CAMERA
    x[(x < 0) | (x > WIDTH - 1) | (np.array(h_samples) < first_row)] = -2
    return {"lanes": np.rint(x).astype(int).tolist(), "h_samples": list(h_samples)}


def label_of_road(road, first_row):
    return make_label(road.lines[H_SAMPLES].T, np.array(H_SAMPLES) >= first_row)


def test_projection_is_the_pinhole_camera():
    rng = np.random.default_rng(0)
    offset, height, distance = rng.uniform(-20, 20, 50), rng.uniform(0, 8, 50), rng.uniform(4, 120, 50)
    expected = np.stack([WIDTH / 2 + FOCAL * offset / distance, HORIZON + FOCAL * (CAMERA - height) / distance], 1)
    assert np.allclose(flat_road().project(offset, height, distance), expected, atol=0.5)


def test_random_roads_keep_perspective_and_label_form():
    counts, bends, tops = [], [], []
    for seed in range(60):
        road, first_row = random_road(np.random.default_rng(seed))
        gaps = np.diff(road.lines, axis=1)[road.top :]
        assert np.allclose(gaps, np.diff(road.offsets) * road.scale[road.top :, None], rtol=1e-6)
        assert np.all(np.diff(road.distance[road.top :]) <= 0)
        label = label_of_road(road, first_row)
        assert label["h_samples"] == list(range(160, 711, 10))
        counts.append(len(label["lanes"]))
        lanes = np.array(label["lanes"])
        assert lanes.shape[1] == 56
        assert np.all((lanes == -2) | ((lanes >= 0) & (lanes < WIDTH)))
        both = (lanes[:-1] >= 0) & (lanes[1:] >= 0)
        assert np.all((lanes[:-1] <= lanes[1:])[both])  # left to right
        rows = np.array(H_SAMPLES)
        tops.append(rows[(lanes >= 0).any(0)].min())
        for lane in lanes:
            valid = lane >= 0
            assert np.all(np.diff(np.flatnonzero(valid)) == 1)  # no gaps: lanes go on behind cars
            step = np.abs(np.diff(lane[valid])).max()
            last = lane[valid][-1]
            assert rows[valid][-1] == 710 or min(last, WIDTH - 1 - last) <= step + 2  # to the border
        bends.append(np.abs(np.diff(road.lines[first_row:HEIGHT:10, 0], 2)).max())
    assert min(counts) >= 2 and max(counts) == 5 and len(set(counts)) == 4
    assert min(bends) < 1 < max(bends)  # straight ones and curves
    assert 160 <= min(tops) < 230 and 260 < max(tops) <= 360  # TuSimple's labels begin at rows 160 to 340


def test_lanes_beside_the_cars_differ_in_width_as_in_tusimple():
    """Widths by hand from the lines' pixels at one row. TuSimple's labels: 22 % (0313, 0601) and 35 % (0531)."""
    ratios, own_lane = [], []
    for seed in range(200):
        road, _ = random_road(np.random.default_rng(seed))
        widths = np.diff(road.lines[700]) / road.scale[700]
        at = np.searchsorted(road.offsets, 0) - 1
        own_lane.append(widths[at])
        ratios.extend(np.delete(widths, at) / widths[at])
    different = np.abs(np.array(ratios) - 1) > 0.15
    assert 0.18 < different.mean() < 0.35
    assert min(ratios) < 0.7 and max(ratios) > 1.5
    assert 3.0 < np.quantile(own_lane, 0.02) and np.quantile(own_lane, 0.98) < 4.3  # m, the car's own lane is a lane


def test_dash_fraction_is_the_mean_over_the_stretch():
    start = np.array([3.0, 10.1, 24.0, 80.0])
    stop = start + np.array([0.02, 1.5, 9.0, 40.0])
    fine = np.linspace(start, stop, 200_001)
    expected = (((fine + 1.7) % 12.2) < 3.05).mean(0)
    assert np.allclose(ground.dash_fraction(start, stop, 12.2, 3.05, 1.7), expected, atol=1e-4)


def test_stripe_fraction_is_the_covered_part_of_a_pixel():
    distance = np.linspace(-6, 6, 25)
    fine = distance + np.linspace(-1, 1, 100_001)[:, None]  # a footprint 2 pixels wide
    for half_width in (0.3, 1.4, 4.0):
        expected = (np.abs(fine) < half_width).mean(0)
        assert np.allclose(ground.stripe_fraction(distance, half_width, 2.0), expected, atol=1e-3)


def paint_contrast(road, label, change, seed=3):
    """Brightness of the painted ground at label points less that of the pavement 0.6 m to both sides."""
    rng = np.random.default_rng(seed)
    layout = random_layout(rng, road)
    for style in layout["styles"]:
        style.update({"wear": 0.0, "opacity": 1.0, "width": 0.15, "color": np.float32([1, 1, 1]), **change})
    layout["concrete"] = False
    light = random_light(rng) | {"kind": "clear", "gray": False, "fog": 4000.0, "sun": 0.0}
    canvas, _ = ground.draw_background(rng, road, layout, light)
    gray = canvas.mean(axis=2)
    values = []
    for lane in label["lanes"]:
        for x, y in zip(lane, label["h_samples"], strict=True):
            aside = 0.6 * road.scale[y]
            if aside + 2 < x < WIDTH - aside - 3 and y > 300:
                values.append(gray[y, int(x)] - max(gray[y, int(x - aside)], gray[y, int(x + aside)]))
    return np.array(values)


def test_labels_lie_on_the_paint_of_random_roads():
    for seed in (1, 2):
        road, first_row = random_road(np.random.default_rng(seed))
        solid = paint_contrast(road, label_of_road(road, first_row), {"kind": "solid"})
        assert (solid > 25).mean() > 0.95
        none = paint_contrast(road, label_of_road(road, first_row), {"kind": "dots"})  # dots are no paint on the ground
        assert (none > 25).mean() < 0.1


def test_dashes_cover_their_fraction_of_the_labels():
    road = flat_road()
    label = flat_label(H_SAMPLES)
    seen = [
        (paint_contrast(road, label, {"kind": "dashed", "period": 12.2, "dash": 3.05, "phase": phase}) > 25).mean()
        for phase in (0, 6.1)
    ]
    assert 0.15 < np.mean(seen) < 0.4  # a quarter, more where far dashes run together


@pytest.mark.parametrize("h_samples", [range(160, 720, 10), range(240, 720, 10)], ids=["56 rows", "48 rows"])
def test_geometry_is_taken_over(h_samples):
    label = flat_label(h_samples)
    label["lanes"].append([-2] * len(label["h_samples"]))  # TuSimple has such empty lanes
    road = road_from_label(label)
    truth = flat_road()
    assert road.lines.shape == (ROAD_ROWS, 4)
    for y in range(280, 700, 20):
        assert np.allclose(road.lines[y], truth.lines[y], atol=1.5 + 0.006 * np.abs(truth.lines[y] - WIDTH / 2))
    expected = truth.scale[300:HEIGHT] * 3.6 / LANE_WIDTH  # lanes count as LANE_WIDTH wide, these are 3.6 m
    assert np.allclose(road.scale[300:HEIGHT], expected, rtol=0.02)
    assert np.allclose(road.offsets, OFFSETS * LANE_WIDTH / 3.6, atol=0.1)
    solid = paint_contrast(road, label, {"kind": "solid"})
    assert (solid > 25).mean() > 0.95
    _, written = render_scene(np.random.default_rng(0), label)
    assert written == label


def test_real_labels_give_roads_through_their_points(shared_data):
    lines = []
    for path in sorted((shared_data / "tusimple_labels").glob("label_data_*.json")):
        lines += [json.loads(text) for text in path.read_text().splitlines()[::60]]
    if not lines:
        pytest.skip("no label files in ../shared/data/tusimple_labels")
    misses = []
    for line in lines:
        road = road_from_label(line)
        rows = np.array(line["h_samples"])
        assert np.all(np.diff(road.knots[0], axis=1) > 0) and np.all(road.scale[road.top :] >= 1)
        for lane in map(np.array, line["lanes"]):
            valid = lane >= 0
            if valid.sum() > 1:
                misses.append(np.abs(road.lines[rows[valid]] - lane[valid, None]).max(0).min())
    assert np.median(misses) < 0.5 and np.percentile(misses, 99) < 4  # pixels, at the worst point of a lane


@pytest.mark.parametrize("kind", ["sedan", "truck"])
def test_vehicle_fills_its_projected_box(kind):
    road = flat_road()
    light = random_light(np.random.default_rng(0)) | {"sun": 0.0, "fog": 4000.0, "objects": 1.0}
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    distance = 25.0
    vehicles.draw_vehicle(np.random.default_rng(1), Scene(road, {}, light, canvas, None), 0.0, distance, kind, False)
    width, height, _ = np.array(vehicles.VEHICLES[kind].size) * FOCAL / distance  # pixels
    bottom = HORIZON + FOCAL * CAMERA / distance
    above_shadow = np.arange(HEIGHT)[:, None] < bottom - 0.3 * height
    rows, columns = np.nonzero((canvas != 255).any(2) & above_shadow)
    assert (columns.max() - columns.min()) / width == pytest.approx(1, abs=0.1)  # sizes vary by 8 %
    assert (bottom - rows.min()) / height == pytest.approx(1, abs=0.1)
    assert columns.mean() == pytest.approx(WIDTH / 2, abs=5)


def test_images_of_nothing():
    rng = np.random.default_rng(1)
    kinds = {empty.random_empty_kind(rng) for _ in range(100)}
    assert kinds == set(empty.EMPTY_KINDS)
    for kind in sorted(kinds - {"road", "street"}):
        images = [empty.draw_nothing(rng, kind) for _ in range(3)]
        assert all(p.shape == (HEIGHT, WIDTH, 3) and p.dtype == np.uint8 for p in images)
        assert (images[0] != images[1]).mean() > 0.5


def test_town_streets(monkeypatch):
    """Houses stand beside the road and hide the sky, above the horizon only where the painter was told to put them."""
    monkeypatch.setattr(rendering, "random_empty_kind", lambda rng: "street")
    for seed in range(4):
        image, label = render_scene(np.random.default_rng(seed), empty=True)
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
        assert label == {"lanes": [], "h_samples": H_SAMPLES}
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    light = {"objects": 1.0, "fog": 1e9, "horizon": np.ones(3), "night": None}
    # 10 m high, 20 to 40 m ahead, its front 9 m to the right: corners by the pinhole camera
    rgb = np.array([0.9, 0.1, 0.1])
    scene = Scene(flat_road(), {}, light, canvas, None)
    objects.draw_house(np.random.default_rng(0), scene, 9.0, 1, 20.0, 40.0, 10.0, rgb)
    rows, columns = np.nonzero(canvas.any(-1))
    near, far = FOCAL / 20, FOCAL / 40  # px per m
    assert abs(columns.min() - (WIDTH / 2 + 9 * far)) < 2 and abs(columns.max() - (WIDTH - 1)) < 2
    assert rows.min() == 0 and abs(rows.max() - (HORIZON + CAMERA * near)) < 2  # higher than the image
    x = int(WIDTH / 2 + 9 * far) + 2
    assert np.flatnonzero(canvas[:, x].any(-1))[[0, -1]] == pytest.approx(
        [HORIZON - (10 - CAMERA) * far, HORIZON + CAMERA * far], abs=5
    )
