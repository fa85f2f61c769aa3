"""Compares runs: how good each is, how sure that is, and what differs.

    quickdraw compare --run_dirs=runs/1,runs/2,runs/3 --html=compare.html

Metrics have 95 % intervals: where they would lie with other test drawings of the same kind
(Wilson's interval of an accuracy, the standard error of the loss). Runs that were tested on
the same drawings are also compared drawing by drawing, which tells much smaller differences
apart: McNemar's test of the first guesses. Runs that have not been evaluated yet are.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import atomic_write

if TYPE_CHECKING:
    from trainer.results.comparison import Candidate, Comparison, Pair


def main() -> None:
    """Compares as the flags say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    args = flags.FLAGS
    _check(args.run_dirs)
    from trainer.results import comparison
    from trainer.run_directory import runs  # import TensorFlow: only once the flags are good

    opened = [runs.open_run(Path(run_dir)) for run_dir in args.run_dirs]
    compared = comparison.gather(dict(zip(_names(args.run_dirs), opened, strict=True)), args.split)
    print(to_text(compared))
    if args.html:
        from trainer.report import page

        with atomic_write(Path(args.html)) as file:
            file.write(page.render_comparison(compared).encode())
        print(f"\nwith curves: {args.html}")


def to_text(compared: "Comparison") -> str:
    """The comparison as a text of several tables."""
    parts = [_metrics_table(compared), *(_pair_text(*pair) for pair in compared.pairs)]
    return "\n\n".join([*parts, _classes_table(compared)])


def _check(run_dirs: list[str]) -> None:
    if len(run_dirs) < 2 or len({Path(name).resolve() for name in run_dirs}) < len(run_dirs):
        raise UsageError(
            f"--run_dirs={','.join(run_dirs)}: must name two run directories or more, each once"
        )


def _names(run_dirs: list[str]) -> list[str]:
    """What the runs are called: the last parts of their paths, if those differ."""
    names = [Path(run_dir).resolve().name for run_dir in run_dirs]
    return names if len(set(names)) == len(names) else run_dirs


def _metrics_table(compared: "Comparison") -> str:
    rows = [("run", "drawings", "loss", "top-1", "top-3", "top-5", "calibration error")]
    for candidate in compared.candidates:
        metrics = candidate.results.metrics
        values = (
            f"{value:.4f}{_brackets(candidate.intervals.get(name))}"
            for name, value in metrics.headline().items()
        )
        rows.append((candidate.name, f"{metrics.count:,}", *values))
    return _table(rows) + "\nIn brackets: 95 % intervals."


def _brackets(interval: tuple[float, float] | None) -> str:
    return f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""


def _pair_text(first: "Candidate", second: "Candidate", pair: "Pair | None") -> str:
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


def _classes_table(compared: "Comparison") -> str:
    if not compared.classes:
        return "There is no class that they recognise differently."
    names = [candidate.name for candidate in compared.candidates]
    rows = [("recall of the classes that differ most", "drawings", *names, "difference")]
    for change in compared.classes:
        supports = "/".join(f"{support:,}" for support in dict.fromkeys(change.supports))
        recalls = (f"{recall:.3f}" for recall in change.recalls)
        rows.append((change.name, supports, *recalls, f"{change.difference:.3f}"))
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Aligns columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{v:>{width}}" for v, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)


if __name__ == "__main__":
    flags.DEFINE_list("run_dirs", None, "Directories of the runs, with commas.", required=True)
    flags.DEFINE_string("split", "test", "Split to compare on.")
    flags.DEFINE_string("html", None, "File to write a page to, with curves.")
    cli.run(main)
