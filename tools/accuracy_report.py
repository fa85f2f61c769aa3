"""The accuracy benchmark as a table, and as a chart of accuracy against time."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tools.accuracy_trial import Contender, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = "fit"  # whom all are compared with

_COLUMNS = (
    "contender", "runs", "test loss", "top-1", "top-3", "seconds", "to fit's top-1",
    "fit / it, all", "to top-1", "peak MiB",
)  # fmt: skip
_NONE = "-"


def line(contender: Contender, trial: Trial) -> str:
    """A run in a line."""
    if trial.failure:
        return f"{contender.title}, seed {trial.seed}: failed: {trial.failure}"
    return (
        f"{contender.title}, seed {trial.seed}: loss {trial.loss:.4f}  top-1 {trial.top1:.4f}  "
        f"top-3 {trial.top3:.4f}  in {trial.secs:,.0f} s"
    )


def text(contenders: Sequence[Contender], trials: Sequence[Trial]) -> str:
    """The table, and what has to be said of it.

    Values are means over seeds, with standard deviations of the sample where there are several.
    """
    by_name = {each.name: _good(trials, each.name) for each in contenders}
    base = by_name.get(BASE, [])
    goal = target(base)
    rows = [_row(each, by_name[each.name], base, goal) for each in contenders]
    lines = [table([_COLUMNS, *rows]), ""]
    if goal is not None:
        lines.append(f"fit's top-1: {goal:.4f} of the validation split, mean of its best epochs")
    sittings = sorted({trial.sitting for trial in trials})
    if len(sittings) > 1:
        lines.append(f"{len(sittings)} sittings, so times compare less well: {', '.join(sittings)}")
    lines += [
        f"failed: {trial.contender}, seed {trial.seed}: {trial.failure}"
        for trial in trials
        if trial.failure
    ]
    return "\n".join(lines)


def target(base: Sequence[Trial]) -> float | None:
    """The mean of the best validation top-1 of runs; None if there are none."""
    best = [max(top1 for _, top1 in trial.curve) for trial in base if trial.curve]
    return statistics.mean(best) if best else None


def _good(trials: Iterable[Trial], name: str) -> list[Trial]:
    return [trial for trial in trials if trial.contender == name and not trial.failure]


def _row(
    contender: Contender, trials: Sequence[Trial], base: Sequence[Trial], goal: float | None
) -> tuple[str, ...]:
    if not trials:
        return (contender.title, "0", *[_NONE] * (len(_COLUMNS) - 2))
    secs = [trial.secs for trial in trials]
    to_goal, base_to_goal = _secs_to(trials, goal), _secs_to(base, goal)
    return (
        contender.title,
        str(len(trials)),
        *(_spread([getattr(trial, name) for trial in trials], 4) for name in _METRICS),
        _spread(secs, 0),
        _spread(to_goal, 0) + ("" if len(to_goal) in (0, len(trials)) else f" ({len(to_goal)})"),
        _ratio([trial.secs for trial in base], secs),
        _ratio(base_to_goal, to_goal),
        f"{max(trial.peak_bytes for trial in trials) / 2**20:,.0f}",
    )


_METRICS = ("loss", "top1", "top3")


def _secs_to(trials: Iterable[Trial], goal: float | None) -> list[float]:
    """Of the runs that got there."""
    if goal is None:
        return []
    return [secs for trial in trials if (secs := trial.secs_to(goal)) is not None]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return _NONE
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):,.{digits}f}"


def _ratio(base: Sequence[float], values: Sequence[float]) -> str:
    if not base or not values:
        return _NONE
    return f"{statistics.mean(base) / statistics.mean(values):.2f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Plain text; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def chart(contenders: Sequence[Contender], trials: Sequence[Trial], path: Path) -> None:
    """Draws validation top-1 against seconds, a line for each run, and where each test ended."""
    from matplotlib.figure import Figure  # takes a second to import
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for index, contender in enumerate(contenders):
        for number, trial in enumerate(_good(trials, contender.name)):
            color = f"C{index % 10}"
            secs, top1 = zip(*trial.curve, strict=True)
            axes.plot(secs, top1, color=color, label="" if number else contender.title)
            axes.plot(trial.secs, trial.top1, marker="o", color=color)
    goal = target(_good(trials, BASE))
    if goal is not None:
        axes.axhline(goal, color="gray", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds from the start of the process (log scale)")
    axes.set_ylabel("top-1: lines validation, dots test")
    save(figure, path, legend="lower right")


def save(figure: "Figure", path: Path, *, legend: Literal["upper right", "lower right"]) -> None:
    """Saves a chart, in the style of all of them, with its legend somewhere."""
    (axes,) = figure.axes
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(loc=legend, frameon=False)
    figure.savefig(path, format="png", dpi=150)
