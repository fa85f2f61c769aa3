"""Which drawings one worker reads in an epoch, and in which order."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class WorkerSlice:
    """One worker's drawings of a split: [start, stop) of `total` in disk order.

    The slices of all workers differ by one drawing at most, however many shards there are.

    Attributes:
      total: Drawings in the split.
      workers: How many workers share it.
      worker: Which of them this is, from 0.
    """

    total: int
    workers: int = 1
    worker: int = 0

    @classmethod
    def of(cls, total: int, context: "tf.distribute.InputContext | None") -> "WorkerSlice":
        """The slice of the worker that `context` names; the whole split, if None."""
        if context is None:
            return cls(total)
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
        """Batches in an epoch, the same for every worker.

        With `drop_remainder`, as many as the smallest slice fills; without it, as many as the
        largest one needs.
        """
        if drop_remainder:
            return self.total // self.workers // batch_size
        return -(-self.total // (self.workers * batch_size))


@dataclasses.dataclass(frozen=True)
class EpochOrder:
    """Which drawings of an epoch to give, and in which order.

    Attributes:
      start: The first drawing to give, by its position in the epoch.
      stop: The one after the last to give.
      seed: Decides the order, together with the epoch; None: the order on disk.
      epoch: The epoch, from 0.
    """

    start: int
    stop: int
    seed: int | None
    epoch: int

    def permutation(self, n: int, *, stream: int) -> np.ndarray:
        """int64[n], a pure function of seed, epoch and `stream`; 0 to n - 1 without a seed."""
        return np.arange(n) if self.seed is None else self.generator(stream).permutation(n)

    def generator(self, stream: int) -> np.random.Generator:
        """Random numbers that are independent for each stream of the epoch.

        Raises:
          ValueError: The order has no seed.
        """
        if self.seed is None:
            raise ValueError("the order on disk has no seed, so nothing in it is random")
        return np.random.default_rng((self.seed, self.epoch, stream))
