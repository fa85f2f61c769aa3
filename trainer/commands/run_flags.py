"""The flags by which commands are given a run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, Store, is_url, locate, open_store

if TYPE_CHECKING:
    from trainer.run_directory.runs import TrainedRun


def define(*, data_dir: bool = False, tta: bool = False, required: bool = True) -> None:
    """Defines --run_dir, and others for commands that need them.

    Args:
      data_dir: Whether the command reads the run's drawings: --data_dir and --out_dir.
      tta: Whether it makes something of the run's guesses that may be made otherwise.
      required: Whether there has to be a run.
    """
    group = "run"
    meaning = "Directory of the run, or its URL in an object store."
    flags.DEFINE_string("run_dir", None, meaning, required=required, module_name=group)
    if data_dir:
        meaning = "Where the run's data set is, if it has moved."
        flags.DEFINE_string("data_dir", None, meaning, module_name=group)
        meaning = "Where to write, if not into the run directory."
        flags.DEFINE_string("out_dir", None, meaning, module_name=group)
    if tta:
        meaning = "Test-time augmentation; by default that of the run."
        flags.DEFINE_enum("tta", None, ["none", "flip"], meaning, module_name=group)


def open_run(run_dir: str | None = None, *also: str) -> "TrainedRun":
    """The run that the flags name, or another that the same flags are for.

    Args:
      run_dir: Another run directory.
      *also: Files and folders of it that are needed, beside its facts and its weights.

    Raises:
      UsageError: There is no run, or no place for what is made of it.
      DataError: It is damaged.
    """
    from trainer.run_directory import choices, runs

    given = flags.FLAGS.flag_values_dict()
    location = locate(run_dir or given["run_dir"])
    data_dir, out_dir = (given.get(name) for name in ("data_dir", "out_dir"))
    if "out_dir" in given:
        _require_writable(location, out_dir)
    run = runs.open_run(
        location,
        locate(data_dir) if data_dir else None,
        Path(out_dir) if out_dir else None,
        choices.to_use(*also),
    )
    return run.with_tta(given.get("tta"))


def _require_writable(run_dir: Location, out_dir: str | None) -> None:
    if out_dir is not None and is_url(out_dir):
        raise UsageError(f"--out_dir={open_store(out_dir)}: must be a folder on this machine")
    if out_dir is not None and Path(out_dir).is_file():
        raise UsageError(f"--out_dir={out_dir}: is a file, must be a directory")
    if out_dir is not None or isinstance(run_dir, Store):
        return
    if run_dir.is_dir() and not os.access(run_dir, os.W_OK):
        raise UsageError(
            f"--run_dir={run_dir}: cannot be written to; --out_dir=... names another place for "
            "the results"
        )
