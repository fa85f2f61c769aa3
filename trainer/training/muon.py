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
        keras_internals.require_checked_version()  # for the methods that it has not made public
        super().__init__(**kwargs)

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        if len(variable.shape) != 4:
            return bool(super()._should_use_adamw(variable))
        return any(re.search(name, variable.path) for name in self.exclude_layers)

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """The nearest orthogonal matrix, nearly, float[..., filters] -> the same shape.

        Each iterate is the matrix times a polynomial of its Gram matrix. So the iteration is over
        polynomial and Gram matrix, which are small and square; Keras' method multiplies all of the
        matrix twice in each.
        """
        matrix = tf.reshape(x, [-1, x.shape[-1]])
        is_tall = matrix.shape[0] > matrix.shape[1]
        matrix /= tf.norm(matrix) + 1e-7  # the largest singular value is 1 at most
        gram = tf.matmul(matrix, matrix, transpose_a=is_tall, transpose_b=not is_tall)
        identity = polynomial = tf.eye(gram.shape[0], dtype=x.dtype)
        for _ in range(steps):
            factor = self.muon_a * identity + self.muon_b * gram + self.muon_c * gram @ gram
            polynomial, gram = factor @ polynomial, factor @ gram @ factor
        return tf.reshape(matrix @ polynomial if is_tall else polynomial @ matrix, x.shape)

    def _adamw_update_step(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        learning_rate: tf.Tensor,
        m: keras.Variable,
        v: keras.Variable,
    ) -> None:
        keras_internals.apply_adam(
            variable,
            gradient,
            (m, v),
            step=self.iterations + 1,
            learning_rate=learning_rate,
            betas=(self.adam_beta_1, self.adam_beta_2),
            epsilon=self.epsilon,
        )

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Scales an update to the size that Adam's would have; see Keras' method."""
        if self.rms_rate is None:
            return x
        columns = x.shape[-1]
        rows = x.shape.num_elements() // columns
        return x * (math.sqrt(max(rows, columns)) * self.rms_rate)
