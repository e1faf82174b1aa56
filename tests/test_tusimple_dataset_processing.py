"""The data script: numbering, gray values, pixel-identical labels, and nothing written on bad input."""

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import tusimple_dataset_processing as processing
from lanes import tusimple


def write_set(folder, labels, name="label_data_0313.json", size=(720, 1280)):
    """A TuSimple folder whose clip number i is an image of gray i."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as file:
        for i, label in enumerate(labels):
            clip = folder / label["raw_file"]
            clip.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(clip), np.full((*size, 3), 10 * i, np.uint8))
            file.write(json.dumps(label) + "\n")
    return folder


def make_label(number, lanes=3, rows=56):
    h_samples = list(range(710 - 10 * (rows - 1), 711, 10))
    xs = [[-2] * 8 + [200 * i + 100 + k + number for k in range(rows - 8)] for i in range(lanes)]
    return {"raw_file": f"clips/a/{number}/20.jpg", "lanes": xs, "h_samples": h_samples}


def read(folder, kind, number):
    return cv2.imread(str(folder / kind / f"{number:04d}.png"), cv2.IMREAD_UNCHANGED)


def test_images_labels_and_lines_in_order(tmp_path):
    """Files in sorted order, lines in theirs, 48 and 56 rows in one run."""
    source = write_set(tmp_path / "set", [make_label(i, rows=48) for i in range(3)], "label_data_0531.json")
    write_set(source, [make_label(10 + i) for i in range(2)], "label_data_0313.json")
    processing.main([str(source), "-o", str(tmp_path / "out")])
    lines = [json.loads(line) for line in (tmp_path / "out/labels.json").read_text().splitlines()]
    assert [line["raw_file"].split("/")[2] for line in lines] == ["10", "11", "0", "1", "2"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["images", "labels", "labels.json"]
    for number, line in enumerate(lines):
        clip = cv2.imread(str(source / line["raw_file"]))
        np.testing.assert_array_equal(read(tmp_path / "out", "images", number), clip)
        expected = np.zeros((720, 1280), np.uint8)
        for i, lane in enumerate(line["lanes"]):
            points = np.array([(x, y) for x, y in zip(lane, line["h_samples"], strict=True) if x >= 0])
            cv2.polylines(expected, np.int32([points]), False, 50 * i + 20, 7)
        label = read(tmp_path / "out", "labels", number)
        assert label.dtype == np.uint8 and label.ndim == 2
        np.testing.assert_array_equal(label, expected)
        assert set(np.unique(label)) == {0, 20, 70, 120}


def test_a_merged_label_file_beside_its_parts(tmp_path, capsys):
    """Three images, each once; one with other lanes in the second file is an error."""
    labels = [make_label(i) for i in range(3)]
    source = write_set(tmp_path / "set", labels)
    (source / "label_data_all.json").write_text("".join(json.dumps(label) + "\n" for label in [labels[0], *labels]))
    processing.main([str(source), "-o", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert "3 images" in said.out and "4 lines repeat an image" in said.err and "label_data_all.json:1" in said.err
    assert len(list((tmp_path / "out/images").iterdir())) == 3
    other = {**labels[1], "lanes": labels[1]["lanes"][:2]}
    (source / "label_data_all.json").write_text(json.dumps(other) + "\n")
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(source), "-o", str(tmp_path / "other")])
    assert exit_.value.code == 2 and "label_data_all.json:1: found" in capsys.readouterr().err.splitlines()[-1]


def test_gray_values_are_distinct_for_every_lane_of_8_bits():
    assert tusimple.GRAY_VALUES[:5] == (20, 70, 120, 170, 220)
    assert sorted(tusimple.GRAY_VALUES) == list(range(1, 256))
    label = tusimple.draw_label(make_label(0, lanes=6))
    assert len(np.unique(label)) == 7 and set(np.unique(label)) >= {20, 70, 120, 170, 220}


def test_tusimples_own_test_split(tmp_path):
    """Its labels come as test_label.json; test_tasks_0627.json has no lanes. A second folder follows it."""
    labels = [make_label(i) for i in range(2)]
    source, other = (
        write_set(tmp_path / "test_set", labels, "test_label.json"),
        write_set(tmp_path / "b", [make_label(2)]),
    )
    task = {"raw_file": labels[0]["raw_file"], "lanes": [], "h_samples": labels[0]["h_samples"], "run_time": 1000}
    (source / "test_tasks_0627.json").write_text(json.dumps(task) + "\n")
    assert processing.process([source, other], tmp_path / "out") == (3, [])
    expected = (source / "test_label.json").read_text() + (other / "label_data_0313.json").read_text()
    assert (tmp_path / "out/labels.json").read_text() == expected and len(files_of(tmp_path / "out")) == 7


def huge(data):
    """A jpg that says it is 65,500 pixels wide and high."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + b"\xff\xdc\xff\xdc" + data[start + 4 :]


# what happens to the clip's bytes, or to its label
DAMAGES = {
    "no jpg": lambda data: b"no jpg",
    "cut": lambda data: data[: len(data) * 2 // 3],
    "zeros": lambda data: data[: len(data) // 3] + bytes(len(data)),
    "huge": huge,
    "lengths": lambda label: label["lanes"][1].pop(),
    "no lanes key": lambda label: label.pop("lanes"),
    "text in a lane": lambda label: label["lanes"][0].insert(0, "a"),
}


@pytest.mark.parametrize("damage", ["missing clip", "broken line", "nested line", *DAMAGES])
def test_bad_input_is_one_line_or_skipped(tmp_path, damage, capsys):
    """Nothing is written, or the others, numbered without a gap."""
    source = write_set(tmp_path / "set", [make_label(i) for i in range(4)])
    clip, path = source / "clips/a/1/20.jpg", source / "label_data_0313.json"
    lines = path.read_text().splitlines()
    of_clip = damage in ("no jpg", "cut", "zeros", "huge")
    if damage == "missing clip":
        clip.unlink()
    elif damage in ("broken line", "nested line"):
        lines[1] = lines[1][:50] if damage == "broken line" else 100_000 * "["
    elif of_clip:
        clip.write_bytes(DAMAGES[damage](clip.read_bytes()))
    else:
        label = json.loads(lines[1])
        DAMAGES[damage](label)
        lines[1] = json.dumps(label)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(source), "-o", str(tmp_path / "out")])
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert exit_.value.code == 2 and len(error) == 1
    assert ("clips/a/1/20.jpg" if of_clip else "label_data_0313.json:2:") in error[0]
    assert not (tmp_path / "out").exists()
    processing.main([str(source), "-o", str(tmp_path / "out"), "--skip-bad"])
    captured = capsys.readouterr()
    assert captured.err.count("skipped:") == 1 and "3 images" in captured.out
    lines = (tmp_path / "out/labels.json").read_text().splitlines()
    assert [json.loads(line)["raw_file"].split("/")[2] for line in lines] == ["0", "2", "3"]
    assert read(tmp_path / "out", "images", 1)[0, 0, 0] == 20  # clip 2 has gray 20


@pytest.mark.parametrize("state", ["absent", "no labels", "no lines", "out"])
def test_empty_folders_and_a_file_in_place_of_one(tmp_path, state, capsys):
    if state != "absent":
        (tmp_path / "set").mkdir()
    if state == "no lines":
        (tmp_path / "set/label_data_0.json").write_text("\n")
    out = tmp_path / "set/out"
    if state == "out":
        out.write_text("mine")
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(tmp_path / "set"), "-o", str(out)])
    assert exit_.value.code == 2 and str(tmp_path / "set") in capsys.readouterr().err
    assert out.exists() == (state == "out")


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_data_set_is_replaced_only_when_told_so(tmp_path, capsys):
    """Then as a whole, with nothing left of it, and what else the folder holds stays."""
    source = write_set(tmp_path / "set", [make_label(i) for i in range(3)])
    small = write_set(tmp_path / "small", [make_label(7)])
    out = tmp_path / "out"
    processing.process([source], out)
    (out / "notes.txt").write_text("mine")
    before = files_of(out)
    for folder in (source, small):
        with pytest.raises(processing.UserError, match="--overwrite"):
            processing.process([folder], out)
    assert files_of(out) == before
    processing.main([str(small), "-o", str(out), "--overwrite"])
    processing.process([small], tmp_path / "fresh")
    assert files_of(out) == {**files_of(tmp_path / "fresh"), Path("notes.txt"): b"mine"}


def test_ctrl_c_is_all_or_nothing(tmp_path, monkeypatch, capsys):
    """While images are made nothing is written; once renaming has begun it comes to its end."""
    source = write_set(tmp_path / "set", [make_label(i) for i in range(3)])
    replace, count, moment = processing.os.replace, [], {}

    def interrupted(*paths):
        count.append(paths)
        if len(count) == moment["rename"]:
            os.kill(os.getpid(), signal.SIGINT)
        replace(*paths)

    monkeypatch.setattr(processing.os, "replace", interrupted)
    # six renames close the numbers up, three more move the parts
    for moment["rename"], expected in ((2, "nothing"), (8, "all")):
        count.clear()
        out = tmp_path / expected
        if expected == "nothing":
            with pytest.raises(SystemExit) as exit_:
                processing.main([str(source), "-o", str(out)])
            assert exit_.value.code == 130 and "nothing written" in capsys.readouterr().err
            assert not out.exists()
        else:
            processing.main([str(source), "-o", str(out)])
            assert sorted(path.name for path in out.iterdir()) == ["images", "labels", "labels.json"]
            assert len(files_of(out)) == 7
