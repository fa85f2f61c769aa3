"""Moving averages of a model's weights, which generalize better than the weights of one step."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


class WeightAverage:
    """An exponential moving average of weights, and of the statistics of normalization.

    The statistics have to be averaged too: those of one step's weights do not fit an average.
    Early on the average forgets faster, or it would remember the initial weights for epochs.

    Attributes:
      variables: The averages, for checkpoints.
    """

    def __init__(self, model: keras.Model, momentum: float) -> None:
        self._momentum = momentum
        self._averaged = [v for v in model.variables if tf.as_dtype(v.dtype).is_floating]
        # Without aggregation: each replica assigns its own, and all assign the same.
        self.variables = [
            tf.Variable(variable.numpy(), trainable=False, name=f"average/{variable.path}")
            for variable in self._averaged
        ]

    def update(self, step: tf.Tensor) -> None:
        """Takes in the model as it is after a step, int64[], from 1.

        The momentum rises as (1 + step) / (10 + step), as TensorFlow's own averages have it.
        """
        step = tf.cast(step, tf.float32)
        forget = 1 - tf.minimum(self._momentum, (1 + step) / (10 + step))
        for average, variable in zip(self.variables, self._averaged, strict=True):
            average.assign(average + forget * (variable.value - average))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Within it the model has the averages in place of its weights."""
        trained = [variable.numpy() for variable in self._averaged]
        self._assign([average.numpy() for average in self.variables])
        try:
            yield
        finally:
            self._assign(trained)

    def _assign(self, values: list) -> None:
        for variable, value in zip(self._averaged, values, strict=True):
            variable.assign(value)
