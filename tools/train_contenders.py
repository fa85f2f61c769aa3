"""The two sides of the training benchmark, and what the machine could do at most."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer import models
from trainer.config import Config
from trainer.training import distribution, optimizers, precision
from trainer.training.interruption import Pace
from trainer.training.precision import LossScale
from trainer.training.steps import TrainSteps
from trainer.training.totals import TOP_K


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a side: how long it took, and how much of that it waited for batches."""

    secs: float
    input_secs: float = 0.0


class CustomLoop:
    """The trainer's steps, driven as its loop drives them through an epoch.

    Attributes:
      model: What is trained.
      policy: Its precision.
    """

    def __init__(
        self, data_dir: str | Path, model_name: str, batch_size: int, precision_flag: str
    ) -> None:
        config = _default_config(data_dir)
        self.policy, _ = precision.choose(precision_flag, agree=float)
        self._pace_limit = config.steps_per_loop
        self._strategy = distribution.create_strategy("one_device")
        with self._strategy.scope():
            self.model = _build(data_dir, model_name, self.policy)
            optimizer = optimizers.create(config, steps_per_epoch=1)
            optimizer.build(self.model.trainable_variables)
            self._steps = TrainSteps(
                self.model,
                optimizer,
                LossScale(self.policy),
                config,
                jit_compile=bool(tf.config.list_logical_devices("GPU")),
            )
        self._batches = distribution.distribute(
            self._strategy, lambda _, size: _epochs(data_dir, size), batch_size
        )

    def run(self, steps: int) -> Trial:
        """Takes the first steps of an epoch."""
        start = time.perf_counter()
        with self._strategy.scope():
            batches = iter(self._batches)
            pace, left = Pace(self._pace_limit, agree=lambda secs: secs), steps
            while left:
                left -= pace.call(lambda count: self._call(batches, count), left)
        secs = time.perf_counter() - start
        input_secs = float(self._steps.input_secs.numpy())
        self._steps.input_secs.assign(0.0)
        return Trial(secs, input_secs)

    def _call(self, batches: tf.distribute.DistributedIterator, steps: int) -> None:
        self._steps.run(batches, tf.constant(steps, tf.int64))
        self._steps.first_bad_step.numpy()  # what the loop has to wait for


class KerasFit:
    """The same with `compile` and `fit`, in float32, and with Keras' own layers.

    Attributes:
      model: What is trained.
    """

    def __init__(self, data_dir: str | Path, model_name: str, batch_size: int) -> None:
        self.model = with_layers_of_keras(_build(data_dir, model_name, "float32"))
        self.model.compile(
            keras.optimizers.Adam(_default_config(data_dir).learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[
                keras.metrics.SparseCategoricalAccuracy(name="top1"),
                keras.metrics.SparseTopKCategoricalAccuracy(TOP_K, name="top3"),
            ],
        )
        self._batches = (
            _epochs(data_dir, batch_size)
            .map(
                lambda images, labels: (tf.cast(images, tf.float32) / 255.0, labels),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .prefetch(tf.data.AUTOTUNE)
        )

    def run(self, steps: int) -> Trial:
        """Takes the first steps of an epoch; setting `fit` up before it does not count."""
        timer = _EpochTimer()
        self.model.fit(
            self._batches, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[timer]
        )
        return Trial(timer.secs)


class _EpochTimer(keras.callbacks.Callback):
    def on_epoch_begin(self, *_: object) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, *_: object) -> None:
        self.secs = time.perf_counter() - self._start


def training_flops(model: keras.Model) -> int:
    """Floating-point operations of dense and convolution layers in a step, for one drawing.

    A layer is as much work for the gradient of its kernel, and as much again for that of its
    input, as it is forward; but the images need no gradient.
    """
    multiplications = [
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        for layer in model.layers
        if hasattr(layer, "kernel")
    ]
    return 2 * (3 * sum(multiplications) - multiplications[0])


def _default_config(data_dir: str | Path) -> Config:
    """The trainer's settings as they are when none is given."""
    return Config(data_dir=Path(data_dir), run_dir=Path("unused"))


def _build(data_dir: str | Path, name: str, policy: str) -> keras.Model:
    """A model for a data set, with the same initial weights each time."""
    info = qt.open_dataset(data_dir)
    keras.utils.set_random_seed(0)
    with models.dtype_policy(policy):
        if name == "tiny":
            return _build_tiny(info)
        return models.get(name)(side=info.side, num_classes=len(info.class_names), dropout=None)


def with_layers_of_keras(model: keras.Model) -> keras.Model:
    """A copy with the same weights, in which every layer that Keras has too is Keras' own."""

    def copy(layer: layers.Layer) -> layers.Layer:
        bases = [base for base in type(layer).__mro__ if base.__module__.startswith("keras.")]
        kind: Any = type(layer) if bases[0] is layers.Layer else bases[0]
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=copy)
    clone.set_weights(model.get_weights())
    return clone


def _build_tiny(info: DatasetInfo) -> keras.Model:
    """So little work that what a step costs besides rules."""
    return keras.Sequential(
        [
            keras.Input([info.side, info.side, 1]),
            layers.Flatten(),
            layers.Dense(len(info.class_names), dtype="float32", name="logits"),
        ]
    )


def _epochs(data_dir: str | Path, batch_size: int) -> tf.data.Dataset:
    """The training split for ever, shuffled, in uint8 batches."""
    num_examples = qt.open_dataset(data_dir).num_examples["train"]
    if num_examples < batch_size:
        raise UsageError(
            f"--batch_size={batch_size} is more than the {num_examples:,} drawings of the "
            "training split"
        )
    return qt.load(data_dir, "train", batch_size, shuffle=True, drop_remainder=True).repeat()
