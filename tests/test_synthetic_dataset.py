"""The command that renders data sets, end to end, and its errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_road_scenes import flat_label

from data import synthetic_dataset, tusimple_dataset_processing
from data.road.geometry import HEIGHT, WIDTH
from data.road.label import H_SAMPLES
from data.road.rendering import render_scene
from data.synthetic_dataset import main


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_command_writes_a_tusimple_folder_whatever_the_workers(tmp_path):
    for workers in ("1", "2"):
        main([str(tmp_path / workers), "--count", "2", "--seed", "7", "--workers", workers])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    clips, bad = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 2 and not bad
    for path, label in clips:
        assert cv2.imread(str(path)).shape == (720, 1280, 3)
        assert path.name == "20.jpg" and Path(label["raw_file"]).parts[0] == "clips"
    assert len({path.read_bytes() for path, _ in clips}) == 2


def test_command_with_geometry_and_images_only(tmp_path):
    given = [{"raw_file": f"{i}", **flat_label(H_SAMPLES, first_row=260 + 10 * i)} for i in range(3)]
    (tmp_path / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    flags = ["--geometry", str(tmp_path / "label_data_a.json"), "--workers", "1", "--other-cameras", "0"]
    main([str(tmp_path / "set"), "--count", "3", *flags])
    written = [json.loads(line) for line in (tmp_path / "set" / "label_data_synthetic.json").read_text().splitlines()]
    assert sorted(line["lanes"] for line in written) == sorted(line["lanes"] for line in given)
    assert [line["raw_file"] for line in written] == [f"clips/synthetic/{i:06d}/20.jpg" for i in range(3)]

    main([str(tmp_path / "plain"), "--count", "1", "--seed", "3", "--images-only", *flags[2:]])
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["0000.jpg"]
    image = cv2.imread(str(tmp_path / "plain" / "0000.jpg"))[..., ::-1].astype(float)
    assert np.abs(image - render_scene(np.random.default_rng([3, 0]))[0]).mean() < 4  # but for the JPEG


def test_command_paints_traffic_on_labeled_images(tmp_path):
    """Labels and images are those given, but for the cars; the same for any number of workers."""
    given, source = [], tmp_path / "given"
    for i, gray in enumerate((90, 120)):
        path = source / f"clips/{i}/20.jpg"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((720, 1280, 3), gray, np.uint8))
        given.append({"raw_file": f"clips/{i}/20.jpg", **flat_label(H_SAMPLES, first_row=260 + 10 * i)})
    (source / "label_data_a.json").write_text("".join(json.dumps(line) + "\n" for line in given))
    for workers in ("1", "2"):
        main([str(tmp_path / workers), "--count", "8", "--traffic-on", str(source), "--workers", workers])
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    clips, bad = tusimple_dataset_processing.find_clips([tmp_path / "1"])
    assert len(clips) == 8 and not bad
    assert sorted(label["lanes"] for _, label in clips) == sorted(4 * [line["lanes"] for line in given])
    fractions = []
    for path, label in clips:
        gray = 90 if label["lanes"] == given[0]["lanes"] else 120
        changed = np.abs(cv2.imread(str(path)).astype(int) - gray).max(-1) > 12  # but for the JPEG
        fractions.append(changed.mean())
    assert 0.01 < np.mean(fractions) < 0.3 and len(set(fractions)) > 4


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["new", "--count", "0"], ["--count: found 0", "at least 1"]),
        (["new", "--seed", "-1"], ["--seed: found -1"]),
        (["new", "--workers", "0"], ["--workers: found 0"]),
        (["full"], ["full: found a folder with files", "new or empty"]),
        (["full/file/new", "--count", "1"], ["full/file", "Not a directory"]),
        (["new", "--geometry", "absent.json"], ["absent.json: No such file"]),
        (["new", "--geometry", "good.json", "broken.json"], ["broken.json:2: found no JSON"]),
        (["new", "--geometry", "uneven.json"], ["uneven.json:1: found a lane of 2 points", "(56)"]),
        (["new", "--geometry", "falling.json"], ["falling.json:1: ", "h_samples to be rising"]),
        (["new", "--geometry", "empty.json"], ["empty.json: found no lane of two points"]),
        (["new", "--geometry", "full"], ["full: Is a directory"]),
        (["new", "--traffic-on", "absent"], ["absent: no such folder"]),
        (["new", "--traffic-on", "full"], ["full: no label_data*.json"]),
        (["new", "--traffic-on", "imageless"], ["label_data_a.json:1: no file"]),
        (["new", "--traffic-on", "laneless"], ["laneless: found no lane of two points"]),
        (["new", "--traffic-on", "small"], ["small/a: found 64x48 pixels, expected 1280x720"]),
        (["new", "--geometry", "sky.json"], ["sky.json:1: found rows 0 to 719", "lanes from row 10 on"]),
        (["new", "--traffic-on", "cut"], ["cut/a: damaged, no end of the jpg"]),
        (["new", "--traffic-on", "torn"], ["torn/a: could not be decoded"]),
        (["new", "--traffic-on", "small", "--geometry", "good.json"], ["--traffic-on: found --geometry too"]),
        (["new", "--traffic-on", "small", "--empty-fraction", "0.5"], ["--traffic-on: found --empty-fraction too"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("new", "full", "full/file/new") else "",
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, flags, parts):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/file").write_text("x")
    good = json.dumps({"raw_file": "a", **flat_label(H_SAMPLES)})
    Path("good.json").write_text(good + "\n")
    Path("broken.json").write_text(good + "\n" + good[:40] + "\n")
    Path("uneven.json").write_text(json.dumps({"raw_file": "a", "lanes": [[1, 2]], "h_samples": H_SAMPLES}))
    Path("falling.json").write_text(json.dumps({"raw_file": "a", "lanes": [[1, 2]], "h_samples": [300, 290]}))
    Path("sky.json").write_text(json.dumps({"raw_file": "a", "lanes": [[600, 500]], "h_samples": [0, 719]}))
    Path("empty.json").write_text(json.dumps({"raw_file": "a", "lanes": [], "h_samples": H_SAMPLES}) + "\n\n")
    for folder, image, line in (
        ("imageless", None, good),
        ("laneless", b"x", Path("empty.json").read_text()),
        ("small", cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes(), good),
        ("cut", cv2.imencode(".jpg", np.full((720, 1280, 3), 99, np.uint8))[1].tobytes()[:5000], good),
        ("torn", b"x", good),
    ):
        Path(folder).mkdir()
        Path(folder, "label_data_a.json").write_text(line)
        if image:
            Path(folder, "a").write_bytes(image)
    before = files_of(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(flags)
    *bar, message, end = capsys.readouterr().err.split("\n")
    assert stop.value.code == 2 and not end
    assert message.startswith("synthetic_dataset.py: error: ")
    # an image is read when its turn comes; argparse shows the usage before its line
    assert all(line.startswith(("\rrendering: ", "usage: ", "    ")) for line in bar)
    assert all(part in message for part in parts), message
    assert files_of(tmp_path) == before and not Path("new").exists()


def test_interrupt_leaves_nothing(tmp_path, monkeypatch, capsys):
    calls = []

    def interrupted(rng, geometry=None, empty=False, other=False):
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


def test_scenes_of_other_cameras_leave_the_others_alone(tmp_path):
    """A scene is the same with every fraction that makes it one of TuSimple's camera, or of another."""
    for fraction in ("0", "0.5", "1"):
        main([str(tmp_path / fraction), "--count", "4", "--seed", "2", "--workers", "1", "--other-cameras", fraction])
    none, some, every = (files_of(tmp_path / fraction) for fraction in ("0", "0.5", "1"))
    images = [name for name in none if name.endswith(".jpg")]
    same = [some[name] == none[name] for name in images]
    assert 0 < sum(same) < len(images) and not any(none[name] == every[name] for name in images)
    assert all(some[name] == (none if kept else every)[name] for name, kept in zip(images, same, strict=True))


def test_empty_scenes_have_no_lane_and_leave_the_others_alone(tmp_path):
    """With --empty-fraction some images have no lane; they come in every kind, and the rest are the same images."""
    for name, fraction in (("none", "0"), ("some", "0.5"), ("all", "1")):
        main([str(tmp_path / name), "--count", "5", "--seed", "3", "--workers", "1", "--empty-fraction", fraction])
    lines = {
        name: [json.loads(t) for t in (tmp_path / name / "label_data_synthetic.json").read_text().splitlines()]
        for name in ("none", "some", "all")
    }
    assert all(line["lanes"] for line in lines["none"]) and not any(line["lanes"] for line in lines["all"])
    kept = [i for i, line in enumerate(lines["some"]) if line["lanes"]]
    assert 0 < len(kept) < 5
    for i in kept:
        one, other = (tmp_path / name / lines["none"][i]["raw_file"] for name in ("none", "some"))
        assert one.read_bytes() == other.read_bytes() and lines["none"][i] == lines["some"][i]
