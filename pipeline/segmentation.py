"""From an image to its instances: the network's outputs, the pixels that count as lane, and their clusters."""

import math
import time
import weakref

import numpy as np
import tensorflow as tf

import utils
from clustering import instance_label_map
from datagenerator import prepare_image

BANDWIDTH = 1.0
# Training weights lane pixels up: at 0.5 lanes come out 2.8 times too wide. Best on the training frames, see
# doc/experiments.md.
THRESHOLD = 0.7

_compiled = weakref.WeakKeyDictionary()


def compile_network(model, jit=False):
    """Trace the network for `predict`, with `jit` through XLA."""
    reference = weakref.ref(model)
    _compiled[model] = tf.function(lambda batch: reference()(batch, training=False), jit_compile=jit)


def predict(model, image):
    """Run the network on one prepared image.

    Args:
        model: keras.Model of `utils.load_model`.
        image: (H, W, 3) float32 of `datagenerator.prepare_image`.

    Returns:
        {"embedding": (H, W, D) float32, "semantic": (H, W, 1) float32 logits if the model has that head}.
    """
    if model not in _compiled:
        compile_network(model)
    return {name: value[0].numpy() for name, value in _compiled[model](tf.constant(image[None])).items()}


def lane_mask(outputs, threshold=THRESHOLD):
    """Where the outputs of `predict` show a lane: (H, W) bool, None for a model without semantic head."""
    if "semantic" not in outputs:
        return None
    if not np.isfinite(outputs["semantic"]).all():
        raise utils.ModelError("the model's lane probability is NaN or infinite; retrain it or name another")
    return outputs["semantic"][:, :, 0] > math.log(threshold / (1 - threshold))


def find_instances(outputs, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    """Cluster the outputs of `predict`: (H, W) int32 label map, see `segment`."""
    mask = lane_mask(outputs, threshold)
    try:
        label_map = instance_label_map(outputs["embedding"], bandwidth, mask, method=method).astype(np.int32)
    except ValueError as error:  # an untrained or diverged network
        raise utils.ModelError(f"the model's output can't be clustered: {error}; retrain it or name another") from None
    if mask is not None and confidence:
        return _drop_unsure(label_map, outputs["semantic"][:, :, 0], confidence)
    return label_map


def _drop_unsure(label_map, logits, confidence):
    """The label map without instances whose mean lane probability is below `confidence`, numbered anew."""
    inside = label_map > 0
    labels = label_map[inside]
    probability = 0.5 + 0.5 * np.tanh(logits[inside] / 2)  # the sigmoid, which does not overflow in this form
    means = np.bincount(labels, probability, minlength=1) / np.maximum(np.bincount(labels, minlength=1), 1)
    kept = means >= confidence  # not the background, number 0, which has no pixels here
    return (np.cumsum(kept) * kept).astype(np.int32)[label_map]


def segment(model, image, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    """Instances of one image.

    Args:
        model: keras.Model of `utils.load_model`.
        image: (h, w, 3) uint8 RGB of any size.
        bandwidth: of the mean shift, in units of the embedding.
        threshold: lane probability from which a pixel counts as lane (models with a semantic head).
        method: "fast" or "sklearn", see `clustering.instance_label_map`.
        confidence: mean lane probability of its pixels from which an instance counts, see `utils.read_confidence`.

    Returns:
        (H, W) int32 label map at network size, 0 = background, and {"network": s, "cluster": s} in seconds.

    Raises:
        utils.ModelError: outputs that are not finite.
    """
    start = time.perf_counter()
    outputs = predict(model, prepare_image(image, model.input_shape[1:3]))
    middle = time.perf_counter()
    label_map = find_instances(outputs, bandwidth, threshold, method, confidence)
    return label_map, {"network": middle - start, "cluster": time.perf_counter() - middle}
