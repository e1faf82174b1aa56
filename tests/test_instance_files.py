"""Instances as COCO's JSON and as a table: against arrays by hand and what our own importer makes of them."""

import csv

import cv2
import numpy as np
import pytest
from conftest import full_disk

from data.annotations.sources import Source
from data.instance_dataset_processing import process
from pipeline.instance_files import COLUMNS, describe_instances, instance_files


def test_describe_instances_by_hand():
    label_map = np.array([[0, 1, 1], [2, 2, 1], [2, 0, 0]])
    one, two = describe_instances(label_map, [0.25, 0.75], {1: (7, 0.5)})
    assert one.pop("center") == pytest.approx([(1.5 + 2.5 + 2.5) / 3, (0.5 + 0.5 + 1.5) / 3])
    assert one == {
        "id": 1,
        "area": 3,
        "box": [1, 0, 2, 2],
        "confidence": 0.25,
        "class": 7,
        "class_score": 0.5,
        "counts": [3, 1, 2, 2, 1],  # columns 022, 120, 110
    }
    assert two["class"] == 0 and two["counts"] == [1, 2, 1, 1, 4] and two["area"] == 3 and two["box"] == [0, 1, 2, 2]
    full = describe_instances(np.full((2, 2), 5))
    assert [(x["id"], x["counts"], x["confidence"]) for x in full] == [(5, [0, 4], None)]
    assert describe_instances(np.zeros((2, 2), int)) == []


def test_our_importer_reads_what_is_written(tmp_path):
    shape = 50, 70
    rng = np.random.default_rng(0)
    label_map = np.zeros(shape, np.int32)
    for number in range(1, 301):  # some hundreds, some of them hidden by later ones
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        label_map[y : y + 4, x : x + 3] = number
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with instance_files(tmp_path, ("instances.json", "instances.csv")) as write:
        write("a.png", shape, describe_instances(label_map))
    process(Source(tmp_path / "instances.json", tmp_path), tmp_path / "data")
    (label,) = (tmp_path / "data" / "labels").iterdir()
    read = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    ids = np.unique(label_map)[1:]
    np.testing.assert_array_equal(np.append(0, ids)[read], label_map)
    rows = list(csv.reader((tmp_path / "instances.csv").open()))
    assert tuple(rows[0]) == COLUMNS and [int(row[1]) for row in rows[1:]] == ids.tolist()
    assert [int(row[2]) for row in rows[1:]] == np.bincount(label_map.ravel())[ids].tolist()


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    with full_disk(4096), pytest.raises(OSError, match=r"instances.csv: could not be written \(file too large\); make"):
        with instance_files(tmp_path, ("instances.csv",)) as write:
            write("a.png", (1, 1), describe_instances(np.ones((1, 1), int)) * 1000)
    assert list(tmp_path.iterdir()) == []
