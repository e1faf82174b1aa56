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
from export import __main__ as export_command
from export import calibration
from run.checkpoint import start_from
from run.command import UserError
from run.config import new_network
from run.flags import parse_args
from run.label_statistics import LabelStatistics

BOTTLENECKS = [(f"1_{i}", "regular") for i in range(1, 5)]
RUN = ["regular", "dilated2", "asymmetric", "dilated4", "regular", "dilated8", "asymmetric", "dilated16"]
STAGES_2_3 = [(f"{stage}_{i}", kind) for stage in (2, 3) for i, kind in enumerate(RUN, start=1)]


def shapes_of_the_original(head=("Instance", 3)):
    """{name: shape} of the published checkpoints, from the architecture's facts."""
    shapes = {"Variable": [], "ENet/initial_block_1_conv/weights": [3, 3, 3, 13]}

    def conv(name, *shape):
        shapes[f"ENet/{name}/weights"] = list(shape)

    def norm(name, depth):
        for part in ("beta", "moving_mean", "moving_variance"):
            shapes[f"ENet/{name}/{part}"] = [depth]

    def prelu(name, depth):
        shapes[f"ENet/{name}alpha"] = [depth]

    norm("initial_block_1_batchnorm", 13)
    prelu("initial_block_1_prelu", 13)

    def block(name, depth_in, depth, kind, decoder=False):
        n, reduced = f"bottleneck{name}", depth_in // 4
        first = 2 if kind == "down" else 1
        conv(f"{n}_conv1", first, first, depth_in, reduced)
        if kind == "up":
            conv(f"{n}_main_conv1", 1, 1, depth_in, depth)
            norm(f"{n}batch_norm1", depth)
            shapes[f"ENet/{n}_transposed_conv2_filters"] = [3, 3, reduced, reduced]
        elif kind == "asymmetric":
            conv(f"{n}_asymmetric_conv2a", 5, 1, reduced, reduced)
            conv(f"{n}_asymmetric_conv2b", 1, 5, reduced, reduced)
        elif kind.startswith("dilated"):
            conv(f"{n}_dilated_conv2", 3, 3, reduced, reduced)
        else:
            conv(f"{n}_conv2", 3, 3, reduced, reduced)
        conv(f"{n}_conv3", 1, 1, reduced, depth)
        for i, d in enumerate((reduced, reduced, depth), start=2 if kind == "up" else 1):
            norm(f"{n}_batch_norm{i}", d)
        if not decoder:
            for i, d in enumerate((reduced, reduced, depth), start=1):
                prelu(f"{n}_prelu{i}", d)
            if kind != "down":
                prelu(f"{n}_prelu4", depth)
            prelu(f"{n}_last_prelu", depth)

    block("1_0", 16, 64, "down")
    for name, kind in BOTTLENECKS:
        block(name, 64, 64, kind)
    block("2_0", 64, 128, "down")
    for name, kind in STAGES_2_3:
        block(name, 128, 128, kind)
    block("4_0", 128, 64, "up", True)
    block("4_1", 64, 64, "regular", True)
    block("4_2", 64, 64, "regular", True)
    block("5_0", 64, 16, "up", True)
    block("5_1", 16, 16, "regular", True)
    shapes["ENet/fullconv/weights"] = [2, 2, 12, 16]
    for name in [n for n in shapes if n.endswith("/weights")]:
        transposed = name == "ENet/fullconv/weights"
        shapes[name.replace("/weights", "/biases")] = [shapes[name][2 if transposed else 3]]
    kind, depth = head
    if kind == "Instance":
        shapes["Instance/transfer_layer/conv2d_transpose/weights"] = [2, 2, depth, 16]
        shapes["Instance/transfer_layer/conv2d_transpose/biases"] = [depth]
    else:
        shapes["ENet/fullconv/weights"], shapes["ENet/fullconv/biases"] = [2, 2, depth, 16], [depth]
    return shapes


def random_values(shapes, seed=0):
    """Non-trivial values for every variable; kernels keep activations near 1."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes.items():
        if name.endswith("moving_variance"):
            values[name] = rng.uniform(0.3, 2.0, shape)
        elif len(shape) == 4:
            scale = 0.02 if "initial_block" in name else 1.0
            values[name] = scale * rng.normal(0, np.prod(shape[:3]) ** -0.5, shape)
        elif name.endswith("alpha"):
            values[name] = rng.uniform(-0.2, 0.6, shape)
        else:
            values[name] = rng.normal(0, 0.3, shape)
    return {name: np.float32(value) for name, value in values.items()}


def write_checkpoint(folder, values, prefix="model.ckpt-104999"):
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(n, initializer=v, use_resource=False) for n, v in values.items()]
        session.run(tf.compat.v1.variables_initializer(variables))
        tf.compat.v1.train.Saver(variables).save(session, str(folder / prefix), write_meta_graph=False)
    return folder


def original_network(values, image, batch_stats, head="Instance/transfer_layer/conv2d_transpose"):
    """The original's forward pass, image (1, H, W, 3) in 0..255 -> (1, H, W, channels), float64."""
    v = {name: tf.constant(value, tf.float64) for name, value in values.items()}

    def conv(x, name, stride=1, rate=1):
        y = tf.nn.conv2d(x, v[f"ENet/{name}/weights"], stride, "SAME", dilations=rate)
        return y + v[f"ENet/{name}/biases"]

    def norm(x, name):
        mean, variance = v[f"ENet/{name}/moving_mean"], v[f"ENet/{name}/moving_variance"]
        if batch_stats:
            mean, variance = tf.reduce_mean(x, (0, 1, 2)), tf.math.reduce_variance(x, (0, 1, 2))
        return (x - mean) / tf.sqrt(variance + 1e-3) + v[f"ENet/{name}/beta"]

    def prelu(x, name):
        return tf.where(x > 0, x, x * v[f"ENet/{name}alpha"])

    def transposed(x, kernel):
        size = [1, 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]]
        return tf.nn.conv2d_transpose(x, kernel, size, 2, "SAME")

    def sub_branch(x, n, kind, act, first_norm=1, stride=1):
        y = act(norm(conv(x, f"{n}_conv1", stride), f"{n}_batch_norm{first_norm}"), f"{n}_prelu1")
        if kind == "up":
            y = transposed(y, v[f"ENet/{n}_transposed_conv2_filters"])
        elif kind == "asymmetric":
            y = conv(conv(y, f"{n}_asymmetric_conv2a"), f"{n}_asymmetric_conv2b")
        elif kind.startswith("dilated"):
            y = conv(y, f"{n}_dilated_conv2", rate=int(kind[7:]))
        else:
            y = conv(y, f"{n}_conv2")
        y = act(norm(y, f"{n}_batch_norm{first_norm + 1}"), f"{n}_prelu2")
        return act(norm(conv(y, f"{n}_conv3"), f"{n}_batch_norm{first_norm + 2}"), f"{n}_prelu3")

    def relu(x, _):
        return tf.nn.relu(x)

    def same(x, name, kind, act=prelu):
        n = f"bottleneck{name}"
        return act(x + act(sub_branch(x, n, kind, act), f"{n}_prelu4"), f"{n}_last_prelu")

    def down(x, name):
        n = f"bottleneck{name}"
        y = sub_branch(x, n, "down", prelu, stride=2)
        main, positions = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")
        main = tf.pad(main, [[0, 0], [0, 0], [0, 0], [0, y.shape[3] - x.shape[3]]])
        return prelu(main + y, f"{n}_last_prelu"), positions

    def up(x, name, positions):
        n = f"bottleneck{name}"
        main = norm(conv(x, f"{n}_main_conv1"), f"{n}batch_norm1").numpy()
        unpooled = np.zeros((1, 2 * main.shape[1], 2 * main.shape[2], main.shape[3]))
        unpooled.reshape(-1)[positions.numpy().reshape(-1)] = main.reshape(-1)
        return tf.nn.relu(unpooled + tf.nn.relu(sub_branch(x, n, "up", relu, first_norm=2)))

    image = tf.constant(image, tf.float64)
    x = prelu(norm(conv(image, "initial_block_1_conv", 2), "initial_block_1_batchnorm"), "initial_block_1_prelu")
    x = tf.concat([x, tf.nn.max_pool2d(image, 2, 2, "SAME")], axis=3)
    x, positions_1 = down(x, "1_0")
    for name, kind in BOTTLENECKS:
        x = same(x, name, kind)
    x, positions_2 = down(x, "2_0")
    for name, kind in STAGES_2_3:
        x = same(x, name, kind)
    x = up(x, "4_0", positions_2)
    for name in ("4_1", "4_2"):
        x = same(x, name, "regular", relu)
    x = same(up(x, "5_0", positions_1), "5_1", "regular", relu)
    x = transposed(x, v[f"{head}/weights"]) + v[f"{head}/biases"]
    return (x if "fullconv" in head else tf.nn.relu(x)).numpy()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(folder, values) of a checkpoint with what training leaves beside the network: an optimizer's slots, counters."""
    values = random_values(shapes_of_the_original())
    values["Instance/transfer_layer/conv2d_transpose/biases"] += 1.0
    values["ENet/fullconv/weights/Adam_1"] = values["ENet/fullconv/weights"]
    values |= {"beta1_power": np.float32(0.9), "global_step": np.float32(1), "Variable_1": np.float32(1)}
    return write_checkpoint(tmp_path_factory.mktemp("original"), values), values


def test_names_and_shapes_are_the_published_ones(shared_data):
    expected = {}
    for line in (shared_data.parent / "original_variables.txt").read_text().splitlines():
        name, shape = line.split("\t")
        expected[name] = json.loads(shape)
    assert shapes_of_the_original() == expected


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
    from datagenerator import prepare_image, read_image

    folder, values = checkpoint
    clip = sorted((shared_data / "tusimple" / "val_set").rglob("20.jpg"))[0]
    image = prepare_image(read_image(clip), size)[None]
    # in a saturated sky all values of a window are equal
    image = np.clip(image + np.random.default_rng(0).uniform(-0.5, 0.5, image.shape), 0, 255)
    found = utils.load_model(folder, image_size=size, batch_stats=None if batch_stats else False)(image)
    expected = original_network(values, image, batch_stats)
    assert set(found) == {"embedding"} and expected.std() > 0.1
    assert relative(found["embedding"].numpy(), expected) < 1e-3


def test_stale_paths_and_several_checkpoints(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "moved [2024]"
    shutil.copytree(checkpoint[0], folder)
    older = random_values(shapes_of_the_original(), seed=1)
    write_checkpoint(folder, older, "model.ckpt-99")
    kernel = "ENet/bottleneck2_3_conv1/weights"

    build = utils.build_model({**utils.read_network(folder), "input_shape": [16, 16, 3]})
    monkeypatch.setattr(utils, "build_model", lambda *_, **__: build)

    def loaded():
        return utils.load_model(folder, (16, 16)).get_layer("bottleneck2_3_conv1").get_weights()[0]

    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "/home/somebody/gone/model.ckpt-99"\n', encoding="utf-8-sig"
    )
    (folder / "._model.ckpt-200000.index").write_bytes(b"a Mac's")
    np.testing.assert_array_equal(loaded(), older[kernel])
    (folder / "checkpoint").unlink()
    np.testing.assert_array_equal(loaded(), checkpoint[1][kernel])  # the newest by number


def test_misfits_are_listed(tmp_path):
    shapes = shapes_of_the_original()
    missing, misshapen, unknown = (f"ENet/bottleneck{name}/weights" for name in ("3_4_dilated_conv2", "2_1_conv2", "9"))
    del shapes[missing]
    shapes[misshapen] = [3, 3, 32, 16]
    shapes[unknown] = [1, 1, 2, 2]
    folder = write_checkpoint(tmp_path, random_values(shapes))
    with pytest.raises(UserError) as error:
        utils.load_model(folder, (16, 16))
    assert f"{missing} missing" in str(error.value) and f"{misshapen} [3, 3, 32, 16] instead of" in str(error.value)
    assert unknown in str(error.value) and str(error.value).count("weights") == 3


def test_semantic_checkpoint_is_a_starting_point(tmp_path, float64):
    """Two classes become one logit, exactly; the embedding head is fresh. Not usable for inference."""
    values = random_values(shapes_of_the_original(head=("fullconv", 2)))
    folder = write_checkpoint(tmp_path, values, "saved_model-29999")
    model = utils.build_model({**utils.read_network(folder), "input_shape": [64, 64, 3]})
    assert start_from(model, folder) == ["embedding"]
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    logits = original_network(values, image, True, head="ENet/fullconv")
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


def test_calibration_makes_a_normal_model(tmp_path, tiny_data, capsys, monkeypatch):
    """With one image its own statistics and the averages are the same; with several the averages are their mean."""
    monkeypatch.setattr(utils, "build_model", miniature)
    network = {"input_shape": [64, 64, 3], "image_statistics": True}
    own = miniature(network)
    utils.save_model(tmp_path, own, {"network": network})
    images = np.random.default_rng(2).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    images *= np.float32([1, 0.5, 0.2])[:, None, None, None]  # unlike each other
    model, found = calibration.calibrate(tmp_path, images[:1])
    assert found == {"input_shape": [64, 64, 3], "image_statistics": False}
    assert relative(model(images[:1])["embedding"].numpy(), own(images[:1])["embedding"].numpy()) < 1e-3
    assert relative(model(images[1:2])["embedding"].numpy(), own(images[1:2])["embedding"].numpy()) > 0.1

    averaged, _ = calibration.calibrate(tmp_path, images)
    maps = tf.nn.conv2d(images / 255, own.get_layer("first").kernel, 2, "SAME").numpy()
    layer = averaged.get_layer("norm")
    np.testing.assert_allclose(layer.moving_mean, maps.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, maps.var(axis=(1, 2)).mean(axis=0), rtol=1e-3, atol=1e-5)

    export_command.main(["calibrate", str(tmp_path), str(tiny_data / "images"), str(tmp_path / "calibrated")])
    assert utils.read_config(tmp_path / "calibrated")["network"]["image_statistics"] is False
    assert_inference(tmp_path / "calibrated", tiny_data / "images", tmp_path / "results", False, capsys)

    seen, calibrate = [], calibration.calibrate

    def watch(modeldir, images, size):
        seen.extend(images)
        return calibrate(modeldir, seen, size)

    monkeypatch.setattr(export_command, "calibrate", watch)
    kept = {
        "view": "crop",
        "zoom": 2.0,
        "normalize": True,
        "confidence": 0.4,
        "flags": {"dvar": 0.3},
        "min_pixels": 9.0,
    }
    utils.save_model(tmp_path / "own", own, {"network": network, **kept})
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) // 9)
    export_command.main(["calibrate", str(tmp_path / "own"), str(tmp_path / "a.png"), str(tmp_path / "again")])
    config = utils.read_config(tmp_path / "again")
    assert {name: config[name] for name in kept} == kept and config["network"]["input_shape"] == [64, 64, 3]
    assert [image.shape for image in seen] == [(40, 64, 3)]  # twice its size, filled up to multiples of 8
    assert seen[0][0, 0, 0] == 0 and seen[0][39, 59, 0] == 255 and not seen[0][:, 60:].any()
    with pytest.raises(SystemExit):  # a folder of other things is none to overwrite
        export_command.main(
            ["calibrate", str(tmp_path / "own"), str(tmp_path), str(tmp_path / "results"), "--overwrite"]
        )


def assert_inference(folder, images, out, own_statistics, capsys):
    """The command gives results with the model, and says if that normalizes with the statistics of each image."""
    capsys.readouterr()
    inference.main(["--modeldir", str(folder), "--indir", str(images), "--outdir", str(out)])
    assert ("statistics of each image" in capsys.readouterr().out) == own_statistics
    assert len(list(out.iterdir())) == len(list(images.iterdir()))


def test_inference_takes_the_folder(checkpoint, tmp_path, tiny_data, capsys, monkeypatch):
    images = tmp_path / "images"
    shutil.copytree(tiny_data / "images", images, ignore=lambda *_: [f"{number:04d}.png" for number in range(2, 8)])
    monkeypatch.setattr(utils, "read_network", lambda folder, read=utils.read_network: small(read(folder)))

    def small(network):
        return {**network, "input_shape": [64, 64, 3]}

    assert_inference(checkpoint[0], images, tmp_path / "results", True, capsys)


ORIGINAL = {"rescale": 1, "embedding_activation": "relu", "image_statistics": True}
ASYMMETRIC = "bottleneck2_3_asymmetric_conv2a"


@pytest.mark.parametrize("kind", ["instance", "semantic"])
def test_training_starts_from_it(kind, checkpoint, tmp_path):
    """Input range, ReLU and normalization come with the weights; the head that it doesn't have starts fresh."""
    folder, values = checkpoint
    kernels = {ASYMMETRIC: f"ENet/{ASYMMETRIC}", "embedding": "Instance/transfer_layer/conv2d_transpose"}
    if kind == "semantic":  # of 12 classes, which are none of ours
        values = random_values(shapes_of_the_original(head=("fullconv", 12)))
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
