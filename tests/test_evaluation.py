"""The TuSimple rules one by one by hand and against a scalar copy of them, and the commands."""

import json
import math
import time

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from sklearn.linear_model import LinearRegression

import evaluation
import lanes

ROWS = list(range(160, 360, 10))  # 20 rows: 17 of them are exactly the 85 % of a found lane


def label(*xs, name="clips/a/20.jpg", rows=ROWS):
    return {"raw_file": name, "lanes": [list(x) for x in xs], "h_samples": list(rows)}


def prediction(*xs, name="clips/a/20.jpg", run_time=10):
    return {"raw_file": name, "lanes": [list(x) for x in xs], "run_time": run_time}


def vertical(x, absent=0):
    """A lane straight down at x, with its first `absent` rows missing."""
    return [-2] * absent + [x] * (len(ROWS) - absent)


def score(predicted, labeled):
    return tuple(evaluation.tusimple_score([predicted], [labeled]).values())


def reference_score(predictions, ground_truth, time_limit=200):
    """The rules of issue and benchmark, one point at a time, angles by scikit-learn."""
    truth = {entry["raw_file"]: entry for entry in ground_truth}
    totals = np.zeros(3)
    for entry in predictions:
        predicted, rows = entry["lanes"], truth[entry["raw_file"]]["h_samples"]
        labeled = truth[entry["raw_file"]]["lanes"]
        if entry["run_time"] > time_limit or len(predicted) > len(labeled) + 2:
            totals += 0, 0, 1
            continue
        shares = []
        for lane in labeled:
            points = [(y, x) for x, y in zip(lane, rows, strict=True) if x >= 0]
            angle = 0.0
            if len(points) > 1:
                model = LinearRegression().fit([[y] for y, _ in points], [x for _, x in points])
                angle = math.atan(model.coef_[0])
            best = 0.0
            for other in predicted:
                right = 0
                for x, true_x in zip(other, lane, strict=True):
                    x, true_x = (value if value >= 0 else -100 for value in (x, true_x))
                    right += abs(x - true_x) < 20 / math.cos(angle)
                best = max(best, right / len(lane))
            shares.append(best)
        found = sum(share >= 0.85 for share in shares)
        missed = len(labeled) - found
        if len(labeled) > 4:
            shares.remove(min(shares))
            missed = max(missed - 1, 0)
        totals[0] += sum(shares) / max(min(4, len(labeled)), 1)
        totals[1] += (len(predicted) - found) / len(predicted) if predicted else 0
        totals[2] += missed / max(min(len(labeled), 4), 1)
    return totals / len(truth)


def test_perfect_prediction_scores_one():
    rng = np.random.default_rng(0)
    for count in range(1, 6):
        xs = rng.integers(0, 1280, (count, len(ROWS)))
        xs[rng.random(xs.shape) < 0.3] = -2
        assert score(prediction(*xs.tolist()), label(*xs.tolist())) == (1, 0, 0)


def test_a_point_is_right_below_20_pixels_not_at_20():
    assert score(prediction(vertical(619)), label(vertical(600))) == (1, 0, 0)
    assert score(prediction(vertical(620)), label(vertical(600))) == (0, 1, 1)


def test_tolerance_grows_with_the_angle_of_the_valid_points():
    slanted = [300 + (y - 160) for y in ROWS]  # 45 degrees: 20 / cos = 28.28
    slanted[:4] = [-2] * 4  # absent points must not turn the line
    assert score(prediction([x + 28 if x >= 0 else x for x in slanted]), label(slanted)) == (1, 0, 0)
    assert score(prediction([x + 29 if x >= 0 else x for x in slanted]), label(slanted))[0] == pytest.approx(4 / 20)


def test_absences_agree_and_an_absence_is_x_minus_100():
    assert score(prediction(vertical(600, absent=2)), label(vertical(600, absent=2))) == (1, 0, 0)
    assert score(prediction(vertical(600, absent=2)), label(vertical(600)))[0] == pytest.approx(18 / 20)
    flat = [1 + 6 * (y - 160) for y in ROWS]  # tolerance 20 * sqrt(37) = 121.7 reaches from -100 to x = 1
    assert score(prediction([-2, *flat[1:]]), label(flat)) == (1, 0, 0)
    assert score(prediction([-7.5, *flat[1:]]), label(flat)) == (1, 0, 0)  # any negative x is an absence


def test_fewer_than_two_points_have_angle_zero():
    single = [-2] * 19 + [600]
    assert score(prediction([-2] * 19 + [619]), label(single)) == (1, 0, 0)
    assert score(prediction([-2] * 19 + [621]), label(single))[0] == pytest.approx(19 / 20)


def test_label_without_points_counts_as_a_lane():
    empty = [-2] * 20
    assert score(prediction(vertical(600)), label(vertical(600), empty)) == (0.5, 0, 0.5)
    assert score(prediction(vertical(600), empty), label(vertical(600), empty)) == (1, 0, 0)


def test_lane_is_found_at_85_percent():
    assert score(prediction(vertical(600, absent=3)), label(vertical(600))) == (pytest.approx(0.85), 0, 0)
    assert score(prediction(vertical(600, absent=4)), label(vertical(600))) == (pytest.approx(0.80), 1, 1)


def test_best_prediction_counts_for_each_lane_so_fp_can_be_negative():
    near = label(vertical(600), vertical(610))
    assert score(prediction(vertical(605)), near) == (1, -1, 0)


def test_no_prediction_and_no_lane():
    assert score(prediction(), label(vertical(600))) == (0, 0, 1)
    assert score(prediction(), label()) == (0, 0, 0)
    assert score(prediction(vertical(600)), label()) == (0, 1, 0)


def test_of_five_lanes_the_worst_and_one_miss_are_forgiven():
    five = [vertical(x) for x in (100, 300, 500, 700, 900)]
    assert score(prediction(*five[:4]), label(*five)) == (1, 0, 0)
    assert score(prediction(*five[:3]), label(*five)) == (0.75, 0, 0.25)
    assert score(prediction(*five[:3]), label(*five[:4])) == (0.75, 0, 0.25)
    assert score(prediction(*five), label(*five)) == (1, 0, 0)
    six = [*five, vertical(1100)]  # still only one is dropped, and the rest divided by 4
    assert score(prediction(*six), label(*six)) == (1.25, 0, 0)


def test_three_lanes_too_many_or_too_slow_score_nothing():
    lane = vertical(600)
    assert score(prediction(lane, lane, lane), label(lane)) == (1, pytest.approx(2 / 3), 0)
    assert score(prediction(lane, lane, lane, lane), label(lane)) == (0, 0, 1)
    assert score(prediction(lane, run_time=200), label(lane)) == (1, 0, 0)
    assert score(prediction(lane, run_time=200.5), label(lane)) == (0, 0, 1)
    result = evaluation.tusimple_score([prediction(lane, run_time=999)], [label(lane)], time_limit=math.inf)
    assert result == {"Accuracy": 1, "FP": 0, "FN": 0}


def test_means_over_pictures_in_any_order():
    truth = [label(vertical(600), name="a"), label(vertical(600), name="b", rows=range(500, 700, 10))]
    predictions = [prediction(vertical(600, absent=5), name="b"), prediction(vertical(600), name="a")]
    assert evaluation.tusimple_score(predictions, truth) == {"Accuracy": 0.875, "FP": 0.5, "FN": 0.5}


def random_picture(rng, name):
    rows = range(240 if rng.random() < 0.5 else 160, 720, 10)
    y = np.arange(len(rows))
    truth = [rng.uniform(0, 1280) + rng.uniform(-50, 50) * y for _ in range(rng.integers(0, 7))]
    guesses = [x + rng.normal(0, rng.choice([3, 15, 60])) + rng.normal(0, 8, len(y)) for x in truth]
    guesses = [x for x in guesses if rng.random() < 0.9] + [rng.uniform(0, 1280) + 0 * y for _ in range(rng.poisson(1))]
    both = []
    for lanes_x in (truth, guesses):
        cut = [np.where((x < 0) | (x > 1279) | (y < rng.integers(0, 10)), -2, np.rint(x)) for x in lanes_x]
        both.append([x.astype(int).tolist() for x in cut])
    run_time = rng.choice([10, 199.9, 250], p=[0.8, 0.1, 0.1])
    return label(*both[0], name=name, rows=rows), prediction(*both[1], name=name, run_time=float(run_time))


def test_random_pictures_score_as_the_scalar_rules():
    rng = np.random.default_rng(1)
    truth, predictions = zip(*(random_picture(rng, str(number)) for number in range(300)), strict=True)
    result = evaluation.tusimple_score(predictions, truth)
    expected = reference_score(predictions, truth)
    assert 0.1 < expected[0] < 0.9  # the pictures are neither all right nor all wrong
    np.testing.assert_allclose(list(result.values()), expected, atol=1e-12)


def test_benchmark_size_in_three_seconds(shared_data):
    truth = []
    for path in sorted((shared_data / "tusimple_labels").glob("label_data_*.json")):
        truth += evaluation.read_tusimple(path)
    rng = np.random.default_rng(2)
    truth = [truth[index] for index in rng.permutation(len(truth))[:2782]]
    perfect = [{**entry, "run_time": 10} for entry in truth]
    start = time.process_time()
    result = evaluation.tusimple_score(perfect, truth)
    assert time.process_time() - start < 3
    assert result == {"Accuracy": 1, "FP": 0, "FN": 0}
    shaken = [
        {**entry, "lanes": [[x + int(rng.normal(0, 25)) if x >= 0 else x for x in lane] for lane in entry["lanes"][1:]]}
        for entry in perfect[:200]
    ]
    result = evaluation.tusimple_score(shaken, truth[:200])
    np.testing.assert_allclose(list(result.values()), reference_score(shaken, truth[:200]), atol=1e-12)


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([prediction(vertical(1), name="a")], ["truth", "predictions: found 1 pictures", "ground truth:2"]),
        ([prediction(name="a"), prediction(name="c")], ["predictions:2", "c which is not in ground truth"]),
        ([prediction(name="a"), prediction(name="a")], ["predictions:2", "a again"]),
        ([prediction(name="a"), {"raw_file": "b", "lanes": []}], ["predictions:2", "no run_time"]),
        ([prediction([5] * 19, name="a"), prediction(name="b")], ["predictions:1", "a lane of 19 points", "(20)"]),
        ([prediction(["x"] * 20, name="a"), prediction(name="b")], ["predictions:1", "lists of numbers"]),
        ([[], prediction(name="b")], ["predictions:1", "raw_file"]),
    ],
)
def test_unusable_predictions_are_named(predictions, words):
    truth = [label(vertical(600), name="a"), label(vertical(600), name="b")]
    with pytest.raises(evaluation.EvaluationError) as error:
        evaluation.tusimple_score(predictions, truth)
    assert all(word in str(error.value) for word in words), error.value


def test_unusable_labels_are_named():
    lane = vertical(600)
    for truth, words in (
        ([label(lane, name="a"), label(lane, name="a")], "ground truth:2: found a again"),
        ([label(lane, name="a"), label(lane[1:], name="b")], "ground truth:2: found a lane of 19 points"),
        ([label(name="a", rows=[])], "ground truth:1: found no h_samples"),
        ([{"raw_file": "a", "lanes": []}], "ground truth:1: found no h_samples"),
        ([], "found 0 pictures"),
    ):
        with pytest.raises(evaluation.EvaluationError, match=words):
            evaluation.tusimple_score([prediction(lane, name=entry["raw_file"]) for entry in truth[:1]], truth)


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_file_command(tmp_path, capsys):
    names = ("a", "b", "c")
    truth = write_lines(tmp_path / "gt.json", [label(vertical(600), [-2] * 20, name=name) for name in names])
    lists = [prediction(vertical(600, n), name=name, run_time=150 + 30 * n) for n, name in enumerate(names)]
    pred = write_lines(tmp_path / "pred.json", lists)
    evaluation.main(["--pred", pred, "--gt", truth, "--json"])
    out = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["order"]) for entry in out] == [("Accuracy", "desc"), ("FP", "asc"), ("FN", "asc")]
    expected = reference_score(lists, [label(vertical(600), [-2] * 20, name=name) for name in names])
    np.testing.assert_allclose([entry["value"] for entry in out], expected)

    evaluation.main(["--pred", pred, "--gt", truth, "--skip-empty-lanes", "--verbose"])
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.split("\n")[1:4]] == ["c", "b", "a"]  # c took 210 ms and scores nothing
    assert "Accuracy   0.6500" in out and "1 of 3 pictures took over 200 ms: scored 0, 0, 1" in out
    assert "3 labeled lanes have no point: left out" in out


def test_command_errors_are_one_line(tmp_path, capsys):
    truth = write_lines(tmp_path / "gt.json", [label(vertical(600))])
    assert "nowhere.json: No such file" in fails(capsys, "--pred", tmp_path / "nowhere.json", "--gt", truth)
    (tmp_path / "bad.json").write_text('{"raw_file": "clips/a/20.jpg", "lanes": [], "run_time": 1}\nno json\n')
    assert "bad.json:2: found no JSON" in fails(capsys, "--pred", tmp_path / "bad.json", "--gt", truth)
    assert f"{truth}:1: found no run_time" in fails(capsys, "--pred", truth, "--gt", truth)
    assert "expected one" in fails(capsys, "--pred", truth, "--modeldir", "m")
    assert "--gt: found nothing" in fails(capsys, "--pred", truth)
    assert "--srcdir: found nothing" in fails(capsys, "--pred", truth, "--gt", truth, "--pictures", tmp_path / "new")
    pictures = ("--srcdir", tmp_path, "--pictures", tmp_path)
    assert "--pictures: found files" in fails(capsys, "--pred", truth, "--gt", truth, *pictures)
    assert "--out: found no folder" in fails(
        capsys, "--modeldir", "m", "--srcdir", "s", "--labels", "l", "--out", tmp_path / "none" / "p.json"
    )


def drawn(entry, size=(256, 512)):
    """The label map that a perfect network would give for a label."""
    canvas = np.zeros((720, 1280), np.uint8)
    for index, lane in enumerate(entry["lanes"]):
        points = [(x, y) for x, y in zip(lane, entry["h_samples"], strict=True) if x >= 0]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, 50 * index + 20, 7)
    return cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int32)


@pytest.fixture
def tusimple_folder(tmp_path):
    """Three pictures, lines on gray, and their labels."""
    rows = range(240, 720, 10)
    entries = []
    for number in range(3):
        slopes = (-1.2 - 0.1 * number, 0.1, 1.3)
        xs = [[round(640 + slope * (y - 230)) for y in rows] for slope in slopes]
        xs = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in xs]
        entries.append(label(*xs, name=f"clips/{number}/20.jpg", rows=rows))
        (tmp_path / f"clips/{number}").mkdir(parents=True)
        picture = np.where(cv2.resize(drawn(entries[-1]).astype(np.uint8), (1280, 720)) > 0, 250, 90).astype(np.uint8)
        cv2.imwrite(str(tmp_path / entries[-1]["raw_file"]), np.dstack([picture] * 3))
    write_lines(tmp_path / "label_data.json", entries)
    return tmp_path, entries


def test_model_command_writes_submission_and_pictures(tusimple_folder, tmp_path, capsys, monkeypatch):
    import inference
    import utils

    folder, entries = tusimple_folder
    calls = []

    def segment(model, picture, **settings):
        """Right answers, but the second picture's first line is lost and the third picture takes 0.25 s."""
        number = max(len(calls) - 1, 0)  # the first picture comes twice, once for tracing
        calls.append(settings)
        label_map = drawn(entries[number])
        if number == 1:
            label_map[label_map == 20] = 0
        time.sleep(0.25 if number == 2 else 0)
        return label_map, {"network": 0.0, "cluster": 0.0}

    monkeypatch.setattr(utils, "load_model", lambda modeldir: None)
    monkeypatch.setattr(inference, "segment", segment)
    out, pictures = tmp_path / "pred.json", tmp_path / "pictures"
    argv = ["--modeldir", "m", "--srcdir", str(folder), "--labels", "label_data.json", "--bandwidth", "0.7"]
    evaluation.main([*argv, "--out", str(out), "--pictures", str(pictures), "--json"])
    assert calls == [{"bandwidth": 0.7}] * 4
    captured = capsys.readouterr()
    values = {entry["name"]: entry["value"] for entry in json.loads(captured.out)}
    assert values["Accuracy"] > 0.87 and values["FP"] == 0 and values["FN"] == pytest.approx(1 / 9)
    assert "1 of 3 pictures took over 200 ms: scored like the others" in captured.err
    submission = evaluation.read_tusimple(out, evaluation.PREDICTION_KEYS)
    assert [entry["raw_file"] for entry in submission] == [entry["raw_file"] for entry in entries]
    assert [len(entry["lanes"]) for entry in submission] == [3, 2, 3]
    assert submission[2]["run_time"] > 250 > 200 > submission[0]["run_time"] > 0
    names = sorted(path.name for path in pictures.iterdir())
    assert len(names) == 3 and names[0].startswith("0000_0.") and names[0].endswith("_clips-1-20.jpg")
    worst = cv2.imread(str(pictures / names[0])).astype(int)
    lost, found = ((entries[1]["lanes"][index][20], 440) for index in (0, 1))
    assert worst[lost[1], lost[0], 0] > worst[lost[1], lost[0], 2] + 100  # only the label, blue (channels are BGR)
    assert worst[found[1], found[0], 2] > worst[found[1], found[0], 0] + 50  # prediction, orange, over it

    (folder / entries[0]["raw_file"]).rename(folder / "moved.jpg")
    assert f"{entries[0]['raw_file']}: no such file" in fails(capsys, *argv, "--out", out)
    assert evaluation.read_tusimple(out, evaluation.PREDICTION_KEYS) == submission
    (folder / "moved.jpg").rename(folder / entries[0]["raw_file"])
    calls.clear()
    evaluation.main([*argv, "--strict-time"])
    assert "1 of 3 pictures took over 200 ms: scored 0, 0, 1" in capsys.readouterr().out


def test_model_command_with_a_real_network(tusimple_folder, tmp_path, capsys):
    import enet
    import utils

    folder, _ = tusimple_folder
    network = {"input_shape": (64, 128, 3), "embedding_dim": 3, "semantic": True}
    utils.save_model(tmp_path / "model", enet.build_enet(**network), {"network": network})
    argv = ["--modeldir", tmp_path / "model", "--srcdir", folder, "--labels", folder / "label_data.json"]
    evaluation.main([*map(str, argv), "--out", str(tmp_path / "pred.json")])
    assert "3 pictures" in capsys.readouterr().out
    first = (tmp_path / "pred.json").read_text()
    assert len(first.splitlines()) == 3
    assert "nowhere" in fails(capsys, "--modeldir", tmp_path / "nowhere", *argv[2:])
    assert (tmp_path / "pred.json").read_text() == first


def test_worst_picture_first():
    scores = np.array([[0.9, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.9, 0, 0.25]])
    assert evaluation.worst_first(scores).tolist() == [2, 1, 3, 0]


def test_lanes_of_a_drawn_label_score_like_the_label():
    rows = range(160, 720, 10)
    entry = label(
        [640 - 2 * (y - 150) if y < 470 else -2 for y in rows], [640 + (y - 150) // 2 for y in rows], rows=rows
    )
    found = lanes.fit_lanes(drawn(entry))
    line = lanes.tusimple_line(entry["raw_file"], found, entry["h_samples"], 12.3456)
    assert line["run_time"] == 12.346 and json.loads(json.dumps(line)) == line
    accuracy, fp, fn = score(line, entry)
    assert accuracy > 0.98 and (fp, fn) == (0, 0)
