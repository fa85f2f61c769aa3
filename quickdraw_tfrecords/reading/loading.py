"""A split as a `tf.data.Dataset` of batches.

    for images, labels in load("data", "train", batch_size=1024, shuffle=True, epoch=3):
        ...  # uint8[1024, 28, 28, 1], int32[1024]

The batches are those of `batches.batches`, which needs no TensorFlow.
"""

import atexit
import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.reading.batches import Batches, batches
from quickdraw_tfrecords.reading.chunks import WINDOW_MIB
from quickdraw_tfrecords.reading.columns import Columns
from quickdraw_tfrecords.reading.dataset import DatasetInfo

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to learn that there is no more


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


# What datasets read, and what their iterators do, by the numbers that TensorFlow knows them by.
_sources: dict[int, Batches] = {}
_iterations: dict[int, "UntilExit"] = {}
_numbers = itertools.count()


def _as_dataset(source: Batches) -> tf.data.Dataset:
    number = next(_numbers)
    _sources[number] = source
    build, spec = _graph(source.large_shape.side, source.large_shape.num_columns)
    variant = build(
        tf.constant(number, tf.int64),
        tf.constant(source.batch_sizes, tf.int64),
        tf.constant(len(source), tf.int64),
    )
    dataset = tf.data.experimental.from_variant(variant, spec)
    # An iterator of TensorFlow's keeps its dataset, and a dataset those that it is made from.
    weakref.finalize(dataset, _sources.pop, number).atexit = False
    return dataset


@functools.cache
def _graph(
    side: int, num_columns: int
) -> tuple[Callable[..., tf.Tensor], tuple[tf.TensorSpec, ...]]:
    """What makes a dataset of a source, and what the dataset gives.

    Each epoch instantiates anew the functions that its dataset calls, and each function takes
    longer than reading a batch. So the dataset is made of few operations, which call Python and
    nothing else: `from_generator` and a `flat_map` over its chunks take four times as long.

    Returns:
      A function of the source's number, the sizes of its batches and how many there are, to a
      variant; and the specification of a batch.
    """
    dtypes = (tf.uint8, tf.int32, tf.int64)[:num_columns]
    shapes = ([None, side, side, 1], [None], [None])[:num_columns]
    spec = tuple(map(tf.TensorSpec, shapes, dtypes))
    output_shapes = [one.shape for one in spec]
    begin, give, end = _trace(_begin, tf.int64), _trace(_give, dtypes), _trace(_end, tf.int64)

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.int64) for shape in ([], [None], [])],
        autograph=False,
    )
    def build(number: tf.Tensor, batch_sizes: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        chunks = tf.raw_ops.GeneratorDataset(
            init_func_other_args=[number],
            next_func_other_args=[],
            finalize_func_other_args=[],
            init_func=begin,
            next_func=give,
            finalize_func=end,
            output_types=dtypes,
            output_shapes=output_shapes,
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
    function: Callable[[np.int64], object], dtypes: object
) -> tf.types.experimental.Callable:
    """A function of TensorFlow's that calls one of Python's with a number."""

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.int64)],
        autograph=False,
        # Runs on one device, the host: then TensorFlow looks for no placement, and has nothing to
        # optimize, which would take most of the time in which an epoch begins.
        experimental_attributes={"experimental_ints_on_device": True},
    )
    def call(number: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(function, [number], dtypes)

    return call.get_concrete_function()


def _begin(source: np.int64) -> np.int64:
    """Begins an iteration of a source, and gives it a number."""
    number = np.int64(next(_numbers))
    _iterations[int(number)] = UntilExit(_sources[int(source)].chunks())
    return number


def _give(iteration: np.int64) -> Columns:
    """The next chunk of an iteration."""
    return next(_iterations[int(iteration)])


def _end(iteration: np.int64) -> np.int64:
    """Ends an iteration; TensorFlow wants something back."""
    del _iterations[int(iteration)]
    return iteration


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # There is nothing to tune or rewrite in so short a pipeline.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


class UntilExit:
    """Gives chunks until the interpreter exits.

    TensorFlow asks for them from a thread of its own. A thread that is in Python while the
    interpreter shuts down never returns from it, and TensorFlow would wait for it forever: so
    nothing is given once the main thread has ended, and `atexit` waits for the chunk in hand.
    """

    def __init__(self, chunks: Iterator[Columns]) -> None:
        self._chunks = chunks
        self._producing = threading.Lock()
        _live.add(self)

    def __iter__(self) -> "UntilExit":
        return self

    def __next__(self) -> Columns:
        with self._producing:
            try:
                if threading.main_thread().is_alive():
                    return next(self._chunks)
            except RuntimeError:  # the interpreter is exiting: threads take no more work
                if threading.main_thread().is_alive():
                    raise
            raise StopIteration

    def wait(self) -> None:
        """Waits until no chunk is being made."""
        with self._producing:
            pass


# A registry for `atexit`, which calls a function of no arguments: nobody else could know of the
# iterators that TensorFlow holds.
_live: weakref.WeakSet[UntilExit] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for chunks in list(_live):
        chunks.wait()
    if _live:
        time.sleep(_GRACE_SECS)
