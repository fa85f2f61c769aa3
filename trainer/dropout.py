"""Dropout for several devices."""

import keras
import tensorflow as tf


class Dropout(keras.layers.Dropout):
    """Keras' dropout, but each replica draws masks of its own.

    Keras keeps its generators' states the same on all replicas, so the same units would be
    dropped for the first drawing of each replica, and for its second, and so on.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As Keras' layer; on one replica, the very same."""
        context = tf.distribute.get_replica_context()
        is_alone = context is None or context.num_replicas_in_sync == 1
        if is_alone or not training or not self.rate:
            return super().call(inputs, training=training)
        seed = tf.random.fold_in(
            tf.cast(self.seed_generator.next(), tf.int32), context.replica_id_in_sync_group
        )
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, seed=seed, noise_shape=self.noise_shape
        )
