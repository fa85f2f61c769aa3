"""Layers that trade pixels for channels, whatever the side of a drawing."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class SpaceToDepth(keras.layers.Layer):
    """Squares of pixels become channels of one pixel; odd sides get a border of zeros."""

    def __init__(self, block: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.block = block

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """float[batch, height, width, c] -> [batch, height / block, width / block, c * block²]."""
        rows, columns = (-size % self.block for size in images.shape[1:3])
        if rows or columns:
            images = tf.pad(images, [[0, 0], [0, rows], [0, columns], [0, 0]])
        return tf.nn.space_to_depth(images, self.block)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """See `call`."""
        batch, *sides, channels = shape
        return (batch, *(-(-side // self.block) for side in sides), channels * self.block**2)

    def get_config(self) -> dict:
        """The arguments it was made with."""
        return {**super().get_config(), "block": self.block}


class GridPooling2D(keras.layers.Layer):
    """Means of a grid of overlapping cells, of the same number whatever the side.

    Drawings fill their frame, so it matters where in it a feature is. One mean over all of the
    drawing loses that, and all of its pixels are more than it takes.
    """

    def __init__(self, cells: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.cells = cells

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """float[batch, height, width, channels] -> [batch, cells, cells, channels]."""
        height, width, channels = images.shape[1:]
        rows, columns = (resizing_matrix(side, self.cells) for side in (height, width))
        # One product of two matrices: in two, of a drawing each, it takes three times as long,
        # and TensorFlow's gradient of a batch of products asks the host for shapes.
        pixels = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, height * width])
        means = pixels @ tf.constant(np.kron(rows, columns).T, images.dtype)
        means = tf.reshape(means, [-1, channels, self.cells, self.cells])
        return tf.transpose(means, [0, 2, 3, 1])

    def compute_output_shape(self, shape: tuple) -> tuple:
        """See `call`."""
        return (shape[0], self.cells, self.cells, shape[-1])

    def get_config(self) -> dict:
        """The arguments it was made with."""
        return {**super().get_config(), "cells": self.cells}


def resizing_matrix(old: int, new: int) -> NDArray[np.float32]:
    """Weights of the old pixels in each new one, a triangle around its center; rows sum to 1.

    Returns:
      float32[new, old].
    """
    scale = max(old / new, 1.0)
    centers = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = 1 - np.abs(centers[:, np.newaxis] - np.arange(old)) / scale
    weights = np.maximum(weights, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
