"""ENet with an embedding head and, optionally, a semantic head.

ENet is of Paszke et al. 2016, arXiv 1606.02147, table 1 and figure 2. Layers have the names of the original's variable
scopes, for its checkpoints. Only `keras.layers` and `keras.ops` are used: it trains with Keras' TensorFlow and JAX
backends, compiles under XLA, exports, and runs in float16.
"""

import functools

import keras
from keras import layers, ops

EPSILON = 1e-3
MOMENTUM = 0.9  # of the moving averages: a few dozen steps set them
HEAD_BIAS = 10.0


def build_enet(
    input_shape=(512, 512, 3),
    embedding_dim=3,
    semantic=True,
    dropout=True,
    rescale=1 / 255,
    embedding_activation=None,
    stage_two_repeat=2,
    skip_connections=False,
    image_statistics=False,
    synchronized=False,
    coordinate_scale=None,
    classes=0,
):
    """Build ENet for RGB images with values in 0..255.

    Args:
        input_shape: (H, W, 3), H and W multiples of 8; None for a size left open.
        semantic: add the lane / not lane head.
        dropout: spatial dropout in the bottlenecks.
        rescale: factor applied to the input; 1 for the original's checkpoints.
        embedding_activation: None, or "relu" as in the original, with a bias that keeps it from zero at the start.
        stage_two_repeat: runs of the eight bottlenecks at 1/8 resolution (2 in the paper: stages 2 and 3).
        skip_connections: add the encoder's output of the same size after each upsampling.
        image_statistics: see `BatchNormalization`.
        synchronized: batch statistics over all replicas of a strategy (TensorFlow backend only).
        coordinate_scale: None, or that of `AddCoordinates`.
        classes: number of classes; 0: no such head.

    Returns:
        keras.Model, (B, H, W, 3) of any numeric dtype -> {"embedding": (B, H, W, embedding_dim) and, if there,
        "semantic": (B, H, W, 1) and "classes": (B, H, W, classes) logits}, float32.
    """
    height, width, channels = input_shape
    if channels != 3 or any(side is not None and (side < 8 or side % 8) for side in (height, width)):
        raise ValueError(f"input_shape {tuple(input_shape)}: expected (H, W, 3) with H and W multiples of 8")
    if coordinate_scale is not None and (not coordinate_scale > 0 or embedding_dim < 2):
        raise ValueError(f"coordinate_scale {coordinate_scale} must be above 0, with embedding_dim at least 2")
    norm = functools.partial(BatchNormalization, image_statistics, synchronized=synchronized)
    light, strong = (0.01, 0.1) if dropout else (0, 0)

    image = keras.Input(shape=input_shape, name="image")
    x = layers.Rescaling(rescale, name="rescale")(image)
    x = initial = initial_block(x, "initial_block_1", norm)  # (B, H/2, W/2, 16)

    x, positions_1 = downsampling_bottleneck(x, "bottleneck1_0", 64, light, norm)  # (B, H/4, W/4, 64)
    for i in range(1, 5):
        x = regular_bottleneck(x, f"bottleneck1_{i}", light, norm)
    stage_1 = x

    x, positions_2 = downsampling_bottleneck(x, "bottleneck2_0", 128, strong, norm)  # (B, H/8, W/8, 128)
    for stage in range(2, 2 + stage_two_repeat):
        for i, rate in ((1, 2), (5, 8)):
            x = regular_bottleneck(x, f"bottleneck{stage}_{i}", strong, norm)
            x = dilated_bottleneck(x, f"bottleneck{stage}_{i + 1}", rate, strong, norm)
            x = asymmetric_bottleneck(x, f"bottleneck{stage}_{i + 2}", strong, norm)
            x = dilated_bottleneck(x, f"bottleneck{stage}_{i + 3}", 2 * rate, strong, norm)

    up = 2 + stage_two_repeat  # the decoder's stages are 4 and 5 in the paper
    x = upsampling_bottleneck(x, positions_2, f"bottleneck{up}_0", 64, strong, norm)  # (B, H/4, W/4, 64)
    if skip_connections:
        x = layers.Add(name=f"bottleneck{up}_skip")([x, stage_1])
    x = regular_bottleneck(x, f"bottleneck{up}_1", strong, norm, decoder=True)
    x = regular_bottleneck(x, f"bottleneck{up}_2", strong, norm, decoder=True)
    x = upsampling_bottleneck(x, positions_1, f"bottleneck{up + 1}_0", 16, strong, norm)  # (B, H/2, W/2, 16)
    if skip_connections:
        x = layers.Add(name=f"bottleneck{up + 1}_skip")([x, initial])
    x = regular_bottleneck(x, f"bottleneck{up + 1}_1", strong, norm, decoder=True)

    head = functools.partial(layers.Conv2DTranspose, kernel_size=2, strides=2, dtype="float32")  # (B, H, W, ...)
    bias = keras.initializers.Constant(HEAD_BIAS if embedding_activation == "relu" else 0.0)
    embedding = head(embedding_dim, activation=embedding_activation, bias_initializer=bias, name="embedding")(x)
    if coordinate_scale is not None:
        embedding = AddCoordinates(coordinate_scale, dtype="float32", name="coordinates")(embedding)
    outputs = {"embedding": embedding}
    if semantic:
        outputs["semantic"] = head(1, name="semantic")(x)
    if classes:  # last, so that the others' first weights don't change
        outputs["classes"] = head(classes, name="classes")(x)
    return keras.Model(image, outputs, name="enet")


# The blocks of figure 2: `name` starts the names of their layers, `norm` makes a batch-norm layer of a name


def initial_block(x, name, norm):
    """Convolution beside max-pool, figure 2 (a): (B, H, W, 3) -> (B, H/2, W/2, 16)."""
    y = layers.Conv2D(13, 3, strides=2, padding="same", name=f"{name}_conv")(x)
    y = _prelu(norm(name=f"{name}_batchnorm")(y), f"{name}_prelu")
    return layers.Concatenate(name=name)([y, layers.MaxPooling2D(2, name="initial_pool")(x)])


def regular_bottleneck(x, name, dropout, norm, decoder=False):
    """Bottleneck with a 3x3 convolution, figure 2 (b): the shape of `x` stays. ReLU in the decoder."""
    middle = [layers.Conv2D(x.shape[-1] // 4, 3, padding="same", name=f"{name}_conv2")]
    return _bottleneck(x, name, middle, dropout, norm, decoder)


def dilated_bottleneck(x, name, rate, dropout, norm):
    """Bottleneck with a dilated 3x3 convolution."""
    middle = [layers.Conv2D(x.shape[-1] // 4, 3, padding="same", dilation_rate=rate, name=f"{name}_dilated_conv2")]
    return _bottleneck(x, name, middle, dropout, norm)


def asymmetric_bottleneck(x, name, dropout, norm):
    """Bottleneck with a 5x5 convolution split into 5x1 and 1x5."""
    conv = functools.partial(layers.Conv2D, x.shape[-1] // 4, padding="same")
    middle = [conv((5, 1), name=f"{name}_asymmetric_conv2a"), conv((1, 5), name=f"{name}_asymmetric_conv2b")]
    return _bottleneck(x, name, middle, dropout, norm)


def _bottleneck(x, name, middle, dropout, norm, decoder=False):
    """1x1 convolution to a quarter of the channels, `middle`, 1x1 convolution back, added to `x`."""
    depth, activate = x.shape[-1], _relu if decoder else _prelu
    first = layers.Conv2D(depth // 4, 1, name=f"{name}_conv1")
    y = _branch(x, name, [first, *middle], depth, dropout, norm, activate)
    if not decoder:  # a ReLU of what isn't negative does nothing
        y = _prelu(y, f"{name}_prelu4")
    return activate(layers.Add(name=f"{name}_add")([x, y]), f"{name}_last_prelu")


def _branch(x, name, convolutions, depth, dropout, norm, activate, number=1):
    """Convolutions, then one to `depth` channels; batch norms, from `number` on, after the first and the last two."""
    first, *middle = convolutions
    y = activate(norm(name=f"{name}_batch_norm{number}")(first(x)), f"{name}_prelu1")
    for convolution in middle:
        y = convolution(y)
    y = activate(norm(name=f"{name}_batch_norm{number + 1}")(y), f"{name}_prelu2")
    y = layers.Conv2D(depth, 1, name=f"{name}_conv3")(y)
    y = activate(norm(name=f"{name}_batch_norm{number + 2}")(y), f"{name}_prelu3")
    return layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(y) if dropout else y


def downsampling_bottleneck(x, name, depth, dropout, norm):
    """Bottleneck beside a max-pool: (B, H, W, C) -> (B, H/2, W/2, depth), and the pool's positions."""
    reduced = x.shape[-1] // 4
    first = layers.Conv2D(reduced, 2, strides=2, name=f"{name}_conv1")
    middle = layers.Conv2D(reduced, 3, padding="same", name=f"{name}_conv2")
    y = _branch(x, name, [first, middle], depth, dropout, norm, _prelu)
    main, positions = MaxPoolWithPositions(name=f"{name}_max_pool")(x)
    main = ops.pad(main, ((0, 0), (0, 0), (0, 0), (0, depth - main.shape[-1])))
    return _prelu(layers.Add(name=f"{name}_add")([main, y]), f"{name}_last_prelu"), positions


def upsampling_bottleneck(x, positions, name, depth, dropout, norm):
    """Bottleneck beside the unpooling of `positions`: (B, H, W, C) -> (B, 2H, 2W, depth)."""
    main = norm(name=f"{name}_batch_norm1")(layers.Conv2D(depth, 1, name=f"{name}_main_conv1")(x))
    main = MaxUnpool(name=f"{name}_max_unpool")(main, positions)
    reduced, transposed = x.shape[-1] // 4, f"{name}_transposed_conv2"
    first = layers.Conv2D(reduced, 1, name=f"{name}_conv1")
    middle = layers.Conv2DTranspose(reduced, 3, strides=2, padding="same", use_bias=False, name=transposed)
    y = _branch(x, name, [first, middle], depth, dropout, norm, _relu, number=2)
    return _relu(layers.Add(name=f"{name}_add")([main, y]))


def _prelu(x, name):
    return PReLU(shared_axes=(1, 2), name=name)(x)


def _relu(x, _=None):
    return ops.relu(x)


# For training: a sum over all but the channels and its reverse, each the other's gradient. A matrix product, as XLA's
# own sums are several times slower on CPUs.


@ops.custom_gradient
def channel_sum(x):
    """(..., C) -> (C,)."""
    rows = ops.reshape(x, (-1, x.shape[-1]))
    total = ops.matmul(ops.reshape(ops.ones_like(rows[:, 0]), (1, -1)), rows)[0]
    return total, lambda gradient: ops.broadcast_to(gradient, ops.shape(x))


def spread(vector, x):
    """(C,) -> the shape of `x`, (..., C)."""

    @ops.custom_gradient
    def broadcast(vector):
        return ops.broadcast_to(vector, ops.shape(x)), channel_sum

    return broadcast(ops.cast(ops.reshape(vector, (-1,)), x.dtype))


@keras.saving.register_keras_serializable(package="enet")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalization without gamma.

    With `image_statistics` inference takes every image's own mean and variance over (H, W), for networks whose moving
    averages were never updated.
    """

    def __init__(self, image_statistics=False, scale=False, epsilon=EPSILON, momentum=MOMENTUM, **kwargs):
        super().__init__(scale=scale, epsilon=epsilon, momentum=momentum, **kwargs)
        self.image_statistics = image_statistics

    def call(self, inputs, training=None, mask=None):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        if training and self.trainable and not self.synchronized:
            count = ops.cast(ops.size(x[..., 0]), x.dtype)
            mean = channel_sum(x) / count
            x = x - spread(mean, x)
            variance = channel_sum(x * x) / count
            for average, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(ops.cast(average, x.dtype) * self.momentum + new * (1 - self.momentum))
            x = x * spread(ops.rsqrt(variance + self.epsilon), x) + spread(self.beta, x)
        elif not training and self.image_statistics:
            mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)  # (B, 1, 1, C)
            x = (x - mean) * ops.rsqrt(variance + self.epsilon) + ops.cast(self.beta, x.dtype)
        else:
            return super().call(inputs, training=training, mask=mask)
        return ops.cast(x, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "image_statistics": self.image_statistics}


@keras.saving.register_keras_serializable(package="enet")
class PReLU(layers.PReLU):
    """As Keras' own, with fewer passes over memory."""

    def call(self, inputs, training=None):
        alpha = spread(self.alpha, inputs) if training else self.alpha
        return ops.where(inputs > 0, inputs, alpha * inputs)


@keras.saving.register_keras_serializable(package="enet")
class MaxPoolWithPositions(layers.Layer):
    """2x2 max-pool, stride 2, that also returns where each maximum stood.

    (B, H, W, C), H and W even -> `pooled` (B, H/2, W/2, C) and `positions` (B, H/2, W/2, 4C): for each place of the
    window, in row-major order, 1 in the channels whose first maximum stood there, else 0.
    """

    def call(self, x):
        corners = ops.split(ops.space_to_depth(x, 2), 4, axis=3)  # four (B, H/2, W/2, C)
        pooled = ops.maximum(ops.maximum(*corners[:2]), ops.maximum(*corners[2:]))
        # Arithmetic, as comparisons would break TFLite's XNNPACK graph into pieces. A difference that isn't 0 is
        # rounded up to 1, which is exact in float16 too.
        free, places = 1.0, []
        for corner in corners:
            places.append(free * (1 - ops.ceil(ops.minimum(pooled - corner, 1))))
            free = free - places[-1]
        return pooled, ops.stop_gradient(ops.concatenate(places, axis=3))

    def compute_output_shape(self, x_shape):  # JAX can't find that of an open size
        batch, height, width, channels = x_shape
        pooled = batch, height and height // 2, width and width // 2
        return (*pooled, channels), (*pooled, 4 * channels)


@keras.saving.register_keras_serializable(package="enet")
class MaxUnpool(layers.Layer):
    """Puts values (B, H, W, C) back to their positions (B, H, W, 4C), zeros elsewhere: (B, 2H, 2W, C)."""

    def call(self, x, positions):
        return ops.depth_to_space(ops.concatenate([x] * 4, axis=3) * positions, 2)

    def compute_output_shape(self, x_shape, positions_shape):
        batch, height, width, channels = x_shape
        return batch, height and 2 * height, width and 2 * width, channels


@keras.saving.register_keras_serializable(package="enet")
class AddCoordinates(layers.Layer):
    """Adds the pixel's x and y over `scale`, in pixels, to the first two channels: a semi-convolutional embedding.

    So objects that look alike differ (Novotny et al. 2018, arXiv 1807.10712; Neven et al. 2019, arXiv 1906.11109).
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x):
        height, width, channels = ops.shape(x)[1], ops.shape(x)[2], x.shape[3]
        columns, rows = (ops.cast(ops.arange(side), x.dtype) / self.scale for side in (width, height))
        place = ops.stack(ops.meshgrid(columns, rows), axis=-1)  # (H, W, 2)
        return x + ops.pad(place, ((0, 0), (0, 0), (0, channels - 2)))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
