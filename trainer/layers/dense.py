"""A dense layer whose kernel is updated in its place."""

from collections.abc import Callable

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import is_traced_for_xla, optimization_barrier


class Dense(keras.layers.Dense):
    """Keras' layer, whose kernel XLA can update in its place.

    The gradient of its inputs needs the kernel as it was. Where XLA compiles it, that gradient
    comes first; else XLA may first copy the kernel.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """As Keras' layer."""
        if not is_traced_for_xla() or len(inputs.shape) != 2:
            return super().call(inputs, training=training)
        outputs = _multiply(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return outputs if self.activation is None else self.activation(outputs)


@tf.custom_gradient
def _multiply(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
        to_inputs = tf.matmul(upstream, kernel, transpose_b=True)
        to_kernel = tf.matmul(inputs, upstream, transpose_a=True)
        return optimization_barrier(to_inputs, to_kernel)

    return tf.matmul(inputs, kernel), gradient
