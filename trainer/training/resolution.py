"""Drawings made smaller for the first epochs, which then cost less.

As in Touvron et al., 2019 (arXiv:1906.06423), a network of convolutions takes any side.
"""

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from trainer.layers.spatial import resizing_matrix


def check(sides: tuple[int, ...], side: int) -> None:
    """Refuses sides that a run cannot end with.

    Raises:
      UsageError: The last is not the data set's, or one is larger.
    """
    if sides and (sides[-1] != side or max(sides) > side):
        raise UsageError(
            f"--train_sides={','.join(map(str, sides))}: must end with {side}, the side of the "
            "data set's drawings, and none may be above it"
        )


def at_side(model: keras.Model, side: int) -> keras.Model:
    """A model of the same layers, with the same weights, for drawings of another side.

    Raises:
      UsageError: The model has a layer that only fits drawings of its own side.
    """
    if model.input_shape[1] == side:
        return model
    inputs = keras.Input([side, side, 1])
    try:
        return keras.models.clone_model(
            model, input_tensors=inputs, clone_function=lambda layer: layer
        )
    except ValueError as error:
        raise UsageError(
            f"--train_sides: the model {model.name} cannot take drawings of {side} pixels "
            f"({' '.join(str(error).split()):.200}): drop the flag, or choose another --model"
        ) from None


class Resizing:
    """A model, at each of several sides."""

    def __init__(self, model: keras.Model, sides: tuple[int, ...]) -> None:
        """Takes a model, and the sides it is to see drawings at, beside their own.

        Raises:
          UsageError: The model has a layer that only fits drawings of its own side.
        """
        self._models: dict[int | None, keras.Model] = {None: model}
        self._models |= {side: at_side(model, side) for side in sides}

    def __call__(self, images: tf.Tensor, side: int | None, *, training: bool) -> tf.Tensor:
        """Logits of images that are made smaller first; None: that stay as they are."""
        if side is not None and side != images.shape[1]:
            images = resize(images, side)
        return self._models[side](images, training=training)


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Images made smaller, each new pixel a weighted mean of those it covers.

    As two products with a matrix; TensorFlow's op for it does not compile with XLA.

    Args:
      images: float32[batch, height, width, 1].
      side: Height and width that they are to have.

    Returns:
      float32[batch, side, side, 1].
    """
    rows = tf.constant(resizing_matrix(images.shape[1], side))
    columns = tf.constant(resizing_matrix(images.shape[2], side))
    smaller = tf.matmul(rows @ images[..., 0], columns, transpose_b=True)
    return smaller[..., tf.newaxis]
