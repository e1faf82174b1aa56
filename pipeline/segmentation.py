"""From an image to its instances: a model made ready for inference, its outputs, and their clusters."""

import contextlib
import weakref

import numpy as np
import tensorflow as tf
from joblib import cpu_count

import utils
from clustering import BANDWIDTH, THRESHOLD, find_instances
from datagenerator import prepare_image
from export.folding import fold_batch_norm

_compiled = weakref.WeakKeyDictionary()


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def use_cores():
    """Give every core an image of its own; returns how many that are, the images to work on at a time.

    ENet's operations are so small that sharing one among two cores makes it only 1.4 times faster: without a GPU
    TensorFlow is told to run every operation in one thread, if it has not started already.
    """
    if not has_gpu():
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.threading.set_intra_op_parallelism_threads(1)
    return cpu_count()


def load_network(modeldir, image_size=None, jit=False):
    """The model of a folder, folded if it can be, compiled and warm.

    Args:
        modeldir: path that `utils.load_model` accepts.
        image_size: (H, W) to work at, default the size the model was trained at.
        jit: compile it with XLA.

    Returns:
        keras.Model for `predict`.

    Raises:
        ModelError: no model there, or one that can't be built or run.
    """
    try:
        model = utils.load_model(modeldir, image_size)
        if not utils.read_network(utils.model_folder(modeldir)).get("image_statistics"):
            model = fold_batch_norm(model)
        compile_network(model, jit)
        run_network(model, np.zeros((*model.input_shape[1:3], 3), np.float32))  # tracing is no part of the times
    except (utils.ModelError, OSError):
        raise
    except (ValueError, TypeError, RecursionError, tf.errors.OpError) as error:  # a config that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise utils.ModelError(
            f"--modeldir {modeldir}: its network can't be built or run ({reason}); restore it or name another"
        ) from None
    return model


def require_head(model, modeldir, **flags):
    """Raise ModelError if a flag that needs the semantic head is given (not None) and the model has no such head."""
    for flag, value in flags.items():
        if value is not None and "semantic" not in model.output:
            raise utils.ModelError(f"--{flag}: found a model without semantic head in {modeldir}; leave --{flag} out")


def compile_network(model, jit=False):
    """Prepare the network for `predict`, with `jit` through XLA."""
    reference = weakref.ref(model)
    _compiled[model] = tf.function(lambda batch: reference()(batch, training=False), jit_compile=jit)


def run_network(model, image):
    """As `predict`, whatever the outputs are."""
    if model not in _compiled:
        compile_network(model)
    return {name: value[0].numpy() for name, value in _compiled[model](tf.constant(image[None])).items()}


def predict(model, image):
    """Run the network on one prepared image.

    Args:
        model: keras.Model of `utils.load_model` or `load_network`.
        image: (H, W, 3) float32 of `datagenerator.prepare_image`.

    Returns:
        {"embedding": (H, W, D) float32, "semantic": (H, W, 1) float32 logits if the model has that head}.

    Raises:
        ModelError: an output that is not finite, as of a network whose training diverged.
    """
    outputs = run_network(model, image)
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise utils.ModelError(f"the model's {name} output is NaN or infinite; retrain it or name another")
    return outputs


def segment(model, image, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    """Instances of one image.

    Args:
        model: as of `predict`.
        image: (h, w, 3) uint8 RGB of any size.
        bandwidth, threshold, method, confidence: see `clustering.find_instances`.

    Returns:
        (H, W) int32 label map at network size, 0 = background.

    Raises:
        ModelError: as `predict`.
    """
    outputs = predict(model, prepare_image(image, model.input_shape[1:3]))
    return find_instances(outputs, bandwidth, threshold, method, confidence)
