"""What all tests have in common: import paths, the real data, a tiny data set and a tiny trained run."""

import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from run.command import UserError, set_environment

set_environment()
# a shell starts jobs in the background with Ctrl-C ignored, and two tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parents[1]


# begun first, the longest before the others
SLOWEST = "tiny_run original_checkpoints enet export strategies bad_input utils resume examples clustering"
SLOWEST = f"{SLOWEST} shipped_model synthetic_dataset commands video".split()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Converted networks go to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """With `-n`, a file's tests go to one process, and so do all that need the tiny run, which is made once."""

    def group(item):
        return "tiny_run" if "tiny_run" in item.fixturenames else item.path.stem.removeprefix("test_")

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: SLOWEST.index(group(item)) if group(item) in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session", autouse=True)
def graphs_start_soon():
    """Graphs run as they are: to rearrange ENet's takes longer than a test."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session", autouse=True)
def networks_are_made_once():
    """A network that one test has built serves the next ones whose model folder holds the same files."""
    import evaluation.__main__
    import utils
    from pipeline import segmentation

    load, kept = segmentation.load_network, {}

    def load_once(modeldir, image_size=None, *args, **options):
        files = []
        with contextlib.suppress(UserError, OSError):
            files = [path for path in sorted(utils.model_folder(modeldir).iterdir()) if path.is_file()]
        # some tests replace the function that builds it
        key = *args, *sorted(options.items()), image_size and tuple(image_size), utils.build_model
        key += tuple((path.name, hashlib.sha256(path.read_bytes()).digest()) for path in files)
        if not files or key not in kept:
            kept[key] = load(modeldir, image_size, *args, **options)
        return kept[key]

    segmentation.load_network = evaluation.__main__.load_network = load_once
    yield
    segmentation.load_network = evaluation.__main__.load_network = load


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real TuSimple images and labels; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real images: ../shared/data is absent")
    return folder


def draw_scene(rng, size=(96, 160)):
    """A dark road with three bright lines through one vanishing point: (image BGR uint8, label uint8)."""
    height, width = size
    image = np.full((height, width, 3), rng.integers(60, 110), np.uint8)
    image[: height // 3] = 170
    label = np.zeros(size, np.uint8)
    vanish = (width // 2 + int(rng.integers(-10, 10)), height // 3)
    for i, bottom in enumerate((-0.1, 0.5, 1.1)):
        end = (int(width * bottom + rng.integers(-12, 12)), height)
        cv2.line(image, vanish, end, (230, 230, 230), 3, cv2.LINE_AA)
        cv2.line(label, vanish, end, 50 * i + 20, 5)
    image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return image, label


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Data folder of eight drawn scenes with `images/` and `labels/`."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(8):
        for kind, image in zip(("images", "labels"), draw_scene(rng), strict=True):
            (folder / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{i:04d}.png"), image)
    return folder


TINY_FLAGS = "--image-size 64 96 --batch-size 4 --no-augment --reg 0.001 --foreground-weight 10 "
TINY_FLAGS += "--lr 5e-3 --optimizer adamw --schedule cosine"


@pytest.fixture(scope="session")
def tiny_run(tiny_data, tmp_path_factory):
    """Run folder of 60 steps of training on `tiny_data`, from the shipped model without its last stage at 1/8."""
    import training
    import utils

    folder, network = tmp_path_factory.mktemp("runs") / "tiny", {"input_shape": [64, 96, 3], "stage_two_repeat": 1}
    shipped, model = utils.load_model(ROOT / "trained_model"), utils.build_model(network)
    for layer in model.layers:
        # the decoder's blocks, 4 and 5 in the paper, are 3 and 4 here
        name = re.sub("^bottleneck([34])", lambda found: f"bottleneck{int(found[1]) + 1}", layer.name)
        layer.set_weights(shipped.get_layer(name).get_weights() if layer.weights else [])
    utils.save_model(folder.parent / "start", model, {"network": network})
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir {folder.parent / 'start'} --outdir {folder} "
    flags += f"--logdir {folder / 'log'} {TINY_FLAGS} --warmup 10 --steps 60 --val-every 15 --save-every 40 "
    flags += "--plot-every 60"
    assert training.main(flags.split()) == 0
    return folder


def two_lines(label_map, size, logits=None):
    """In place of `fit_lanes`: two curves, whatever the label map of a hardly trained network."""
    from lanes.curves import fit_lanes

    canvas = np.zeros((256, 512), np.uint8)
    cv2.line(canvas, (250, 90), (60, 255), 1, 3)
    cv2.line(canvas, (262, 90), (400, 255), 2, 3)
    return fit_lanes(canvas, size)


def fake_step(monkeypatch, losses):
    """Replace the compiled step, slow to trace, by one that gives these losses and changes a weight."""
    import tensorflow as tf

    import training
    from run.train_step import LOSS_TERMS

    given = iter(losses)

    def make(model, optimizer, *args):
        def step(image, label):
            value = next(given)
            if isinstance(value, BaseException):
                raise value
            model.trainable_variables[0].assign_add(tf.ones_like(model.trainable_variables[0]))
            optimizer.iterations.assign_add(1)
            return tf.fill([7 if "classes" in model.output else 6], tf.cast(value, tf.float32))

        return step

    monkeypatch.setattr(training, "make_train_step", make)
    monkeypatch.setattr(training.Validation, "run", lambda self: dict.fromkeys(LOSS_TERMS, 1.0))
    monkeypatch.setattr(training.SummaryLog, "images", lambda *args: None)


@contextlib.contextmanager
def full_disk(size):
    """In its place a limit of the files' size, in bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def ctrl_c(when):
    """Send Ctrl-C to the block as soon as `when()` holds; exit code 130."""

    def send():
        while not when():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(SystemExit, match="^130$"):
        yield
    thread.join()


def miniature(network, synchronized=False, folder=""):
    """A network with ENet's input, outputs and kinds of layers, built and traced in seconds."""
    import keras
    from keras import layers

    import enet

    image = keras.Input(shape=tuple(network["input_shape"]), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="first")(x)
    statistics = network.get("image_statistics", False)
    x = enet.BatchNormalization(statistics, synchronized=synchronized, name="norm")(x)
    x = enet.PReLU(shared_axes=(1, 2), name="prelu")(x)
    if network.get("dropout", True):
        x = layers.SpatialDropout2D(0.2, name="drop")(x)
    heads = {"embedding": network.get("embedding_dim", 3), "semantic": int(network.get("semantic", True))}
    heads["classes"] = network.get("classes") or 0
    outputs = {
        name: layers.Conv2DTranspose(depth, 2, strides=2, dtype="float32", name=name)(x)
        for name, depth in heads.items()
        if depth
    }
    return keras.Model(image, outputs, name="miniature")


def save_miniature(folder, **network):
    """Folder of a model that is a `miniature`, 64x96 if not said otherwise."""
    import utils

    network = {"input_shape": [64, 96, 3], **network}
    utils.save_model(folder, miniature(network), {"network": network})
    return folder


def error_line(main, capsys, *argv):
    """The last line on stderr of a command that fails."""
    with pytest.raises(SystemExit) as error:
        main(list(map(str, argv)))
    assert error.value.code == 2
    return capsys.readouterr().err.strip().split("\n")[-1]


def evaluation_error(capsys, *argv):
    from evaluation.__main__ import main

    line = error_line(main, capsys, *argv)
    assert line.startswith("evaluation: error: ")
    return line


def evaluation_scores(capsys, *argv):
    """{metric: value} that an evaluation prints as JSON."""
    from evaluation.__main__ import main

    main([*map(str, argv), "--json"])
    return {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}
