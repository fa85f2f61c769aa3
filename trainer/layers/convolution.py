"""Keras' convolution, written so that XLA makes fewer and faster kernels of it for a GPU."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import is_traced_for_xla, optimization_barrier

# Numbers side by side that a GPU sums well; of more, XLA makes sums apart from what they are of.
_LANES = 512


class Conv2D(keras.layers.Conv2D):
    """Keras' convolution; its outputs and gradients are the same but for rounding.

    What is other where XLA compiles it:

    - A bias is summed in rows of many places, not of one: a sum of 16 columns leaves most of
      a GPU idle.
    - A single channel is convolved by a product of matrices. The kernels for convolutions take
      many channels at once.
    - The gradient of ReLU asks for its output, and so ReLU is computed within the convolution.
      XLA would ask for its input, and have to write that too.
    - The gradient of a kernel is brought into the order of its variable by itself. With the
      optimizer's update, XLA would write variable and moments a second time.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """As Keras' layer.

        Args:
          inputs: float[batch, height, width, channels].

        Returns:
          float[batch, new_height, new_width, filters].
        """
        if not is_traced_for_xla() or self.data_format != "channels_last":
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        if inputs.shape[-1] == 1 and self.dilation_rate == (1, 1):
            outputs = _convolve_one_channel(inputs, kernel, bias, self.strides, self.padding)
        else:
            outputs = self.convolution_op(inputs, _with_ordered_gradient(kernel))
            outputs = outputs if bias is None else _add_bias(outputs, bias)
        if self.activation is keras.activations.relu:
            return _relu(outputs)
        return outputs if self.activation is None else self.activation(outputs)


def _convolve_one_channel(
    images: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """Rows of pixels times a band matrix, which has the kernel once for each place in a row.

    Most of the matrix is zero, and yet it is multiplied faster than a convolution is found: the
    product of a row of 28 pixels is ten times the arithmetic, of which tensor cores have more
    than a hundred times what they get to do in a convolution of one channel.

    Args:
      images: float[batch, height, width, 1].
      kernel: float[rows, columns, 1, filters].
      bias: float[filters].
      strides: Of rows and columns.
      padding: "same" or "valid".

    Returns:
      float[batch, new_height, new_width, filters].
    """
    count, extent, _, filters = kernel.shape
    if padding == "same":
        images = tf.pad(images, _same_padding(images.shape, (count, extent), strides))
    height, width = (
        (length - size) // stride + 1
        for length, size, stride in zip(images.shape[1:3], (count, extent), strides, strict=True)
    )
    last = (height - 1) * strides[0] + 1
    parts = [images[:, row : row + last : strides[0], :, 0] for row in range(count)]
    matrix = _band_matrix(kernel, images.shape[2], width, strides[1])
    if bias is not None:  # one more pixel, which is 1
        parts.append(tf.ones_like(parts[0][..., :1]))
        biases = tf.tile(tf.cast(bias, tf.float32), [width])
        matrix = tf.concat([matrix, biases[tf.newaxis]], axis=0)
    rows = tf.concat(parts, axis=-1)
    outputs = _multiply(tf.reshape(rows, [-1, rows.shape[-1]]), matrix)
    return tf.reshape(outputs, [-1, height, width, filters])


def _band_matrix(kernel: tf.Tensor, length: int, width: int, stride: int) -> tf.Tensor:
    """float32[rows * length, width * filters], from a row's `length` pixels to `width` outputs."""
    count, extent, _, filters = kernel.shape
    pixel, column, place = np.ogrid[:length, :extent, :width]
    is_met = (pixel == place * stride + column)[np.newaxis, ..., np.newaxis].astype(np.float32)
    weights = tf.cast(kernel[:, tf.newaxis], tf.float32)  # [rows, 1, columns, 1, filters]
    band = tf.reduce_sum(weights * is_met, axis=2)  # [rows, length, width, filters]
    return tf.reshape(band, [count * length, width * filters])


def _same_padding(
    shape: tf.TensorShape, size: tuple[int, int], strides: tuple[int, int]
) -> list[tuple[int, int]]:
    """What TensorFlow pads images of a shape with where the padding is "same"."""
    spare = [
        max((-(-length // stride) - 1) * stride + extent - length, 0)
        for length, extent, stride in zip(shape[1:3], size, strides, strict=True)
    ]
    return [(0, 0), *((each // 2, each - each // 2) for each in spare), (0, 0)]


@tf.custom_gradient
def _multiply(rows: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """float[n, k] by float32[k, m] -> float[n, m]; the matrix' gradient stays float32."""
    cast = tf.cast(matrix, rows.dtype)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        to_rows = tf.matmul(upstream, cast, transpose_b=True)
        return to_rows, tf.matmul(rows, upstream, transpose_a=True, output_type=tf.float32)

    return tf.matmul(rows, cast), gradient


@tf.custom_gradient
def _add_bias(outputs: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """float[batch, height, width, filters] + float[filters]."""
    places = math.prod(length or 1 for length in outputs.shape[:-1])
    together = math.gcd(places, max(1, _LANES // bias.shape[0]))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.reshape(tf.cast(upstream, tf.float32), [-1, together * bias.shape[0]])
        sums = tf.reshape(tf.reduce_sum(rows, axis=0), [together, bias.shape[0]])
        return upstream, tf.cast(tf.reduce_sum(sums, axis=0), bias.dtype)

    return outputs + bias, gradient


@tf.custom_gradient
def _relu(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    outputs = tf.nn.relu(inputs)
    # XLA turns "outputs > 0" into "inputs > 0".
    return outputs, lambda upstream: tf.where(outputs != 0, upstream, tf.zeros_like(upstream))


@tf.custom_gradient
def _with_ordered_gradient(kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """The same kernel."""

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        # A vector has but one order, and the barrier keeps XLA from looking beyond it.
        (flat,) = optimization_barrier(tf.reshape(upstream, [-1]))
        return tf.reshape(flat, upstream.shape)

    return kernel, gradient
