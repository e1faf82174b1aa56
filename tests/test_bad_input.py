"""What users get wrong: one line that names the file or flag, the right exit code, and nothing else touched."""

import importlib
import io
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from annotation_files import write
from conftest import ROOT, draw_scene, full_disk, miniature
from damage import (
    NETWORK,
    colored,
    cut,
    empty,
    flags,
    folder,
    missing,
    network,
    one_byte,
    one_frame,
    other_weights,
    replaced,
    smaller,
    text,
    two_videos,
    without_end,
    written,
    zero_filled,
)

import datagenerator
import inference
import utils
from pipeline import segmentation
from run import command

build_enet = utils.build_model
SIZES = (64, 96, 3), (None, None, 3)  # the fast network's size is open


def build_small(network, *args, **more):
    """A miniature in place of an ENet of `NETWORK`'s kind, which takes long to build."""
    right = network.keys() <= {*NETWORK, "semantic", "embedding_dim"} and tuple(network["input_shape"]) in SIZES
    return miniature(network) if right else build_enet(network, *args, **more)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "build_model", build_small)
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder in which every command would succeed."""
    base = tmp_path_factory.mktemp("good")
    rng, files, lines = np.random.default_rng(0), {}, []
    for name in "012":
        image, label = draw_scene(rng)
        files |= dict.fromkeys((f"pics/{name}.jpg", f"data/images/{name}.png", f"train_set/clips/a/{name}.jpg"), image)
        files |= dict.fromkeys((f"data/labels/{name}.png", f"pred/{name}.png", f"true/{name}.png"), label)
        lines.append({"raw_file": f"clips/a/{name}.jpg", "lanes": [[40, 60]], "h_samples": [70, 80], "run_time": 9})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write(base, files | dict.fromkeys(("pred.json", "gt.json", "train_set/label_data_1.json"), text))
    model = utils.build_model(NETWORK)
    utils.save_model(base / "model", model, {"network": NETWORK})
    model.get_layer("embedding").set_weights([np.full_like(w, np.nan) for w in model.get_layer("embedding").weights])
    semantic = model.get_layer("semantic")
    semantic.set_weights([np.zeros(semantic.weights[0].shape), np.ones(1)])  # everything is lane
    utils.save_model(base / "diverged", model, {"network": NETWORK})
    headless = NETWORK | {"semantic": False}
    utils.save_model(base / "headless", utils.build_model(headless), {"network": headless})
    return base


def snapshot(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


INFER = "inference.py --modeldir model --outdir out --indir "
VIDEO = "inference.py --modeldir model --outdir out --video "
TRAIN = "training.py --modeldir none --outdir out --logdir out/log --image-size 64 96 --steps 1 --srcdir "
SCORE = "evaluation --pred pred.json --gt gt.json "
RUN = "evaluation --modeldir model --srcdir train_set --labels label_data_1.json "
INT8 = "export model out --format tflite --int8 "
PICS, CONFIG = INFER + "pics", "model/config.json"

# command, file and what happens to it if any, what the line must name
CASES = [
    # images of inference.py
    (INFER + "pics/0.jpg", "pics/0.jpg", without_end, "pics/0.jpg"),
    (INFER + "data/images/0.png", "data/images/0.png", one_byte, "0.png"),
    (INFER + "pics/0.jpg", "pics/0.jpg", missing, "pics/0.jpg"),
    (INFER + "pics/0.jpg", "pics/0.jpg", folder, "pics/0.jpg"),
    (INFER + "nowhere", "nowhere"),
    (INFER + "train_set", "train_set"),
    # models
    (PICS, "model/model.keras", missing, "model"),
    (PICS, "model/model.keras", text, "model/model.keras"),
    (PICS, "model/model.keras", other_weights, "model/model.keras"),
    (PICS, CONFIG, missing, CONFIG),
    (PICS, CONFIG, replaced('"network"', '"net"'), CONFIG),
    (PICS, CONFIG, network(input_shape=[60, 90, 3]), "model"),
    (PICS, CONFIG, network(embedding_activation="none such"), "model"),
    (INFER + "pics --modeldir diverged", "NaN"),
    (INFER + "pics --modeldir headless --save semantic", "--save semantic"),
    # outputs and flags of inference.py
    (INFER + "pics --outdir pred.json/out", "pred.json/out"),
    (INFER + "pics --outdir pics", "pics/cluster_0000.png", colored, "cluster_0000.png"),
    (INFER + "pics --outdir . --save instances.json", "instances.json", written(b"{}"), "instances.json: found a"),
    (PICS, CONFIG, replaced('"network"', '"flags": {"dvar": "0.5"}, "network"'), "dvar"),
    (INFER + "pics --json nowhere/lanes.json", "nowhere/lanes.json"),
    (INFER + "pics --save classes", "--save classes: found a model without classes"),
    (INFER + "pics --save none", "--save none"),
    (INFER + "pics --every 2", "--every"),
    # videos
    (VIDEO + "clip.mp4 --from 3", "clip.mp4", one_frame, "--video clip.mp4: found no frame"),
    (VIDEO + "nowhere.mp4 --from 3 --to 3", "--to"),
    (VIDEO + "clip.mp4", "clip.mp4", empty, "clip.mp4"),
    (VIDEO + "97", "--video 97"),
    (VIDEO + "http://user:word@127.0.0.1:9/a.mp4", "--video http://127.0.0.1:9/a.mp4: could not be opened"),
    (VIDEO + "clip.mp4 --outdir .", "clip.mp4", one_frame, "clip.mp4"),
    (VIDEO + "20240105123000", "--video 20240105123000: found no such file"),  # a name without its suffix
    (VIDEO + "²", "--video ²: found no such file"),
    (VIDEO + "clip.avi --outdir .", "clip.avi", two_videos, "clip.mp4: found beside the video"),
    (VIDEO + "pred.json --save labels", "--save"),
    # training.py
    (TRAIN + "data", "data/labels/1.png", missing, "1.png"),
    (TRAIN + "data --valdir data", "data/images/0.png", cut, "images/0.png"),
    (TRAIN + "data --valdir data", "data/labels/0.png", smaller, "labels/0.png"),
    (TRAIN + "data --balance", "data/labels/0.png", cut, "labels/0.png"),
    ("training.py --resume pics", "pics/config.json"),
    ("training.py --resume model", "model/config.json: flags: found none"),
    ("training.py --resume model", CONFIG, flags(image_size=64), "argument --image-size"),
    ("training.py @a.args", "a.args", written("--steps 2".encode("utf-16")), "@FILE: found UnicodeDecodeError"),
    ("training.py @a.args", "a.args", written(b"--outdir o'brien"), "@FILE: found ValueError: No closing"),
    (TRAIN + "data --logdir pred.json/log", "pred.json/log"),
    (TRAIN + "data --outdir pred.json", "pred.json"),
    # evaluation
    (SCORE, "pred.json", missing, "pred.json"),
    (SCORE, "pred.json", text, "pred.json:1"),
    (SCORE + "--threshold 0.5", "--threshold: found with --pred"),
    (RUN + "--modeldir headless --threshold 0.5", "--threshold: found a model without semantic head"),
    (INFER + "pics --modeldir headless --confidence 0", "--confidence: found a model without"),
    ("export calibrate model pics headless", "headless: found something of that name"),
    ("export calibrate model pics data --overwrite", "data: found something of that name"),
    ("export model pics --format tflite --overwrite", "pics: found something of that name"),
    ("visualization.py instances data pics a.xyz", "a.xyz: found another name"),
    ("visualization.py instances data pics a.png", "pics: found no results"),
    (RUN, "train_set/clips/a/0.jpg", cut, "clips/a/0.jpg"),
    (RUN, CONFIG, replaced('"network"', '"threshold": 0, "network"'), "model/config.json: threshold"),
    (RUN + "--out train_set/label_data_1.json", "--out train_set/label_data_1.json: found the labels"),
    (INFER + "pics --json gt.json", "gt.json", replaced(', "run_time": 9', ""), "--json gt.json: found something"),
    (INFER + "pics --json pipe", "pipe", os.mkfifo, "--json pipe: found something else"),
    (INFER + "pics --outdir . --json cluster_0001.png", "cluster_0001.png: found what is to be"),
    (VIDEO + "clip.avi --outdir out --json out/clip.mp4", "clip.avi", one_frame, "out/clip.mp4: found what is to be"),
    (PICS, CONFIG, replaced('"network"', '"view": "tall", "network"'), "found view 'tall'"),
    (INT8 + "pics", CONFIG, network(coordinate_scale=5.0), "model: found a model that has coordinate_scale"),
    (INT8 + "pics", CONFIG, network(image_statistics=True), "model: found a model that has image_statistics"),
    (INT8 + "pics", CONFIG, network(input_shape=[None, None, 3]), "model: found a model that has no"),
    (SCORE + "--images im --srcdir train_set", "train_set/clips/a/2.jpg", missing, "2.jpg"),
    ("evaluation --instances pred true", "true/1.png", missing, "1.png"),
    (RUN, "train_set/label_data_1.json", replaced("clips/a/0.jpg", "clips/a/1.jpg"), "label_data_1.json:2"),
]


def label(case):
    return " ".join(getattr(part, "__name__", part) for part in case[:-1]).replace("/", ":")


@pytest.mark.parametrize("case", CASES, ids=label)
def test_one_line_and_nothing_touched(case, good, tmp_path, monkeypatch, capfd):
    command, *damage, named = case
    base = tmp_path / "base"
    shutil.copytree(good, base)
    monkeypatch.chdir(base)
    if damage:
        damage[1](Path(damage[0]))
    before = snapshot(base)
    program, *words = command.split()
    module = f"{program}.__main__" if (ROOT / program).is_dir() else Path(program).stem
    module = f"data.{module}" if (ROOT / "data" / program).is_file() else module
    main = importlib.import_module(module).main
    capfd.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert snapshot(base) == before
    lines = said(capfd.readouterr().err)
    assert len(lines) == 1 and named in lines[0] and "error: " in lines[0] and len(lines[0]) < 600


def said(err):
    """The lines on stderr, without progress bars, argparse's usage and which network runs."""
    lines = [line.split("\r")[-1].rstrip() for line in re.sub(r"^usage:.*\n(  .*\n)*", "", err, flags=re.M).split("\n")]
    other = re.compile(r"network: |converting the network|INFO: Created TensorFlow Lite|.*%\|.*/|.*/s\]$")
    return [line for line in lines if line and not other.match(line)]


def test_bad_images_among_good_ones_are_skipped(good, tmp_path, monkeypatch, capfd):
    """Exit code 3, each bad file named once, the others done under their numbers in the list."""
    shutil.copytree(good / "pics", tmp_path / "pics")
    monkeypatch.chdir(tmp_path)
    for name, change in (("0a", empty), ("0b", text), ("1a", cut), ("2a", zero_filled)):
        shutil.copy("pics/0.jpg", f"pics/{name}.jpg")
        change(Path(f"pics/{name}.jpg"))
    Path("pics/3.jpg").symlink_to("nowhere")
    with pytest.raises(SystemExit) as exit_:
        inference.main(f"--modeldir {good / 'model'} --indir pics --outdir out --json lanes.json".split())
    assert exit_.value.code == 3
    lines = said(capfd.readouterr().err)
    assert [line.split(":")[1] for line in lines[:-1]] == [f" pics/{n}.jpg" for n in "0a 0b 1a 2a 3".split()]
    assert "5 of 8 images" in lines[-1]
    assert sorted(path.name for path in Path("out").iterdir()) == [f"cluster_{i:04d}.png" for i in (0, 3, 5)]
    written = [json.loads(line)["raw_file"] for line in Path("lanes.json").read_text().splitlines()]
    assert written == ["0.jpg", "1.jpg", "2.jpg"]


def test_what_is_left_of_a_file_is_said(good, tmp_path, capfd):
    """Pages after the first; an error's name with a line break stays in its line."""
    page = np.zeros((96, 160, 3), np.uint8)
    cv2.imwritemulti(str(tmp_path / "a.tif"), [page, page, page])
    (tmp_path / "b\nc.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        inference.main(f"--modeldir {good / 'model'} --indir {tmp_path} --outdir {tmp_path / 'out'}".split())
    lines = said(capfd.readouterr().err)
    assert lines[0].startswith(f"{tmp_path}/a.tif: holds 3 images")
    assert lines[1].startswith(f"skipped: {tmp_path}/b c.jpg: ") and len(lines) == 3


def test_tiles_have_no_embedding(good, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    shutil.copytree(good / "model", tmp_path / "model")
    replaced('"network"', '"view": "crop", "network"')(tmp_path / "model/config.json")
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((300, 300, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((64, 64, 3), np.uint8))
    images = f"--modeldir {tmp_path}/model --indir {tmp_path}/large.png {tmp_path}/small.png --outdir {tmp_path}/out"
    inference.main(f"{images} --save embedding,labels --keep-names".split())
    assert "large.png: taken in tiles, which have no common embedding" in capfd.readouterr().err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"large_labels.png", "small_labels.png", "small_embedding.png"}


def test_a_named_pipe_is_not_waited_for(good, tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(datagenerator.UserError, match="no regular file"):
        datagenerator.read_image(tmp_path / "a.jpg")


def test_output_that_can_not_be_written_in_the_middle(good, tmp_path, monkeypatch, capfd):
    """One line, no part of a file."""
    monkeypatch.chdir(tmp_path)
    segmentation.load_network(good / "model")  # its conversion needs room, too
    with full_disk(1000), pytest.raises(SystemExit, match="^2$"):
        inference.main(f"--modeldir {good / 'model'} --indir {good / 'pics'} --outdir out".split())
    assert not Path("out").exists()
    lines = said(capfd.readouterr().err)
    assert len(lines) == 1 and "cluster_0000.png: could not be written" in lines[0]


def test_code_in_a_model_file_is_not_run(good, tmp_path, monkeypatch):
    """A Lambda layer, saved with its code, that writes a file when Keras loads or calls it."""
    monkeypatch.chdir(tmp_path)
    marker, inputs = tmp_path / "attacked", keras.Input((64, 96, 3))
    shutil.copytree(good / "model", tmp_path / "model")
    layer = keras.layers.Lambda(lambda x: [open("attacked", "w").close(), x][1], output_shape=(64, 96, 3))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "bad.keras")
    marker.unlink(missing_ok=True)
    # the file is as bad as it means to be
    keras.saving.load_model(tmp_path / "bad.keras", safe_mode=False)(np.zeros((1, 64, 96, 3), np.float32))
    marker.unlink()
    with zipfile.ZipFile(tmp_path / "bad.keras") as bad, zipfile.ZipFile(good / "model/model.keras") as fine:
        with zipfile.ZipFile(tmp_path / "model/model.keras", "w") as mixed:
            for name, source in (("config.json", bad), ("metadata.json", fine), ("model.weights.h5", fine)):
                mixed.writestr(name, source.read(name))
    inference.main(f"--modeldir {tmp_path / 'model'} --indir {good / 'pics'} --outdir {tmp_path / 'out'}".split())
    assert len(list((tmp_path / "out").iterdir())) == 3 and not marker.exists()


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_program_may_have_no_ordinary_output(stream, monkeypatch):
    """Closed by `>&-`, or a notebook's."""
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    for name in ("stdout", "stderr", "excepthook"):
        monkeypatch.setattr(sys, name, stream if name.startswith("std") else getattr(sys, name))
    command.start()
