"""How accuracy grows with the drawings to train on, and what that projects for more of them.

    python -m tools.learning_curve --data_dir=data --contenders=study_2019,best --png=curve.png

Trains contenders of the accuracy benchmark on fair samples of the training split, and on all of
it, and tests each run once. Two projections follow, with the interval that 90 % of refits to
redrawn tests are in:

- for more drawings per class (--project), by a power law of the share that is wrong (Hestness et
  al., 2017, arXiv:1712.00409);
- for the study's 345 classes: the odds of being right that the study published for its own
  network, times how many times better the odds are here than the first contender's. That holds
  only as far as this ratio does not depend on the classes.

Results are kept in --out_dir, like those of tools.benchmark_accuracy.
"""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from numpy.typing import NDArray

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import locate
from tools import accuracy_report, accuracy_trial, benchmark_accuracy
from tools.accuracy_trial import Contender, Trial
from trainer.report.findings import STUDY

_REFITS = 2000
_INTERVAL = (5, 95)  # percentiles


class Curve(NamedTuple):
    """How a contender does.

    Attributes:
      title: The contender's.
      per_class: Drawings to train on, of each class, ascending.
      top1: Of the test split, means over seeds.
    """

    title: str
    per_class: tuple[float, ...]
    top1: tuple[float, ...]


class Projection(NamedTuple):
    """What curves say of more drawings.

    Attributes:
      title: The contender's.
      top1: With more drawings of the same classes; and the ends of the interval.
      study_top1: The same of the study's classes.
    """

    title: str
    top1: NDArray[np.float64]
    study_top1: NDArray[np.float64]


def main() -> None:
    """Trains, prints, and draws as the flags say."""
    args = flags.FLAGS
    info = qt.open_dataset(args.data_dir)
    whole = info.count("train") / info.num_classes
    sizes = _sizes(args.per_class, whole)
    slices = [f" --train_split=train[:{size * info.num_classes}]" for size in sizes]
    series = [
        [benchmark_accuracy.contender(name + part) for part in (*slices, "")]
        for name in args.contenders
    ]
    trials = benchmark_accuracy.sit(
        list(itertools.chain(*series)),
        args.seeds,
        data_dir=locate(args.data_dir),
        out_dir=Path(args.out_dir),
    )
    accuracy_trial.require_success(trials)
    curves = [_curve(contenders, (*sizes, whole), trials) for contenders in series]
    print(text(curves, project(curves, args.project, tests=info.count("test")), args.project))
    if args.png:
        chart(curves, args.project, Path(args.png))


def _sizes(texts: Sequence[str], whole: float) -> list[int]:
    if not texts or not all(text.isdecimal() and int(text) for text in texts):
        raise UsageError(f"--per_class={','.join(texts)}: must be numbers of drawings: 250,500")
    sizes = sorted(map(int, texts))
    if sizes[-1] >= whole:
        raise UsageError(f"--per_class={sizes[-1]}: must be less than the {whole:,.0f} there are")
    return sizes


def _curve(
    contenders: Sequence[Contender], sizes: tuple[float, ...], trials: Sequence[Trial]
) -> Curve:
    """The curve of one that was trained with each size, the last being all there is."""
    top1 = (
        statistics.mean(trial.top1 for trial in trials if trial.contender == each.name)
        for each in contenders
    )
    return Curve(contenders[-1].title, sizes, tuple(top1))


def project(curves: Sequence[Curve], per_class: float, *, tests: int) -> list[Projection]:
    """Projects each curve; the first is of the study's network.

    Args:
      curves: At least two sizes in each.
      per_class: Drawings to train on, of each class.
      tests: Drawings in the test split: how many decides how much luck is in its results.
    """
    rng = np.random.default_rng(0)
    wrongs = []  # of each curve: the projection, then those of the refits
    for curve in curves:
        wrong = 1 - np.array(curve.top1)
        redrawn = rng.binomial(tests, wrong, [_REFITS, len(wrong)]) / tests
        rows = np.maximum([wrong, *redrawn], 0.5 / tests)  # of none the logarithm is wanted, too
        wrongs.append(_extrapolate(curve.per_class, rows, per_class))
    study_odds = STUDY["top1"] / (1 - STUDY["top1"])
    projections = []
    for curve, wrong in zip(curves, wrongs, strict=True):
        odds = study_odds * _odds(wrong) / _odds(wrongs[0])
        projections.append(
            Projection(curve.title, _interval(1 - wrong), _interval(odds / (1 + odds)))
        )
    return projections


def _extrapolate(
    per_class: Sequence[float], wrong: NDArray[np.float64], to: float
) -> NDArray[np.float64]:
    """Power laws through rows of float[n, sizes], at another size; float[n]."""
    slope, log_at_one = np.polyfit(np.log(per_class), np.log(wrong).T, 1)
    law: NDArray[np.float64] = np.exp(log_at_one + slope * np.log(to))
    return law


def _odds(wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - wrong) / wrong


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([values[0], *np.percentile(values[1:], _INTERVAL)])


def text(curves: Sequence[Curve], projections: Sequence[Projection], per_class: float) -> str:
    """The tables."""
    sizes = [f"{size:,.0f}" for size in curves[0].per_class]
    measured = [("test top-1, by drawings per class", *sizes)]
    measured += [(curve.title, *(f"{top1:.4f}" for top1 in curve.top1)) for curve in curves]
    projected: list[tuple[str, ...]] = [
        (f"projection for {per_class:,.0f} per class", "these classes", "the study's 345 classes")
    ]
    projected += [
        (each.title, *("{:.3f} ({:.3f} to {:.3f})".format(*found) for found in each[1:]))
        for each in projections
    ]
    return f"{accuracy_report.table(measured)}\n\n{accuracy_report.table(projected)}"


def chart(curves: Sequence[Curve], per_class: float, path: Path) -> None:
    """Draws the share that is wrong against drawings per class, with the power laws."""
    from matplotlib.figure import Figure  # takes a second to import
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, curve in enumerate(curves):
        wrong = 1 - np.array(curve.top1)
        ends = [curve.per_class[0], per_class]
        law = [float(_extrapolate(curve.per_class, wrong[np.newaxis], end)[0]) for end in ends]
        axes.plot(curve.per_class, wrong, "o", color=f"C{index}", label=curve.title)
        axes.plot(ends, law, "--", color=f"C{index}", linewidth=0.9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([*curves[0].per_class, per_class])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_yticks([0.05, 0.1, 0.2], ["5 %", "10 %", "20 %"])
    axes.set_xlabel("drawings to train on, per class (log scale)")
    axes.set_ylabel("wrong in the test split (log scale)")
    accuracy_report.save(figure, path, legend="upper right")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)
    flags.DEFINE_string("out_dir", "runs/accuracy", "Where runs and their results are kept.")
    flags.DEFINE_list("contenders", ["study_2019", "best"], "Whose curves, the study's first.")
    flags.DEFINE_list("per_class", ["250", "500", "1000", "2000"], "Sizes of the samples.")
    flags.DEFINE_integer("project", 4644, "Drawings per class to project for.", lower_bound=1)
    flags.DEFINE_integer("seeds", 1, "Runs of each.", lower_bound=1)
    flags.DEFINE_string("png", None, "File to draw the curves to.")
    cli.run(main)
