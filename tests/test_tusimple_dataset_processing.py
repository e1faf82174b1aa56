"""TuSimple's command: numbering, gray values, equal labels, and nothing written on bad input."""

import contextlib
import json
import os
import signal

import cv2
import numpy as np
import pytest
from annotation_files import write
from damage import changed, missing, replaced, zero_filled
from numpy.testing import assert_array_equal

from data import tusimple_dataset_processing as processing
from lanes import tusimple


def write_set(folder, labels, name="label_data_0313.json"):
    """A TuSimple folder whose clip number i is of gray 10 * i."""
    clips = {label["raw_file"]: np.full((720, 1280, 3), 10 * i, np.uint8) for i, label in enumerate(labels)}
    return write(folder, {**clips, name: "".join(json.dumps(label) + "\n" for label in labels)})


def make_label(number, lanes=3, rows=56):
    h_samples = list(range(710 - 10 * (rows - 1), 711, 10))
    xs = [[-2] * 8 + [200 * i + 100 + k + number for k in range(rows - 8)] for i in range(lanes)]
    return {"raw_file": f"clips/a/{number}/20.jpg", "lanes": xs, "h_samples": h_samples}


def read(folder, kind, number):
    return cv2.imread(str(folder / kind / f"{number:04d}.png"), cv2.IMREAD_UNCHANGED)


def test_images_labels_and_lines_in_order(tmp_path):
    """Folders as named, files sorted, lines in their order, 48 and 56 rows in one run; tasks have no lanes."""
    other = write_set(tmp_path / "test_set", [make_label(i, rows=48) for i in range(2)], "test_label.json")
    source = write_set(tmp_path / "set", [make_label(2)], "label_data_0531.json")
    write_set(source, [make_label(10 + i) for i in range(2)])
    write_set(other, [{**make_label(0), "lanes": []}], "test_tasks_0627.json")
    processing.main([str(source), str(other), "-o", str(tmp_path / "out")])
    lines = [json.loads(line) for line in (tmp_path / "out/labels.json").read_text().splitlines()]
    assert [line["raw_file"].split("/")[2] for line in lines] == ["10", "11", "2", "0", "1"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "labels", "labels.json"]
    for number, line in enumerate(lines):
        clip = cv2.imread(str((source if number < 3 else other) / line["raw_file"]))
        assert_array_equal(read(tmp_path / "out", "images", number), clip)
        expected = np.zeros((720, 1280), np.uint8)
        for i, lane in enumerate(line["lanes"]):
            points = np.array([(x, y) for x, y in zip(lane, line["h_samples"], strict=True) if x >= 0])
            cv2.polylines(expected, np.int32([points]), False, 50 * i + 20, 7)
        label = read(tmp_path / "out", "labels", number)
        assert label.dtype == np.uint8 and set(np.unique(label)) == {0, 20, 70, 120}
        assert_array_equal(label, expected)


def test_a_merged_label_file_beside_its_parts(tmp_path):
    """Each image once; one with other lanes in the second file is an error."""
    labels = [make_label(i) for i in range(3)]
    source = write_set(write_set(tmp_path / "set", labels), [labels[0], *labels], "label_data_all.json")
    assert processing.process([source], tmp_path / "out") == (3, [])
    write_set(source, [{**labels[1], "lanes": labels[1]["lanes"][:2]}], "label_data_all.json")
    with pytest.raises(processing.UserError, match=r"label_data_all\.json:1: found"):
        processing.process([source], tmp_path / "other")


def test_gray_values_are_distinct_for_every_lane_of_8_bits():
    assert tusimple.GRAY_VALUES[:5] == (20, 70, 120, 170, 220)
    assert sorted(tusimple.GRAY_VALUES) == list(range(1, 256))
    assert len(np.unique(tusimple.draw_label(make_label(0, lanes=6)))) == 7


def huge(data):
    """A jpg that says that it has 65,500 x 65,500 pixels."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + b"\xff\xdc\xff\xdc" + data[start + 4 :]


CLIP, LABELS = "clips/a/1/20.jpg", "label_data_0313.json"
BAD = [  # file, what happens to it, what the line must name
    (CLIP, missing, CLIP),
    (CLIP, zero_filled, CLIP),
    (CLIP, changed(huge), CLIP),
    (LABELS, replaced(f'{CLIP}", "lanes"', f'{CLIP}", "lines"'), f"{LABELS}:2:"),
    (LABELS, replaced(f'{CLIP}", "lanes": [[', f'{CLIP}", "lanes": [[3, '), f"{LABELS}:2:"),
]


@pytest.mark.parametrize(("path", "damage", "named"), BAD)
def test_bad_input_is_one_line_or_skipped(tmp_path, capsys, path, damage, named):
    """Nothing is written, or the others, numbered without a gap."""
    source, out = write_set(tmp_path / "set", [make_label(i) for i in range(4)]), tmp_path / "out"
    damage(source / path)
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(source), "-o", str(out)])
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert exit_.value.code == 2 and named in error and not out.exists()
    processing.main([str(source), "-o", str(out), "--skip-bad"])
    captured = capsys.readouterr()
    assert captured.err.count("skipped:") == 1 and "3 images" in captured.out
    lines = (out / "labels.json").read_text().splitlines()
    assert [json.loads(line)["raw_file"].split("/")[2] for line in lines] == ["0", "2", "3"]
    assert [read(out, "images", number)[0, 0, 0] for number in range(3)] == [0, 20, 30]


def test_folders_without_lines(tmp_path):
    for source in (write_set(tmp_path / "set", []), tmp_path / "nowhere"):
        with pytest.raises(processing.UserError, match=f"{source.name}: found no line"):
            processing.process([source], tmp_path / "out")


@pytest.mark.parametrize("rename", [2, 8])
def test_ctrl_c_is_all_or_nothing(tmp_path, monkeypatch, capsys, rename):
    """Nothing is written while images are made; renaming, once begun, comes to its end."""
    source, out = write_set(tmp_path / "set", [make_label(i) for i in range(3)]), tmp_path / "out"
    replace, count = os.replace, []

    def interrupted(*paths):
        count.append(paths)
        if len(count) == rename:  # six close the numbers up, three more move the parts
            os.kill(os.getpid(), signal.SIGINT)
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(SystemExit) if rename == 2 else contextlib.nullcontext() as exit_:
        processing.main([str(source), "-o", str(out)])
    if rename == 2:
        assert exit_.value.code == 130 and "nothing written" in capsys.readouterr().err and not out.exists()
    else:
        assert len(list(out.glob("*/*.png"))) == 6 and (out / "labels.json").is_file() and len(list(out.iterdir())) == 3
