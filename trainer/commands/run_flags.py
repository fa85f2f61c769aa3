"""The flags by which commands are given a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from trainer.run_directory.runs import TrainedRun


def define(*, data_dir: bool = False) -> None:
    """Defines --run_dir, and for commands that read the run's drawings --data_dir and --out_dir."""
    group = "run"
    flags.DEFINE_string("run_dir", None, "Directory of the run.", required=True, module_name=group)
    if data_dir:
        meaning = "Where the run's data set is, if it has moved."
        flags.DEFINE_string("data_dir", None, meaning, module_name=group)
        meaning = "Where to write, if not into the run directory."
        flags.DEFINE_string("out_dir", None, meaning, module_name=group)


def open_run() -> "TrainedRun":
    """The run that the flags name.

    Raises:
      UsageError: There is no run.
      DataError: It is damaged.
    """
    from trainer.run_directory import runs  # imports TensorFlow

    given = flags.FLAGS.flag_values_dict()
    data_dir, out_dir = (given.get(name) for name in ("data_dir", "out_dir"))
    return runs.open_run(
        Path(given["run_dir"]),
        Path(data_dir) if data_dir else None,
        Path(out_dir) if out_dir else None,
    )
