"""An epoch streamed from the shards, shuffled over a window, in bounded memory.

Blocks of shards are read into a window, whose drawings are then taken in random order.
Nothing is parsed, and no drawing is handled alone.

In the order of blocks, every shard gives one of its blocks before any gives its next. So a
window of any size holds drawings of several shards, and where a drawing is on disk says next
to nothing of when it comes.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator
from concurrent import futures

import numpy as np

from quickdraw_tfrecords.reader import Block, BlockReader, Order, Part, Window
from quickdraw_tfrecords.records import RecordLayout

# Larger ones mix more, but only what a processor's caches hold is gathered from fast.
WINDOW_MIB = 16


def windows(part: Part, order: Order, *, window_mib: float) -> Iterator[Window]:
    """The drawings of an epoch, `window_mib` at a time.

    A window is valid until the next is asked for.

    Raises:
      DataError: A shard is missing, of another length, or changed; names it.
    """
    plans = list(_plan_windows(part, order, window_mib))  # not their permutations, which are large
    most = max((plan.size for plan in plans), default=0)
    buffers = itertools.cycle([np.empty((most, part.layout.stride), np.uint8) for _ in range(2)])
    reader = BlockReader(part)
    with futures.ThreadPoolExecutor(1) as thread:
        ahead = collections.deque[futures.Future]()
        for plan in plans:
            ahead.append(thread.submit(_read, reader, part.layout, order, plan, next(buffers)))
            if len(ahead) == 2:
                yield ahead.popleft().result()
        for window in ahead:
            yield window.result()


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A window before it is read.

    Attributes:
      number: Its place among the windows of the epoch, from 1.
      blocks: What to read.
      given: Which places of its random order to give; all but for the first and last window.
    """

    number: int
    blocks: tuple[Block, ...]
    given: slice

    @property
    def size(self) -> int:
        """How many records are read."""
        return sum(map(len, self.blocks))


def _plan_windows(part: Part, order: Order, window_mib: float) -> Iterator[_Plan]:
    """The windows that have drawings to give."""
    first = 0  # of the window, by its place in the epoch
    for number, blocks in enumerate(_deal(part, order, window_mib), start=1):
        size = sum(map(len, blocks))
        if first < order.stop and order.start < first + size:
            yield _Plan(
                number, tuple(blocks), slice(max(0, order.start - first), order.stop - first)
            )
        first += size


def _deal(part: Part, order: Order, window_mib: float) -> Iterator[list[Block]]:
    """Which blocks stand together in which window; at least one in each."""
    window: list[Block] = []
    room = capacity = window_mib * 2**20 // part.layout.stride
    for block in part.blocks if order.seed is None else _shuffle(part.blocks, order):
        if window and len(block) > room:
            yield window
            window, room = [], capacity
        window.append(block)
        room -= len(block)
    if window:
        yield window


def _shuffle(blocks: tuple[Block, ...], order: Order) -> Iterator[Block]:
    """A random order in which every shard gives one block before any gives its next.

    Every second turn is the reverse of the one before, so no shard comes early on the whole.
    """
    by_place = {(block.shard.name, block.index): block for block in blocks}
    names = list(dict.fromkeys(block.shard.name for block in blocks))
    most = max((len(block.shard.prefix_crc32c) for block in blocks), default=0)
    generator = order.generator(stream=0)
    indices = generator.permuted(_ranges(len(names), most), axis=1)
    turns = generator.permuted(_ranges(most, len(names)), axis=1)
    turns[1::2] = turns[: most // 2 * 2 : 2, ::-1]
    for number, turn in enumerate(turns):
        for member in turn:
            block = by_place.get((names[member], int(indices[member, number])))
            if block:
                yield block


def _ranges(count: int, n: int) -> np.ndarray:
    """int64[count, n]: 0 to n - 1 in each row."""
    return np.tile(np.arange(n), (count, 1))


def _read(
    reader: BlockReader, layout: RecordLayout, order: Order, plan: _Plan, buffer: np.ndarray
) -> Window:
    """Reads the blocks of a window one after the other."""
    matrix, start = buffer[: plan.size], 0
    for block in plan.blocks:
        reader.read(block, matrix[start : start + len(block)])
        start += len(block)
    rows = order.permutation(plan.size, stream=plan.number)[plan.given]
    return Window(matrix, layout.image.columns, layout.labels(matrix), rows)
