"""Data sets with the same features that another tool wrote: any TFDS folder of TFRecords.

Their records may differ in length, so they are parsed, a batch at a time. That is far slower
than fixed-stride shards; convert such a data set with --source=tfds to get their speed.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from absl import logging

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.reading.batching import ChunkShape, FillTask
from quickdraw_tfrecords.reading.epoch import EpochOrder, WorkerSlice

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_SHUFFLE_EXAMPLES = 100_000


def is_dataset(directory: Path) -> bool:
    """Whether TFDS' metadata is there."""
    return (directory / "dataset_info.json").exists() and (directory / "features.json").exists()


def describe(directory: Path) -> tuple[tuple[str, ...], dict[str, int], int]:
    """The class names, drawings of each split, and side of the drawings.

    Raises:
      DataError: Its features are not those of drawings, or it is this project's own and has
        lost its manifest, without which damage would go unnoticed.
    """
    import tensorflow_datasets as tfds

    info = _builder(directory).info
    if "source_row" in info.features:
        raise DataError(
            f"{directory}: has no {manifest.FILE_NAME}, though its shards were written with one; "
            "restore it from a copy, or convert again with --overwrite"
        )
    features = dict(info.features.items())
    image, label = features.get("image"), features.get("label")
    shape, names = getattr(image, "shape", None), getattr(label, "names", None)
    if not shape or shape != (shape[0], shape[0], 1) or names is None:
        raise DataError(
            f"{directory}: must have the features image (side, side, 1) and label (classes)"
        )
    if isinstance(image, tfds.features.Image):
        raise DataError(
            f"{directory}: its images are compressed; convert it first: "
            f"python -m quickdraw_tfrecords --source=tfds --source_dir={directory} --data_dir=..."
        )
    counts = {name: split.num_examples for name, split in info.splits.items()}
    return tuple(names), counts, shape[0]


def open_epochs(
    directory: Path, split: str, worker_slice: WorkerSlice
) -> Callable[[EpochOrder, ChunkShape], Iterator[FillTask]]:
    """What gives the drawings of an epoch, a batch at a time.

    The order is random only within a buffer of 100,000 drawings, and the drawings before
    `order.start` are read and dropped.
    """
    logging.log_first_n(
        logging.WARNING,
        "%s was not written by this project's converter: its records are parsed one by one. "
        "Convert it with --source=tfds for speed.",
        1,
        directory,
    )
    files = sorted(str(path) for path in _builder(directory).info.splits[split].filepaths)
    return functools.partial(_fill_tasks, files, worker_slice)


def _fill_tasks(
    files: list[str], worker_slice: WorkerSlice, order: EpochOrder, shape: ChunkShape
) -> Iterator[FillTask]:
    # Each worker's slice is cut before the shuffle, which would otherwise mix the slices.
    records = tf.data.TFRecordDataset(files)
    dataset = records.skip(worker_slice.start).take(len(worker_slice))
    # A file that was cut between two records would pass for a shorter one.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(worker_slice)))
    if order.seed is not None:
        shuffle_seed = order.generator(stream=0).integers(2**31)
        dataset = dataset.shuffle(_SHUFFLE_EXAMPLES, seed=int(shuffle_seed))
    dataset = dataset.take(order.stop).skip(order.start).batch(shape.batch_size)
    for batch in dataset.map(_parse).prefetch(1).as_numpy_iterator():
        count = len(batch[1])
        yield FillTask(functools.partial(_copy, batch), count, slice(0, count))


def _copy(batch: tuple[np.ndarray, np.ndarray], images: np.ndarray, labels: np.ndarray) -> None:
    images[:], labels[:] = batch


def _parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    parsed = tf.io.parse_example(records, _FEATURES)
    return tf.io.decode_raw(parsed["image"], tf.uint8), tf.cast(parsed["label"], tf.int32)


def _builder(directory: Path) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory)


_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
