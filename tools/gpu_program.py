"""The compiled training step as a program that other compilers take: StableHLO, and its inputs.

TensorFlow traces the step as the trainer does, and gives what it would give to XLA. Variables
are arguments, and those that the step changes are results too.
"""

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from trainer import models
from trainer.config import Config
from trainer.training import optimizers
from trainer.training.precision import LossScale
from trainer.training.steps import TrainSteps

_PARAMETER = re.compile(r"parameter_number = (\d+)")


@dataclasses.dataclass(frozen=True)
class Program:
    """A step as a program.

    Attributes:
      text: Its StableHLO, as MLIR.
      arguments: Shape and dtype of each; images and labels first.
      outputs: For each result, which argument it is the new value of.
      values: The arguments of which there is a value: all but images and labels.
    """

    text: str
    arguments: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[int, ...]
    values: tuple[tf.Tensor, ...]

    def write(self, directory: Path) -> None:
        """Writes what a compiler needs: step.mlir and step.json."""
        (directory / "step.mlir").write_text(self.text)
        facts = {"arguments": self.arguments, "outputs": self.outputs}
        (directory / "step.json").write_text(json.dumps(facts))


def make_steps(
    config: Config,
    policy: str,
    *,
    side: int = 28,
    classes: int = 345,
    jit_compile: bool = True,
) -> TrainSteps:
    """The steps that the trainer would make of a config, without data."""
    keras.utils.set_random_seed(config.seed)
    with models.dtype_policy(policy):
        build = models.get(config.model)
        model = build(side=side, num_classes=classes, dropout=config.dropout)
    optimizer = optimizers.create(config, steps_per_epoch=1000)
    optimizer.build(model.trainable_variables)
    flip_allowed = tf.ones([classes], tf.bool)
    return TrainSteps(
        model,
        optimizer,
        LossScale(policy),
        config,
        flip_allowed=flip_allowed,
        jit_compile=jit_compile,
    )


def export(train_steps: TrainSteps, *, batch_size: int, side: int = 28) -> Program:
    """The step for batches of a size."""
    batch = (
        tf.zeros([batch_size, side, side, 1], tf.uint8),
        tf.zeros([batch_size], tf.int32),
    )
    step: Any = train_steps.replica_step
    with warnings.catch_warnings():
        # By device, which is deprecated: by platform, TensorFlow 2.21 refuses variables.
        warnings.simplefilter("ignore")
        text = step.experimental_get_compiler_ir(*batch)(
            stage="stablehlo", device_name="/device:CPU:0"
        )
    captures = step.get_concrete_function(*batch).graph.captures
    values = tuple(_value(external) for external, _ in captures)
    arguments = tuple(
        (tuple(tensor.shape.as_list()), tensor.dtype.name) for tensor in (*batch, *values)
    )
    return Program(text, arguments, tuple(map(int, _PARAMETER.findall(text))), values)


def _value(captured: tf.Tensor) -> tf.Tensor:
    """A captured tensor, or the value of a captured variable."""
    if captured.dtype != tf.resource:
        return captured
    dtype = tf.dtypes.as_dtype(captured._handle_data.shape_and_type[0].dtype)
    return tf.raw_ops.ReadVariableOp(resource=captured, dtype=dtype)
