"""Instance metrics against counts worked out by hand; the `--instances` command; bootstrap intervals."""

import json

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails

from evaluation import __main__ as evaluation
from evaluation import instances, model
from pipeline.segmentation import Settings


def test_instance_metrics_by_hand():
    truth = np.zeros((4, 10), int)
    truth[:, :4], truth[:, 4:6] = 7, 3  # 16 and 8 pixels
    found = np.zeros((4, 10), int)
    found[:, :2], found[:, 2:4], found[:, 5:7] = 1, 2, 9  # two halves of the first, 8 + 8; the second shifted by half
    np.testing.assert_array_equal(instances.overlaps(found, truth)[0], [[0, 8], [0, 8], [4, 0]])
    np.testing.assert_allclose(instances.iou_matrix(found, truth), [[0, 1 / 2], [0, 1 / 2], [1 / 3, 0]])
    # Dice 2/3, 2/3, 1/2 from the prediction's side; 1/2, 2/3 from the truth's
    assert instances.symmetric_best_dice(found, truth) == pytest.approx(min(11 / 18, 7 / 12))
    assert instances.symmetric_best_dice(truth, found) == pytest.approx(7 / 12)
    assert instances.count_difference(found, truth) == 1
    # at 0.5 one half matches: 1 / (3 + 2 - 1); above none does
    np.testing.assert_allclose(instances.average_precision(found, truth), [1 / 4] + [0] * 9)
    np.testing.assert_allclose(instances.panoptic_parts(found, truth), [0, 0, 3, 2])

    found[:, :4], found[:, 4:], found[0, 4:6] = 4, 0, 5  # the first right, of the second a quarter
    found[1:3, 4:6] = 5  # now three quarters
    np.testing.assert_allclose(
        instances.average_precision(found, truth), [1] * 6 + [1 / 3] * 4
    )  # IoU 0.75 counts at 0.75
    parts = instances.panoptic_parts(found, truth)
    np.testing.assert_allclose(parts, [1.75, 2, 0, 0])
    assert instances.panoptic_quality(parts) == pytest.approx(0.875)
    score = instances.instance_score([(found, truth), (np.zeros((2, 2), int), np.ones((2, 2), int))])
    expected = [(1 + 6 / 7) / 4, 0.5, 22 / 23 / 2, 0.5, 4.4 / 12, 1.75 / 2.5]  # 22 of 24 pixels found
    np.testing.assert_allclose(list(score.values()), expected)
    assert list(score) == ["SBD", "|DiC|", "foreground Dice", "AP50", "AP", "PQ"]


def test_instance_metrics_of_empty_images():
    nothing, one = np.zeros((3, 3), int), np.ones((3, 3), int)
    for pair, perfect in (((nothing, nothing), 1), ((nothing, one), 0), ((one, nothing), 0), ((one, 5 * one), 1)):
        assert instances.symmetric_best_dice(*pair) == perfect
        assert instances.foreground_dice(*pair) == perfect
        assert instances.count_difference(*pair) == 1 - perfect
        np.testing.assert_array_equal(instances.average_precision(*pair), perfect)
        assert instances.panoptic_quality(instances.panoptic_parts(*pair)) == perfect


def test_matching_takes_the_most_pairs():
    truth, found = np.repeat([1, 2, 3], 10)[None], np.repeat([5, 6, 7], [11, 10, 9])[None]
    assert instances.average_precision(found, truth, [0.5, 0.89, 0.95]) == pytest.approx([1, 2 / 4, 0])


def test_instances_command(tmp_path, capsys):
    folders = [tmp_path / "found", tmp_path / "true"]
    for folder in folders:
        folder.mkdir()
        assert "found no file" in fails(capsys, "--instances", *folders)
    truth = np.zeros((8, 8), np.uint16)
    truth[:4], truth[5:] = 300, 2
    found = np.where(truth == 2, 0, truth)
    cv2.imwrite(str(folders[0] / "0.png"), found)
    cv2.imwrite(str(folders[1] / "1.png"), truth)
    assert "in one folder only" in fails(capsys, "--instances", *folders)
    (folders[1] / "1.png").rename(folders[1] / "0.PNG")  # as Windows' tools write it
    (folders[1] / "._0.png").write_bytes(b"a Mac's")
    evaluation.main(["--instances", *map(str, folders), "--json"])
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    values = [entry["value"] for entry in entries.values()]
    np.testing.assert_allclose(values, [0.5, 1, 64 / 88, 0.5, 0.5, 1 / 1.5])  # 32 of 56 pixels
    cv2.imwrite(str(folders[0] / "1.PNG"), 0 * found)  # the second image is all wrong
    cv2.imwrite(str(folders[1] / "1.PNG"), truth)
    evaluation.main(["--instances", *map(str, folders), "--json"])
    assert json.loads(capsys.readouterr().out)[0] == {"name": "SBD", "value": 0.25, "order": "desc"}
    assert entries["|DiC|"]["order"] == "asc" and entries["PQ"]["order"] == "desc"
    cv2.imwrite(str(folders[1] / "0.PNG"), truth[:4])
    assert "expected (4, 8)" in fails(capsys, "--instances", *folders)


def test_results_of_inference_beside_labels(tmp_path, capsys):
    """NAME_labels.png belongs to the label NAME, whatever else was written there; one that is missing is named."""
    truth = np.zeros((8, 12), np.uint8)
    truth[:4, :4] = 1
    for kind in ("labels", "results"):
        (tmp_path / kind).mkdir()
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), truth)
        for kind, image in (("cluster", np.dstack([truth] * 3)), ("labels", 7 * truth * (number == 0))):
            cv2.imwrite(str(tmp_path / f"results/{number}_{kind}.png"), image)
    (tmp_path / "results/instances.csv").write_text("")
    argv = ["--instances", str(tmp_path / "results"), str(tmp_path / "labels")]
    evaluation.main([*argv, "--json"])
    assert json.loads(capsys.readouterr().out)[0] == {"name": "SBD", "value": 0.5, "order": "desc"}
    (tmp_path / "results/1_labels.png").unlink()
    assert "found 1.png in one folder only" in fails(capsys, *argv)


def test_a_value_to_ignore_counts_nowhere(tmp_path, capsys):
    """Half of the first prediction lies where nobody knows, as does all of another one."""
    folders = [tmp_path / "found", tmp_path / "true"]
    truth, found = np.zeros((2, 8, 8), np.uint8)
    truth[:4, :4], truth[:, 6:] = 9, 255
    found[:4, :4], found[:4, 6:], found[5:, 6:] = 1, 1, 2
    for folder, label in zip(folders, (found, truth), strict=True):
        folder.mkdir()
        cv2.imwrite(str(folder / "0.png"), label)
    for more, expected in (["--ignore", "255"], [1, 0, 1, 1, 1, 1]), ([], None):
        evaluation.main(["--instances", *map(str, folders), "--json", *more])
        values = [entry["value"] for entry in json.loads(capsys.readouterr().out)]
        assert values == expected if expected else values[0] < 0.9


def test_own_instances_in_one_command(tmp_path, capsys, monkeypatch):
    """A model that sees all instances but number 300, at half the size, of two images and one without any."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    truth = np.zeros((8, 12), np.uint16)
    truth[:4, :4], truth[4:, 6:] = 300, 2
    for number, label in enumerate((truth, 0 * truth)):
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), label)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), np.dstack([np.uint8(label == 2)] * 3))
    settings = []
    monkeypatch.setattr(evaluation, "load", lambda args: (None, Settings(args.bandwidth)))

    def see(network, image, given):
        settings.append(given)
        return {}, image[::2, ::2, 0].astype(np.int32)

    monkeypatch.setattr(model, "segment_outputs", see)
    flags = ["--modeldir", "m", "--srcdir", str(tmp_path), "--instances", "--bandwidth", "0.7"]
    evaluation.main([*flags, "--json"])
    values = {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}
    # SBD 0.5 and 1, PQ over both
    assert values == pytest.approx(
        {"SBD": 0.75, "|DiC|": 0.5, "foreground Dice": (48 / 64 + 1) / 2, "AP50": 0.75, "AP": 0.75, "PQ": 1 / 1.5}
    )
    assert settings == [Settings(0.7)] * 2
    (tmp_path / "labels/1.png").unlink()
    assert "1.png: no file of that stem" in fails(capsys, *flags)


def test_bootstrap_intervals_agree_with_the_normal_ones():
    values = np.random.default_rng(3).normal([0.9, 0.1], [0.1, 0.02], (400, 2))
    intervals = instances.bootstrap_intervals(values)
    half = 1.96 * values.std(axis=0) / 20
    expected = np.stack([values.mean(axis=0) - half, values.mean(axis=0) + half], axis=1)
    np.testing.assert_allclose(intervals, expected, atol=0.15 * half.max())
    np.testing.assert_array_equal(intervals, instances.bootstrap_intervals(values))
    np.testing.assert_allclose(instances.bootstrap_intervals(np.ones((5, 3))), 1)
