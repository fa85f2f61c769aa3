"""Loss, top-1 and top-3 of a split; every example counts exactly once."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from trainer.losses import cross_entropy, to_float
from trainer.training.totals import Totals


class Evaluator:
    """Evaluates a model over distributed batches.

    The batches come from `Batches.evaluation`: labels of -1 do not count, so nothing is
    dropped, and no second shape is compiled.

    Attributes:
      totals: Means since the last reset.
    """

    def __init__(self, model: keras.Model, *, jit_compile: bool = False) -> None:
        self._model = model
        self._strategy = tf.distribute.get_strategy()
        self.totals = Totals("evaluation")
        self._replica_step = (
            tf.function(self._step, jit_compile=True) if jit_compile else self._step
        )

    @tf.function
    def run(self, batches: Iterator[tuple[tf.Tensor, tf.Tensor]], steps: tf.Tensor) -> None:
        """Evaluates batches.

        Args:
          batches: Iterator over a distributed dataset of (uint8 images, int32 labels).
          steps: int64[], how many; a tensor, so that a new number does not retrace.
        """
        for _ in tf.range(tf.cast(steps, tf.int32)):  # int32 stays on the host; see TrainSteps
            self._strategy.run(self._replica_step, args=next(batches))

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        logits = self._model(to_float(images), training=False)
        self.totals.add(cross_entropy(labels, logits), labels, logits)
