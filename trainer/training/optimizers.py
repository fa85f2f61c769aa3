"""Optimizers and learning-rate schedules of Keras, from the settings."""

from typing import Any

import keras
import tensorflow as tf

from trainer.config import Config
from trainer.training import keras_internals
from trainer.training.muon import Muon

# Names of weights, as Keras' layers have them. To shrink biases and the scales of normalization
# restrains nothing that a network overfits with.
_NOT_DECAYED = ["bias", "gamma", "beta"]


def create(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that a config names; its learning rate is a variable or a schedule."""
    arguments: dict[str, Any] = {
        "name": config.optimizer,  # or Keras numbers it, and a checkpoint's names vary
        "learning_rate": _learning_rate(config, steps_per_epoch),
    }
    if config.weight_decay is not None:
        arguments["weight_decay"] = config.weight_decay
    if config.optimizer == "muon":
        arguments |= _of_muon(config)
    # Not keras.optimizers.get(), which does not know all that there are.
    classes = {name.lower(): value for name, value in vars(keras.optimizers).items()}
    optimizer = {**classes, "muon": Muon}[config.optimizer](**arguments)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    if isinstance(optimizer, keras.optimizers.Adam):  # AdamW too
        keras_internals.fuse_adam(optimizer)
    return optimizer


def _of_muon(config: Config) -> dict[str, Any]:
    """What only Muon takes: a weight decay for the weights it leaves to AdamW, and which."""
    arguments: dict[str, Any] = {"exclude_layers": ["logits"]}  # its authors spare the last layer
    if config.weight_decay is not None:
        arguments["adam_weight_decay"] = config.weight_decay
    return arguments


def _learning_rate(
    config: Config, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A number for plateau and constant; for the others a function of the step."""
    if config.schedule in ("plateau", "constant"):
        return config.learning_rate
    warmup = 0 if config.schedule == "cosine" else config.warmup_epochs
    if config.schedule == "one_cycle":
        return OneCycle(
            config.learning_rate,
            peak_step=round(warmup * steps_per_epoch),
            last_step=config.epochs * steps_per_epoch,
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=round(warmup * steps_per_epoch),
        decay_steps=max(1, round((config.epochs - warmup) * steps_per_epoch)),
    )


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly from 0 to a peak, and falls linearly to 0.

    Smith and Topin, 2017 (arXiv:1708.07120), without the change of momentum.
    """

    def __init__(self, peak: float, *, peak_step: int, last_step: int) -> None:
        """Takes the highest rate, and the steps, from 0, at which it is reached and it is over."""
        self._peak, self._peak_step, self._last_step = peak, peak_step, last_step

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The rate of a step, float32[]."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / (self._peak_step + 1)
        falling = (self._last_step - step) / (self._last_step - self._peak_step)
        return self._peak * tf.maximum(tf.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments it was made with."""
        return {
            "peak": self._peak,
            "peak_step": self._peak_step,
            "last_step": self._last_step,
        }
