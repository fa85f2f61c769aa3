"""The epochs of a run: at which side each trains, and which is the best.

It takes the settings and the history alone, so that the trainer, which saves the weights of the
best epoch, and all who read of a run later name the same one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainer.config import Config

_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)


def side_of_epoch(sides: tuple[int, ...], epoch: int, epochs: int) -> int | None:
    """Which of the sides an epoch, from 0, trains at: each has an equal part of the epochs."""
    return sides[epoch * len(sides) // epochs] if sides else None


def best(history: Sequence[Mapping[str, float]], config: "Config") -> Mapping[str, float] | None:
    """The row of the epoch whose weights are the best checkpoint.

    Args:
      history: A row per epoch, as in history.csv.
      config: Settings of the run: --monitor decides, and where there are --train_sides, what was
        the best at one side gives way to the first epoch of the next, since metrics of drawings
        that were made smaller cannot be compared with others.

    Returns:
      One of the rows; None if none has a number for what is monitored.
    """
    found: Mapping[str, float] | None = None
    for row in history:
        if math.isnan(row.get(config.monitor, math.nan)):
            continue
        if found and _side(row, config) != _side(found, config):
            found = None
        reference = found[config.monitor] if found else None
        if is_improvement(row[config.monitor], reference, mode=config.mode):
            found = row
    return found


def _side(row: Mapping[str, float], config: "Config") -> int | None:
    return side_of_epoch(config.train_sides, int(row["epoch"]) - 1, config.epochs)


def is_improvement(
    metric: float, reference: float | None, *, mode: str = "min", min_delta: float = 0.0
) -> bool:
    """Whether `metric` is better than `reference` by more than `|min_delta|`.

    As in Keras, the delta is applied in float64 and the results are compared as float32, so a
    difference that float32 cannot hold is none; and as in TensorFlow on a CPU, where Keras
    compares them, subnormal numbers count as zero. Nothing is better than NaN, nor is NaN better
    than a number, but anything is better than None.

    Args:
      metric: The value of this epoch.
      reference: The value to beat, or None while there is none.
      mode: "min" if less is better, "max" if more is.
      min_delta: The least change that counts, itself not included; its sign is ignored.
    """
    if reference is None:
        return True
    if mode == "min":
        return _as_compared(metric + abs(min_delta)) < _as_compared(reference)
    return _as_compared(metric - abs(min_delta)) > _as_compared(reference)


def round_to_float32(value: float) -> float:
    """The nearest float32; beyond its range that is an infinity."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _as_compared(value: float) -> float:
    value = round_to_float32(value)
    # TensorFlow's CPU kernels run with denormals flushed; to numpy they are numbers.
    return 0.0 if abs(value) < _SMALLEST_NORMAL else value
