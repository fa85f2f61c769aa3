"""Fills chunks of batches, a few at a time and ahead of their consumer."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple

from quickdraw_tfrecords.reading.buffers import Buffers
from quickdraw_tfrecords.reading.columns import Columns, count_columns, empty_columns
from quickdraw_tfrecords.reading.epoch import EpochOrder

# Threads take turns running Python, and each turn costs as much as moving a hundred drawings:
# so there are few steps, and they are large.
THREADS = 2
_AHEAD = 3  # chunks being filled or ready
# Larger windows mix more, but shuffling is fast only in what fits a processor's caches.
WINDOW_MIB = 24


class FillTask(NamedTuple):
    """A chunk to be filled.

    Attributes:
      fill: Puts drawings into columns of `size`.
      size: How many.
      given: Which of them are then given, as batches.
    """

    fill: Callable[[Columns], None]
    size: int
    given: slice


class ChunkShape(NamedTuple):
    """What chunks consist of.

    Attributes:
      side: Height and width of a drawing in pixels.
      batch_size: Drawings in a batch.
      rows: Drawings in a chunk, a multiple of `batch_size`.
      num_columns: 2, or with source rows 3.
    """

    side: int
    batch_size: int
    rows: int
    num_columns: int = 2

    @classmethod
    def of(
        cls, side: int, batch_size: int, *, mib: float, with_source_row: bool = False
    ) -> "ChunkShape":
        """As many whole batches as have `mib` MiB of pixels; at least one."""
        batches = max(1, int(mib * 2**20 / side**2 / batch_size))
        columns = count_columns(with_source_row=with_source_row)
        return cls(side, batch_size, batch_size * batches, columns)

    def fill_tasks(
        self, order: EpochOrder, total: int, fill: Callable[[int, Columns], None]
    ) -> Iterator[FillTask]:
        """The chunks of an epoch that have drawings to give.

        The borders of chunks do not depend on where the order starts, so neither does what a
        chunk holds: an epoch that is resumed within a chunk fills all of it, and gives the rest.

        Args:
          order: What to give of the epoch.
          total: Drawings in the whole epoch.
          fill: As that of a `FillTask`, after the position in the epoch of its first drawing.
        """
        if order.start >= order.stop:
            return
        for first in range(order.start // self.rows * self.rows, order.stop, self.rows):
            size = min(self.rows, total - first)
            given = slice(max(0, order.start - first), min(size, order.stop - first))
            yield FillTask(functools.partial(fill, first), size, given)

    def empty_batch(self) -> FillTask:
        """What gives one batch without drawings."""
        return FillTask(lambda columns: None, 0, slice(0, 0))

    def columns(self, size: int, buffers: Buffers) -> Columns:
        """Columns of `size` drawings to fill, the pixels in a buffer."""
        images = buffers.take().reshape(self.rows, self.side**2)[:size]
        return empty_columns(size, self.num_columns, images)

    def cut(self, columns: Columns) -> Iterator[Columns]:
        """The batches in columns of n drawings, as views; no drawings are one empty batch."""
        images = columns[0].reshape(-1, self.side, self.side, 1)
        for start in range(0, max(1, len(images)), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield (images[rows], *(column[rows] for column in columns[1:]))


def make_chunks(tasks: Iterable[FillTask], shape: ChunkShape) -> Iterator[Columns]:
    """Runs tasks, a few at a time, and gives what each has filled, in order.

    Yields:
      Columns of whole batches; the last batch of an epoch may have fewer drawings.
    """
    buffers = Buffers(shape.rows * shape.side**2)

    def run(task: FillTask) -> Columns:
        columns = shape.columns(task.size, buffers)
        task.fill(columns)
        return tuple(column[task.given] for column in columns)

    threads = futures.ThreadPoolExecutor(THREADS)
    try:
        pending = collections.deque[futures.Future[Columns]]()
        for task in tasks:
            pending.append(threads.submit(run, task))
            if len(pending) == _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # A consumer that has had enough need not wait for what it does not take.
        threads.shutdown(wait=False, cancel_futures=True)
