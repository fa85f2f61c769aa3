"""A split held on the accelerator, which gathers its batches inside the training function."""

import tensorflow as tf

from quickdraw_tfrecords.reading import in_memory
from quickdraw_tfrecords.reading.blocks import SplitSlice


class DeviceBatches:
    """The epochs of a split that is held on the device where the tensors are made.

    Once the split is there, not a byte crosses the bus: the order of an epoch is drawn on
    the device too. A `tf.function` takes it in place of an iterator, and calls `next` on it.

    Attributes:
      batch_size: Drawings in a batch; the last, incomplete one of an epoch is left out.
    """

    def __init__(self, part: SplitSlice, batch_size: int) -> None:
        self.batch_size = batch_size
        self._side = part.layout.side
        self._images, self._labels = map(tf.convert_to_tensor, in_memory.read(part))
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
