"""Layers for drawings of any side."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.layers.spatial import GridPooling2D, SpaceToDepth


@pytest.mark.parametrize("side", [6, 7])
def test_squares_become_channels(side):
    images = np.random.default_rng(0).random([2, side, side, 3], np.float32)
    layer = SpaceToDepth(2)
    found = layer(images).numpy()
    half = -(-side // 2)
    assert found.shape == layer.compute_output_shape(images.shape) == (2, half, half, 12)
    padded = np.pad(images, [(0, 0), (0, side % 2), (0, side % 2), (0, 0)])
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            square = padded[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            np.testing.assert_array_equal(found[:, y, x], square.reshape(2, -1))


@pytest.mark.parametrize("side", [3, 4, 7, 10])
def test_the_grid_is_of_means_and_of_one_size(side):
    images = np.random.default_rng(0).random([2, side, side, 5], np.float32)
    found = GridPooling2D(3)(images)
    expected = tf.image.resize(images, [3, 3], antialias=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    ones = GridPooling2D(3)(np.ones([1, side, side, 1], np.float32))
    np.testing.assert_allclose(ones, np.ones([1, 3, 3, 1]), rtol=1e-6)


def test_the_gradient_of_the_grid_is_that_of_what_it_computes():
    images = tf.constant(np.random.default_rng(0).random([2, 5, 7, 3], np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        found = tf.reduce_sum(tf.sin(GridPooling2D(3)(images)))
        expected = tf.reduce_sum(tf.sin(tf.image.resize(images, [3, 3], antialias=True)))
    found, expected = (tape.gradient(each, images) for each in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_grid_is_computed_in_the_dtype_of_the_layer():
    assert GridPooling2D(3, dtype="mixed_bfloat16")(tf.ones([1, 7, 7, 2])).dtype == tf.bfloat16


@pytest.mark.parametrize("layer", [SpaceToDepth(4), GridPooling2D(5)])
def test_layers_come_back_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    images = np.ones([1, 8, 8, 2], np.float32)
    assert again(images).shape == layer(images).shape == layer.compute_output_shape((1, 8, 8, 2))
    assert isinstance(again, keras.layers.Layer)
