"""The inference command on drawn, rendered and real pictures."""

import json

import cv2
import numpy as np
import pytest
from conftest import ROOT, draw_scene

import inference
import utils
from datagenerator import read_picture


def painted_ids(picture, result):
    """Number of colors painted over a picture that still stand for at least 20 pixels each, and the painted mask."""
    change = result.astype(int) - picture
    mask = (change != 0).any(axis=2)
    # the overlay adds 0.3 of the color, so the change tells the color except where it saturates
    colors, counts = np.unique(change[mask], axis=0, return_counts=True)
    return len(colors[counts >= 20]), mask


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(5)
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for name, size in (("b.jpg", (96, 160)), ("a.PNG", (96, 160)), ("ü 3.jpeg", (200, 333)), ("d.bmp", (720, 1280))):
        scene, _ = draw_scene(rng)
        cv2.imwrite(str(folder / name), cv2.resize(scene, size[::-1]))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_every_picture_is_painted_at_its_own_size(tiny_run, pictures, tmp_path, capsys):
    inference.main(f"--modeldir {tiny_run} --outdir {tmp_path / 'out'} --indir".split() + [str(pictures)])
    results = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in results] == [f"cluster_{i:04d}.png" for i in range(4)]
    for path, result in zip(sorted(p for p in pictures.iterdir() if p.suffix != ".txt"), results, strict=True):
        picture, painted = read_picture(path), read_picture(result)
        assert painted.shape == picture.shape
        ids, mask = painted_ids(picture, painted)
        assert ids >= 2 and 0.005 < mask.mean() < 0.35
    printed = capsys.readouterr().out
    for name in ("network", "cluster", "total"):
        assert f"mean {name} time:" in printed and "fps" in printed


def test_instances_are_the_drawn_lines(tiny_run):
    """On a scene of the training set every line is its own instance and little else is."""
    picture, label = draw_scene(np.random.default_rng(0))
    label_map, seconds = inference.segment(utils.load_model(tiny_run), picture[:, :, ::-1])
    label = cv2.resize(label, (96, 64), interpolation=cv2.INTER_NEAREST)
    assert label_map.shape == (64, 96) and label_map.dtype == np.int32 and set(seconds) == {"network", "cluster"}
    owners = set()
    for lane in np.unique(label)[1:]:
        inside = label_map[label == lane]
        owner = np.bincount(inside[inside > 0]).argmax()
        assert (inside == owner).mean() > 0.6
        owners.add(owner)
    assert len(owners) == 3


def test_scikit_learn_gives_the_same_picture(tiny_run, pictures, tmp_path):
    for method in ("fast", "sklearn"):
        more = ["--indir", str(pictures), "--cluster", method]
        inference.main(f"--modeldir {tiny_run} --outdir {tmp_path / method}".split() + more)
    for a, b in zip(sorted((tmp_path / "fast").iterdir()), sorted((tmp_path / "sklearn").iterdir()), strict=True):
        assert (read_picture(a) != read_picture(b)).any(axis=2).mean() < 0.01


def test_json_and_curves(tiny_run, pictures, tmp_path):
    """TuSimple lines in each picture's own rows and pixels; the painted curves run through them."""
    more = ["--indir", str(pictures), "--draw", "lanes", "--json", str(tmp_path / "lanes.json")]
    inference.main(f"--modeldir {tiny_run} --outdir {tmp_path / 'out'}".split() + more)
    lines = [json.loads(line) for line in (tmp_path / "lanes.json").read_text().splitlines()]
    assert [line["raw_file"] for line in lines] == ["a.PNG", "b.jpg", "d.bmp", "ü 3.jpeg"]
    assert lines[2]["h_samples"] == list(range(160, 720, 10))
    assert all(line["run_time"] > 0 for line in lines) and len(lines[2]["lanes"]) >= 2
    change = read_picture(tmp_path / "out/cluster_0002.png").astype(int) - read_picture(pictures / "d.bmp")
    for lane in lines[2]["lanes"]:
        inside = [(x, y) for x, y in zip(lane, lines[2]["h_samples"], strict=True) if x >= 0]
        assert all(change[y, x].any() for x, y in inside)


def test_rows_of_other_heights():
    assert inference.h_samples(720) == list(range(160, 720, 10))
    assert inference.h_samples(1080)[0] == 240 and inference.h_samples(1080)[-1] == 1070


def test_without_semantic_head_all_pixels_are_clustered(tmp_path):
    network = {"input_shape": [64, 96, 3], "semantic": False}
    model = utils.build_model(network)
    utils.save_model(tmp_path / "model", model, {"network": network})
    picture, _ = draw_scene(np.random.default_rng(1))
    label_map, _ = inference.segment(utils.load_model(tmp_path / "model"), picture)
    sizes = np.bincount(label_map.ravel())
    assert sizes[0] == sizes.max()  # the largest cluster is the background


def test_a_diverged_model_is_one_line(tmp_path, tiny_data, capsys):
    network = {"input_shape": [64, 96, 3]}
    model = utils.build_model(network)
    layer = model.get_layer("embedding")
    layer.set_weights([np.full_like(w, np.nan) for w in layer.get_weights()])
    layer = model.get_layer("semantic")
    layer.set_weights([np.zeros_like(layer.get_weights()[0]), np.ones(1)])  # everything is lane
    utils.save_model(tmp_path / "model", model, {"network": network})
    with pytest.raises(SystemExit) as exit_:
        inference.main(
            ["--modeldir", str(tmp_path / "model"), "--indir", str(tiny_data / "images"), "--outdir", str(tmp_path)]
        )
    assert exit_.value.code == 2 and "NaN" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "flags,message",
    [
        ("--indir no_such_folder", "no_such_folder"),
        ("--modeldir no_such_model", "no_such_model"),
        ("--bandwidth 0", "--bandwidth"),
        ("--threshold 1.5", "--threshold"),
        ("--cluster kmeans", "--cluster"),
    ],
)
def test_bad_flags_end_in_one_line(tiny_run, tiny_data, tmp_path, flags, message, capsys):
    base = f"--modeldir {tiny_run} --indir {tiny_data / 'images'} --outdir {tmp_path / 'out'} "
    with pytest.raises(SystemExit) as exit_:
        inference.main((base + flags).split())
    assert exit_.value.code == 2 and message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_empty_and_broken_input(tiny_run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    command = f"--modeldir {tiny_run} --indir {tmp_path / 'in'} --outdir {tmp_path / 'out'}".split()
    for name in (None, "broken.jpg"):
        if name:
            (tmp_path / "in" / name).write_bytes(b"\xff\xd8 no jpg")
        with pytest.raises(SystemExit) as exit_:
            inference.main(command)
        assert exit_.value.code == 2 and str(tmp_path / "in") in capsys.readouterr().err.strip().splitlines()[-1]


def test_shipped_model_on_the_sample_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    inference.main(["--outdir", str(tmp_path)])
    samples = sorted((ROOT / "inference_test/images").iterdir())
    assert len(samples) == 6
    for path, result in zip(samples, sorted(tmp_path.iterdir()), strict=True):
        ids, mask = painted_ids(read_picture(path), read_picture(result))
        assert ids >= 2 and mask.mean() < 0.15


def test_shipped_model_on_an_unseen_drive(shared_data):
    """The two middle lanes of every frame of another drive are separate and continuous instances."""
    folder = shared_data / "tusimple" / "val_set"
    model = utils.load_model(ROOT / "trained_model")
    for line in (folder / "label_data_0601.json").read_text().splitlines():
        label = json.loads(line)
        picture = read_picture(folder / label["raw_file"])
        label_map, _ = inference.segment(model, picture)
        full = cv2.resize(label_map.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        owners = [follow(full, lane, label["h_samples"]) for lane in middle_lanes(label)]
        assert len(owners) == 2 and owners[0] != owners[1], label["raw_file"]


def middle_lanes(label):
    """The lanes left and right of the car: nearest to the middle of the picture at their lowest point."""
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
    """The instance that runs along a lane; fails if it misses more than a fifth of its rows."""
    rows = [(x, y) for x, y in zip(lane, rows, strict=True) if x >= 0]
    near = [np.unique(label_map[y, max(0, x - radius) : x + radius + 1]) for x, y in rows]
    hits = np.bincount(np.concatenate(near))
    owner = 1 + hits[1:].argmax()
    assert hits[owner] / len(rows) >= 0.8
    return owner
