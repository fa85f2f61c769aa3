"""The drawings one worker reads, and reading their shards checked."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quickdraw_tfrecords import shards
from quickdraw_tfrecords.manifest import Manifest
from quickdraw_tfrecords.records import RecordLayout
from quickdraw_tfrecords.shards import ShardInfo

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Segment:
    """Records [start, stop) of a shard."""

    shard: ShardInfo
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Share:
    """One worker's share of a split: its drawings [start, stop) of `total` in disk order.

    Shares are equal to within one drawing, however many shards there are.
    """

    total: int
    workers: int
    worker: int

    @classmethod
    def of(cls, total: int, context: "tf.distribute.InputContext | None") -> "Share":
        """The share of the worker that `context` names; the whole split, if None."""
        if context is None:
            return cls(total, workers=1, worker=0)
        return cls(total, context.num_input_pipelines, context.input_pipeline_id)

    @property
    def start(self) -> int:
        """The first drawing."""
        return self.total * self.worker // self.workers

    @property
    def stop(self) -> int:
        """The drawing after the last."""
        return self.total * (self.worker + 1) // self.workers

    def __len__(self) -> int:
        return self.stop - self.start

    def num_steps(self, batch_size: int, *, drop_remainder: bool) -> int:
        """Batches of an epoch, the same for every worker.

        With `drop_remainder` those that the smallest share fills, else those that hold the
        largest.
        """
        if drop_remainder:
            return self.total // self.workers // batch_size
        return -(-self.total // (self.workers * batch_size))


@dataclasses.dataclass(frozen=True)
class Order:
    """Which batches of an epoch to give, and of what.

    Attributes:
      batch_size: Drawings in a batch; only the last one that has any may have fewer.
      start_step: The first batch to give.
      stop_step: The one after the last to give.
      shuffle: A random order; else the order on disk.
      seed: Decides the order; the seed of the run and the epoch.
    """

    batch_size: int
    start_step: int
    stop_step: int
    shuffle: bool
    seed: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Part:
    """What one worker reads of a split, in the order on disk.

    Attributes:
      directory: Where the shards are.
      layout: How their records are laid out.
      segments: What to read.
    """

    directory: Path
    layout: RecordLayout
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, directory: Path, manifest: Manifest, split: str, share: Share) -> "Part":
        """The segments that make up a worker's share."""
        segments = _cut(manifest.splits[split], share.start, share.stop)
        return cls(directory, manifest.layout, tuple(segments))

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def read(self, segment: Segment, out: np.ndarray) -> None:
        """Reads a segment into `out`, uint8[len(segment), stride].

        The first touch of a shard in a process checks its CRC32C against the manifest.

        Raises:
          DataError: The shard is missing, of another length, or changed; names it.
        """
        whole = len(segment) == segment.shard.records
        matrix = out if whole else np.empty((segment.shard.records, out.shape[1]), np.uint8)
        key = (self.directory / segment.shard.name, segment.shard.crc32c)
        shards.read_shard(
            self.directory,
            segment.shard,
            out=matrix.reshape(-1),
            check_crc=key not in _checked,
        )
        _checked.add(key)
        if not whole:
            out[:] = matrix[segment.start : segment.stop]


_checked: set[tuple[Path, int]] = set()


def _cut(infos: tuple[ShardInfo, ...], start: int, stop: int) -> Iterator[Segment]:
    """The segments of the records [start, stop) of consecutive shards."""
    first = 0
    for shard in infos:
        begin, end = max(start - first, 0), min(stop - first, shard.records)
        if begin < end:
            yield Segment(shard, begin, end)
        first += shard.records
