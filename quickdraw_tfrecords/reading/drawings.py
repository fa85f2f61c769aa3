"""Drawings of a split in the order on disk, with where they come from: all of them, or some."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.shards import ShardFile, ShardInfo
from quickdraw_tfrecords.reading import blocks, tfds_folder
from quickdraw_tfrecords.reading.batching import ChunkShape
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from quickdraw_tfrecords.reading.epoch import EpochOrder, WorkerSlice

_PARSED_AT_ONCE = 1024

# What TensorFlow puts around the message itself.
_AROUND_MESSAGE = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


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
    """The drawings of a split, a few thousand at a time; they are checked as they are read.

    Args:
      info: The data set.
      split: "train", "validation" or "test".

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    if info.manifest is None:
        yield from _read_tfds_folder(info, split)
        return
    for shard in info.manifest.splits[split]:
        yield from _read_shard(info, info.manifest, shard)


def read_at(info: DatasetInfo, split: str, positions: np.ndarray) -> np.ndarray:
    """Reads chosen drawings of a split, and little else of its shards.

    Each record is checked by its own CRCs. Of a data set that another tool wrote, everything
    up to the last of the drawings is read.

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


def _read_shard(info: DatasetInfo, manifest: Manifest, shard: ShardInfo) -> Iterator[Drawings]:
    layout, file = manifest.layout, ShardFile(info.directory, shard)
    for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
        if start == stop:
            continue
        scratch = np.empty((stop - start, layout.stride), np.uint8)
        (matrix,) = file.checked_block(index, scratch)
        images = layout.images(matrix).reshape(-1, info.side, info.side)
        yield Drawings(images, layout.labels(matrix), layout.source_rows(matrix))


def _read_tfds_folder(info: DatasetInfo, split: str) -> Iterator[Drawings]:
    everything = WorkerSlice(info.num_examples[split])
    order = EpochOrder(0, len(everything), seed=None, epoch=0)
    shape = ChunkShape(info.side, _PARSED_AT_ONCE, _PARSED_AT_ONCE)
    try:
        for task in tfds_folder.open_epochs(info.directory, split, everything)(order, shape):
            images = np.empty((task.size, info.side**2), np.uint8)
            labels = np.empty(task.size, np.int32)
            task.fill(images, labels)
            rows = np.full(task.size, -1, np.int64)
            yield Drawings(images.reshape(-1, info.side, info.side), labels, rows)
    except tf.errors.OpError as error:
        reason = _AROUND_MESSAGE.sub("", error.message)
        raise DataError(f"{info.directory}: a shard of {split} is damaged: {reason}") from None


def _at_in_shards(info: DatasetInfo, split: str, ascending: np.ndarray) -> Iterator[np.ndarray]:
    manifest = info.require_manifest()
    layout, members = manifest.layout, manifest.splits[split]
    for path, records in blocks.records_at(info.directory, layout, members, ascending):
        if not layout.is_sound(records).all():
            raise DataError(f"{path}: damaged; run `quickdraw verify` on the data set")
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
