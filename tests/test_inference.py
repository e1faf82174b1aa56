"""The inference command on drawn, rendered and real images."""

import gc
import json
import threading
import tracemalloc
from argparse import Namespace
from dataclasses import astuple
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from conftest import ctrl_c, draw_scene, miniature, save_miniature, two_lines
from damage import write_frames

import inference
import utils
from datagenerator import read_image
from lanes.tusimple import PREDICTION_KEYS, h_samples, read_labels
from pipeline import outputs, segmentation, stages
from run.command import UserError


def painted_ids(image, result):
    """Number of colors of at least 20 pixels each that are painted over an image, and the painted mask."""
    change = result.astype(int) - image
    mask = (change != 0).any(axis=2)
    # the overlay adds 0.3 of the color, so the change tells the color except where it saturates
    colors, counts = np.unique(change[mask], axis=0, return_counts=True)
    return len(colors[counts >= 20]), mask


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(5)
    folder = tmp_path / "my images"
    folder.mkdir()
    for name, size in (("b.jpg", (96, 160)), ("a.PNG", (96, 160)), ("ü 3.jpeg", (200, 333)), ("d.bmp", (720, 1280))):
        scene, _ = draw_scene(rng)
        cv2.imwrite(str(folder / name), cv2.resize(scene, size[::-1]))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_every_image_is_painted_at_its_own_size(tiny_run, images, tmp_path, capsys):
    for method in ("fast", "sklearn"):
        flags = f"--modeldir {tiny_run} --outdir {tmp_path / method} --cluster {method} --indir"
        inference.main([*flags.split(), str(images)])
    results, others = (sorted((tmp_path / method).iterdir()) for method in ("fast", "sklearn"))
    assert [p.name for p in results] == [f"cluster_{i:04d}.png" for i in range(4)]
    for path, *result in zip(sorted(p for p in images.iterdir() if p.suffix != ".txt"), results, others, strict=True):
        image, painted, other = map(read_image, (path, *result))
        assert painted.shape == image.shape and (painted != other).any(axis=2).mean() < 0.01
        ids, mask = painted_ids(image, painted)
        assert ids >= 2 and 0.005 < mask.mean() < 0.35
    assert "4 images in" in capsys.readouterr().out


class Stub(segmentation.Network):
    """Two lines of another embedding, the same in every image."""

    view, min_pixels, outputs, classes = segmentation.STRETCH, 3, ("embedding", "semantic"), {}

    def __init__(self):
        lanes = np.zeros((64, 96, 1), np.float32)
        lanes[20:, 30:33], lanes[20:, 60:63] = 1, 2
        self.prediction = {"embedding": 5 * lanes, "semantic": 9 * (lanes > 0) - 4.5}

    def predict(self, image):
        return self.prediction


PARTS = {
    "paint_instances": {"overlay"},
    "draw_lanes": {"lanes"},
    "fit_lanes": {"lanes", "json"},
    "lane_scores": {"json"},
    "find_instances": {"overlay", "lanes", "json"},
}


@pytest.mark.parametrize("wanted", ["overlay", "lanes", "semantic", "embedding", "json"])
def test_what_is_not_written_is_not_computed(wanted, tiny_data, tmp_path, monkeypatch):
    mocks, load = {}, Mock(return_value=Stub())
    monkeypatch.setattr(segmentation, "load_network", load)
    for name in PARTS:
        modules = inference, inference.visualization, segmentation
        module = next(module for module in modules if hasattr(module, name))
        mocks[name] = Mock(wraps=getattr(module, name))
        monkeypatch.setattr(module, name, mocks[name])
    save = f"--save none --json {tmp_path / 'l.json'}" if wanted == "json" else f"--save {wanted}"
    inference.main(f"--indir {tiny_data / 'images'} --outdir {tmp_path / 'out'} {save} --size 128 160 --jit".split())
    load.assert_called_once_with("trained_model", [128, 160], True, threads=1, int8=False)
    assert all(mock.called == (wanted in PARTS[name]) for name, mock in mocks.items())
    written = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {".json" if wanted == "json" else ".png"}


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "load_network", lambda *_, **more: Stub())
    write_frames(tmp_path / "a.mp4", 2000 * [np.zeros((96, 160, 3), np.uint8)])
    held, finish = [], inference.finish_frame

    def measure(frame, *others):
        finish(frame, *others)
        if frame.raw_file in ("a.mp4/000200", "a.mp4/001999"):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(inference, "finish_frame", measure)
    flags = f"--video {tmp_path / 'a.mp4'} --outdir {tmp_path / 'out'} --save overlay,lanes --json {tmp_path / 'l'}"
    tracemalloc.start()
    try:
        inference.main(flags.split())
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 20 * 3 * 96 * 160  # of 1,800 frames


def test_every_kind_of_output(tiny_run, images, tmp_path, monkeypatch):
    """Against the network's own output, TuSimple lines in each image's own rows and pixels."""
    monkeypatch.setattr(inference, "fit_lanes", two_lines)
    flags = f"--modeldir {tiny_run} --outdir {tmp_path / 'out'} --json {tmp_path / 'out/lanes.json'} --save "
    flags += "overlay,labels,semantic,embedding,lanes,instances.json,instances.csv --indir"
    inference.main([*flags.split(), str(images)])
    lines = [json.loads(line) for line in (tmp_path / "out/lanes.json").read_text().splitlines()]
    assert [line["raw_file"] for line in lines] == ["a.PNG", "b.jpg", "d.bmp", "ü 3.jpeg"]
    assert lines[2]["h_samples"] == list(range(160, 720, 10)) and h_samples(1080) == list(range(240, 1080, 10))
    assert all(line["run_time"] > 0 for line in lines) and len(lines[2]["lanes"]) == 2

    def output(kind):
        return cv2.imread(str(tmp_path / f"out/{kind}_0002.png"), cv2.IMREAD_UNCHANGED)

    image = read_image(images / "d.bmp")
    change = output("lanes")[:, :, ::-1].astype(int) - image
    for lane in lines[2]["lanes"]:
        inside = [(x, y) for x, y in zip(lane, lines[2]["h_samples"], strict=True) if x >= 0]
        assert all(change[y, x].any() for x, y in inside)

    network, args = segmentation.Network(utils.load_model(tiny_run)), inference.parse_args(["-m", str(tiny_run)])
    _, label_map = segmentation.segment_outputs(network, image, segmentation.read_settings(args))
    labels = output("labels")
    assert labels.dtype == np.uint16 and labels.shape == (720, 1280)
    # network pixel (r, c) shows the image's rows around 720 (r + 0.5) / 64
    rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in ((64, 720), (96, 1280)))
    at = np.ix_(rows.astype(int), columns.astype(int))
    assert (labels[at] != label_map).mean() < 0.002  # folded batch norm may move a pixel on the threshold
    painted = (output("cluster")[:, :, ::-1] != image).any(axis=2)
    assert (painted[at] != (label_map > 0)).mean() < 0.01
    logits = network.predict(image)["semantic"][:, :, 0]
    probability = output("semantic")
    assert probability.shape == (720, 1280) and probability.dtype == np.uint8
    assert np.abs(probability[at] / 255 - 1 / (1 + np.exp(-logits.astype(float)))).mean() < 0.02
    color = output("embedding").astype(float)
    means = np.array([color[labels == i].mean(axis=0) for i in np.unique(labels)])
    assert color.shape == (720, 1280, 3)
    assert min(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]) > 5
    coco = json.loads((tmp_path / "out/instances.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [line["raw_file"] for line in lines]
    found = [(one["area"], one["score"]) for one in coco["annotations"] if one["image_id"] == 3]
    assert found == list(zip(np.bincount(labels.ravel())[1:], lines[2]["instance_scores"], strict=True))
    assert len((tmp_path / "out/instances.csv").read_text().splitlines()) == 1 + len(coco["annotations"])


def test_names_and_folders(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene, _ = draw_scene(np.random.default_rng(3))
    for name in ("in/a.JPG", "in/a.png", "in/sub dir/Ä.webp", "in/.hidden.png", "in/[1].bmp", "other/a.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(cv2.imencode(Path(name).suffix.lower(), scene)[1].tobytes())
    command = ["--modeldir", str(tiny_run), "--keep-names", "--outdir", "out", "--json", "lanes.json", "-r", "--indir"]
    inference.main([*command, "in", "other/a.png", "in/a.png", "in/[1].bmp"])
    found = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert found == ["[1]_cluster.png", "a-2_cluster.png", "a-3_cluster.png", "a_cluster.png", "sub dir/Ä_cluster.png"]
    names = [json.loads(line)["raw_file"] for line in Path("lanes.json").read_text().splitlines()]
    assert names == ["[1].bmp", "a.JPG", "in/a.png", "sub dir/Ä.webp", "other/a.png"]


def test_long_names_are_cut(tmp_path):
    files = outputs.name_outputs([Path("d", "ä" * 120 + end) for end in (".png", ".jpg")], tmp_path, ["overlay"], True)
    assert [file["overlay"].relative_to(tmp_path).as_posix() for file in files] == [
        f"d/{'ä' * 100}{again}_cluster.png" for again in ("", "-2")
    ]


def test_what_a_source_stands_for(tmp_path, monkeypatch):
    def find(source, recursive=False):
        return [path.as_posix() for path, _ in outputs.find_images([source], recursive)]

    monkeypatch.chdir(tmp_path)
    for name in ("d/b.PNG", "d/a.jpeg", "d/c.txt", "d/e/f.bmp", "d/e/.g.bmp", "d/.h/i.bmp"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("d/folder.jpg").mkdir()
    assert find("d") == ["d/a.jpeg", "d/b.PNG"]
    assert find("d", recursive=True) == ["d/a.jpeg", "d/b.PNG", "d/e/f.bmp"]
    assert find("d/c.txt") == ["d/c.txt"]
    assert outputs.find_images(["d/c.txt"])[0][1].as_posix() == "c.txt"
    Path("linked").mkdir()
    for link in ("d", "round"):
        Path("linked", link).symlink_to(Path("d" if link == "d" else "linked").resolve(), target_is_directory=True)
    assert find("linked", recursive=True) == [f"linked/d/{name}" for name in ("a.jpeg", "b.PNG", "e/f.bmp")]
    for nothing in ("d/folder.jpg", "nowhere.png"):
        with pytest.raises((UserError, OSError), match="found no|No such"):
            find(nothing)


def test_everything_that_opencv_reads_is_taken(tmp_path, capsys):
    scene = cv2.GaussianBlur(draw_scene(np.random.default_rng(2))[0], (0, 0), 2)
    gray = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    images = dict.fromkeys("a.jpg b.tif c.avif d.gif e.jfif f.TIFF g.jp2 i.ppm j.dib k.jpe l.png m.BMP".split(), scene)
    images |= {"h.pbm": gray, "n.png": gray, "o.png": gray.astype(np.uint16) * 257}
    images |= {name: np.dstack([scene, np.full_like(gray, 7)]) for name in ("p.png", "q.webp")}
    for name, image in images.items():
        data = cv2.imencode(Path(name).suffix.lower().replace("jfif", "jpg"), image)[1].tobytes()
        (tmp_path / name).write_bytes(data)
    for name in ("notes.txt", "more.txt", "README", "._a.jpg", ".DS_Store"):
        (tmp_path / name).write_bytes(b"no image")
    found = outputs.find_images([tmp_path])
    assert [path.name for path, _ in found] == sorted(images)
    for path, name in found:
        read, expected = read_image(path), np.dstack([gray] * 3) if name.name in "n.png o.png" else scene[:, :, ::-1]
        assert read.dtype == np.uint8 and read.shape == scene.shape, name
        if path.suffix not in (".gif", ".pbm"):  # of few colors
            assert np.abs(read.astype(int) - expected).mean() < 1.2, name
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}: 3 files left out, as README")


def test_a_cut_jpg_with_a_thumbnail_is_noticed(tmp_path):
    """The thumbnail in its EXIF data has an end; bytes after the image's end do no harm."""
    scene, path = draw_scene(np.random.default_rng(2))[0], tmp_path / "a.jpg"
    data, thumbnail = (cv2.imencode(".jpg", scene[::step, ::step])[1].tobytes() for step in (1, 4))
    data = data[:2] + b"\xff\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail + data[2:]
    path.write_bytes(data + b"maker's notes")
    assert read_image(path).shape == scene.shape
    path.write_bytes(data[:-2])
    with pytest.raises(UserError, match="a.jpg: (damaged|cut off|could not be decoded)"):
        read_image(path)


def test_the_fewest_pixels_are_those_of_the_config(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    config = utils.read_config(save_miniature(tmp_path))
    assert segmentation.load_network(tmp_path).min_pixels is None
    # as training found in the labels
    utils.write_json(tmp_path / "config.json", {**config, "min_pixels": 9.5, "min_width": 5})
    networks = [segmentation.load_network(tmp_path, size) for size in (None, (128, 192))]
    assert {(network.min_pixels, network.min_width) for network in networks} == {(9.5, 5)}
    utils.write_json(tmp_path / "config.json", {**config, "min_pixels": "few"})
    with pytest.raises(UserError, match="few"):
        segmentation.load_network(tmp_path)


def test_limits_of_probability_are_those_of_the_config_or_the_flag(tmp_path):
    config = utils.read_config(save_miniature(tmp_path))
    utils.write_json(tmp_path / "config.json", {**config, "confidence": 0.8, "image_confidence": 0.84})
    args = Namespace(modeldir=tmp_path, bandwidth=None, threshold=None, cluster=None, confidence=None)
    assert astuple(segmentation.read_settings(args))[-2:] == (0.8, 0.84)
    args.confidence = 0.6
    assert astuple(segmentation.read_settings(args))[-2:] == (0.6, 0.0)  # of each instance, whatever the image's best
    utils.write_json(tmp_path / "config.json", {**config, "image_confidence": 1.5})
    args.confidence = None
    with pytest.raises(UserError, match="image_confidence: found 1.5, expected a number from 0 to below 1"):
        segmentation.read_settings(args)


PIECES = """
    11111.....  11111.....
    13111222..  11111222..
    11111.22..  11111.22..
    4441..222.  4441..222.
    4444....1.  4444......
    33........  33........
    333....5..  333.......
"""


def test_small_pieces_go_to_what_they_touch_most():
    rows = PIECES.replace(".", "0").split()
    before, expected = (np.array([list(row) for row in part]).astype(np.int32) for part in (rows[::2], rows[1::2]))
    merged = segmentation.merge_pieces(before, 3)
    assert merged.dtype == np.int32
    np.testing.assert_array_equal(merged, np.array([0, 1, 2, 4, 3])[expected])  # numbered by size
    assert not segmentation.merge_pieces(np.eye(2, dtype=np.int32), 3).any()  # nothing to touch but background
    assert (segmentation.merge_pieces(np.ones((1, 2), np.int32), 3) == 0).all()  # nor that


def test_seams_go_to_what_they_touch_most():
    """A strip of 2x9 pixels between squares, of which the left one touches all of it."""
    before = np.zeros((9, 12), np.int32)
    before[:, :4], before[:, 4:6], before[3:, 6:] = 1, 3, 2
    merged = segmentation.merge_pieces(before, 3, min_width=3)
    np.testing.assert_array_equal(merged, np.where(before == 3, 1, before))
    np.testing.assert_array_equal(segmentation.merge_pieces(before, 3, min_width=2), np.array([0, 1, 2, 3])[before])


@pytest.mark.parametrize(("min_pixels", "pieces"), [(None, 2), (8, 1)])
def test_only_what_is_no_lane_loses_its_pieces(min_pixels, pieces):
    network = segmentation.Network(miniature({"input_shape": [64, 96, 3]}), min_pixels=min_pixels)
    mask = np.zeros((64, 96, 1), np.float32)
    mask[10:20, 10:20] = mask[40:42, 60:62] = 1
    found = network.find_instances({"embedding": np.zeros((64, 96, 2)), "semantic": 20 * mask - 10})
    assert cv2.connectedComponents(np.uint8(found))[0] - 1 == pieces and found[15, 15] == 1


def test_frames_are_worked_on_at_the_same_time_in_order_and_bounded():
    """Four calls wait for each other; no item is taken far ahead."""
    taken, ahead, meeting = [], [], threading.Barrier(4, timeout=60)

    def items():
        for i in range(32):
            taken.append(i)
            yield i

    def process(value):
        meeting.wait()
        return value + 1

    for count, result in enumerate(stages.map_ahead(process, items(), 4), start=1):
        assert result == count
        ahead.append(len(taken) - count)
    assert len(ahead) == 32 and max(ahead) <= 4


def pool_threads():
    return [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]


def test_an_error_ends_all_threads():
    with pytest.raises(ZeroDivisionError):
        list(stages.map_ahead(lambda value: 1 / (3 - value), range(100), 3))
    assert not pool_threads()


def test_ctrl_c_keeps_what_is_done(tiny_run, tiny_data, tmp_path, capsys):
    for i in range(400):
        (tmp_path / f"{i:03d}.png").symlink_to(tiny_data / f"images/000{i % 8}.png")
    command = f"--modeldir {tiny_run} --indir {tmp_path} --outdir {tmp_path / 'out'} --json {tmp_path / 'lanes'}"
    with ctrl_c(lambda: len(list((tmp_path / "out").glob("[!.]*"))) >= 5):
        inference.main(command.split())
    assert not pool_threads() and not list(tmp_path.rglob(".*"))
    assert "interrupted" in capsys.readouterr().err.splitlines()[-1]
    results = sorted((tmp_path / "out").iterdir())
    lines = [json.loads(line)["raw_file"] for line in (tmp_path / "lanes").read_text().splitlines()]
    assert [path.name for path in results] == [f"cluster_{i:04d}.png" for i in range(len(results))]
    assert 5 <= len(results) < 400 and len(results) - 8 <= len(lines) <= len(results)
    assert lines == [f"{i:03d}.png" for i in range(len(lines))]
    assert all(read_image(path).shape == (96, 160, 3) for path in results)


def test_lines_have_scores_and_defaults_are_found_from_anywhere(tmp_path, monkeypatch):
    """The shipped model on the shipped images, started in another folder."""
    monkeypatch.chdir(tmp_path)
    inference.main("--outdir out --save labels --json lanes.json".split())
    lines = read_labels("lanes.json", PREDICTION_KEYS)
    assert [line["raw_file"] for line in lines] == [f"{i:04d}.jpg" for i in range(len(lines))] and len(lines) > 3
    for number, line in enumerate(lines):
        labels = cv2.imread(f"out/labels_{number:04d}.png", cv2.IMREAD_UNCHANGED)
        assert len(line["scores"]) == len(line["lanes"]) and len(line["instance_scores"]) == labels.max() > 1
        assert 0.8 <= min(line["instance_scores"]) and max(line["instance_scores"]) <= 1  # the model drops others
        assert 0.7 / 4 < min(line["scores"]) and max(line["scores"]) <= 1  # at least a fourth of the rows are seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lanes.json", "out"]


def test_without_semantic_head_all_pixels_are_clustered(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    save_miniature(tmp_path / "model", semantic=False)
    image, _ = draw_scene(np.random.default_rng(1))
    _, label_map = segmentation.segment_outputs(segmentation.load_network(tmp_path / "model"), image)
    sizes = np.bincount(label_map.ravel())
    assert sizes[0] == sizes.max()  # the largest cluster is the background
