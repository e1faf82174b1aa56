"""The command that renders data sets, end to end, and its errors."""

import json
import os
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
    clips = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 2
    images = [cv2.imread(str(path))[..., ::-1].astype(float) for path, _ in clips]
    for number, (image, (_, label)) in enumerate(zip(images, clips, strict=True)):
        rendered, expected = render_scene(np.random.default_rng([7, number]))
        assert image.shape == (720, 1280, 3) and np.abs(image - rendered).mean() < 4  # but for the JPEG
        assert label == {"raw_file": f"clips/synthetic/{number:06d}/20.jpg", **expected}
    assert np.abs(images[0] - images[1]).mean() > 5


def test_command_with_geometry(tmp_path):
    given = [{"raw_file": f"{i}", **flat_label(H_SAMPLES, first_row=260 + 10 * i)} for i in range(3)]
    (tmp_path / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    main(f"{tmp_path}/set --count 3 --geometry {tmp_path}/label_data_a.json --workers 1".split())
    written = read_lines(tmp_path / "set")
    assert sorted(line["lanes"] for line in written) == sorted(line["lanes"] for line in given)


def test_frames_of_a_drive(tmp_path, monkeypatch):
    """Names that sort as the frames come; every frame of a scene begins with the same random state."""
    rendered = []

    def quick(rng, geometry, empty, frame):
        rendered.append((rng.integers(1000), frame))
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8), {"lanes": [], "h_samples": H_SAMPLES}

    monkeypatch.setattr(synthetic_dataset, "render_scene", quick)
    main(f"{tmp_path}/set --count 2 --frames 82 --workers 1".split())
    names = [line["raw_file"] for line in read_lines(tmp_path / "set")]
    assert names == sorted(names) == [name for name in files_of(tmp_path / "set") if name.endswith("jpg")]
    assert [frame for _, frame in rendered] == [*range(82)] * 2
    assert [len({state for state, _ in scene}) for scene in (rendered[:82], rendered[82:], rendered)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("flags", "change", "message"),
    [
        ("new --count 0", {}, "--count: found 0"),
        ("g.json/new", {}, "g.json"),
        ("new --geometry g.json --frames 2", {}, "--frames 2: found --geometry"),
        ("new --geometry g.json", {"lanes": []}, "g.json: found no lane of two points"),
        ("new --geometry g.json", {"lanes": [[1, 2]], "h_samples": [300, 290]}, "h_samples to be rising"),
        ("new --geometry g.json", {"lanes": [[6, 5]], "h_samples": [0, 719]}, "g.json:1: found rows 0 to 719"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, flags, change, message):
    monkeypatch.chdir(tmp_path)
    Path("g.json").write_text(json.dumps({"raw_file": "a", **flat_label(H_SAMPLES), **change}))
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    *_, error, end = capsys.readouterr().err.split("\n")
    assert stop.value.code == 2 and error.startswith("synthetic_dataset.py: error: ") and not end
    assert message in error
    assert os.listdir() == ["g.json"]


def test_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(lines):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_dataset, "format_lines", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(f"{tmp_path}/new --count 1 --workers 1".split())
    assert stop.value.code == 130
    assert capsys.readouterr().err.endswith("synthetic_dataset.py: interrupted, nothing written\n")
    assert not list(tmp_path.iterdir())


def test_scenes_of_a_fraction_leave_the_others_alone(tmp_path):
    """A scene is the same with every fraction that lets it have lanes."""
    for fraction in ("0", "0.5", "1"):
        main(f"{tmp_path}/{fraction} --count 4 --seed 1 --workers 1 --empty-fraction {fraction}".split())
    none, some, every = (files_of(tmp_path / fraction) for fraction in ("0", "0.5", "1"))
    images = [name for name in none if name.endswith(".jpg")]
    same = [some[name] == none[name] for name in images]
    assert 0 < sum(same) < len(images) and not any(none[name] == every[name] for name in images)
    assert all(some[name] == (none if kept else every)[name] for name, kept in zip(images, same, strict=True))
    for fraction, expected in (("0", [True] * 4), ("0.5", same), ("1", [False] * 4)):
        assert [bool(line["lanes"]) for line in read_lines(tmp_path / fraction)] == expected
