"""The training command end to end on drawn scenes, and its parts."""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from annotation_files import write
from conftest import TINY_FLAGS, error_line, fake_step, miniature, save_miniature

import inference
import training
import utils
from data.files import find_pairs
from datagenerator import batches, make_dataset, normalize
from pipeline import segmentation
from run import config
from run.checkpoint import start_from
from run.command import UserError
from run.flags import parse_args
from run.label_statistics import LabelStatistics
from run.pairs import Data
from run.train_step import LOSS_TERMS, LossSettings


def flags(data, folder, more=""):
    tiny = TINY_FLAGS.replace("--image-size 64 96", "") if "--crop" in more else TINY_FLAGS
    return f"--srcdir {data} --modeldir none --outdir {folder} --logdir {folder}-log {tiny} {more}".split()


@pytest.fixture
def train(tiny_data, tmp_path, monkeypatch):
    """Function that trains a miniature, with losses in place of steps; returns the run folder."""
    monkeypatch.setattr(utils, "build_model", miniature)

    def go(name, more="", steps=1):
        fake_step(monkeypatch, [1.0] * steps)
        assert training.main(flags(tiny_data, tmp_path / name, f"--steps {steps} {more}")) == 0
        return tmp_path / name

    return go


def test_run_folder_is_complete(tiny_run):
    rows = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [30, 60]
    assert rows[0]["train"].keys() == {*LOSS_TERMS, "gradient_norm"}
    assert rows[0]["val"].keys() > {*LOSS_TERMS, "SBD", "AP", "PQ"}
    assert rows[-1]["train"]["loss"] < 0.5 * rows[0]["train"]["loss"]
    config = utils.read_config(tiny_run)
    assert config["flags"]["lr"] == 5e-3 and "tensorflow" in config["versions"]
    assert config["command"].startswith("python training.py --srcdir")
    names = {p.name for p in (tiny_run / "var1_dist1_reg0.001_dvar0.5_ddist1.5").iterdir()}
    assert names == {"cluster_000000.png", "cluster_000060.png", "instances_000060.png"}
    for kind in ("best", "last"):
        saved = json.loads((tiny_run / kind / "config.json").read_text())
        assert saved["network"] == config["network"] and (tiny_run / kind / "model.keras").is_file()
    best = min(rows, key=lambda row: (-row["val"]["AP"], row["val"]["loss"]))
    assert json.loads((tiny_run / "best" / "config.json").read_text())["step"] == best["step"]
    assert not list(tiny_run.rglob(".*"))
    tags = set()
    for path in (tiny_run / "log").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"loss", "l_var", "l_dist", "l_reg", "l_sem", "learning_rate", "input", "label", "embedding"} <= tags


def test_what_starts_from_a_run_has_its_network(tmp_path):
    statistics = LabelStatistics(foreground=0.1, diameter=9.0)
    network = {}
    for name, words in (("first", "none"), ("second", "none --no-dropout"), ("third", tmp_path / "second")):
        flags = parse_args(f"--modeldir {words} --image-size 64 96".split())
        network[name] = config.new_network(flags, Data([("image", "label")], {}, {}), statistics)
        (tmp_path / name).mkdir()
        utils.write_json(tmp_path / name / "config.json", {"network": network[name]})
        (tmp_path / name / "model.keras").touch()
    assert [network[name]["dropout"] for name in ("first", "second", "third")] == [True, False, False]


def test_inference_loss_is_the_training_loss(tiny_run, tiny_data):
    """Moving averages of batch norm are so good that the same images cost the same, within 10 %.

    Without dropout, which makes training mode worse and would hide bad averages; with it inference is no worse.
    """
    trained = utils.load_model(tiny_run / "last")
    smooth = utils.build_model({**utils.read_network(tiny_run / "last"), "dropout": False})
    for layer in smooth.layers:
        if layer.weights:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    losses = training.make_losses(LossSettings(reg=0.001))
    data = list(batches(make_dataset(find_pairs(tiny_data), (64, 96), 4)))

    def mean_loss(model, mode):
        before, total = model.get_weights(), 0.0
        for image, label, _ in data:
            total += float(losses(model(image, training=mode), label)[0]) / len(data)
            model.set_weights(before)  # a call in training mode moves the averages
        return total

    inference = mean_loss(smooth, False)
    assert inference == pytest.approx(mean_loss(smooth, True), rel=0.1)
    assert inference < 1.1 * mean_loss(trained, True)


def test_learning_rate():
    original = {n: 1e-4 * 0.96 ** (n // 5000) for n in (0, 4999, 5000, 9999, 10000, 123456)}
    cosine = {0: 0.0, 50: 0.001, 100: 0.002, 550: 0.001, 1000: 0.0}
    for schedule, expected in ((("adam", 10**6, 1e-4), original), (("adamw", 1000, 0.002, "cosine", 100), cosine)):
        rate = training.make_optimizer(*schedule)._learning_rate
        assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_documented_defaults():
    args = vars(parse_args([]))
    documented = {"srcdir": ["data"], "modeldir": "pretrained_semantic_model", "outdir": "saved_model", "epochs": 50}
    documented |= {"var": 1.0, "dist": 1.0, "reg": 1.0, "dvar": 0.5, "ddist": 1.5, "image_size": [512, 512]}
    documented |= {"batch_size": 1, "lr": 1e-4, "feature_dim": 3, "logdir": None}
    assert {name: args[name] for name in documented} == documented


def test_semantic_pretraining_then_embedding(tmp_path, monkeypatch):
    """--var 0 --dist 0 --reg 0 trains the semantic head alone; heads of another depth start fresh."""
    network = {"input_shape": [16, 16, 3]}
    model = miniature(network)
    utils.save_model(tmp_path, model, {"network": network})
    losses = training.make_losses(LossSettings(var=0, dist=0, reg=0))
    loss, l_var, l_dist, l_reg, l_sem = losses(model(np.zeros((1, 16, 16, 3))), np.zeros((1, 16, 16)))
    assert float(loss) == float(l_sem) > 0 and [float(x) for x in (l_var, l_dist, l_reg)] == [0, 0, 0]

    enet = utils.build_model({**network, "stage_two_repeat": 1})
    monkeypatch.setattr(utils, "build_model", miniature)
    wider = miniature({**network, "embedding_dim": 5})
    assert start_from(wider, tmp_path) == ["embedding"]
    for name in ("first", "norm", "semantic"):
        for found, expected in zip(wider.get_layer(name).weights, model.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="expected the same ENet"):
        start_from(enet, tmp_path)


def test_heads_and_threshold_of_a_run(train):
    """Weighted 10 : 1, a pixel that is foreground as likely as not gets 10 / 11."""
    assert set(utils.load_model(train("a", "--sem 0")).output) == {"embedding"}
    config = utils.read_config(train("b"))
    assert config["foreground_weight"] == 10 and config["threshold"] == pytest.approx(10 / 11, abs=1e-3)


def test_coordinates_are_scaled_by_the_labels(train, tmp_path, monkeypatch):
    """An instance 12 pixels wide becomes 2 ddist = 3 wide; without the flag a model that has them stays as it is."""
    start = f"--modeldir {save_miniature(tmp_path / 'model', embedding_dim=3, coordinate_scale=9.0)}"
    make, used = training.make_losses, []
    monkeypatch.setattr(training, "make_losses", lambda settings, jit=True: used.append(settings) or make(settings))
    monkeypatch.setattr(config, "measure_labels", lambda *args: LabelStatistics(0.1, 12.0, 7.0, 5))
    cases = [("", None, 1.0), ("--coordinates", 4.0, 10.0), (f"--coordinates {start}", 4.0, 10.0), (start, 9.0, 1.0)]
    for number, (more, scale, semantic) in enumerate([*cases, ("--coordinates --sem 2", 4.0, 2.0)]):
        saved = utils.read_config(train(f"{number}", more) / "last")
        assert saved["network"]["coordinate_scale"] == scale and used.pop().sem == semantic, more
        # of lanes, none is small
        assert (saved["min_pixels"], saved["min_width"]) == ((7.0, 5) if scale else (None, 1)), more


def test_proportions_and_several_validation_folders(tiny_data, tmp_path, monkeypatch):
    """The run validates images of two shapes whole; inference, from the config, does as it did."""
    monkeypatch.setattr(utils, "build_model", miniature)
    lower = {str(path.relative_to(tiny_data)): cv2.imread(str(path), -1)[40:] for path in tiny_data.glob("*/*")}
    wide = write(tmp_path / "wide", lower)
    more = f"--steps 2 --keep-aspect --valdir {tiny_data} {wide} --var 0 --dist 0 --reg 0"
    assert training.main([*flags(tiny_data, tmp_path / "run", "--jit"), *more.split()]) == 0
    row = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])
    assert set(row["val"]["folders"]) == {tiny_data.name, "wide"}
    config = utils.read_config(tmp_path / "run" / "last")
    assert config["network"]["input_shape"] == [64, 96, 3] and config["view"] == "aspect"
    network = segmentation.load_network(tmp_path / "run")
    # 96 wide: 96 of 160 columns, so 96 and 56 rows become 57.6 and 33.6
    for height, rows in ((96, 56), (56, 32)):
        assert network.predict(np.zeros((height, 160, 3), np.uint8))["embedding"].shape == (rows, 96, 3)


def test_a_model_that_sees_images_normalized_goes_on_seeing_them_so(train, tiny_data, tmp_path, monkeypatch):
    run = train("second", f"--modeldir {train('first', '--normalize')}")
    assert utils.read_config(run / "last")["normalize"] is True
    fake_step(monkeypatch, [1.0])
    assert training.main(["--resume", str(run), "--steps", "2"]) == 0
    image = cv2.imread(str(tiny_data / "images/0000.png"))
    network = segmentation.load_network(run)
    dark, bright = (network.predict(image)["embedding"] for image in (image // 4, image // 4 * 3))
    np.testing.assert_allclose(dark, bright, atol=1e-3)
    cv2.imwrite(str(tmp_path / "dark.png"), image // 4)
    out = tmp_path / "out"
    named = f"--modeldir {run} --indir {tmp_path / 'dark.png'} --outdir {out} --save overlay,labels"
    inference.main(named.split())
    background = cv2.imread(str(out / "labels_0000.png"), cv2.IMREAD_UNCHANGED) == 0
    painted = cv2.imread(str(out / "cluster_0000.png"))
    assert background.any()
    np.testing.assert_array_equal(painted[background], normalize(image // 4)[background])


def test_enlarged_crops(train):
    """What the labels are like is that of the enlarged ones; the model keeps the zoom."""
    runs = [train(f"run{zoom}", f"--crop 32 32 --coordinates --zoom {zoom}") for zoom in (1, 2)]
    configs = [utils.read_config(run / "last") for run in runs]
    assert [config["zoom"] for config in configs] == [1, 2] and configs[1]["view"] == "crop"
    scales = [config["network"]["coordinate_scale"] for config in configs]
    assert scales[1] == pytest.approx(2 * scales[0], rel=0.05)
    shapes = [segmentation.load_network(run).predict(np.zeros((20, 24, 3), "uint8"))["embedding"].shape for run in runs]
    assert shapes == [(20, 24, 3), (40, 48, 3)]


@pytest.mark.parametrize(
    "more,message",
    [
        ("--image-size 60 96", "a multiple of 8"),
        ("--lr nan", "--lr"),
        ("--ema 1", "--ema"),
        ("--jit --strategy mirrored", "--jit"),
        ("--schedule original --warmup 5", "--warmup: found with --schedule original"),
        ("--crop 32 32 --image-size 64 96", "--image-size: not allowed with argument --crop"),
        ("--crop 32 32 --keep-aspect", "--keep-aspect: found with --crop"),
        ("--zoom 2", "--zoom: found without --crop"),
        ("--coordinates --feature-dim 1", "embedding_dim"),
        ("--srcdir data:0", "data:0"),
        ("--resume no_such_run", "no_such_run"),
    ],
)
def test_bad_flags_start(tiny_data, tmp_path, more, message, capsys):
    assert message in error_line(training.main, capsys, *flags(tiny_data, tmp_path / "run", more))
    assert not (tmp_path / "run").exists()
