"""The network: parameter count, pooling against TensorFlow's and NumPy's, options, number types."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import enet
from enet import MaxPoolWithPositions, MaxUnpool, build_enet


def shake(model, seed=0):
    """Random values for every variable; activations stay near 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = []
        for variable, old in zip(layer.weights, layer.get_weights(), strict=True):
            fan_in = np.prod(old.shape[:-1]) if old.ndim == 4 else 10
            new = rng.normal(0, fan_in**-0.5, old.shape)
            weights.append(rng.uniform(0.5, 1.5, old.shape) if "variance" in variable.path else new)
        layer.set_weights(weights)
    return model


def assert_close(found, expected, tolerance=1e-4):
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.std())


@pytest.fixture(scope="module")
def network():
    """An ENet of one stage, of open size, which no test changes."""
    return shake(build_enet((None, None, 3), embedding_dim=4, stage_two_repeat=1))


def test_parameter_count_of_the_original():
    model = build_enet((64, 64, 3), embedding_dim=3, semantic=False)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 363_745


def test_coordinates_by_hand(network, tmp_path):
    """x and y over the scale, added to channels 0 and 1, also after saving."""
    image = np.random.default_rng(0).uniform(0, 255, (2, 16, 24, 3)).astype(np.float32)
    model = build_enet((None, None, 3), coordinate_scale=5.0, embedding_dim=4, stage_two_repeat=1)
    model.set_weights(network.get_weights())
    plain = network(image)
    expected = plain["embedding"].numpy()
    expected[..., 0] += np.arange(24) / 5
    expected[..., 1] += np.arange(16)[:, None] / 5
    outputs = model(image)
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)
    np.testing.assert_array_equal(outputs["semantic"], plain["semantic"])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image)["embedding"], expected, atol=1e-5)
    for wrong in ({"coordinate_scale": 0.0}, {"coordinate_scale": 5.0, "embedding_dim": 1}):
        with pytest.raises(ValueError, match="coordinate_scale"):
            build_enet((16, 16, 3), **wrong)


def test_pool_and_unpool_agree_with_tensorflows_argmax():
    rng = np.random.default_rng(1)
    x = tf.round(tf.constant(rng.normal(size=(2, 8, 12, 5)), tf.float32))
    y, upstream = rng.normal(size=(2, 2, 4, 6, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled, positions = MaxPoolWithPositions()(x)
        total = tf.reduce_sum(pooled * upstream)
    expected, argmax = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)
    np.testing.assert_array_equal(pooled, expected)

    def scatter(values):
        result = np.zeros(x.shape, np.float32)
        result.reshape(-1)[argmax.numpy().ravel()] = values.ravel()
        return result

    np.testing.assert_array_equal(MaxUnpool()(y, positions), scatter(y))
    np.testing.assert_array_equal(tape.gradient(total, x), scatter(upstream))


@pytest.mark.parametrize("shape", [(12, 16, 3), (16, 16, 1)])
def test_sizes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 8"):
        build_enet(shape)


def test_images_of_a_batch_do_not_mix_at_inference():
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    model = shake(build_enet((64, 64, 3), stage_two_repeat=1, image_statistics=True))
    alone = np.concatenate([model(image[None])["embedding"] for image in images])
    assert_close(model(images)["embedding"], alone, 1e-2)  # statistics of few values amplify rounding


def test_input_of_any_type_is_rescaled_by_the_model(network):
    image = np.random.default_rng(3).integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    expected = network(image)["semantic"]
    for dtype in (np.int32, np.float64):
        np.testing.assert_array_equal(network(image.astype(dtype))["semantic"], expected)
    outside = build_enet((16, 16, 3), embedding_dim=4, stage_two_repeat=1, rescale=1)
    outside.set_weights(network.get_weights())
    assert_close(outside(image / np.float32(255))["semantic"], expected)


def test_relu_head_starts_alive():
    model = build_enet((16, 16, 3), embedding_activation="relu", semantic=False, stage_two_repeat=1)
    outputs = model(np.zeros((1, 16, 16, 3)))
    assert outputs["embedding"].numpy().min() > 0 and "semantic" not in outputs


def test_xla_gives_the_same_output(network):
    image = np.random.default_rng(7).uniform(0, 255, (1, 16, 24, 3)).astype(np.float32)
    compiled = tf.function(lambda x: network(x, training=False), jit_compile=True)(image)
    for name, value in network(image).items():
        assert_close(compiled[name], value)


LAYERS = {"PReLU": {"shared_axes": (1, 2)}, "BatchNormalization": {"scale": False, "epsilon": 1e-3, "momentum": 0.9}}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype,tolerance", [("float32", 1e-5), ("float16", 0.01), ("mixed_bfloat16", 0.05)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_keras(name, dtype, tolerance, training):
    """Outputs, gradients and moving averages, to a fraction of their largest values."""
    rng = np.random.default_rng(0)
    x, upstream = (tf.constant(rng.normal(1, 3, (4, 6, 8, 5)), tf.float32) for _ in range(2))
    weights, found = rng.uniform(0.1, 2, (3, 5)), []
    for module, policy in ((enet, dtype), (keras.layers, "float64")):
        layer = getattr(module, name)(**LAYERS[name], dtype=policy)
        layer.build(x.shape)
        for variable, value in zip(layer.weights, weights, strict=False):
            variable.assign(value.reshape(variable.shape))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            total = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        found.append([y, *tape.gradient(total, [x, layer.trainable_variables[0].value]), *layer.weights])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("dtype,step,smallest", [("float16", -10, -14), ("bfloat16", -7, -126), ("float32", -23, -126)])
@pytest.mark.parametrize("values", ["ties", "neighbors", "smallest", "largest"])
def test_positions_are_exact_in_every_float_type(values, dtype, step, smallest):
    """On ties and on values whose differences are tiny or overflow."""
    number = np.random.default_rng(0).integers(-2, 3, (1, 8, 12, 5)).astype(np.float64)
    exact = {
        "ties": number,
        "neighbors": 1 + (number + 2) * 2.0**step,
        "smallest": number * 2.0**smallest,
        "largest": number / 2 * float(tf.as_dtype(dtype).max),
    }[values]
    x = tf.cast(exact, dtype)
    np.testing.assert_array_equal(tf.cast(x, tf.float64), exact)  # all of them are numbers of the type
    windows = exact.reshape(1, 4, 2, 6, 2, 5).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 6, 4, 5)
    pooled, positions = MaxPoolWithPositions(dtype=dtype)(x)
    assert pooled.dtype == positions.dtype == dtype
    np.testing.assert_array_equal(tf.cast(pooled, tf.float64), windows.max(axis=3))
    one_hot = np.moveaxis(np.eye(4)[windows.argmax(axis=3)], -1, 3).reshape(1, 4, 6, 4 * 5)
    np.testing.assert_array_equal(tf.cast(positions, tf.float64), one_hot)


def test_network_in_half_precision():
    """Against float64, by the median, as rounding decides near ties of a pooling window, which moves single values."""
    image = np.random.default_rng(9).uniform(0, 255, (1, 64, 96, 3))

    def run(policy, weights=None):
        keras.config.set_dtype_policy(policy)
        try:
            model = build_enet((64, 96, 3), stage_two_repeat=1)
        finally:
            keras.config.set_dtype_policy("float32")
        shake(model) if weights is None else model.set_weights(weights)
        return model.get_weights(), np.float64(model(image)["embedding"])

    weights, expected = run("float64")
    for policy, tolerance in (("float16", 0.02), ("mixed_float16", 0.02), ("mixed_bfloat16", 0.15)):
        _, found = run(policy, weights)
        assert np.isfinite(found).all() and np.median(np.abs(found - expected)) / expected.std() < tolerance, policy


def test_training_with_jax():
    """Three steps of `fit`, at an open size."""
    pytest.importorskip("jax")
    script = (
        "import enet, keras, numpy as np; model = enet.build_enet((None, None, 3), stage_two_repeat=1, semantic=False);"
        "model.compile('adam', {'embedding': 'mse'}); x = np.ones((6, 16, 16, 3), 'float32');"
        "assert np.isfinite(model.fit(x, {'embedding': x}, batch_size=2, verbose=0).history['loss'][0])"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
