"""At which side an epoch trains, and which is the best: that whose weights are kept."""

import math
from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.training.test_steps import make_config
from trainer import epochs

# Few values, so that some are equal.
_METRICS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, math.nan]), max_size=8)


class _Model:
    """Notes when a callback of Keras saves it."""

    def __init__(self) -> None:
        self.saved: int | None = None
        self.epoch = 0

    def save_weights(self, *_: Any, **__: Any) -> None:
        self.saved = self.epoch


def _saved_by_keras(metrics: list[float], mode: str) -> int | None:
    """The epoch, from 1, whose weights `ModelCheckpoint` leaves; None if it saves none.

    Epochs with NaN are kept from it, which would take the first for the best ever after.
    """
    checkpoint = keras.callbacks.ModelCheckpoint(
        "x.weights.h5", monitor="metric", mode=mode, save_best_only=True, save_weights_only=True
    )
    model = _Model()
    checkpoint.set_model(model)
    for model.epoch, metric in enumerate(metrics, start=1):
        if not math.isnan(metric):
            checkpoint.on_epoch_end(model.epoch - 1, {"metric": metric})
    return model.saved


def _history(metrics: list[float], monitor: str) -> list[dict[str, float]]:
    return [{"epoch": epoch, monitor: metric} for epoch, metric in enumerate(metrics, start=1)]


@pytest.mark.parametrize(
    ("sides", "count", "expected"),
    [
        ((), 2, [None, None]),
        ((20, 28), 4, [20, 20, 28, 28]),
        ((20, 28), 5, [20, 20, 20, 28, 28]),
        ((16, 20, 28), 7, [16, 16, 16, 20, 20, 28, 28]),
        ((16, 20, 28), 2, [16, 20]),
    ],
)
def test_each_side_has_its_part_of_the_epochs(sides, count, expected):
    found = [epochs.side_of_epoch(sides, epoch, count) for epoch in range(count)]
    assert found == expected


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_top1"])
@given(metrics=_METRICS)
def test_the_best_epoch_is_that_which_keras_saves(monitor, metrics):
    config = make_config(monitor=monitor, epochs=9)
    found = epochs.best(_history(metrics, monitor), config)
    assert (found and found["epoch"]) == _saved_by_keras(metrics, config.mode)


@given(metrics=_METRICS.filter(bool))
def test_of_several_sides_only_the_last_counts(metrics):
    """What was the best at another side, says nothing at this one."""
    config = make_config(epochs=8, train_sides=(16, 20, 28), early_stopping_patience=-1)
    history = _history(metrics, "validation_loss")
    of_epochs = [epochs.side_of_epoch(config.train_sides, epoch, 8) for epoch in range(8)]
    starts = [of_epochs.index(side) for side in config.train_sides if of_epochs.index(side)]
    expected = None
    for start, end in zip([0, *starts], [*starts, 8], strict=True):
        within = _saved_by_keras(metrics[start:end], "min")
        expected = expected if within is None else start + within
    found = epochs.best(history, config)
    assert (found and found["epoch"]) == expected


def test_a_history_without_what_is_monitored_has_no_best_epoch():
    assert epochs.best([{"epoch": 1, "train_loss": 0.5}], make_config()) is None
