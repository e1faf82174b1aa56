"""The evaluation command: on submission files, on a model, its images and its errors."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from test_tusimple_score import label, prediction, score, vertical

from evaluation import __main__ as evaluation
from evaluation import model
from lanes import tusimple
from lanes.curves import fit_lanes
from lanes.tusimple import tusimple_line
from pipeline.segmentation import Settings


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
    # c took 210 ms; a and b find one of two lanes, b at 19 of 20 rows, and the other, without a point, at the 20th
    np.testing.assert_allclose([entry["value"] for entry in out], [(0.5 + 0.5) / 3, 0, (0.5 + 0.5 + 1) / 3])

    evaluation.main(["--pred", pred, "--gt", truth, "--skip-empty-lanes", "--verbose"])
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.split("\n")[1:4]] == ["c", "b", "a"]  # c took 210 ms and scores nothing
    assert "Accuracy   0.6500" in out and "1 of 3 images took over 200 ms: scored 0, 0, 1" in out
    assert "3 labeled lanes have no point: left out" in out


def test_images_without_a_lane_are_counted_apart(tmp_path, capsys):
    """Of four images two have no lane, and the prediction draws one on one of these and a lane without a point."""
    labels = [label(vertical(600), name="a"), label(name="b"), label(vertical(600), name="c"), label(name="d")]
    lists = [prediction(vertical(600), name="a"), prediction(vertical(9), name="b")]
    lists += [prediction(name="c"), prediction([-2] * 20, name="d")]
    argv = ["--pred", write_lines(tmp_path / "p.json", lists), "--gt", write_lines(tmp_path / "gt.json", labels)]
    evaluation.main(argv)
    first, *_, last = capsys.readouterr().out.split("a line on 1 of 2 images without a lane")
    assert "4 images" in first and "Accuracy   0.2500" in first
    assert "2 images" in last and "Accuracy   0.5000" in last and "FN         0.5000" in last


def test_command_errors_are_one_line(tmp_path, capsys):
    truth = write_lines(tmp_path / "gt.json", [label(vertical(600))])
    model = ("--modeldir", "m", "--srcdir", "s")
    for words, argv in (
        (f"{truth}:1: found no run_time", ("--pred", truth, "--gt", truth)),
        ("expected one", ("--pred", truth, "--modeldir", "m")),
        ("expected one", ("--pred", truth, *model, "--instances")),
        ("--gt: found nothing", ("--pred", truth)),
        ("--srcdir: found nothing", ("--pred", truth, "--gt", truth, "--images", tmp_path / "new")),
        ("--srcdir: found nothing", ("--modeldir", "m", "--instances")),
        ("--images: found files", ("--pred", truth, "--gt", truth, "--srcdir", tmp_path, "--images", tmp_path)),
        ("--out: found no folder", (*model, "--labels", "l", "--out", tmp_path / "none" / "p.json")),
        ("--labels: found with", (*model, "--instances", "--labels", "a.json")),
        ("found 0 folders", ("--instances",)),
        ("found 1 folders", ("--instances", tmp_path)),
    ):
        assert words in fails(capsys, *argv), argv


def drawn(entry, size=(256, 512)):
    """The label map that a perfect network would give for a label."""
    canvas = np.zeros((720, 1280), np.uint8)
    for index, lane in enumerate(entry["lanes"]):
        points = [(x, y) for x, y in zip(lane, entry["h_samples"], strict=True) if x >= 0]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, 50 * index + 20, 7)
    return cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int32)


@pytest.fixture
def tusimple_folder(tmp_path):
    """Three images, lines on gray, and their labels."""
    rows = range(240, 720, 10)
    entries = []
    for number in range(3):
        slopes = (-1.2 - 0.1 * number, 0.1, 1.3)
        xs = [[round(640 + slope * (y - 230)) for y in rows] for slope in slopes]
        xs = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in xs]
        entries.append(label(*xs, name=f"clips/{number}/20.jpg", rows=rows))
        (tmp_path / f"clips/{number}").mkdir(parents=True)
        image = np.where(cv2.resize(drawn(entries[-1]).astype(np.uint8), (1280, 720)) > 0, 250, 90).astype(np.uint8)
        cv2.imwrite(str(tmp_path / entries[-1]["raw_file"]), np.dstack([image] * 3))
    write_lines(tmp_path / "label_data.json", entries)
    return tmp_path, entries


def test_model_command_writes_submission_and_images(tusimple_folder, tmp_path, capsys, monkeypatch):
    folder, entries = tusimple_folder
    calls, clock = [], [0.0]
    monkeypatch.setattr(model, "time", SimpleNamespace(perf_counter=lambda: clock[-1]))

    def segment(network, image, settings):
        """Right answers, but the second image's first line is lost; the third image takes 0.25 s, the others 0.01."""
        number = max(len(calls) - 1, 0)  # the first image comes twice, once for tracing
        calls.append(settings)
        label_map = drawn(entries[number])
        if number == 1:
            label_map[label_map == 20] = 0
        clock.append(clock[-1] + (0.25 if number == 2 else 0.01))
        return {"semantic": np.where(label_map, np.log(3), -9.0)[:, :, None]}, label_map  # lines are ones by 3 to 1

    monkeypatch.setattr(evaluation, "load", lambda args: (None, Settings(args.bandwidth)))
    monkeypatch.setattr(model, "segment_outputs", segment)
    out, images = tmp_path / "pred.json", tmp_path / "images"
    argv = ["--modeldir", "m", "--srcdir", str(folder), "--labels", "label_data.json", "--bandwidth", "0.7"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_lines(tmp_path / "elsewhere/label_data.json", entries[:1])  # of another folder: that in --srcdir counts
    evaluation.main([*argv, "--out", str(out), "--images", str(images), "--json"])
    assert calls == [Settings(0.7)] * 4
    captured = capsys.readouterr()
    values = {entry["name"]: entry["value"] for entry in json.loads(captured.out)}
    assert values["Accuracy"] > 0.87 and values["FP"] == 0 and values["FN"] == pytest.approx(1 / 9)
    assert "1 of 3 images took over 200 ms: scored like the others" in captured.err
    assert "score AUC - (8 right, 0 wrong lanes)" in captured.err and "ends of 8 found lanes" in captured.err
    submission = evaluation.read_labels(out, evaluation.PREDICTION_KEYS)
    assert [entry["raw_file"] for entry in submission] == [entry["raw_file"] for entry in entries]
    assert [len(entry["lanes"]) for entry in submission] == [3, 2, 3]
    assert [entry["run_time"] for entry in submission] == [10, 10, 250]
    scores = [score for entry in submission for score in entry["scores"]]
    assert len(scores) == 8 and 0.7 < np.mean(scores) <= 0.75
    names = sorted(path.name for path in images.iterdir())
    assert len(names) == 3 and names[0].startswith("0000_0.") and names[0].endswith("_clips-1-20.jpg")
    worst = cv2.imread(str(images / names[0])).astype(int)
    lost, found = ((entries[1]["lanes"][index][20], 440) for index in (0, 1))
    assert worst[lost[1], lost[0], 0] > worst[lost[1], lost[0], 2] + 100  # only the label, blue (channels are BGR)
    assert worst[found[1], found[0], 2] > worst[found[1], found[0], 0] + 50  # prediction, orange, over it

    (folder / entries[0]["raw_file"]).rename(folder / "moved.jpg")
    assert f"{entries[0]['raw_file']}: no such file" in fails(capsys, *argv, "--out", out)
    assert evaluation.read_labels(out, evaluation.PREDICTION_KEYS) == submission
    (folder / "moved.jpg").rename(folder / entries[0]["raw_file"])
    calls.clear()
    evaluation.main([*argv, "--strict-time"])
    assert "1 of 3 images took over 200 ms: scored 0, 0, 1" in capsys.readouterr().out


def test_model_command_with_a_real_network(tusimple_folder, tmp_path, capsys):
    import enet
    import utils

    folder, _ = tusimple_folder
    network = {"input_shape": (64, 128, 3), "stage_two_repeat": 1}
    utils.save_model(tmp_path / "model", enet.build_enet(**network), {"network": network})
    argv = ["--modeldir", tmp_path / "model", "--srcdir", folder, "--labels", folder / "label_data.json"]
    evaluation.main([*map(str, argv), "--out", str(tmp_path / "pred.json")])
    assert "3 images" in capsys.readouterr().out
    first = (tmp_path / "pred.json").read_text()
    assert len(first.splitlines()) == 3
    assert "nowhere" in fails(capsys, "--modeldir", tmp_path / "nowhere", *argv[2:])
    assert (tmp_path / "pred.json").read_text() == first


def test_score_auc_and_ends_by_hand():
    """Two images, three true lanes: two found, each short of rows, one 30 px beside; and a lane too many."""
    rows = list(range(160, 360, 10))
    long = [-2, *vertical(600)[1:]]  # from row 170 on
    short = [-2] * 3 + [300] * 16 + [-2]  # rows 190 to 340
    truth = [label(vertical(600), vertical(300), name="a", rows=rows), label(vertical(500), name="b", rows=rows)]
    found = [prediction(long, vertical(900), short, name="a"), prediction(vertical(530), name="b")]
    right, ends = model.match_lanes(found, truth)
    assert right == [True, False, False, False]  # the third is right at 16 of 20 rows, 80 %
    found[0]["lanes"][2] = [-2] * 3 + [300] * 17
    right, ends = model.match_lanes(found, truth)
    assert right == [True, False, True, False]
    assert ends.tolist() == [[[170, 350], [160, 350]], [[190, 350], [160, 350]]]
    # of the four pairs of a right and a wrong score three are in order
    assert model.describe_scores([0.9, 0.8, 0.75, 0.2], right) == "score AUC 0.75 (2 right, 2 wrong lanes)"
    assert model.describe_scores([0.9], [True]) == "score AUC - (1 right, 0 wrong lanes)"
    line = model.describe_ends(np.append(ends, [[[160, 380], [160, 350]]], axis=0))
    # tops 10, 30 and 0 rows too low, the last more than 20; one bottom 30 too low
    assert line.endswith("tops 10.0, 26.0, 33 %, 0 %; bottoms 0.0, 24.0, 0 %, 33 %")
    assert model.match_lanes([prediction(name="a")], [label(name="a")])[0] == []
    assert "of 0 found lanes" in model.describe_ends(np.zeros((0, 2, 2)))


def test_worst_image_first():
    scores = np.array([[0.9, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.9, 0, 0.25]])
    assert tusimple.worst_first(scores).tolist() == [2, 1, 3, 0]


def test_lanes_of_a_drawn_label_score_like_the_label():
    rows = range(160, 720, 10)
    entry = label(
        [640 - 2 * (y - 150) if y < 470 else -2 for y in rows], [640 + (y - 150) // 2 for y in rows], rows=rows
    )
    found = fit_lanes(drawn(entry))
    line = tusimple_line(entry["raw_file"], found, entry["h_samples"], 12.3456)
    assert line["run_time"] == 12.346 and json.loads(json.dumps(line)) == line
    accuracy, fp, fn = score(line, entry)
    assert accuracy > 0.98 and (fp, fn) == (0, 0)
