"""A network for inference only: every batch norm folded into the convolution before it."""

import keras
import numpy as np
from keras import layers, ops

from enet import BatchNormalization, MaxPoolWithPositions, PReLU
from run.command import UserError


class _LitePReLU(PReLU):
    """PReLU of slopes of at most 1, fast in TFLite, of operations that int8 has."""

    def call(self, inputs):
        return inputs + ops.relu((self.alpha - 1) * inputs)


class _Int8MaxPoolWithPositions(MaxPoolWithPositions):
    """Without rounding up, which int8 has not; right for differences above 0.006."""

    def call(self, x):
        corners = ops.split(ops.space_to_depth(x, 2), 4, axis=3)
        pooled = ops.max_pool(x, 2)
        free, places = 1.0, []
        for corner in corners:
            other = ops.relu6((pooled - corner) * 1000) / 6  # 1 where it is not the maximum
            places.append(free * (1 - other))
            free = free * other
        return pooled, ops.concatenate(places, axis=3)


def fold_batch_norm(model, form="graph"):
    """Copy of a model for inference: batch norm and rescaling folded into convolutions, without dropout.

    A PReLU of a PReLU becomes one, and one whose slopes are all 0 a ReLU. The outputs agree up to rounding, but for
    near ties in a max-pool. `form` is "graph" for TensorFlow, "lite" for TFLite, without operations that hold a size,
    or "int8" for TFLite with 8 bits.
    """
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    if any(norm.image_statistics for norm in norms):
        raise UserError("batch norm: found statistics of each image, expected averages; run python -m export calibrate")
    before = {id(norm.input): norm for norm in norms}
    folded = {layer.name: before[id(layer.output)] for layer in model.layers if id(layer.output) in before}
    slopes = {layer.name: layer.get_weights()[0] for layer in model.layers if isinstance(layer, layers.PReLU)}
    for name in [name for name in slopes if name.endswith("_prelu4")]:
        # prelu3 comes right before; where its slope is negative, its output never is
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
        if isinstance(layer, layers.Conv2DTranspose) and form != "graph":
            return _upsampling(layer)
        if layer.name in slopes and form != "graph":  # Keras' own is slow in TFLite
            return (_LitePReLU if slopes[layer.name].max() <= 1 else layers.PReLU).from_config(config)
        if isinstance(layer, MaxPoolWithPositions) and form == "int8":
            return _Int8MaxPoolWithPositions.from_config(config)
        if layer.name in rescaled and not isinstance(layer, layers.Conv2D):  # the pool: a quarter is left to rescale
            pool, after = type(layer).from_config(config), type(rescale).from_config(rescale.get_config())
            return lambda x, **_: after(pool(x))
        if layer.name in folded:
            config["use_bias"] = True
        return type(layer).from_config(config)

    fast = keras.models.clone_model(model, clone_function=clone)
    for layer in fast.layers:
        source = model.get_layer(layer.name)
        weights = source.get_weights() if layer.weights else []
        if layer.name in folded:
            weights = _fold(source, folded[layer.name])
        elif isinstance(layer, layers.PReLU):
            weights = [slopes[layer.name]]
        if isinstance(source, layers.Conv2DTranspose) and form != "graph":
            weights = _split_kernel(*weights)
        layer.set_weights(weights)
        if layer.name in rescaled and layer.weights:
            layer.kernel.assign(layer.kernel * rescale.scale)
    return fast


def _fold(convolution, norm):
    """[kernel, bias] of a convolution with the batch norm after it."""
    beta, mean, variance = (np.asarray(value, np.float64) for value in norm.get_weights())
    scale = 1 / np.sqrt(variance + norm.epsilon)
    kernel, *bias = convolution.get_weights()
    # a transposed convolution has its outputs on the last axis but one
    axis = (slice(None), None) if isinstance(convolution, layers.Conv2DTranspose) else slice(None)
    return [kernel * scale[axis], ((bias[0] if bias else 0) - mean) * scale + beta]


def _upsampling(layer):
    """A transposed convolution of stride 2 as a convolution that gives each pixel the 2x2 it becomes."""
    taps = (layer.kernel_size[0] + 1) // 2  # neighbors on a side that a pixel of the output comes from
    convolution = layers.Conv2D(
        4 * layer.filters, taps, activation=layer.activation, dtype=layer.dtype_policy, name=layer.name
    )

    def call(x, **_):
        x = ops.pad(x, ((0, 0), (taps - 1, 0), (taps - 1, 0), (0, 0))) if taps > 1 else x
        return ops.depth_to_space(convolution(x), 2)

    return call


def _split_kernel(kernel, bias):
    """[kernel, bias] of `_upsampling` from those of the transposed convolution, (k, k, outputs, inputs), k = 2 or 3.

    Pixel 2i + a of its output is the sum over j of pixel i - j times the kernel's element 2j + a.
    """
    taps, (outputs, inputs) = (len(kernel) + 1) // 2, kernel.shape[2:]
    kernel = np.pad(kernel, [(0, 2 * taps - side) for side in kernel.shape[:2]] + [(0, 0)] * 2)
    kernel = kernel.reshape(taps, 2, taps, 2, outputs, inputs)[::-1, :, ::-1]  # (j, a) of the rows, of the columns
    return [kernel.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, inputs, 4 * outputs), np.tile(bias, 4)]
