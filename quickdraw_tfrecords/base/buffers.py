"""Memory that is used again: fresh memory costs a page fault for every 4 KiB of it."""

import collections
import contextlib
import mmap
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

_HUGE_BYTES = 2**22  # from which on memory is asked for in huge pages, where the system has them


class Buffers:
    """Memory lent out as arrays, and taken back when the last view of them is gone.

    Threads may share it. It never has more than what is lent at the same time, and what came back
    last: whatever does not fit what is wanted next goes back to the system.

    Consumers take arrays without a copy, and keep them as long as they like: a tensor of
    TensorFlow or PyTorch refers to the very memory. How long that is, Python cannot ask, but it
    sees when the last reference is gone.

    Args:
      kept: How many that came back are kept at most; None: all.
    """

    def __init__(self, *, kept: int | None = None) -> None:
        self._spare: collections.deque[np.ndarray] = collections.deque(maxlen=kept)

    def take(self, size: int) -> np.ndarray:
        """uint8[size], with anything in it."""
        buffer = self._find(size)
        lease = _Lease(buffer)
        weakref.finalize(lease, self._spare.append, buffer)
        return np.asarray(lease)[:size]

    def _find(self, size: int) -> np.ndarray:
        try:
            while True:
                buffer = self._spare.pop()  # in one step, as others may be here, too
                if size <= len(buffer) <= size + size // 2:
                    return buffer
        except IndexError:
            return _allocate(size)


class WorkerMatrix(threading.local):
    """A matrix for tasks that come one after another; each thread of a worker has its own.

    Args:
      make: Given a kind of matrix and a number of rows, makes one.
    """

    def __init__(self, make: Callable[[Any, int], np.ndarray]) -> None:
        self._make, self._kind = make, None
        self._matrix = np.empty(0, np.uint8)

    def take(self, kind: Any, rows: int) -> np.ndarray:
        """So many rows of a kind, with anything in them but what `make` left; until the next."""
        if kind != self._kind or len(self._matrix) < rows:
            self._kind, self._matrix = None, np.empty(0, np.uint8)  # freed before the next is made
            self._kind, self._matrix = kind, self._make(kind, rows)
        return self._matrix[:rows]


class _Lease:
    """What arrays over a buffer are views of: it lives as long as the last of them.

    NumPy makes a view of a view refer to the first owner of the memory only. Were that the
    buffer itself, which `Buffers` keeps, nothing would tell when the last view is gone.
    """

    def __init__(self, buffer: np.ndarray) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer = buffer


def _allocate(size: int) -> np.ndarray:
    """uint8[size or somewhat more], aligned: TensorFlow copies an array that is not.

    By the system itself: what is given back to C's library is used again by the same thread only,
    if at all. Sizes are rounded, so that those which hardly differ fit each other.
    """
    step = 1 << max(12, size.bit_length() - 4)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(step, -(-size // step) * step), flags=private)
    if size >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
