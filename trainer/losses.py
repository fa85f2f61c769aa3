"""From pixels to what a model takes, and from its logits to the loss."""

import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import is_traced_for_xla


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, *, smoothing: float = 0.0) -> tf.Tensor:
    """Categorical cross-entropy, 0 where the label is negative.

    Args:
      labels: int[batch].
      logits: float32[batch, classes].
      smoothing: Share of the target spread over all classes (Szegedy et al., 2016).

    Returns:
      float32[batch], nats.
    """
    labels = tf.cast(labels, tf.int64)  # TensorFlow computes in int32 on the host, not on a GPU
    targets = tf.maximum(labels, 0)
    if is_traced_for_xla():
        # Deterministic as XLA compiles it. TensorFlow's function does not know, and under
        # --deterministic takes another way, whose gradient is a scatter.
        losses, _ = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=targets)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    if smoothing:
        spread = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1 - smoothing) * losses + smoothing * spread
    return tf.where(labels >= 0, losses, 0.0)


def distillation(teacher_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy with a teacher's probabilities (Hinton et al., 2015, arXiv:1503.02531).

    Args:
      teacher_logits: float32[batch, classes].
      logits: float32[batch, classes], the student's.

    Returns:
      float32[batch], nats.
    """
    targets = tf.stop_gradient(tf.nn.softmax(teacher_logits))
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)


def to_float(images: tf.Tensor) -> tf.Tensor:
    """uint8 pixels, as they travel to the device, -> float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0
