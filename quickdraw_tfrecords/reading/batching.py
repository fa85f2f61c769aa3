"""Fills chunks of batches, some at a time, in memory that TensorFlow takes without a copy."""

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

from quickdraw_tfrecords.reading.epoch import EpochOrder

# Threads take turns in Python, and each turn costs as much as to move a hundred drawings:
# so there are few and large steps.
_THREADS = 2
_AHEAD = 3  # chunks being filled or ready
# Larger windows mix more, but only what a processor's caches hold is shuffled fast.
WINDOW_MIB = 24

_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to hear that there is no more

Chunk = tuple[np.ndarray, np.ndarray]
Fill = Callable[[np.ndarray, np.ndarray], None]


class FillTask(NamedTuple):
    """A chunk to be made.

    Attributes:
      fill: Puts drawings into uint8[size, side * side] and their labels into int32[size].
      size: How many.
      given: Which of them are then given, as batches.
    """

    fill: Fill
    size: int
    given: slice


class ChunkShape(NamedTuple):
    """How chunks are cut into batches.

    Attributes:
      side: Height and width of a drawing.
      batch_size: Drawings in a batch.
      rows: Drawings in a chunk, a multiple of `batch_size`.
    """

    side: int
    batch_size: int
    rows: int

    @classmethod
    def of(cls, side: int, batch_size: int, *, mib: float) -> "ChunkShape":
        """As many whole batches as have `mib` MiB of pixels; one at least."""
        return cls(side, batch_size, batch_size * max(1, int(mib * 2**20 / side**2 / batch_size)))

    def fill_tasks(
        self, order: EpochOrder, total: int, fill: Callable[..., None]
    ) -> Iterator[FillTask]:
        """The chunks of an epoch that have drawings to give.

        Args:
          order: What to give of the epoch.
          total: Drawings of the whole epoch.
          fill: As that of a `FillTask`, but takes the place in the epoch of its first drawing too.
        """
        if order.start >= order.stop:
            return
        for first in range(order.start // self.rows * self.rows, order.stop, self.rows):
            size = min(self.rows, total - first)
            given = slice(max(0, order.start - first), min(size, order.stop - first))
            yield FillTask(functools.partial(fill, first), size, given)

    def empty_batch(self) -> FillTask:
        """What gives one batch without drawings."""
        return FillTask(lambda images, labels: None, 0, slice(0, 0))

    def cut(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Chunk]:
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

    def _reshape(self, images: np.ndarray, labels: np.ndarray) -> Chunk:
        batch = min(self.batch_size, len(labels))
        batches = len(labels) // batch if batch else 1
        return (
            images.reshape(batches, batch, self.side, self.side, 1),
            labels.reshape(batches, batch),
        )


def make_chunks(tasks: Iterable[FillTask], shape: ChunkShape) -> Iterator[Chunk]:
    """Does tasks, some at a time, and gives the batches of each in order.

    Yields:
      As `ChunkShape.cut`.
    """
    buffers = _Buffers(shape.rows * shape.side**2)

    def do(task: FillTask) -> tuple[np.ndarray, np.ndarray]:
        images = buffers.take().reshape(shape.rows, -1)[: task.size]
        labels = np.empty(task.size, np.int32)
        task.fill(images, labels)
        return images[task.given], labels[task.given]

    with futures.ThreadPoolExecutor(_THREADS) as threads:
        pending = collections.deque[futures.Future]()
        for task in tasks:
            pending.append(threads.submit(do, task))
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
    """Gives chunks until the interpreter exits.

    TensorFlow asks for them from a thread of its own. Were that thread in Python when the
    interpreter is taken down, it would never come back, and the process would never end.
    """

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._slabs = chunks
        self._producing = threading.Lock()
        _live.add(self)

    def __iter__(self) -> "UntilExit":
        return self

    def __next__(self) -> Chunk:
        with self._producing:
            try:
                if threading.main_thread().is_alive():
                    return next(self._slabs)
            except RuntimeError:  # no thread can be given work any more
                if threading.main_thread().is_alive():
                    raise
            raise StopIteration

    def wait(self) -> None:
        """Waits until no chunk is being made."""
        with self._producing:
            pass


_live: weakref.WeakSet[UntilExit] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for chunks in list(_live):
        chunks.wait()
    if _live:
        time.sleep(_GRACE_SECS)
