"""Fills chunks of batches, a few at a time, in memory that TensorFlow takes without a copy."""

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

# Threads take turns running Python, and each turn costs as much as moving a hundred drawings:
# so there are few steps, and they are large.
_THREADS = 2
_AHEAD = 3  # chunks being filled or ready
# Larger windows mix more, but shuffling is fast only in what fits a processor's caches.
WINDOW_MIB = 24

_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to learn that there is no more

Chunk = tuple[np.ndarray, np.ndarray]
Fill = Callable[[np.ndarray, np.ndarray], None]


class FillTask(NamedTuple):
    """A chunk to be filled.

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
      side: Height and width of a drawing in pixels.
      batch_size: Drawings in a batch.
      rows: Drawings in a chunk, a multiple of `batch_size`.
    """

    side: int
    batch_size: int
    rows: int

    @classmethod
    def of(cls, side: int, batch_size: int, *, mib: float) -> "ChunkShape":
        """As many whole batches as have `mib` MiB of pixels; at least one."""
        return cls(side, batch_size, batch_size * max(1, int(mib * 2**20 / side**2 / batch_size)))

    def fill_tasks(
        self, order: EpochOrder, total: int, fill: Callable[[int, np.ndarray, np.ndarray], None]
    ) -> Iterator[FillTask]:
        """The chunks of an epoch that have drawings to give.

        The borders of chunks do not depend on where the order starts, so neither does what a
        chunk holds: an epoch that is resumed within a chunk fills all of it, and gives the rest.

        Args:
          order: What to give of the epoch.
          total: Drawings in the whole epoch.
          fill: As that of a `FillTask`, after the position in the epoch of its first drawing.
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
          then the last if it has fewer drawings. No drawings give one batch of none.
        """
        full = len(labels) // self.batch_size * self.batch_size
        if full or not len(labels):
            yield self._reshape(images[:full], labels[:full])
        if full < len(labels):
            yield self._reshape(images[full:], labels[full:])

    def _reshape(self, images: np.ndarray, labels: np.ndarray) -> Chunk:
        batch = min(self.batch_size, len(labels))
        batches = len(labels) // batch if batch else 1
        return (
            images.reshape(batches, batch, self.side, self.side, 1),
            labels.reshape(batches, batch),
        )


def make_chunks(tasks: Iterable[FillTask], shape: ChunkShape) -> Iterator[Chunk]:
    """Runs tasks, a few at a time, and gives the batches of each in order.

    Yields:
      As `ChunkShape.cut`.
    """
    buffers = _Buffers(shape.rows * shape.side**2)

    def run(task: FillTask) -> tuple[np.ndarray, np.ndarray]:
        images = buffers.take().reshape(shape.rows, -1)[: task.size]
        labels = np.empty(task.size, np.int32)
        task.fill(images, labels)
        return images[task.given], labels[task.given]

    with futures.ThreadPoolExecutor(_THREADS) as threads:
        pending = collections.deque[futures.Future[Chunk]]()
        for task in tasks:
            pending.append(threads.submit(run, task))
            if len(pending) == _AHEAD:
                yield from shape.cut(*pending.popleft().result())
        for filled in pending:
            yield from shape.cut(*filled.result())


class _Buffers:
    """Memory that is reused once nothing refers to it anymore.

    TensorFlow takes an aligned array from Python without a copy, and holds it as long as a
    tensor refers to it. How long that is, Python cannot ask, but it sees when the last reference
    is gone. Fresh memory for each chunk would cost a page fault for every 4 KiB of it.
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

    NumPy makes a view of a view refer to the first owner of the memory only. Were that the
    buffer itself, which `_Buffers` keeps, nothing would tell when the last view is gone.
    """

    def __init__(self, buffer: np.ndarray) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer = buffer


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % _ALIGNMENT :][:size]


class UntilExit:
    """Gives chunks until the interpreter exits.

    TensorFlow asks for them from a thread of its own. A thread that is in Python while the
    interpreter shuts down never returns from it, and TensorFlow would wait for it forever: so
    nothing is given once the main thread has ended, and `atexit` waits for the chunk in hand.
    """

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._producing = threading.Lock()
        _live.add(self)

    def __iter__(self) -> "UntilExit":
        return self

    def __next__(self) -> Chunk:
        with self._producing:
            try:
                if threading.main_thread().is_alive():
                    return next(self._chunks)
            except RuntimeError:  # the interpreter is exiting: threads take no more work
                if threading.main_thread().is_alive():
                    raise
            raise StopIteration

    def wait(self) -> None:
        """Waits until no chunk is being made."""
        with self._producing:
            pass


# A registry for `atexit`, which calls a function of no arguments: nobody else could know of the
# iterators that TensorFlow holds.
_live: weakref.WeakSet[UntilExit] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for chunks in list(_live):
        chunks.wait()
    if _live:
        time.sleep(_GRACE_SECS)
