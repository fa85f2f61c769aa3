"""A split held in memory: an epoch is one permutation of all its drawings."""

import functools
from collections.abc import Iterator

import numpy as np
import psutil

from quickdraw_tfrecords.reading.batching import ChunkShape, FillTask
from quickdraw_tfrecords.reading.blocks import BlockReader, SplitSlice
from quickdraw_tfrecords.reading.epoch import EpochOrder

MEMORY_SHARE = 0.5  # of the memory available, that "auto" lets a split take


def fits(part: SplitSlice) -> bool:
    """Whether a part takes no more than `MEMORY_SHARE` of the memory that is available."""
    needed = len(part) * part.layout.side**2
    return needed <= MEMORY_SHARE * psutil.virtual_memory().available


def read(part: SplitSlice) -> tuple[np.ndarray, np.ndarray]:
    """Reads a part; every block of it is checked.

    Returns:
      uint8[n, side * side] images and int32[n] labels, in the order on disk.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    images = np.empty((len(part), part.layout.side**2), np.uint8)
    labels = np.empty(len(part), np.int32)
    BlockReader(part).read(part.blocks, images, labels)
    return images, labels


_read_once = functools.lru_cache(maxsize=8)(read)


def fill_tasks(part: SplitSlice, order: EpochOrder, shape: ChunkShape) -> Iterator[FillTask]:
    """The chunks of an epoch; the part is read once in a process.

    Raises:
      DataError: As `read`.
    """
    held_images, held_labels = _read_once(part)
    rows = order.permutation(len(part), stream=0)

    def fill(first: int, images: np.ndarray, labels: np.ndarray) -> None:
        chosen = rows[first : first + len(labels)]
        # With any other mode NumPy would gather into fresh memory first, and copy.
        np.take(held_images, chosen, axis=0, out=images, mode="clip")
        np.take(held_labels, chosen, out=labels, mode="clip")

    return shape.fill_tasks(order, len(part), fill)
