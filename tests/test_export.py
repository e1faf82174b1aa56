"""Folding against the network with its batch norm; exported networks loaded back by their own runtimes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, miniature
from keras import layers
from test_enet import assert_close, shake
from test_readme import code_blocks, commands_of

import utils
from enet import BatchNormalization, build_enet
from export import __main__ as export_command
from export.folding import fold_batch_norm
from export.formats import noise, output_difference

SIZE = (64, 96)


@pytest.mark.parametrize(
    "options",
    [
        {"input_shape": (*SIZE, 3), "stage_two_repeat": 1},
        {"input_shape": (None, None, 3), "stage_two_repeat": 1, "skip_connections": True, "semantic": False}
        | {"dropout": False, "embedding_activation": "relu"},
    ],
)
def test_folded_network_gives_the_same(options):
    model = shake(build_enet(**options))
    folded = fold_batch_norm(model)
    assert folded.input_shape == model.input_shape
    assert not any(isinstance(layer, (BatchNormalization, layers.SpatialDropout2D)) for layer in folded.layers)
    image = np.concatenate(noise(SIZE)[:2])
    expected, found = model(image), folded(image)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value)


def test_folded_trained_model_gives_the_same():
    """At the size it is used at, near ties in the max-pools move up to 0.3 % of the values."""
    model = utils.load_model(ROOT / "trained_model", (None, None))
    folded, image = fold_batch_norm(model), noise(SIZE)[0]
    found = folded(image)
    for name, value in model(image).items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4)
    image = noise(utils.read_network(ROOT / "trained_model")["input_shape"][:2])[1]
    found = folded(image)
    for name, value in model(image).items():
        assert (np.abs(np.asarray(found[name]) - value) > 1e-4).mean() < 0.005


def test_prelu_of_a_prelu_becomes_one_and_without_slopes_a_relu():
    model = shake(build_enet((32, 32, 3), stage_two_repeat=1))
    for number in (3, 4):
        alpha = model.get_layer(f"bottleneck1_1_prelu{number}").alpha
        alpha.assign(np.zeros(alpha.shape))
    steep = model.get_layer("bottleneck1_3_prelu1").alpha
    steep.assign(np.full(steep.shape, 1.5))  # no longer the larger of x and alpha x
    slopes = model.get_layer("bottleneck1_2_prelu3").alpha.numpy()
    assert (slopes < 0).any() and (slopes > 0).any()
    folded, image = fold_batch_norm(model), noise((32, 32))[0]
    assert isinstance(folded.get_layer("bottleneck1_1_prelu3"), layers.ReLU)
    assert not any(layer.name.endswith("_prelu4") for layer in folded.layers)
    assert_close(folded(image)["embedding"], model(image)["embedding"])


def test_difference_leaves_out_near_ties_but_nothing_that_is_wrong():
    """Of 1000 values, 9 that a tie moved don't count, nor does one image of three; 1 % of the values off do."""
    value = np.linspace(-4, 1, 1000)

    def off_by(*counts, by=1.0):
        answers = iter(np.where(np.arange(1000) < count, value + by, value) for count in counts)
        model, run = lambda image, training: {"embedding": value}, lambda image: {"embedding": next(answers)}
        return output_difference(model, run, range(3))

    assert off_by(9, 9, 9) == off_by(0, 0, 1000) == 0
    assert off_by(0, 1000, 1000) == off_by(11, 11, 11) == 0.25
    assert 1e-4 < off_by(0, 1000, 1000, by=1e-3) < 1e-3


def save(folder, build=utils.build_model, **options):
    network = {"input_shape": [*SIZE, 3], "embedding_dim": 2, "stage_two_repeat": 1, **options}
    model = shake(build(network))
    utils.save_model(folder, model, {"network": network})
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "shaken"
    return folder, save(folder)


def run_export(*arguments):
    export_command.main(list(map(str, arguments)))


def test_savedmodel(saved, tmp_path):
    folder, model = saved
    (tmp_path / "projects [2024]").mkdir()
    run_export(folder, "--format", "savedmodel", tmp_path / "projects [2024]/network")
    (tmp_path / "projects [2024]/network").rename(tmp_path / "network")  # TensorFlow itself reads it only there
    (tmp_path / "projects [2024]").rmdir()  # nothing else in it
    loaded = tf.saved_model.load(str(tmp_path / "network"))
    image = np.concatenate(noise(SIZE))
    found = loaded.signatures["serving_default"](image=tf.constant(image))
    for name, value in model(image).items():
        assert_close(found[name], value)
    assert len(loaded.weights) == len(fold_batch_norm(model).weights), "batch norm was not folded"


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated")
def test_tflite_as_the_page_says(saved, tmp_path, monkeypatch):
    """Its command and code, with another model and size, and names that some take for patterns."""
    name, place = "lanes[a-c]*.tflite", tmp_path / "projects [2024]"
    text = (ROOT / "doc/export.md").read_text(encoding="utf-8").replace("lanes.tflite", name)
    (command,) = [command for command in commands_of(ROOT / "doc/export.md") if "tflite" in command]
    (code,) = code_blocks(text.replace("(288, 512)", "(32, 64)"), "python")
    place.mkdir()
    monkeypatch.chdir(place)
    Path("inference_test").symlink_to(ROOT / "inference_test")
    Path("trained_model").symlink_to(saved[0])
    run_export("trained_model", name, *command[4:], "--size", 32, 64)
    assert {path.name for path in place.iterdir()} == {name, "inference_test", "trained_model"}
    names = {}
    exec(compile(code, "export.md", "exec"), names)
    for output, value in utils.load_model(saved[0], (32, 64))(names["image"][None]).items():
        assert_close(names["outputs"][output], value)
    interpreter = tf.lite.Interpreter(name)
    interpreter.allocate_tensors()
    operations = [operation["op_name"] for operation in interpreter._get_ops_details()]
    assert "CONV_2D" in operations and not any(name.startswith(("Flex", "CUSTOM")) for name in operations)
    # what XNNPACK doesn't know costs a third of the speed; the others hold a size
    assert operations.count("DELEGATE") == 1 and not {"RESHAPE", "TRANSPOSE_CONV"} & set(operations)


def test_onnx(saved, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, model = saved
    path = tmp_path / "network [2024].onnx"
    run_export(folder, "--format", "onnx", path)
    session = onnxruntime.InferenceSession(str(path))
    image = noise(SIZE)[0]
    found = session.run(["embedding", "semantic"], {"image": image})
    for value, name in zip(found, ("embedding", "semantic"), strict=True):
        assert_close(value, model(image)[name])


ERRORS = [
    ("{model} --format tflite {tmp}/file", "file: found something of that name"),
    ("{model} --format savedmodel {tmp}/dangling", "dangling: found something of that name"),
    ("{model} --format tflite {tmp}/absent/new", "absent/"),
    ("{model} --format onnx --int8 {tmp} {tmp}/new", "--int8: found --format onnx"),
    ("{open} --format tflite {tmp}/new", "give --size H W"),
    ("{statistics} --format tflite {tmp}/new", "export calibrate"),
    ("{diverged} --format savedmodel {tmp}/new", "embedding output is NaN"),
    ("{model} --format onnx {tmp}/new", "pip install tf2onnx onnxruntime"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in ("model", "open", "statistics", "diverged")}
    save(folders["model"], miniature)
    save(folders["open"], miniature, input_shape=[None, None, 3])
    save(folders["statistics"], miniature, image_statistics=True)
    model = save(folders["diverged"], miniature, input_shape=[16, 16, 3])
    model.get_layer("embedding").bias.assign([np.nan, 0])
    model.save(folders["diverged"] / utils.MODEL_FILE)
    return folders


@pytest.mark.parametrize("arguments,message", ERRORS)
def test_error_is_one_line_and_leaves_nothing(arguments, message, folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # absent, whether or not it is
    monkeypatch.setattr(utils, "build_model", miniature)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as exit_:
        run_export(*arguments.format(tmp=tmp_path, **folders).split())
    lines = capsys.readouterr().err.strip().splitlines()
    assert exit_.value.code == 2 and message in lines[-1] and sum("error:" in line for line in lines) == 1
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "mine"
