"""What is said of labels before a run; a value to ignore; copies of held-out images."""

import shutil

import annotation_files
import cv2
import numpy as np
import pytest

from data.files import find_pairs
from pipeline.segmentation import Settings
from run import label_statistics
from run.command import UserError
from run.flags import parse_args
from run.label_statistics import LabelStatistics
from run.pairs import balance_pairs, collect_pairs
from run.validation import SummaryLog


def write(folder, *label_images):
    """A data folder with these labels, (h, w) uint8 or uint16."""
    for number, label in enumerate(label_images):
        image = np.dstack([label.astype(np.uint8)] * 3) + number
        annotation_files.write(folder, {f"labels/{number:04d}.png": label, f"images/{number:04d}.png": image})
    return find_pairs(folder)


def line(thickness, border=0):
    """A label of one line below a border."""
    label = np.zeros((720, 1280), np.uint8)
    cv2.line(label, (600, 260), (100, 700), 20, thickness)
    label[:50] = border
    return label


def test_instances_that_vanish_at_the_networks_size(tmp_path, capsys):
    label = line(7)
    label[600:604, 1000:1004] = 70
    label_statistics.measure_labels(write(tmp_path / "data", label, 0 * label), (72, 128))
    (said,) = capsys.readouterr().err.splitlines()
    assert "1 of 2 instances have no pixel left" in said and "72x128" in said and "0000.png" in said


def test_labels_that_were_resized_smoothly_or_hold_too_much(tmp_path, capsys):
    """Three lanes become dozens of instances; 600 instances are more than the loss counts."""
    lanes = line(7)
    for value, column in ((70, 640), (120, 1200)):
        cv2.line(lanes, (640, 260), (column, 700), value, 7)
    smooth = cv2.resize(lanes, (512, 288), interpolation=cv2.INTER_AREA)
    many = np.arange(600, dtype=np.uint16).reshape(20, 30).repeat(8, axis=0).repeat(8, axis=1)
    few = sum(0 < (smooth == value).sum() < 10 for value in range(1, 256))
    assert few > 5 and len(np.unique(lanes)) == 4
    label_statistics.measure_labels(write(tmp_path / "data", smooth, many), (160, 240))
    said = capsys.readouterr().err.splitlines()
    (small,) = [text for text in said if "have fewer than 10 pixels" in text]
    assert f"{few} of {599 + len(np.unique(smooth)) - 1} instances" in small and "0000.png" in small
    (large,) = [text for text in said if "more than the 511 of an image" in text]
    assert "most (88)" in large and "0001.png" in large


def test_masks_that_look_like_several_instances_are_said_once(tmp_path, capsys):
    apart = np.zeros((720, 1280), np.uint8)
    apart[100:200, 100:200] = apart[100:200, 400:500] = 20
    two = np.where(np.arange(1280) > 300, 2 * apart, apart)
    cases = (1, apart, apart, line(7), 0 * apart), (0, apart, apart, two), (0, apart, line(7))
    for number, (count, *labels) in enumerate(cases):
        label_statistics.measure_labels(write(tmp_path / str(number), *labels), (256, 512))
        assert capsys.readouterr().err.count("--components") == count


def test_a_value_to_ignore_is_no_instance(tmp_path):
    """One lane, and one with a border of 255: both have one instance; the plots show no border."""
    import tensorflow as tf

    pairs = write(tmp_path / "data", line(7), line(7, 255), line(7, 3), line(7, 3))
    assert len(balance_pairs(pairs, ignore=255)) == 4 and len(balance_pairs(pairs)) == 3 + 2
    assert label_statistics.measure_label(pairs[1][1], (256, 512), ignore=255).in_file.keys() == {20}
    assert label_statistics.measure_label(pairs[1][1], (256, 512)).in_file.keys() == {20, 255}
    shown = tf.zeros((1, 4, 4, 3)), tf.constant([[[0, 1], [255, 255]]]), None
    log = SummaryLog(None, shown, parse_args(["--outdir", str(tmp_path), "--ignore", "255"]), Settings(), 1)
    assert log.label.tolist() == [[0, 1], [0, 0]]


def test_copies_of_held_out_images_are_not_trained_on(tmp_path, capsys):
    """Every image twice: copies of what is held out are left out, nothing else."""
    folder = tmp_path / "data"
    write(folder, *[line(7)[::12, ::12] for _ in range(10)])
    for kind in ("images", "labels"):
        for number in range(10):
            shutil.copy(folder / kind / f"{number:04d}.png", folder / kind / f"{number + 10:04d}.png")
    pairs, val = collect_pairs([f"{folder}:2"])
    trained, held_out = ([open(pair[0], "rb").read() for pair in some] for some in (pairs, val["validation"]))
    assert len(held_out) == 2 and len(trained) == 2 * (20 - 2 * len(set(held_out)))
    assert not set(held_out) & set(trained)
    assert f"{len(set(held_out))} images are copies of held-out ones" in capsys.readouterr().err
    for path in [*folder.glob("*/000[1-9].png"), *folder.glob("*/001[1-9].png")]:
        path.unlink()
    with pytest.raises(UserError, match="found no other image than held-out ones"):
        collect_pairs([str(folder)])


def test_a_folder_that_is_there_is_no_weight(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "12:30", line(7), 0 * line(7))
    assert len(collect_pairs(["12:30"])[0]) == 1 and len(collect_pairs(["12:30:3"])[0]) == 3


def test_what_labels_are_like(tmp_path):
    """Squares of 8 and 4 pixels in 40x40, by hand; ENet's weights."""
    square, small = np.zeros((2, 40, 40), np.uint8)
    square[:8, :8], square[20:24, 20:24], small[:4, :4] = 1, 2, 7
    found = label_statistics.measure_labels(write(tmp_path / "data", square, small), (40, 40))
    assert found.foreground == pytest.approx((80 + 16) / 3200)
    assert found.diameter == pytest.approx((4 * 16 / np.pi) ** 0.5)  # of areas 64, 16, 16
    assert (found.small_area, found.small_width) == (4, 2)  # a quarter and a half of the median
    many = np.zeros((160, 160), np.uint8)
    for i, side in enumerate([14] * 37 + [3, 6, 7]):
        many[i // 10 * 20 :, i % 10 * 16 :][:side, 1 : side + 1] = i + 1
    found = label_statistics.measure_labels(write(tmp_path / "many", many), (160, 160))
    assert found.small_area == pytest.approx(9 + 0.78 * 27) and found.small_width == 6  # in 39 of 40
    empty = label_statistics.measure_labels(write(tmp_path / "empty", 0 * square), (40, 40))
    assert empty == LabelStatistics(0.0, 0.0, 0.0, 1)
    for fraction, weight in ((0.03, 10.0), (0.0, 10.0), (0.25, np.log(1.77) / np.log(1.27)), (0.5, 1.0)):
        assert LabelStatistics(fraction).foreground_weight() == pytest.approx(weight, abs=0.005)
