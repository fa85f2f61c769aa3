"""Blocks of shards: what a worker reads of a split, and reading it checked."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardFile, ShardInfo

_MAX_OPEN = 256  # files; many systems allow a process 1,024
_PIECE_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Block:
    """Records [start, stop) of a shard, all of them in its block `index`."""

    shard: ShardInfo
    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class ReadState:
    """What reading a data set has left in memory; it lives as long as the open data set.

    Attributes:
      checked: The blocks whose CRC32C has held, by the name of their shard and their index.
      arrays: The slices that are held in memory: uint8[n, side * side] and int32[n] each.
      lock: Held while a slice is read into memory, so that it is read once.
    """

    def __init__(self) -> None:
        self.checked: set[tuple[str, int]] = set()
        self.arrays: dict[SplitSlice, tuple[np.ndarray, np.ndarray]] = {}
        self.lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class SplitSlice:
    """What one worker reads of a split: records [start, stop) in the order on disk.

    Attributes:
      directory: Where the shards are.
      layout: How their records are laid out.
      shards: Those of the split.
      start: The first record.
      stop: The one after the last.
      state: What has been read of the data set.
    """

    directory: Path
    layout: RecordLayout
    shards: tuple[ShardInfo, ...]
    start: int
    stop: int
    state: ReadState = dataclasses.field(compare=False, repr=False)

    def __len__(self) -> int:
        return self.stop - self.start

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What to read, in the order on disk; none is empty."""
        return tuple(self._cut_blocks())

    def _cut_blocks(self) -> Iterator[Block]:
        first = 0  # record of the shard, counted over the split
        for shard in self.shards:
            for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
                begin, end = max(start, self.start - first), min(stop, self.stop - first)
                if begin < end:
                    yield Block(shard, index, begin, end)
            first += shard.records


class BlockReader:
    """Reads blocks of a slice, keeping open the files it used last; for several threads.

    A block is compared with the manifest's CRC32C the first time it is read.

    Attributes:
      split_slice: What it reads blocks of.
    """

    def __init__(self, split_slice: SplitSlice) -> None:
        self.split_slice = split_slice
        self._open = functools.lru_cache(_MAX_OPEN)(
            functools.partial(ShardFile, split_slice.directory)
        )
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
        layout, start = self.split_slice.layout, 0
        for records in itertools.chain.from_iterable(map(self._records, blocks)):
            stop = start + len(records)
            rows = slice(start, stop) if places is None else places[start:stop]
            images[rows] = layout.images(records)
            labels[rows] = layout.labels(records)
            start = stop

    def _records(self, block: Block) -> Iterator[np.ndarray]:
        """Some records of a block at a time, uint8[n, stride], valid until the next."""
        shard, scratch = block.shard, self._scratch()
        checked, key = self.split_slice.state.checked, (shard.name, block.index)
        if key in checked:
            yield from self._open(shard).records(block.start, block.stop, scratch)
            return
        # A checksum covers the whole block, so all of it is read, though a worker's slice or a
        # window may begin or end within it.
        first = shard.block_bounds[block.index]
        for piece in self._open(shard).checked_block(block.index, scratch):
            yield piece[max(0, block.start - first) : max(0, block.stop - first)]
            first += len(piece)
        checked.add(key)

    def _scratch(self) -> np.ndarray:
        """uint8[some, stride]; one for each thread, because fresh memory costs page faults."""
        if not hasattr(self._thread, "scratch"):
            stride = self.split_slice.layout.stride
            self._thread.scratch = np.empty((max(1, _PIECE_BYTES // stride), stride), np.uint8)
        scratch: np.ndarray = self._thread.scratch
        return scratch


def records_at(
    directory: Path, layout: RecordLayout, members: Iterable[ShardInfo], ascending: np.ndarray
) -> Iterator[tuple[Path, np.ndarray]]:
    """Reads chosen records of consecutive shards, and no more than the pages they are on.

    Only the length of their shard is checked.

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
