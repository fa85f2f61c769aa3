"""Batch normalization that reads and writes its input once, where Keras' layer takes ten ops."""

import keras
import tensorflow as tf


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, synchronized across replicas, and in training one op where it can be.

    Keras casts bfloat16 and float16 to float32, and normalizes op by op: that costs more than the
    convolution before it. TensorFlow's fused op takes either as it is, with statistics in
    float32. It knows no other replicas, so across several the layer computes as Keras does. For
    inference in float32, and so in whatever is exported, it is Keras' layer too.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{"synchronized": True, **kwargs})

    def call(
        self, inputs: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """As Keras' layer.

        Args:
          inputs: float[batch, height, width, channels]; of another rank, Keras computes.
          training: Whether to normalize by the batch's statistics, and to update the moving ones.
          mask: Which positions count; where there is one, Keras computes.

        Returns:
          A tensor of the shape and dtype of `inputs`.
        """
        if mask is not None or not self._can_be_fused(inputs):
            return super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            return self._normalize_by_batch(inputs)
        if inputs.dtype == tf.float32:
            return super().call(inputs, training=False)
        return self._normalize_by_moving_statistics(inputs)

    def _can_be_fused(self, inputs: tf.Tensor) -> bool:
        is_plain = self.scale and self.center and not self.renorm
        return (
            is_plain and len(inputs.shape) == 4 and self.axis in (-1, 3) and not _is_one_of_many()
        )

    def _normalize_by_batch(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The op estimates the variance of the population. Keras keeps that of the batch.
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], tf.float32)
        variance *= tf.maximum(count - 1, 1) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _normalize_by_moving_statistics(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=self.moving_mean.value,
            variance=self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=False,
        ).y


def _is_one_of_many() -> bool:
    """Whether other replicas see other parts of the batch."""
    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1
