"""ENet with an embedding head and, optionally, a semantic head.

ENet (Paszke et al. 2016, arXiv 1606.02147, table 1 and figure 2) is an encoder-decoder of bottleneck blocks: three
downsamplings, two runs of dilated and asymmetric convolutions at 1/8 of the resolution, two upsamplings that put
values back where the matching max-pool took them from, and one transposed convolution per head.

Only `keras.layers` and `keras.ops` are used, so the network runs on every Keras backend, compiles under XLA and
exports. Layer names are the variable scopes of the TensorFlow 1 repo this one is a port of, so that its checkpoints
map by name.
"""

import keras
from keras import layers, ops

EPSILON = 1e-3
# Fraction of the old moving average kept at each step. 0.9 follows the weights closely enough that a model is as good
# in inference mode as in training mode after a few dozen steps, and still averages over ten batches.
MOMENTUM = 0.9
HEAD_BIAS = 10.0
HUGE = 1e30  # times the difference of two values: at least 1 unless they are equal

STAGE_TWO = ("regular", 2, "asymmetric", 4, "regular", 8, "asymmetric", 16)


@keras.saving.register_keras_serializable(package="enet")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalization without gamma that can use the statistics of each image at inference.

    Args:
        image_statistics: if True, inference normalizes every image with its own mean and variance over (H, W)
            and ignores the moving averages. Networks whose averages were never updated need this.
    """

    def __init__(self, image_statistics=False, scale=False, epsilon=EPSILON, momentum=MOMENTUM, **kwargs):
        super().__init__(scale=scale, epsilon=epsilon, momentum=momentum, **kwargs)
        self.image_statistics = image_statistics

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable and not self.synchronized:
            return self._train(inputs)
        if training or not self.image_statistics:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)  # (B, 1, 1, C)
        x = (x - mean) * ops.rsqrt(variance + self.epsilon) + ops.cast(self.beta, x.dtype)
        return ops.cast(x, self.compute_dtype)

    def _train(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = (0, 1, 2)
        mean, variance = (ops.stop_gradient(moment) for moment in ops.moments(x, axes=axes))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        factor = ops.rsqrt(variance + self.epsilon)

        # Written out, the gradient takes half the passes over memory of what is derived from the moments' gradients:
        # factor * (g - mean(g) - normalized * mean(g * normalized)), Ioffe & Szegedy 2015, section 3
        @ops.custom_gradient
        def normalize(x, beta):
            def gradient(*args, upstream=None):
                g = args[0] if upstream is None else upstream
                count = ops.cast(ops.size(x) // x.shape[-1], x.dtype)
                total = ops.sum(g, axis=axes)
                slope = (ops.sum(g * x, axis=axes) - mean * total) * factor * factor / count
                return (g - slope * x) * factor + factor * (slope * mean - total / count), total

            return x * factor + (beta - mean * factor), gradient

        return ops.cast(normalize(x, self.beta + 0.0), self.compute_dtype)  # + 0: a tensor, no variable

    def get_config(self):
        return {**super().get_config(), "image_statistics": self.image_statistics}


@keras.saving.register_keras_serializable(package="enet")
class PReLU(layers.PReLU):
    """x where positive, else alpha x, with one alpha per channel (He et al. 2015); its gradient in few passes."""

    def call(self, inputs, training=None):
        if not training:
            return super().call(inputs)

        @ops.custom_gradient
        def prelu(x, alpha):
            positive = x > 0

            def gradient(*args, upstream=None):
                g = args[0] if upstream is None else upstream
                slope = ops.sum(ops.where(positive, ops.zeros_like(g), g * x), axis=(0, 1, 2))
                return ops.where(positive, g, alpha * g), ops.reshape(slope, alpha.shape)

            return ops.where(positive, x, alpha * x), gradient

        return prelu(inputs, ops.cast(self.alpha + 0.0, inputs.dtype))


@keras.saving.register_keras_serializable(package="enet")
class MaxPoolWithPositions(layers.Layer):
    """2x2 max-pool, stride 2, that also returns where each maximum stood.

    Call: `x` (B, H, W, C), H and W even -> `pooled` (B, H/2, W/2, C) and `positions` (B, H/2, W/2, 4, C), the one-hot
    place of the maximum in its window in row-major order; of equal values the first counts, as in TensorFlow's
    `max_pool_with_argmax`.
    """

    def call(self, x, training=None):
        corners = _corners(x)
        top = ops.maximum(ops.maximum(*corners[:2]), ops.maximum(*corners[2:]))
        # 1 where a corner is the first maximum, else 0, in arithmetic: comparisons and logic would break TFLite's
        # XNNPACK graph into pieces, which makes the exported network a third slower
        free, places = 1.0, []
        for corner in corners:
            here = 1 - ops.minimum((ops.stop_gradient(top) - ops.stop_gradient(corner)) * HUGE, 1)
            places.append(free * here)
            free = free - places[-1]
        height, width, channels = ops.shape(x)[1], ops.shape(x)[2], x.shape[3]
        positions = ops.reshape(ops.concatenate(places, axis=3), (-1, height // 2, width // 2, 4, channels))
        if not training:
            return top, positions

        @ops.custom_gradient
        def pool(x):
            def gradient(*args, upstream=None):
                return _unpool(args[0] if upstream is None else upstream, positions)

            return top, gradient

        return pool(x), positions

    def compute_output_shape(self, x_shape):
        batch, height, width, channels = x_shape
        pooled = (batch, height and height // 2, width and width // 2)
        return (*pooled, channels), (*pooled, 4, channels)


@keras.saving.register_keras_serializable(package="enet")
class MaxUnpool(layers.Layer):
    """Inverse of `MaxPoolWithPositions`: each value goes back to its position, zeros elsewhere.

    Call: `x` (B, H, W, C), `positions` (B, H, W, 4, C) -> (B, 2H, 2W, C).
    """

    def call(self, x, positions):
        return _unpool(x, positions)

    def compute_output_shape(self, x_shape, positions_shape):
        batch, height, width, channels = x_shape
        return (batch, height and 2 * height, width and 2 * width, channels)


def _corners(x):
    """The four pixels of each 2x2 window, row-major: (B, H, W, C) -> four (B, H/2, W/2, C)."""
    height, width, channels = ops.shape(x)[1], ops.shape(x)[2], x.shape[3]
    # In these shapes they are plain slices; strided slices cost several times as much.
    rows = ops.reshape(x, (-1, height // 2, 2 * width * channels))
    corners = []
    for row in (rows[:, :, : width * channels], rows[:, :, width * channels :]):
        row = ops.reshape(row, (-1, height // 2, width // 2, 2 * channels))
        corners += [row[..., :channels], row[..., channels:]]
    return corners


def _unpool(x, positions):
    height, width, channels = ops.shape(x)[1], ops.shape(x)[2], x.shape[3]
    windows = ops.concatenate([x] * 4, axis=3) * ops.reshape(positions, (-1, height, width, 4 * channels))
    rows = [windows[..., : 2 * channels], windows[..., 2 * channels :]]
    rows = [ops.reshape(row, (-1, height, 2 * width * channels)) for row in rows]
    return ops.reshape(ops.concatenate(rows, axis=2), (-1, 2 * height, 2 * width, channels))


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
):
    """Build ENet for RGB images with values in 0..255.

    Args:
        input_shape: (H, W, 3), H and W multiples of 8; None for a size left open.
        embedding_dim: channels of the embedding.
        semantic: add the lane / not lane head.
        dropout: spatial dropout in the bottlenecks (1 % in stage 1, 10 % after), active in training only.
        rescale: factor applied to the input, part of the model; 1 for the original's checkpoints.
        embedding_activation: None, or "relu" as in the original; then the head bias starts at 10, or no embedding
            would ever leave zero.
        stage_two_repeat: runs of the eight bottlenecks at 1/8 resolution (2 in the paper: stages 2 and 3).
        skip_connections: add the encoder's output of the same size after each upsampling.
        image_statistics: normalize with the statistics of the image at inference, see `BatchNormalization`.
        synchronized: in training, batch statistics over all replicas of a strategy (TensorFlow backend only).

    Returns:
        keras.Model, (B, H, W, 3) of any numeric dtype -> {"embedding": (B, H, W, embedding_dim) float32,
        "semantic": (B, H, W, 1) float32 logits (with `semantic` only)}.

    Raises:
        ValueError: a size that is no multiple of 8, or an argument out of range.
    """
    height, width, channels = input_shape
    if channels != 3 or any(side is not None and (side < 8 or side % 8) for side in (height, width)):
        raise ValueError(f"input_shape {tuple(input_shape)}: expected (H, W, 3) with H and W multiples of 8")
    if embedding_dim < 1 or stage_two_repeat < 1:
        raise ValueError(f"embedding_dim {embedding_dim} and stage_two_repeat {stage_two_repeat} must be at least 1")

    def norm(x, name):
        return BatchNormalization(image_statistics, synchronized=synchronized, name=name)(x)

    def drop(x, rate, name):
        return layers.SpatialDropout2D(rate, name=f"{name}_dropout")(x) if dropout else x

    def finish(x, name, rate):
        """1x1 convolution back to the block's depth is done; dropout and the fourth activation."""
        return _prelu(drop(x, rate, name), f"{name}_prelu4")

    def encoder_block(x, name, kind, rate):
        depth = x.shape[-1]
        y = layers.Conv2D(depth // 4, 1, name=f"{name}_conv1")(x)
        y = _prelu(norm(y, f"{name}_batch_norm1"), f"{name}_prelu1")
        y = _middle_convolution(y, name, kind)
        y = _prelu(norm(y, f"{name}_batch_norm2"), f"{name}_prelu2")
        y = layers.Conv2D(depth, 1, name=f"{name}_conv3")(y)
        y = _prelu(norm(y, f"{name}_batch_norm3"), f"{name}_prelu3")
        return _prelu(layers.Add(name=f"{name}_add")([x, finish(y, name, rate)]), f"{name}_last_prelu")

    def downsampling_block(x, name, depth, rate):
        reduced = x.shape[-1] // 4
        y = layers.Conv2D(reduced, 2, strides=2, name=f"{name}_conv1")(x)
        y = _prelu(norm(y, f"{name}_batch_norm1"), f"{name}_prelu1")
        y = layers.Conv2D(reduced, 3, padding="same", name=f"{name}_conv2")(y)
        y = _prelu(norm(y, f"{name}_batch_norm2"), f"{name}_prelu2")
        y = layers.Conv2D(depth, 1, name=f"{name}_conv3")(y)
        y = _prelu(norm(y, f"{name}_batch_norm3"), f"{name}_prelu3")
        y = drop(y, rate, name)
        main, positions = MaxPoolWithPositions(name=f"{name}_max_pool")(x)
        main = ops.pad(main, ((0, 0), (0, 0), (0, 0), (0, depth - main.shape[-1])))
        return _prelu(layers.Add(name=f"{name}_add")([main, y]), f"{name}_last_prelu"), positions

    def decoder_block(x, name, rate):
        depth = x.shape[-1]
        y = layers.Conv2D(depth // 4, 1, name=f"{name}_conv1")(x)
        y = ops.relu(norm(y, f"{name}_batch_norm1"))
        y = layers.Conv2D(depth // 4, 3, padding="same", name=f"{name}_conv2")(y)
        y = ops.relu(norm(y, f"{name}_batch_norm2"))
        y = layers.Conv2D(depth, 1, name=f"{name}_conv3")(y)
        # the original's fourth activation is a ReLU of what is already non-negative: left out
        y = drop(ops.relu(norm(y, f"{name}_batch_norm3")), rate, name)
        return ops.relu(layers.Add(name=f"{name}_add")([x, y]))

    def upsampling_block(x, positions, name, depth, rate):
        reduced = x.shape[-1] // 4
        main = layers.Conv2D(depth, 1, name=f"{name}_main_conv1")(x)
        main = norm(main, f"{name}_batch_norm1")
        main = MaxUnpool(name=f"{name}_max_unpool")(main, positions)
        y = layers.Conv2D(reduced, 1, name=f"{name}_conv1")(x)
        y = ops.relu(norm(y, f"{name}_batch_norm2"))
        y = layers.Conv2DTranspose(
            reduced, 3, strides=2, padding="same", use_bias=False, name=f"{name}_transposed_conv2"
        )(y)
        y = ops.relu(norm(y, f"{name}_batch_norm3"))
        y = layers.Conv2D(depth, 1, name=f"{name}_conv3")(y)
        y = drop(ops.relu(norm(y, f"{name}_batch_norm4")), rate, name)
        return ops.relu(layers.Add(name=f"{name}_add")([main, y]))

    image = keras.Input(shape=input_shape, name="image")
    x = layers.Rescaling(rescale, name="rescale")(image)

    y = layers.Conv2D(13, 3, strides=2, padding="same", name="initial_block_1_conv")(x)
    y = _prelu(norm(y, "initial_block_1_batchnorm"), "initial_block_1_prelu")
    x = initial = layers.Concatenate(name="initial_block_1")([y, layers.MaxPooling2D(2, name="initial_pool")(x)])

    x, positions_1 = downsampling_block(x, "bottleneck1_0", 64, 0.01)
    for i in range(1, 5):
        x = encoder_block(x, f"bottleneck1_{i}", "regular", 0.01)
    stage_1 = x

    x, positions_2 = downsampling_block(x, "bottleneck2_0", 128, 0.1)
    for stage in range(2, 2 + stage_two_repeat):
        for i, kind in enumerate(STAGE_TWO, start=1):
            x = encoder_block(x, f"bottleneck{stage}_{i}", kind, 0.1)

    up = 2 + stage_two_repeat  # the decoder's stages are 4 and 5 in the paper
    x = upsampling_block(x, positions_2, f"bottleneck{up}_0", 64, 0.1)
    if skip_connections:
        x = layers.Add(name=f"bottleneck{up}_skip")([x, stage_1])
    for i in (1, 2):
        x = decoder_block(x, f"bottleneck{up}_{i}", 0.1)
    x = upsampling_block(x, positions_1, f"bottleneck{up + 1}_0", 16, 0.1)
    if skip_connections:
        x = layers.Add(name=f"bottleneck{up + 1}_skip")([x, initial])
    x = decoder_block(x, f"bottleneck{up + 1}_1", 0.1)

    outputs = {
        "embedding": layers.Conv2DTranspose(
            embedding_dim,
            2,
            strides=2,
            activation=embedding_activation,
            bias_initializer=keras.initializers.Constant(HEAD_BIAS if embedding_activation == "relu" else 0.0),
            dtype="float32",
            name="embedding",
        )(x)
    }
    if semantic:
        outputs["semantic"] = layers.Conv2DTranspose(1, 2, strides=2, dtype="float32", name="semantic")(x)
    return keras.Model(image, outputs, name="enet")


def _prelu(x, name):
    return PReLU(shared_axes=(1, 2), name=name)(x)


def _middle_convolution(x, name, kind):
    """The second convolution of an encoder bottleneck; `kind` is "regular", "asymmetric" or a dilation rate."""
    depth = x.shape[-1]
    if kind == "regular":
        return layers.Conv2D(depth, 3, padding="same", name=f"{name}_conv2")(x)
    if kind == "asymmetric":
        x = layers.Conv2D(depth, (5, 1), padding="same", name=f"{name}_asymmetric_conv2a")(x)
        return layers.Conv2D(depth, (1, 5), padding="same", name=f"{name}_asymmetric_conv2b")(x)
    return layers.Conv2D(depth, 3, padding="same", dilation_rate=kind, name=f"{name}_dilated_conv2")(x)
