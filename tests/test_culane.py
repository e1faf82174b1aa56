"""CULane: its files to images and labels, and its score by hand-made lanes and a second copy of its drawing."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from damage import missing, text, written
from scipy.interpolate import make_interp_spline

from data import culane_dataset_processing as processing
from lanes import culane
from lanes.culane import SIZE, draw_lane, format_lines, interpolate, lane_iou, lines_path, read_lines
from run.command import UserError


def upright(x, top=100, bottom=500, points=2):
    return np.column_stack([np.full(points, float(x)), np.linspace(bottom, top, points)])


def random_lane(rng):
    y = np.arange(580, rng.integers(250, 540), -10.0)
    return np.column_stack([rng.uniform(0, 1640) + rng.uniform(-3, 3) * (580 - y) + rng.normal(0, 6, len(y)), y])


def write(folder, name, lanes):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_lines(lanes))


# rules


def test_spline_is_the_natural_one_by_length():
    """Against SciPy's B-splines, whose second derivatives are 0 at both ends too."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = random_lane(rng)[: rng.integers(3, 20)]
        ends = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
        places = [start + (end - start) * i / 50 for start, end in zip(ends, ends[1:], strict=False) for i in range(50)]
        expected = make_interp_spline(ends, points, k=3, bc_type="natural")([*places, ends[-1]])
        np.testing.assert_allclose(interpolate(points), expected, atol=1e-8)
        np.testing.assert_allclose(interpolate(np.repeat(points, 2, axis=0)), expected, atol=1e-8)
    np.testing.assert_array_equal(interpolate(upright(7)), upright(7))


def test_lanes_are_drawn_segment_by_segment():
    rng = np.random.default_rng(1)
    for _ in range(5):
        points = random_lane(rng)
        expected = np.zeros(SIZE, np.uint8)
        curve = [tuple(int(value) for value in np.rint(point)) for point in interpolate(points)]
        for one, other in zip(curve, curve[1:], strict=False):
            cv2.line(expected, one, other, 1, 30)
        np.testing.assert_array_equal(draw_lane(points), expected)
    assert not draw_lane(points[:1]).any() and not draw_lane([]).any()
    assert draw_lane(points[[0, 0]]).any()


def test_iou_of_parallel_lanes():
    """Of the 30 or 31 pixels of a row that OpenCV draws, `shift` are each lane's own."""
    (width,) = set(draw_lane(upright(800))[150:450].sum(axis=1).tolist())
    assert width in (30, 31)
    for shift in (0, 5, 10, 15, 29, 40):
        common = max(width - shift, 0)
        iou = lane_iou([upright(800, 0, 589)], [upright(800 + shift, 0, 589, points=20)])
        assert iou == pytest.approx(common / (2 * width - common), abs=1e-12)
    assert lane_iou([upright(800)], [upright(800)[:1]]) == 0
    assert lane_iou([], [upright(800)]).shape == (0, 1)


@pytest.mark.parametrize(
    ("iou", "counts"),
    [
        ([[0.9, 0.8], [0.7, 0.1]], [2, 0, 0]),  # not the best pair (0.9), which would leave the others nothing
        ([[0.9], [0.8]], [1, 1, 0]),  # two predictions of one lane: one is found, one too many
        ([[1.0, 0.51], [0.55, 0.0]], [2, 0, 0]),  # as the benchmark's tool: the largest sum, not the most lanes
        ([[1.0, 0.51], [0.51, 0.1]], [1, 1, 1]),
        ([[0.5]], [0, 1, 1]),  # above 0.5, not at it
        (np.zeros((0, 3)), [0, 0, 3]),
        (np.zeros((2, 0)), [0, 2, 0]),
    ],
)
def test_matching_is_one_to_one_and_not_greedy(iou, counts):
    assert culane.count_matches(np.array(iou)).tolist() == counts


def test_score_adds_up_over_images():
    score = culane.culane_score([[3, 1, 0], [1, 0, 3], [0, 0, 0]])
    expected = {"F1": 8 / 12, "Precision": 4 / 5, "Recall": 4 / 7, "TP": 4, "FP": 1, "FN": 3}
    assert score == pytest.approx(expected)
    assert culane.culane_score([[0, 0, 0]])["F1"] == 1
    assert culane.culane_score([[0, 2, 0]])["F1"] == culane.culane_score([[0, 0, 2]])["F1"] == 0


# files


def test_lines_files(tmp_path):
    path = tmp_path / "a.lines.txt"
    path.write_text("\ufeff1.5 590 2e1 580 \r\n\r\n -3 10\n", encoding="utf-8")
    one, empty, other = read_lines(path)
    assert one.tolist() == [[1.5, 590], [20, 580]] and other.tolist() == [[-3, 10]] and empty.shape == (0, 2)
    lanes = [np.array([[364.107, 590], [1666.71, 470]]), np.array([[-1, 2.0]])]
    path.write_text(format_lines(lanes))
    for lane, read in zip(lanes, read_lines(path), strict=True):
        np.testing.assert_allclose(read, lane, atol=0.01)
    path.write_text("")
    assert read_lines(path) == []
    # the benchmark's tool pushes a lane for every line that getline gives
    path.write_text("\n\n100 590 120 400\n")
    assert culane.count_files([("a.jpg", path, path)]).tolist() == [[1, 2, 2]]
    for line in ("1 2 3", "1 a", "nan 2", "1 inf", "1e9 3", "1,2"):
        path.write_text(f"1 2 3 4\n{line}\n")
        with pytest.raises(UserError, match=r"a\.lines\.txt:2: "):
            read_lines(path)
    assert lines_path("x/a.b.jpg") == Path("x/a.b.lines.txt")


@pytest.fixture
def folder(tmp_path):
    """CULane in small: three images of two drives, one without a lane."""
    root = tmp_path / "culane"
    lanes = {
        "driver_a/1.MP4/00000": [upright(400, points=5), upright(800, points=5)],
        "driver_a/1.MP4/00060": [],
        "driver_b/1.MP4/00000": [upright(1200), upright(100), upright(1500)],
    }
    for number, (name, found) in enumerate(lanes.items()):
        write(root, f"{name}.lines.txt", found)
        cv2.imwrite(str(root / f"{name}.jpg"), np.full((*SIZE, 3), 50 * number, np.uint8))
    (root / "driver_a/1.MP4/00090.jpg").write_bytes((root / f"{name}.jpg").read_bytes())  # not labeled
    (root / "list").mkdir()
    (root / "list/train.txt").write_text("".join(f"/{name}.jpg\n" for name in reversed(lanes)))
    first = f"/{next(iter(lanes))}"
    (root / "list/train_gt.txt").write_text(f"{first}.jpg /laneseg{first}.png 1 1 0 0\n")
    return root


def test_images_and_labels(folder, tmp_path, capsys):
    lists = {"all": [], "list": ["--list", "list/train.txt"], "gt": ["--list", str(folder / "list/train_gt.txt")]}
    read = {}
    for name, flags in lists.items():
        processing.main([str(folder), "-o", str(tmp_path / name), *flags])
        for part in ("images", "labels"):
            paths = sorted((tmp_path / name / part).iterdir())
            read[name, part] = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    assert "3 images" in capsys.readouterr().out
    grays = {name: [image[0, 0, 0] for image in read[name, "images"]] for name in lists}
    assert grays == {"all": [0, 50, 100], "list": [100, 50, 0], "gt": [0]}
    first, empty, last = read["all", "labels"]
    assert first.dtype == np.uint8 and first.shape == SIZE and not empty.any()
    assert set(np.unique(first)) == {0, 20, 70} and set(np.unique(last)) == {0, 20, 70, 120}
    for label, x, value in ((first, 400, 20), (first, 800, 70), (last, 1500, 120)):
        row = np.flatnonzero(label[300] == value)
        np.testing.assert_array_equal(row, np.arange(x - 5, x + 6))  # 7 * 1640 / 1280 = 9, of which OpenCV makes 11
    np.testing.assert_array_equal(read["gt", "labels"], [first])


def test_names_of_a_list(folder, tmp_path):
    """Blanks, Windows' backslashes, drives behind a link."""
    (folder / "driver_a").rename(tmp_path / "my drive")
    (folder / "my drive").symlink_to(tmp_path / "my drive", target_is_directory=True)
    lines = ["/my drive/1.MP4/00000.jpg /laneseg/my drive/1.MP4/00000.png 1 1 0 0", "driver_b\\1.MP4\\00000.jpg"]
    (folder / "list/train.txt").write_text("\n".join(lines))
    assert processing.process(folder, tmp_path / "list", "list/train.txt") == (2, [])
    assert processing.process(folder, tmp_path / "all") == (3, [])
    names = ["driver_b/1.MP4/00000", "my drive/1.MP4/00000", "my drive/1.MP4/00060"]
    assert [name for name, *_ in culane.list_files(folder, folder)] == [f"{name}.lines.txt" for name in names]


A, LIST = "driver_a/1.MP4/00", "list/train.txt"
BAD = [  # file, what happens to it, what the line must say
    (f"{A}000.jpg", text, "00000.jpg: could not be decoded"),
    (f"{A}000.jpg", missing, "00000.jpg: found no regular file"),
    (f"{A}060.lines.txt", written(b"1 2\n3\n"), "00060.lines.txt:2: "),
    (f"{A}060.lines.txt", written(b"\xff\xfe"), "00060.lines.txt: found bytes"),
    (f"{A}060.lines.txt", written(b"1 2\n" * 256), "found 256 lanes"),
    (f"{A}060.lines.txt", missing, "00060.lines.txt: found no regular file"),
    (LIST, missing, "train.txt: found no regular file"),
    (LIST, written(b"\n"), "train.txt: found no line"),
    (LIST, written(b"/a.jpg\n/./a.jpg\n"), "train.txt: found a.jpg again"),
    (LIST, written(b"/../a.jpg\n"), "train.txt: found ../a.jpg"),
    (LIST, written(b"/\n"), r"train.txt: found \., expected"),
    (LIST, written(b"a.jpg\na.png\n"), "train.txt: found a.png and a.jpg, whose"),
]


@pytest.mark.parametrize(("path", "damage", "words"), BAD)
def test_bad_input_is_one_line_or_skipped(folder, tmp_path, path, damage, words):
    """Nothing is written, or what is left."""
    damage(folder / path)
    out = tmp_path / "out"
    with pytest.raises((UserError, OSError), match=words):
        processing.process(folder, out, LIST)
    assert not out.exists()
    if path != LIST:
        count, (error,) = processing.process(folder, out, LIST, skip_bad=True)
        assert count == 2 and re.search(words, str(error))
        assert sorted(path.name for path in out.rglob("*.png")) == ["0000.png"] * 2 + ["0001.png"] * 2


def test_folders_without_lanes_or_images(folder, tmp_path):
    (folder / f"{A}000.jpg").unlink()
    (tmp_path / "empty").mkdir()
    cases = ("culane", "00000.jpg: found no regular file"), ("nowhere", "nowhere"), ("empty", "empty: found no ")
    for source, words in cases:
        with pytest.raises((UserError, OSError), match=words):
            processing.process(tmp_path / source, tmp_path / "new")
        assert not (tmp_path / "new").exists()


# the command


def run(capsys, *argv):
    from evaluation.__main__ import main

    main([*map(str, argv), "--json"])
    return {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}


def test_score_command(folder, tmp_path, capsys):
    assert run(capsys, "--culane", folder, folder) == {"F1": 1, "Precision": 1, "Recall": 1, "TP": 5, "FP": 0, "FN": 0}
    pred = tmp_path / "pred"
    write(pred, "driver_a/1.MP4/00000.lines.txt", [upright(805, points=5), upright(420, points=5), upright(600)])
    write(pred, "driver_a/1.MP4/00060.lines.txt", [upright(600)])
    write(pred, "driver_b/1.MP4/00000.lines.txt", [])
    # 5 pixels aside is found, 20 is not, an empty file finds nothing
    expected = {"F1": 2 / 9, "Precision": 1 / 4, "Recall": 1 / 5, "TP": 1, "FP": 3, "FN": 4}
    assert run(capsys, "--culane", pred, folder) == pytest.approx(expected)
    assert run(capsys, "--culane", pred, folder, "--list", "list/train_gt.txt", "--verbose")["FP"] == 2
    (pred / "driver_b/1.MP4/00000.lines.txt").unlink()
    assert "driver_b/1.MP4/00000.lines.txt: found no regular file" in fails(capsys, "--culane", pred, folder)
    write(pred, "driver_c/1.lines.txt", [])
    assert "driver_c/1.lines.txt: found no such file" in fails(capsys, "--culane", pred, folder)
    assert "nowhere: no such folder" in fails(capsys, "--culane", tmp_path / "nowhere", folder)
    assert "found no *.lines.txt" in fails(capsys, "--culane", pred, folder / "list")
    assert "--list: found with --instances" in fails(capsys, "--instances", pred, folder, "--list", "a")
    assert "--gt: found with --culane" in fails(capsys, "--culane", pred, folder, "--gt", "a")


def test_a_model_on_culane(folder, tmp_path, capsys, monkeypatch):
    import utils
    from evaluation import __main__ as evaluation
    from evaluation import model

    monkeypatch.setattr(evaluation, "load_network", lambda modeldir, int8: None)
    monkeypatch.setattr(evaluation.utils, "model_folder", Path)
    monkeypatch.setattr(utils, "read_confidence", lambda modeldir: 0.6)
    monkeypatch.setattr(evaluation, "require_head", lambda *args, **flags: None)
    monkeypatch.setattr(model, "segment_outputs", lambda network, image, settings: ({}, image))
    # of the images of gray 0, 50 and 100 the last one gets its lanes, all but one
    lanes = {100: [1200, 100], 50: [], 0: [900]}
    monkeypatch.setattr(model, "fit_lanes", lambda image, size: lanes[int(image[0, 0, 0])])
    found = lambda name, lanes, rows, *rest: {"lanes": [[x if 100 <= y <= 500 else -2 for y in rows] for x in lanes]}  # noqa: E731
    monkeypatch.setattr(model, "tusimple_line", found)
    argv = ["--modeldir", "m", "--srcdir", folder, "--labels", "list/train.txt", "--out", tmp_path / "out"]
    expected = {"F1": 4 / 8, "Precision": 2 / 3, "Recall": 2 / 5, "TP": 2, "FP": 1, "FN": 3}
    assert run(capsys, *argv) == pytest.approx(expected)
    assert run(capsys, "--culane", tmp_path / "out", folder) == pytest.approx(expected)
    assert "--out: found files in" in fails(capsys, *argv)
    assert "--images: found with --modeldir on CULane" in fails(capsys, *argv, "--images", "x")


def test_real_clip(shared_data, tmp_path, capsys):
    source = shared_data / "culane"
    if not source.is_dir():
        pytest.skip("no CULane images: ../shared/data/culane is absent")
    (tmp_path / "list.txt").write_text("".join((source / "list/train.txt").read_text().splitlines(True)[::30]))
    assert processing.process(source, tmp_path / "out", tmp_path / "list.txt") == (3, [])
    label = cv2.imread(str(tmp_path / "out/labels/0000.png"), cv2.IMREAD_UNCHANGED)
    name = (tmp_path / "list.txt").read_text().split()[0].lstrip("/")
    for gray, lane in zip((20, 70, 120, 170), read_lines(lines_path(source / name)), strict=False):
        x, y = lane[len(lane) // 2].astype(int)
        assert label[y, x] == gray
    score = run(capsys, "--culane", source, source)
    assert score["F1"] == 1 and score["FP"] == score["FN"] == 0 and score["TP"] > 250
