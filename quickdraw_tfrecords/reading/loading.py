"""A split as a `tf.data.Dataset` of batches.

    for images, labels in load("data", "train", batch_size=1024, shuffle=True, epoch=3):
        ...  # uint8[1024, 28, 28, 1], int32[1024]

The order of an epoch is a pure function of the seed and the epoch (when streaming, of the sizes
of batch and window too): there is no iterator state to save, and `start_step` begins anywhere.
"""

import functools
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading import in_memory, streaming, tfds_folder
from quickdraw_tfrecords.reading.batching import (
    WINDOW_MIB,
    ChunkShape,
    FillTask,
    UntilExit,
    make_chunks,
)
from quickdraw_tfrecords.reading.blocks import BlockReader
from quickdraw_tfrecords.reading.dataset import DatasetInfo, open_dataset
from quickdraw_tfrecords.reading.epoch import EpochOrder, WorkerSlice

CACHES = ("auto", "memory", "none")

_PREFETCH_CHUNKS = 1

# Plans the chunks of an epoch.
_Planner = Callable[[EpochOrder, ChunkShape], Iterator[FillTask]]


def load(
    data: str | os.PathLike[str] | DatasetInfo,
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
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of a split: one epoch, or several without a pause in between.

    The same arguments give the same batches, in any process and on any number of threads;
    each epoch has an order of its own. In an epoch each drawing comes exactly once.

    With several workers (`input_context`) each reads a contiguous slice of the drawings; the
    slices differ by one drawing at most, and `batch_size` is that of one worker. All get the
    same number of batches: with `drop_remainder` that of the smallest slice; without it, a
    worker whose slice ends before the others' gives an empty batch at the end.

    Args:
      data: An open data set, or its path, as for `open_dataset`. Of a path the manifest is
        read, and the shards are looked for, in each call.
      split: "train", "validation" or "test".
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
      window_mib: MiB of pixels that are shuffled over at once when streaming; in all, about five
        times as much is held.
      input_context: The worker's place among several, as `tf.distribute` gives it.

    Returns:
      Batches of (uint8[batch, side, side, 1], int32[batch]). Some batches share memory: to
      keep one for long, keep a copy.

    Raises:
      UsageError: An argument is out of range.
      DataError: As `open_dataset`. A damaged shard raises a `tf.errors.OpError` that names
        it, from the iteration that first touches it.
    """
    info = data if isinstance(data, DatasetInfo) else open_dataset(data)
    numbers = {"batch_size": batch_size, "seed": seed, "epoch": epoch, "start_step": start_step}
    _check(info, split, cache, epochs=epochs, **numbers)
    worker_slice = WorkerSlice.of(info.num_examples[split], input_context)
    steps = worker_slice.num_steps(batch_size, drop_remainder=drop_remainder)
    with_drawings = -(-len(worker_slice) // batch_size)  # other workers may need one more
    shape = ChunkShape.of(info.side, batch_size, mib=window_mib)
    plan = _choose_planner(info, split, worker_slice, cache)

    def fill_tasks() -> Iterator[FillTask]:
        step = start_step
        for number in range(epoch, epoch + epochs):
            stop = min(len(worker_slice), steps * batch_size)
            yield from plan(
                EpochOrder(step * batch_size, stop, seed if shuffle else None, number), shape
            )
            if max(step, with_drawings) < steps:
                yield shape.empty_batch()
            step = 0

    chunk = (
        tf.TensorSpec([None, None, info.side, info.side, 1], tf.uint8),
        tf.TensorSpec([None, None], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: UntilExit(make_chunks(fill_tasks(), shape)), output_signature=chunk
    )
    dataset = dataset.prefetch(_PREFETCH_CHUNKS).flat_map(_batches)
    total = max(0, steps - start_step) + (epochs - 1) * steps
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(total))
    return dataset.with_options(_options())


def _choose_planner(
    info: DatasetInfo, split: str, worker_slice: WorkerSlice, cache: str
) -> _Planner:
    if info.manifest is None:
        return tfds_folder.open_epochs(info.directory, split, worker_slice)
    split_slice = info.split_slice(split, worker_slice)
    if in_memory.resolve_cache(cache, split_slice) == "memory":
        return functools.partial(in_memory.fill_tasks, split_slice)
    return functools.partial(streaming.fill_tasks, BlockReader(split_slice))


@tf.autograph.experimental.do_not_convert
def _batches(images: tf.Tensor, labels: tf.Tensor) -> tf.data.Dataset:
    """The batches of a chunk: slices of it, not copies."""
    return tf.data.Dataset.from_tensor_slices((images, labels))


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There is nothing to tune or rewrite in so short a pipeline.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


def _check(info: DatasetInfo, split: str, cache: str, **numbers: int) -> None:
    if split not in info.num_examples:
        raise UsageError(f"split={split!r}: {info.directory} has {', '.join(info.num_examples)}")
    if cache == "device":
        raise UsageError("cache='device': a Dataset is on the host; use on_device.DeviceBatches")
    if cache not in CACHES:
        raise UsageError(f"cache={cache!r}: must be one of {', '.join(CACHES)}")
    for name, value in numbers.items():
        least = 1 if name in ("batch_size", "epochs") else 0
        if value < least:
            raise UsageError(f"{name}={value}: must be at least {least}")
