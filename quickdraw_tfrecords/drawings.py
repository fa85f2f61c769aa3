"""Drawings of a split in the order on disk, with where they come from: all, or some by place."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from quickdraw_tfrecords import foreign, shards, streaming
from quickdraw_tfrecords.dataset import DatasetInfo
from quickdraw_tfrecords.errors import DataError
from quickdraw_tfrecords.reader import Order, Part, Share, Window

# What TensorFlow puts around a message of its own.
_AROUND_MESSAGE = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


class Drawings(NamedTuple):
    """Some drawings.

    Attributes:
      images: uint8[n, side, side], ink high on 0.
      labels: int32[n].
      source_rows: int64[n], the row in the source of the class; -1 where no record says it.
    """

    images: np.ndarray
    labels: np.ndarray
    source_rows: np.ndarray


def read_all(info: DatasetInfo, split: str) -> Iterator[Drawings]:
    """The drawings of a split, some thousands at a time; they are checked as they are read.

    Args:
      info: The data set.
      split: "train", "validation" or "test".

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    share = Share.of(info.num_examples[split], None)
    order = Order(0, len(share), seed=None, epoch=0)
    if info.manifest is None:
        yield from _read_foreign(info, split, share, order)
        return
    part = Part.of(info.directory, info.manifest, split, share)
    for window in streaming.windows(part, order, window_mib=streaming.WINDOW_MIB):
        rows = part.layout.source_rows(window.matrix)
        yield Drawings(_images(window, info.side), window.labels, rows)


def read_at(info: DatasetInfo, split: str, positions: np.ndarray) -> np.ndarray:
    """Reads some drawings of a split, and of its shards no more than they take.

    The records read are checked by the CRCs of their own. Of a data set that another tool
    wrote, everything up to the last of the drawings is read.

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
    found = np.empty((len(positions), info.side, info.side), np.uint8)
    read = _at_in_order if info.manifest is None else _at_in_shards
    start = 0
    for images in read(info, split, np.asarray(positions)[order]):
        found[order[start : start + len(images)]] = images
        start += len(images)
    return found


def _read_foreign(info: DatasetInfo, split: str, share: Share, order: Order) -> Iterator[Drawings]:
    try:
        for window in foreign.open_windows(info.directory, split, share)(order):
            rows = np.full(len(window.labels), -1, np.int64)
            yield Drawings(_images(window, info.side), window.labels, rows)
    except tf.errors.OpError as error:
        reason = _AROUND_MESSAGE.sub("", error.message)
        raise DataError(f"{info.directory}: a shard of {split} is damaged: {reason}") from None


def _images(window: Window, side: int) -> np.ndarray:
    """A copy, as the window's memory is used again."""
    return window.matrix[window.order, window.pixels].reshape(-1, side, side)


def _at_in_shards(info: DatasetInfo, split: str, ascending: np.ndarray) -> Iterator[np.ndarray]:
    layout, first = info.manifest.layout, 0
    for shard in info.manifest.splits[split]:
        begin, end = np.searchsorted(ascending, (first, first + shard.records))
        rows = ascending[begin:end] - first
        first += shard.records
        if not len(rows):
            continue
        shards.require_length(info.directory, shard)
        path = info.directory / shard.name
        matrix = np.memmap(path, np.uint8, mode="r", shape=(shard.records, layout.stride))
        records = np.asarray(matrix[rows])
        if not layout.is_sound(records).all():
            raise DataError(f"{path}: damaged; run `python -m tools.verify` on the data set")
        yield layout.images(records).reshape(-1, info.side, info.side)


def _at_in_order(info: DatasetInfo, split: str, ascending: np.ndarray) -> Iterator[np.ndarray]:
    first = 0
    for drawings in read_all(info, split):
        stop = first + len(drawings.images)
        begin, end = np.searchsorted(ascending, (first, stop))
        yield drawings.images[ascending[begin:end] - first]
        first = stop
        if end == len(ascending):
            return
