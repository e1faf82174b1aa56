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
from tqdm import tqdm

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
        the difference between the written network's outputs and those of the Keras model that 99 % of the values stay
        within, relative to the largest value of the output.

    Raises:
        UserError: a model that can't be read or has no fixed size, a path that can't be written to, a missing
            package, or outputs that differ by more than `TOLERANCE`. Nothing is left behind.
    """
    out = Path(out)
    if (out.exists() or out.is_symlink()) and not overwrite:
        raise UserError(f"{out}: found something of that name, expected to make it; name another, or --overwrite it")
    if out.is_dir() and not out.is_symlink() and any(out.iterdir()):
        if kind != "savedmodel" or not (out / "saved_model.pb").is_file():
            what = "SavedModel" if kind == "savedmodel" else "file"
            raise UserError(f"{out}: found a folder of something else, expected a {what} to overwrite; name another")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: found no folder {out.parent}, expected an existing one; make it first")
    if kind == "onnx":
        _require("tf2onnx", "onnxruntime")
    write, run = {
        "savedmodel": (_write_savedmodel, _run_savedmodel),
        "tflite": (_write_tflite, _run_tflite),
        "onnx": (_write_onnx, _run_onnx),
    }[kind]

    model = load_model(modeldir, image_size)
    if None in model.input_shape[1:]:
        raise UserError(f"{modeldir}: found a model without a fixed size, expected one; give --size H W")
    if calibration:
        images, tolerance, form = [image[None] for image in calibration[:3]], INT8_TOLERANCE, "int8"
    else:
        rng = np.random.default_rng(0)
        images = [rng.uniform(0, 255, (1, *model.input_shape[1:])).astype(np.float32) for _ in range(3)]
        tolerance, form = TOLERANCE, "lite" if kind == "tflite" else "graph"
    expected = [{name: np.asarray(y) for name, y in model(x, training=False).items()} for x in images]
    if not all(np.isfinite(y).all() for outputs in expected for y in outputs.values()):
        raise UserError(f"{modeldir}: found outputs that are not finite, expected a trained model; retrain it")
    with tqdm(total=3, desc="fold", unit="step", dynamic_ncols=True) as progress:
        norms = (layer for layer in model.layers if isinstance(layer, BatchNormalization))
        network = model if any(norm.image_statistics for norm in norms) else fold_batch_norm(model, form)
        progress.update()
        progress.set_description("write")
        # The first beside `out`, so that it can be renamed; the second because TensorFlow takes a path with brackets
        # for a pattern. Whatever happens, both go.
        beside = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent)
        with beside as folder, tempfile.TemporaryDirectory() as plain:
            path = Path(plain) / "model"
            write(network, path, *([calibration] if calibration else ()))
            progress.update()
            progress.set_description("compare")
            difference = output_difference(images, expected, run(path))
            if not difference <= tolerance:
                raise UserError(
                    f"{out}: not written, the exported network differs from Keras by {difference:.1e} of the output's "
                    f"largest value, expected at most {tolerance:.0e}; report it with the versions of the packages"
                )
            path = Path(shutil.move(path, folder))
            if out.exists() or out.is_symlink():
                out.rename(Path(folder) / "before")
            path.rename(out)
        progress.update()
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


def output_difference(images, expected, run):
    """How far `run(image) -> {name: array}` is off `expected`, relative to the output's largest value.

    A near tie in a max-pool may fall either way (`fold_batch_norm`), which moves a few pixels around, the more the
    larger the image; a wrong network is wrong everywhere and for every image. So the difference is what `ALIKE` of
    an output's values stay within, for the middle one of the images.
    """
    differences = []
    for image, outputs in zip(images, expected, strict=True):
        actual = run(image)
        pairs = [(np.asarray(actual[name]), value) for name, value in outputs.items()]
        differences.append(max(np.quantile(np.abs(a - b), ALIKE) / (np.abs(b).max() or 1) for a, b in pairs))
    return float(np.median(differences))


def _signature(batch, size):
    import tensorflow as tf

    return [tf.TensorSpec((batch, *size, 3), tf.float32, name="image")]


def _write_savedmodel(network, path, batch=None, size=None):
    import tensorflow as tf

    signature = _signature(batch, size or network.input_shape[1:3])

    # `network.export` traces the network once more for each signature, and keeps its weights twice
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.serve = tf.function(lambda image: network(image, training=False), input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _run_savedmodel(path):
    import tensorflow as tf

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
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:  # whose path has no brackets, see `export`
        _write_savedmodel(network, folder, 1, size)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if calibration:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        return converter.convert()


def make_interpreter(content, threads=None):
    """Function from a (1, H, W, 3) float32 image to {output: (1, H, W, C) float32}, not for two threads at once.

    Args:
        content: a TFLite file, as bytes.
        threads: that share an image; default 1.
    """
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of ai-edge-litert, to come in its place
        runner = tf.lite.Interpreter(model_content=content, num_threads=threads).get_signature_runner()
    return lambda image: runner(image=image)


def _write_tflite(network, path, calibration=()):
    path.write_bytes(convert_to_tflite(network, calibration=calibration))


def _run_tflite(path):
    return make_interpreter(path.read_bytes())


def _write_onnx(network, path):
    import tensorflow as tf
    import tf2onnx

    signature = _signature(1, network.input_shape[1:3])
    function = tf.function(lambda image: network(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, signature, opset=ONNX_OPSET, output_path=str(path))


def _run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))
