"""Instance metrics by hand; the `--instances` command; bootstrap intervals."""

import json

import cv2
import numpy as np
import pytest
from conftest import evaluation_error as fails
from conftest import evaluation_scores as run

from evaluation import __main__ as evaluation
from evaluation import instances, model
from pipeline.segmentation import Settings

NAMES = ["SBD", "|DiC|", "foreground Dice", "AP50", "AP", "PQ"]


def test_instance_metrics_by_hand():
    truth = np.zeros((4, 10), int)
    truth[:, :4], truth[:, 4:6] = 7, 3  # 16 and 8 pixels
    found = np.zeros((4, 10), int)
    found[:, :2], found[:, 2:4], found[:, 5:7] = 1, 2, 9  # two halves of the first, 8 + 8; the second shifted by half
    iou, dice = instances.overlaps(found, truth)
    np.testing.assert_allclose(iou, [[0, 1 / 2], [0, 1 / 2], [1 / 3, 0]])
    np.testing.assert_allclose(dice, [[0, 2 / 3], [0, 2 / 3], [1 / 2, 0]])
    # Dice 2/3, 2/3, 1/2 from the prediction's side; 1/2, 2/3 from the truth's; at 0.5 one half matches, above none does
    score = instances.instance_score([(found, truth)])
    assert score == pytest.approx(dict(zip(NAMES, [7 / 12, 1, 5 / 6, 1 / 4, 1 / 40, 0], strict=True)))
    assert instances.instance_score([(truth, found)])["SBD"] == pytest.approx(7 / 12)

    found[:, :4], found[:, 4:], found[0:3, 4:6] = 4, 0, 5  # the first right, of the second three quarters
    pair = found, truth
    np.testing.assert_allclose(instances.average_precision(instances.overlaps(*pair)[0]), [1] * 6 + [1 / 3] * 4)
    score = instances.instance_score([pair, (np.zeros((2, 2), int), np.ones((2, 2), int))])
    np.testing.assert_allclose(list(score.values()), [(1 + 6 / 7) / 4, 0.5, 22 / 23 / 2, 0.5, 4.4 / 12, 1.75 / 2.5])


def test_instance_metrics_of_empty_images():
    nothing, one = np.zeros((3, 3), int), np.ones((3, 3), int)
    for pair, right in (((nothing, nothing), 1), ((nothing, one), 0), ((one, nothing), 0), ((one, 5 * one), 1)):
        assert list(instances.instance_score([pair]).values()) == [right, 1 - right, right, right, right, right]


def test_matching_takes_the_most_pairs():
    truth, found = np.repeat([1, 2, 3], 10)[None], np.repeat([5, 6, 7], [11, 10, 9])[None]
    precision = instances.average_precision(instances.overlaps(found, truth)[0])
    assert precision == pytest.approx([1] * 7 + [2 / 4] * 2 + [0])  # IoU of 10/11, 9/11 and 9/10


def write(folder, **images):
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)


def test_instances_command(tmp_path, capsys):
    found, true = folders = [tmp_path / "found", tmp_path / "true"]
    truth = np.zeros((8, 8), np.uint16)
    truth[:4], truth[5:] = 300, 2
    write(found, a=np.where(truth == 2, 0, truth))
    write(true, b=truth)
    assert "in one folder only" in fails(capsys, "--instances", *folders)
    (true / "b.png").rename(true / "a.PNG")  # as Windows' tools write it
    values = list(run(capsys, "--instances", *folders).values())
    np.testing.assert_allclose(values, [0.5, 1, 64 / 88, 0.5, 0.5, 1 / 1.5])
    write(found, b=0 * truth)  # the second image is all wrong
    write(true, b=truth)
    evaluation.main(["--instances", *map(str, folders), "--json"])
    entries = json.loads(capsys.readouterr().out)
    assert entries[0] == {"name": "SBD", "value": 0.25, "order": "desc"} and entries[1]["order"] == "asc"
    write(true, b=truth[:4])
    assert "expected (4, 8)" in fails(capsys, "--instances", *folders)


def test_results_of_inference_beside_labels(tmp_path, capsys):
    truth = np.zeros((8, 12), np.uint8)
    truth[:4, :4] = 1
    results, labels = tmp_path / "results", tmp_path / "labels"
    write(labels, a=truth, b=truth)
    write(results, a_cluster=np.dstack([truth] * 3), a_labels=7 * truth, b_labels=0 * truth)
    assert run(capsys, "--instances", results, labels)["SBD"] == 0.5


def test_a_value_to_ignore_counts_nowhere():
    """Half of the first prediction lies where nobody knows, as does all of another one."""
    truth, found = np.zeros((2, 8, 8), np.uint8)
    truth[:4, :4], truth[:, 6:] = 9, 255
    found[:4, :4], found[:4, 6:], found[5:, 6:] = 1, 1, 2
    assert list(instances.instance_score([(found, truth)], 255).values()) == [1, 0, 1, 1, 1, 1]
    assert instances.instance_score([(found, truth)])["SBD"] < 0.9


def test_own_instances_in_one_command(tmp_path, capsys, monkeypatch):
    """A model that sees all instances but number 300, at half the size, of two images and one without any."""
    truth = np.zeros((8, 12), np.uint16)
    truth[:4, :4], truth[4:, 6:] = 300, 2
    labels = {"a": truth, "b": 0 * truth}
    write(tmp_path / "labels", **labels)
    write(tmp_path / "images", **{name: np.dstack([np.uint8(label == 2)] * 3) for name, label in labels.items()})
    settings = []
    monkeypatch.setattr(evaluation, "load", lambda args: (None, Settings(args.bandwidth)))

    def see(network, image, given):
        settings.append(given)
        return {}, image[::2, ::2, 0].astype(np.int32)

    monkeypatch.setattr(model, "segment_outputs", see)
    flags = ["--modeldir", "m", "--srcdir", tmp_path, "--instances", "--bandwidth", "0.7"]
    # SBD 0.5 and 1, PQ over both; 24 of 40 pixels found and all of none
    expected = dict(zip(NAMES, [0.75, 0.5, (48 / 64 + 1) / 2, 0.75, 0.75, 1 / 1.5], strict=True))
    assert run(capsys, *flags) == pytest.approx(expected) and settings == [Settings(0.7)] * 2


def test_bootstrap_intervals_agree_with_the_normal_ones():
    values = np.random.default_rng(3).normal([0.9, 0.1], [0.1, 0.02], (400, 2))
    half = 1.96 * values.std(axis=0) / 20
    expected = np.stack([values.mean(axis=0) - half, values.mean(axis=0) + half], axis=1)
    np.testing.assert_allclose(instances.bootstrap_intervals(values), expected, atol=0.15 * half.max())
