"""The evaluation command: on submission files, on a model, its images and its errors."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from conftest import evaluation_scores as run
from test_tusimple_score import EMPTY, LANE, SIX, label, prediction, vertical

from evaluation import __main__ as evaluation
from evaluation import model
from lanes.tusimple import draw_label
from pipeline.segmentation import Settings


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_file_command(tmp_path, capsys):
    truth = write_lines(tmp_path / "gt.json", [label(LANE, EMPTY, name=name) for name in "abc"])
    lists = [prediction(vertical(600, n), name=name, run_time=150 + 30 * n) for n, name in enumerate("abc")]
    argv = ["--pred", write_lines(tmp_path / "pred.json", lists), "--gt", truth]
    evaluation.main([*argv, "--json"])
    out = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["order"]) for entry in out] == [("Accuracy", "desc"), ("FP", "asc"), ("FN", "asc")]
    # c took 210 ms; a and b find one of two lanes, b at 19 of 20 rows, and the other, without a point, at the 20th
    np.testing.assert_allclose([entry["value"] for entry in out], [(0.5 + 0.5) / 3, 0, (0.5 + 0.5 + 1) / 3])

    evaluation.main([*argv, "--skip-empty-lanes", "--verbose"])
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.split("\n")[1:4]] == ["c", "b", "a"]
    assert "Accuracy   0.6500" in out and "1 of 3 images took over 200 ms" in out


def test_images_without_a_lane_are_counted_apart(tmp_path, capsys):
    """The prediction draws a lane on one of two of them, and one without a point on the other."""
    labels = [label(LANE, name="a"), label(name="b"), label(LANE, name="c"), label(name="d")]
    lists = [prediction(LANE, name="a"), prediction(vertical(9), name="b")]
    lists += [prediction(name="c"), prediction(EMPTY, name="d")]
    evaluation.main(["--pred", write_lines(tmp_path / "p", lists), "--gt", write_lines(tmp_path / "gt", labels)])
    first, *_, last = capsys.readouterr().out.split("a line on 1 of 2 images without a lane")
    assert "4 images" in first and "Accuracy   0.2500" in first
    assert "2 images" in last and "Accuracy   0.5000" in last and "FN         0.5000" in last


def test_command_errors_are_one_line(tmp_path, capsys):
    truth = write_lines(tmp_path / "gt.json", [label(LANE)])
    score, run = ("--pred", truth, "--gt", truth), ("--modeldir", "m", "--srcdir", "s")
    for words, argv in (
        ("--pred: found nothing", ()),
        ("--pred: found with --modeldir", ("--pred", truth, "--modeldir", "m")),
        ("--gt: found nothing", ("--pred", truth)),
        ("--srcdir: found nothing", (*score, "--images", tmp_path / "new")),
        ("--images: found something", (*score, "--srcdir", tmp_path, "--images", tmp_path)),
        ("--out: found no folder", (*run, "--labels", "l", "--out", tmp_path / "none" / "p.json")),
        ("--labels: found with", (*run, "--instances", "--labels", "a.json")),
        ("found 1 folders", ("--instances", tmp_path)),
    ):
        assert words in fails(capsys, *argv), argv


def drawn(entry):
    """The label map that a perfect network would give for a label."""
    return cv2.resize(draw_label(entry), (512, 256), interpolation=cv2.INTER_NEAREST).astype(np.int32)


@pytest.fixture
def tusimple_folder(tmp_path):
    rows, entries = range(240, 720, 10), []
    for number in range(3):
        xs = [[round(640 + s * (y - 230)) for y in rows] for s in (-1.2 - 0.1 * number, 0.1, 1.3)]
        xs = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in xs]
        entries.append(label(*xs, name=f"clips/{number}/20.jpg", rows=rows))
        (tmp_path / f"clips/{number}").mkdir(parents=True)
        image = np.where(draw_label(entries[-1]) > 0, 250, 90).astype(np.uint8)
        cv2.imwrite(str(tmp_path / entries[-1]["raw_file"]), np.dstack([image] * 3))
    write_lines(tmp_path / "label_data.json", entries)
    return tmp_path, entries


def test_model_command_writes_submission_and_images(tusimple_folder, tmp_path, capsys, monkeypatch):
    folder, entries = tusimple_folder
    calls, clock = [], [0.0]
    monkeypatch.setattr(model, "time", SimpleNamespace(perf_counter=lambda: clock[-1]))

    def segment(network, image, settings):
        """The second image's first line is lost; the third image takes 0.25 s, the others 0.01."""
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
    argv = ["--modeldir", "m", "--srcdir", folder, "--labels", "label_data.json", "--bandwidth", "0.7"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_lines(tmp_path / "elsewhere/label_data.json", entries[:1])  # of another folder: that in --srcdir counts
    values = run(capsys, *argv, "--out", out, "--images", images)
    assert calls == [Settings(0.7)] * 4 and values["Accuracy"] > 0.87
    assert values["FP"] == 0 and values["FN"] == pytest.approx(1 / 9)
    submission = evaluation.read_labels(out, evaluation.PREDICTION_KEYS)
    found = [(entry["raw_file"], len(entry["lanes"]), entry["run_time"]) for entry in submission]
    assert found == [("clips/0/20.jpg", 3, 10), ("clips/1/20.jpg", 2, 10), ("clips/2/20.jpg", 3, 250)]
    scores = sum((entry["scores"] for entry in submission), [])
    assert len(scores) == 8 and 0.7 < np.mean(scores) <= 0.75
    names = sorted(path.name for path in images.iterdir())
    assert len(names) == 3 and names[0].startswith("0000_0.") and names[0].endswith("_clips-1-20.jpg")
    worst = cv2.imread(str(images / names[0])).astype(int)
    lost, found = ((entries[1]["lanes"][index][20], 440) for index in (0, 1))
    assert worst[lost[1], lost[0], 0] > worst[lost[1], lost[0], 2] + 100  # only the label, blue (channels are BGR)
    assert worst[found[1], found[0], 2] > worst[found[1], found[0], 0] + 50  # prediction, orange, over it

    calls.clear()
    evaluation.main([*map(str, argv), "--strict-time"])
    said = capsys.readouterr().out
    assert f"FN         {(0 + 1 / 3 + 1) / 3:.4f}" in said
    assert "score AUC - (8 right, 0 wrong lanes)" in said and "ends of 8 found lanes" in said


def test_score_auc_and_ends_by_hand():
    """Two images, three true lanes: two found, each short of rows, one 30 px beside; and a lane too many."""
    truth = {"a": label(LANE, vertical(300), name="a"), "b": label(vertical(500), name="b")}
    short = [-2] * 3 + [300] * 16 + [-2]  # right at 16 of 20 rows, 80 %
    found = [prediction(vertical(600, 1), vertical(900), short, name="a"), prediction(vertical(530), name="b")]
    assert model.match_lanes(found, truth)[0] == [True, False, False, False]
    found[0]["lanes"][2] = vertical(300, 3)
    right, ends = model.match_lanes(found, truth)
    assert right == [True, False, True, False] and ends == [[[170, 350], [160, 350]], [[190, 350], [160, 350]]]
    # of the four pairs of a right and a wrong score three are in order
    assert model.describe_scores([0.9, 0.8, 0.75, 0.2], right) == "score AUC 0.75 (2 right, 2 wrong lanes)"
    # tops 10, 30 and 0 rows too low, the last more than 20; one bottom 30 too low
    line = model.describe_ends([*ends, [[160, 380], [160, 350]]])
    assert line.endswith("tops 10.0, 26.0, 33 %, 0 %; bottoms 0.0, 24.0, 0 %, 33 %")
    assert model.match_lanes([prediction(name="a")], {"a": label(name="a")}) == ([], [])
    one = [prediction(EMPTY, name="a")], {"a": label([-2] * 19 + [600], name="a")}
    assert model.match_lanes(*one) == ([True], [])  # 19 of 20 rows agree that there is none
    assert "of 0 found lanes" in model.describe_ends([])


def test_images_are_ranked_worst_first(tmp_path):
    """By accuracy, then by FP + FN: one of two lanes, alone in b, beside a wrong one in c."""
    found, pred, true = {"a": [LANE, SIX[0]], "b": [LANE], "c": [LANE, SIX[1]]}, [], []
    for name, lanes in found.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
        pred.append(prediction(*lanes, name=f"{name}.png"))
        true.append(label(LANE, SIX[0], name=f"{name}.png"))
    argv = ["--pred", write_lines(tmp_path / "p", pred), "--gt", write_lines(tmp_path / "gt", true)]
    evaluation.main([*argv, "--srcdir", str(tmp_path), "--images", str(tmp_path / "images")])
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["0000_0.500_c.jpg", "0001_0.500_b.jpg", "0002_1.000_a.jpg"]
