"""Drawings of a split in the order on disk, with where they come from: all of them, or some."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from quickdraw_tfrecords.reading.columns import empty_columns
from quickdraw_tfrecords.reading.dataset import DatasetInfo


class Drawings(NamedTuple):
    """Some drawings of a split.

    Attributes:
      images: uint8[n, side, side], ink high on 0.
      labels: int32[n].
      source_rows: int64[n], the row in the source of the class; -1 where the records do not say.
    """

    images: np.ndarray
    labels: np.ndarray
    source_rows: np.ndarray


def read_all(info: DatasetInfo, split: str) -> Iterator[Drawings]:
    """The drawings of a split, some thousands at a time; they are checked as they are read.

    Args:
      info: The data set.
      split: "train", "validation" or "test", or a slice of one.

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    split_slice = info.split_slice(split)
    reader, num_columns = split_slice.open_reader(), 2 if info.manifest is None else 3
    for block in split_slice.blocks:
        pixels = np.empty((len(block), info.side**2), np.uint8)
        columns = empty_columns(len(block), num_columns, pixels)
        reader.read([block], columns)
        images, labels, *others = columns
        rows = others[0] if others else np.full(len(block), -1, np.int64)
        yield Drawings(images.reshape(-1, info.side, info.side), labels, rows)


def read_at(info: DatasetInfo, split: str, positions: np.ndarray) -> np.ndarray:
    """Reads chosen drawings of a split, and of its shards only the blocks that they are in.

    Args:
      info: The data set.
      split: "train", "validation" or "test".
      positions: integer[n] in [0, drawings of the split), in any order.

    Returns:
      uint8[n, side, side], ink high on 0.

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    order = np.argsort(positions, kind="stable")
    ascending = np.asarray(positions)[order]
    found = np.empty((len(positions), info.side, info.side), np.uint8)
    split_slice, first = info.split_slice(split), 0
    reader = split_slice.open_reader()
    for block in split_slice.blocks:
        begin, end = np.searchsorted(ascending, (first, first + len(block)))
        if begin < end:
            pixels = np.empty((len(block), info.side**2), np.uint8)
            reader.read([block], empty_columns(len(block), 2, pixels))
            images = pixels[ascending[begin:end] - first]
            found[order[begin:end]] = images.reshape(-1, info.side, info.side)
        first += len(block)
    return found
