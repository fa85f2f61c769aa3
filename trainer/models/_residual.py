"""Residual networks (He et al., 2015, arXiv:1512.03385) for small drawings of any side.

Every width is a multiple of 16, as matrix units want it. A residual branch begins as zero, so
that a network begins as a shallow one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import layers

from trainer.layers.dropout import Dropout
from trainer.layers.normalization import BatchNormalization
from trainer.layers.spatial import GridPooling2D, SpaceToDepth

_CELLS = 3  # of the grid that features are averaged in, each way
_SQUEEZE = 4  # how many times fewer channels the gates are computed with


class Stage(NamedTuple):
    """Blocks of one resolution, half of that of the stage before.

    Attributes:
      width: Channels.
      blocks: Residual blocks.
    """

    width: int
    blocks: int


def build(
    name: str,
    stages: Sequence[Stage],
    *,
    side: int,
    num_classes: int,
    dropout: float,
    gates: bool = False,
) -> keras.Model:
    """Makes a network.

    Args:
      name: The model's name.
      stages: The first is at half of the drawing's resolution.
      side: Height and width of a drawing in pixels.
      num_classes: Number of logits.
      dropout: Rate before the last layer.
      gates: Whether blocks weigh their channels by what is in all of the drawing (squeeze and
        excitation; Hu et al., 2017, arXiv:1709.01507).

    Returns:
      float[batch, side, side, 1] -> float32 logits [batch, num_classes].
    """
    inputs = keras.Input([side, side, 1], name="image")
    x = SpaceToDepth(2, name="stem")(inputs)
    for index, stage in enumerate(stages, start=1):
        x = _convolve(x, stage.width, f"stage{index}", strides=1 if index == 1 else 2)
        for block in range(1, stage.blocks + 1):
            x = _block(x, f"stage{index}_block{block}", gates=gates)
    x = GridPooling2D(_CELLS, name="grid")(x)
    x = layers.Flatten(name="flatten")(x)
    x = Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def _convolve(
    x: keras.KerasTensor, width: int, name: str, *, strides: int = 1, is_last: bool = False
) -> keras.KerasTensor:
    """A convolution, normalized, with a ReLU unless it is the last of a residual branch."""
    x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    scale = "zeros" if is_last else "ones"
    x = BatchNormalization(momentum=0.9, gamma_initializer=scale, name=f"{name}_norm")(x)
    return x if is_last else layers.ReLU(name=f"{name}_relu")(x)


def _block(x: keras.KerasTensor, name: str, *, gates: bool) -> keras.KerasTensor:
    width = x.shape[-1]
    branch = _convolve(x, width, f"{name}a")
    branch = _convolve(branch, width, f"{name}b", is_last=True)
    if gates:
        branch = _gate(branch, f"{name}_gate")
    x = layers.Add(name=f"{name}_add")([x, branch])
    return layers.ReLU(name=f"{name}_relu")(x)


def _gate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    width = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    gate = layers.Dense(max(16, width // _SQUEEZE), activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Dense(width, activation="sigmoid", name=f"{name}_excite")(gate)
    return layers.Multiply(name=name)([x, gate])
