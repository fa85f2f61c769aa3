"""TFDS and plain tf.data, on the very files that our reader reads.

Tuned as https://www.tensorflow.org/guide/data_performance and
https://www.tensorflow.org/datasets/performances advise: parallel interleave and map,
unordered, prefetch. The shuffle comes before the batch, so it moves single records.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.input_peers.contender import BATCH_SIZE, SHUFFLE_BUFFER, Batch, Split

if TYPE_CHECKING:
    import tensorflow as tf

_FILES_AT_ONCE = 16  # as TFDS has it, block length too
_BLOCK_LENGTH = 16


def open_tfds(split: Split) -> Iterator[Batch]:
    """`as_dataset` of the folder; of the features, the label and the image are decoded."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(split.directory)
    dataset = builder.as_dataset(
        split="train",
        shuffle_files=True,
        decoders=tfds.decode.PartialDecoding({"image": True, "label": True}),
        read_config=tfds.ReadConfig(try_autocache=False),  # it is reading that we time
        as_supervised=True,
    )
    dataset = dataset.shuffle(SHUFFLE_BUFFER).repeat().batch(BATCH_SIZE)
    return iter(dataset.prefetch(tf.data.AUTOTUNE))


def open_per_element(split: Split) -> Iterator[Batch]:
    """Interleave, shuffle, parse every record, batch."""
    import tensorflow as tf

    def parse(record: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        parsed = tf.io.parse_single_example(record, _features())
        image = tf.io.decode_raw(parsed["image"], tf.uint8)
        return tf.reshape(image, [split.side, split.side, 1]), parsed["label"]

    dataset = _shuffled_records(split).map(parse, tf.data.AUTOTUNE, deterministic=False)
    return iter(dataset.repeat().batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE))


def open_batched(split: Split) -> Iterator[Batch]:
    """Interleave, shuffle, batch, parse every batch: the fastest that tf.data alone has."""
    import tensorflow as tf

    def parse(records: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        parsed = tf.io.parse_example(records, _features())
        images = tf.io.decode_raw(parsed["image"], tf.uint8)
        return tf.reshape(images, [-1, split.side, split.side, 1]), parsed["label"]

    dataset = _shuffled_records(split).batch(BATCH_SIZE)
    dataset = dataset.map(parse, tf.data.AUTOTUNE, deterministic=False)
    return iter(dataset.repeat().prefetch(tf.data.AUTOTUNE))


def _shuffled_records(split: Split) -> "tf.data.Dataset":
    """An epoch of serialised Examples, one by one."""
    import tensorflow as tf

    files = tf.data.Dataset.from_tensor_slices(split.paths).shuffle(len(split.paths))
    records = files.interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(_FILES_AT_ONCE, len(split.paths)),
        block_length=_BLOCK_LENGTH,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    return records.shuffle(SHUFFLE_BUFFER)


def _features() -> dict[str, "tf.io.FixedLenFeature"]:
    import tensorflow as tf

    return {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
