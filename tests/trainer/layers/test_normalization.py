"""The fused batch normalization is that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.layers.normalization import BatchNormalization

SHAPES = st.tuples(*(st.integers(1, 5) for _ in range(3)), st.integers(1, 4))


def _make(kind: type, shape: tuple[int, ...], seed: int, dtype: str) -> keras.Layer:
    """A layer in the middle of a training run: nothing in it is 0 or 1."""
    layer = kind(momentum=0.8, epsilon=1e-2, dtype=dtype, name="norm")
    layer.build((None, *shape[1:]))
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(generator.uniform(0.5, 2, weight.shape))
    return layer


def _run(
    layer: keras.Layer, inputs: np.ndarray, *, training: bool, jit_compile: bool
) -> dict[str, np.ndarray]:
    """Outputs, gradients of a sum in which no two outputs weigh the same, and statistics."""

    @tf.function(jit_compile=jit_compile)
    def call(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=training)
            shares = tf.reshape(tf.linspace(-1.0, 1.0, inputs.size), inputs.shape)
            loss = tf.reduce_sum(shares * tf.cast(outputs, tf.float32))
        watched = [images, *(weight.value for weight in layer.trainable_weights)]
        return outputs, tape.gradient(loss, watched)

    outputs, gradients = call(tf.cast(inputs, layer.compute_dtype))
    assert outputs.dtype == gradients[0].dtype == layer.compute_dtype
    names = ["of inputs", *(f"of {weight.name}" for weight in layer.trainable_weights)]
    found = {"outputs": outputs, **dict(zip(names, gradients, strict=True))}
    found |= {weight.name: weight.value for weight in layer.non_trainable_weights}
    return {name: tf.cast(value, tf.float32).numpy() for name, value in found.items()}


@settings(max_examples=12)
@given(
    shape=SHAPES,
    dtype=st.sampled_from(["float32", "mixed_bfloat16"]),
    training=st.booleans(),
    jit_compile=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_keras_layer(shape, dtype, training, jit_compile, seed):
    inputs = np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)
    expected, found = (
        _run(_make(kind, shape, seed, dtype), inputs, training=training, jit_compile=jit_compile)
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    )
    assert found.keys() == expected.keys()
    tolerance = 1e-4 if dtype == "float32" else 2e-2
    for name, value in expected.items():
        # Of a single number the variance is 0, and gradients are rounding, times 1 / epsilon.
        scale = max(1, np.abs(value).max(), 10 * (np.prod(shape[:3]) < 4))
        np.testing.assert_allclose(found[name], value, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_of_small_floats_are_float32(dtype):
    """A mean of 1 + 2^-12 is 1 in bfloat16, and a sum of 4,096 of it 4,096 in float16."""
    shape = (64, 8, 8, 2)
    inputs = np.ones(shape, np.float32)
    inputs[0, 0, 0, 0] = 2
    layer = _make(BatchNormalization, shape, 0, dtype)
    before = layer.moving_mean.numpy()
    layer(tf.cast(inputs, layer.compute_dtype), training=True)
    expected = 0.8 * before + 0.2 * np.array([1 + 2**-12, 1])
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-6)


def _ops(dtype: str, *, training: bool, **arguments: object) -> set[str]:
    layer = BatchNormalization(dtype=dtype, **arguments)
    call = tf.function(lambda images: layer(images, training=training))
    spec = tf.TensorSpec([4, 6, 6, 3], layer.compute_dtype)
    return {operation.type for operation in call.get_concrete_function(spec).graph.get_operations()}


def test_what_is_exported_is_keras_layer():
    assert "FusedBatchNormV3" in _ops("float32", training=True)
    assert "FusedBatchNormV3" in _ops("mixed_bfloat16", training=False)
    assert "FusedBatchNormV3" not in _ops("float32", training=False)


@pytest.mark.parametrize("arguments", [{"axis": 1}, {"center": False}, {"scale": False}])
def test_what_the_op_does_not_know_is_left_to_keras(arguments):
    assert "FusedBatchNormV3" not in _ops("float32", training=True, **arguments)


def test_a_frozen_layer_keeps_its_statistics():
    layer = _make(BatchNormalization, (8, 4, 4, 2), 0, "mixed_bfloat16")
    layer.trainable = False
    before = [weight.numpy() for weight in layer.weights]
    layer(tf.random.stateless_normal([8, 4, 4, 2], [0, 0]), training=True)
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_it_comes_back_from_its_config():
    layer = BatchNormalization.from_config(BatchNormalization(momentum=0.7).get_config())
    assert (layer.momentum, layer.synchronized) == (0.7, True)
