"""Training by Keras' `fit`, with its own layers and callbacks, after a recipe of the trainer."""

import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import callbacks, metrics

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from tools import train_contenders
from trainer import models
from trainer.config import Config
from trainer.epochs import side_of_epoch
from trainer.losses import to_float
from trainer.training import optimizers, precision, resolution
from trainer.training.totals import TOP_K

_STEPS_PER_EXECUTION = 25
_MONITORS = {
    "validation_loss": "val_cross_entropy",
    "validation_top1": "val_top1",
    "validation_top3": "val_top3",
}


def fit(config: Config, *, tuned: bool) -> dict[str, Any]:
    """Trains and tests.

    Returns:
      loss, top1 and top3 of the test split; curve: for each epoch the time at its end, in
      seconds since 1970, and top-1 of the validation split.
    """
    keras.utils.set_random_seed(config.seed)
    info = config.open_dataset()
    policy = precision.choose("auto", agree=float)[0] if tuned else "float32"
    model = _build(config, info, policy)
    optimizer = _optimizer(config, info.num_examples["train"] // config.batch_size)
    watchers, clock = _callbacks(config), _Clock()
    for side, first, end in parts(config.train_sides or (info.side,), config.epochs):
        smaller = resolution.at_side(model, side)
        steps = _STEPS_PER_EXECUTION if tuned else 1
        smaller.compile(optimizer, _loss(config), metrics=_metrics(), steps_per_execution=steps)
        smaller.fit(
            _batches(config, "train", side),
            validation_data=_batches(config, "validation", side),
            initial_epoch=first,
            epochs=end,
            verbose=2,
            callbacks=[*watchers, clock],
        )
    model.load_weights(_weights(config))
    model.compile(loss=_loss(config), metrics=_metrics())
    found = model.evaluate(_batches(config, "test", info.side), verbose=0, return_dict=True)
    result = {"loss": found["cross_entropy"], "top1": found["top1"], "top3": found["top3"]}
    return {**result, "curve": clock.curve}


def parts(sides: tuple[int, ...], epochs: int) -> Iterator[tuple[int, int, int]]:
    """Each side with its first epoch, and the one after its last, as the trainer has them."""
    of_epochs = [side_of_epoch(sides, epoch, epochs) for epoch in range(epochs)]
    for side in dict.fromkeys(of_epochs):
        first = of_epochs.index(side)
        yield side or 0, first, first + of_epochs.count(side)


def _build(config: Config, info: DatasetInfo, policy: str) -> keras.Model:
    with models.dtype_policy(policy):
        build = models.get(config.model)
        model = build(side=info.side, num_classes=info.num_classes, dropout=config.dropout)
        return train_contenders.with_layers_of_keras(model)


def _batches(config: Config, split: str, side: int) -> tf.data.Dataset:
    """Batches of floats of a side, and labels; of the training split in a new order each epoch."""
    images = qt.load(
        config.data_dir,
        split,
        config.batch_size,
        shuffle=split == "train",
        seed=config.seed,
        drop_remainder=split == "train",
    )

    def prepare(pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        floats = to_float(pixels)
        return floats if side == pixels.shape[1] else resolution.resize(floats, side), labels

    return images.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The recipe's; of the study's, what a user writes."""
    if config.optimizer == "adam" and config.schedule == "plateau":
        return keras.optimizers.Adam(config.learning_rate)
    return optimizers.create(config, steps_per_epoch)


def _loss(config: Config) -> keras.losses.Loss:
    if not config.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return _SmoothedLoss(config.label_smoothing)


class _SmoothedLoss(keras.losses.Loss):
    """Keras' loss with label smoothing, which takes no plain labels."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self._smoothing = smoothing

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        targets = keras.ops.one_hot(keras.ops.reshape(labels, [-1]), logits.shape[-1])
        return keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True, label_smoothing=self._smoothing
        )


def _metrics() -> list[keras.Metric]:
    return [
        metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True),
        metrics.SparseCategoricalAccuracy(name="top1"),
        metrics.SparseTopKCategoricalAccuracy(TOP_K, name=f"top{TOP_K}"),
    ]


def _callbacks(config: Config) -> list[keras.callbacks.Callback]:
    """What does in `fit` what the flags ask for."""
    watched = {"monitor": _MONITORS[config.monitor], "mode": config.mode}
    best = callbacks.ModelCheckpoint(
        _weights(config), save_best_only=True, save_weights_only=True, **watched
    )
    found: list[keras.callbacks.Callback] = [best]
    if config.schedule == "plateau":
        reduce = callbacks.ReduceLROnPlateau(
            factor=config.plateau_factor, patience=config.plateau_patience, **watched
        )
        found.append(reduce)
    if config.early_stopping_patience >= 0:
        found.append(callbacks.EarlyStopping(patience=config.early_stopping_patience, **watched))
    return found


def _weights(config: Config) -> str:
    return str(config.run_dir / "best.weights.h5")


class _Clock(keras.callbacks.Callback):
    """When epochs ended, and how good they were."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.curve.append((time.time(), float(logs["val_top1"])))
