"""Whether one run is better than another, or just had luckier test drawings."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trainer.results import split_results
from trainer.results.metrics import Metrics
from trainer.results.predictions import Predictions
from trainer.results.split_results import Results
from trainer.run_directory import status
from trainer.run_directory.runs import TrainedRun

CONFIDENCE = 0.95

_CLASSES = 20


class Interval(NamedTuple):
    """Where a value would lie with other test drawings of the same kind, by `CONFIDENCE`."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Two runs, tested on the same drawings.

    Attributes:
      only_first: Drawings that only the first run recognized.
      only_second: Drawings that only the second run recognized.
      p_value: Of McNemar's test, exact: how likely it is that these drawings split so unevenly,
        if both runs are equally good.
      accuracy_difference: Top-1 accuracy of the second less that of the first.
      loss_difference: Mean loss of the second less that of the first.
      loss_interval: Of that difference.
    """

    only_first: int
    only_second: int
    p_value: float
    accuracy_difference: float
    loss_difference: float
    loss_interval: Interval


class ClassChange(NamedTuple):
    """A class, how many drawings of it each run was tested on, and how many it recognized."""

    name: str
    supports: tuple[int, ...]
    recalls: tuple[float, ...]

    @property
    def difference(self) -> float:
        """How far the worst and the best run are apart."""
        return max(self.recalls) - min(self.recalls)


def share_interval(hits: NDArray[np.bool_]) -> Interval:
    """Wilson's interval of the share of hits.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.

    Args:
      hits: bool[n], one for each drawing, n > 0.
    """
    test = stats.binomtest(int(hits.sum()), len(hits))
    return Interval(*map(float, test.proportion_ci(CONFIDENCE, method="wilson")))


def mean_interval(values: NDArray[Any]) -> Interval:
    """The interval of a mean, by its standard error; unbounded for a single value.

    Args:
      values: float[n], one for each drawing, n > 0.
    """
    mean = values.mean(dtype=np.float64)
    if len(values) == 1:
        return Interval(-np.inf, np.inf)
    error = values.std(dtype=np.float64, ddof=1) / np.sqrt(len(values))
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * error)
    return Interval(float(mean) - reach, float(mean) + reach)


def compare(first: Predictions, second: Predictions) -> PairedTest:
    """Compares two runs on the same drawings in the same order.

    McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, 1947.
    """
    only_first = int((first.is_right & ~second.is_right).sum())
    only_second = int((second.is_right & ~first.is_right).sum())
    uneven = only_first + only_second
    differences = second.losses.astype(np.float64) - first.losses
    return PairedTest(
        only_first=only_first,
        only_second=only_second,
        p_value=float(stats.binomtest(only_first, uneven).pvalue) if uneven else 1.0,
        accuracy_difference=(only_second - only_first) / len(first),
        loss_difference=float(differences.mean()),
        loss_interval=mean_interval(differences),
    )


def changed_classes(metrics: Sequence[Metrics], limit: int) -> list[ClassChange]:
    """The classes that the runs recognize most differently, of those that all were tested on.

    Args:
      metrics: Of each run.
      limit: How many, at most.
    """
    tables = [{row.name: row for row in found.classes if row.support} for found in metrics]
    changes = []
    for name in tables[0]:
        rows = [table[name] for table in tables if name in table]
        if len(rows) == len(tables):
            supports, recalls = zip(*((row.support, row.recall) for row in rows), strict=True)
            changes.append(ClassChange(name, supports, recalls))
    changes.sort(key=lambda change: -change.difference)
    return [change for change in changes[:limit] if change.difference]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of the runs that are compared.

    Attributes:
      name: What it is called here.
      run: The run.
      results: Of the split.
      intervals: Of the metrics, by their names in `Metrics.headline`; not of calibration.
      unfinished: Why it is not what it might become, in words; None if it is finished.
    """

    name: str
    run: TrainedRun
    results: Results
    intervals: Mapping[str, Interval]
    unfinished: str | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
      candidates: The runs, two at least.
      pairs: Every two of them, with their comparison on the same drawings; None if they were
        tested on others.
      classes: Those that the runs recognize most differently.
    """

    candidates: list[Candidate]
    pairs: list[tuple[Candidate, Candidate, PairedTest | None]]
    classes: list[ClassChange]


def gather(runs: Mapping[str, TrainedRun], split: str) -> Comparison:
    """Compares runs on a split, after evaluating those that have not been yet.

    Args:
      runs: By the names to show, two at least.
      split: "train", "validation" or "test", of each run's data set.

    Raises:
      UsageError: A run has no checkpoint yet, or its data set no such split.
      DataError: A checkpoint or a data set is damaged, or no longer there.
    """
    candidates = [_candidate(name, run, split) for name, run in runs.items()]
    pairs = [(*two, _compare(*two)) for two in itertools.combinations(candidates, 2)]
    found = [candidate.results.metrics for candidate in candidates]
    return Comparison(candidates, pairs, changed_classes(found, _CLASSES))


def _candidate(name: str, run: TrainedRun, split: str) -> Candidate:
    found = split_results.find(run, split)
    hits = found.predictions.classes == found.predictions.labels[:, np.newaxis]
    intervals = {"loss": mean_interval(found.predictions.losses)}
    for k in (1, 3, 5):
        intervals[f"top{k}"] = share_interval(hits[:, :k].any(axis=1))
    return Candidate(name, run, found, intervals, status.of(run).unfinished)


def _compare(first: Candidate, second: Candidate) -> PairedTest | None:
    if first.run.fingerprint != second.run.fingerprint:
        return None
    return compare(first.results.predictions, second.results.predictions)
