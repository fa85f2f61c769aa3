"""A split as batches of NumPy arrays, or as two arrays. TensorFlow is not imported.

for images, labels in batches("data", "train", batch_size=1024, shuffle=True):
    ...  # uint8[1024, 28, 28, 1], int32[1024]
images, labels = arrays("data", "test")
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator

import numpy as np

from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.reading import in_memory, streaming, tfds_folder
from quickdraw_tfrecords.reading.chunks import WINDOW_MIB, ChunkShape, FillTask, make_chunks
from quickdraw_tfrecords.reading.columns import Columns, count_columns
from quickdraw_tfrecords.reading.dataset import DatasetInfo, open_dataset
from quickdraw_tfrecords.reading.epoch import EpochOrder, Schedule, WorkerSlice

CACHES = ("auto", "memory", "none")


def batches(
    data: str | os.PathLike[str] | Store | DatasetInfo,
    split: str,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    epochs: int = 1,
    start_step: int = 0,
    drop_remainder: bool = False,
    cache: str = "auto",
    window_mib: float = WINDOW_MIB,
    worker: int = 0,
    workers: int = 1,
    with_source_row: bool = False,
) -> "Batches":
    """Batches of a split: one epoch, or several without a pause in between.

    The same arguments give the same batches, in any process and on any number of threads;
    each epoch has an order of its own. In an epoch each drawing comes exactly once. Iterating
    again gives the epochs that follow: `for epoch in range(5): for images, labels in found`
    sees five orders.

    With several workers each reads a contiguous slice of the drawings; the slices differ by one
    drawing at most, and `batch_size` is that of one worker. All get the same number of batches:
    with `drop_remainder` that of the smallest slice; without it, a worker whose slice ends
    before the others' gives an empty batch at the end.

    Every byte is checked each time it is read from a shard, before anything of it is given.

    Args:
      data: An open data set, or its path, as for `open_dataset`. Of a path the manifest is
        read, and the shards are looked for, in each call.
      split: "train", "validation" or "test", or a slice of one: "train[:10%]", "test[1000:]".
        A slice is a fair sample, with each class's share.
      batch_size: Drawings in a batch.
      shuffle: A new random order each epoch; else the order on disk.
      seed: Seed of the order.
      epoch: Which epoch's order.
      epochs: How many epochs, from `epoch` on.
      start_step: Begin at this batch of the first epoch. Costs no more than finding its shard.
      drop_remainder: Leave out the last batch of an epoch if it is not full.
      cache: "memory" keeps the split in memory, and an epoch is one full permutation. It is
        kept for as long as `data` is open; of a path, as long as the result is used. "none"
        streams it from the shards, and an epoch is a permutation of their blocks, mixed over
        a window; "auto" is "memory" where the split takes no more than
        `in_memory.MEMORY_FRACTION` of the memory available.
      window_mib: MiB of pixels that are shuffled over at once when streaming. At most five such
        windows are held at a time, or more where the consumer keeps batches.
      worker: Which of several workers this is, from 0.
      workers: How many share the split.
      with_source_row: Also give the row of each drawing in the source of its class.

    Returns:
      What gives batches of (uint8[batch, side, side, 1], int32[batch]), and of int64[batch]
      source rows where they are asked for, and has a `len`. The arrays are the caller's own, to
      change and to keep. Some share memory: to keep one of them for long, keep a copy.

    Raises:
      UsageError: An argument is out of range.
      DataError: As `open_dataset`. A damaged shard raises it, too, from the iteration that
        reads it.
    """
    info = data if isinstance(data, DatasetInfo) else open_dataset(data)
    _check_cache(cache)
    _check_source_row(info, with_source_row)
    _check_least(1, batch_size=batch_size, epochs=epochs, workers=workers)
    _check_least(0, seed=seed, epoch=epoch, start_step=start_step, worker=worker)
    if worker >= workers:
        raise UsageError(f"worker={worker}: must be below workers={workers}")
    if info.manifest is None:
        tfds_folder.warn_of_speed(info.directory)
    worker_slice = WorkerSlice(info.count(split), workers, worker)
    schedule = Schedule(
        worker_slice=worker_slice,
        batch_size=batch_size,
        steps=worker_slice.num_steps(batch_size, drop_remainder=drop_remainder),
        start_step=start_step,
        seed=seed if shuffle else None,
        epoch=epoch,
        epochs=epochs,
    )
    split_slice = info.split_slice(split, worker_slice)
    make_shape = functools.partial(
        ChunkShape.of, info.side, batch_size, with_source_row=with_source_row
    )
    if in_memory.resolve_cache(cache, split_slice) == "memory":
        plan: _Planner = functools.partial(in_memory.fill_tasks, split_slice)
        shapes = make_shape(mib=in_memory.CHUNK_MIB), make_shape(mib=in_memory.LARGE_CHUNK_MIB)
    else:
        plan = functools.partial(streaming.fill_tasks, split_slice, split_slice.open_reader())
        shapes = (make_shape(mib=window_mib),) * 2
    return Batches(plan, schedule, *shapes, split_slice.state.windows)


def arrays(
    data: str | os.PathLike[str] | Store | DatasetInfo, split: str, *, with_source_row: bool = False
) -> Columns:
    """All of a split as two arrays, in the order on disk.

    Args:
      data: As for `batches`.
      split: As for `batches`.
      with_source_row: Also give the row of each drawing in the source of its class.

    Returns:
      uint8[n, side, side, 1], int32[n], and int64[n] source rows where they are asked for. The
      arrays are the caller's own.

    Raises:
      UsageError: There is no such split.
      DataError: As `open_dataset`; or a shard is damaged.
    """
    info = data if isinstance(data, DatasetInfo) else open_dataset(data)
    _check_source_row(info, with_source_row)
    columns = in_memory.read(
        info.split_slice(split), num_columns=count_columns(with_source_row=with_source_row)
    )
    return (columns[0].reshape(-1, info.side, info.side, 1), *columns[1:])


# Plans the chunks of an epoch.
_Planner = Callable[[EpochOrder, ChunkShape], Iterator[FillTask]]


class Batches:
    """Batches of NumPy arrays, made by `batches`. Iterating again gives the epochs that follow.

    Args:
      plan: Plans the chunks of an epoch.
      schedule: Which batches are given.
      shape: Of the chunks that are filled at a time.
      large_shape: Of those that `tasks` fills.
      buffers: Memory for the pixels of chunks.

    Attributes:
      large_shape: As given.
    """

    def __init__(
        self,
        plan: _Planner,
        schedule: Schedule,
        shape: ChunkShape,
        large_shape: ChunkShape,
        buffers: Buffers,
    ) -> None:
        self.large_shape = large_shape
        self._plan, self._schedule, self._shape = plan, schedule, shape
        self._buffers = buffers
        self._iterations = itertools.count()

    def __len__(self) -> int:
        return len(self._schedule)

    @property
    def batch_sizes(self) -> np.ndarray:
        """See `Schedule.batch_sizes`."""
        return self._schedule.batch_sizes

    def __iter__(self) -> Iterator[Columns]:
        chunks = make_chunks(self._fill_tasks(self._shape), self._shape, self._buffers)
        return itertools.chain.from_iterable(map(self._shape.cut, chunks))

    def tasks(self) -> Iterator[Callable[[], Columns]]:
        """An iteration for a consumer with threads of its own, to whom each turn is expensive.

        Returns:
          What fills the chunks, in order, many batches at a time, the pixels as
          uint8[n, side, side, 1].
        """
        shape, buffers = self.large_shape, self._buffers
        tasks = self._fill_tasks(shape)
        return (functools.partial(shape.fill, task, buffers) for task in tasks)

    def _fill_tasks(self, shape: ChunkShape) -> Iterator[FillTask]:
        """An iteration.

        Raises:
          UsageError: It is not the first, the order is random, and it would begin in the middle
            of an epoch: what comes before would never be given.
        """
        iteration = next(self._iterations)
        schedule = self._schedule
        if iteration and schedule.start_step and schedule.seed is not None:
            raise UsageError(
                f"start_step={schedule.start_step}: can be iterated once; for the next epoch "
                f"ask for epoch={schedule.epoch + iteration * schedule.epochs} from its beginning"
            )
        return self._plan_epochs(iteration, shape)

    def _plan_epochs(self, iteration: int, shape: ChunkShape) -> Iterator[FillTask]:
        schedule = self._schedule
        for order in schedule.orders(iteration):
            yield from self._plan(order, shape)
            if schedule.gives_empty_batch and order.start < schedule.steps * schedule.batch_size:
                yield shape.empty_batch()


def _check_cache(cache: str) -> None:
    if cache == "device":
        raise UsageError("cache='device': batches are on the host; use on_device.DeviceBatches")
    if cache not in CACHES:
        raise UsageError(f"cache={cache!r}: must be one of {', '.join(CACHES)}")


def _check_source_row(info: DatasetInfo, with_source_row: bool) -> None:
    if with_source_row and info.manifest is None:
        raise UsageError(
            f"with_source_row=True: another tool wrote {info.directory}, so its records do not "
            "say where drawings come from; convert it with --source=tfds"
        )


def _check_least(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < least:
            raise UsageError(f"{name}={value}: must be at least {least}")
