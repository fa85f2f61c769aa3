"""Blocks of shards: what a worker reads of a split, and reading it checked."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardFile, ShardInfo
from quickdraw_tfrecords.reading.epoch import WorkerSlice

_MAX_OPEN = 256  # files; many systems allow a process 1,024
_PIECE_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Block:
    """Records [start, stop) of a shard, all in its block `index`."""

    shard: ShardInfo
    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class SplitSlice:
    """What one worker reads of a split: records [start, stop) in the order on disk.

    Attributes:
      directory: Where the shards are.
      layout: How their records are laid out.
      shards: Those of the split.
      start: The first record.
      stop: The one after the last.
    """

    directory: Path
    layout: RecordLayout
    shards: tuple[ShardInfo, ...]
    start: int
    stop: int

    @classmethod
    def of(
        cls, directory: Path, manifest: Manifest, split: str, share: WorkerSlice
    ) -> "SplitSlice":
        """A worker's share of a split."""
        return cls(directory, manifest.layout, manifest.splits[split], share.start, share.stop)

    def __len__(self) -> int:
        return self.stop - self.start

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What to read, in the order on disk; none is empty."""
        return tuple(self._cut_blocks())

    def _cut_blocks(self) -> Iterator[Block]:
        first = 0
        for shard in self.shards:
            for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
                begin, end = max(start, self.start - first), min(stop, self.stop - first)
                if begin < end:
                    yield Block(shard, index, begin, end)
            first += shard.records


def records_at(
    directory: Path, layout: RecordLayout, members: Iterable[ShardInfo], ascending: np.ndarray
) -> Iterator[tuple[Path, np.ndarray]]:
    """Reads some records of shards that follow each other, and no more than they take.

    They are not checked, but for the length of their shard.

    Args:
      directory: Where the shards are.
      layout: How their records are laid out.
      members: The shards.
      ascending: int64[n], which records, counted over all the shards.

    Yields:
      A shard and those of its records, uint8[m, stride], where it has some.

    Raises:
      DataError: A shard is missing, or of another length; names it.
    """
    first = 0
    for shard in members:
        begin, end = np.searchsorted(ascending, (first, first + shard.records))
        if begin < end:
            shards.require_length(directory, shard)
            path, shape = directory / shard.name, (shard.records, layout.stride)
            matrix = np.memmap(path, np.uint8, mode="r", shape=shape)
            yield path, np.asarray(matrix[ascending[begin:end] - first])
        first += shard.records


class BlockReader:
    """Reads blocks of a part, keeping open the files it used last; by several threads.

    The first touch of a block in a process checks its CRC32C against the manifest.

    Attributes:
      part: What it reads blocks of.
    """

    def __init__(self, part: SplitSlice) -> None:
        self.part = part
        self._open = functools.lru_cache(_MAX_OPEN)(functools.partial(ShardFile, part.directory))
        self._thread = threading.local()

    def read(
        self,
        blocks: Iterable[Block],
        images: np.ndarray,
        labels: np.ndarray,
        *,
        places: np.ndarray | None = None,
    ) -> None:
        """Reads blocks.

        Args:
          blocks: What to read; n drawings in all.
          images: Takes the pixels, uint8[n, side * side].
          labels: Takes the class indices, int32[n].
          places: Where each drawing goes, a permutation, int64[n]; None: one after the other.

        Raises:
          DataError: A shard is missing, of another length, or changed; names it.
        """
        layout, start = self.part.layout, 0
        for records in itertools.chain.from_iterable(map(self._records, blocks)):
            rows = slice(start, start + len(records))
            start = rows.stop
            if places is not None:
                rows = places[rows]
            images[rows] = layout.images(records)
            labels[rows] = layout.labels(records)

    def _records(self, block: Block) -> Iterator[np.ndarray]:
        """Some records of a block at a time, uint8[n, stride], valid until the next."""
        shard, scratch = block.shard, self._scratch()
        key = (self.part.directory, shard.name, shard.crc32c, block.index)
        if key in _checked:
            yield from self._open(shard).records(block.start, block.stop, scratch)
            return
        first = shard.block_bounds[block.index]
        for piece in self._open(shard).checked_block(block.index, scratch):
            yield piece[max(0, block.start - first) : max(0, block.stop - first)]
            first += len(piece)
        _checked.add(key)

    def _scratch(self) -> np.ndarray:
        """uint8[some, stride], the same memory each time in a thread: fresh pages are dear."""
        if not hasattr(self._thread, "scratch"):
            stride = self.part.layout.stride
            self._thread.scratch = np.empty((max(1, _PIECE_BYTES // stride), stride), np.uint8)
        return self._thread.scratch


_checked: set[tuple[Path, str, int, int]] = set()
