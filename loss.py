"""The discriminative loss of De Brabandere, Neven and Van Gool (arXiv 1708.02551), semantic and class loss.

Pixels of one id in `correct_label` are an instance, those of the background, id 0, too, as in the original. Shapes are
static, so that it compiles under XLA.
"""

from keras import ops

MAX_INSTANCES = 512  # of an image; beyond, those of the highest ids count nowhere
LANE_WEIGHT = 10.0


def discriminative_loss(
    prediction, correct_label, delta_v=0.5, delta_d=1.5, param_var=1.0, param_dist=1.0, param_reg=0.001, ignore=None
):
    """Pull the embeddings of an instance together and push those of different instances apart.

    Args:
        prediction: (B, H, W, D) embeddings, any float dtype; computed in float32, summed in float64.
        correct_label: (B, H, W) integer ids from 0 on.
        delta_v: embeddings nearer to their mean than this cost nothing in the variance term.
        delta_d: means further apart than twice this cost nothing in the distance term.
        param_var, param_dist, param_reg: weights alpha, beta, gamma of equation 4.
        ignore: id whose pixels are no instance and count nowhere, or None.

    Returns:
        (loss, l_var, l_dist, l_reg), float32 scalars: the sum and its three weighted parts, means over the batch.
    """
    batch, height, width, dim = ops.shape(prediction)
    pixels = height * width
    x = ops.reshape(ops.cast(prediction, "float32"), (batch * pixels, dim))
    label = ops.reshape(ops.cast(correct_label, "int32"), (batch, pixels))
    # a row per instance; the last one of an image collects what counts nowhere
    rows = MAX_INSTANCES + 1
    slot = ops.minimum(instance_slots(label), MAX_INSTANCES)
    if ignore is not None:
        slot = ops.where(label == ignore, MAX_INSTANCES, slot)
    segment = ops.reshape(slot + rows * ops.expand_dims(ops.arange(batch, dtype="int32"), 1), (-1,))  # (B * H * W,)
    counted = ops.cast(ops.arange(rows) < MAX_INSTANCES, "float32")  # (K,)

    # Sums and sizes in one pass, in float64, as an image has 10^5 pixels. Rows of multiples of four are scattered and
    # gathered fast: ones fill them up.
    filling = 4 - dim % 4
    total = ops.cast(ops.concatenate([x, ops.ones((batch * pixels, filling))], axis=1), "float64")
    total = ops.cast(ops.segment_sum(total, segment, num_segments=batch * rows), "float32")
    total = ops.reshape(total, (batch, rows, dim + filling))
    size = ops.stop_gradient(total[:, :, dim]) * counted  # (B, K)
    present = ops.cast(size > 0, "float32")  # (B, K)
    instances = ops.maximum(ops.sum(present, axis=1), 1.0)  # (B,), the paper's C
    mean = total[:, :, :dim] * ops.expand_dims(present / ops.maximum(size, 1.0), -1)  # (B, K, D)

    # Equation 1. Every pixel gets the mean and the weight, 1 / (C * N_c), of its instance.
    weight = present / (ops.expand_dims(instances, 1) * ops.maximum(size, 1.0))  # (B, K)
    table = ops.concatenate([mean, ops.repeat(ops.expand_dims(weight, -1), filling, axis=-1)], axis=-1)
    gathered = ops.take(ops.reshape(table, (batch * rows, dim + filling)), segment, axis=0)
    hinge = ops.square(ops.maximum(_norm(x - gathered[:, :dim]) - delta_v, 0.0))  # (B * H * W,)
    l_var = ops.cast(ops.sum(ops.cast(hinge * gathered[:, dim], "float64")), "float32")

    # Equation 2, over ordered pairs of different instances.
    pair = ops.expand_dims(present, 1) * ops.expand_dims(present, 2) * (1.0 - ops.eye(rows))  # (B, K, K)
    between = _norm(ops.expand_dims(mean, 1) - ops.expand_dims(mean, 2))  # (B, K, K)
    repulsion = ops.sum(ops.square(ops.maximum(2.0 * delta_d - between, 0.0)) * pair, axis=(1, 2))
    l_dist = ops.sum(repulsion / ops.maximum(instances * (instances - 1.0), 1.0))

    l_reg = ops.sum(ops.sum(_norm(mean), axis=1) / instances)  # equation 3
    images = ops.cast(batch, "float32")
    l_var, l_dist, l_reg = param_var * l_var / images, param_dist * l_dist / images, param_reg * l_reg / images
    return l_var + l_dist + l_reg, l_var, l_dist, l_reg


def instance_slots(label):
    """Rank of each pixel's id, (B, N) int32 from 0 on, among those of its image: one pass per id."""
    end = 2**31 - 1

    def next_id(current, rank):
        above = label > current
        rank = rank + ops.cast(above, "int32")
        return ops.min(ops.where(above, label, end), axis=1, keepdims=True), rank

    first = ops.full_like(label[:, :1], -1)
    return ops.while_loop(lambda current, _: ops.any(current < end), next_id, (first, ops.full_like(label, -1)))[1]


def semantic_loss(logits, correct_label, lane_weight=LANE_WEIGHT, ignore=None):
    """Binary cross entropy of lane (id > 0) against background, a mean weighted by `pixel_weights`.

    From (B, H, W, 1) logits of any float dtype to a float32 scalar, 0 if all pixels are to be ignored.
    """
    logits = ops.cast(ops.squeeze(logits, -1), "float32")
    lane = ops.cast(correct_label > 0, "float32")
    weight = pixel_weights(correct_label, lane_weight, ignore)
    entropy = ops.softplus(logits) - lane * logits  # of the sigmoid, without overflow
    total = ops.sum(weight)
    return ops.sum(weight * entropy) / (total if ignore is None else ops.maximum(total, 1.0))


def pixel_weights(correct_label, lane_weight=LANE_WEIGHT, ignore=None):
    """1 for id 0, `lane_weight` for other ids (B, H, W), 0 for the id `ignore`: (B, H, W) float32."""
    weight = 1.0 + (lane_weight - 1.0) * ops.cast(correct_label > 0, "float32")
    return weight if ignore is None else ops.where(correct_label == ignore, 0.0, weight)


def class_loss(logits, classes, weights):
    """Softmax cross entropy of (B, H, W, C) logits, a mean weighted by `class_pixel_weights`; 0 without any weight."""
    weight = class_pixel_weights(classes, weights)
    target = ops.one_hot(classes - 1, len(weights))  # of other numbers zeros
    entropy = -ops.sum(target * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)
    return ops.sum(weight * entropy) / ops.maximum(ops.sum(weight), 1e-6)


def class_pixel_weights(classes, weights):
    """Of C weights that of each pixel's class 1 to C, 0 for other integers: (B, H, W) float32."""
    return ops.sum(ops.one_hot(classes - 1, len(weights)) * ops.convert_to_tensor(weights, "float32"), axis=-1)


def _norm(x):
    """L2 norm over the last axis with gradient 0, not NaN, at 0."""
    square = ops.sum(ops.square(x), axis=-1)
    positive = square > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, square, 1.0)), 0.0)
