"""The results of a run on a split: computed once, and kept in the run directory.

    <run_dir>/evaluation/<split>/report.txt       the headline, and the table of classes
                                 classes.csv      the table
                                 confusion.npy    int64[classes, classes], class by guess
                                 predictions.npz  of every drawing, see `Predictions`
                                 metrics.json     all metrics, and which weights they are of

`metrics.json` is written last: without it the others do not count as results.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write, crc32c, delete_leftovers
from quickdraw_tfrecords.base.locks import locked
from trainer import mirroring
from trainer.results import metrics, predictions
from trainer.results.metrics import Metrics
from trainer.results.predictions import Predictions
from trainer.run_directory import checkpoints
from trainer.run_directory.runs import TrainedRun

_STAMP = "metrics.json"


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run's model says of a split, and how good that is.

    Attributes:
      split: "train", "validation" or "test".
      weights: The weights, in words.
      predictions: Of every drawing.
      metrics: Of the predictions.
    """

    split: str
    weights: str
    predictions: Predictions
    metrics: Metrics


def evaluate(run: TrainedRun, split: str) -> Results:
    """Evaluates a run's best weights on a split, and keeps the results.

    Raises:
      UsageError: The run has no checkpoint yet, or the data set no such split.
      DataError: The checkpoint or the data set is damaged, or no longer there.
    """
    return _evaluate(run, _stamp(run, split))


def _evaluate(run: TrainedRun, stamp: dict[str, Any]) -> Results:
    split = stamp["split"]
    directory = _directory(run.out_dir, split)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, work="evaluation"):
        found = predictions.predict(run.load_model(), run.open_dataset(), split)
        results = Results(split, _weights(stamp), found, metrics.compute(found, run.class_names))
        _write(run, results, stamp)
    return results


def evaluate_together(together: Sequence[TrainedRun], split: str) -> Results:
    """Evaluates the mean of the probabilities of several runs; nothing is kept.

    Raises:
      UsageError: They were trained on different data sets; or as `evaluate`.
      DataError: As `evaluate`.
    """
    first, *others = together
    for run in others:
        if run.fingerprint != first.fingerprint:
            raise UsageError(
                f"--run_dirs: {run.where} was trained on another data set than "
                f"{first.where}: name runs of one"
            )
    weights = ", ".join(f"{run.where}: {_weights(_stamp(run, split))}" for run in together)
    model = mirroring.AverageOf([run.load_model() for run in together])
    found = predictions.predict(model, first.open_dataset(), split)
    return Results(split, weights, found, metrics.compute(found, first.class_names))


def find(run: TrainedRun, split: str) -> Results:
    """The results of a run's present weights: those that were kept, or else new ones.

    Raises:
      UsageError, DataError: As `evaluate`.
    """
    stamp = _stamp(run, split)
    for kept_in in (run.out_dir, run.directory):
        directory = _directory(kept_in, split)
        if _read_stamp(directory) == stamp:
            found = predictions.read(directory / "predictions.npz")
            return Results(split, _weights(stamp), found, metrics.compute(found, run.class_names))
    return _evaluate(run, stamp)


def to_text(results: Results, class_names: tuple[str, ...]) -> str:
    """The headline and the table of classes."""
    headline = {"weights": f"{results.weights}, in float32", "split": results.split}
    headline["drawings"] = f"{results.metrics.count:,}"
    for name, value in results.metrics.headline().items():
        headline[name.replace("_", " ")] = f"{value:.4f}"
    lines = [f"{name:<28}{value}" for name, value in headline.items()]
    return "\n".join([*lines, "", metrics.to_text(results.predictions, class_names)])


def _directory(out_dir: Path, split: str) -> Path:
    return out_dir / "evaluation" / split


def _stamp(run: TrainedRun, split: str) -> dict[str, Any]:
    """What the results depend on.

    Raises:
      UsageError: The data set has no such split, or the run no checkpoint yet.
      DataError: The checkpoint is damaged.
    """
    if split not in run.num_examples:
        raise UsageError(f"--split={split}: must be one of {', '.join(run.num_examples)}")
    path = run.checkpoint()
    try:
        _, state = checkpoints.read(path)
    except DataError as error:
        raise DataError(
            f"{error}: the best weights are lost. Delete it to test those that were the best "
            "before, or train anew with --resume=never"
        ) from None
    return {
        "split": split,
        "data_set": run.fingerprint,
        "checkpoint": str(path.relative_to(run.directory)),
        "checkpoint_crc32c": f"{crc32c(path.read_bytes()):08x}",
        "epoch": checkpoints.epoch(path, state),
        "tta": run.config.tta,
    }


def _weights(stamp: dict[str, Any]) -> str:
    after = f"after epoch {stamp['epoch']}" if stamp["epoch"] else "before the first epoch's end"
    flipped = ", of each drawing and its mirror image" if stamp["tta"] == "flip" else ""
    return f"{stamp['checkpoint']}, {after}{flipped}"


def _read_stamp(directory: Path) -> dict[str, Any] | None:
    """The stamp of the results kept there; None if there are none, or they are incomplete."""
    try:
        stamp: dict[str, Any] = json.loads((directory / _STAMP).read_text())["of"]
    except (OSError, ValueError, KeyError):
        return None
    return stamp


def _write(run: TrainedRun, results: Results, stamp: dict[str, Any]) -> None:
    directory = _directory(run.out_dir, results.split)
    delete_leftovers(directory)
    (directory / _STAMP).unlink(missing_ok=True)
    predictions.write(results.predictions, directory / "predictions.npz")
    with atomic_write(directory / "confusion.npy") as file:
        np.save(file, results.metrics.confusion)
    facts = {"of": stamp, **metrics.to_json(results.metrics)}
    for name, text in (
        ("report.txt", to_text(results, run.class_names)),
        ("classes.csv", metrics.to_csv(results.metrics)),
        (_STAMP, json.dumps(facts, indent=1, ensure_ascii=False) + "\n"),
    ):
        with atomic_write(directory / name) as file:
            file.write(text.encode())
