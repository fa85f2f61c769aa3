"""Models whose guesses are averages: of a drawing and its mirror image, or of several models."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names
from quickdraw_tfrecords.base.errors import UsageError

# What mirroring makes a drawing of something else: those that digits or letters belong to.
# Other drawings have a side that they usually face, but facing the other they mean the same.
CHIRAL = frozenset(
    {
        "alarm clock",
        "calculator",
        "calendar",
        "clock",
        "compass",  # east and west change places
        "keyboard",
        "stop sign",
        "wristwatch",
    }
)

_LEAST = 1e-37  # the logarithm of a probability that has become 0


def flippable(names: Sequence[str], chosen: Iterable[str] = ()) -> NDArray[np.bool_]:
    """Which classes stay what they are when mirrored.

    Args:
      names: Class names in label order.
      chosen: The names of those that do; if there are none, Quick, Draw!'s but `CHIRAL`. Of
        classes that are not Quick, Draw!'s nothing is known, so they are not flipped.

    Returns:
      bool[classes].

    Raises:
      UsageError: One that was chosen is no class.
    """
    for name in chosen:
        if name not in names:
            raise UsageError(f"--flip_classes={name}: must be among the data set's classes")
    allowed = set(chosen) or set(class_names.quickdraw_class_names()) - CHIRAL
    return np.array([name in allowed for name in names], bool)


class AverageWithMirrored(keras.Model):
    """The mean of the probabilities of a drawing and of its mirror image, as logits.

    Those of classes that may not be flipped are of the drawing as it is.
    """

    def __init__(self, model: keras.Model, allowed: NDArray[np.bool_]) -> None:
        """Takes a model from images to logits, and bool[classes], which may be flipped."""
        super().__init__(name=f"{model.name}_flipped_too")
        self._model, self._shares = model, allowed.astype(np.float32) / 2

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As the model: float[batch, side, side, 1] -> float32[batch, classes]."""
        plain, mirrored = (
            keras.ops.softmax(self._model(each, training=training))
            for each in (images, keras.ops.flip(images, axis=2))
        )
        # The softmax that follows makes the sum 1 again.
        return _to_logits(plain + (mirrored - plain) * self._shares)


class AverageOf(keras.Model):
    """The mean of the probabilities of several models, as logits."""

    def __init__(self, models: Sequence[keras.Model]) -> None:
        super().__init__(name=f"average_of_{len(models)}")
        self._models = list(models)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As each of the models: float[batch, side, side, 1] -> float32[batch, classes]."""
        logits = [model(images, training=training) for model in self._models]
        return _to_logits(keras.ops.mean(keras.ops.softmax(keras.ops.stack(logits)), axis=0))


def _to_logits(probabilities: tf.Tensor) -> tf.Tensor:
    return keras.ops.log(keras.ops.maximum(probabilities, _LEAST))
