"""Loss, top-1 and top-3 of a split; every example counts exactly once."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from trainer.losses import cross_entropy, to_float
from trainer.training.resolution import Resizing
from trainer.training.totals import Totals


class Evaluator:
    """Evaluates a model over distributed batches.

    The batches come from `Batches.evaluation`: labels of -1 do not count, so nothing is
    dropped, and no second shape is compiled.

    Attributes:
      totals: Means since the last reset.
    """

    def __init__(
        self, model: keras.Model, *, sides: tuple[int, ...] = (), jit_compile: bool = False
    ) -> None:
        """Takes a model, and the sides of --train_sides that it may be evaluated at."""
        self._model = Resizing(model, sides)
        self._strategy = tf.distribute.get_strategy()
        self.totals = Totals("evaluation")
        self._replica_steps = {
            side: self._make_replica_step(side, jit_compile) for side in {None, *sides}
        }

    @tf.function
    def run(
        self,
        batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
        steps: tf.Tensor,
        side: int | None = None,
    ) -> None:
        """Evaluates batches.

        Args:
          batches: Iterator over a distributed dataset of (uint8 images, int32 labels).
          steps: int64[], how many; a tensor, so that a new number does not retrace.
          side: What of --train_sides to make drawings smaller to.
        """
        for _ in tf.range(tf.cast(steps, tf.int32)):  # int32 stays on the host; see TrainSteps
            self._strategy.run(self._replica_steps[side], args=next(batches))

    def _make_replica_step(
        self, side: int | None, jit_compile: bool
    ) -> Callable[[tf.Tensor, tf.Tensor], None]:
        @tf.autograph.experimental.do_not_convert  # which takes longer than to trace it
        def step(images: tf.Tensor, labels: tf.Tensor) -> None:
            self._step(images, labels, side)

        return tf.function(step, jit_compile=True) if jit_compile else step

    def _step(self, images: tf.Tensor, labels: tf.Tensor, side: int | None = None) -> None:
        logits = self._model(to_float(images), side, training=False)
        self.totals.add(cross_entropy(labels, logits), labels, logits)
