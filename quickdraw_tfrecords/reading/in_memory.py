"""A split held in memory: an epoch is one permutation of all its drawings."""

from collections.abc import Iterator

import numpy as np
import psutil

from quickdraw_tfrecords.reading.batching import ChunkShape, FillTask
from quickdraw_tfrecords.reading.blocks import BlockReader, SplitSlice
from quickdraw_tfrecords.reading.epoch import EpochOrder

MEMORY_FRACTION = 0.5  # of the memory available, that cache="auto" lets a split take


def resolve_cache(cache: str, split_slice: SplitSlice) -> str:
    """What "auto" means for a slice: "memory" if it takes no more than `MEMORY_FRACTION`.

    Args:
      cache: "auto", or what is returned as it is.
      split_slice: What would be held.
    """
    if cache != "auto":
        return cache
    needed = len(split_slice) * split_slice.layout.side**2
    return "memory" if needed <= MEMORY_FRACTION * psutil.virtual_memory().available else "none"


def read(split_slice: SplitSlice) -> tuple[np.ndarray, np.ndarray]:
    """Reads a slice; every block of it is checked.

    Returns:
      uint8[n, side * side] images and int32[n] labels, in the order on disk.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    images = np.empty((len(split_slice), split_slice.layout.side**2), np.uint8)
    labels = np.empty(len(split_slice), np.int32)
    BlockReader(split_slice).read(split_slice.blocks, images, labels)
    return images, labels


def hold(split_slice: SplitSlice) -> tuple[np.ndarray, np.ndarray]:
    """As `read`, but the same arrays each time, for as long as the data set is open."""
    state = split_slice.state
    with state.lock:
        if split_slice not in state.arrays:
            state.arrays[split_slice] = read(split_slice)
    return state.arrays[split_slice]


def fill_tasks(split_slice: SplitSlice, order: EpochOrder, shape: ChunkShape) -> Iterator[FillTask]:
    """The chunks of an epoch; the slice is read once while the data set is open.

    Raises:
      DataError: As `read`.
    """
    held_images, held_labels = hold(split_slice)
    rows = order.permutation(len(split_slice), stream=0)

    def fill(first: int, images: np.ndarray, labels: np.ndarray) -> None:
        chosen = rows[first : first + len(labels)]
        # With any other mode NumPy would gather into fresh memory first, and copy.
        np.take(held_images, chosen, axis=0, out=images, mode="clip")
        np.take(held_labels, chosen, out=labels, mode="clip")

    return shape.fill_tasks(order, len(split_slice), fill)
