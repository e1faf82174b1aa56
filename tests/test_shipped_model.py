"""The model in trained_model/ on the sample images and on a real drive that it never saw."""

import subprocess
import sys

import cv2
import pytest
from conftest import ROOT
from test_inference import painted_ids

import inference
import utils
from datagenerator import read_image
from evaluation import __main__ as evaluation


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


def test_shipped_model_on_an_unseen_drive(shared_data, capsys):
    """About as doc/reproduce.md says: 0.947, 0.042, 0.042."""
    flags = f"--srcdir {shared_data}/tusimple/val_set --labels label_data_0601.json --skip-empty-lanes"
    evaluation.main(["--modeldir", str(ROOT / "trained_model"), *flags.split()])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = {row[0]: float(row[1]) for row in rows if row[0] in ("Accuracy", "FP", "FN")}
    assert scores["Accuracy"] > 0.93 and scores["FP"] < 0.06 and scores["FN"] < 0.06
