"""Checkpoints under the original's variable names, against a transcription of the original network in plain tf.nn.

The transcription is written from the facts about the original (variable names, order of operations) and has nothing in
common with `enet.py`.
"""

import json
import shutil
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import miniature

import inference
import utils
from datagenerator import prepare_image, read_image
from export import __main__ as export_command
from run.checkpoint import start_from
from run.command import UserError
from run.config import new_network
from run.flags import parse_args
from run.label_statistics import LabelStatistics

RUN = ["regular", "dilated2", "asymmetric", "dilated4", "regular", "dilated8", "asymmetric", "dilated16"]
INSTANCE, SEMANTIC = "Instance/transfer_layer/conv2d_transpose", "ENet/fullconv"


def random_value(rng, name, shape):
    """A value that isn't trivial; kernels keep activations near 1."""
    if len(shape) == 4:
        return rng.normal(0, (0.02 if "initial_block" in name else 1.0) * np.prod(shape[:3]) ** -0.5, shape)
    if name.endswith("moving_variance"):
        return rng.uniform(0.3, 2.0, shape)
    return rng.uniform(-0.2, 0.6, shape) if name.endswith("alpha") else rng.normal(0, 0.3, shape)


def original_network(values, image, batch_stats=True, head=INSTANCE, classes=12, seed=0):
    """The original's forward pass, image (1, H, W, 3) in 0..255 -> (1, H, W, channels), float64.

    Variables that `values` lacks are put there, random.
    """
    rng = np.random.default_rng(seed)

    def variable(name, *shape):
        if name not in values:
            values[name] = np.float32(random_value(rng, name, shape))
        return tf.constant(values[name], tf.float64)

    def conv(x, name, height, width, depth, stride=1, rate=1):
        kernel = variable(f"ENet/{name}/weights", height, width, x.shape[3], depth)
        return tf.nn.conv2d(x, kernel, stride, "SAME", dilations=rate) + variable(f"ENet/{name}/biases", depth)

    def norm(x, name):
        parts = ("beta", "moving_mean", "moving_variance")
        beta, mean, variance = (variable(f"ENet/{name}/{part}", x.shape[3]) for part in parts)
        if batch_stats:
            mean, variance = tf.reduce_mean(x, (0, 1, 2)), tf.math.reduce_variance(x, (0, 1, 2))
        return (x - mean) / tf.sqrt(variance + 1e-3) + beta

    def prelu(x, name):
        return tf.where(x > 0, x, x * variable(f"ENet/{name}alpha", x.shape[3]))

    def relu(x, _):
        return tf.nn.relu(x)

    def transposed(x, name, side, depth):
        kernel = variable(name, side, side, depth, x.shape[3])
        return tf.nn.conv2d_transpose(x, kernel, [1, 2 * x.shape[1], 2 * x.shape[2], depth], 2, "SAME")

    def sub_branch(x, n, kind, depth, act, number=1):
        reduced, side = x.shape[3] // 4, 2 if kind == "down" else 1
        y = act(norm(conv(x, f"{n}_conv1", side, side, reduced, side), f"{n}_batch_norm{number}"), f"{n}_prelu1")
        if kind == "up":
            y = transposed(y, f"ENet/{n}_transposed_conv2_filters", 3, reduced)
        elif kind == "asymmetric":
            y = conv(conv(y, f"{n}_asymmetric_conv2a", 5, 1, reduced), f"{n}_asymmetric_conv2b", 1, 5, reduced)
        elif kind.startswith("dilated"):
            y = conv(y, f"{n}_dilated_conv2", 3, 3, reduced, rate=int(kind[7:]))
        else:
            y = conv(y, f"{n}_conv2", 3, 3, reduced)
        y = act(norm(y, f"{n}_batch_norm{number + 1}"), f"{n}_prelu2")
        return act(norm(conv(y, f"{n}_conv3", 1, 1, depth), f"{n}_batch_norm{number + 2}"), f"{n}_prelu3")

    def same(x, name, kind, act=prelu):
        n = f"bottleneck{name}"
        return act(x + act(sub_branch(x, n, kind, x.shape[3], act), f"{n}_prelu4"), f"{n}_last_prelu")

    def down(x, name, depth):
        n = f"bottleneck{name}"
        y = sub_branch(x, n, "down", depth, prelu)
        main, positions = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")
        main = tf.pad(main, [[0, 0], [0, 0], [0, 0], [0, depth - x.shape[3]]])
        return prelu(main + y, f"{n}_last_prelu"), positions

    def up(x, name, positions, depth):
        n = f"bottleneck{name}"
        main = norm(conv(x, f"{n}_main_conv1", 1, 1, depth), f"{n}batch_norm1").numpy()
        unpooled = np.zeros((1, 2 * main.shape[1], 2 * main.shape[2], depth))
        unpooled.reshape(-1)[positions.numpy().reshape(-1)] = main.reshape(-1)
        return tf.nn.relu(unpooled + sub_branch(x, n, "up", depth, relu, number=2))

    image = tf.constant(image, tf.float64)
    x = conv(image, "initial_block_1_conv", 3, 3, 13, stride=2)
    x = prelu(norm(x, "initial_block_1_batchnorm"), "initial_block_1_prelu")
    x = tf.concat([x, tf.nn.max_pool2d(image, 2, 2, "SAME")], axis=3)
    x, positions_1 = down(x, "1_0", 64)
    for number in range(1, 5):
        x = same(x, f"1_{number}", "regular")
    x, positions_2 = down(x, "2_0", 128)
    for stage in (2, 3):
        for number, kind in enumerate(RUN, start=1):
            x = same(x, f"{stage}_{number}", kind)
    x = up(x, "4_0", positions_2, 64)
    for name in ("4_1", "4_2"):
        x = same(x, name, "regular", relu)
    x = same(up(x, "5_0", positions_1, 16), "5_1", "regular", relu)
    logits = transposed(x, f"{SEMANTIC}/weights", 2, classes) + variable(f"{SEMANTIC}/biases", classes)
    if head == SEMANTIC:
        return logits.numpy()
    return tf.nn.relu(transposed(x, f"{head}/weights", 2, 3) + variable(f"{head}/biases", 3)).numpy()


def random_values(**options):
    """{name: value} of all variables of the original."""
    values = {"Variable": np.float32(0)}
    original_network(values, np.zeros((1, 16, 16, 3)), **options)
    return values


def write_checkpoint(folder, values, prefix="model.ckpt-104999"):
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(n, initializer=v, use_resource=False) for n, v in values.items()]
        session.run(tf.compat.v1.variables_initializer(variables))
        tf.compat.v1.train.Saver(variables).save(session, str(folder / prefix), write_meta_graph=False)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(folder, values) of a checkpoint with what training leaves beside the network: an optimizer's slots, counters."""
    values = random_values()
    values[f"{INSTANCE}/biases"] += 1.0
    values["ENet/fullconv/weights/Adam_1"] = values["ENet/fullconv/weights"]
    values |= {"beta1_power": np.float32(0.9), "global_step": np.float32(1), "Variable_1": np.float32(1)}
    return write_checkpoint(tmp_path_factory.mktemp("original"), values), values


def test_names_and_shapes_are_the_published_ones(shared_data):
    expected = {}
    for line in (shared_data.parent / "original_variables.txt").read_text().splitlines():
        name, shape = line.split("\t")
        expected[name] = json.loads(shape)
    assert {name: list(value.shape) for name, value in random_values().items()} == expected


def relative(found, expected):
    """Largest difference in standard deviations."""
    return np.abs(found - expected).max() / expected.std()


@pytest.fixture
def float64():
    """Run Keras in float64.

    In float32, rounding decides which of two nearly equal values of a pooling window is the maximum, so that two right
    implementations put some values back to different places.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("size,batch_stats", [((512, 512), True), ((160, 224), False)])
def test_embeddings_agree(checkpoint, shared_data, size, batch_stats, float64):
    folder, values = checkpoint
    clip = sorted((shared_data / "tusimple" / "val_set").rglob("20.jpg"))[0]
    image = prepare_image(read_image(clip), size)[None]
    # in a saturated sky all values of a window are equal
    image = np.clip(image + np.random.default_rng(0).uniform(-0.5, 0.5, image.shape), 0, 255)
    network = utils.read_network(folder)
    assert network["image_statistics"]
    model = utils.build_model({**network, "input_shape": (*size, 3), "image_statistics": batch_stats})
    assert utils.copy_original_weights(model, folder) == []
    found, expected = model(image), original_network(values, image, batch_stats)
    assert set(found) == {"embedding"} and expected.std() > 0.1
    assert relative(found["embedding"].numpy(), expected) < 1e-3


def test_stale_paths_and_several_checkpoints(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "moved [2024]"
    shutil.copytree(checkpoint[0], folder)
    older = random_values(seed=1)
    write_checkpoint(folder, older, "model.ckpt-99")
    kernel = "ENet/bottleneck2_3_conv1/weights"

    build = utils.build_model({**utils.read_network(folder), "input_shape": [16, 16, 3]})
    monkeypatch.setattr(utils, "build_model", lambda *_, **__: build)

    def loaded():
        return utils.load_model(folder, (16, 16)).get_layer("bottleneck2_3_conv1").get_weights()[0]

    text = 'model_checkpoint_path: "/home/somebody/gone/model.ckpt-99"\n'
    (folder / "checkpoint").write_text(text, encoding="utf-8-sig")
    (folder / "._model.ckpt-200000.index").write_bytes(b"a Mac's")
    np.testing.assert_array_equal(loaded(), older[kernel])
    (folder / "checkpoint").unlink()
    np.testing.assert_array_equal(loaded(), checkpoint[1][kernel])  # the newest by number


def test_misfits_are_listed(tmp_path):
    values = random_values()
    missing, misshapen, unknown = (f"ENet/bottleneck{name}/weights" for name in ("3_4_dilated_conv2", "2_1_conv2", "9"))
    del values[missing]
    values[misshapen], values[unknown] = np.zeros((3, 3, 32, 16), np.float32), np.zeros(2, np.float32)
    folder = write_checkpoint(tmp_path, values)
    with pytest.raises(UserError) as error:
        utils.load_model(folder, (16, 16))
    assert f"{missing} missing" in str(error.value) and f"{misshapen} [3, 3, 32, 16] instead of" in str(error.value)
    assert unknown in str(error.value) and str(error.value).count("weights") == 3


def test_semantic_checkpoint_is_a_starting_point(tmp_path, float64):
    """Two classes become one logit, exactly; the embedding head is fresh. Not usable for inference."""
    values = random_values(head=SEMANTIC, classes=2)
    folder = write_checkpoint(tmp_path, values, "saved_model-29999")
    model = utils.build_model({**utils.read_network(folder), "input_shape": [64, 64, 3]})
    assert start_from(model, folder) == ["embedding"]
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    logits = original_network(values, image, head=SEMANTIC, classes=2)
    expected = logits[..., 1:] - logits[..., :1]
    assert relative(model(image)["semantic"].numpy(), expected) < 1e-3
    with pytest.raises(UserError, match="without embedding head"):
        utils.load_model(folder)


def test_a_checkpoint_that_was_cut_off(checkpoint, tmp_path):
    for path in checkpoint[0].iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-1000] if ".data-" in path.name else data)
    with pytest.raises(UserError, match="expected a TensorFlow 1 checkpoint"):
        utils.load_model(tmp_path)


@pytest.fixture
def uncalibrated(tmp_path, monkeypatch):
    """Folder of a model that normalizes with the statistics of each image, the model, its arguments."""
    monkeypatch.setattr(utils, "build_model", miniature)
    network = {"input_shape": [64, 64, 3], "image_statistics": True}
    kept = {"view": "crop", "zoom": 2.0, "normalize": True, "confidence": 0.4, "min_pixels": 9.0}
    model = miniature(network)
    utils.save_model(tmp_path / "own", model, {"network": network, **kept})
    return tmp_path / "own", model, kept


def test_calibration_takes_the_mean_of_the_images_statistics(uncalibrated):
    folder, own, _ = uncalibrated
    images = np.random.default_rng(2).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    images *= np.float32([1, 0.5, 0.2])[:, None, None, None]  # unlike each other
    model, found = export_command.calibrate(folder, images[:1])
    assert found == {"input_shape": [64, 64, 3], "image_statistics": False}
    assert relative(model(images[:1])["embedding"].numpy(), own(images[:1])["embedding"].numpy()) < 1e-3
    assert relative(model(images[1:2])["embedding"].numpy(), own(images[1:2])["embedding"].numpy()) > 0.1

    layer = export_command.calibrate(folder, images)[0].get_layer("norm")
    maps = tf.nn.conv2d(images / 255, own.get_layer("first").kernel, 2, "SAME").numpy()
    np.testing.assert_allclose(layer.moving_mean, maps.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, maps.var(axis=(1, 2)).mean(axis=0), rtol=1e-3, atol=1e-5)


def test_calibration_makes_a_normal_model(uncalibrated, tmp_path, monkeypatch):
    """It sees images as the model does, and keeps what its config says."""
    seen, calibrate = [], export_command.calibrate

    def watch(modeldir, images):
        seen.extend(images)
        return calibrate(modeldir, seen)

    folder, _, kept = uncalibrated
    monkeypatch.setattr(export_command, "calibrate", watch)
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) // 9)
    export_command.main(["calibrate", str(folder), str(tmp_path / "a.png"), str(tmp_path / "again")])
    config = utils.read_config(tmp_path / "again")
    assert config.items() >= kept.items()
    assert config["network"] == {"input_shape": [64, 64, 3], "image_statistics": False}
    assert [image.shape for image in seen] == [(40, 64, 3)]  # twice its size, filled up to multiples of 8
    assert seen[0][0, 0, 0] == 0 and seen[0][39, 59, 0] == 255 and not seen[0][:, 60:].any()


def test_inference_takes_the_folder(checkpoint, tmp_path, tiny_data, capsys, monkeypatch):
    def small(folder, read=utils.read_network):
        return {**read(folder), "input_shape": [64, 64, 3]}

    monkeypatch.setattr(utils, "read_network", small)
    image, out = tiny_data / "images/0000.png", tmp_path / "results"
    inference.main(["--modeldir", str(checkpoint[0]), "--indir", str(image), "--outdir", str(out)])
    assert "TensorFlow graph" in capsys.readouterr().err
    assert len(list(out.iterdir())) == 1


ORIGINAL = {"rescale": 1, "embedding_activation": "relu", "image_statistics": True}
ASYMMETRIC = "bottleneck2_3_asymmetric_conv2a"


@pytest.mark.parametrize("kind", ["instance", "semantic"])
def test_training_starts_from_it(kind, checkpoint, tmp_path):
    """Input range, ReLU and normalization come with the weights; the head that it doesn't have starts fresh."""
    folder, values = checkpoint
    kernels = {ASYMMETRIC: f"ENet/{ASYMMETRIC}", "embedding": INSTANCE}
    if kind == "semantic":  # of 12 classes, which are none of ours
        values = random_values(head=SEMANTIC)
        folder = write_checkpoint(tmp_path, values, "saved_model-29999")
        del kernels["embedding"]
    flags = parse_args(["--modeldir", str(folder), "--image-size", "64", "96"])
    data = SimpleNamespace(has_labels=True, classes={})
    network = new_network(flags, data, LabelStatistics(foreground=0.1))
    assert network.items() >= {**ORIGINAL, "dropout": True}.items()
    model = utils.build_model(network)
    fresh = start_from(model, folder)
    assert sorted(fresh) == (["semantic"] if kind == "instance" else ["embedding", "semantic"])
    for layer, variable in kernels.items():
        np.testing.assert_array_equal(model.get_layer(layer).get_weights()[0], values[f"{variable}/weights"])
