"""The network in other programs' formats: SavedModel, for any number of images, TFLite and ONNX, for one.

It takes "image", float32 RGB in 0..255, and gives "embedding" and, if it has them, logits "semantic" and "classes".
"""

import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.folding import fold_batch_norm
from run.command import UserError
from utils import load_model

TOLERANCE = 1e-4
INT8_TOLERANCE = 0.5  # only for what is broken; how good it is `python -m evaluation --int8` says
ALIKE = 0.99  # of the values must agree: near ties in max-pools move up to 0.3 %
ONNX_OPSET = 17


def export(modeldir, out, kind, image_size=None, overwrite=False, calibration=()):
    """Write the network of a model folder, folded, to `out`; `kind` is "savedmodel", a folder, "tflite" or "onnx".

    Args:
        modeldir, image_size: as of `utils.load_model`.
        overwrite: replace `out` if it is a file or a SavedModel.
        calibration: list of (H, W, 3) float32 network inputs, for a TFLite file of 8 bits within their range.

    Returns its `output_difference`; where it is too large, UserError, and nothing is left behind.
    """
    out = Path(out)
    is_other = out.is_dir() and not (kind == "savedmodel" and (out / "saved_model.pb").is_file())
    if is_other or (out.exists() or out.is_symlink()) and not overwrite:
        raise UserError(f"{out}: found something of that name, expected none; name another, or --overwrite an export")
    model = load_model(modeldir, image_size)
    if None in model.input_shape[1:]:
        raise UserError(f"{modeldir}: found a model without a fixed size, expected one; give --size H W")
    network = fold_batch_norm(model, "int8" if calibration else "lite" if kind == "tflite" else "graph")
    # beside `out`, to be renamed; first elsewhere, as TensorFlow takes brackets for a pattern
    beside = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent)
    with beside as folder, tempfile.TemporaryDirectory() as plain:
        path = Path(plain) / "model"
        if kind == "savedmodel":
            _write_savedmodel(network, path)
            loaded = tf.saved_model.load(str(path))  # to be kept: the signature doesn't keep its variables
            run = loaded.signatures["serving_default"]
        elif kind == "onnx":
            run = _write_onnx(network, path)
        else:
            path.write_bytes(convert_to_tflite(network, calibration=calibration))
            run = make_interpreter(path.read_bytes())
        images = [image[None] for image in calibration[:3]] or noise(model.input_shape[1:3])
        difference = output_difference(model, run, images)
        if not difference <= (INT8_TOLERANCE if calibration else TOLERANCE):
            found = f"found outputs off by {difference:.1e} of the largest value"
            raise UserError(f"{out}: {found}, expected rounding; report it with the packages' versions")
        path = Path(shutil.move(path, folder))
        if out.exists() or out.is_symlink():
            out.rename(Path(folder) / "before")
        path.rename(out)
    return difference


def noise(size):
    """Three random images, each (1, H, W, 3) float32 in 0..255."""
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 255, (1, *size, 3)).astype(np.float32) for _ in range(3)]


def output_difference(model, run, images):
    """How far outputs `run(image) -> {name: array}` are off those of a keras.Model, relative to an output's largest.

    A near tie in a max-pool may fall either way; a wrong network is wrong everywhere. So it is what `ALIKE` of an
    output's values stay within, for the middle one of the images. Raises UserError as `require_finite`.
    """
    differences = []
    for image in images:
        expected = {name: np.asarray(value) for name, value in model(image, training=False).items()}
        require_finite(expected)
        actual = run(image=image)
        pairs = [(np.asarray(actual[name]), value) for name, value in expected.items()]
        differences.append(max(np.quantile(np.abs(a - b), ALIKE) / (np.abs(b).max() or 1) for a, b in pairs))
    return float(np.median(differences))


def require_finite(outputs):
    """Raise UserError for outputs {name: array} that are not finite, as after training diverged."""
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise UserError(f"the model's {name} output is NaN or infinite, expected numbers; retrain or name another")


def _write_savedmodel(network, path, batch=None, size=None):
    """A SavedModel of one signature; `network.export` keeps the weights twice."""
    signature = [tf.TensorSpec((batch, *(size or network.input_shape[1:3]), 3), tf.float32, name="image")]
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.serve = tf.function(lambda image: network(image, training=False), input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.serve)


def convert_to_tflite(network, size=None, calibration=()):
    """TFLite file, as bytes, of a `fold_batch_norm` in the form "lite", or "int8" with calibration as of `export`.

    `size` is (H, W), default the network's own; an interpreter can take others. Outputs stay float32.
    """
    with tempfile.TemporaryDirectory() as folder:  # without brackets, see `export`
        _write_savedmodel(network, folder, 1, size)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if calibration:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        return converter.convert()


def make_interpreter(content, threads=None):
    """Function from (1, H, W, 3) float32 to {output: (1, H, W, C) float32} of a TFLite file's bytes.

    To be called by one thread; that many `threads`, default 1, share an image.
    """
    # not by `catch_warnings`, which other threads undo
    warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
    runner = tf.lite.Interpreter(model_content=content, num_threads=threads).get_signature_runner()
    return lambda image: runner(image=image)


def _write_onnx(network, path):
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401 - which Keras uses
    except ImportError as error:
        raise UserError(f"--format onnx: {error}, expected it installed; pip install tf2onnx onnxruntime") from None
    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name="image")]
    network.export(str(path), format="onnx", input_signature=signature, opset_version=ONNX_OPSET, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))
