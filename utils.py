"""Model folders: build, save and load a model.

A model folder holds `model.keras` (weights) and `config.json` (the network's arguments, the training's flags, package
versions, git commit). A run folder, with the model folders `best/` and `last/`, and a folder with a TensorFlow 1
checkpoint of the original count as model folders too.
"""

import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import subprocess
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from clustering import THRESHOLD
from enet import build_enet
from run.command import UserError

MODEL_FILE = "model.keras"
CONFIG_FILE = "config.json"
INDEX_FILES = "[!.]*.index"  # of a TensorFlow 1 checkpoint
# Step counters and Adam's slots
NOT_NEEDED = re.compile(r"(^|/)(Variable|global_step|beta[12]_power)(_\d+)?$|/Adam(_\d+)?$")
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "opencv-python")


def build_model(network, synchronized=False, folder=""):
    """Build a network of arguments of `enet.build_enet`, from a config in `folder`; UserError if they make none."""
    try:
        return build_enet(**{**network, "input_shape": tuple(network["input_shape"]), "synchronized": synchronized})
    except (KeyError, TypeError, ValueError) as error:
        path = Path(folder) / CONFIG_FILE
        raise UserError(f"{path}: 'network' describes no ENet ({error}); restore the file") from None


def save_model(folder, model, config):
    """Write a model and its `config`, which must hold "network", to `folder`, made if absent."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / MODEL_FILE) as temporary:
        model.save(temporary)
    write_json(folder / CONFIG_FILE, config)


def load_model(modeldir, image_size=None):
    """Load the model of `model_folder`, for images of `image_size` (H, W), by default that of its training.

    Raises UserError if it can't be read, or is a checkpoint without embedding head.
    """
    folder = model_folder(modeldir)
    network = read_network(folder)
    if image_size is not None:
        network["input_shape"] = (*image_size, 3)
    model = build_model(network, folder=folder)
    if not (folder / MODEL_FILE).is_file():
        if "embedding" in copy_original_weights(model, folder):
            expected = "expected one with it; such a one is only for training.py --modeldir"
            raise UserError(f"{folder}: found a semantic checkpoint without embedding head, {expected}")
        return model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Keras warns of each layer that is missing, then raises
            model.load_weights(folder / MODEL_FILE)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{folder / MODEL_FILE}: found no weights ({reason}); restore or retrain it") from None
    return model


def shipped(path):
    """`path`, or, if nothing is there, what this project has there."""
    here = Path(__file__).resolve().parent / path
    return str(here) if path and not Path(path).exists() and here.exists() else path


def model_folder(modeldir):
    """The folder with the model of `modeldir`: itself, else its `best/`, else its `last/`; raises UserError."""
    modeldir = shipped(modeldir)
    for folder in (Path(modeldir), Path(modeldir) / "best", Path(modeldir) / "last"):
        if (folder / MODEL_FILE).is_file() or any(folder.glob(INDEX_FILES)):
            return folder
    found = f"found no {MODEL_FILE} in it, best/ or last/, nor a TensorFlow 1 checkpoint"
    raise UserError(f"{modeldir}: {found}, expected a model folder; train one with training.py or name another folder")


def read_network(folder):
    """Arguments of `build_enet` for the model of a folder; raises UserError."""
    if not (folder / MODEL_FILE).is_file():
        return original_network(folder)
    network = dict(read_config(folder)["network"])
    shape = network.get("input_shape")
    sides = shape[:2] if isinstance(shape, list) and len(shape) == 3 else [0]
    if not all(side is None or type(side) is int and side > 0 and side % 8 == 0 for side in sides):
        path = folder / CONFIG_FILE
        raise UserError(f"{path}: found input_shape {shape!r}, expected [height, width, 3], multiples of 8; restore it")
    return network


def read_confidence(modeldir, name="confidence"):
    """Mean lane probability that each instance of a model needs, or "image_confidence", one of an image; default 0."""
    return _read_number(modeldir, name, 0.0, lambda x: 0 <= x < 1, "from 0 to below 1")


def read_threshold(modeldir):
    """Lane probability from which a pixel belongs to an instance."""
    return _read_number(modeldir, "threshold", THRESHOLD, lambda x: 0 < x < 1, "above 0 and below 1")


def read_bandwidth(modeldir):
    """Bandwidth of the mean shift for a model: twice the variance term's margin, by default 1.0.

    Where the loss is 0, embeddings of one instance lie within that of each other, those of two don't.
    """
    return 2.0 * _read_number(modeldir, "dvar", 0.5, lambda x: 0 <= x < np.inf, "from 0 on", "flags") or 1.0


def _read_number(modeldir, name, default, is_right, expected, part=None):
    """A number of a model's config, or of a dict in it; raises UserError."""
    folder = model_folder(modeldir)
    values = read_saved_config(folder)
    values = values.get(part) if part else values
    value = values.get(name, default) if isinstance(values, dict) else default
    if type(value) not in (int, float) or not is_right(value):
        raise UserError(f"{folder / CONFIG_FILE}: {name}: found {value!r}, expected a number {expected}; fix it")
    return value


def read_classes(modeldir):
    """Classes of a model, {name: whether it is stuff} in the order of its output."""
    folder = model_folder(modeldir)
    config = read_saved_config(folder)
    names, stuff = config.get("classes", []), config.get("stuff", [])
    count = config.get("network", {}).get("classes", 0)
    is_right = type(names) is type(stuff) is list and all(isinstance(name, str) for name in names)
    if not is_right or len(set(names)) != count or any(name not in names for name in stuff):
        expected = f"{count} names, some of them as stuff; restore it"
        raise UserError(f"{folder / CONFIG_FILE}: classes: found {names!r}, stuff {stuff!r}, expected {expected}")
    return {name: name in stuff for name in names}


def read_saved_config(folder):
    """`read_config` of a `model_folder`; {} of one of the original's."""
    return read_config(folder) if (Path(folder) / MODEL_FILE).is_file() else {}


def read_config(folder):
    """Read `config.json` of a model or run folder; raises UserError."""
    path = Path(folder) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
        if config["network"].get("refinement") == 0:  # an argument of earlier versions
            del config["network"]["refinement"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        name = type(error).__name__
        raise UserError(f"{path}: {name}: {error}, expected JSON with 'network'; restore the file") from None
    return config


def code_version():
    """{"versions": of the packages, "commit": of this code}, with "+changes" if it differs, None without git."""
    versions, commit = {}, None
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    command = "git --git-dir=.git --work-tree=. describe --always --abbrev=40 --exclude=* --dirty=+changes"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        folder = Path(__file__).resolve().parent
        commit = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    return {"versions": versions, "commit": commit}


def original_network(folder):
    """`read_network` of a checkpoint."""
    head = _read_checkpoint(folder).get("Instance/transfer_layer/conv2d_transpose/weights")
    heads = {"embedding_dim": 3 if head is None else head.shape[2], "semantic": head is None}
    fixed = {"rescale": 1, "embedding_activation": "relu", "image_statistics": True}
    return {"input_shape": [512, 512, 3], **heads, **fixed}


def _read_checkpoint(folder):
    """The TensorFlow 1 checkpoint that the file `checkpoint` in `folder` names, else the newest: {name: array}."""
    prefixes = sorted(folder.glob(INDEX_FILES), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)[-1:]])
    chosen = prefixes[-1].with_suffix("")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder / "checkpoint").read_text(encoding="utf-8-sig")
        # the folder may be another machine's
        named = re.search(r'^model_checkpoint_path: "(?:.*[\\/])?(.+)"', text, re.MULTILINE)
        if named and (folder / f"{named[1]}.index").is_file():
            chosen = folder / named[1]
    try:
        with tempfile.TemporaryDirectory() as plain:  # TensorFlow takes a path with brackets for a pattern
            for path in folder.iterdir():
                if path.name.startswith(f"{chosen.name}."):
                    Path(plain, "model" + path.name.removeprefix(chosen.name)).symlink_to(path.resolve())
            reader = tf.train.load_checkpoint(str(Path(plain, "model")))
            return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise UserError(f"{chosen}: {str(error).splitlines()[0]}, expected a TensorFlow 1 checkpoint") from None


def original_name(layer, variable):
    """Name in the original's checkpoints of the Keras names `layer` and `variable`."""
    if variable == "alpha":
        return f"ENet/{layer}alpha"
    if layer.endswith("_transposed_conv2"):
        return f"ENet/{layer}_filters"
    # the upsampling blocks' first batch norm lacks an underscore there
    layer = re.sub(r"^(bottleneck[45]_0)_batch_norm1$", r"\1batch_norm1", layer)
    scope = "Instance/transfer_layer/conv2d_transpose" if layer == "embedding" else f"ENet/{layer}"
    kinds = {"kernel": "weights", "bias": "biases"}
    return f"{scope}/{kinds.get(variable, variable)}"


def copy_original_weights(model, folder):
    """Copy the original checkpoint of a folder into a model; returns the names of the heads that it doesn't have.

    A semantic head of other than two classes is none of ours.
    """
    values = {name: value for name, value in _read_checkpoint(folder).items() if not NOT_NEEDED.search(name)}
    weights, biases = (values.pop(f"ENet/fullconv/{kind}", np.zeros(0)) for kind in ("weights", "biases"))
    has_embedding = any(name.startswith("Instance/") for name in values)
    problems, missing = [], []
    for layer in model.layers:
        if layer.name == "semantic" and weights.ndim == 4 and weights.shape[2] == 2:
            # a softmax over two classes is a sigmoid of the difference of their logits
            layer.set_weights([weights[:, :, 1:] - weights[:, :, :1], biases[1:] - biases[:1]])
        elif layer.name == "semantic" or layer.name == "embedding" and not has_embedding:
            missing.append(layer.name)
        else:
            for variable in layer.weights:
                name = original_name(layer.name, variable.name)
                value = values.pop(name, None)
                expected = [variable.shape[-1]] if variable.name == "alpha" else list(variable.shape)
                found = "missing" if value is None else list(value.shape)
                if found != expected:
                    problems.append(f"{name} {found} instead of {expected}")
                else:
                    variable.assign(value.reshape(variable.shape))
    problems += [f"{name} not known" for name in sorted(values)]
    if problems:
        raise UserError(f"{folder}: found {'; '.join(problems)}, expected a checkpoint of the original's ENet")
    return missing


def write_json(path, value):
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path):
    """Yield a new path beside `path`, of its suffix; on success it replaces `path`, else it is removed."""
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        yield str(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
