"""A comparison of runs as text, in tables for a terminal."""

from quickdraw_tfrecords.base import tables
from trainer.results.comparison import Candidate, Comparison, Interval, PairedTest


def to_text(compared: Comparison) -> str:
    """The comparison as a text of several tables."""
    parts = [_metrics_table(compared), *(_pair_text(*pair) for pair in compared.pairs)]
    return "\n\n".join([*parts, _classes_table(compared)])


def _metrics_table(compared: Comparison) -> str:
    rows: list[tuple[str, ...]] = [
        ("run", "drawings", "loss", "top-1", "top-3", "top-5", "calibration error")
    ]
    for candidate in compared.candidates:
        metrics = candidate.results.metrics
        values = (
            f"{value:.4f}{_brackets(candidate.intervals.get(name))}"
            for name, value in metrics.headline().items()
        )
        rows.append((candidate.name, f"{metrics.count:,}", *values))
    notes = ["In brackets: 95 % intervals."]
    notes += [f"{c.name}: {c.unfinished}." for c in compared.candidates if c.unfinished]
    return "\n".join([tables.to_text(rows), *notes])


def _brackets(interval: Interval | None) -> str:
    return f" [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""


def _pair_text(first: Candidate, second: Candidate, pair: PairedTest | None) -> str:
    title = f"{first.name} -> {second.name}: "
    if pair is None:
        return (
            f"{title}their data sets differ, so they were not tested on the same drawings, and "
            "there are only the intervals to go by"
        )
    return (
        f"{title}top-1 {pair.accuracy_difference:+.4f}, loss {pair.loss_difference:+.4f}"
        f"{_brackets(pair.loss_interval)}\n"
        f"  right in the first only: {pair.only_first:,}, in the second only: "
        f"{pair.only_second:,}; McNemar's test: p = {pair.p_value:.2g}"
    )


def _classes_table(compared: Comparison) -> str:
    if not compared.classes:
        return "There is no class that they recognize differently."
    names = [candidate.name for candidate in compared.candidates]
    header = ("recall of the classes that differ most", "drawings", *names, "difference")
    rows: list[tuple[str, ...]] = [header]
    for change in compared.classes:
        supports = "/".join(f"{support:,}" for support in dict.fromkeys(change.supports))
        recalls = (f"{recall:.3f}" for recall in change.recalls)
        rows.append((change.name, supports, *recalls, f"{change.difference:.3f}"))
    return tables.to_text(rows)
