"""Rendered scenes: geometry against the pinhole model by hand, labels against the paint, the command end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import road_empty
import road_street
import road_surface
import road_vehicles
import synthetic_dataset
import tusimple_dataset_processing
from road_geometry import HEIGHT, LANE_WIDTH, ROWS, WIDTH, Road, random_road, road_from_label
from road_scene import draw_layout, draw_light
from synthetic_dataset import H_SAMPLES, add_traffic, label_of, main, render_scene

FOCAL, CAMERA, HORIZON = 1200.0, 1.5, 250.0  # px, m, px
OFFSETS = np.array([-5.4, -1.8, 1.8, 5.4])  # m


def flat_road():
    """Straight road on flat ground, straight from the pinhole model."""
    distance = FOCAL * CAMERA / np.maximum(np.arange(ROWS) - HORIZON, 5)
    lines = WIDTH / 2 + FOCAL * OFFSETS / distance[:, None]
    return Road(lines, OFFSETS, FOCAL / distance, distance, top=256)


def flat_label(h_samples, first_row=260):
    """TuSimple lanes of `flat_road`, from x = cx + u (y - horizon) / camera height."""
    x = WIDTH / 2 + OFFSETS[:, None] * (np.array(h_samples) - HORIZON) / CAMERA
    x[(x < 0) | (x > WIDTH - 1) | (np.array(h_samples) < first_row)] = -2
    return {"lanes": np.rint(x).astype(int).tolist(), "h_samples": list(h_samples)}


def test_projection_is_the_pinhole_camera():
    rng = np.random.default_rng(0)
    offset, height, distance = rng.uniform(-20, 20, 50), rng.uniform(0, 8, 50), rng.uniform(4, 120, 50)
    expected = np.stack([WIDTH / 2 + FOCAL * offset / distance, HORIZON + FOCAL * (CAMERA - height) / distance], 1)
    assert np.allclose(flat_road().project(offset, height, distance), expected, atol=0.5)


def test_random_roads_keep_perspective_and_label_form():
    counts, bends = [], []
    for seed in range(60):
        road, first_row = random_road(np.random.default_rng(seed))
        gaps = np.diff(road.lines, axis=1)[road.top :]
        assert np.allclose(gaps, np.diff(road.offsets) * road.scale[road.top :, None], rtol=1e-6)
        assert np.all(np.diff(road.distance[road.top :]) <= 0)
        label = label_of(road, first_row)
        assert label["h_samples"] == list(range(160, 711, 10))
        counts.append(len(label["lanes"]))
        lanes = np.array(label["lanes"])
        assert lanes.shape[1] == 56
        assert np.all((lanes == -2) | ((lanes >= 0) & (lanes < WIDTH)))
        both = (lanes[:-1] >= 0) & (lanes[1:] >= 0)
        assert np.all((lanes[:-1] <= lanes[1:])[both])  # left to right
        rows = np.array(H_SAMPLES)
        assert 240 <= rows[(lanes >= 0).any(0)].min() <= 350
        for lane in lanes:
            valid = lane >= 0
            assert np.all(np.diff(np.flatnonzero(valid)) == 1)  # no gaps: lanes go on behind cars
            step = np.abs(np.diff(lane[valid])).max()
            last = lane[valid][-1]
            assert rows[valid][-1] == 710 or min(last, WIDTH - 1 - last) <= step + 2  # to the border
        bends.append(np.abs(np.diff(road.lines[first_row:HEIGHT:10, 0], 2)).max())
    assert min(counts) >= 2 and max(counts) == 5 and len(set(counts)) == 4
    assert min(bends) < 1 < max(bends)  # straight ones and curves


def test_dash_share_is_the_mean_over_the_stretch():
    start = np.array([3.0, 10.1, 24.0, 80.0])
    stop = start + np.array([0.02, 1.5, 9.0, 40.0])
    fine = np.linspace(start, stop, 200_001)
    expected = (((fine + 1.7) % 12.2) < 3.05).mean(0)
    assert np.allclose(road_surface.dash_share(start, stop, 12.2, 3.05, 1.7), expected, atol=1e-4)


def test_stripe_share_is_the_covered_part_of_a_pixel():
    distance = np.linspace(-6, 6, 25)
    fine = distance + np.linspace(-1, 1, 100_001)[:, None]  # a footprint 2 pixels wide
    for half_width in (0.3, 1.4, 4.0):
        expected = (np.abs(fine) < half_width).mean(0)
        assert np.allclose(road_surface.stripe_share(distance, half_width, 2.0), expected, atol=1e-3)


def paint_contrast(road, label, change, seed=3):
    """Brightness of the painted ground at label points less that of the pavement 0.6 m to both sides."""
    rng = np.random.default_rng(seed)
    layout = draw_layout(rng, road)
    for style in layout["styles"]:
        style.update({"wear": 0.0, "opacity": 1.0, "width": 0.15, "color": np.float32([1, 1, 1]), **change})
    layout["concrete"] = False
    light = draw_light(rng) | {"kind": "clear", "gray": False, "fog": 4000.0, "sun": 0.0}
    canvas, _ = road_surface.paint_background(rng, road, layout, light)
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
        solid = paint_contrast(road, label_of(road, first_row), {"kind": "solid"})
        assert (solid > 25).mean() > 0.95
        none = paint_contrast(road, label_of(road, first_row), {"kind": "dots"})  # dots are no paint on the ground
        assert (none > 25).mean() < 0.1


def test_dashes_cover_their_share_of_the_labels():
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
    assert road.lines.shape == (ROWS, 4)
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
    light = draw_light(np.random.default_rng(0)) | {"sun": 0.0, "fog": 4000.0, "objects": 1.0}
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    distance = 25.0
    road_vehicles.paint_vehicle(np.random.default_rng(1), canvas, road, light, 0.0, distance, kind, False)
    width, height, _ = np.array(road_vehicles.VEHICLES[kind][1]) * FOCAL / distance  # pixels
    bottom = HORIZON + FOCAL * CAMERA / distance
    above_shadow = np.arange(HEIGHT)[:, None] < bottom - 0.3 * height
    rows, columns = np.nonzero((canvas != 255).any(2) & above_shadow)
    assert (columns.max() - columns.min()) / width == pytest.approx(1, abs=0.1)  # sizes vary by 8 %
    assert (bottom - rows.min()) / height == pytest.approx(1, abs=0.1)
    assert columns.mean() == pytest.approx(WIDTH / 2, abs=5)


def test_scene_is_a_function_of_the_seed():
    first, label = render_scene(np.random.default_rng([5, 0]))
    again, same = render_scene(np.random.default_rng([5, 0]))
    other, different = render_scene(np.random.default_rng([5, 1]))
    assert first.shape == (720, 1280, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and label == same
    assert label != different and np.abs(first.astype(int) - other).mean() > 5


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_command_writes_a_tusimple_folder_whatever_the_workers(tmp_path):
    for workers in ("1", "2"):
        main([str(tmp_path / workers), "--count", "2", "--seed", "7", "--workers", workers])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    clips, bad = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 2 and not bad
    for path, label in clips:
        assert cv2.imread(str(path)).shape == (720, 1280, 3)
        assert path.name == "20.jpg" and Path(label["raw_file"]).parts[0] == "clips"
    assert len({path.read_bytes() for path, _ in clips}) == 2


def test_command_with_geometry_and_pictures_only(tmp_path):
    given = [{"raw_file": f"{i}", **flat_label(H_SAMPLES, first_row=260 + 10 * i)} for i in range(3)]
    (tmp_path / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    main([str(tmp_path / "set"), "--count", "3", "--geometry", str(tmp_path / "label_data_a.json"), "--workers", "1"])
    written = [json.loads(line) for line in (tmp_path / "set" / "label_data_synthetic.json").read_text().splitlines()]
    assert sorted(line["lanes"] for line in written) == sorted(line["lanes"] for line in given)
    assert [line["raw_file"] for line in written] == [f"clips/synthetic/{i:06d}/20.jpg" for i in range(3)]

    (tmp_path / "set" / "0000.jpg").write_text("an older picture, to be replaced")
    main([str(tmp_path / "set"), "--count", "1", "--seed", "3", "--pictures-only", "--workers", "1"])
    picture = cv2.imread(str(tmp_path / "set" / "0000.jpg"))[..., ::-1].astype(float)
    assert np.abs(picture - render_scene(np.random.default_rng([3, 0]))[0]).mean() < 4  # but for the JPEG


def test_command_paints_traffic_on_labeled_pictures(tmp_path):
    """Labels and pictures are those given, but for the cars; the same for any number of workers."""
    given, source = [], tmp_path / "given"
    for i, gray in enumerate((90, 120)):
        path = source / f"clips/{i}/20.jpg"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((720, 1280, 3), gray, np.uint8))
        given.append({"raw_file": f"clips/{i}/20.jpg", **flat_label(H_SAMPLES, first_row=260 + 10 * i)})
    (source / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    for workers in ("1", "2"):
        main([str(tmp_path / workers), "--count", "8", "--traffic-on", str(source), "--workers", workers])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    clips, bad = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 8 and not bad
    assert sorted(label["lanes"] for _, label in clips) == sorted(4 * [line["lanes"] for line in given])
    shares = []
    for path, label in clips:
        gray = 90 if label["lanes"] == given[0]["lanes"] else 120
        changed = np.abs(cv2.imread(str(path)).astype(int) - gray).max(-1) > 12  # but for the JPEG
        shares.append(changed.mean())
    assert 0.01 < np.mean(shares) < 0.3 and len(set(shares)) > 4


def test_traffic_stands_where_the_pinhole_camera_has_it(monkeypatch):
    """A sedan 20 m ahead in the right lane of a flat road: body inside its lane, nothing above its roof."""
    monkeypatch.setattr(synthetic_dataset, "draw_traffic", lambda rng, layout: [(20.0, 3.6, "sedan", False)])
    monkeypatch.setattr(synthetic_dataset, "draw_light", lambda rng: {**draw_light(rng), "sun": 0.0})
    for seed in range(5):
        picture = np.full((HEIGHT, WIDTH, 3), (255, 0, 255), np.uint8)
        add_traffic(np.random.default_rng(seed), picture, flat_label(H_SAMPLES))
        changed = (picture != (255, 0, 255)).any(-1)
        # road_from_label takes TuSimple's focal length, 1450 px, and lanes of 3.65 m from the gap of 3.6 / 1.5 px a row
        scale = 1450 / 20  # px per m
        ground = HORIZON + scale * LANE_WIDTH * CAMERA / 3.6
        middle = WIDTH / 2 + 3.6 * scale
        body = changed[int(ground - 0.6 * scale), int(middle - 0.8 * scale) : int(middle + 0.8 * scale)]
        assert body.all()
        columns, rows = np.flatnonzero(changed.any(0)), np.flatnonzero(changed.any(1))
        assert abs(columns[-1] - (middle + 0.9 * scale)) < 0.3 * scale
        assert abs(rows[0] - (ground - 1.45 * scale)) < 0.2 * scale and abs(rows[-1] - ground) < 0.3 * scale
        assert columns[0] > WIDTH / 2 + 1.8 * FOCAL / 1450 * scale  # not beyond its lane's left line


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["new", "--count", "0"], ["--count: found 0", "at least 1"]),
        (["new", "--seed", "-1"], ["--seed: found -1"]),
        (["new", "--workers", "0"], ["--workers: found 0"]),
        (["full"], ["full: found a folder with files", "new or empty"]),
        (["full/file/new", "--count", "1"], ["full/file", "expected a folder"]),
        (["new", "--geometry", "absent.json"], ["absent.json: found No such file"]),
        (["new", "--geometry", "good.json", "broken.json"], ["broken.json:2: found broken JSON"]),
        (["new", "--geometry", "uneven.json"], ["uneven.json:1: found a lane of 2 points, expected 56"]),
        (["new", "--geometry", "falling.json"], ["falling.json:1: found h_samples out of order"]),
        (["new", "--geometry", "empty.json"], ["empty.json: found no lane of two points"]),
        (["new", "--geometry", "full"], ["full: found Is a directory"]),
        (["new", "--traffic-on", "absent"], ["absent: no such folder", "--traffic-on"]),
        (["new", "--traffic-on", "full"], ["full: no label_data_*.json", "--traffic-on"]),
        (["new", "--traffic-on", "pictureless"], ["label_data_a.json:1: no file", "--traffic-on"]),
        (["new", "--traffic-on", "laneless"], ["laneless: found no lane of two points"]),
        (["new", "--traffic-on", "small"], ["small/a: found 64x48 pixels, expected 1280x720"]),
        (["new", "--traffic-on", "torn"], ["torn/a: found no picture"]),
        (["new", "--traffic-on", "small", "--geometry", "good.json"], ["--traffic-on: found --geometry too"]),
        (["new", "--traffic-on", "small", "--empty-share", "0.5"], ["--traffic-on: found --empty-share too"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("new", "full", "full/file/new") else "",
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, flags, parts):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/file").write_text("x")
    good = json.dumps({"raw_file": "a", **flat_label(H_SAMPLES)})
    Path("good.json").write_text(good + "\n")
    Path("broken.json").write_text(good + "\n" + good[:40] + "\n")
    Path("uneven.json").write_text(json.dumps({"raw_file": "a", "lanes": [[1, 2]], "h_samples": H_SAMPLES}))
    Path("falling.json").write_text(json.dumps({"raw_file": "a", "lanes": [[1, 2]], "h_samples": [300, 290]}))
    Path("empty.json").write_text(json.dumps({"raw_file": "a", "lanes": [], "h_samples": H_SAMPLES}) + "\n\n")
    for folder, picture, line in (
        ("pictureless", None, good),
        ("laneless", b"x", Path("empty.json").read_text()),
        ("small", cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes(), good),
        ("torn", b"x", good),
    ):
        Path(folder).mkdir()
        Path(folder, "label_data_a.json").write_text(line)
        if picture:
            Path(folder, "a").write_bytes(picture)
    before = files_of(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(flags)
    *bar, message, end = capsys.readouterr().err.split("\n")
    assert stop.value.code == 2 and not end
    assert message.startswith("synthetic_dataset.py: error: ")
    assert all(line.startswith("\rrendering: ") for line in bar)  # a picture is read when its turn comes
    assert all(part in message for part in parts), message
    assert files_of(tmp_path) == before and not Path("new").exists()


def test_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    calls = []

    def interrupted(rng, geometry=None, empty=False):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8), {"lanes": [], "h_samples": []}

    monkeypatch.setattr(synthetic_dataset, "render_scene", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "new"), "--count", "3", "--workers", "1"])
    assert stop.value.code == 130
    assert capsys.readouterr().err.endswith("synthetic_dataset.py: interrupted, nothing written\n")
    assert not list(tmp_path.iterdir())


def test_failing_import_of_opencv_names_the_packages(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    script = Path(synthetic_dataset.__file__)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "new")], capture_output=True, text=True, env=environment
    )
    assert done.returncode != 0
    assert "apt-get install -y libgl1 libglib2.0-0" in done.stderr and done.stderr.count("\n") == 1


def test_empty_scenes_have_no_lane_and_leave_the_others_alone(tmp_path):
    """With --empty-share some pictures have no lane; they come in every kind, and the rest are the same pictures."""
    for name, share in (("none", "0"), ("some", "0.5"), ("all", "1")):
        main([str(tmp_path / name), "--count", "5", "--seed", "3", "--workers", "1", "--empty-share", share])
    lines = {
        name: [json.loads(t) for t in (tmp_path / name / "label_data_synthetic.json").read_text().splitlines()]
        for name in ("none", "some", "all")
    }
    assert all(line["lanes"] for line in lines["none"]) and not any(line["lanes"] for line in lines["all"])
    kept = [i for i, line in enumerate(lines["some"]) if line["lanes"]]
    assert 0 < len(kept) < 5
    for i in kept:
        one, other = (tmp_path / name / lines["none"][i]["raw_file"] for name in ("none", "some"))
        assert one.read_bytes() == other.read_bytes() and lines["none"][i] == lines["some"][i]


def test_pictures_of_nothing():
    rng = np.random.default_rng(1)
    kinds = {road_empty.draw_empty_kind(rng) for _ in range(100)}
    assert kinds == set(road_empty.KINDS)
    for kind in sorted(kinds - {"road", "street"}):
        pictures = [road_empty.paint_nothing(rng, kind) for _ in range(3)]
        assert all(p.shape == (HEIGHT, WIDTH, 3) and p.dtype == np.uint8 for p in pictures)
        assert (pictures[0] != pictures[1]).mean() > 0.5


def test_town_streets(monkeypatch):
    """Houses stand beside the road and hide the sky, above the horizon only where the painter was told to put them."""
    monkeypatch.setattr(synthetic_dataset, "draw_empty_kind", lambda rng: "street")
    for seed in range(4):
        picture, label = render_scene(np.random.default_rng(seed), empty=True)
        assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
        assert label == {"lanes": [], "h_samples": H_SAMPLES}
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    light = {"objects": 1.0, "fog": 1e9, "horizon": np.ones(3)}
    # 10 m high, 20 to 40 m ahead, its front 9 m to the right: corners by the pinhole camera
    rgb = np.array([0.9, 0.1, 0.1])
    road_street.paint_house(np.random.default_rng(0), canvas, flat_road(), light, 9.0, 1, 20.0, 40.0, 10.0, rgb)
    rows, columns = np.nonzero(canvas.any(-1))
    near, far = FOCAL / 20, FOCAL / 40  # px per m
    assert abs(columns.min() - (WIDTH / 2 + 9 * far)) < 2 and abs(columns.max() - (WIDTH - 1)) < 2
    assert rows.min() == 0 and abs(rows.max() - (HORIZON + CAMERA * near)) < 2  # higher than the picture
    x = int(WIDTH / 2 + 9 * far) + 2
    assert np.flatnonzero(canvas[:, x].any(-1))[[0, -1]] == pytest.approx(
        [HORIZON - (10 - CAMERA) * far, HORIZON + CAMERA * far], abs=5
    )
