"""CULane: its files to images and labels, and its score by hand."""

import re

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from conftest import evaluation_scores as run
from damage import missing, written
from scipy.interpolate import make_interp_spline

from data import culane_dataset_processing as processing
from lanes import culane
from lanes.culane import SIZE, draw_lane, interpolate, lane_iou, read_lines, write_lanes
from run.command import UserError


def upright(x, top=100, bottom=500, points=2):
    return np.column_stack([np.full(points, float(x)), np.linspace(bottom, top, points)])


def random_lane(rng):
    y = np.arange(580, rng.integers(250, 540), -10.0)
    return np.column_stack([rng.uniform(0, 1640) + rng.uniform(-3, 3) * (580 - y) + rng.normal(0, 6, len(y)), y])


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


def test_lanes_are_drawn_segment_by_segment():
    points = random_lane(np.random.default_rng(1))
    expected = np.zeros(SIZE, np.uint8)
    curve = [tuple(int(value) for value in np.rint(point)) for point in interpolate(points)]
    for one, other in zip(curve, curve[1:], strict=False):
        cv2.line(expected, one, other, 1, 30)
    np.testing.assert_array_equal(draw_lane(points), expected)
    assert not draw_lane(points[:1]).any() and not draw_lane([]).any() and draw_lane(points[[0, 0]]).any()


def test_iou_of_parallel_lanes():
    """Of the pixels of a row `shift` are each lane's own."""
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
        ([[1.0, 0.51], [0.55, 0.0]], [2, 0, 0]),  # as the benchmark's tool: the largest sum, not the most lanes
        ([[1.0, 0.51], [0.51, 0.1]], [1, 1, 1]),
        ([[0.5]], [0, 1, 1]),  # above 0.5, not at it
        (np.zeros((0, 3)), [0, 0, 3]),
    ],
)
def test_matching_is_one_to_one_and_not_greedy(iou, counts):
    assert culane.count_matches(np.array(iou)).tolist() == counts


def test_score_adds_up_over_images():
    expected = {"F1": 8 / 12, "Precision": 4 / 5, "Recall": 4 / 7, "TP": 4, "FP": 1, "FN": 3}
    assert culane.culane_score([[3, 1, 0], [1, 0, 3], [0, 0, 0]]) == pytest.approx(expected)
    assert culane.culane_score([[0, 0, 0]])["F1"] == 1
    assert culane.culane_score([[0, 2, 0]])["F1"] == culane.culane_score([[0, 0, 2]])["F1"] == 0


def test_lines_files(tmp_path):
    path = tmp_path / "a.lines.txt"
    path.write_text("\ufeff1.5 590 2e1 580 \r\n\r\n -3 10\n", encoding="utf-8")
    one, empty, other = read_lines(path)
    assert one.tolist() == [[1.5, 590], [20, 580]] and other.tolist() == [[-3, 10]] and empty.shape == (0, 2)
    lanes = [[(364.107, 590), (1666.71, 470)], [(-1, 2.0)]]
    write_lanes(tmp_path, ["a.jpg", "b/c.jpg"], [lanes, []])
    for lane, read in zip(lanes, read_lines(path), strict=True):
        np.testing.assert_allclose(read, lane, atol=0.01)
    assert read_lines(tmp_path / "b/c.lines.txt") == []
    # the benchmark's tool pushes a lane for every line that getline gives
    path.write_text("\n\n100 590 120 400\n")
    lanes = culane.read_lanes(tmp_path, ["a.jpg"])
    assert culane.count_lanes(lanes, lanes).tolist() == [[1, 2, 2]]
    for line in ("1 2 3", "1 a", "nan 2", "1 inf", "1e9 3", "1,2"):
        path.write_text(f"1 2 3 4\n{line}\n")
        with pytest.raises(UserError, match=r"a\.lines\.txt:2: "):
            read_lines(path)


@pytest.fixture
def folder(tmp_path):
    """Three images of two drives, one without a lane."""
    root = tmp_path / "culane"
    names = [f"driver_{name}.jpg" for name in ("a/1.MP4/00000", "a/1.MP4/00060", "b/1.MP4/00000")]
    lanes = [upright(400, points=5), upright(800, points=5)], [], [upright(1200), upright(100), upright(1500)]
    write_lanes(root, names, lanes)
    for number, name in enumerate(names):
        cv2.imwrite(str(root / name), np.full((*SIZE, 3), 50 * number, np.uint8))
    (root / "driver_a/1.MP4/00090.jpg").write_bytes(b"not labeled")
    (root / "list").mkdir()
    (root / "list/train.txt").write_text("".join(f"/{name}\n" for name in reversed(names)))
    (root / "list/train_gt.txt").write_text(f"/{names[0]} /laneseg/{names[0]} 1 1 0 0\n")
    return root


A, LIST = "driver_a/1.MP4/00", "list/train.txt"


def test_images_and_labels(folder, tmp_path):
    read = {}
    for name, flags in {"all": [], "list": ["--list", LIST]}.items():
        processing.main([str(folder), "-o", str(tmp_path / name), *flags])
        for part in ("images", "labels"):
            paths = sorted((tmp_path / name / part).iterdir())
            read[name, part] = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    grays = [[image[0, 0, 0] for image in read[name, "images"]] for name in ("all", "list")]
    assert grays == [[0, 50, 100], [100, 50, 0]]
    first, empty, last = read["all", "labels"]
    assert first.dtype == np.uint8 and first.shape == SIZE and not empty.any()
    assert set(np.unique(first)) == {0, 20, 70} and set(np.unique(last)) == {0, 20, 70, 120}
    for label, x, value in ((first, 400, 20), (first, 800, 70), (last, 1500, 120)):
        row = np.flatnonzero(label[300] == value)
        np.testing.assert_array_equal(row, np.arange(x - 5, x + 6))  # of 7 * 1640 / 1280 = 9 OpenCV makes 11
    np.testing.assert_array_equal(read["list", "labels"][::-1], read["all", "labels"])
    (folder / f"{A}000.jpg").unlink()
    with pytest.raises(UserError, match=f"{A}000.jpg: found no regular file"):
        processing.process(folder, tmp_path / "new")


BAD = [  # file, what happens to it, what the line must say
    (f"{A}060.lines.txt", written(b"1 2\n3\n"), "00060.lines.txt:2: "),
    (f"{A}060.lines.txt", written(b"1 2\n" * 256), "found 256 lanes"),
    (f"{A}060.lines.txt", missing, "00060.lines.txt: found no regular file"),
    (LIST, missing, "train.txt: found no regular file"),
    (LIST, written(b"\n"), "train.txt: found no line"),
    (LIST, written(b"/a.jpg\n/./a.png\n"), "train.txt: found './a.png'"),
    (LIST, written(b"/../a.jpg\n"), "train.txt: found '../a.jpg'"),
    (LIST, written(b"/\n"), "train.txt: found ''"),
]


@pytest.mark.parametrize(("path", "damage", "words"), BAD)
def test_bad_input_is_one_line_or_skipped(folder, tmp_path, path, damage, words):
    damage(folder / path)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=words):
        processing.process(folder, out, LIST)
    assert not out.exists()
    if path != LIST:
        count, (error,) = processing.process(folder, out, LIST, skip_bad=True)
        assert count == 2 and re.search(words, str(error)) and len(list(out.rglob("*.png"))) == 4


def test_score_command(folder, tmp_path, capsys):
    pred, names = tmp_path / "pred", [f"{A}000.jpg", f"{A}060.jpg", "driver_b/1.MP4/00000.jpg"]
    write_lanes(pred, names, [[upright(805, points=5), upright(420, points=5), upright(600)], [upright(600)], []])
    argv = ["--culane", pred, folder, "--list"]
    # 5 pixels aside is found, 20 is not, an empty file finds nothing
    expected = {"F1": 2 / 9, "Precision": 1 / 4, "Recall": 1 / 5, "TP": 1, "FP": 3, "FN": 4}
    assert run(capsys, *argv, LIST) == pytest.approx(expected)
    assert run(capsys, *argv, "list/train_gt.txt")["FP"] == 2
    (pred / "driver_b/1.MP4/00000.lines.txt").unlink()
    assert "driver_b/1.MP4/00000.lines.txt: found no regular file" in fails(capsys, *argv, LIST)


def test_a_model_on_culane(folder, tmp_path, capsys, monkeypatch):
    from evaluation import __main__ as evaluation
    from evaluation import model

    def predict(network, settings, srcdir, labels):
        rows = labels[0]["h_samples"]
        lanes = [[[x if 100 <= y <= 500 else -2 for y in rows] for x in xs] for xs in ([1200, 100], [], [900, -2])]
        return [{"lanes": found} for found in lanes]

    monkeypatch.setattr(evaluation, "load", lambda args: (None, None))
    monkeypatch.setattr(model, "predict_lanes", predict)
    argv = ["--modeldir", "m", "--srcdir", folder, "--labels", LIST, "--out", tmp_path / "out"]
    expected = {"F1": 4 / 8, "Precision": 2 / 3, "Recall": 2 / 5, "TP": 2, "FP": 1, "FN": 3}
    assert run(capsys, *argv) == pytest.approx(expected)
    assert run(capsys, "--culane", tmp_path / "out", folder, "--list", LIST) == pytest.approx(expected)
    assert "--out: found something in" in fails(capsys, *argv)
    assert "--images: found with --modeldir on CULane" in fails(capsys, *argv, "--images", "x")
