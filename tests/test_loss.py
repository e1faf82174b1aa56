"""The losses against float64 transcriptions of the paper's equations, value and gradient, and on degenerate input."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import loss
from loss import discriminative_loss, semantic_loss

WEIGHTS = {"delta_v": 0.5, "delta_d": 1.5, "param_var": 1.0, "param_dist": 0.7, "param_reg": 0.01}


def reference(prediction, label, delta_v, delta_d, param_var, param_dist, param_reg):
    """Equations 1-4 of arXiv 1708.02551, in float64."""
    parts = np.zeros(3)
    for x, ids in zip(np.asarray(prediction, np.float64), label, strict=True):
        instances = [x[ids == i] for i in np.unique(ids)]
        means = [instance.mean(axis=0) for instance in instances]
        count = len(means)
        for instance, mean in zip(instances, means, strict=True):
            distance = np.linalg.norm(instance - mean, axis=1)
            parts[0] += np.mean(np.maximum(distance - delta_v, 0) ** 2) / count
            parts[2] += np.linalg.norm(mean) / count
        for a, b in itertools.permutations(means, 2):
            parts[1] += max(2 * delta_d - np.linalg.norm(a - b), 0) ** 2 / (count * (count - 1))
    parts *= np.array([param_var, param_dist, param_reg]) / len(label)
    return parts.sum(), *parts


def value_and_gradient(prediction, label, **weights):
    prediction = tf.constant(prediction, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        values = discriminative_loss(prediction, tf.constant(label), **weights)
    return [float(v) for v in values], tape.gradient(values[0], prediction).numpy()


def ids_of(kind, rng, shape):
    return {
        "few": rng.choice([0, 20, 70, 220, 65535], shape),
        "huge ids": rng.choice([0, 3, 10**6, 2**31 - 1], shape),
        "one instance": np.full(shape, 20),
        "all background": np.zeros(shape, int),
        "different numbers": np.stack([np.full(shape[1:], 7), rng.integers(0, 6, shape[1:])]),
        "many": rng.integers(0, 256, shape),
    }[kind].astype(np.int32)


@pytest.mark.parametrize("kind", ["few", "huge ids", "one instance", "all background", "different numbers", "many"])
@pytest.mark.parametrize("dim", [1, 3, 8])
def test_value_agrees_with_the_papers_equations(kind, dim):
    rng = np.random.default_rng(dim)
    label = ids_of(kind, rng, (2, 24, 32))
    prediction = rng.normal(0, 1.3, (2, 24, 32, dim)).astype(np.float32)
    prediction += rng.normal(0, 2, (2, 256, dim))[np.arange(2)[:, None, None], label % 256]
    values, _ = value_and_gradient(prediction.astype(np.float32), label, **WEIGHTS)
    np.testing.assert_allclose(values, reference(prediction.astype(np.float32), label, **WEIGHTS), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True])
def test_value_at_full_size_with_constant_embeddings(compiled):
    """A float32 sum of 262,144 times 0.1 loses digits."""
    rng = np.random.default_rng(0)
    label = rng.choice([0, 20, 70], (2, 512, 512), p=[0.9, 0.05, 0.05]).astype(np.int32)
    prediction = np.full((2, 512, 512, 3), 0.1, np.float32)
    weights = {**WEIGHTS, "param_reg": 1.0}
    values = tf.function(lambda p, y: discriminative_loss(p, y, **weights), jit_compile=compiled)(prediction, label)
    expected = reference(prediction, label, **weights)
    np.testing.assert_allclose([float(v) for v in values], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["few", "one instance", "different numbers"])
def test_gradient_agrees_with_finite_differences(kind):
    rng = np.random.default_rng(3)
    label = ids_of(kind, rng, (2, 4, 5))
    prediction = rng.normal(0, 1.5, (2, 4, 5, 2)).astype(np.float32)
    _, gradient = value_and_gradient(prediction, label, **WEIGHTS)
    step = 1e-5
    expected = np.zeros(prediction.shape)
    for index in np.ndindex(*prediction.shape):
        up, down = prediction.astype(np.float64), prediction.astype(np.float64)
        up[index] += step
        down[index] -= step
        expected[index] = (reference(up, label, **WEIGHTS)[0] - reference(down, label, **WEIGHTS)[0]) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", ["zeros", "coinciding means", "constant", "one pixel", "large"])
@pytest.mark.parametrize("kind", ["few", "one instance", "all background"])
def test_degenerate_input_is_finite(case, kind):
    rng = np.random.default_rng(4)
    shape = (2, 1, 1) if case == "one pixel" else (2, 6, 8)
    label = ids_of(kind, rng, shape)
    half = rng.normal(size=(2, 6, 4, 3))
    if case == "coinciding means":
        label = np.concatenate([label[:, :, :4], label[:, :, :4]], axis=2)
    prediction = {
        "zeros": np.zeros((*shape, 3)),
        # every id stands left and right of the middle, with opposite embeddings
        "coinciding means": np.concatenate([half, -half], axis=2),
        "constant": np.full((*shape, 3), 0.7),
        "one pixel": rng.normal(size=(*shape, 3)),
        "large": rng.normal(0, 1e6, (*shape, 3)),
    }[case].astype(np.float32)
    values, gradient = value_and_gradient(prediction, label, **WEIGHTS)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    np.testing.assert_allclose(values, reference(prediction, label, **WEIGHTS), rtol=1e-4, atol=1e-6)


def test_instances_over_the_limit_are_left_out_not_merged(monkeypatch):
    prediction = np.arange(6, dtype=np.float32).reshape(1, 1, 6, 1) * 10
    label = np.arange(6).reshape(1, 1, 6)
    expected, _ = value_and_gradient(prediction[:, :, :4], label[:, :, :4], param_reg=1.0)
    monkeypatch.setattr(loss, "MAX_INSTANCES", 4)
    limited, _ = value_and_gradient(prediction, label, param_reg=1.0)
    np.testing.assert_allclose(limited, expected, rtol=1e-6)


def test_semantic_loss_by_hand():
    label, logits = np.array([[[0, 0], [20, 0]]]), np.array([-1.0, 2.0, 0.5, 80.0])
    probability = 1 / (1 + np.exp(-logits))
    entropy = [-np.log(1 - probability[0]), -np.log(1 - probability[1]), -np.log(probability[2]), 80.0]
    expected = (entropy[0] + entropy[1] + 10 * entropy[2] + entropy[3]) / 13
    value = semantic_loss(logits.reshape(1, 2, 2, 1).astype(np.float32), label, lane_weight=10.0)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_ignored_pixels_count_nowhere():
    rng = np.random.default_rng(7)
    label = rng.choice([0, 20, 70, 255, 300], (2, 6, 8)).astype(np.int32)
    label[1, :3] = 255
    prediction = rng.normal(0, 1.5, (2, 6, 8, 3)).astype(np.float32)
    kept = label != 255
    parts = [reference(prediction[i][kept[i]][None, None], label[i][kept[i]][None, None], **WEIGHTS) for i in range(2)]
    values, gradient = value_and_gradient(prediction, label, ignore=255, **WEIGHTS)
    np.testing.assert_allclose(values, np.mean(parts, axis=0), rtol=1e-5, atol=1e-7)
    assert not gradient[~kept].any() and gradient[kept].any()
    everything, gradient = value_and_gradient(prediction, np.full_like(label, 255), ignore=255, **WEIGHTS)
    assert everything == [0, 0, 0, 0] and not gradient.any()

    logits = rng.normal(0, 2, (2, 6, 8, 1)).astype(np.float32)
    lane, z = label[kept] > 0, logits[..., 0][kept].astype(float)
    weights = np.where(lane, 10.0, 1.0)
    expected = np.sum(weights * (np.log1p(np.exp(z)) - lane * z)) / weights.sum()
    assert float(semantic_loss(logits, label, ignore=255)) == pytest.approx(expected, rel=1e-5)
    assert float(semantic_loss(logits, np.full_like(label, 255), ignore=255)) == 0
