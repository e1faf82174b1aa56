"""What users get wrong: one line that names the file or flag, the right exit code, and nothing else touched."""

import importlib
import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, draw_scene, miniature
from damage import (
    NETWORK,
    as_jpg,
    colored,
    cut,
    empty,
    flags,
    folder,
    missing,
    nested,
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

import utils

build_enet = utils.build_model
SIZES = (64, 96, 3), (None, None, 3)  # the fast network's size is open


def build_small(network, *args, **more):
    """In place of an ENet of `NETWORK`'s kind, whose building is most of what a wrong command would do, a miniature."""
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
    rng = np.random.default_rng(0)
    for path in ("pics", "data/images", "data/labels", "train_set/clips/a", "pred", "true"):
        (base / path).mkdir(parents=True)
    lines = []
    for name in ("0", "1", "2"):
        image, label = draw_scene(rng)
        for path in (f"pics/{name}.jpg", f"data/images/{name}.png", f"train_set/clips/a/{name}.jpg"):
            cv2.imwrite(str(base / path), image)
        for path in (f"data/labels/{name}.png", f"pred/{name}.png", f"true/{name}.png"):
            cv2.imwrite(str(base / path), label)
        lines.append({"raw_file": f"clips/a/{name}.jpg", "lanes": [[40, 60]], "h_samples": [70, 80], "run_time": 9})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for path in ("pred.json", "gt.json", "train_set/label_data_1.json"):
        (base / path).write_text(text)
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
FLAG = (None, None)

# command, (file, what happens to it), what the line must name
CASES = [
    # images of inference.py
    (INFER + "pics/0.jpg", ("pics/0.jpg", empty), "pics/0.jpg"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", text), "pics/0.jpg"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", cut), "pics/0.jpg"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", without_end), "pics/0.jpg"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", zero_filled), "pics/0.jpg"),
    (INFER + "data/images/0.png", ("data/images/0.png", cut), "0.png"),
    (INFER + "data/images/0.png", ("data/images/0.png", one_byte), "0.png"),
    (INFER + "data/images/0.png", ("data/images/0.png", written(bytes(5000))), "0.png"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", missing), "pics/0.jpg"),
    (INFER + "pics/0.jpg", ("pics/0.jpg", folder), "pics/0.jpg"),
    (INFER + "nowhere", FLAG, "nowhere"),
    (INFER + "pred.json", FLAG, "pred.json"),
    (INFER + "train_set", FLAG, "train_set"),
    # models
    (INFER + "pics", ("model/model.keras", missing), "model"),
    (INFER + "pics", ("model/model.keras", empty), "model/model.keras"),
    (INFER + "pics", ("model/model.keras", text), "model/model.keras"),
    (INFER + "pics", ("model/model.keras", cut), "model/model.keras"),
    (INFER + "pics", ("model/model.keras", other_weights), "model/model.keras"),
    (INFER + "pics", ("model/config.json", missing), "model/config.json"),
    (INFER + "pics", ("model/config.json", text), "model/config.json"),
    (INFER + "pics", ("model/config.json", replaced('"network"', '"net"')), "model/config.json"),
    (INFER + "pics", ("model/config.json", replaced('"input_shape"', '"shape"')), "config.json"),
    (INFER + "pics", ("model/config.json", nested), "model"),
    (INFER + "pics", ("model/config.json", network(input_shape=[60, 90, 3])), "model"),
    (INFER + "pics", ("model/config.json", network(input_shape=[None, None, 3])), "model"),
    (INFER + "pics", ("model/config.json", network(embedding_activation="none such")), "model"),
    (INFER + "pics", ("model/config.json", network(surprise=1)), "config.json"),
    (INFER.replace("model ", "diverged ") + "pics", FLAG, "NaN"),
    (INFER.replace("model ", "headless ") + "pics --save semantic", FLAG, "--save semantic"),
    # outputs and flags of inference.py
    (INFER.replace("out ", "pred.json ") + "pics", FLAG, "pred.json"),
    (INFER.replace("out ", "pred.json/out ") + "pics", FLAG, "pred.json/out"),
    (INFER.replace("out ", "pics ") + "pics", ("pics/cluster_0000.png", colored), "cluster_0000.png"),
    (
        INFER + "pics --outdir . --save instances.json",
        ("instances.json", written(b'{"images": [], "annotations": []}')),
        "instances.json: found a file that inference.py didn't write",
    ),
    (
        INFER + "pics --outdir . --save instances.csv",
        ("instances.csv", written(b"image,id\na.jpg,1\n")),
        "instances.csv: found a file that inference.py didn't write",
    ),
    (INFER + "pics", ("model/config.json", replaced('"network"', '"flags": {"dvar": 1e400}, "network"')), "dvar"),
    (INFER + "pics", ("model/config.json", replaced('"network"', '"flags": {"dvar": "0.5"}, "network"')), "dvar"),
    (INFER + "pics --json nowhere/lanes.json", FLAG, "nowhere/lanes.json"),
    (INFER + "pics --json pics", FLAG, "--json"),
    (INFER + "pics --save classes", FLAG, "--save classes: found a model without classes"),
    (INFER + "pics --json pics/0.jpg", FLAG, "pics/0.jpg"),
    (INFER + "pics --save overlay,everything", FLAG, "--save"),
    (INFER + "pics --size 60 96", FLAG, "--size"),
    (INFER + "pics --bandwidth nan", FLAG, "--bandwidth"),
    (INFER + "pics --threshold 1", FLAG, "--threshold"),
    (INFER + "pics --confidence 1", FLAG, "--confidence"),
    (
        INFER + "pics",
        ("model/config.json", replaced('"network"', '"confidence": "very", "network"')),
        "model/config.json",
    ),
    (INFER + "pics --int8 --jit", FLAG, "--jit: not allowed with argument --int8"),
    (INFER + "pics --save none", FLAG, "--save none"),
    (INFER + "pics --save none,overlay --json l", FLAG, "--save"),
    (INFER + "pics --every 2", FLAG, "--every"),
    # videos
    (VIDEO + "clip.mp4 --from 3", ("clip.mp4", one_frame), "--video clip.mp4: found no frame"),
    (VIDEO + "nowhere.mp4 --from -1", FLAG, "--from"),
    (VIDEO + "nowhere.mp4 --from 3 --to 3", FLAG, "--to"),
    (VIDEO + "nowhere.mp4 --every 0", FLAG, "--every"),
    (VIDEO + "file:///nowhere.mp4", FLAG, "--video file:///nowhere.mp4: found no such file"),
    (VIDEO + "nowhere.mp4", FLAG, "nowhere.mp4"),
    (VIDEO + "pred.json", FLAG, "pred.json"),
    (VIDEO + "pics", FLAG, "--video pics"),
    (VIDEO + "clip.mp4", ("clip.mp4", empty), "clip.mp4"),
    (VIDEO + "97", FLAG, "--video 97"),
    (VIDEO + "http://user:word@127.0.0.1:9/a.mp4", FLAG, "--video http://127.0.0.1:9/a.mp4: could not be opened"),
    (VIDEO + "clip.mp4 --outdir .", ("clip.mp4", one_frame), "clip.mp4"),
    (
        VIDEO + "20240105123000",
        FLAG,
        "--video 20240105123000: found no such file",
    ),  # a camera's name without its suffix
    (VIDEO + "²", FLAG, "--video ²: found no such file"),
    (VIDEO + "clip.avi --outdir .", ("clip.avi", two_videos), "clip.mp4: found beside the video"),
    (VIDEO + "pred.json --indir pics", FLAG, "--indir"),
    (VIDEO + "pred.json --save labels", FLAG, "--save"),
    # training.py
    (TRAIN + "nowhere", FLAG, "nowhere"),
    (TRAIN + "data", ("data/labels/1.png", missing), "1.png"),
    (TRAIN + "data --valdir data", ("data/images/0.png", cut), "images/0.png"),
    (TRAIN + "data --valdir data", ("data/labels/0.png", text), "labels/0.png"),
    (TRAIN + "data --valdir data", ("data/labels/0.png", smaller), "labels/0.png"),
    (TRAIN + "data", ("data/labels/0.png", as_jpg), "labels/0.png: found a jpg"),
    (TRAIN + "data --balance", ("data/labels/0.png", cut), "labels/0.png"),
    (TRAIN + "data --modeldir pics", FLAG, "pics"),
    (TRAIN + "data --modeldir model", ("model/config.json", text), "model/config.json"),
    ("training.py --resume pics", FLAG, "pics/config.json"),
    (TRAIN + "data --resume pics", FLAG, "pics/config.json"),
    ("training.py --resume model", FLAG, "model/config.json: flags: found none"),
    ("training.py --resume model", ("model/config.json", flags(epochs=None)), "config.json: flags"),
    ("training.py --resume model", ("model/config.json", flags(image_size=64)), "argument --image-size"),
    ("training.py --resume model", ("model/config.json", flags(optimizer="sgd")), "invalid choice: 'sgd'"),
    ("training.py @pics", FLAG, "'pics'"),
    ("training.py @a.args", ("a.args", written("--steps 2".encode("utf-16"))), "@FILE: found UnicodeDecodeError"),
    ("training.py @a.args", ("a.args", written(b"--outdir o'brien")), "@FILE: found ValueError: No closing"),
    ("training.py @a.args", ("a.args", written(b"@a.args")), "@FILE: found RecursionError"),
    (TRAIN + "data --logdir pred.json/log", FLAG, "--logdir: found that"),
    (TRAIN + "data --outdir pred.json", FLAG, "--outdir"),
    (TRAIN + "data --modeldir model", ("model/config.json", network(embedding_activation="none such")), "config.json"),
    # evaluation
    (SCORE, ("pred.json", missing), "pred.json"),
    (SCORE, ("gt.json", folder), "gt.json"),
    (SCORE, ("pred.json", text), "pred.json:1"),
    (SCORE, ("pred.json", replaced('"lanes"', '"lines"')), "pred.json:1"),
    (SCORE, ("pred.json", replaced("[[40, 60]]", "[[40, NaN]]")), "pred.json:1"),
    (SCORE, ("pred.json", nested), "pred.json:1"),
    (SCORE + "--images gt.json --srcdir train_set", FLAG, "--images"),
    (SCORE + "--threshold 0.5", FLAG, "--threshold: found with --pred"),
    ("evaluation --instances pred true --verbose", FLAG, "--verbose: found with --instances"),
    (RUN.replace("model ", "headless ") + "--threshold 0.5", FLAG, "--threshold: found a model without semantic head"),
    (INFER.replace("model ", "headless ") + "pics --confidence 0", FLAG, "--confidence: found a model without"),
    (INFER.replace("model ", "headless ") + "pics --threshold 0.6", FLAG, "--threshold: found a model without"),
    ("export calibrate model pics headless", FLAG, "headless: found something of that name"),
    ("export calibrate model pics data --overwrite", FLAG, "data: found something of that name"),
    ("export model pics --format tflite --overwrite", FLAG, "pics: found a folder of something else"),
    ("export model pics --format savedmodel --overwrite", FLAG, "pics: found a folder of something else"),
    ("visualization.py instances data pics a.xyz", FLAG, "a.xyz: found another name"),
    ("visualization.py instances data pics a.png", FLAG, "pics: found no results"),
    (
        "synthetic_dataset.py out --count 1 --workers 1 --geometry g.json",
        ("g.json", written(b'{"raw_file": "a", "lanes": [[5, 9]], "h_samples": [0, 1]}')),
        "g.json:1: found rows 0 to 1",
    ),
    ("synthetic_dataset.py pics --count 1 --workers 1", FLAG, "pics: found a folder with files"),
    (RUN, ("train_set/clips/a/0.jpg", cut), "clips/a/0.jpg"),
    (RUN + "--threshold 2", FLAG, "--threshold"),
    (RUN, ("model/config.json", replaced('"network"', '"confidence": 1, "network"')), "model/config.json"),
    (RUN, ("model/config.json", replaced('"network"', '"threshold": 0, "network"')), "model/config.json: threshold"),
    (RUN + "--out pics", FLAG, "--out"),
    (RUN + "--out train_set/label_data_1.json", FLAG, "--out train_set/label_data_1.json: found the labels"),
    (
        INFER + "pics --json gt2.json",
        ("gt2.json", written(b'{"raw_file": "a", "lanes": []}\n')),
        "--json gt2.json: found something else",
    ),
    (INFER + "pics --json pipe", ("pipe", os.mkfifo), "--json pipe: found something else"),
    (INFER + "pics --json model/config.json", FLAG, "--json model/config.json: found something else"),
    (INFER + "pics --outdir . --json cluster_0001.png", FLAG, "cluster_0001.png: found what is to be"),
    (VIDEO + "clip.avi --outdir out --json out/clip.mp4", ("clip.avi", one_frame), "out/clip.mp4: found what is to be"),
    (INFER + "pics --save instances.json --outdir .", ("instances.json", Path.mkdir), "instances.json: found a file"),
    (INFER + "pics", ("model/config.json", replaced('"network"', '"view": "tall", "network"')), "found view 'tall'"),
    (INFER + "pics", ("model/config.json", replaced('"network"', '"zoom": 200, "network"')), "zoom 200"),
    (INT8 + "pics", ("model/config.json", network(coordinate_scale=5.0)), "model: found a model that adds coordinates"),
    (INT8 + "pics", ("model/config.json", network(image_statistics=True)), "model: found a model that normalizes"),
    (INT8 + "pics", ("model/config.json", network(input_shape=[None, None, 3])), "model: found a model that has no"),
    (SCORE + "--images im --srcdir train_set", ("train_set/clips/a/2.jpg", missing), "2.jpg"),
    (SCORE + "--images im --srcdir nowhere", FLAG, "nowhere"),
    ("evaluation --instances pred true", ("true/1.png", missing), "1.png"),
    ("evaluation --instances pred nowhere", FLAG, "nowhere"),
    ("evaluation --instances pred true", ("true/1.png", as_jpg), "true/1.png: found a jpg"),
    ("evaluation --modeldir model --srcdir nowhere --instances", FLAG, "nowhere/images"),
    (RUN, ("train_set/label_data_1.json", replaced("clips/a/0.jpg", "clips/a/1.jpg")), "label_data_1.json:2"),
]


def label(case):
    command, (path, change), _ = case
    return f"{command} {path or ''} {change.__name__ if change else ''}".replace("/", ":")


@pytest.mark.parametrize("case", CASES, ids=label)
def test_one_line_and_nothing_touched(case, good, tmp_path, monkeypatch, capfd):
    command, (path, change), named = case
    base = tmp_path / "base"
    shutil.copytree(good, base)
    monkeypatch.chdir(base)
    if change:
        change(Path(path))
    before = snapshot(base)
    program, *words = command.split()
    module = f"{program}.__main__" if (ROOT / program).is_dir() else Path(program).stem
    module = module if not (ROOT / "data" / program).is_file() else f"data.{module}"
    main = importlib.import_module(module).main
    capfd.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert snapshot(base) == before
    lines = said(capfd.readouterr().err)
    assert named in lines[-1] and "error: " in lines[-1]
    assert len(lines[-1]) < 600
    assert len(lines) == 1


def said(err):
    """The lines on stderr, without progress bars, argparse's usage and which network runs."""
    lines, usage = [], False
    for line in err.split("\n"):
        line = line.split("\r")[-1].rstrip()
        usage = line.startswith("usage:") or usage and line.startswith("  ")
        about_network = line.startswith(("network: ", "converting the network", "INFO: Created TensorFlow Lite"))
        if line and not usage and not about_network and not ("%|" in line and "/" in line) and not line.endswith("/s]"):
            lines.append(line)
    return lines


def test_bad_images_among_good_ones_are_skipped(good, tmp_path, monkeypatch, capfd):
    """Exit code 3, each bad file named once, the others done under the numbers they have in the list."""
    import inference

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
    assert [line.split(":")[1] for line in lines[:-1]] == [
        f" pics/{name}.jpg" for name in ("0a", "0b", "1a", "2a", "3")
    ]
    assert "5 of 8 images" in lines[-1]
    assert sorted(path.name for path in Path("out").iterdir()) == [f"cluster_{i:04d}.png" for i in (0, 3, 5)]
    written = [json.loads(line)["raw_file"] for line in Path("lanes.json").read_text().splitlines()]
    assert written == ["0.jpg", "1.jpg", "2.jpg"]


def test_what_is_left_of_a_file_is_said(good, tmp_path, capfd):
    """Pages after the first, in the order of the images; an error's name with a line break stays in its line."""
    import inference

    page = np.zeros((96, 160, 3), np.uint8)
    cv2.imwritemulti(str(tmp_path / "a.tif"), [page, page, page])
    (tmp_path / "b\nc.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit) as exit_:
        inference.main(f"--modeldir {good / 'model'} --indir {tmp_path} --outdir {tmp_path / 'out'}".split())
    lines = said(capfd.readouterr().err)
    assert exit_.value.code == 3 and len(lines) == 3
    assert lines[0] == f"{tmp_path}/a.tif: holds 3 images, of which the first is taken"
    assert lines[1].startswith(f"skipped: {tmp_path}/b c.jpg: ")


def test_tiles_have_no_embedding(good, tmp_path, capfd, monkeypatch):
    """It is said, and the other outputs of the image are written."""
    import inference

    monkeypatch.setattr(utils, "build_model", miniature)
    shutil.copytree(good / "model", tmp_path / "model")
    replaced('"network"', '"view": "crop", "network"')(tmp_path / "model/config.json")
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((300, 300, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((64, 64, 3), np.uint8))
    inference.main(
        f"--modeldir {tmp_path}/model --indir {tmp_path}/large.png {tmp_path}/small.png --outdir {tmp_path}/out "
        "--save embedding,labels --keep-names".split()
    )
    assert "large.png: taken in tiles, which have no common embedding" in capfd.readouterr().err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"large_labels.png", "small_labels.png", "small_embedding.png"}


def test_a_named_pipe_is_not_waited_for(good, tmp_path):
    import datagenerator

    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(datagenerator.UserError, match="no regular file"):
        datagenerator.read_image(tmp_path / "a.jpg")


def test_output_that_can_not_be_written_in_the_middle(good, tmp_path, monkeypatch, capfd):
    """A file-size limit stands for a full disk: one line, no part of a file."""
    import resource

    import inference

    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SystemExit) as exit_:
            inference.main(f"--modeldir {good / 'model'} --indir {good / 'pics'} --outdir out".split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert exit_.value.code == 2 and not Path("out").exists()
    lines = said(capfd.readouterr().err)
    assert len(lines) == 1 and "cluster_0000.png: could not be written" in lines[0]


def malicious(path):
    """A model.keras whose Lambda layer writes the file `attacked` when Keras loads or calls it."""
    import keras

    inputs = keras.Input((64, 96, 3))
    # a lambda is saved with its code
    layer = keras.layers.Lambda(lambda x: [open("attacked", "w").close(), x][1], output_shape=(64, 96, 3))
    keras.Model(inputs, layer(inputs)).save(path)


@pytest.mark.parametrize("weights", ["its own", "good"])
def test_code_in_a_model_file_is_not_run(weights, good, tmp_path, monkeypatch, capfd):
    import keras

    import inference

    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "attacked"
    shutil.copytree(good / "model", tmp_path / "model")
    malicious(tmp_path / "bad.keras")
    marker.unlink(missing_ok=True)
    # the file is as bad as it means to be
    keras.saving.load_model(tmp_path / "bad.keras", safe_mode=False)(np.zeros((1, 64, 96, 3), np.float32))
    assert marker.exists()
    marker.unlink()
    flags = f"--modeldir {tmp_path / 'model'} --indir {good / 'pics'} --outdir {tmp_path / 'out'}".split()
    if weights == "good":
        with zipfile.ZipFile(tmp_path / "bad.keras") as bad, zipfile.ZipFile(good / "model/model.keras") as fine:
            with zipfile.ZipFile(tmp_path / "model/model.keras", "w") as mixed:
                mixed.writestr("config.json", bad.read("config.json"))
                mixed.writestr("metadata.json", fine.read("metadata.json"))
                mixed.writestr("model.weights.h5", fine.read("model.weights.h5"))
        inference.main(flags)
        assert len(list((tmp_path / "out").iterdir())) == 3
    else:
        shutil.move(tmp_path / "bad.keras", tmp_path / "model/model.keras")
        with pytest.raises(SystemExit) as exit_:
            inference.main(flags)
        assert exit_.value.code == 2 and "model.keras" in said(capfd.readouterr().err)[-1]
    assert not marker.exists()


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_program_may_have_no_ordinary_output(stream, monkeypatch):
    """Closed by `>&-`, or a notebook's."""
    import signal

    from run import command

    monkeypatch.setattr(signal, "signal", lambda *args: None)
    for name in ("stdout", "stderr", "excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, stream if name.startswith("std") else getattr(sys, name))
    command.start()


def test_bandwidth_in_place_of_a_wrong_margin(good, tmp_path, capfd):
    from evaluation import __main__ as evaluation

    shutil.copytree(good, tmp_path / "base")
    replaced('"network"', '"flags": {"dvar": -1}, "network"')(tmp_path / "base/model/config.json")
    argv = f"--modeldir {tmp_path}/base/model --srcdir {tmp_path}/base/data --instances".split()
    with pytest.raises(SystemExit):
        evaluation.main(argv)
    assert "dvar: found -1" in capfd.readouterr().err
    evaluation.main([*argv, "--bandwidth", "1"])
