"""Shards for an object store from the workers of a cluster, which share nothing but the store.

A worker takes a batch of shards: it reads all that goes into them from the source, fills them on
its own disk, and puts each. Every batch reads through the source, so there are as few as will do:
one for each worker, or as many as keep the disks from filling up.
"""

import dataclasses
import math
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_tfrecords.base import cluster, progress, workers
from quickdraw_tfrecords.base.cluster import ClusterPool
from quickdraw_tfrecords.base.files import require_space
from quickdraw_tfrecords.base.temporary_folders import TemporaryFolder
from quickdraw_tfrecords.writing.filling import ShardFiller
from quickdraw_tfrecords.writing.store_writer import StoreShardWriter

_BATCH_BYTES = 2 * 2**30  # that a worker keeps on its disk, at most; unless a shard is larger
_LOOK_SECS = 5.0


def write_shards(
    pool: ClusterPool, filler: ShardFiller, writer: StoreShardWriter, scratch_dir: Path | None
) -> None:
    """Puts all shards that are not in the store yet.

    Args:
      pool: The workers.
      filler: Makes files of drawings, in any directory.
      writer: Makes shards of these.
      scratch_dir: A folder that each worker has; by default that of Dask on it.

    Raises:
      DataError: A drawing cannot be read, or there is no way to the store.
      OSError: A file cannot be written.
    """
    kept = {shard.number for shard in writer.find(range(filler.deal.num_shards))}
    missing = [shard for shard in range(filler.deal.num_shards) if shard not in kept]
    topic = f"quickdraw-{secrets.token_hex(8)}"
    maker = _BatchMaker(filler, writer, scratch_dir, topic)
    total = _records(filler, missing)
    with progress.bar("converting", total=total, unit="drawings") as bar:

        def advance(drawings: Any) -> None:
            bar.update(min(drawings, total - bar.n))  # a batch may be begun twice

        pool.listen(topic, advance)
        batches = _divide(missing, total * filler.layout.stride, workers.count(pool))
        for _ in workers.bounded_map(pool, maker.make, batches):
            pass


def _divide(shards: Sequence[int], size_bytes: int, num_workers: int) -> list[list[int]]:
    """Batches of shards: one for each worker, or more so that none is too large."""
    count = max(num_workers, math.ceil(size_bytes / _BATCH_BYTES))
    return [part.tolist() for part in np.array_split(shards, count) if len(part)]


def _records(filler: ShardFiller, shards: Sequence[int]) -> int:
    """How many drawings there are in some shards."""
    return int(filler.deal.before(len(filler.selection.takes))[shards].sum())


@dataclasses.dataclass(frozen=True)
class _BatchMaker:
    """Makes shards from the source to the store, in one worker.

    Attributes:
      filler, writer, scratch_dir: As for `write_shards`.
      topic: Where it says how many drawings it has read or put; half of them each time.
    """

    filler: ShardFiller
    writer: StoreShardWriter
    scratch_dir: Path | None
    topic: str

    def make(self, batch: Sequence[int]) -> None:
        """Makes those shards of a batch that are not there."""
        kept = {shard.number for shard in self.writer.find(batch)}
        shards = [shard for shard in batch if shard not in kept]
        parent = self.scratch_dir or cluster.scratch_dir()
        with TemporaryFolder("quickdraw-batch-", parent) as folder:
            filler = dataclasses.replace(self.filler, directory=folder)
            writer = dataclasses.replace(self.writer, directory=folder)
            self._fill(filler, shards)
            for shard in shards:
                written = writer.write(shard)
                writer.finish(written)
                cluster.tell(self.topic, written.info.records / 2)

    def _fill(self, filler: ShardFiller, shards: Sequence[int]) -> None:
        takes, records = filler.selection.takes, _records(filler, shards)
        require_space(
            filler.directory,
            records * filler.layout.stride,
            remedy=f"make room or choose another {self.writer.flag}",
        )
        unfilled = np.zeros((len(takes), filler.deal.num_shards), bool)
        unfilled[:, shards] = True
        filler.begin(shards)
        looked = time.monotonic()
        for portion in filler.portions(unfilled, num_workers=1):
            if time.monotonic() - looked > _LOOK_SECS:  # Dask cannot end what has begun
                self.writer.require()
                looked = time.monotonic()
            looked_at = filler.fill(portion)
            cluster.tell(self.topic, looked_at * records / sum(takes) / 2)
