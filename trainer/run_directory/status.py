"""How far a run has come, and how good it is: what can be told without TensorFlow."""

import dataclasses
from typing import Literal

from quickdraw_tfrecords.base import locks
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.base.json_values import JsonValue
from trainer import epochs
from trainer.run_directory import checkpoints
from trainer.run_directory.runs import TrainedRun

State = Literal["running", "stopped", "done"]


@dataclasses.dataclass(frozen=True)
class Status:
    """What has become of a run.

    Attributes:
      state: "running"; "stopped" before its end, to be resumed; or "done".
      epochs: Epochs completed.
      max_epochs: How many it may take.
      seconds: Time spent on training in these, validation not included.
      validation_loss, validation_top1: Of the best epoch, by the metric it goes by; None if none
        was completed.
      test_top1: Of the best weights; None if they were not tested.
    """

    state: State
    epochs: int
    max_epochs: int
    seconds: float
    validation_loss: float | None
    validation_top1: float | None
    test_top1: float | None

    @property
    def unfinished(self) -> str | None:
        """That it is not finished, in words."""
        if self.state == "done":
            return None
        how = "is still being trained" if self.state == "running" else "was stopped early"
        return f"{how}, after {self.epochs} of at most {self.max_epochs} epochs"


def of(run: TrainedRun) -> Status:
    """The status of a run.

    Raises:
      DataError: A file of it is damaged.
    """
    history = run.history()
    best = epochs.best(history, run.config) or {}
    if locks.is_held(run.directory):
        state: State = "running"
    else:
        state = "done" if _is_finished(run, len(history)) else "stopped"
    return Status(
        state=state,
        epochs=len(history),
        max_epochs=run.config.epochs,
        seconds=sum(row.get("seconds", 0.0) for row in history),
        validation_loss=best.get("validation_loss"),
        validation_top1=best.get("validation_top1"),
        test_top1=_test_top1(run),
    )


def _is_finished(run: TrainedRun, epochs: int) -> bool:
    if epochs >= run.config.epochs:
        return True
    path = checkpoints.latest(run.directory, keep=1).newest()
    if not path:
        return False
    state = checkpoints.as_json(path, checkpoints.read_state(path))
    return state["progress"]["stopped"].flag()


def _test_top1(run: TrainedRun) -> float | None:
    """What was kept of the test, if it is of the present weights."""
    try:
        best = str(run.checkpoint().relative_to(run.directory))
        path = run.directory / "evaluation" / "test" / "metrics.json"
        with open_regular(path) as file:
            kept = JsonValue.parse(file.read(), str(path), remedy="evaluate the run again")
        is_of_best = kept["of"]["checkpoint"].text() == best
        return kept["top1"].number(0, 1) if is_of_best else None
    except (OSError, UsageError, DataError):
        return None
