"""Dropout whose masks cost less, and differ between replicas."""

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import is_traced_for_xla, optimization_barrier


class Dropout(keras.layers.Dropout):
    """Keras' dropout, with masks that cost less, and that differ between replicas.

    Keras draws a float32 for each unit. Here a byte does, of which each random word gives four;
    or two bytes, where the rate is not a multiple of 1/256. Where XLA compiles it, a unit is
    dropped by a hash of its place, which is computed within what uses it and never written. And
    Keras keeps its generators' states the same on all replicas, so the same units would be
    dropped for the first drawing of each replica, and for its second, and so on.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As Keras' layer, but for which units are dropped."""
        if not training or not 0 < self.rate < 1 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            seed = tf.random.fold_in(seed, context.replica_id_in_sync_group)
        choose = _hashed_mask if is_traced_for_xla() else _random_mask
        kept = choose(inputs, self.rate, seed)
        # Not a product: what is dropped may be infinite.
        return tf.where(kept, inputs * (1 / (1 - self.rate)), tf.zeros([], inputs.dtype))


def _random_mask(inputs: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Booleans of the shape of inputs, False with a probability of `rate`, to within 1/65536."""
    dtype = tf.uint8 if (rate * 256).is_integer() else tf.uint16
    per_word = 4 // dtype.size
    size = tf.size(inputs)  # a constant where the shape is known, and nothing to copy from a GPU
    words = tf.random.stateless_uniform(
        [(size + per_word - 1) // per_word], seed, minval=None, maxval=None, dtype=tf.uint32
    )
    parts = tf.reshape(tf.bitcast(words, dtype), [-1])[:size]
    threshold = min(round(rate * (dtype.max + 1)), dtype.max)
    return tf.reshape(parts, tf.shape(inputs)) >= tf.constant(threshold, dtype)


def _hashed_mask(inputs: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """As `_random_mask`, False with a probability of `rate` to within 2**-32."""
    seed = tf.bitcast(seed, tf.uint32)
    keys = optimization_barrier(_mix(seed))[0]  # once, and not for each unit
    words = tf.cast(tf.range(tf.size(inputs)), tf.uint32)
    for key in tf.unstack(keys):
        words = _mix(words + key)
    threshold = min(round(rate * 2**32), 2**32 - 1)
    return tf.reshape(words, tf.shape(inputs)) >= tf.constant(threshold, tf.uint32)


def _mix(words: tf.Tensor) -> tf.Tensor:
    """The last step of MurmurHash3 (A. Appleby, 2011): each bit of a word changes half of all."""
    shift = tf.bitwise.right_shift
    for distance, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ shift(words, tf.constant(distance, tf.uint32))) * factor
    return words ^ shift(words, tf.constant(16, tf.uint32))
