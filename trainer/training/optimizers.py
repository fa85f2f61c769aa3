"""Optimizers and learning-rate schedules of Keras, from the flags."""

import functools

import keras
import tensorflow as tf

from trainer.flags import Config


def create(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that the flags name; its learning rate is a variable or a schedule."""
    arguments = {
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
        optimizer.update_step = functools.partial(_fused_adam_step, optimizer)
    return optimizer


def _fused_adam_step(
    adam: keras.optimizers.Adam,
    gradient: tf.Tensor,
    variable: tf.Variable,
    learning_rate: tf.Tensor,
) -> None:
    """What `Adam.update_step` does to a variable, in one op that goes over it once.

    Keras takes fifteen, each of which writes a tensor: a twentieth of the study's step.
    """
    index = adam._get_variable_index(variable)
    step = tf.cast(adam.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=adam._momentums[index].value.handle,
        v=adam._velocities[index].value.handle,
        beta1_power=tf.pow(adam.beta_1, step),
        beta2_power=tf.pow(adam.beta_2, step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        epsilon=adam.epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )


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
