"""Optimizers and learning-rate schedules of Keras, from the flags."""

import keras

from quickdraw_tfrecords.errors import UsageError
from trainer.flags import Config


def create(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that the flags name; its learning rate is a variable or a schedule.

    Raises:
      UsageError: Keras has no such optimizer, or it does not take what the flags ask of it.
    """
    arguments = {"learning_rate": _learning_rate(config, steps_per_epoch)}
    if config.weight_decay:
        arguments["weight_decay"] = config.weight_decay
    if config.ema:
        arguments |= {"use_ema": True, "ema_momentum": config.ema}
    try:
        return keras.optimizers.get({"class_name": config.optimizer, "config": arguments})
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--optimizer={config.optimizer}: {reason}") from None


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
