"""Blocks of shards: what a worker reads of a split, and reading it checked."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.format.records import RecordLayout, from_varints
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.reading.columns import Columns, as_items

_MAX_OPEN = 256  # files; many systems allow a process 1,024
# What is read at a time of a block that has not been read before, and can be checked by itself
# from then on. Of an uncached file Linux then reads ahead, and keeps it in large pages, from which
# it copies twice as fast ever after.
_PIECE_BYTES = 2**18
# What is read, compared and moved at a time later: more leaves a processor's cache meanwhile, and
# with less a thread waits more often for its turn to run Python.
_READ_BYTES = 2**22
# Windows, and what else is read into, that are kept while nobody reads, for the next epoch.
_KEPT_BUFFERS = 5


class Shard(Protocol):
    """A file of a split's records."""

    @property
    def name(self) -> str:
        """The file's name."""

    @property
    def records(self) -> int:
        """How many it holds."""

    @property
    def block_bounds(self) -> tuple[int, ...]:
        """The first record of each block, and the one after the last."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Records [start, stop) of a shard, all of them in its block `index`."""

    shard: Shard
    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class OpenShard(Protocol):
    """A shard opened for reading, see `ShardFile`."""

    def records(self, start: int, stop: int, scratch: np.ndarray) -> Iterator[np.ndarray]:
        """Reads records [start, stop) of a block, as many at a time as `scratch` holds."""

    def expect(self, start: int, stop: int, stride: int) -> None:
        """Lets the system begin to read records that are wanted soon, and waits for nothing."""

    def changed(self) -> DataError:
        """The error for bytes that differ from what was written."""


class Reader(Protocol):
    """Reads blocks of a slice, and checks them each time; for several threads."""

    def along(self, blocks: Iterable[Block]) -> "Reader":
        """What reads these blocks in about this order: an epoch, or a slice.

        What is far away is asked for as early as there is room for it.
        """

    def knows(self, blocks: Iterable[Block]) -> bool:
        """Whether these have been read before, so that nobody is likely to wait for a disk."""

    def read(
        self, blocks: Iterable[Block], columns: Columns, *, places: np.ndarray | None = None
    ) -> None:
        """Reads blocks.

        Args:
          blocks: What to read; n drawings in all.
          columns: Take the drawings, n each.
          places: Where each drawing goes, a permutation, int64[n]; None: one after the other.

        Raises:
          DataError: A shard is missing or damaged; names it.
        """


class ReadState:
    """What reading a data set has left in memory; it lives as long as the open data set.

    Attributes:
      piece_crcs: For a block whose CRC32C has held once, by its shard's name and its index: the
        CRC32C of the file up to its beginning and up to the end of each of its pieces. With
        them a piece can be checked without the rest of its block.
      blocks: Those of the slices that have been read of.
      block_offsets: Where the blocks of another tool's shard begin, in bytes, by its name.
      columns: The slices that are held in memory.
      windows: Memory for the pixels of chunks.
      scratch: Memory for blocks on their way there.
      lock: Held while a slice is read into memory, so that it is read once.
    """

    def __init__(self) -> None:
        self.piece_crcs: dict[tuple[str, int], tuple[int, ...]] = {}
        self.blocks: dict[SplitSlice, tuple[Block, ...]] = {}
        self.block_offsets: dict[str, Sequence[int]] = {}
        self.columns: dict[SplitSlice, Columns] = {}
        self.windows, self.scratch = Buffers(kept=_KEPT_BUFFERS), Buffers(kept=_KEPT_BUFFERS)
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type["ReadState"], tuple[()]]:
        return ReadState, ()  # another process reads for itself


@dataclasses.dataclass(frozen=True)
class SplitSlice:
    """What one worker reads of a split: records [start, stop) in the order on disk.

    Attributes:
      directory: Where the shards are.
      split: Its name.
      start: The first record.
      stop: The one after the last.
      side: Height and width of a drawing in pixels.
      shards: All of the split's.
      state: What has been read of the data set.
      open_reader: Makes what reads its blocks.
    """

    directory: Location
    split: str
    start: int
    stop: int
    # What follows is the same for each slice of the split, so it need not be compared.
    side: int = dataclasses.field(compare=False)
    shards: Sequence[Shard] = dataclasses.field(compare=False, repr=False)
    state: ReadState = dataclasses.field(compare=False, repr=False)
    open_reader: Callable[[], Reader] = dataclasses.field(compare=False, repr=False)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What to read, in the order on disk; none is empty."""
        if self not in self.state.blocks:
            self.state.blocks[self] = tuple(self._cut_blocks())
        return self.state.blocks[self]

    def _cut_blocks(self) -> Iterator[Block]:
        first = 0  # record of the shard, counted over the split
        for shard in self.shards:
            for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
                begin, end = max(start, self.start - first), min(stop, self.stop - first)
                if begin < end:
                    yield Block(shard, index, begin, end)
            first += shard.records


class BlockReader:
    """Reads blocks of this project's shards, keeping open the files it used last.

    Each byte that is read is covered by a CRC32C that is compared each time. The manifest has
    one for each block. Where a window or a worker's slice takes only a part of a block, all of
    it is read the first time; the running CRCs that are kept then check a part by itself.

    Args:
      open_shard: Opens one of them.
      layout: How their records are laid out.
      shards: All that blocks may be of.
      state: What has been read of the data set.
    """

    def __init__(
        self,
        open_shard: Callable[[ShardInfo], OpenShard],
        layout: RecordLayout,
        shards: Iterable[ShardInfo],
        state: ReadState,
    ) -> None:
        self._layout, self._piece_crcs = layout, state.piece_crcs
        self._shards = by_name = {shard.name: shard for shard in shards}
        self._piece_records = max(1, _PIECE_BYTES // layout.stride)
        self._scratch = state.scratch
        self._scratch_records = max(self._piece_records, _READ_BYTES // layout.stride)
        # By name: to hash all that is known of a shard takes as long as copying 200 KB. Without
        # `self`: files are closed as soon as a reader is given up, not once cycles are collected.
        self._open = functools.lru_cache(_MAX_OPEN)(lambda name: open_shard(by_name[name]))

    def along(self, blocks: Iterable[Block]) -> "BlockReader":
        """See `Reader.along`; the system reads ahead by itself."""
        return self

    def knows(self, blocks: Iterable[Block]) -> bool:
        """See `Reader.knows`."""
        return all((block.shard.name, block.index) in self._piece_crcs for block in blocks)

    def read(
        self, blocks: Iterable[Block], columns: Columns, *, places: np.ndarray | None = None
    ) -> None:
        """See `Reader.read`."""
        slots = (self._layout.image, self._layout.label, self._layout.source_row)[: len(columns)]
        # Integers are decoded together: of each block by itself it would be many small steps.
        varints = [np.empty((len(columns[0]), slot.width), np.uint8) for slot in slots[1:]]
        parts = [
            (as_items(column), slot.columns)
            for column, slot in zip((columns[0], *varints), slots, strict=True)
        ]
        start, scratch, blocks = 0, self._take_scratch(), list(blocks)
        for block, following in itertools.zip_longest(blocks, blocks[1:]):
            if following and not self.knows([following]):
                self._expect(following)
            for records in self.records(block, scratch):
                stop = start + len(records)
                rows = slice(start, stop) if places is None else places[start:stop]
                for items, part in parts:
                    items[rows] = as_items(records[:, part])
                start = stop
                del records  # what comes next may need its memory
        for column, encoded in zip(columns[1:], varints, strict=True):
            column[:] = from_varints(encoded, column.dtype)

    def _take_scratch(self) -> np.ndarray:
        stride = self._layout.stride
        return self._scratch.take(self._scratch_records * stride).reshape(-1, stride)

    def _expect(self, block: Block) -> None:
        """Lets a disk go on while something is done with what it has given."""
        stop = min(block.stop, block.start + self._piece_records)
        self._open(block.shard.name).expect(block.start, stop, self._layout.stride)

    def records(self, block: Block, scratch: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The records of a block.

        Args:
          block: The block.
          scratch: From `_take_scratch`, to read into; None: some of its own.

        Yields:
          uint8[n, stride], valid until the next is asked for. They have been checked once the
          iterator ends, and no sooner.

        Raises:
          DataError: The shard is missing, of another length, or changed; names it.
        """
        shard, size = self._shards[block.shard.name], self._piece_records
        start, stop = shard.block_bounds[block.index : block.index + 2]
        if scratch is None:
            scratch = self._take_scratch()
        known = self._piece_crcs.get((shard.name, block.index))
        if known:  # the pieces with something of what is wanted are enough
            begin, end = (block.start - start) // size, -(-(block.stop - start) // size)
            first, stop = start + begin * size, min(stop, start + end * size)
            crcs, expected = [known[begin]], known[end]
        else:
            before = shard.prefix_crc32c[block.index - 1] if block.index else 0
            crcs, expected = [before], shard.prefix_crc32c[block.index]
            first, scratch = start, scratch[:size]
        file = self._open(shard.name)
        for piece in file.records(first, stop, scratch):
            crcs.append(crc32c(piece, crcs[-1]))
            yield piece[max(0, block.start - first) : max(0, block.stop - first)]
            first += len(piece)
        if crcs[-1] != expected:
            raise file.changed()
        if not known:
            self._piece_crcs[shard.name, block.index] = tuple(crcs)


def records_at(
    reader: BlockReader, members: Sequence[ShardInfo], ascending: np.ndarray
) -> Iterator[np.ndarray]:
    """Reads chosen records of consecutive shards, and the blocks around them to check them.

    Args:
      reader: Reads blocks of the shards.
      members: The shards.
      ascending: int64[n], which records, counted over all the shards.

    Yields:
      Those of a block, uint8[m, stride], where it has some.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    first = 0
    for shard in members:
        for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
            begin, end = np.searchsorted(ascending, (first + start, first + stop))
            if begin < end:
                block = Block(shard, index, start, stop)
                records = np.concatenate([piece.copy() for piece in reader.records(block)])
                yield records[ascending[begin:end] - first - start]
        first += shard.records
