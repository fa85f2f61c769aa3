"""Shards from the workers of a cluster, which share a file system and may do a thing twice.

A worker that is thought to be dead may be alive, and go on with what another one has been given
since, or with what a command that has ended wanted. So workers only ever add files, under names
that nobody else uses, to a folder that is this request's alone; twice done, they have the same
bytes. Only the command takes shards out of the folder, and deletes it in the end: whoever comes
late finds nothing to write to.
"""

import contextlib
import dataclasses
import os
from pathlib import Path

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.writing.filling import filling_path
from quickdraw_tfrecords.writing.shard_writer import ShardWriter, Written


@dataclasses.dataclass(frozen=True)
class SharedShardWriter(ShardWriter):
    """Makes shards beside the files that have been filled, not in place.

    Attributes:
      work: The folder that workers write to.
    """

    work: Path

    def write(self, shard: int) -> Written:
        """Writes a filled shard in its order, and syncs it.

        Raises:
          DataError: What was filled is not what is read now.
          OSError: It cannot be read or written.
        """
        path = self._made(shard)
        with open(filling_path(path), "rb") as file:
            matrix = self._read(shard, file)
        if not self.layout.is_sound(matrix).all():
            raise DataError(
                f"{filling_path(path)}: is not what was written to it: its file system must show "
                "all workers the same; run the same command again"
            )
        with atomic_write(path) as file:
            return self._write_ordered(shard, matrix, file)

    def finish(self, written: Written) -> None:
        """Takes a shard out of the folder."""
        made = self._made(written.number)
        with contextlib.suppress(FileNotFoundError):  # of one that was kept
            os.rename(made, self.path(written.number))
        super().finish(written)
        filling_path(made).unlink(missing_ok=True)

    def _made(self, shard: int) -> Path:
        return self.work / self.deal.name(shard)
