"""Drawings made smaller, and the same weights for them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from trainer import models
from trainer.training import resolution


@pytest.mark.parametrize(("old", "new"), [(28, 14), (28, 20), (28, 27), (9, 4), (7, 3), (28, 28)])
def test_resizing_is_that_of_tensorflow(old, new):
    images = np.random.default_rng(0).random([3, old, old, 1], np.float32)
    expected = tf.image.resize(images, [new, new], antialias=True)
    np.testing.assert_allclose(resolution.resize(tf.constant(images), new), expected, atol=1e-5)


@pytest.mark.parametrize("sides", [(28, 20), (20,), (32, 28)])
def test_sides_that_a_run_cannot_end_with_are_refused(sides):
    resolution.check((), 28)
    resolution.check((20, 28), 28)
    with pytest.raises(UsageError, match=r"--train_sides=[\d,]+: must end with 28"):
        resolution.check(sides, 28)


def test_a_model_at_another_side_has_the_same_weights():
    layers = [keras.layers.Conv2D(4, 3, name="conv"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input([28, 28, 1]), *layers, keras.layers.Dense(3)])
    small = resolution.at_side(model, 16)
    assert small.input_shape == (None, 16, 16, 1)
    for one, other in zip(small.weights, model.weights, strict=True):
        assert one is other
    assert resolution.at_side(model, 28) is model


def test_a_model_that_only_fits_its_own_side_is_refused():
    model = models.get("study_cnn")(side=28, num_classes=3, dropout=None)
    with pytest.raises(UsageError, match="--train_sides: the model study_cnn cannot take drawings"):
        resolution.at_side(model, 20)
