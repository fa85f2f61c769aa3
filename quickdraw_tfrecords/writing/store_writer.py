"""Shards of an object store, which knows whole objects only: no places in them, no renaming.

So a shard is filled and ordered on a local disk, and then put under its final name. Beside it, in
the folder of what is not finished, goes what is known of it: its facts. They hold the tag that the
store gave to what was put, so a later run, or the end of this one, knows whether it is still there,
without reading it.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, ClassVar

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.leases import Claim
from quickdraw_tfrecords.base.stores import Entry, Store
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.writing.shard_writer import ShardWriter, Written

_SCRATCH_SHARE = 0.8  # of what is free on the disk, that is used


@dataclasses.dataclass(frozen=True)
class StoreShardWriter(ShardWriter):
    """Makes objects of files that have been filled, and deletes these.

    Attributes:
      final: The data set's folder, for the shards.
      incomplete: The folder of a conversion that is not finished, for their facts.
      claim: That of the command which wants them.
    """

    flag: ClassVar = "--scratch_dir"
    finishers: ClassVar = 8

    final: Store
    incomplete: Store
    claim: Claim

    def finish(self, written: Written) -> None:
        """Puts a shard, and what is known of it.

        In the parent: it takes little time there and little memory, while the libraries of a store
        would take more of each worker's than all its drawings.

        Raises:
          DataError: There is no way to the store, or this is not wanted anymore.
          OSError: The file cannot be read.
        """
        self.require()
        path = self.path(written.number)
        entry = self.final.write(path.name, path)
        self.incomplete.write(_facts_name(path.name), _to_bytes(written, entry))
        os.unlink(path)

    def require(self) -> None:
        """Ends work for a command that has ended, after which another one may have begun.

        Raises:
          DataError: It has.
        """
        if not self.claim.holds():
            raise DataError(f"{self.final}: the conversion that wanted this has ended")

    def kept(self, pool: futures.Executor) -> list[Written]:
        """See `ShardWriter.kept`; of what is in the store reads only facts."""
        there = list(self.find(range(self.deal.num_shards)))
        for written in there:  # if it was killed before it had deleted the file
            self.path(written.number).unlink(missing_ok=True)
        return there + super().kept(pool)

    def batches(self, shards: Sequence[int]) -> Iterator[Sequence[int]]:
        """As many shards at a time as the disk has room for."""
        sizes = self.deal.before(len(self.deal.class_names)) * self.layout.stride
        while shards:
            room = shutil.disk_usage(self.directory).free * _SCRATCH_SHARE
            count = int(np.searchsorted(np.cumsum(sizes[shards]), room, side="right"))
            batch = shards[: max(1, count)]  # if there is no room for one, that will be said
            yield batch
            shards = shards[len(batch) :]

    def all(self) -> list[Written]:
        """All shards, in order, if they are in the store as they were put.

        Raises:
          DataError: One is not.
        """
        written = list(self.find(range(self.deal.num_shards)))
        if lacking := set(range(self.deal.num_shards)) - {shard.number for shard in written}:
            name = self.deal.name(min(lacking))
            raise DataError(
                f"{self.final / name}: was changed meanwhile; run the same command again, it "
                "puts what is missing"
            )
        return written

    def find(self, shards: Iterable[int]) -> Iterator[Written]:
        """Of some shards those that are in the store as they were put."""
        present, known = self.final.entries(), self.incomplete.entries()
        reads = {
            shard: self.incomplete.begin_read(_facts_name(name))
            for shard in shards
            if (name := self.deal.name(shard)) in present and _facts_name(name) in known
        }
        for shard, read in reads.items():
            found = _parse(shard, bytes(read.result()))
            if found and found[1] == present[self.deal.name(shard)]:
                yield found[0]


def _facts_name(shard: str) -> str:
    return f"{shard}.json"


def _to_bytes(written: Written, entry: Entry) -> bytes:
    facts = {
        "entry": entry,
        "info": dataclasses.asdict(written.info),
        "crc_sums": written.crc_sums.tolist(),
    }
    text = json.dumps(facts)
    return json.dumps({"crc32c": crc32c(text.encode()), "facts": text}).encode()


def _parse(shard: int, data: bytes) -> tuple[Written, Entry] | None:
    """What is known of a shard; None if that was damaged."""
    try:
        content = json.loads(data)
        facts = json.loads(content["facts"])
        if crc32c(content["facts"].encode()) != content["crc32c"]:
            return None
        info: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in facts["info"].items()
        }
        crc_sums = np.array(facts["crc_sums"], np.uint32)
        return Written(shard, ShardInfo(**info), crc_sums), Entry(*facts["entry"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
