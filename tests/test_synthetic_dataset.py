"""The command that renders data sets, end to end, and its errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_road_scenes import flat_label

from data import synthetic_dataset, tusimple_dataset_processing
from data.road.canvas import HEIGHT, WIDTH
from data.road.rendering import H_SAMPLES, render_scene
from data.synthetic_dataset import main


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_lines(folder):
    return [json.loads(line) for line in (folder / "label_data_synthetic.json").read_text().splitlines()]


def test_command_writes_a_tusimple_folder_whatever_the_workers(tmp_path):
    for workers in ("1", "2"):
        main([str(tmp_path / workers), "--count", "2", "--seed", "7", "--workers", workers])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    clips, bad = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 2 and not bad
    for number, (path, label) in enumerate(clips):
        assert label["raw_file"] == f"clips/synthetic/{number:06d}/20.jpg"
        image = cv2.imread(str(path))[..., ::-1].astype(float)
        rendered, expected = render_scene(np.random.default_rng([7, number]))
        assert image.shape == (720, 1280, 3) and np.abs(image - rendered).mean() < 4  # but for the JPEG
        assert {key: label[key] for key in expected} == expected


def test_command_with_geometry(tmp_path):
    given = [{"raw_file": f"{i}", **flat_label(H_SAMPLES, first_row=260 + 10 * i)} for i in range(3)]
    (tmp_path / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    main(f"{tmp_path}/set --count 3 --geometry {tmp_path}/label_data_a.json --workers 1".split())
    written = read_lines(tmp_path / "set")
    assert sorted(line["lanes"] for line in written) == sorted(line["lanes"] for line in given)


def test_frames_of_a_drive(tmp_path):
    """The first is the scene's image without a drive; all are named so that they sort."""
    for frames in ("1", "82"):
        rendered = []

        def quick(rng, geometry, empty, frame, rendered=rendered):
            rendered.append((frame, rng.integers(1000)))
            return np.full((HEIGHT, WIDTH, 3), frame, np.uint8), {"lanes": [], "h_samples": H_SAMPLES}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synthetic_dataset, "render_scene", quick)
            main(f"{tmp_path}/{frames} --count 2 --frames {frames} --workers 1".split())
        assert len(set(rendered)) == len(rendered) and len({state for _, state in rendered}) == 2
        names = [line["raw_file"] for line in read_lines(tmp_path / frames)]
        assert names == sorted(names) == [name for name in files_of(tmp_path / frames) if name.endswith("jpg")]
        assert len(names) == 2 * int(frames)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("new --count 0", ["--count: found 0", "at least 1"]),
        ("new --seed -1", ["--seed: found -1"]),
        ("new --workers 0", ["--workers: found 0"]),
        ("full", ["full: found a folder with files", "new or empty"]),
        ("full/file/new --count 1", ["full/file", "Not a directory"]),
        ("new --geometry absent.json", ["absent.json: No such file"]),
        ("new --geometry good.json broken.json", ["broken.json:2: found no JSON"]),
        ("new --geometry falling.json", ["falling.json:1: ", "h_samples to be rising"]),
        ("new --geometry empty.json", ["empty.json: found no lane of two points"]),
        ("new --geometry full", ["full: Is a directory"]),
        ("new --geometry sky.json", ["sky.json:1: found rows 0 to 719", "lanes from row 10 on"]),
        ("new --geometry good.json --frames 2", ["--frames 2: found --geometry"]),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, flags, parts):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/file").write_text("x")
    good = json.dumps({"raw_file": "a", **flat_label(H_SAMPLES)})
    Path("good.json").write_text(good + "\n")
    Path("broken.json").write_text(good + "\n" + good[:40] + "\n")
    Path("falling.json").write_text(json.dumps({"raw_file": "a", "lanes": [[1, 2]], "h_samples": [300, 290]}))
    Path("sky.json").write_text(json.dumps({"raw_file": "a", "lanes": [[600, 500]], "h_samples": [0, 719]}))
    Path("empty.json").write_text(json.dumps({"raw_file": "a", "lanes": [], "h_samples": H_SAMPLES}) + "\n\n")
    before = files_of(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    *usage, message, end = capsys.readouterr().err.split("\n")
    assert stop.value.code == 2 and not end
    assert message.startswith("synthetic_dataset.py: error: ")
    assert all(line.startswith(("usage: ", "    ")) for line in usage)  # argparse's
    assert all(part in message for part in parts), message
    assert files_of(tmp_path) == before and not Path("new").exists()


def test_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(rng, geometry, empty, frame, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8), {"lanes": [], "h_samples": []}

    monkeypatch.setattr(synthetic_dataset, "render_scene", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "new"), "--count", "3", "--workers", "1"])
    assert stop.value.code == 130
    assert capsys.readouterr().err.endswith("synthetic_dataset.py: interrupted, nothing written\n")
    assert not list(tmp_path.iterdir())


def test_scenes_of_a_fraction_leave_the_others_alone(tmp_path):
    """A scene is the same with every fraction that lets it have lanes, or none."""
    for fraction in ("0", "0.5", "1"):
        flags = f"{tmp_path}/{fraction} --count 4 --seed 1 --workers 1 --empty-fraction {fraction}"
        main(flags.split())
    none, some, every = (files_of(tmp_path / fraction) for fraction in ("0", "0.5", "1"))
    images = [name for name in none if name.endswith(".jpg")]
    same = [some[name] == none[name] for name in images]
    assert 0 < sum(same) < len(images) and not any(none[name] == every[name] for name in images)
    assert all(some[name] == (none if kept else every)[name] for name, kept in zip(images, same, strict=True))
    for fraction, expected in (("0", [True] * 4), ("0.5", same), ("1", [False] * 4)):
        assert [bool(line["lanes"]) for line in read_lines(tmp_path / fraction)] == expected
