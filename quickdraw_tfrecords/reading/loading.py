"""A split as a `tf.data.Dataset` of batches.

    for images, labels in load("data", "train", batch_size=1024, shuffle=True, epoch=3):
        ...  # uint8[1024, 28, 28, 1], int32[1024]

The batches are those of `batches.batches`, which needs no TensorFlow.
"""

import functools
import os
import weakref
from collections.abc import Callable

import tensorflow as tf

from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.reading import numbered
from quickdraw_tfrecords.reading.batches import Batches, batches
from quickdraw_tfrecords.reading.chunks import AHEAD, WINDOW_MIB
from quickdraw_tfrecords.reading.dataset import DatasetInfo


def load(
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
    input_context: tf.distribute.InputContext | None = None,
    with_source_row: bool = False,
) -> tf.data.Dataset:
    """The batches of a split as a `tf.data.Dataset`; see `batches.batches`.

    Iterating again gives the order of the next epoch, as `tf.data.Dataset.shuffle` has it, so
    `model.fit(load(..., shuffle=True), epochs=5)` sees five orders. What a program that keeps
    count itself does instead is to load each epoch by its number, and iterate it once: then the
    batches are a pure function of the arguments, also in a process that resumes.

    Args:
      data: An open data set, or its path.
      split: "train", "validation" or "test", or a slice of one: "train[:10%]".
      batch_size: Drawings in a batch.
      shuffle: A new random order each epoch; else the order on disk.
      seed: Seed of the order.
      epoch: Which epoch's order.
      epochs: How many epochs, from `epoch` on, without a pause in between.
      start_step: Begin at this batch of the first epoch.
      drop_remainder: Leave out the last batch of an epoch if it is not full.
      cache: "memory", "none" or "auto".
      window_mib: MiB of pixels that are shuffled over at once when streaming.
      input_context: The worker's place among several, as `tf.distribute` gives it.
      with_source_row: Also give the row of each drawing in the source of its class.

    Returns:
      Batches of (uint8[batch, side, side, 1], int32[batch]), and of int64[batch] source rows
      where they are asked for; its cardinality is known. Some batches share memory: to keep
      one for long, keep a copy.

    Raises:
      UsageError: An argument is out of range.
      DataError: As `open_dataset`. A damaged shard raises a `tf.errors.OpError` that names
        it, from the iteration that reads it.
    """
    worker, workers = 0, 1
    if input_context:
        worker, workers = input_context.input_pipeline_id, input_context.num_input_pipelines
    source = batches(
        data,
        split,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        epoch=epoch,
        epochs=epochs,
        start_step=start_step,
        drop_remainder=drop_remainder,
        cache=cache,
        window_mib=window_mib,
        worker=worker,
        workers=workers,
        with_source_row=with_source_row,
    )
    return _as_dataset(source)


def _as_dataset(source: Batches) -> tf.data.Dataset:
    number = numbered.add(source)
    build, spec = _graph(source.large_shape.side, source.large_shape.num_columns)
    variant = build(
        tf.constant(number, tf.int64),
        tf.constant(source.batch_sizes, tf.int64),
        tf.constant(len(source), tf.int64),
    )
    dataset = tf.data.experimental.from_variant(variant, spec)
    # An iterator of TensorFlow's keeps its dataset, and a dataset those that it is made from.
    weakref.finalize(dataset, numbered.remove, number).atexit = False
    return dataset


@functools.cache
def _graph(
    side: int, num_columns: int
) -> tuple[Callable[..., tf.Tensor], tuple[tf.TensorSpec, ...]]:
    """What makes a dataset of a source, and what the dataset gives.

    Chunks are filled in Python, by threads of TensorFlow's. What takes a chunk from them, and
    cuts it into batches, is not Python: a consumer that is not either, such as a compiled loop,
    never waits for its turn.

    Each epoch instantiates anew the functions that its dataset calls, and each function takes
    longer than reading a batch. So the dataset is made of few operations, and its functions call
    Python and nothing else: `from_generator` and a `flat_map` over its chunks take four times as
    long.

    Returns:
      A function of the source's number, the sizes of its batches and how many there are, to a
      variant; and the specification of a batch.
    """
    dtypes = (tf.uint8, tf.int32, tf.int64)[:num_columns]
    shapes = ([None, side, side, 1], [None], [None])[:num_columns]
    spec = tuple(map(tf.TensorSpec, shapes, dtypes))
    output_shapes = [one.shape for one in spec]
    one = tf.TensorSpec([], tf.int64)
    begin, plan, end = (
        _trace(call, one, tf.int64) for call in (numbered.begin, numbered.plan, numbered.end)
    )
    fill = _trace(numbered.fill, tf.TensorSpec([2], tf.int64), dtypes)

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.int64) for shape in ([], [None], [])],
        autograph=False,
    )
    def build(number: tf.Tensor, batch_sizes: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        tasks = tf.raw_ops.GeneratorDataset(
            init_func_other_args=[number],
            next_func_other_args=[],
            finalize_func_other_args=[],
            init_func=begin,
            next_func=plan,
            finalize_func=end,
            output_types=[tf.int64],
            output_shapes=[tf.TensorShape([2])],
        )
        chunks = tf.raw_ops.ParallelMapDatasetV2(
            input_dataset=tasks,
            other_arguments=[],
            num_parallel_calls=tf.constant(AHEAD, tf.int64),
            f=fill,
            output_types=dtypes,
            output_shapes=output_shapes,
            deterministic="true",
        )
        # Views of the chunks, which are filled ahead already: to prefetch them would be one more
        # thread to wait for. `Dataset.rebatch` has a `map`, whose function does nothing to them.
        views = tf.raw_ops.RebatchDatasetV2(
            input_dataset=chunks,
            batch_sizes=batch_sizes,
            drop_remainder=False,
            output_types=dtypes,
            output_shapes=output_shapes,
        )
        # Batches of no drawings could be cut from them for ever.
        dataset = tf.data.experimental.from_variant(views, spec).take(length)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
        return tf.data.experimental.to_variant(dataset.with_options(_options()))

    return build, spec


def _trace(
    function: Callable[..., object], spec: tf.TensorSpec, dtypes: object
) -> tf.types.experimental.Callable:
    """A function of TensorFlow's that calls one of Python's with a number, or several."""

    @tf.function(
        input_signature=[spec],
        autograph=False,
        # Runs on one device, the host: then TensorFlow looks for no placement, and has nothing to
        # optimize, which would take most of the time in which an epoch begins.
        experimental_attributes={"experimental_ints_on_device": True},
    )
    def call(numbers: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(function, [numbers], dtypes)

    return call.get_concrete_function()


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There is nothing to tune or rewrite in so short a pipeline.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
