"""Dropout drops as many as it should, and nothing else; pooling is that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.layers.dense import Dense
from trainer.layers.dropout import Dropout
from trainer.layers.pooling import MaxPooling2D


def _drop(
    rate: float, inputs: np.ndarray, *, seed: int = 1, jit_compile: bool = False
) -> np.ndarray:
    layer = Dropout(rate, seed=seed)
    if not jit_compile:
        return layer(inputs, training=True).numpy()
    return tf.function(lambda: layer(inputs, training=True), jit_compile=True)().numpy()


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
@settings(max_examples=20, deadline=None)
@given(
    rate=st.one_of(st.floats(0.001, 0.999), st.integers(1, 255).map(lambda part: part / 256)),
    shape=st.sampled_from([(40_001,), (33, 1213), (10, 13, 13, 24)]),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_share_dropped_is_the_rate(jit_compile, rate, shape, seed):
    ones = np.ones(shape, np.float32)
    dropped = _drop(rate, ones, seed=seed, jit_compile=jit_compile) == 0
    deviation = np.sqrt(rate * (1 - rate) / dropped.size)
    assert np.mean(dropped) == pytest.approx(rate, abs=6 * deviation + 1 / 65536)
    # Bytes of one word, and of neighbouring ones, do not depend on each other.
    flat = dropped.ravel()
    for distance in (1, 2, 3, 4):
        both = flat[distance:] & flat[:-distance]
        assert np.mean(both) == pytest.approx(rate**2, abs=12 * deviation + 1 / 65536)


@pytest.mark.parametrize("rate", [0.25, 0.3])
def test_what_is_kept_is_as_in_keras(rate):
    inputs = np.random.default_rng(0).normal(size=[31, 77]).astype(np.float32)
    ours = _drop(rate, inputs)
    theirs = keras.layers.Dropout(rate, seed=1)(inputs, training=True).numpy()
    in_both = (ours != 0) & (theirs != 0)
    assert in_both.sum() > 500
    np.testing.assert_allclose(ours[in_both], theirs[in_both], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gradients_are_those_of_what_is_kept(dtype):
    inputs, upstream = tf.ones([50, 9], dtype), tf.fill([50, 9], tf.constant(3, dtype))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = Dropout(0.5, seed=1, dtype=dtype)(inputs, training=True)
    gradient = tape.gradient(outputs, inputs, output_gradients=upstream)
    assert outputs.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, outputs * 3)
    assert set(np.unique(tf.cast(outputs, tf.float32))) == {0, 2}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])
def test_masks_follow_from_the_seed_and_differ_from_step_to_step(jit_compile):
    ones = np.ones([64, 64], np.float32)
    layers = [tf.function(Dropout(0.5, seed=seed), jit_compile=jit_compile) for seed in (7, 7, 8)]
    first, second, different = ([layer(ones, training=True) for _ in range(3)] for layer in layers)
    np.testing.assert_array_equal(first, second)
    masks = [*first, *different]
    for index, left in enumerate(masks):
        for right in masks[:index]:
            assert np.mean(left == right) == pytest.approx(0.5, abs=0.05)


def test_a_dropped_infinity_is_gone():
    outputs = _drop(0.5, np.full([1000], np.inf, np.float32))
    assert set(outputs) == {0, np.inf}


def test_nothing_is_dropped_outside_training_or_at_rate_0():
    inputs = np.random.default_rng(0).normal(size=[5, 6]).astype(np.float32)
    np.testing.assert_array_equal(Dropout(0.9)(inputs, training=False), inputs)
    np.testing.assert_array_equal(Dropout(0.9)(inputs), inputs)
    np.testing.assert_array_equal(Dropout(0.0)(inputs, training=True), inputs)


def test_a_noise_shape_is_kept_to():
    outputs = Dropout(0.5, noise_shape=(None, 1), seed=1)(np.ones([40, 8]), training=True)
    assert all(len(set(row)) == 1 for row in outputs.numpy())
    assert len(np.unique(outputs)) == 2


# --- pooling -------------------------------------------------------------------------------------

POOLED_SHAPES = st.tuples(*(st.integers(2, 9) for _ in range(2)), st.integers(1, 3))


def _pool(layer: keras.Layer, images: np.ndarray, *, jit_compile: bool) -> list[np.ndarray]:
    """The pooled images, and the gradient of a sum in which no two of them weigh the same."""

    @tf.function(jit_compile=jit_compile)
    def run(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            weights = tf.reshape(tf.range(1.0, tf.cast(tf.size(outputs) + 1, tf.float32)), [-1])
            loss = tf.reduce_sum(weights * tf.reshape(tf.cast(outputs, tf.float32), [-1]))
        return outputs, tape.gradient(loss, inputs)

    return [tf.cast(part, tf.float32).numpy() for part in run(tf.constant(images))]


@settings(max_examples=15, deadline=None)
@given(shape=POOLED_SHAPES, levels=st.sampled_from([1, 2, 3, 1000]), seed=st.integers(0, 99))
def test_pooling_under_xla_is_that_of_keras_with_ties_too(shape, levels, seed):
    """Few levels make many ties, as the blank of a drawing does; odd sides lose a row."""
    images = np.random.default_rng(seed).integers(0, levels, [2, *shape]).astype(np.float32)
    expected = _pool(keras.layers.MaxPooling2D(2), images, jit_compile=False)
    for found, value in zip(
        _pool(MaxPooling2D(2), images, jit_compile=True), expected, strict=True
    ):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("arguments", [{"pool_size": 3}, {"pool_size": 2, "strides": 1}])
def test_any_other_pooling_is_that_of_keras(arguments):
    images = np.random.default_rng(0).normal(size=[2, 7, 7, 3]).astype(np.float32)
    expected = _pool(keras.layers.MaxPooling2D(**arguments), images, jit_compile=True)
    found = _pool(MaxPooling2D(**arguments), images, jit_compile=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_xla_pooling_is_the_op_of_tensorflow():
    """Which is faster on a CPU."""
    pool = tf.function(MaxPooling2D(2)).get_concrete_function(tf.TensorSpec([2, 4, 4, 1]))
    assert "MaxPool" in {operation.type for operation in pool.graph.get_operations()}


# --- dense layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_dense_layer_under_xla_is_that_of_keras(policy, activation):
    inputs = tf.constant(np.random.default_rng(0).normal(size=[7, 12]).astype(np.float32))
    found = []
    for kind in (keras.layers.Dense, Dense):
        layer = kind(5, activation, dtype=policy, kernel_initializer=keras.initializers.Ones())
        layer.build([None, 12])

        @tf.function(jit_compile=True)
        def run(layer: keras.Layer = layer) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
            return [outputs, *tape.gradient(loss, [inputs, layer.kernel.value, layer.bias.value])]

        found.append([tf.cast(part, tf.float32).numpy() for part in run()])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 if policy == "float32" else 2e-2)
