"""One optimizer step on one or several devices or machines: optimizer, losses, averages.

All numbers are those of the global batch, however many replicas divide it (but for dropout, whose masks repeat).
"""

from dataclasses import dataclass

import keras
import tensorflow as tf

from datagenerator import NO_LABEL
from loss import LANE_WEIGHT, class_loss, class_pixel_weights, discriminative_loss, pixel_weights, semantic_loss

LOSS_TERMS = ("loss", "l_var", "l_dist", "l_reg", "l_sem")
CLASS_TERM = "l_class"  # after these, of a network with classes
WEIGHT_DECAY = 1e-4  # of AdamW


class _OneKernel:
    """Adam's update by one kernel per variable, not Keras' 35 operations: compiled in half the time."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class Adam(_OneKernel, keras.optimizers.Adam):
    pass


class AdamW(_OneKernel, keras.optimizers.AdamW):
    pass


def make_optimizer(name, steps, lr, schedule="original", warmup=0):
    """A Keras optimizer. "original" is lr * 0.96^floor(step / 5000), "cosine" to 0, after `warmup` linear steps."""
    if schedule == "cosine":
        start, target = (0.0, lr) if warmup else (lr, None)
        rate = keras.optimizers.schedules.CosineDecay(
            start, max(1, steps - warmup), warmup_target=target, warmup_steps=warmup
        )
    else:
        rate = keras.optimizers.schedules.ExponentialDecay(float(lr), 5000, 0.96, staircase=True)
    if name == "adam":
        return Adam(rate)
    optimizer = AdamW(rate, weight_decay=WEIGHT_DECAY)
    # alpha: PReLU's slopes
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "alpha"])
    return optimizer


# of training and validation, so that it is compiled once
_compiled_loss = tf.function(discriminative_loss, jit_compile=True)


@dataclass(frozen=True)
class LossSettings:
    """Weights and hinge margins of the losses, named as the flags, and which pixels count."""

    var: float = 1.0
    dist: float = 1.0
    reg: float = 1.0
    dvar: float = 0.5
    ddist: float = 1.5
    sem: float = 1.0
    foreground: float = LANE_WEIGHT  # weight of a pixel in the semantic loss, background 1
    ignore: int | None = None  # id of the pixels that don't count
    background: bool = True  # an instance, too; not with coordinates in the embedding: it is everywhere
    cls: float = 0.0
    class_weights: tuple = ()  # in the class loss


def loss_terms(outputs):
    return (*LOSS_TERMS, CLASS_TERM) if "classes" in outputs else LOSS_TERMS


def make_losses(settings, jit=True):
    """Function (outputs, label of `make_dataset`) -> the float32 scalars of `loss_terms`.

    With classes each is a mean over the images that it is about, 0 without any. `jit` compiles the discriminative loss
    with XLA, 2.4 times as fast; not for a step that is compiled as a whole: it would be compiled anew each time.
    """
    s, embedding_loss = settings, _compiled_loss if jit else discriminative_loss

    def losses(outputs, label):
        loss = l_var = l_dist = l_reg = l_sem = tf.constant(0.0)
        ignore, fraction, classes = s.ignore, None, None
        if len(label.shape) == 4:
            label, classes = label[..., 0], label[..., 1]
            # of all replicas' images, those that have a label
            has_label = tf.reduce_any(label != NO_LABEL, axis=(1, 2))
            fraction = _replica_mean(tf.reduce_mean(tf.cast(has_label, tf.float32)))
            ignore = NO_LABEL if ignore is None else ignore
            label = tf.where(label == NO_LABEL, ignore, label)
        if s.var or s.dist or s.reg:
            ids, no_instance = label, ignore
            if not s.background:
                ids, no_instance = label if ignore is None else tf.where(label == ignore, 0, label), 0
            loss, l_var, l_dist, l_reg = embedding_loss(
                outputs["embedding"], ids, s.dvar, s.ddist, s.var, s.dist, s.reg, ignore=no_instance
            )
            if fraction is not None:
                loss, l_var, l_dist, l_reg = (tf.math.divide_no_nan(x, fraction) for x in (loss, l_var, l_dist, l_reg))
        if s.sem:
            l_sem = s.sem * semantic_loss(outputs["semantic"], label, s.foreground, ignore)
            l_sem *= _replica_weight(pixel_weights(label, s.foreground, ignore))
        if "classes" not in outputs:
            return loss + l_sem, l_var, l_dist, l_reg, l_sem
        l_class = s.cls * class_loss(outputs["classes"], classes, s.class_weights)
        l_class *= _replica_weight(class_pixel_weights(classes, s.class_weights))
        return loss + l_sem + l_class, l_var, l_dist, l_reg, l_sem, l_class

    return losses


def _replica_weight(weights):
    """Factor of a loss that is divided by the sum of these weights: the replicas' mean becomes one replica's."""
    weight = tf.reduce_sum(weights)
    mean = _replica_mean(weight)
    return 1.0 if mean is weight else tf.math.divide_no_nan(weight, mean)


def _replica_mean(value):
    context = tf.distribute.get_replica_context()
    several = context and context.num_replicas_in_sync > 1
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value) if several else value


def make_train_step(model, optimizer, losses, strategy=None, averages=None, jit=False):
    """Compiled function (image, label) that makes one optimizer step, with `jit` all of it by XLA.

    Result, float32: `loss_terms` of `make_losses` and the gradient's global norm; if one isn't finite, weights and
    statistics stay as before. `model`, `optimizer`, `averages` (`WeightAverages` or None): of the strategy's scope.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas, variables = strategy.num_replicas_in_sync, model.trainable_variables
    statistics = [v.value for v in model.non_trainable_variables if v.dtype == "float32"]  # of batch norm

    def backward(image, label):
        with tf.GradientTape() as tape:
            terms = losses(model(image, training=True), label)
        gradients = tape.gradient(terms[0], [v.value for v in variables])
        # semantic pre-training leaves the embedding head without gradient
        gradients = [tf.zeros_like(v.value) if g is None else g for g, v in zip(gradients, variables, strict=True)]
        terms = tf.stack(terms)
        gradients, terms = _replica_mean(gradients), _replica_mean(terms)
        norm = tf.linalg.global_norm(gradients)
        if replicas > 1:  # Keras sums over them once more
            gradients = [g * (1.0 / replicas) for g in gradients]
        return tf.concat([terms, norm[None]], axis=0), gradients

    @tf.function(jit_compile=jit, autograph=False)
    def train_step(image, label):
        before = [tf.convert_to_tensor(v) for v in statistics]
        result, gradients = strategy.run(backward, args=(image, label))
        result = strategy.experimental_local_results(result)[0]

        def forward():
            strategy.run(lambda gradients: optimizer.apply(gradients, variables), args=(gradients,))
            if averages:
                averages.update()
            return True

        def restore():
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
            return False

        tf.cond(tf.reduce_all(tf.math.is_finite(result)), forward, restore)
        return result

    return train_step


class WeightAverages:
    """Exponential moving averages of a model's weights and batch-norm statistics.

    Decay of step t: min(decay, (1 + t) / (10 + t)), so that the first don't linger.
    """

    def __init__(self, model, decay):
        """Start from the present weights; call in the scope of the model's strategy."""
        self.model, self.decay = model, decay
        self.variables = [
            keras.Variable(v, trainable=False, dtype=v.dtype, name=f"average_{i}") for i, v in enumerate(model.weights)
        ]
        self.count = keras.Variable(0.0, trainable=False, name="average_count")

    def named_variables(self):
        weights = zip(self.model.weights, self.variables, strict=True)
        return {"averages/count": self.count, **{f"averages/{weight.path}": average for weight, average in weights}}

    def update(self):
        step = self.count.value
        rate = 1.0 - tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.variables, self.model.weights, strict=True):
            average.value.assign_sub(rate * (average.value - variable.value))
        self.count.value.assign_add(1.0)

    def __enter__(self):
        """Put the averages into the model; leaving puts the weights back."""
        self._weights = [keras.ops.convert_to_numpy(v) for v in self.model.weights]
        for variable, average in zip(self.model.weights, self.variables, strict=True):
            variable.assign(keras.ops.convert_to_numpy(average))

    def __exit__(self, *_):
        for variable, value in zip(self.model.weights, self._weights, strict=True):
            variable.assign(value)
