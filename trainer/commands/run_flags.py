"""The flags by which commands are given a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from trainer.run_directory.runs import TrainedRun


def define(*, data_dir: bool = False) -> None:
    """Defines --run_dir, and --data_dir for commands that read the run's drawings."""
    group = "run"
    flags.DEFINE_string("run_dir", None, "Directory of the run.", required=True, module_name=group)
    if data_dir:
        meaning = "Where the run's data set is, if it has moved."
        flags.DEFINE_string("data_dir", None, meaning, module_name=group)


def open_run() -> "TrainedRun":
    """The run that the flags name.

    Raises:
      UsageError: There is no run.
      DataError: It is damaged.
    """
    from trainer.run_directory import runs  # imports TensorFlow

    data_dir = flags.FLAGS["data_dir"].value if "data_dir" in flags.FLAGS else None
    return runs.open_run(Path(flags.FLAGS.run_dir), Path(data_dir) if data_dir else None)
