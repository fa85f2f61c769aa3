"""Reading a data set: `open_dataset()` says what is in it, `load()` gives a `tf.data.Dataset`.

    info = open_dataset("data")
    for images, labels in load("data", "train", batch_size=1024, shuffle=True, epoch=3):
        ...  # uint8[1024, 28, 28, 1], int32[1024]

The order of an epoch is a pure function of (seed, epoch): there is no iterator state to
save, and `start_step` begins anywhere.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from quickdraw_tfrecords import foreign, manifest, resident, shards, streaming
from quickdraw_tfrecords.errors import UsageError
from quickdraw_tfrecords.manifest import Manifest
from quickdraw_tfrecords.reader import Order, Part, Share

CACHES = ("auto", "memory", "none")

_PREFETCH_BATCHES = 2


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
        return f"{shards.crc32c(json.dumps(facts).encode()):08x}"


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
    if not (directory / manifest.FILE_NAME).exists() and foreign.is_dataset(directory):
        class_names, num_examples, side = foreign.describe(directory)
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
    start_step: int = 0,
    drop_remainder: bool = False,
    cache: str = "auto",
    window_mib: float = streaming.WINDOW_MIB,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """One epoch of a split.

    The same arguments give the same batches, in any process and on any number of threads;
    another `epoch` gives another order. Each drawing comes exactly once.

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
      start_step: Begin at this batch of the epoch. Costs no more than finding its shard.
      drop_remainder: Leave out the last batch if it is not full.
      cache: "memory" keeps the split in memory for the life of the process, and an epoch is
        one full permutation; "none" streams it from the shards, and an epoch is a
        permutation of the shards, mixed over a window; "auto" is "memory" where the split
        takes no more than `resident.MEMORY_SHARE` of the memory available.
      window_mib: Memory that is shuffled over at once when streaming; twice as much is held.
      input_context: The worker's place among several, as `tf.distribute` gives it.

    Returns:
      Batches of (uint8[batch, side, side, 1], int32[batch]).

    Raises:
      UsageError: An argument is out of range.
      DataError: As `open_dataset`. A damaged shard raises a `tf.errors.OpError` that names
        it, from the iteration that first touches it.
    """
    info = open_dataset(data_dir)
    _check(info, split, cache, batch_size=batch_size, seed=seed, epoch=epoch, start_step=start_step)
    share = Share.of(info.num_examples[split], input_context)
    steps = share.num_steps(batch_size, drop_remainder=drop_remainder)
    with_drawings = min(steps, -(-len(share) // batch_size))  # others' shares may need one more
    stop_step = max(start_step, with_drawings)
    order = Order(batch_size, start_step, stop_step, shuffle, seed=(seed, epoch))
    if info.manifest is None:
        dataset = foreign.batches(info.directory, split, share, info.side, order)
    else:
        part = Part.of(info.directory, info.manifest, split, share)
        if cache == "memory" or (cache == "auto" and resident.fits(part)):
            dataset = resident.batches(part, order)
        else:
            dataset = streaming.batches(part, order, window_mib=window_mib)
    if steps > stop_step:
        dataset = dataset.concatenate(_empty_batches(info.side, steps - stop_step))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(max(0, steps - start_step)))
    return dataset.prefetch(_PREFETCH_BATCHES).with_options(_options())


def _empty_batches(side: int, count: int) -> tf.data.Dataset:
    images = tf.zeros([count, 0, side, side, 1], tf.uint8)
    return tf.data.Dataset.from_tensor_slices((images, tf.zeros([count, 0], tf.int32)))


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There is nothing to tune or rewrite in so short a pipeline, and to rewrite it TensorFlow
    # would first copy the tensors it refers to: the whole split, where it is in memory.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    # Batches are gathered two at a time; splitting each over threads only adds hand-overs.
    options.threading.max_intra_op_parallelism = 1
    return options


def _check(info: DatasetInfo, split: str, cache: str, **numbers: int) -> None:
    if split not in info.num_examples:
        raise UsageError(f"split={split!r}: {info.directory} has {', '.join(info.num_examples)}")
    if cache == "device":
        raise UsageError("cache='device': a Dataset is on the host; use resident.DeviceBatches")
    if cache not in CACHES:
        raise UsageError(f"cache={cache!r}: must be one of {', '.join(CACHES)}")
    for name, value in numbers.items():
        least = 1 if name == "batch_size" else 0
        if value < least:
            raise UsageError(f"{name}={value}: must be at least {least}")
