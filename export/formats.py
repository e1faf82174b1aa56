"""The network in the formats of other programs: SavedModel, TFLite, ONNX.

The exported network takes "image", float32 RGB in 0..255, and gives "embedding", "semantic" and "classes" (logits, of
models with these heads). A SavedModel takes any number of images at once, the other two formats one.
"""

import importlib
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from enet import BatchNormalization
from export.folding import fold_batch_norm
from run.command import UserError
from utils import load_model

TOLERANCE = 1e-4
INT8_TOLERANCE = 0.5  # which only what is broken exceeds; how good it is `python -m evaluation --int8` says
ALIKE = 0.99  # fraction of the values that must agree: near ties in max-pools move up to 0.3 % of them
ONNX_OPSET = 17


def export(modeldir, out, kind, image_size=None, overwrite=False, calibration=()):
    """Write the network of a model folder for other programs, folded if it can be, and check it against Keras.

    Args:
        modeldir: path that `utils.load_model` accepts.
        out: path to write, a folder for "savedmodel", else a file.
        kind: "savedmodel", "tflite" or "onnx".
        image_size: (H, W) in pixels, default the size the model was trained at.
        overwrite: replace `out` if it exists.
        calibration: list of (H, W, 3) float32 network inputs; if there are any, the TFLite file's weights and values
            have 8 bits, within the range that these images show.

    Returns:
        `output_difference` of the written network; if it is too large UserError is raised, and nothing is left behind.
    """
    out = Path(out)
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise UserError(f"{out}: found something of that name, expected to make it; name another, or --overwrite it")
    if out.is_dir() and not out.is_symlink() and any(out.iterdir()):
        if kind != "savedmodel" or not (out / "saved_model.pb").is_file():
            raise UserError(f"{out}: found a folder of something else, expected a {kind} to overwrite; name another")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: found no folder {out.parent}, expected an existing one; make it first")
    if kind == "onnx":
        _require("tf2onnx", "onnxruntime")
    model = load_model(modeldir, image_size)
    if None in model.input_shape[1:]:
        raise UserError(f"{modeldir}: found a model without a fixed size, expected one; give --size H W")

    form = "int8" if calibration else "lite" if kind == "tflite" else "graph"
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    network = model if any(norm.image_statistics for norm in norms) else fold_batch_norm(model, form)
    images = [image[None] for image in calibration[:3]] or noise(model.input_shape[1:3])
    tolerance = INT8_TOLERANCE if calibration else TOLERANCE
    # The first beside `out`, so that it can be renamed; the second because TensorFlow takes a path with brackets for a
    # pattern. Whatever happens, both go.
    beside = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent)
    with beside as folder, tempfile.TemporaryDirectory() as plain:
        path = Path(plain) / "model"
        if kind == "savedmodel":
            run = _write_savedmodel(network, path)
        elif kind == "onnx":
            run = _write_onnx(network, path)
        else:
            path.write_bytes(convert_to_tflite(network, calibration=calibration))
            run = make_interpreter(path.read_bytes())
        difference = output_difference(model, run, images)
        if not difference <= tolerance:
            raise UserError(
                f"{out}: not written, the exported network differs from Keras by {difference:.1e} of the output's "
                f"largest value, expected at most {tolerance:.0e}; report it with the versions of the packages"
            )
        path = Path(shutil.move(path, folder))
        if out.exists() or out.is_symlink():
            out.rename(Path(folder) / "before")
        path.rename(out)
    return difference


def _require(*packages):
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"--format onnx: {name} can't be imported ({error}), expected it installed; "
                f"run pip install {' '.join(packages)}"
            ) from None


def noise(size):
    """Three images of random pixels, each (1, H, W, 3) float32 in 0..255."""
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 255, (1, *size, 3)).astype(np.float32) for _ in range(3)]


def output_difference(model, run, images):
    """How far outputs `run(image) -> {name: array}` are off those of a keras.Model, relative to an output's largest.

    A near tie in a max-pool may fall either way (`fold_batch_norm`), which moves a few pixels around, the more the
    larger the image; a wrong network is wrong everywhere and for every image. So the difference is what `ALIKE` of
    an output's values stay within, for the middle one of the images. Raises UserError as `require_finite`.
    """
    differences = []
    for image in images:
        expected = {name: np.asarray(value) for name, value in model(image, training=False).items()}
        require_finite(expected)
        actual = run(image)
        pairs = [(np.asarray(actual[name]), value) for name, value in expected.items()]
        differences.append(max(np.quantile(np.abs(a - b), ALIKE) / (np.abs(b).max() or 1) for a, b in pairs))
    return float(np.median(differences))


def require_finite(outputs):
    """Raise UserError for outputs {name: array} that are not finite, as of a network whose training diverged."""
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise UserError(f"the model's {name} output is NaN or infinite, expected numbers; retrain or name another")


def _save_traced(network, path, batch, size):
    """A SavedModel of one signature; `network.export` keeps the weights twice and traces once more."""
    signature = [tf.TensorSpec((batch, *size, 3), tf.float32, name="image")]
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.serve = tf.function(lambda image: network(image, training=False), input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _write_savedmodel(network, path):
    _save_traced(network, path, None, network.input_shape[1:3])
    loaded = tf.saved_model.load(str(path))
    # the signature alone doesn't keep its variables
    return lambda image: loaded.signatures["serving_default"](image=tf.constant(image))


def convert_to_tflite(network, size=None, calibration=()):
    """TFLite file of a folded network for one image, as bytes.

    Args:
        network: keras.Model of `fold_batch_norm` in the form "lite", or "int8" with calibration.
        size: (H, W) in pixels, default the network's own; an interpreter can take others.
        calibration: list of (H, W, 3) float32 network inputs for 8 bits, input and outputs stay float32.
    """
    with tempfile.TemporaryDirectory() as folder:  # whose path has no brackets, see `export`
        _save_traced(network, folder, 1, size or network.input_shape[1:3])
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if calibration:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        return converter.convert()


def make_interpreter(content, threads=None):
    """Function from a (1, H, W, 3) float32 image to {output: (1, H, W, C) float32}, not for two threads at once.

    `content` is a TFLite file as bytes; so many threads share an image, default 1.
    """
    # of ai-edge-litert, to come in its place; not by `catch_warnings`, which other threads undo
    warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
    runner = tf.lite.Interpreter(model_content=content, num_threads=threads).get_signature_runner()
    return lambda image: runner(image=image)


def _write_onnx(network, path):
    import onnxruntime

    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name="image")]
    network.export(str(path), format="onnx", input_signature=signature, opset_version=ONNX_OPSET, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))
