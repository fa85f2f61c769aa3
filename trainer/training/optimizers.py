"""Optimizers and learning-rate schedules of Keras, from the settings."""

from typing import Any

import keras

from trainer.config import Config
from trainer.training import keras_internals


def create(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that a config names; its learning rate is a variable or a schedule."""
    arguments: dict[str, Any] = {
        "name": config.optimizer,  # or Keras numbers it, and a checkpoint's names vary
        "learning_rate": _learning_rate(config, steps_per_epoch),
    }
    if config.weight_decay is not None:
        arguments["weight_decay"] = config.weight_decay
    if config.ema:
        arguments |= {"use_ema": True, "ema_momentum": config.ema}
    # Not keras.optimizers.get(), which does not know all that there are.
    classes = {name.lower(): value for name, value in vars(keras.optimizers).items()}
    optimizer = classes[config.optimizer](**arguments)
    if isinstance(optimizer, keras.optimizers.Adam):  # AdamW too
        keras_internals.fuse_adam(optimizer)
    return optimizer


def _learning_rate(
    config: Config, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A number for plateau and constant; for the others a function of the step."""
    if config.schedule in ("plateau", "constant"):
        return config.learning_rate
    warmup = config.warmup_epochs if config.schedule == "warmup_cosine" else 0
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=round(warmup * steps_per_epoch),
        decay_steps=max(1, round((config.epochs - warmup) * steps_per_epoch)),
    )
