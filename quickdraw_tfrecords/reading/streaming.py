"""An epoch streamed from the shards, shuffled over a window, in bounded memory.

Blocks of shards are read in random order, and each drawing is put into its random place in a
window, which is a chunk of batches already. Nothing is parsed, and no drawing is handled alone.

In the order of blocks, every shard gives one of its blocks before any gives its next. So a
window of any size holds drawings of several shards, and where a drawing is on disk says next
to nothing about when it comes. Three shards A, B and C of two blocks each, for example:

    first turn     B1  A0  C1        a random shard order, a random block of each
    second turn    C0  A1  B0        the blocks that are left, in the reverse order
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from quickdraw_tfrecords.reading.blocks import Block, Reader, SplitSlice
from quickdraw_tfrecords.reading.chunks import ChunkShape, FillTask
from quickdraw_tfrecords.reading.columns import Columns
from quickdraw_tfrecords.reading.epoch import EpochOrder

# The first windows of an epoch are smaller, so that it begins at once.
_FIRST_WINDOW = 1 / 8
_GROWTH = 2


def fill_tasks(
    split_slice: SplitSlice, reader: Reader, order: EpochOrder, shape: ChunkShape
) -> Iterator[FillTask]:
    """The windows of an epoch, each a chunk, that have drawings to give.

    What a window holds does not depend on where the order starts: an epoch that is resumed
    within a window fills all of it, and gives the rest.

    A task raises `DataError` if a shard is missing, of another length, or changed.

    Args:
      split_slice: Whose epoch it is.
      reader: Of its blocks.
      order: What to give of it.
      shape: Of the windows.
    """
    blocks = split_slice.blocks
    if order.seed is not None:
        blocks = _shuffle(blocks, order)
    ends = np.cumsum([len(block) for block in blocks])
    windows = list(itertools.pairwise(_borders(len(split_slice), shape)))
    begin = next((first for first, stop in windows if order.start < stop), 0)
    end = next((stop for _, stop in windows if order.stop <= stop), 0)
    reader = reader.along(_cut(blocks, ends, begin, end))

    def fill(number: int, columns: Columns) -> None:
        # Stream 0 orders the blocks; each window has a stream of its own.
        shuffled = order.seed is not None
        places = order.permutation(len(columns[0]), stream=1 + number) if shuffled else None
        reader.read(_cut(blocks, ends, *windows[number]), columns, places=places)

    for number, (first, stop) in enumerate(windows):
        start, end = max(order.start, first), min(order.stop, stop)
        if start < end:
            given = slice(start - first, end - first)
            waits = not reader.knows(_cut(blocks, ends, first, stop))
            yield FillTask(functools.partial(fill, number), stop - first, given, waits)


def _borders(total: int, shape: ChunkShape) -> Iterator[int]:
    """Where the windows of an epoch begin, and where the last ends.

    What fits one window is one, so that all of it is mixed.
    """
    yield 0
    full = shape.rows // shape.batch_size  # batches
    batches = full if total <= shape.rows else max(1, int(full * _FIRST_WINDOW))
    first = 0
    while first < total:
        first += batches * shape.batch_size
        yield min(first, total)
        batches = min(full, batches * _GROWTH)


def _cut(blocks: Sequence[Block], ends: np.ndarray, start: int, stop: int) -> Iterator[Block]:
    """The blocks, or parts of them, with the records [start, stop) of their sequence.

    Args:
      blocks: The sequence.
      ends: How many records it has up to the end of each block, int64[blocks].
      start: The first record.
      stop: The one after the last.
    """
    for index in range(np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop) + 1):
        block = blocks[index]
        offset = int(ends[index]) - block.stop  # from a record of the block to the sequence's
        begin, end = max(block.start, start - offset), min(block.stop, stop - offset)
        yield Block(block.shard, block.index, begin, end)


def _shuffle(blocks: tuple[Block, ...], order: EpochOrder) -> tuple[Block, ...]:
    """A random order in which every shard gives one block before any gives its next.

    Every second turn is the reverse of the one before. Were each turn drawn anew, a shard that
    happens to come early in most turns would come early in the epoch as a whole.
    """
    numbers: dict[str, int] = {}  # of the shards
    rows = [numbers.setdefault(block.shard.name, len(numbers)) for block in blocks]
    most = max((len(block.shard.block_bounds) - 1 for block in blocks), default=0)
    # A worker's slice may begin or end within a shard, and lack some of its blocks.
    table = np.full((len(numbers), most), -1)
    table[rows, [block.index for block in blocks]] = np.arange(len(blocks))
    generator = order.generator(stream=0)
    indices = generator.permuted(_ranges(len(numbers), most), axis=1)
    turns = generator.permuted(_ranges(most, len(numbers)), axis=1)
    turns[1::2] = turns[: most // 2 * 2 : 2, ::-1]
    shuffled = table[turns, indices[turns, np.arange(most)[:, np.newaxis]]]
    return tuple(blocks[number] for number in shuffled[shuffled >= 0])


def _ranges(count: int, n: int) -> np.ndarray:
    """int64[count, n]: 0 to n - 1 in each row."""
    return np.tile(np.arange(n), (count, 1))
