"""Fills slabs of batches, some at a time, in memory that TensorFlow takes without a copy."""

import atexit
import collections
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple

import numpy as np

from quickdraw_tfrecords.reading.blocks import Order

# Threads take turns in Python, and each turn costs as much as to move a hundred drawings:
# so there are few and large steps.
_THREADS = 2
_AHEAD = 3  # slabs being filled or ready
# Larger windows mix more, but only what a processor's caches hold is shuffled fast.
WINDOW_MIB = 24

_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to hear that there is no more

Slab = tuple[np.ndarray, np.ndarray]
Fill = Callable[[np.ndarray, np.ndarray], None]


class Job(NamedTuple):
    """A slab to be made.

    Attributes:
      fill: Puts drawings into uint8[size, side * side] and their labels into int32[size].
      size: How many.
      given: Which of them are then given, as batches.
    """

    fill: Fill
    size: int
    given: slice


class SlabShape(NamedTuple):
    """How slabs are cut into batches.

    Attributes:
      side: Height and width of a drawing.
      batch_size: Drawings in a batch.
      rows: Drawings in a slab, a multiple of `batch_size`.
    """

    side: int
    batch_size: int
    rows: int

    @classmethod
    def of(cls, side: int, batch_size: int, *, mib: float) -> "SlabShape":
        """As many whole batches as have `mib` MiB of pixels; one at least."""
        return cls(side, batch_size, batch_size * max(1, int(mib * 2**20 / side**2 / batch_size)))

    def jobs(self, order: Order, total: int, fill: Callable[..., None]) -> Iterator[Job]:
        """The slabs of an epoch that have drawings to give.

        Args:
          order: What to give of the epoch.
          total: Drawings of the whole epoch.
          fill: As that of a `Job`, but takes the place in the epoch of its first drawing too.
        """
        if order.start >= order.stop:
            return
        for first in range(order.start // self.rows * self.rows, order.stop, self.rows):
            size = min(self.rows, total - first)
            given = slice(max(0, order.start - first), min(size, order.stop - first))
            yield Job(functools.partial(fill, first), size, given)

    def empty_batch(self) -> Job:
        """What gives one batch without drawings."""
        return Job(lambda images, labels: None, 0, slice(0, 0))

    def cut(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Slab]:
        """The batches of uint8[n, side * side] and int32[n], which are not copied.

        Yields:
          uint8[batches, batch, side, side, 1] and int32[batches, batch]: the full batches,
          then the last if it has fewer drawings. Of no drawings one batch, of none.
        """
        whole = len(labels) // self.batch_size * self.batch_size
        if whole or not len(labels):
            yield self._reshape(images[:whole], labels[:whole])
        if whole < len(labels):
            yield self._reshape(images[whole:], labels[whole:])

    def _reshape(self, images: np.ndarray, labels: np.ndarray) -> Slab:
        batch = min(self.batch_size, len(labels))
        batches = len(labels) // batch if batch else 1
        return (
            images.reshape(batches, batch, self.side, self.side, 1),
            labels.reshape(batches, batch),
        )


def make_slabs(jobs: Iterable[Job], shape: SlabShape) -> Iterator[Slab]:
    """Does jobs, some at a time, and gives the batches of each in order.

    Yields:
      As `SlabShape.cut`.
    """
    buffers = _Buffers(shape.rows * shape.side**2)

    def do(job: Job) -> tuple[np.ndarray, np.ndarray]:
        images = buffers.take().reshape(shape.rows, -1)[: job.size]
        labels = np.empty(job.size, np.int32)
        job.fill(images, labels)
        return images[job.given], labels[job.given]

    with futures.ThreadPoolExecutor(_THREADS) as threads:
        pending = collections.deque[futures.Future]()
        for job in jobs:
            pending.append(threads.submit(do, job))
            if len(pending) == _AHEAD:
                yield from shape.cut(*pending.popleft().result())
        for filled in pending:
            yield from shape.cut(*filled.result())


class _Buffers:
    """Memory that is used again once nothing refers to it any more.

    TensorFlow takes an array from Python without a copy if it is aligned, and holds it as
    long as a tensor refers to it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """uint8[size], with anything in it."""
        buffer = self._free.pop() if self._free else _aligned(self._size)
        lease = _Lease(buffer)
        weakref.finalize(lease, self._free.append, buffer)
        return np.asarray(lease)


class _Lease:
    """What arrays over a buffer are views of: it lives as long as the last of them.

    A view of a view refers to the first owner only, so the owner must not be the buffer.
    """

    def __init__(self, buffer: np.ndarray) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer = buffer


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % _ALIGNMENT :][:size]


class UntilExit:
    """Gives slabs until the interpreter exits.

    TensorFlow asks for them from a thread of its own. Were that thread in Python when the
    interpreter is taken down, it would never come back, and the process would never end.
    """

    def __init__(self, slabs: Iterator[Slab]) -> None:
        self._slabs = slabs
        self._producing = threading.Lock()
        _live.add(self)

    def __iter__(self) -> "UntilExit":
        return self

    def __next__(self) -> Slab:
        with self._producing:
            try:
                if threading.main_thread().is_alive():
                    return next(self._slabs)
            except RuntimeError:  # no thread can be given work any more
                if threading.main_thread().is_alive():
                    raise
            raise StopIteration

    def wait(self) -> None:
        """Waits until no slab is being made."""
        with self._producing:
            pass


_live: weakref.WeakSet[UntilExit] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for slabs in list(_live):
        slabs.wait()
    if _live:
        time.sleep(_GRACE_SECS)
