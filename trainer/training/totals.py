"""Sums of loss and hits, kept on the device, that become means on the host."""

import math

import tensorflow as tf

TOP_K = 3


class Totals:
    """Sums over examples, kept on the device, that become means on the host.

    Attributes:
      variables: The state, for checkpoints.
    """

    NAMES = ("loss", "top1", "top3", "examples")

    def __init__(self, name: str) -> None:
        self._sums = tf.Variable(
            tf.zeros([len(self.NAMES)], tf.float64),
            name=f"{name}_totals",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    @property
    def variables(self) -> list[tf.Variable]:
        """The state, for checkpoints."""
        return [self._sums]

    def add(self, losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> None:
        """Adds examples; those with a negative label are padding and do not count.

        Args:
          losses: float32[batch], 0 where padding.
          labels: int32[batch].
          logits: float32[batch, classes].
        """
        counted = labels >= 0
        best = tf.math.top_k(logits, min(TOP_K, logits.shape[-1])).indices
        hits = (best == labels[:, tf.newaxis]) & counted[:, tf.newaxis]
        parts = (losses, hits[:, 0], tf.reduce_any(hits, axis=1), counted)
        sums = [tf.reduce_sum(tf.cast(part, tf.float64)) for part in parts]
        self._sums.assign_add(tf.stack(sums))

    def means(self) -> dict[str, float]:
        """Mean loss, top-1 and top-3 of what was added."""
        loss, top1, top3, examples = self._sums.numpy().tolist()
        return {
            name: total / examples if examples else math.nan
            for name, total in zip(self.NAMES, (loss, top1, top3), strict=False)
        }

    def reset(self) -> None:
        """Starts again from zero."""
        self._sums.assign(tf.zeros_like(self._sums))
