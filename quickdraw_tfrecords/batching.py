"""Gathers windows into batches, in memory that TensorFlow takes over without a copy."""

import atexit
import functools
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent import futures

import numpy as np

from quickdraw_tfrecords.reader import Window

# Threads take turns in Python, and each turn costs as much as to gather a hundred drawings:
# so there are few and large steps.
_SLAB_BYTES = 24 * 2**20
_PIECE_ROWS = 8192
_THREADS = 2  # of a gather from all over the memory, which answers two faster than one
_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to hear that there is no more

Slab = tuple[np.ndarray, np.ndarray]


class Batcher:
    """Makes slabs: some batches in one array, of which each batch is then a slice.

    Args:
      side: Height and width of a drawing.
      batch_size: Drawings in a batch.
    """

    def __init__(self, side: int, batch_size: int) -> None:
        self._side, self._batch_size = side, batch_size
        self._pixels = side * side
        self._rows = batch_size * max(1, _SLAB_BYTES // (batch_size * self._pixels))
        self._buffers = _Buffers(self._rows * self._pixels)
        self._threads = futures.ThreadPoolExecutor(_THREADS)
        self._scratch = np.empty((0, 0), np.uint8)

    def slabs(self, windows: Iterable[Window]) -> Iterator[Slab]:
        """The batches of the windows; only the last batch may have fewer drawings.

        Yields:
          uint8[batches, batch, side, side, 1] and int32[batches, batch].
        """
        slab, filled = self._new_slab(), 0
        for window in windows:
            rows = window.order
            while len(rows):
                taken, rows = np.split(rows, [self._rows - filled])
                images, labels = (array[filled : filled + len(taken)] for array in slab)
                self._gather(window, taken, images)
                labels[:] = window.labels[taken]
                filled += len(taken)
                if filled == self._rows:
                    yield self._shape(slab, 0, filled)
                    slab, filled = self._new_slab(), 0
        whole = filled // self._batch_size * self._batch_size
        for start, stop in ((0, whole), (whole, filled)):
            if start < stop:
                yield self._shape(slab, start, stop)

    def empty(self, batches: int) -> Slab:
        """Batches without drawings."""
        shape = (batches, 0, self._side, self._side, 1)
        return np.empty(shape, np.uint8), np.empty(shape[:2], np.int32)

    def _gather(self, window: Window, rows: np.ndarray, out: np.ndarray) -> None:
        """Puts the pixels of rows of a window into uint8[n, pixels]."""
        # With any other mode NumPy would gather into fresh memory first, and copy.
        take = functools.partial(np.take, window.matrix, axis=0, mode="clip")
        if window.matrix.shape[1] == self._pixels:
            halves = zip(np.array_split(rows, _THREADS), np.array_split(out, _THREADS), strict=True)
            jobs = [self._threads.submit(take, part, out=target) for part, target in halves]
            for job in jobs:
                job.result()
            return
        scratch = self._scratch_for(window)
        for start in range(0, len(rows), _PIECE_ROWS):
            piece = rows[start : start + _PIECE_ROWS]
            take(piece, out=scratch[: len(piece)])
            out[start : start + len(piece)] = scratch[: len(piece), window.pixels]

    def _scratch_for(self, window: Window) -> np.ndarray:
        """uint8[_PIECE_ROWS, width], the same memory each time: fresh pages are dear."""
        shape = (_PIECE_ROWS, window.matrix.shape[1])
        if self._scratch.shape != shape:
            self._scratch = np.empty(shape, np.uint8)
        return self._scratch

    def _new_slab(self) -> Slab:
        images = self._buffers.take().reshape(-1, self._pixels)
        return images, np.empty(self._rows, np.int32)

    def _shape(self, slab: Slab, start: int, stop: int) -> Slab:
        batch = min(self._batch_size, stop - start)
        images, labels = (array[start:stop] for array in slab)
        shape = (-1, batch, self._side, self._side, 1)
        return images.reshape(shape), labels.reshape(shape[:2])


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
