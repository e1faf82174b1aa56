"""The command that renders data sets, end to end, and its errors."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def test_frames_of_a_drive(tmp_path, monkeypatch):
    """Names that sort as the frames come; every frame of a scene begins with the same random state."""
    rendered = []

    def quick(rng, empty, frame):
        rendered.append((rng.integers(1000), frame))
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8), {"lanes": [], "h_samples": H_SAMPLES}

    monkeypatch.setattr(synthetic_dataset, "render_scene", quick)
    main(f"{tmp_path}/set --count 2 --frames 82 --workers 1".split())
    names = [line["raw_file"] for line in read_lines(tmp_path / "set")]
    assert names == sorted(names) == [name for name in files_of(tmp_path / "set") if name.endswith("jpg")]
    assert [frame for _, frame in rendered] == [*range(82)] * 2
    assert [len({state for state, _ in scene}) for scene in (rendered[:82], rendered[82:], rendered)] == [1, 1, 2]


def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["file/new"])
    *_, error, end = capsys.readouterr().err.split("\n")
    assert stop.value.code == 2 and error.startswith("synthetic_dataset.py: error: ") and not end
    assert "file" in error and os.listdir() == ["file"]


def test_an_empty_fraction_leaves_the_other_scenes_alone(tmp_path):
    for fraction in ("0", "0.5"):
        main(f"{tmp_path}/{fraction} --count 4 --seed 1 --workers 1 --empty-fraction {fraction}".split())
    none, some = files_of(tmp_path / "0"), files_of(tmp_path / "0.5")
    kept = [bool(line["lanes"]) for line in read_lines(tmp_path / "0.5")]
    assert 0 < sum(kept) < 4 and all(line["lanes"] for line in read_lines(tmp_path / "0"))
    assert [some[name] == none[name] for name in none if name.endswith(".jpg")] == kept
