"""Metrics of predictions, from scikit-learn where it has them."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from trainer.results.predictions import Predictions

CALIBRATION_BINS = 15

_COLUMNS = ("precision", "recall", "f1-score", "support")


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """A row of the per-class table, as in scikit-learn's `classification_report`.

    Attributes:
      name: A class, or what its figures are averaged over.
      precision, recall, f1: In [0, 1]; None where undefined, as is the recall of a class that
        has no drawing. What is undefined is left out of averages (`zero_division=nan`).
      support: How many drawings.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclasses.dataclass(frozen=True)
class Calibration:
    """First guesses, binned by the probability that the model gave them.

    Attributes:
      edges: float64[bins + 1]; a bin has its right edge but not its left.
      counts: int64[bins], guesses.
      confidence: float64[bins], their mean probability; NaN if there are none.
      accuracy: float64[bins], the share of them that is right; NaN if there are none.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy.

        Guo et al., On Calibration of Modern Neural Networks, 2017 (arXiv:1706.04599).
        """
        distance = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(distance * self.counts) / self.counts.sum())


@dataclasses.dataclass(frozen=True)
class Metrics:
    """All that is counted of predictions.

    Attributes:
      count: Drawings.
      loss: Mean cross-entropy, nats.
      top1, top3, top5: Share of the drawings whose class is among the first guesses.
      calibration: Of the first guesses.
      classes: A row for each class, in label order.
      macro_average, weighted_average: Means over classes, each alike or by its support.
      confusion: int64[classes, classes], drawings by class (row) and first guess (column).
    """

    count: int
    loss: float
    top1: float
    top3: float
    top5: float
    calibration: Calibration
    classes: tuple[ClassRow, ...]
    macro_average: ClassRow
    weighted_average: ClassRow
    confusion: NDArray[np.int64]

    def headline(self) -> dict[str, float]:
        """The metrics that are one number."""
        return {
            "loss": self.loss,
            "top1": self.top1,
            "top3": self.top3,
            "top5": self.top5,
            "expected_calibration_error": self.calibration.error,
        }


def compute(predictions: Predictions, class_names: Sequence[str]) -> Metrics:
    """Computes the metrics of at least one drawing.

    Args:
      predictions: What a model says of drawings.
      class_names: The classes in label order.
    """
    hits = predictions.classes == predictions.labels[:, np.newaxis]
    top1, top3, top5 = (float(hits[:, :k].any(axis=1).mean()) for k in (1, 3, 5))
    return Metrics(
        count=len(predictions),
        loss=float(predictions.losses.mean(dtype=np.float64)),
        top1=top1,
        top3=top3,
        top5=top5,
        calibration=calibrate(predictions),
        classes=_class_rows(predictions, class_names),
        macro_average=_average(predictions, len(class_names), "macro"),
        weighted_average=_average(predictions, len(class_names), "weighted"),
        confusion=confusion_matrix(predictions, len(class_names)),
    )


def confusion_matrix(predictions: Predictions, num_classes: int) -> NDArray[np.int64]:
    """int64[classes, classes], drawings by class (row) and first guess (column)."""
    cells = predictions.labels.astype(np.int64) * num_classes + predictions.classes[:, 0]
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def calibrate(predictions: Predictions) -> Calibration:
    """Bins the first guesses by their probability."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    confidence = predictions.probabilities[:, 0].astype(np.float64)
    # Without the outer edges, so that a probability of 1, or rounded above it, is in the last bin.
    bins = np.searchsorted(edges[1:-1], confidence)
    counts, confidences, right = (
        np.bincount(bins, weights, CALIBRATION_BINS)
        for weights in (None, confidence, predictions.is_right)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as an empty bin is to be
        return Calibration(edges, counts, confidences / counts, right / counts)


def to_text(predictions: Predictions, class_names: Sequence[str]) -> str:
    """The per-class table as scikit-learn prints it; nan where undefined."""
    text: str = sklearn_metrics.classification_report(
        predictions.labels,
        predictions.classes[:, 0],
        labels=np.arange(len(class_names)),
        target_names=class_names,
        digits=4,
        zero_division=math.nan,
    )
    return text


def to_csv(metrics: Metrics) -> str:
    """The per-class table with averages, which have no label; what is undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "class", *_COLUMNS))
    for label, row in enumerate(metrics.classes):
        writer.writerow((label, *dataclasses.astuple(row)))
    writer.writerow(("", "accuracy", "", "", metrics.top1, metrics.count))
    for row in (metrics.macro_average, metrics.weighted_average):
        writer.writerow(("", *dataclasses.astuple(row)))
    return text.getvalue()


def to_json(metrics: Metrics) -> dict[str, Any]:
    """The metrics as JSON values, null where undefined; the table by scikit-learn's names."""

    def values(row: ClassRow) -> dict[str, Any]:
        return dict(zip(_COLUMNS, dataclasses.astuple(row)[1:], strict=True))

    return {
        "examples": metrics.count,
        **metrics.headline(),
        "accuracy": metrics.top1,
        **{row.name: values(row) for row in (metrics.macro_average, metrics.weighted_average)},
        "classes": {row.name: values(row) for row in metrics.classes},
    }


def _class_rows(predictions: Predictions, class_names: Sequence[str]) -> tuple[ClassRow, ...]:
    columns = _precision_recall(predictions, len(class_names), None)
    rows = zip(class_names, *(column.tolist() for column in columns), strict=True)
    return tuple(_row(*row) for row in rows)


def _average(predictions: Predictions, num_classes: int, average: str) -> ClassRow:
    precision, recall, f1, _ = _precision_recall(predictions, num_classes, average)
    return _row(f"{average} avg", float(precision), float(recall), float(f1), len(predictions))


def _precision_recall(
    predictions: Predictions, num_classes: int, average: str | None
) -> tuple[Any, Any, Any, Any]:
    """Precision, recall, F1 and support: of each class, or averaged; then support is None."""
    columns: tuple[Any, Any, Any, Any] = sklearn_metrics.precision_recall_fscore_support(
        predictions.labels,
        predictions.classes[:, 0],
        labels=np.arange(num_classes),
        average=average,
        zero_division=math.nan,
    )
    return columns


def _row(name: str, precision: float, recall: float, f1: float, support: int) -> ClassRow:
    return ClassRow(name, _defined(precision), _defined(recall), _defined(f1), int(support))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
