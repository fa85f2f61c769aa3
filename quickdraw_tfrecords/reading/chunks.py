"""Fills chunks of batches, a few at a time and ahead of their consumer."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple

from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.reading.columns import Columns, count_columns, empty_columns

# Threads take turns running Python, and each turn costs as much as moving a hundred drawings:
# so there are few steps, and they are large.
THREADS = 2
# Chunks being filled or ready; with the one in use, five. Where all processors are busy filling, a
# consumer comes to its turn a millisecond late, and meanwhile there has to be something to fill.
AHEAD = 4
# Larger windows mix more, but shuffling is fast only in what fits a processor's caches.
WINDOW_MIB = 24


class FillTask(NamedTuple):
    """A chunk to be filled.

    Attributes:
      fill: Puts drawings into columns of `size`.
      size: How many.
      given: Which of them are then given, as batches.
      waits: Whether it is likely to wait for a disk, so that others can go on meanwhile.
    """

    fill: Callable[[Columns], None]
    size: int
    given: slice
    waits: bool = False


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

    def empty_batch(self) -> FillTask:
        """What gives one batch without drawings."""
        return FillTask(lambda columns: None, 0, slice(0, 0))

    def columns(self, size: int, buffers: Buffers) -> Columns:
        """Columns of `size` drawings to fill, the pixels in a buffer."""
        images = buffers.take(self.rows * self.side**2).reshape(-1, self.side**2)[:size]
        return empty_columns(size, self.num_columns, images)

    def fill(self, task: FillTask, buffers: Buffers) -> Columns:
        """What a task gives, n drawings: the pixels as uint8[n, side, side, 1]."""
        columns = self.columns(task.size, buffers)
        task.fill(columns)
        images, *others = (column[task.given] for column in columns)
        return (images.reshape(-1, self.side, self.side, 1), *others)

    def cut(self, given: Columns) -> Iterator[Columns]:
        """The batches in n drawings, as views; no drawings are one empty batch."""
        for start in range(0, max(1, len(given[0])), self.batch_size):
            yield tuple(column[start : start + self.batch_size] for column in given)


def make_chunks(
    tasks: Iterable[FillTask], shape: ChunkShape, buffers: Buffers
) -> Iterator[Columns]:
    """Runs tasks, a few at a time, and gives what each has filled, in order.

    Args:
      tasks: What to run.
      shape: Of the chunks.
      buffers: Memory for their pixels.

    Yields:
      Columns of whole batches; the last batch of an epoch may have fewer drawings.
    """
    tasks = iter(tasks)
    # The first is filled here, and given before others are begun: with other threads at work its
    # consumer would wait for its turn to run Python.
    for task in itertools.islice(tasks, 1):
        yield shape.fill(task, buffers)
    few, many = map(futures.ThreadPoolExecutor, (THREADS, AHEAD))
    try:
        pending = collections.deque[futures.Future[Columns]]()
        for task in tasks:
            threads = many if task.waits else few
            pending.append(threads.submit(shape.fill, task, buffers))
            if len(pending) == AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # A consumer that has had enough need not wait for what it does not take.
        for threads in few, many:
            threads.shutdown(wait=False, cancel_futures=True)
