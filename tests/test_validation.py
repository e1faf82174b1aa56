"""Validation during training: its score against labels known by construction."""

import json
import shutil

import cv2
import keras
import numpy as np
import pytest
from annotation_files import write
from keras import layers

from data.files import find_pairs
from datagenerator import STRETCH, View, read_image
from evaluation.instances import instance_score
from evaluation.model import predict_instances
from pipeline.segmentation import Network, Settings
from run import train_step
from run.command import UserError
from run.config import make_config
from run.flags import parse_args
from run.pairs import Data, collect_data, read_lanes
from run.validation import Validation, figure_of_merit

ROWS = list(range(240, 720, 10))


@pytest.fixture
def lane_data(tmp_path):
    """Two images whose gray values are the lane ids, so that a network needs no training; the first shows 2 of 3."""
    lines = []
    for number in range(2):
        label = np.zeros((720, 1280), np.uint8)
        lanes = [[int(640 + side * (y - 200)) for y in ROWS] for side in (-0.8, 0.1, 1.0)]
        for i, lane in enumerate(lanes):
            cv2.polylines(label, [np.int32(list(zip(lane, ROWS, strict=True)))], False, 60 + 60 * i, 9)
        image = label.copy()
        if number == 0:
            image[image == 180] = 0
        write(tmp_path, {f"images/{number:04d}.png": cv2.merge([image] * 3), f"labels/{number:04d}.png": label})
        lanes.append([-2] * len(ROWS))  # an empty lane, which nobody can find
        lines.append({"raw_file": f"clips/{number}.jpg", "lanes": lanes, "h_samples": ROWS})
    return write(tmp_path, {"labels.json": "".join(json.dumps(line) + "\n" for line in lines)})


def gray_network(size):
    """Embedding = gray value / 10, lane where it is above 30."""
    image = keras.Input(shape=(*size, 3))
    gray = image[..., :1]
    outputs = {"embedding": layers.Rescaling(0.1)(gray), "semantic": layers.Rescaling(1.0, -30.0)(gray)}
    return keras.Model(image, outputs)


def validate(folders, size=(360, 640), view=STRETCH, flags="", **config):
    """`Validation` of folders {name: pairs} as a training run makes it, with the paper's losses."""
    network = gray_network(size if view.kind == "stretch" else (None, None))
    losses = train_step.make_losses(train_step.LossSettings())
    data = Data([("image", "label")], folders, {name: read_lanes(pairs) for name, pairs in folders.items()})
    sides = f"{'--crop' if view.kind == 'crop' else '--image-size'} {size[0]} {size[1]}"
    flags = parse_args(f"{sides} {flags}".split())
    return Validation(network, losses, data, flags, {"view": view.kind, "zoom": view.zoom, **config})


def test_score_of_known_lanes(lane_data):
    """One image perfect, one with a lane of three missed: FN 1/6, no FP, and Accuracy less by a sixth."""
    result = validate({"lanes": find_pairs(lane_data)}).run()
    assert set(result) == {*train_step.LOSS_TERMS, "Accuracy", "FP", "FN"}
    assert result["FP"] == 0 and result["FN"] == pytest.approx(1 / 6, abs=1e-5)
    assert result["Accuracy"] == pytest.approx(5 / 6, abs=1e-5)


def test_folders_count_alike_and_are_reported(lane_data, tmp_path_factory):
    """Two perfect images, and one with a miss: means of folders, not of images."""
    perfect = shutil.copytree(lane_data, tmp_path_factory.mktemp("perfect"), dirs_exist_ok=True)
    for kind in ("images", "labels"):
        shutil.copy(perfect / kind / "0001.png", perfect / kind / "0000.png")
    folders = {"a": find_pairs(lane_data)[:1], "b": find_pairs(perfect)}
    result = validate(folders, view=View("aspect")).run()
    assert list(result["folders"]) == ["a", "b"] and result["folders"]["b"]["FN"] == 0
    assert result["folders"]["a"]["FN"] == pytest.approx(1 / 3, abs=1e-5)
    assert result["FN"] == pytest.approx(1 / 6, abs=1e-5)
    assert result["loss"] == pytest.approx(np.mean([f["loss"] for f in result["folders"].values()]), abs=1e-5)
    (perfect / "labels.json").unlink()
    result = validate(folders, flags="--batch-size 2").run()
    assert "Accuracy" in result["folders"]["a"] and "Accuracy" not in result  # not of all of them


def test_labels_are_found_by_number_and_without_empty_lanes(lane_data, tiny_data):
    pairs, file = find_pairs(lane_data), lane_data / "labels.json"
    assert [(len(line["lanes"]), line["size"]) for line in read_lanes(pairs)] == [(3, (720, 1280))] * 2
    assert read_lanes(find_pairs(tiny_data)) is None  # no labels.json
    file.write_text(file.read_text().splitlines()[0] + "\n")
    assert read_lanes(pairs) is None  # an image without line
    file.write_text(file.read_text() + "{\n")
    with pytest.raises(UserError, match="labels.json:2"):
        read_lanes(pairs)


@pytest.mark.parametrize("scale", [0.5, 2])
def test_lanes_of_another_size_are_refused(lane_data, scale):
    path = str(lane_data / "labels/0000.png")
    label = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    cv2.imwrite(path, cv2.resize(label, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST))
    with pytest.raises(UserError, match=r"found .* of labels.json beside the instances of .*0000.png"):
        read_lanes(find_pairs(lane_data))


def test_a_folder_named_twice_is_validated_once(lane_data):
    flags = parse_args(["--srcdir", str(lane_data), str(lane_data), "--modeldir", "none"])
    data = collect_data(flags)
    assert len(data.pairs) == 2 and len(set(data.pairs)) == 1 and len(data.folders["validation"]) == 1
    assert "Accuracy" in validate(data.folders).run()
    assert make_config(flags, data)["threshold"] == 0.7  # that of lanes


def test_instances_without_tusimple_labels(lane_data):
    """Gray values are the embeddings: three instances found of three, and two of three, each to the pixel."""
    (lane_data / "labels.json").unlink()
    folders, size = {"a": find_pairs(lane_data)}, (720, 1280)
    for view in (STRETCH, View("crop")):
        result = validate(folders, size, view).run()
        assert result["AP50"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4) and result["|DiC|"] == 0.5
        assert result["SBD"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4) and result["AP"] == result["AP50"]
        measure, merit = figure_of_merit(result)
        assert measure == "AP" and merit < -0.5
    # logits are gray - 30: one instance of gray 60 in each image is below the threshold's 32.2
    assert validate(folders, size, view, threshold=1 - 1e-14).run()["|DiC|"] == (1 + 2) / 2
    assert validate(folders, size, view, min_pixels=10**5).run()["|DiC|"] == 3  # of three in each image
    assert set(validate(folders, view=view, flags="--var 0 --dist 0").run()) == set(train_step.LOSS_TERMS)


@pytest.mark.parametrize(("size", "view"), [((720, 1280), View("crop", 1.5)), ((200, 320), View("crop"))])
def test_crops_score_as_in_the_evaluation(lane_data, size, view):
    """Enlarged, where borders between the gray values are instances; and in tiles, whose losses are the middle's."""
    pairs, seen = find_pairs(lane_data), []
    validation = validate({"a": pairs}, size, view)
    step = validation.step
    validation.step = lambda image, label: seen.append(image) or step(image, label)
    if view.zoom == 1:
        assert validation.run()["FN"] == pytest.approx(1 / 6, abs=1e-5)  # one lane of three in one of two images
        assert len(seen) == 2 and (seen[0][0].numpy() == read_image(pairs[0][0])[160:560, 320:960]).all()
    (lane_data / "labels.json").unlink()
    result = validate({"a": pairs}, size, view).run()
    network = Network(gray_network((None, None)), size, view)
    expected = instance_score(predict_instances(network, Settings(), pairs, None))
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-5) and 0.4 < result["SBD"] < 0.9


def test_the_best_model_is_that_of_the_best_score():
    better = {"loss": 2.0, "Accuracy": 0.9, "FP": 0.1, "FN": 0.1}
    worse = {"loss": 1.0, "Accuracy": 0.9, "FP": 0.3, "FN": 0.1}
    assert figure_of_merit(better) < figure_of_merit(worse)
    assert figure_of_merit({"loss": 2.0}) == ("loss", 2.0) > figure_of_merit({"loss": 1.0})
