"""Which classes may be flipped, and what a model says of both sides of a drawing."""

import keras
import numpy as np
import pytest

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.base.errors import UsageError
from trainer import mirroring, models
from trainer.mirroring import CHIRAL

IMAGES = np.random.default_rng(0).random([6, 28, 28, 1], np.float32)


def test_chiral_and_unknown_classes_are_not_flippable():
    names = quickdraw_class_names()
    assert set(names) >= CHIRAL
    allowed = mirroring.flippable([*names, "my own class"])
    assert allowed.dtype == bool
    assert {name for name, ok in zip(names, allowed, strict=False) if not ok} == CHIRAL
    assert not allowed[-1]


def test_classes_may_be_chosen():
    names = ["cat", "clock", "my own class"]
    chosen = mirroring.flippable(names, ["my own class", "clock"])
    np.testing.assert_array_equal(chosen, [False, True, True])
    with pytest.raises(UsageError, match="--flip_classes=dog: must be among the data set's"):
        mirroring.flippable(names, ["dog"])


def _model(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = models.get("compact_cnn")(side=28, num_classes=4, dropout=None)
    logits = model.get_layer("logits")
    logits.kernel.assign(9 * logits.kernel)  # so that its guesses differ
    return model


def _probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.activations.softmax(model(images)).numpy()


def test_a_flipped_average_is_of_classes_that_may_be_flipped():
    model, allowed = _model(0), np.array([True, True, False, True])
    plain, mirrored = (_probabilities(model, x) for x in (IMAGES, IMAGES[:, :, ::-1]))
    expected = np.where(allowed, (plain + mirrored) / 2, plain)
    expected /= expected.sum(axis=1, keepdims=True)
    averaged = mirroring.AverageWithMirrored(model, allowed)
    np.testing.assert_allclose(_probabilities(averaged, IMAGES), expected, rtol=1e-4)
    for one, other in zip(averaged.weights, model.weights, strict=True):
        assert one is other


def test_if_all_may_be_flipped_a_drawing_is_what_its_mirror_image_is():
    averaged = mirroring.AverageWithMirrored(_model(0), np.ones(4, bool))
    found = _probabilities(averaged, IMAGES[:, :, ::-1])
    np.testing.assert_allclose(found, _probabilities(averaged, IMAGES), rtol=1e-4)


def test_the_average_of_models_is_of_their_probabilities():
    several = [_model(seed) for seed in range(3)]
    expected = np.mean([_probabilities(model, IMAGES) for model in several], axis=0)
    found = _probabilities(mirroring.AverageOf(several), IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
