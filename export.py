"""A network for inference only: batch norm folded into the convolutions, written for other programs to run.

    python utils.py export MODELDIR --format savedmodel|tflite|onnx OUT [--size H W]

The exported network takes "picture", float32 RGB in 0..255, and gives "embedding" and "semantic" (logits, of models
with that head). A SavedModel takes any number of pictures at once, the other two formats one.
"""

import importlib
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from tqdm import tqdm

from enet import BatchNormalization, PReLU
from utils import ModelError, load_model

TOLERANCE = 1e-4
ALIKE = 0.99  # share of the values that must agree: near ties in max-pools move up to 0.3 % of them
ONNX_OPSET = 17


class _BoundedPReLU(PReLU):
    """PReLU of slopes that are all at most 1, for inference: two passes over memory instead of five."""

    def call(self, inputs):
        return ops.maximum(inputs, self.alpha * inputs)


def fold_batch_norm(model, bounded_prelu=True):
    """Copy of a model for inference, every batch norm folded into the convolution before it and dropout left out.

    So is the rescaling of the picture. A PReLU of a PReLU becomes one, and one whose slopes are all 0 a ReLU, which
    runs as part of the convolution. The outputs agree up to rounding. Where two values of a max-pool window differ by
    no more than that, a value may be put back at the other one's place, which shows in the few pixels around.

    Args:
        model: keras.Model of `enet.build_enet` that normalizes with moving averages.
        bounded_prelu: write a PReLU of slopes up to 1 as a maximum, two passes over memory instead of TensorFlow's
            five; TFLite knows PReLU as one operation.

    Returns:
        keras.Model with the same input and outputs; the layers that are left keep their names.

    Raises:
        utils.ModelError: the model normalizes with the statistics of each picture.
    """
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    if any(norm.picture_statistics for norm in norms):
        raise ModelError(
            "found a model that normalizes with the statistics of each picture, expected moving averages; "
            "run utils.py calibrate first"
        )
    before = {id(norm.input): norm for norm in norms}
    folded = {layer.name: before[id(layer.output)] for layer in model.layers if id(layer.output) in before}
    slopes = {layer.name: layer.get_weights()[0] for layer in model.layers if isinstance(layer, layers.PReLU)}
    for name in [name for name in slopes if name.endswith("_prelu4")]:
        # the block's prelu3 comes right before; where its slope is negative, its output is never
        second, first = slopes.pop(name), name.replace("_prelu4", "_prelu3")
        slopes[first] = np.where(slopes[first] < 0, slopes[first], slopes[first] * second)

    rescale = model.get_layer("rescale")
    rescaled = [layer.name for layer in model.layers if layer.input is rescale.output]

    def clone(layer):
        config = layer.get_config()
        merged = isinstance(layer, layers.PReLU) and layer.name not in slopes
        if merged or isinstance(layer, (BatchNormalization, layers.SpatialDropout2D)) or layer is rescale:
            return lambda x, **_: x
        if layer.name in slopes and not slopes[layer.name].any():
            return layers.ReLU(name=layer.name)
        if bounded_prelu and layer.name in slopes and slopes[layer.name].max() <= 1:
            return _BoundedPReLU.from_config(config)
        if layer.name in rescaled and not isinstance(layer, layers.Conv2D):  # the pool: a quarter is left to rescale
            pool, after = type(layer).from_config(config), type(rescale).from_config(rescale.get_config())
            return lambda x, **_: after(pool(x))
        if layer.name in folded:
            config["use_bias"] = True
        return type(layer).from_config(config)

    fast = keras.models.clone_model(model, clone_function=clone)
    for layer in fast.layers:
        source = model.get_layer(layer.name)
        if layer.name in folded:
            layer.set_weights(_fold(source, folded[layer.name]))
        elif isinstance(layer, layers.PReLU):
            layer.set_weights([slopes[layer.name]])
        elif layer.weights:
            layer.set_weights(source.get_weights())
        if layer.name in rescaled and layer.weights:
            layer.kernel.assign(layer.kernel * rescale.scale)
    return fast


def _fold(convolution, norm):
    """[kernel, bias] of the convolution followed by the batch norm."""
    beta, mean, variance = (np.asarray(value, np.float64) for value in norm.get_weights())
    scale = 1 / np.sqrt(variance + norm.epsilon)
    kernel, *bias = convolution.get_weights()
    # a transposed convolution has its outputs on the last axis but one
    axis = (slice(None), None) if isinstance(convolution, layers.Conv2DTranspose) else slice(None)
    return [kernel * scale[axis], ((bias[0] if bias else 0) - mean) * scale + beta]


def export(modeldir, out, kind, image_size=None):
    """Write the network of a model folder for other programs, folded if it can be, and check it against Keras.

    Args:
        modeldir: path that `utils.load_model` accepts.
        out: path to write, a folder for "savedmodel", else a file; it must not exist.
        kind: "savedmodel", "tflite" or "onnx".
        image_size: (H, W) in pixels, default the size the model was trained at.

    Returns:
        the difference between the written network's outputs and those of the Keras model that 99 % of the values stay
        within, relative to the largest value of the output.

    Raises:
        utils.ModelError: a model that can't be read or has no fixed size, a path that can't be written to, a missing
            package, or outputs that differ by more than `TOLERANCE`. Nothing is left behind.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():
        raise ModelError(f"{out}: found something of that name, expected to make it; remove it or name another")
    if not out.absolute().parent.is_dir():
        raise ModelError(f"{out}: found no folder {out.parent}, expected an existing one; make it first")
    if kind == "onnx":
        _require("tf2onnx", "onnxruntime")
    write, run = {
        "savedmodel": (_write_savedmodel, _run_savedmodel),
        "tflite": (_write_tflite, _run_tflite),
        "onnx": (_write_onnx, _run_onnx),
    }[kind]

    model = load_model(modeldir, image_size)
    if None in model.input_shape[1:]:
        raise ModelError(f"{modeldir}: found a model without a fixed size, expected one; give --size H W")
    rng = np.random.default_rng(0)
    pictures = [rng.uniform(0, 255, (1, *model.input_shape[1:])).astype(np.float32) for _ in range(3)]
    expected = [{name: np.asarray(y) for name, y in model(x, training=False).items()} for x in pictures]
    if not all(np.isfinite(y).all() for outputs in expected for y in outputs.values()):
        raise ModelError(f"{modeldir}: found outputs that are not finite, expected a trained model; retrain it")
    with tqdm(total=3, desc="fold", unit="step", dynamic_ncols=True) as progress:
        norms = (layer for layer in model.layers if isinstance(layer, BatchNormalization))
        network = model if any(norm.picture_statistics for norm in norms) else fold_batch_norm(model, kind != "tflite")
        progress.update()
        progress.set_description("write")
        # beside `out`, so that it can be renamed; whatever happens, the folder goes
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as folder:
            path = Path(folder) / out.name
            write(network, path)
            progress.update()
            progress.set_description("compare")
            difference = _difference(pictures, expected, run(path))
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"{out}: not written, the exported network differs from Keras by {difference:.1e} of the output's "
                    f"largest value, expected at most {TOLERANCE:.0e}; report it with the versions of the packages"
                )
            path.rename(out)
        progress.update()
    return difference


def _require(*packages):
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ModelError(
                f"--format onnx: {name} can't be imported ({error}), expected it installed; "
                f"run pip install {' '.join(packages)}"
            ) from None


def _difference(pictures, expected, run):
    """How far `run(picture) -> {name: array}` is off `expected`, relative to the output's largest value.

    A near tie in a max-pool may fall either way (`fold_batch_norm`), which moves a few pixels around, the more the
    larger the picture; a wrong network is wrong everywhere and for every picture. So the difference is what `ALIKE` of
    an output's values stay within, for the middle one of the pictures.
    """
    differences = []
    for picture, outputs in zip(pictures, expected, strict=True):
        found = run(picture)
        pairs = [(np.asarray(found[name]), value) for name, value in outputs.items()]
        differences.append(max(np.quantile(np.abs(a - b), ALIKE) / (np.abs(b).max() or 1) for a, b in pairs))
    return float(np.median(differences))


def _signature(network, batch):
    import tensorflow as tf

    return [tf.TensorSpec((batch, *network.input_shape[1:]), tf.float32, name="picture")]


def _write_savedmodel(network, path, batch=None):
    network.export(path, format="tf_saved_model", verbose=False, input_signature=_signature(network, batch))


def _run_savedmodel(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    # the signature alone doesn't keep its variables
    return lambda picture: loaded.signatures["serving_default"](picture=tf.constant(picture))


def _write_tflite(network, path):
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _write_savedmodel(network, folder, batch=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())


def _run_tflite(path):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a package to come in its place
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    return lambda picture: runner(picture=picture)


def _write_onnx(network, path):
    import tensorflow as tf
    import tf2onnx

    signature = _signature(network, 1)
    function = tf.function(lambda picture: network(picture, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, signature, opset=ONNX_OPSET, output_path=str(path))


def _run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda picture: dict(zip(names, session.run(None, {"picture": picture}), strict=True))
