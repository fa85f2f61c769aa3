"""What a model says of every drawing of a split, kept so that it is asked only once."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from quickdraw_tfrecords.base import progress
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer.losses import cross_entropy, to_float
from trainer.run_directory import archives

TOP = 5

_PIXELS_AT_ONCE = 1024 * 28 * 28

# The dtype of each array, and its shape after the first axis.
_FORMS: dict[str, tuple[Any, ...]] = {
    "labels": (np.int32,),
    "source_rows": (np.int64,),
    "classes": (np.int32, TOP),
    "probabilities": (np.float32, TOP),
    "losses": (np.float32,),
}


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Guesses and losses, parallel to the drawings of a split in the order on disk.

    Attributes:
      labels: int32[n], the true class.
      source_rows: int64[n], the drawing's row in its class's source; -1 if not known.
      classes: int32[n, TOP], the most probable classes, best first; -1 beyond the last class.
      probabilities: float32[n, TOP], theirs; 0 beyond the last class.
      losses: float32[n], the cross-entropy of each drawing.
    """

    labels: NDArray[np.int32]
    source_rows: NDArray[np.int64]
    classes: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether the first guess is the drawing's class, bool[n]."""
        return np.equal(self.classes[:, 0], self.labels)


def predict(model: keras.Model, info: DatasetInfo, split: str) -> Predictions:
    """Asks a model about every drawing of a split.

    Args:
      model: From float32[n, side, side, 1] in [0, 1] to logits, float32[n, classes].
      info: The data set.
      split: "train", "validation" or "test".

    Raises:
      DataError: The split is empty, or a shard is missing or damaged; names it.
    """
    count = info.num_examples[split]
    if not count:
        raise DataError(f"{info.directory}: its split {split} has no drawings to evaluate on")
    with progress.bar(split, total=count, unit="drawings") as bar:
        parts = []
        for part in _predict_parts(model, info, split):
            parts.append(part)
            bar.update(len(part))
    fields = [field.name for field in dataclasses.fields(Predictions)]
    return Predictions(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def _predict_parts(model: keras.Model, info: DatasetInfo, split: str) -> Iterator[Predictions]:
    guess, size = _compile(model, info.side), max(1, _PIXELS_AT_ONCE // info.side**2)
    for read in drawings.read_all(info, split):
        for start in range(0, len(read.labels), size):
            images, labels, rows = (array[start : start + size] for array in read)
            guesses = [tensor.numpy() for tensor in guess(images[..., np.newaxis], labels)]
            yield Predictions(labels, rows, *guesses)


def _compile(model: keras.Model, side: int) -> Callable[..., tuple[tf.Tensor, ...]]:
    def guess(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = model(to_float(images), training=False)
        top = min(TOP, logits.shape[-1])
        # By the logits, which differ where probabilities are equal after rounding.
        classes = tf.math.top_k(logits, top).indices
        probabilities = tf.gather(tf.nn.softmax(logits), classes, batch_dims=1)
        missing = [[0, 0], [0, TOP - top]]
        return (
            tf.pad(classes, missing, constant_values=-1),
            tf.pad(probabilities, missing),
            cross_entropy(labels, logits),
        )

    specs = [tf.TensorSpec([None, side, side, 1], tf.uint8), tf.TensorSpec([None], tf.int32)]
    compiled: Callable[..., tuple[tf.Tensor, ...]] = tf.function(guess, input_signature=specs)
    return compiled


def write(predictions: Predictions, path: Path) -> None:
    """Writes an .npz file of the arrays by name, atomically."""
    with atomic_write(path) as file:
        np.savez(file, **vars(predictions))


def read(path: Path) -> Predictions:
    """Reads what `write` wrote.

    Raises:
      DataError: The file is missing or damaged.
    """
    try:
        arrays = archives.read(path)
        found = Predictions(*(arrays[field.name] for field in dataclasses.fields(Predictions)))
        _require_parallel(found)
    except (DataError, OSError, KeyError) as error:
        raise DataError(
            f"{path}: not whole predictions ({error}); make them again with quickdraw evaluate"
        ) from None
    return found


def _require_parallel(found: Predictions) -> None:
    n = len(found.labels) if found.labels.ndim else 0
    for name, (dtype, *shape) in _FORMS.items():
        array: NDArray[Any] = getattr(found, name)
        if array.dtype != dtype or array.shape != (n, *shape):
            raise DataError(f"{name} is {array.dtype!s:.60} of shape {array.shape!s:.60}")
