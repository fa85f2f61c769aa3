"""How training goes within an epoch."""

import math

import numpy as np
import pytest
from tqdm import tqdm

from trainer.training import meter
from trainer.training.meter import Meter


class Totals:
    """The sums of steps whose losses are given."""

    def __init__(self) -> None:
        self.values = np.zeros(4)

    def step(self, loss: float, top1: float) -> None:
        self.values += np.array([loss, top1, 1.0, 1.0]) * 8

    def sums(self) -> np.ndarray:
        return self.values.copy()


class Log:
    def __init__(self) -> None:
        self.points = []

    def add_point(self, step, values) -> None:
        self.points.append((step, values))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def _meter(totals: Totals, log: Log, *, every_secs: float) -> Meter:
    return Meter(
        log,
        totals,
        lambda: {"learning_rate": 0.5},
        batch_size=8,
        every_secs=every_secs,
        last_step=100,
    )


def _run(clock: Clock, every_secs: float, losses: list[float], secs_per_step: float = 1.0):
    totals, log = Totals(), Log()
    measured = _meter(totals, log, every_secs=every_secs)
    measured.begin(0)
    with tqdm(total=len(losses), disable=True) as bar:
        for step, loss in enumerate(losses, start=1):
            totals.step(loss, 0.5)
            clock.now += secs_per_step
            measured.update(bar, step)
    measured.add_point(len(losses))
    return log.points


def test_a_point_is_the_mean_since_the_last_one(clock):
    points = _run(clock, 2.0, [4.0, 2.0, 1.0, 1.0, 0.5])
    assert [(step, values["loss"]) for step, values in points] == [(2, 3.0), (4, 1.0), (5, 0.5)]
    assert all(values["top1"] == 0.5 for _, values in points)
    assert all(values["learning_rate"] == 0.5 for _, values in points)
    assert all(values["examples_per_second"] == 8.0 for _, values in points)


@pytest.mark.parametrize("every_secs", [0, 1000])
def test_an_epoch_has_a_point_at_its_end(clock, every_secs):
    assert [step for step, _ in _run(clock, every_secs, [1.0] * 7)] == [7]


def test_there_is_no_point_of_no_steps(clock):
    assert [step for step, _ in _run(clock, 1.0, [1.0] * 3)] == [1, 2, 3]


def test_a_resumed_epoch_begins_with_its_sums(clock):
    totals, log = Totals(), Log()
    totals.step(9.0, 0.5)
    measured = _meter(totals, log, every_secs=0)
    measured.begin(1)
    totals.step(1.0, 0.5)
    clock.now += 1
    measured.add_point(2)
    assert log.points[0][1]["loss"] == 1.0


def test_the_bar_shows_the_means_of_the_epoch_and_when_the_run_ends(clock, tmp_path):
    totals, log = Totals(), Log()
    measured = _meter(totals, log, every_secs=0)
    measured.begin(0)
    shown = []
    with open(tmp_path / "bar", "w") as file, tqdm(total=10, file=file) as bar:
        for step, loss in ((1, 4.0), (2, 2.0), (3, 3.0)):
            totals.step(loss, 0.25)
            clock.now += 2.0 if step > 1 else 60.0  # the first step is compiled
            measured.update(bar, step)
            shown.append(bar.postfix)
    assert shown == [
        "loss 4.0000 top1 0.2500",
        "loss 3.0000 top1 0.2500, run ends in 0:03:16",
        "loss 3.0000 top1 0.2500, run ends in 0:03:14",
    ]


def test_no_examples_make_no_mean():
    assert all(math.isnan(value) for value in meter.Totals.means_of(np.zeros(4)).values())
