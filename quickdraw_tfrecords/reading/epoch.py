"""Which drawings one worker reads in an epoch, and in which order."""

import dataclasses
import functools
import threading
from collections.abc import Iterator

import numpy as np

_BUCKET_DRAWINGS = 65_536  # about as many as a processor's cache holds the order of
_MAX_BUCKETS = 64  # a divisor of 256, so that the bits of a byte choose one evenly


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
      follows: Whether another epoch comes right before it.
    """

    start: int
    stop: int
    seed: int | None
    epoch: int
    follows: bool = False

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


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which batches are given.

    Attributes:
      worker_slice: The worker's drawings.
      batch_size: Drawings in a batch.
      steps: Batches in an epoch.
      start_step: The first of them to give, in the first epoch.
      seed: Of the order; None: that on disk.
      epoch: The first epoch.
      epochs: How many.
    """

    worker_slice: WorkerSlice
    batch_size: int
    steps: int
    start_step: int
    seed: int | None
    epoch: int
    epochs: int

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step) + (self.epochs - 1) * self.steps

    @property
    def gives_empty_batch(self) -> bool:
        """Whether other workers have one more batch with drawings than this one."""
        return self.steps * self.batch_size - len(self.worker_slice) >= self.batch_size

    @property
    def batch_sizes(self) -> np.ndarray:
        """Drawings in each batch of an epoch, int64[at least 1]; in later epochs it repeats."""
        firsts = self.batch_size * np.arange(max(1, self.steps))
        sizes = np.clip(len(self.worker_slice) - firsts, 0, self.batch_size)
        return np.roll(sizes, -min(self.start_step, self.steps))

    def orders(self, iteration: int) -> Iterator[EpochOrder]:
        """The epochs of an iteration; the next iteration's follow those of this one."""
        stop = min(len(self.worker_slice), self.steps * self.batch_size)
        first = self.epoch + iteration * self.epochs
        start = self.start_step * self.batch_size
        for epoch in range(first, first + self.epochs):
            yield EpochOrder(start, stop, self.seed, epoch, follows=epoch > first)
            start = 0


class LazyPermutation:
    """A random permutation of 0 to n - 1 whose beginning is known long before its end.

    Each number is put into a random bucket, and each bucket is permuted when it is wanted
    (Rao, 1961; Sandelius, 1962): every permutation is equally likely, as it is when all is
    permuted at once. That takes longer in all, as soon as the order does not fit a processor's
    cache, and the first batch of an epoch would wait for the last. For several threads.

    Args:
      n: How many numbers.
      order: The seed and the epoch that decide it.
    """

    def __init__(self, n: int, order: EpochOrder) -> None:
        buckets = 1
        while buckets < _MAX_BUCKETS and buckets * _BUCKET_DRAWINGS < n:
            buckets *= 2
        self._order, self._buckets = order, buckets
        bits = order.generator(stream=0).bit_generator.random_raw(n // 8 + 1)
        self._bucket_of = bits.astype("<u8", copy=False).view(np.uint8)[:n]
        self._bucket_of &= np.uint8(buckets - 1)
        self._first_end = int(np.count_nonzero(self._bucket_of == 0))
        self._lock = threading.Lock()
        self._bucket = functools.lru_cache(maxsize=2)(self._permute)

    def __getitem__(self, positions: slice) -> np.ndarray:
        """int64[stop - start], the numbers at positions [start, stop)."""
        start, stop = positions.start, positions.stop
        parts, begin = [], 0
        with self._lock:
            for bucket in range(self._buckets):
                end = self._end(bucket)
                if start < end:
                    parts.append(self._bucket(bucket)[max(0, start - begin) : stop - begin])
                if stop <= end:
                    break
                begin = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _end(self, bucket: int) -> int:
        """The position after those of a bucket."""
        return int(self._ends[bucket]) if bucket else self._first_end

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(np.bincount(self._bucket_of, minlength=self._buckets))

    @functools.cached_property
    def _members(self) -> np.ndarray:
        """int64[n], the numbers by their buckets: one radix sort is less than many searches."""
        return np.argsort(self._bucket_of, kind="stable")

    def _permute(self, bucket: int) -> np.ndarray:
        if bucket:
            members = self._members[self._ends[bucket - 1] : self._ends[bucket]]
        else:  # an epoch begins at once, and sorts later
            members = np.flatnonzero(self._bucket_of == 0)
        # Stream 0 has chosen the buckets.
        return self._order.generator(stream=1 + bucket).permutation(members)
