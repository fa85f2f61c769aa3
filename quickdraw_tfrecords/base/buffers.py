"""Memory that is used again: fresh memory costs a page fault for every 4 KiB of it."""

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less


class Buffers:
    """Memory of one size, lent out as arrays and taken back when the last view of them is gone.

    Threads may share it.

    Consumers take arrays without a copy, and keep them as long as they like: a tensor of
    TensorFlow or PyTorch refers to the very memory. How long that is, Python cannot ask, but it
    sees when the last reference is gone.

    Args:
      size: Bytes of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """uint8[size], with anything in it."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = _aligned(self._size)
        lease = _Lease(buffer)
        weakref.finalize(lease, self._free.append, buffer)
        return np.asarray(lease)


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


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % _ALIGNMENT :][:size]
