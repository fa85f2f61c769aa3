"""The report's figures, drawn by Matplotlib: SVG for the page, PNG for TensorBoard."""

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from trainer.report.examples import Example
from trainer.results.metrics import Calibration

# Name: light, dark. All text has a contrast of at least 4.5 on `paper` and on `panel`.
PALETTE = {
    "ink": ("#1c2127", "#e8eaed"),
    "muted": ("#59626e", "#a3acb8"),
    "line": ("#d9dde3", "#363d47"),
    "paper": ("#ffffff", "#14171b"),
    "panel": ("#f5f6f8", "#1d2127"),
    "accent": ("#1a5fb4", "#7db4f5"),
    "second": ("#b3410e", "#f0986a"),
    "right": ("#14713a", "#5cc98a"),
    "wrong": ("#a61c3c", "#f58ba0"),
}
_LIGHT = {name: light for name, (light, _) in PALETTE.items()}
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": _LIGHT["ink"],
    "axes.edgecolor": _LIGHT["line"],
    "axes.labelcolor": _LIGHT["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": _LIGHT["line"],
    "ytick.color": _LIGHT["line"],
    "xtick.labelcolor": _LIGHT["muted"],
    "ytick.labelcolor": _LIGHT["muted"],
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
# Decorates functions that build a figure and those that save it: Matplotlib looks the style up
# whenever it draws.
_styled = matplotlib.rc_context(_STYLE)
_SIZE = (4.6, 3.1)  # inches
_SPLITS = {"train": _LIGHT["second"], "validation": _LIGHT["accent"]}
_COMPARED = {
    "Validation loss": "validation_loss",
    "Validation top-1 accuracy": "validation_top1",
    "Validation top-3 accuracy": "validation_top3",
}
_COLORS = (  # of runs; each can be told from a light and from a dark page
    "#3584e4", "#d9622b", "#2f9e63", "#9a5fd0", "#c4476b", "#8a7a1f", "#2a9fae", "#7d7f86",
)  # fmt: skip
_NAMED_CLASSES = 40  # on the axes of a confusion matrix, at most


@_styled
def learning_curves(
    history: Sequence[Mapping[str, float]], *, best: int, reductions: Sequence[int]
) -> dict[str, Figure]:
    """Loss, accuracy and learning rate by epoch.

    Args:
      history: The rows of history.csv, one at least.
      best: The best epoch, which is marked.
      reductions: The epochs that began with a lower learning rate, marked too.

    Returns:
      The figures by name.
    """
    epochs = [row["epoch"] for row in history]
    column = {name: [row[name] for row in history] for name in history[0]}
    figures: dict[str, Figure] = {}
    for name in ("loss", "accuracy", "learning_rate"):
        figures[name], axes = _figure()
        _mark_epochs(axes, best, reductions)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.04)
    for split, color in _SPLITS.items():
        for name, metric, style in (
            ("loss", "loss", "-"),
            ("accuracy", "top1", "-"),
            ("accuracy", "top3", "--"),
        ):
            label = split if metric == "loss" else f"{split} {metric.replace('top', 'top-')}"
            axes = figures[name].axes[0]
            # Dashes alone do not show in a legend, where a dot covers them.
            fill = {"markerfacecolor": "none"} if metric == "top3" else {}
            dots = _dots(epochs) | fill
            axes.plot(epochs, column[f"{split}_{metric}"], style, c=color, label=label, **dots)
    axes = figures["learning_rate"].axes[0]
    axes.step(epochs, column["learning_rate"], where="mid", c=_LIGHT["accent"], **_dots(epochs))
    # A rate that is constant needs no log scale, and one that reaches 0 has no place on it.
    if 0 < min(column["learning_rate"]) < max(column["learning_rate"]):
        axes.set_yscale("log")
    figures["accuracy"].axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    for figure in figures.values():
        figure.axes[0].legend(handlelength=3.5)
    return figures


@_styled
def compared_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
) -> dict[str, Figure]:
    """Validation loss and accuracy of several runs by epoch.

    Args:
      histories: The rows of history.csv of each run, one at least, by its name.

    Returns:
      The figures by what they show; none without runs.
    """
    figures = {}
    for title, column in _COMPARED.items() if histories else ():
        figures[title], axes = _figure()
        for color, (name, rows) in zip(itertools.cycle(_COLORS), histories.items()):
            epochs = [row["epoch"] for row in rows]
            values = [row[column] for row in rows]
            axes.plot(epochs, values, c=color, label=_plain(name), **_dots(epochs))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figures


@_styled
def sweep_progress(values: Mapping[int, float], best: Sequence[float], *, name: str) -> Figure:
    """The value of each trial of a sweep by its number, and the best so far."""
    figure, axes = _figure()
    trials = list(values)
    axes.plot(trials, list(values.values()), "o", c=_LIGHT["accent"], ms=4, label="trial")
    axes.step(trials, best, where="post", c=_LIGHT["second"], label="best so far")
    axes.set(xlabel="trial", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


@_styled
def importances(shares: Mapping[str, float]) -> Figure:
    """How much of the differences between trials each flag accounts for, the most on top."""
    figure, axes = _figure(size=(_SIZE[0], 1 + 0.35 * len(shares)))
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=_LIGHT["accent"])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    return figure


@_styled
def values_of_flag(
    flag: str, points: Sequence[tuple[Any, float]], *, name: str, is_log: bool
) -> Figure:
    """What trials gave by the value of one flag, a number or a text."""
    figure, axes = _figure()
    xs = [_plain(x) if isinstance(x, str) else x for x, _ in points]
    axes.plot(xs, [y for _, y in points], "o", c=_LIGHT["accent"], ms=4)
    if is_log:
        axes.set_xscale("log")
    axes.set(xlabel=flag, ylabel=name)
    axes.margins(x=0.1)
    return figure


@_styled
def calibration(bins: Calibration) -> Figure:
    """How often guesses are right, by how probable the model thought them."""
    figure, (axes, below) = _panels(rows=2, height_ratios=(4, 1))
    used, widths = bins.counts > 0, np.diff(bins.edges)
    axes.plot([0, 1], [0, 1], "--", c=_LIGHT["muted"], lw=1.2, label="perfectly calibrated")
    axes.plot(
        bins.confidence[used],
        bins.accuracy[used],
        "o-",
        c=_LIGHT["accent"],
        markersize=4,
        label="this model",
    )
    axes.set_ylabel("share that is right")
    axes.legend(loc="upper left")
    below.bar(bins.edges[:-1], bins.counts, widths * 0.9, align="edge", color=_LIGHT["accent"])
    below.set_ylabel("drawings")
    below.set_yticks([0, bins.counts.max()], ["0", f"{bins.counts.max():,}"])
    below.set_xlabel("probability of the first guess")
    for panel in (axes, below):
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelbottom=False)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


@_styled
def confusion_matrix(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Share of each class (row) that was taken for each class (column)."""
    side = float(np.clip(0.28 * len(class_names), 4.5, 10))
    figure, axes = _figure(size=(side + 1, side + 1))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The root, because the mistakes that are of interest are a few percent: linear, they vanish.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="guess", ylabel="class")
    axes.grid(False)
    if len(class_names) <= _NAMED_CLASSES:
        names = [_plain(name) for name in class_names]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    return figure


@_styled
def guesses(examples: Sequence[Example], *, columns: int = 6) -> Figure:
    """Drawings with the model's best guess of each."""
    rows = -(-len(examples) // columns)
    figure, panels = _panels(size=(1.7 * columns, 1.9 * rows), rows=rows, columns=columns)
    for axes, example in itertools.zip_longest(panels, examples):
        axes.set_axis_off()
        if example is None:
            continue
        axes.imshow(255 - example.image, cmap="gray", vmin=0, vmax=255)
        guess = example.guesses[0]
        text = f"{'✓' if guess.is_right else '✗'} {guess.name} {guess.probability:.0%}"
        text += "" if guess.is_right else f"\nis {example.name}"
        color = _LIGHT["right" if guess.is_right else "wrong"]
        axes.set_title(text, fontsize=8, color=color, parse_math=False)
    return figure


@_styled
def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


@_styled
def to_svg(figure: Figure) -> str:
    """The figure as the address of an image that has the reader's light or dark colors."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    start, tag, drawing = file.getvalue().partition("<defs>")
    # A browser resolves variables inside of an image by the image's own style sheet, so the theme
    # goes in with it.
    for name, light in _LIGHT.items():
        drawing = drawing.replace(light, f"var(--{name})")
    drawing = drawing.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    svg = f"{start}<style>{theme()}</style>{tag}{drawing}"
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def theme() -> str:
    """`PALETTE` as CSS variables."""
    light, dark = (
        "".join(f"--{name}:{colors[index]};" for name, colors in PALETTE.items())
        for index in (0, 1)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _figure(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure, (axes,) = _panels(size=size)
    return figure, axes


def _panels(
    *, size: tuple[float, float] = _SIZE, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with panels, row by row."""
    figure = Figure(figsize=size, layout="constrained")
    figure.subplots(rows, columns, gridspec_kw=grid)
    return figure, figure.axes


def _plain(name: str) -> str:
    """A name that Matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def _mark_epochs(axes: Axes, best: int, reductions: Sequence[int]) -> None:
    axes.axvline(best, c=_LIGHT["right"], lw=1.2, ls=(0, (5, 2)), label=f"best, epoch {best}")
    for index, epoch in enumerate(reductions):
        label = None if index else "learning rate reduced"  # once in the legend
        axes.axvline(epoch - 0.5, c=_LIGHT["muted"], lw=1, ls=":", label=label)


def _dots(epochs: Sequence[float]) -> dict[str, Any]:
    """A line of few points, or of one, shows them."""
    return {"marker": "o", "markersize": 3.5} if len(epochs) <= 40 else {}
