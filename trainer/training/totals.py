"""Sums of loss and hits, kept on the device, that become means on the host."""

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

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
          labels: int[batch].
          logits: float32[batch, classes].
        """
        labels = tf.cast(labels, tf.int64)  # int32 would be computed on the host, not on a GPU
        counted, ranks = labels >= 0, _ranks(labels, logits)
        parts = (losses, counted & (ranks < 1), counted & (ranks < TOP_K), counted)
        # In one go, which for XLA is one kernel.
        table = tf.stack([tf.cast(part, tf.float64) for part in parts])
        self._sums.assign_add(tf.reduce_sum(table, axis=1))

    def sums(self) -> NDArray[np.float64]:
        """What was added since the last reset, float64[4] by `NAMES`."""
        return np.array(self._sums.numpy())

    def means(self) -> dict[str, float]:
        """Mean loss, top-1 and top-3 of what was added."""
        return self.means_of(self.sums())

    @classmethod
    def means_of(cls, sums: NDArray[np.float64]) -> dict[str, float]:
        """The means that sums make, or a difference of two."""
        *totals, examples = sums.tolist()
        return {
            name: total / examples if examples else math.nan
            for name, total in zip(cls.NAMES, totals, strict=False)
        }

    def reset(self) -> None:
        """Starts again from zero."""
        self._sums.assign(tf.zeros_like(self._sums))


def _ranks(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """How many classes come before the true one, where `tf.math.top_k` would have to sort.

    As there, of equal logits that of the lower class comes first. A logit that is not a number
    comes before all others, and after them if it is that of the true class.

    Args:
      labels: int64[batch].
      logits: float32[batch, classes].

    Returns:
      float32[batch].
    """
    targets = tf.maximum(labels, 0)[:, tf.newaxis]
    true_logits = tf.gather(logits, targets, batch_dims=1)
    is_lower_class = tf.range(logits.shape[-1], dtype=tf.int64) < targets
    comes_after = tf.where(is_lower_class, logits < true_logits, logits <= true_logits)
    return tf.reduce_sum(tf.cast(~comes_after, tf.float32), axis=1)
