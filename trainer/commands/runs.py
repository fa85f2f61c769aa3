"""Lists runs: how far each has come, and how good it is.

    quickdraw runs                                # all under runs/
    quickdraw runs experiments/ 'runs/lr-*' --sort=test_top1
    quickdraw runs s3://bucket/runs

The validation is that of the best epoch. A run is "running" while a trainer holds it, "stopped"
if it was interrupted or killed (the command that began it resumes it), else "done".
"""

import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from quickdraw_tfrecords.base import cli, tables
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import Location
from trainer.run_directory import finding, status

_DEFAULT_FOLDER = "runs"

# By column of the table, the field that it is sorted by, and whether a greater value comes first.
_SORTED_BY = {
    "run": ("run", False),
    "model": ("model", False),
    "data": ("data_dir", False),
    "epochs": ("epochs", True),
    "val_loss": ("validation_loss", False),
    "val_top1": ("validation_top1", True),
    "test_top1": ("test_top1", True),
    "time": ("seconds", True),
    "state": ("state", False),
}


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_enum("sort", "run", list(_SORTED_BY), "Column to sort by, the best first.")
    flags.DEFINE_bool("json", False, "Print one JSON object per run.")


def main(places: Sequence[str]) -> None:
    """Lists as the flags say."""
    args = flags.FLAGS
    listed, errors = [], []
    for location in finding.find(places or [_DEFAULT_FOLDER], ""):
        try:
            listed.append(_describe(location))
        except DataError as error:
            errors.append(str(error))
    listed = _sort(listed, *_SORTED_BY[args.sort])
    if args.json:
        for facts in listed:
            print(json.dumps(facts, ensure_ascii=False))
    elif listed:
        print(to_text(listed))
    for line in errors:
        print("error:", line, file=sys.stderr)
    if errors:
        sys.exit(1)


def _describe(location: Location) -> dict[str, Any]:
    run = finding.open_listed(location)
    facts = {"run": str(location), "model": run.config.model, "data_dir": str(run.data_dir)}
    return {**facts, "classes": len(run.class_names), **dataclasses.asdict(status.of(run))}


def _sort(listed: list[dict[str, Any]], field: str, descending: bool) -> list[dict[str, Any]]:
    """Sorts by a field; those that have none come last."""
    known = [facts for facts in listed if facts[field] is not None]
    known.sort(key=lambda facts: facts[field], reverse=descending)
    return known + [facts for facts in listed if facts[field] is None]


def to_text(listed: Sequence[dict[str, Any]]) -> str:
    """The runs as a table."""
    return tables.to_text([tuple(_SORTED_BY), *map(_row, listed)])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    metrics = (facts["validation_loss"], facts["validation_top1"], facts["test_top1"])
    return (
        facts["run"],
        facts["model"],
        f"{Path(facts['data_dir']).name} ({facts['classes']})",
        f"{facts['epochs']}/{facts['max_epochs']}",
        *("" if value is None else f"{value:.4f}" for value in metrics),
        str(datetime.timedelta(seconds=round(facts["seconds"]))),
        facts["state"],
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
