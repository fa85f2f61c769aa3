"""A split held in memory: an epoch is one permutation of all its drawings."""

import functools
import itertools
from collections.abc import Iterator
from concurrent import futures

import numpy as np
import psutil

from quickdraw_tfrecords.reading.blocks import SplitSlice
from quickdraw_tfrecords.reading.chunks import THREADS, ChunkShape, FillTask
from quickdraw_tfrecords.reading.columns import Columns, as_items, empty_columns
from quickdraw_tfrecords.reading.epoch import EpochOrder, LazyPermutation

# What is filled at a time: more leaves a processor's cache before it is used, and with less
# Python's turns take longer than the drawings.
CHUNK_MIB = 6.0
LARGE_CHUNK_MIB = 24.0  # where the consumer's turn takes longer, too
_GROWTH = 4

MEMORY_FRACTION = 0.5  # of the memory available, that cache="auto" lets a split take


def resolve_cache(cache: str, split_slice: SplitSlice) -> str:
    """What "auto" means for a slice: "memory" if it takes no more than `MEMORY_FRACTION`.

    Args:
      cache: "auto", or what is returned as it is.
      split_slice: What would be held.
    """
    if cache != "auto":
        return cache
    needed = len(split_slice) * split_slice.side**2
    return "memory" if needed <= MEMORY_FRACTION * psutil.virtual_memory().available else "none"


def read(split_slice: SplitSlice, *, num_columns: int = 2) -> Columns:
    """Reads a slice; every block of it is checked.

    Args:
      split_slice: What to read.
      num_columns: 2, or with source rows 3.

    Returns:
      uint8[n, side * side] images, int32[n] labels and int64[n] source rows, in the order on
      disk.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    images = np.empty((len(split_slice), split_slice.side**2), np.uint8)
    columns = empty_columns(len(split_slice), num_columns, images)
    reader = split_slice.open_reader().along(split_slice.blocks)
    ends = list(itertools.accumulate(len(block) for block in split_slice.blocks))
    with futures.ThreadPoolExecutor(THREADS) as threads:
        done = [
            threads.submit(
                reader.read, [block], tuple(column[end - len(block) : end] for column in columns)
            )
            for block, end in zip(split_slice.blocks, ends, strict=True)
        ]
        try:
            for future in done:
                future.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return columns


def hold(split_slice: SplitSlice, *, num_columns: int = 2) -> Columns:
    """As `read`, but the same arrays each time, for as long as the data set is open."""
    state = split_slice.state
    with state.lock:
        held = state.columns.get(split_slice, ())
        if len(held) < num_columns:
            held = state.columns[split_slice] = read(split_slice, num_columns=num_columns)
    return held


def fill_tasks(split_slice: SplitSlice, order: EpochOrder, shape: ChunkShape) -> Iterator[FillTask]:
    """The chunks of an epoch; the slice is read once while the data set is open.

    Raises:
      DataError: As `read`.
    """
    held = hold(split_slice, num_columns=shape.num_columns)
    total = len(split_slice)
    rows = range(total) if order.seed is None else LazyPermutation(total, order)

    def fill(first: int, columns: Columns) -> None:
        chosen = np.asarray(rows[first : first + len(columns[0])])
        for source, column in zip(held, columns, strict=False):
            # With any other mode NumPy would gather into fresh memory first, and copy.
            np.take(as_items(source), chosen, out=as_items(column), mode="clip")

    # The first epoch begins with a single batch, so that it begins at once; the chunks then grow.
    start, size = order.start, shape.rows if order.follows else shape.batch_size
    while start < order.stop:
        count = min(size, order.stop - start)
        yield FillTask(functools.partial(fill, start), count, slice(0, count))
        start, size = start + count, min(_GROWTH * size, shape.rows)
