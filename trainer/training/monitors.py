"""When to reduce the learning rate and when to stop, decided from one metric per epoch.

    plateau, stopping = ReduceLROnPlateau(), EarlyStopping()
    for epoch in range(epochs):
        ...  # train and validate
        learning_rate = plateau.update(val_loss, learning_rate)
        if stopping.update(epoch, val_loss):
            break

Both decide what the Keras callbacks of the same names decide, for the same settings and the
same metrics as Python floats (which is what `fit` gives its callbacks), but they need no model
and no TensorFlow, and their state can be saved and restored. The defaults are those of the
study, whose metric is the validation loss; what it leaves open is as in Keras.
"""

import math
from typing import Any, ClassVar

from quickdraw_tfrecords.base.errors import UsageError
from trainer.epochs import is_improvement, round_to_float32

_NON_FINITE = ("nan", "inf", "-inf")


class _Monitor:
    """The best metric so far, the epochs since, and how both are saved."""

    _counters: ClassVar[tuple[str, ...]]  # what a subclass has to save beside `best`

    def __init__(self, patience: int, mode: str, min_delta: float):
        _require_count("patience", patience)
        _require("mode", mode, mode in ("min", "max"), "'min' or 'max'")
        _require("min_delta", min_delta, math.isfinite(min_delta), "finite")
        self.patience = patience
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self.wait = 0

    def state_dict(self) -> dict[str, Any]:
        """The state, without the settings, as values of strict JSON.

        `best` is None before the first metric, a number if finite (JSON keeps all its digits),
        and else "nan", "inf" or "-inf". The other values are non-negative integers.
        """
        return {"best": _encode(self.best)} | {name: getattr(self, name) for name in self._counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state that `state_dict` gave, as if there had been no break.

        Raises:
          ValueError: A key is missing or unknown, or a value is unfit. Nothing is changed then.
        """
        keys = self.state_dict().keys()
        if not isinstance(state, dict) or state.keys() != keys:
            raise ValueError(
                f"state of {type(self).__name__}: {state!r} must be a dictionary with exactly the "
                f"keys {', '.join(keys)}, as state_dict() gives it"
            )
        counters = {name: state[name] for name in self._counters}
        for name, value in counters.items():
            if not _is_count(value):
                raise ValueError(f"state: {name}={value!r} must be a non-negative integer")
        vars(self).update(counters, best=_decode(state["best"]))

    def _is_improvement(self, metric: float, reference: float | None) -> bool:
        return is_improvement(metric, reference, mode=self.mode, min_delta=self.min_delta)


class ReduceLROnPlateau(_Monitor):
    """Reduces the learning rate when the metric has not improved for some epochs.

    What may surprise is as in Keras: the best metric is kept when the rate is reduced; the epoch
    that ends a cooldown already counts as one without improvement, so `cooldown=1` does what 0
    does; `patience=0` does what 1 does; and at `min_lr` epochs without improvement still count, so
    a rate raised by hand is reduced in the next of them.

    Attributes:
      best: The best metric so far, or None before the first. A NaN that comes first stays.
      wait: Epochs without improvement since the best, the last reduction or the cooldown.
      cooldown_left: Epochs of cooldown still to come.
    """

    _counters = ("wait", "cooldown_left")

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 5,
        mode: str = "min",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        """Starts with no metric seen.

        Args:
          factor: A reduction multiplies the learning rate by this.
          patience: Epochs without improvement that bring about a reduction.
          mode: "min" if less is better, "max" if more is.
          min_delta: See `is_improvement`.
          cooldown: Epochs after a reduction in which none are counted, the last excepted.
          min_lr: The learning rate is not reduced below this.

        Raises:
          UsageError: A setting out of range (of these, Keras refuses a factor of 1 or more).
        """
        super().__init__(patience, mode, min_delta)
        _require("factor", factor, 0 < factor < 1, "above 0 and below 1")
        _require_count("cooldown", cooldown)
        _require("min_lr", min_lr, 0 <= min_lr < math.inf, "at least 0 and finite")
        self.factor = factor
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.cooldown_left = 0

    def update(self, metric: float, learning_rate: float) -> float:
        """Takes the metric of an epoch and gives the learning rate of the next.

        Args:
          metric: The value of this epoch, NaN and infinities included.
          learning_rate: The learning rate of this epoch.

        Returns:
          The learning rate, reduced or not, rounded to float32 as an optimizer holds it.
        """
        metric, learning_rate = float(metric), round_to_float32(learning_rate)
        if self.cooldown_left:
            self.cooldown_left -= 1
        if self._is_improvement(metric, self.best):
            self.best = metric
            self.wait = 0
        elif not self.cooldown_left:
            self.wait += 1
            if self.wait >= self.patience:
                return self._reduce(learning_rate)
        return learning_rate

    def _reduce(self, learning_rate: float) -> float:
        # `min_lr` itself is float64, and a rate that was set to it may have been rounded up.
        if not learning_rate > round_to_float32(self.min_lr):
            return learning_rate
        self.cooldown_left = self.cooldown
        self.wait = 0
        return round_to_float32(max(learning_rate * self.factor, self.min_lr))


class EarlyStopping(_Monitor):
    """Says when to stop, because the metric has not improved for some epochs.

    What may surprise is as in Keras: an epoch with the best metric so far never stops, nor does
    epoch 0; `patience=0` does what 1 does; and with a baseline, only a best metric that also
    beats the baseline starts the count of epochs again.

    Attributes:
      best: The best metric so far, or None before the first. A NaN that comes first stays.
      best_epoch: The epoch of the best metric; 0 before the first.
      wait: Epochs since the best, or since it last beat the baseline if there is one.
    """

    _counters = ("wait", "best_epoch")

    def __init__(
        self,
        patience: int = 6,
        mode: str = "min",
        min_delta: float = 0.0,
        baseline: float | None = None,
        start_from_epoch: int = 0,
    ):
        """Starts with no metric seen.

        Args:
          patience: Epochs without improvement after which to stop.
          mode: "min" if less is better, "max" if more is.
          min_delta: See `is_improvement`.
          baseline: A metric that must be beaten within `patience` epochs, or None.
          start_from_epoch: Metrics of earlier epochs (counted from 0) are ignored.

        Raises:
          UsageError: A setting out of range.
        """
        super().__init__(patience, mode, min_delta)
        is_finite = baseline is None or math.isfinite(baseline)
        _require("baseline", baseline, is_finite, "finite, or None")
        _require_count("start_from_epoch", start_from_epoch)
        self.baseline = baseline
        self.start_from_epoch = start_from_epoch
        self.best_epoch = 0

    def update(self, epoch: int, metric: float) -> bool:
        """Takes the metric of an epoch.

        Args:
          epoch: The index of the epoch, from 0; it continues after a resume.
          metric: The value of this epoch, NaN and infinities included.

        Returns:
          Whether to stop training now.
        """
        metric = float(metric)
        if epoch < self.start_from_epoch:
            return False
        self.wait += 1
        if self._is_improvement(metric, self.best):
            self.best = metric
            self.best_epoch = epoch
            if self.baseline is None or self._is_improvement(metric, self.baseline):
                self.wait = 0
            return False
        return self.wait >= self.patience and epoch > 0


def _encode(metric: float | None) -> float | str | None:
    return metric if metric is None or math.isfinite(metric) else str(metric)


def _decode(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) or value in _NON_FINITE:
        return float(value)
    raise ValueError(f"state: best={value!r} must be null, a number, or one of {_NON_FINITE}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _require_count(name: str, value: Any) -> None:
    _require(name, value, _is_count(value), "a non-negative integer")


def _require(name: str, value: Any, is_valid: bool, requirement: str) -> None:
    if not is_valid:
        raise UsageError(f"{name}={value!r}: must be {requirement}")
