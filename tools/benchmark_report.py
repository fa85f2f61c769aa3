"""What the input benchmark prints and draws."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.input_peers import FILES, LIMIT, OURS

_THROUGHPUT_COLUMNS = (
    "contender",
    "examples/s",
    "of limit",
    "start-up s",
    "first batch ms",
    "CPU s/million",
    "peak MiB",
    "preparation s",
)
_QUALITY_COLUMNS = (
    "contender",
    "class balance",
    "position correlation",
    "drawings seen",
    "epochs",
)
_FIRST_BATCH_MS = 10  # that an epoch may take to begin
_COLORS = {LIMIT: "#7f7f7f", FILES: "#7f7f7f"} | dict.fromkeys(OURS, "#1f77b4")
_PEER_COLOR = "#ff7f0e"


def bars(throughput: list[dict[str, Any]], *, cold: bool) -> list[dict[str, Any]]:
    """The ratios that the project promises, where both sides took part.

    Args:
      throughput: A row per contender.
      cold: Whether the files were read from disk: then they are what limits, not memory.
    """
    rates = {row["name"]: row["rates"] for row in throughput}
    plain = [name for name in ("tfdata", "tfdata_batched") if name in rates]
    best = max(plain, key=lambda name: statistics.median(rates[name]), default="tfdata_batched")
    warm_bars = (
        ("streaming", LIMIT, 0.7),
        ("resident", LIMIT, 0.95),
        ("streaming_loop", LIMIT, 0.7),
        ("resident_loop", LIMIT, 0.95),
        ("streaming", "tfds", 80),
        ("streaming", best, 7),
        ("batches", "resident", 1),
        ("batches_streaming", "streaming", 1),
    )
    cold_bars = ("streaming", FILES, 0.9), ("batches_streaming", FILES, 0.9)
    wanted = cold_bars if cold else warm_bars
    return [
        {"of": ours, "to": other, "ratio": _median_ratio(rates[ours], rates[other]), "bar": bar}
        for ours, other, bar in wanted
        if ours in rates and other in rates
    ]


def _median_ratio(rates: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(rates, others, strict=True))


def text(result: dict[str, Any]) -> str:
    """The tables of a result of `benchmark_input.compare`."""
    cache = "cold page cache" if result["cold"] else "warm page cache"
    parts = [
        f"Throughput: {result['examples']:,} drawings of {result['data_dir']}, shuffled, batches "
        f"of {result['batch_size']}, {cache}, {result['processors']} processors;\n"
        f"medians of {result['rounds']} rounds of {_length(result)}",
        _table(_THROUGHPUT_COLUMNS, list(map(_throughput_cells, result["throughput"]))),
        f"Shuffle quality: a true permutation has balance 1 and correlation "
        f"{(result['examples'] - 1) ** -0.5:.5f} (root mean square over epochs)",
        _table(_QUALITY_COLUMNS, list(map(_quality_cells, result["shuffle_quality"]))),
    ]
    if lines := [*map(_bar_line, result["bars"]), *_first_batch_lines(result["throughput"])]:
        parts.append("\n".join(lines))
    if result["absent"]:
        absent = (f"  {name}: {reason}" for name, reason in result["absent"].items())
        parts.append("\n".join(["Absent:", *absent]))
    return "\n\n".join(parts)


def _length(result: dict[str, Any]) -> str:
    length = f"{result['secs']:g} s"
    return f"one epoch, {length} at most" if result["cold"] else f"{length}, over many epochs"


def _throughput_cells(row: dict[str, Any]) -> Sequence[str]:
    return (
        row["title"],
        f"{row['examples_per_sec']:,.0f}",
        f"{row['ratio']:.3g}",
        f"{row['start_up_secs']:.1f}",
        f"{row['first_batch_ms']:.1f}" if row["first_batch_ms"] else "-",
        f"{row['cpu_secs_per_million']:.2f}",
        f"{row['peak_bytes'] / 2**20:,.0f}",
        f"{row['preparation_secs']:.1f}" if row["preparation_secs"] else "-",
    )


def _quality_cells(row: dict[str, Any]) -> Sequence[str]:
    return (
        row["title"],
        f"{row['balance']:.4f} ± {row['balance_error']:.4f}",
        f"{row['correlation']:.5f} ± {row['correlation_error']:.5f}",
        f"{row['complete']:.2%}",
        str(row["epochs"]),
    )


def _bar_line(bar: dict[str, Any]) -> str:
    verdict = "met" if bar["ratio"] >= bar["bar"] else "missed"
    return f"{bar['of']} / {bar['to']}: {bar['ratio']:.2f} (at least {bar['bar']:g}: {verdict})"


def _first_batch_lines(throughput: list[dict[str, Any]]) -> Iterator[str]:
    for row in throughput:
        if milliseconds := row["first_batch_ms"]:
            verdict = "met" if milliseconds <= _FIRST_BATCH_MS else "missed"
            name = f"first batch of an epoch, {row['name']}"
            yield f"{name}: {milliseconds:.1f} ms (at most {_FIRST_BATCH_MS}: {verdict})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text; the first column to the left, the others to the right."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def chart(result: dict[str, Any], path: Path) -> None:
    """Draws a bar for each contender: examples/s on a log scale, labeled with the ratio too."""
    from matplotlib.figure import Figure  # takes a second to import

    rows = sorted(result["throughput"], key=lambda row: row["examples_per_sec"])
    rates = [row["examples_per_sec"] for row in rows]
    figure = Figure(figsize=(9, 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.barh(
        [row["title"] for row in rows],
        rates,
        color=[_COLORS.get(row["name"], _PEER_COLOR) for row in rows],
    )
    labels = [f" {row['examples_per_sec']:,.0f}/s · {row['ratio']:.2g}×" for row in rows]
    axes.bar_label(drawn, labels)
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 3, max(rates) * 12)
    axes.set_xlabel("examples/s (log scale) · ratio to the limit")
    cache = "cold" if result["cold"] else "warm"
    figure.suptitle(
        f"Shuffled batches of {result['batch_size']} from {result['examples']:,} drawings\n"
        f"({cache} page cache, {result['processors']} processors)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)
