"""A split held on the accelerator, which gathers its batches inside the training function."""

import numpy as np
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import HOST, host_variable
from quickdraw_tfrecords.reading import in_memory
from quickdraw_tfrecords.reading.blocks import SplitSlice


class DeviceBatches:
    """The epochs of a split that is held on the device where the tensors are made.

    Once the split is there, only the order of an epoch, and where a batch begins in it, cross
    the bus. A `tf.function` takes it in place of an iterator, and calls `next` on it.

    A GPU gathers rows of a uint8 variable, but not of a uint8 tensor, and holds int64 in its
    own memory, but int32 in the host's. Anything else would be copied back and forth each step.

    Attributes:
      batch_size: Drawings in a batch; the last, incomplete one of an epoch is left out.
    """

    def __init__(self, part: SplitSlice, batch_size: int) -> None:
        self.batch_size = batch_size
        self._side = part.side
        images, labels = in_memory.read(part)
        self._images = tf.Variable(images, trainable=False, name="images")
        self._labels = tf.Variable(labels.astype(np.int64), trainable=False, name="labels")
        order = np.arange(len(part), dtype=np.int64)
        self._order = tf.Variable(order, trainable=False, name="order")
        self._step = host_variable(0, tf.int32, name="step_in_epoch")

    def begin(self, *, seed: int, epoch: int, start_step: int) -> "DeviceBatches":
        """Begins an epoch at a batch; its order is a pure function of seed and epoch."""
        with tf.device(HOST):  # no other device can shuffle
            rows = tf.range(self._order.shape[0])
            shuffled = tf.random.experimental.stateless_shuffle(rows, seed=[seed, epoch])
            self._order.assign(tf.cast(shuffled, tf.int64))
        self._step.assign(start_step)
        return self

    def __next__(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The next batch: uint8[batch_size, side, side, 1] and int32[batch_size]."""
        with tf.device(HOST):  # where the begin of a slice has to be
            start = self._step.read_value() * self.batch_size
            self._step.assign_add(1)
        rows = tf.slice(self._order, [start], [self.batch_size])
        images = tf.reshape(tf.gather(self._images, rows), [-1, self._side, self._side, 1])
        return images, tf.cast(tf.gather(self._labels, rows), tf.int32)
