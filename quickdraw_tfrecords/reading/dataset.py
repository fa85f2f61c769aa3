"""Reading a data set: `open_dataset()` says what is in it, `load()` gives a `tf.data.Dataset`.

    info = open_dataset("data")
    for images, labels in load("data", "train", batch_size=1024, shuffle=True, epoch=3):
        ...  # uint8[1024, 28, 28, 1], int32[1024]

The order of an epoch is a pure function of the seed and the epoch (when streaming, of the sizes
of batch and window too): there is no iterator state to save, and `start_step` begins anywhere.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format import manifest, shards
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.reading import in_memory, streaming, tfds_folder
from quickdraw_tfrecords.reading.batching import (
    WINDOW_MIB,
    ChunkShape,
    FillTask,
    UntilExit,
    make_chunks,
)
from quickdraw_tfrecords.reading.blocks import BlockReader, SplitSlice
from quickdraw_tfrecords.reading.epoch import EpochOrder, WorkerSlice

CACHES = ("auto", "memory", "none")

_PREFETCH_CHUNKS = 1


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A data set on disk.

    Attributes:
      directory: Where its files are.
      class_names: The classes in label order.
      num_examples: Drawings of each split.
      side: Height and width of a drawing in pixels.
      manifest: All that the converter said of it; None if another tool wrote it.
    """

    directory: Path
    class_names: tuple[str, ...]
    num_examples: Mapping[str, int]
    side: int
    manifest: Manifest | None

    @property
    def fingerprint(self) -> str:
        """Equal for equal data sets: a checksum of what was converted, and how."""
        facts = self.manifest.request if self.manifest else [self.class_names, self.num_examples]
        return f"{crc32c(json.dumps(facts).encode()):08x}"


def open_dataset(data_dir: str | os.PathLike) -> DatasetInfo:
    """Opens a data set and checks that all its files are there.

    Args:
      data_dir: What was given to the converter as --data_dir, or the directory in it that
        holds the shards.

    Raises:
      DataError: There is no data set, its conversion was not finished, its manifest is
        damaged, or a shard is missing or of another length.
    """
    directory = manifest.find_directory(Path(data_dir))
    if not (directory / manifest.FILE_NAME).exists() and tfds_folder.is_dataset(directory):
        class_names, num_examples, side = tfds_folder.describe(directory)
        return DatasetInfo(directory, class_names, num_examples, side, manifest=None)
    found = manifest.read_manifest(directory)
    for members in found.splits.values():
        for shard in members:
            shards.require_length(directory, shard)
    num_examples = {
        split: sum(shard.records for shard in members) for split, members in found.splits.items()
    }
    return DatasetInfo(directory, found.class_names, num_examples, found.layout.side, found)


def load(
    data_dir: str | os.PathLike,
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
    """Batches of a split: one epoch, or some that follow each other without a pause.

    The same arguments give the same batches, in any process and on any number of threads;
    each epoch has an order of its own. In an epoch each drawing comes exactly once.

    With several workers (`input_context`) each reads an equal, contiguous part of the
    drawings, to within one; `batch_size` is then that of one worker. All get the same
    number of batches: with `drop_remainder` that of the smallest part; without it, a
    worker whose part ends before the others' gives an empty batch at the end.

    Args:
      data_dir: As for `open_dataset`.
      split: "train", "validation" or "test".
      batch_size: Drawings in a batch.
      shuffle: A new random order each epoch; else the order on disk.
      seed: Seed of the order.
      epoch: Which epoch's order.
      epochs: How many epochs, from `epoch` on.
      start_step: Begin at this batch of the first epoch. Costs no more than finding its shard.
      drop_remainder: Leave out the last batch of an epoch if it is not full.
      cache: "memory" keeps the split in memory for the life of the process, and an epoch is
        one full permutation; "none" streams it from the shards, and an epoch is a
        permutation of their blocks, mixed over a window; "auto" is "memory" where the split
        takes no more than `in_memory.MEMORY_SHARE` of the memory available.
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
    info = open_dataset(data_dir)
    numbers = {"batch_size": batch_size, "seed": seed, "epoch": epoch, "start_step": start_step}
    _check(info, split, cache, epochs=epochs, **numbers)
    share = WorkerSlice.of(info.num_examples[split], input_context)
    steps = share.num_steps(batch_size, drop_remainder=drop_remainder)
    with_drawings = -(-len(share) // batch_size)  # others' shares may need one more
    shape = ChunkShape.of(info.side, batch_size, mib=window_mib)
    plan = _open_epochs(info, split, share, cache)

    def tasks() -> Iterator[FillTask]:
        step = start_step
        for number in range(epoch, epoch + epochs):
            stop = min(len(share), steps * batch_size)
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
        lambda: UntilExit(make_chunks(tasks(), shape)), output_signature=chunk
    )
    dataset = dataset.prefetch(_PREFETCH_CHUNKS).flat_map(_batches)
    total = max(0, steps - start_step) + (epochs - 1) * steps
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(total))
    return dataset.with_options(_options())


def _open_epochs(
    info: DatasetInfo, split: str, share: WorkerSlice, cache: str
) -> Callable[[EpochOrder, ChunkShape], Iterator[FillTask]]:
    """What plans the chunks of an epoch."""
    if info.manifest is None:
        return tfds_folder.open_epochs(info.directory, split, share)
    part = SplitSlice.of(info.directory, info.manifest, split, share)
    if cache == "memory" or (cache == "auto" and in_memory.fits(part)):
        return functools.partial(in_memory.fill_tasks, part)
    return functools.partial(streaming.fill_tasks, BlockReader(part))


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
        raise UsageError("cache='device': a Dataset is on the host; use resident.DeviceBatches")
    if cache not in CACHES:
        raise UsageError(f"cache={cache!r}: must be one of {', '.join(CACHES)}")
    for name, value in numbers.items():
        least = 1 if name in ("batch_size", "epochs") else 0
        if value < least:
            raise UsageError(f"{name}={value}: must be at least {least}")
