"""Which drawings one worker reads in an epoch, and in which order."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class WorkerSlice:
    """One worker's share of a split: its drawings [start, stop) of `total` in disk order.

    Shares are equal to within one drawing, however many shards there are.
    """

    total: int
    workers: int
    worker: int

    @classmethod
    def of(cls, total: int, context: "tf.distribute.InputContext | None") -> "WorkerSlice":
        """The share of the worker that `context` names; the whole split, if None."""
        if context is None:
            return cls(total, workers=1, worker=0)
        return cls(total, context.num_input_pipelines, context.input_pipeline_id)

    @property
    def start(self) -> int:
        """The first drawing."""
        return self.total * self.worker // self.workers

    @property
    def stop(self) -> int:
        """The drawing after the last."""
        return self.total * (self.worker + 1) // self.workers

    def __len__(self) -> int:
        return self.stop - self.start

    def num_steps(self, batch_size: int, *, drop_remainder: bool) -> int:
        """Batches of an epoch, the same for every worker.

        With `drop_remainder` those that the smallest share fills, else those that hold the
        largest.
        """
        if drop_remainder:
            return self.total // self.workers // batch_size
        return -(-self.total // (self.workers * batch_size))


@dataclasses.dataclass(frozen=True)
class EpochOrder:
    """Which drawings of an epoch to give, and in which order.

    Attributes:
      start: The first drawing to give, by its place in the epoch.
      stop: The one after the last to give.
      seed: Decides the order, with the epoch; None: the order on disk.
      epoch: The epoch.
    """

    start: int
    stop: int
    seed: int | None
    epoch: int

    def permutation(self, n: int, *, stream: int) -> np.ndarray:
        """int64[n], a pure function of seed, epoch and `stream`, or 0 to n - 1 as on disk."""
        return np.arange(n) if self.seed is None else self.generator(stream).permutation(n)

    def generator(self, stream: int) -> np.random.Generator:
        """Random numbers of their own for each stream of the epoch."""
        return np.random.default_rng((self.seed, self.epoch, stream))
