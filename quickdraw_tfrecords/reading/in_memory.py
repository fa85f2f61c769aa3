"""A split held in memory: an epoch is one permutation of all its drawings.

`jobs` gather in the host's memory; `DeviceBatches` holds the split on the
accelerator and gathers there, inside the training function.
"""

import functools
from collections.abc import Iterator

import numpy as np
import psutil
import tensorflow as tf

from quickdraw_tfrecords.reading.batching import Job, SlabShape
from quickdraw_tfrecords.reading.blocks import BlockReader, Order, Part

MEMORY_SHARE = 0.5  # of the memory available, that "auto" lets a split take


def fits(part: Part) -> bool:
    """Whether a part takes no more than `MEMORY_SHARE` of the memory that is available."""
    needed = len(part) * part.layout.side**2
    return needed <= MEMORY_SHARE * psutil.virtual_memory().available


def read(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Reads a part; every block of it is checked.

    Returns:
      uint8[n, side * side] images and int32[n] labels, in the order on disk.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    images = np.empty((len(part), part.layout.side**2), np.uint8)
    labels = np.empty(len(part), np.int32)
    BlockReader(part).read(part.blocks, images, labels)
    return images, labels


_read_once = functools.lru_cache(maxsize=8)(read)


def jobs(part: Part, order: Order, shape: SlabShape) -> Iterator[Job]:
    """The slabs of an epoch; the part is read once in a process.

    Raises:
      DataError: As `read`.
    """
    held_images, held_labels = _read_once(part)
    rows = order.permutation(len(part), stream=0)

    def fill(first: int, images: np.ndarray, labels: np.ndarray) -> None:
        chosen = rows[first : first + len(labels)]
        # With any other mode NumPy would gather into fresh memory first, and copy.
        np.take(held_images, chosen, axis=0, out=images, mode="clip")
        np.take(held_labels, chosen, out=labels, mode="clip")

    return shape.jobs(order, len(part), fill)


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
        self._images, self._labels = map(tf.convert_to_tensor, read(part))
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
