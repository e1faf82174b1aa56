"""The optimizer step: against Keras' own optimizers and layers, and what it must not do."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import miniature
from test_loss import reference

from run import devices, train_step

SIZE = (16, 24)
SETTINGS = train_step.LossSettings(reg=0.001)


def make(lr=0.01, jit=False):
    """(model, optimizer, losses) of a miniature network, always with the same weights."""
    keras.utils.set_random_seed(0)
    model = miniature({"input_shape": (*SIZE, 3), "dropout": False})
    optimizer = train_step.make_optimizer("adam", 100, lr)
    optimizer.build(model.trainable_variables)
    return model, optimizer, train_step.make_losses(SETTINGS, not jit)


def batch(seed=0, count=4):
    rng = np.random.default_rng(seed)
    label = np.zeros((count, *SIZE), np.int32)
    label[:, :, 4:8], label[:, :, 14:18] = 20, 70
    return rng.uniform(0, 255, (count, *SIZE, 3)).astype(np.float32), label


def run(steps=3, jit=False, policy="float32"):
    keras.config.set_dtype_policy(policy)
    try:
        model, optimizer, losses = make(jit=jit)
        step = train_step.make_train_step(model, optimizer, losses, jit=jit)
        return model, np.array([step(*batch(seed)).numpy() for seed in range(steps)]), step
    finally:
        keras.config.set_dtype_policy("float32")


def test_adam_and_adamw_are_those_of_keras():
    rng = np.random.default_rng(0)
    values = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    gradients = [[rng.normal(size=v.shape).astype(np.float32) for v in values.values()] for _ in range(4)]

    def train(optimizer):
        variables = [keras.Variable(v, dtype="float32", name=name) for name, v in values.items()]
        optimizer.build(variables)
        for gradient in gradients:
            optimizer.apply([tf.constant(g) for g in gradient], variables)
        return [v.numpy() for v in variables]

    decayed = [kind(0.1, weight_decay=0.05) for kind in (train_step.AdamW, keras.optimizers.AdamW)]
    for optimizer in decayed:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    for ours, theirs in ((train_step.Adam(0.1), keras.optimizers.Adam(0.1)), decayed):
        for a, b in zip(train(ours), train(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_result_is_losses_and_gradient_norm():
    model, optimizer, losses = make(lr=0)
    result = train_step.make_train_step(model, optimizer, losses)(*batch()).numpy()
    with tf.GradientTape() as tape:
        terms = losses(model(batch()[0], training=True), batch()[1])
    gradients = tape.gradient(terms[0], [v.value for v in model.trainable_variables])
    np.testing.assert_allclose(result[:5], [float(term) for term in terms], rtol=1e-5)
    norm = np.sqrt(sum((g.numpy().astype(np.float64) ** 2).sum() for g in gradients))
    assert result[5] == pytest.approx(norm, rel=1e-5)


def test_background_and_foreground_weight():
    """Without background and what is ignored: the loss of the two instances, by NumPy in float64."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, 2, (1, 8, 8, 3)).astype(np.float32)
    logits = rng.normal(0, 2, (1, 8, 8, 1)).astype(np.float32)
    label = np.zeros((1, 8, 8), np.int32)
    label[0, :4, :4], label[0, 5:, 2:], label[0, :2, 6:] = 20, 70, 255
    settings = train_step.LossSettings(reg=0.1, foreground=3.0, ignore=255, background=False)
    losses = train_step.make_losses(settings, jit=False)
    found = [float(x) for x in losses({"embedding": embedding, "semantic": logits}, label)]
    chosen = (label == 20) | (label == 70)
    parts = reference(embedding[chosen][None, None], label[chosen][None, None], 0.5, 1.5, 1.0, 1.0, 0.1)[1:]
    weight = np.where(label == 255, 0.0, np.where(label > 0, 3.0, 1.0))
    z = logits[..., 0].astype(np.float64)
    entropy = np.logaddexp(0, z) - (label > 0) * z
    expected = [*parts, (weight * entropy).sum() / weight.sum()]
    np.testing.assert_allclose(found[1:], expected, rtol=1e-5)
    assert found[0] == pytest.approx(sum(expected), rel=1e-5)


def test_a_step_that_is_not_finite_changes_nothing():
    model, optimizer, losses = make()
    averages = train_step.WeightAverages(model, 0.9)
    step = train_step.make_train_step(model, optimizer, losses, averages=averages)
    step(*batch())
    watched = [*model.weights, *optimizer.variables, *averages.variables]
    before = [v.numpy() for v in watched]
    image, label = batch(1)
    image[0, 3, 3, 1] = np.nan
    assert not np.isfinite(step(image, label).numpy()).all()
    assert all(np.array_equal(variable.numpy(), value) for variable, value in zip(watched, before, strict=True))
    assert np.isfinite(step(*batch(2)).numpy()).all()


def test_averages_follow_the_weights():
    model, optimizer, losses = make()
    averages = train_step.WeightAverages(model, 0.5)
    step = train_step.make_train_step(model, optimizer, losses, averages=averages)
    expected = [w.astype(np.float64) for w in model.get_weights()]
    for count in range(6):
        step(*batch(count))
        decay = min(0.5, (1 + count) / (10 + count))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, model.get_weights(), strict=True)]
    weights = model.get_weights()
    with averages:
        for a, b in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


def test_xla_gives_the_same_weights():
    """Up to the order of sums; of a gradient near 0 Adam takes the sign, hence all weights together."""
    (plain, losses, _), (compiled, others, _) = run(), run(jit=True)
    np.testing.assert_allclose(losses, others, rtol=2e-3)
    a, b = (np.concatenate([w.ravel() for w in model.get_weights()]) for model in (plain, compiled))
    assert np.abs(a - b).mean() < 0.02 * 0.01  # 2 % of one step's length


def test_mixed_precision_is_finite_and_close():
    (_, losses, _), (mixed, others, _) = run(), run(policy="mixed_bfloat16")
    assert mixed.get_layer("first").compute_dtype == "bfloat16" and mixed.get_layer("first").kernel.dtype == "float32"
    assert {output.dtype for output in mixed.output.values()} == {"float32"}
    assert np.isfinite(others).all()
    np.testing.assert_allclose(losses[:, 0], others[:, 0], rtol=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_freed_memory_stays_for_the_next_step():
    resource = pytest.importorskip("resource")
    devices.keep_memory()
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(b"x") * 2**26  # 16,384 pages
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_step_is_one_static_graph(policy):
    """Traced once for all batches, no round trip to Python, no shape that depends on the data."""
    _, _, step = run(2, policy=policy)
    assert step.experimental_get_tracing_count() == 1
    graph = step.get_concrete_function(*batch()).graph
    dynamic = {"PyFunc", "EagerPyFunc", "PyFuncStateless", "Unique", "Where"}
    assert not {op.type for op in graph.get_operations()} & dynamic
    pixels = [t for op in graph.get_operations() for t in op.outputs if t.dtype.is_floating and t.shape.rank == 4]
    assert len(pixels) > 20 and all(t.shape.is_fully_defined() for t in pixels)
