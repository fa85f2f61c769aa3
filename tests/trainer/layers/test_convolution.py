"""The convolution as XLA gets it is that of Keras; without XLA it is Keras' very own."""

from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.layers.convolution import Conv2D

Arrays = dict[str, np.ndarray]


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Of a layer."""
    stride = draw(st.sampled_from([1, 1, 2, 3]))
    return {
        "filters": draw(st.sampled_from([1, 5, 16])),
        "kernel_size": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "strides": (stride, draw(st.sampled_from([1, stride]))),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from([None, "relu", "tanh"])),
    }


def run(layer: keras.Layer, images: np.ndarray, *, jit_compile: bool) -> Arrays:
    """Outputs, and the gradients of a sum in which no two of them weigh the same.

    Weights are the same for layers of the same shapes.
    """
    layer.build(images.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.normal(size=weight.shape) for weight in layer.weights])

    @tf.function(jit_compile=jit_compile)
    def compute(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            flat = tf.reshape(tf.cast(outputs, tf.float32), [-1])
            loss = tf.reduce_sum(tf.sin(tf.range(tf.cast(tf.size(flat), tf.float32))) * flat)
        weights = {weight.name: weight.value for weight in layer.weights}
        return {"outputs": outputs, **tape.gradient(loss, {"inputs": inputs, **weights})}

    return {name: tf.cast(value, tf.float32).numpy() for name, value in compute(images).items()}


def assert_alike(found: Arrays, expected: Arrays, *, tolerance: float) -> None:
    """Each differs by at most so much of its largest number."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        bound = tolerance * max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=bound, err_msg=name)


@settings(max_examples=8)
@given(
    arguments=arguments(),
    channels=st.sampled_from([1, 1, 3]),
    sides=st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_under_xla_outputs_and_gradients_are_those_of_keras(arguments, channels, sides):
    images = np.random.default_rng(0).normal(size=[3, *sides, channels]).astype(np.float32)
    expected = run(keras.layers.Conv2D(**arguments), images, jit_compile=False)
    found = run(Conv2D(**arguments), images, jit_compile=True)
    assert_alike(found, expected, tolerance=2e-5)


@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_it_is_no_further_from_float32_than_keras(policy, channels):
    arguments = {"filters": 16, "kernel_size": 3, "padding": "same"}
    images = np.random.default_rng(0).random([32, 12, 12, channels], np.float32)
    exact = run(keras.layers.Conv2D(**arguments), images, jit_compile=False)
    theirs = run(keras.layers.Conv2D(dtype=policy, **arguments), images, jit_compile=True)
    ours = run(Conv2D(dtype=policy, **arguments), images, jit_compile=True)
    for name, value in exact.items():
        error, bound = (np.linalg.norm(each[name] - value) for each in (ours, theirs))
        rounding = tf.as_dtype(policy.removeprefix("mixed_")).as_numpy_dtype
        bound = max(1.2 * bound, float(ml_dtypes.finfo(rounding).eps) / 2 * np.linalg.norm(value))
        assert error <= bound, name


def test_where_a_drawing_is_blank_relu_passes_no_gradient():
    """There outputs are exactly 0 as long as biases are."""
    images = np.zeros([2, 8, 8, 1], np.float32)
    layer = Conv2D(4, 3, activation="relu")
    layer.build(images.shape)

    @tf.function(jit_compile=True)
    def gradient() -> tf.Tensor:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(images))
        return tape.gradient(total, layer.bias.value)

    np.testing.assert_array_equal(gradient(), np.zeros(4))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_xla_it_is_the_layer_of_keras(channels):
    images = np.random.default_rng(0).normal(size=[2, 9, 9, channels]).astype(np.float32)
    arguments = {"filters": 5, "kernel_size": 3, "activation": "relu"}
    expected = run(keras.layers.Conv2D(**arguments), images, jit_compile=False)
    found = run(Conv2D(**arguments), images, jit_compile=False)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_dilated_convolution_is_that_of_keras():
    images = np.random.default_rng(0).normal(size=[2, 9, 9, 1]).astype(np.float32)
    arguments = {"filters": 5, "kernel_size": 3, "dilation_rate": 2}
    expected = run(keras.layers.Conv2D(**arguments), images, jit_compile=False)
    assert_alike(run(Conv2D(**arguments), images, jit_compile=True), expected, tolerance=2e-5)


def test_compiled_twice_it_gives_the_same_bits():
    images = np.random.default_rng(0).normal(size=[64, 14, 14, 1]).astype(np.float32)
    first, second = (
        run(Conv2D(16, 3, activation="relu", dtype="mixed_bfloat16"), images, jit_compile=True)
        for _ in range(2)
    )
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_weights_have_the_names_and_shapes_of_those_of_keras():
    ours, theirs = Conv2D(4, 3, name="conv"), keras.layers.Conv2D(4, 3, name="conv")
    for layer in (ours, theirs):
        layer.build([None, 28, 28, 1])
    names = [[(each.path, each.shape) for each in layer.weights] for layer in (ours, theirs)]
    assert names[0] == names[1]
    assert Conv2D.from_config(theirs.get_config()).get_config() == theirs.get_config()
