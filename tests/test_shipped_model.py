"""The model in trained_model/ on the sample images and on a real drive that it never saw."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from test_inference import painted_ids

import inference
import utils
from datagenerator import read_image
from pipeline.segmentation import load_network, segment_outputs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Folder of what inference makes of the sample images, as a user starts it: several images at a time."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "inference.py", "--save", "overlay,labels", "--outdir", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_shipped_model_on_the_sample_images(results):
    samples = sorted((ROOT / "inference_test/images").iterdir())
    assert len(samples) == 6
    for path, result in zip(samples, sorted(results.glob("cluster_*")), strict=True):
        image, painted = read_image(path), read_image(result)
        ids, mask = painted_ids(image, painted)
        assert ids >= 2 and mask.mean() < 0.15
        # the committed result, up to pixels on the threshold
        committed = read_image(ROOT / "inference_test/results" / result.name)
        assert (painted != committed).any(axis=2).mean() < 0.002


def test_shipped_model_is_quiet_where_it_is_unsure(results, tmp_path):
    """The limit of the config holds without a flag; `--confidence 0` lifts it: more instances, nowhere fewer."""
    assert 0.7 < utils.read_confidence(ROOT / "trained_model") < 0.85
    inference.main(f"--modeldir {ROOT / 'trained_model'} --save labels --outdir {tmp_path} --confidence 0".split())
    quiet, all_ = (
        [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("labels_*"))]
        for folder in (results, tmp_path)
    )
    assert len(quiet) == len(all_) == 6
    assert all(((a > 0) | (q == 0)).all() for q, a in zip(quiet, all_, strict=True))
    assert sum(a.max() - q.max() for q, a in zip(quiet, all_, strict=True)) >= 1


def test_shipped_model_on_an_unseen_drive(shared_data):
    """The two middle lanes of every frame of another drive are separate and continuous instances."""
    folder = shared_data / "tusimple" / "val_set"
    network = load_network(ROOT / "trained_model")
    for line in (folder / "label_data_0601.json").read_text().splitlines():
        label = json.loads(line)
        image = read_image(folder / label["raw_file"])
        _, label_map = segment_outputs(network, image)
        full = cv2.resize(label_map.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        owners = [follow(full, lane, label["h_samples"]) for lane in middle_lanes(label)]
        assert len(owners) == 2 and owners[0] != owners[1], label["raw_file"]


def middle_lanes(label):
    """The lanes left and right of the car: nearest to the middle of the image at their lowest point."""
    bottoms = []
    for lane in label["lanes"]:
        points = [(x, y) for x, y in zip(lane, label["h_samples"], strict=True) if x >= 0]
        if len(points) > 5:
            (x0, y0), (x1, y1) = points[-6], points[-1]
            bottoms.append((x1 + (x1 - x0) * (720 - y1) / (y1 - y0), lane))
    left = [item for item in bottoms if item[0] < 640]
    right = [item for item in bottoms if item[0] >= 640]
    return [max(left)[1], min(right)[1]]


def follow(label_map, lane, rows, radius=20):
    """The instance that runs along a lane; fails if it misses more than a fourth of its rows, as over a hill."""
    rows = [(x, y) for x, y in zip(lane, rows, strict=True) if x >= 0]
    near = [np.unique(label_map[y, max(0, x - radius) : x + radius + 1]) for x, y in rows]
    hits = np.bincount(np.concatenate(near))
    owner = 1 + hits[1:].argmax()
    assert hits[owner] / len(rows) >= 0.75
    return owner
