"""The second pass of a conversion: filled shards are put into their order, in a worker process."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import workers
from quickdraw_tfrecords.base.buffers import WorkerMatrix
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c, sync_to_disk, write_in_chunks
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.writing.dealing import Deal
from quickdraw_tfrecords.writing.filling import filling_path


class Written(NamedTuple):
    """A shard that is on disk.

    Attributes:
      number: Which it is of all splits' shards.
      info: What the manifest is to say of it.
      crc_sums: uint32[classes], the sum of the masked CRCs of each class's records.
    """

    number: int
    info: ShardInfo
    crc_sums: NDArray[np.uint32]


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Makes files that have been filled into shards.

    Attributes:
      deal: Which drawings are in each.
      layout: How they are encoded.
      directory: Where the shards are.
    """

    flag: ClassVar = "--data_dir"  # which names the file system that must have room
    finishers: ClassVar = 1  # threads

    deal: Deal
    layout: RecordLayout
    directory: Path

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.directory / self.deal.name(shard)

    def write(self, shard: int) -> Written:
        """Puts the records of a filled shard into their order, in place.

        Its memory and its place on disk are there already, so this takes half as long as to write
        another file.

        Raises:
          DataError: It has become shorter.
          OSError: It cannot be written.
        """
        path = self.path(shard)
        # A name that the next run deletes: what it found there might be half in order.
        busy = path.with_name(f".{path.name}.tmp")
        os.rename(filling_path(path), busy)
        with open(busy, "rb+") as file:
            matrix = self._read(shard, file)
            file.seek(0)
            written = self._write_ordered(shard, matrix, file)
        # The parent syncs it while the next one is written. Until then a crash of the machine may
        # damage it, and the next run would notice: it checks what it keeps.
        os.rename(busy, path)
        return written

    def finish(self, written: Written) -> None:
        """Puts a shard on disk for good; in the parent, not in a worker."""
        sync_to_disk(self.path(written.number))

    def kept(self, pool: futures.Executor) -> list[Written]:
        """The shards that an earlier run wrote, and that are whole; they are finished now."""
        present = [shard for shard in range(self.deal.num_shards) if self.path(shard).exists()]
        kept = [shard for shard in workers.bounded_map(pool, self.keep, present) if shard]
        for written in kept:
            self.finish(written)
        return kept

    def batches(self, shards: Sequence[int]) -> Iterable[Sequence[int]]:
        """Of the shards to write those that are written at the same time: all."""
        return [shards]

    def keep(self, shard: int) -> Written | None:
        """A shard that an earlier run wrote, if it is whole."""
        path, planned = self.path(shard), self.deal.class_counts(shard)
        if path.stat().st_size != planned.sum() * self.layout.stride:
            return None
        matrix = np.fromfile(path, np.uint8).reshape(-1, self.layout.stride)
        written = self._describe(shard, np.split(matrix, shards.block_borders(len(matrix))))
        same = self.layout.is_sound(matrix).all() and written.info.class_counts == tuple(planned)
        return written if same else None

    def _read(self, shard: int, file: BinaryIO) -> NDArray[np.uint8]:
        """The records of a filled shard, uint8[n, stride], until the next are read."""
        matrix = _matrix.take(self.layout.stride, int(self.deal.class_counts(shard).sum()))
        if file.readinto(matrix.reshape(-1).data) < matrix.nbytes:  # type: ignore[attr-defined]
            raise DataError(f"{file.name}: was cut short; run the same command again")
        return matrix

    def _write_ordered(self, shard: int, matrix: NDArray[np.uint8], file: BinaryIO) -> Written:
        """Writes records in the order of the shard."""
        order = self.deal.order(shard)

        def blocks() -> Iterator[NDArray[np.uint8]]:
            for rows in np.split(order, shards.block_borders(len(order))):
                block = np.take(matrix, rows, axis=0)
                write_in_chunks(file, block)  # while it is in the processor's cache
                yield block

        return self._describe(shard, blocks())

    def _describe(self, shard: int, blocks: Iterable[NDArray[np.uint8]]) -> Written:
        layout, num_classes = self.layout, len(self.deal.class_names)
        crc, crcs = 0, []
        class_counts, crc_sums = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.uint32)
        for block in blocks:
            crc = crc32c(block, crc)
            crcs.append(crc)
            labels = layout.labels(block)
            class_counts += np.bincount(labels, minlength=num_classes)
            np.add.at(crc_sums, labels, layout.masked_crcs(block))
        size = int(class_counts.sum())
        info = ShardInfo(
            name=self.deal.name(shard),
            records=size,
            bytes=size * layout.stride,
            prefix_crc32c=tuple(crcs),
            class_counts=tuple(class_counts.tolist()),
        )
        return Written(shard, info, crc_sums)


_matrix = WorkerMatrix(lambda stride, rows: np.empty((rows, stride), np.uint8))
