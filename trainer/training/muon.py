"""Muon (Jordan et al., 2024), for which the kernel of a convolution is a matrix too.

https://kellerjordan.github.io/posts/muon
"""

import math
import re

import keras
import tensorflow as tf

from trainer.training import keras_internals


class Muon(keras.optimizers.Muon):
    """Keras' Muon, which leaves convolutions to AdamW, with these as matrices as well.

    A kernel [height, width, channels, filters] is a matrix with a column for each filter, as
    Muon's authors have it.
    """

    def __init__(self, **kwargs: object) -> None:
        keras_internals.require_checked_version()  # for the method that it has not made public
        super().__init__(**kwargs)

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        if len(variable.shape) != 4:
            return bool(super()._should_use_adamw(variable))
        return any(re.search(name, variable.path) for name in self.exclude_layers)

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """The nearest orthogonal matrix, nearly, float[..., filters] -> the same shape."""
        matrix = tf.reshape(x, [-1, x.shape[-1]])
        return tf.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Scales an update to the size that Adam's would have; see Keras' method."""
        if self.rms_rate is None:
            return x
        columns = x.shape[-1]
        rows = x.shape.num_elements() // columns
        return x * (math.sqrt(max(rows, columns)) * self.rms_rate)
