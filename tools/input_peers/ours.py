"""This project's own readers, for TensorFlow and for others."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import quickdraw_tfrecords as qt
from tools.input_peers.contender import BATCH_SIZE, Batch, Split

_ENDLESS = 10**6  # epochs
_STEPS = 32  # of a compiled loop


def open_resident(split: Split) -> Iterator[Batch]:
    """A `tf.data.Dataset`, with the split in memory."""
    return iter(qt.load(split.directory, epochs=_ENDLESS, **_held(split)))


def open_streaming(split: Split) -> Iterator[Batch]:
    """A `tf.data.Dataset` from the shards, in bounded memory."""
    return iter(qt.load(split.directory, epochs=_ENDLESS, **_streamed(split)))


def open_resident_loop(split: Split) -> Iterator[Batch]:
    """As `open_resident`, taken by a compiled loop."""
    return _in_a_loop(qt.load(split.directory, epochs=_ENDLESS, **_held(split)))


def open_streaming_loop(split: Split) -> Iterator[Batch]:
    """As `open_streaming`, taken by a compiled loop."""
    return _in_a_loop(qt.load(split.directory, epochs=_ENDLESS, **_streamed(split)))


def _in_a_loop(dataset: Any) -> Iterator[Batch]:
    """As the trainer takes batches: Python sees the end of a loop over many of them.

    Yields:
      The last batch of a loop, and the labels of all.
    """
    import tensorflow as tf

    batches = iter(dataset)

    @tf.function
    def loop() -> Batch:
        images, batch_labels = next(batches)
        labels = tf.TensorArray(tf.int32, size=_STEPS, infer_shape=False).write(0, batch_labels)
        for step in tf.range(1, _STEPS):
            images, batch_labels = next(batches)
            labels = labels.write(step, batch_labels)
        return images, labels.concat()

    while True:
        yield loop()


def open_batches(split: Split) -> Iterator[Batch]:
    """NumPy arrays, with the split in memory."""
    return iter(qt.batches(split.directory, epochs=_ENDLESS, **_held(split)))


def open_batches_streaming(split: Split) -> Iterator[Batch]:
    """NumPy arrays from the shards, in bounded memory."""
    return iter(qt.batches(split.directory, epochs=_ENDLESS, **_streamed(split)))


def open_torch(split: Split) -> Iterator[Batch]:
    """PyTorch's DataLoader over what we read."""
    from torch.utils.data import DataLoader

    from quickdraw_tfrecords.reading.for_torch import TorchBatches

    dataset = TorchBatches(split.directory, epochs=_ENDLESS, **_held(split))
    return iter(DataLoader(dataset, batch_size=None))


def open_jax(split: Split) -> Iterator[Batch]:
    """What we read, put on JAX's device two batches ahead."""
    from quickdraw_tfrecords.reading.for_jax import prefetch_to_device

    return prefetch_to_device(qt.batches(split.directory, epochs=_ENDLESS, **_held(split)))


def epochs_of(
    read: str, options: Callable[[Split], dict[str, Any]], split: Split
) -> Callable[[int], Iterable[Batch]]:
    """What begins an epoch of `qt.load` or `qt.batches` over an open data set."""
    info = qt.open_dataset(split.directory)
    return lambda epoch: getattr(qt, read)(info, epoch=epoch, **options(split))


def _held(split: Split) -> dict[str, Any]:
    return {"split": "train", "batch_size": BATCH_SIZE, "shuffle": True, "cache": "memory"}


def _streamed(split: Split) -> dict[str, Any]:
    return _held(split) | {"cache": "none", "window_mib": split.window_mib}


RESIDENT_EPOCHS = functools.partial(epochs_of, "load", _held)
STREAMING_EPOCHS = functools.partial(epochs_of, "load", _streamed)
BATCHES_EPOCHS = functools.partial(epochs_of, "batches", _held)
BATCHES_STREAMING_EPOCHS = functools.partial(epochs_of, "batches", _streamed)
