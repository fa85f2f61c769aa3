"""Batches from a split held in memory: an epoch is one permutation of all its drawings.

`batches` gathers in the host's memory; `DeviceBatches` holds the split on the accelerator
and gathers there, inside the training function.
"""

import functools

import numpy as np
import psutil
import tensorflow as tf

from quickdraw_tfrecords.reader import Order, Part

MEMORY_SHARE = 0.5  # of the memory available, that "auto" lets a split take


def fits(part: Part) -> bool:
    """Whether a part takes no more than `MEMORY_SHARE` of the memory that is available."""
    needed = len(part) * part.layout.side**2
    return needed <= MEMORY_SHARE * psutil.virtual_memory().available


@functools.lru_cache(maxsize=8)
def load(part: Part) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a part once for the life of the process; every shard is checked.

    Returns:
      uint8[n, side * side] images and int32[n] labels, in the order on disk.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    layout = part.layout
    images = np.empty((len(part), layout.side**2), np.uint8)
    labels = np.empty(len(part), np.int32)
    scratch = np.empty((max(map(len, part.segments), default=0), layout.stride), np.uint8)
    start = 0
    for segment in part.segments:
        matrix = scratch[: len(segment)]
        part.read(segment, matrix)
        rows = slice(start, start + len(segment))
        images[rows], labels[rows] = layout.images(matrix), layout.labels(matrix)
        start = rows.stop
    return tf.convert_to_tensor(images), tf.convert_to_tensor(labels)


def batches(part: Part, order: Order) -> tf.data.Dataset:
    """Batches of an epoch, as `dataset.load` describes them."""
    images, labels = load(part)
    n, side, batch_size = len(part), part.layout.side, order.batch_size
    permutation = (
        np.random.default_rng(order.seed).permutation(n) if order.shuffle else np.arange(n)
    )
    row_at = tf.constant(permutation, tf.int32)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = row_at[step * batch_size : (step + 1) * batch_size]
        pixels = tf.reshape(tf.gather(images, rows), [-1, side, side, 1])
        return pixels, tf.gather(labels, rows)

    dataset = tf.data.Dataset.range(order.start_step, order.stop_step)
    return dataset.map(batch, num_parallel_calls=2, deterministic=True)


class DeviceBatches:
    """The epochs of a split that is held on the device where the tensors are made.

    Once the split is there, not a byte crosses the bus: the order of an epoch is drawn on
    the device too. A `tf.function` takes it in place of an iterator, and calls `next` on it.

    Attributes:
      batch_size: Drawings in a batch; the last, incomplete one of an epoch is left out.
    """

    def __init__(self, part: Part, batch_size: int) -> None:
        self.batch_size = batch_size
        self._side = part.layout.side
        self._images, self._labels = map(tf.identity, load(part))
        self._order = tf.Variable(tf.range(len(part)), trainable=False, name="order")
        self._step = tf.Variable(0, trainable=False, name="step_in_epoch")

    def begin(self, *, seed: int, epoch: int, start_step: int) -> "DeviceBatches":
        """Begins an epoch at a batch; its order is a pure function of seed and epoch."""
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(tf.size(self._order)), seed=[seed, epoch]
        )
        self._order.assign(shuffled)
        self._step.assign(start_step)
        return self

    def __next__(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The next batch: uint8[batch_size, side, side, 1] and int32[batch_size]."""
        start = self._step * self.batch_size
        rows = tf.slice(self._order, [start], [self.batch_size])
        self._step.assign_add(1)
        images = tf.gather(self._images, rows)
        return tf.reshape(images, [-1, self._side, self._side, 1]), tf.gather(self._labels, rows)
