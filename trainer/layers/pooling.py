"""Max pooling whose gradient a GPU need not sort for."""

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import is_traced_for_xla


class MaxPooling2D(keras.layers.MaxPooling2D):
    """Keras' 2x2 max pooling, written for XLA where XLA compiles it.

    The gradient goes to the largest pixel of a window, and of several to the first in row-major
    order, as that of TensorFlow's op does.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """As Keras' layer.

        Args:
          inputs: float[batch, height, width, channels].

        Returns:
          float[batch, height // 2, width // 2, channels].
        """
        if is_traced_for_xla() and self.pool_size == (2, 2) == self.strides:
            return _maximum_of_quarters(inputs)
        return super().call(inputs)


def _maximum_of_quarters(inputs: tf.Tensor) -> tf.Tensor:
    """Max pooling whose gradient is selections.

    XLA makes a scatter of the gradient of TensorFlow's op, and two sorts where it has to be
    deterministic. On a CPU without XLA that op is faster.
    """
    height, width = (size // 2 * 2 for size in inputs.shape[1:3])
    first, second, third, fourth = (
        inputs[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)
    )
    return tf.maximum(tf.maximum(first, second), tf.maximum(third, fourth))
