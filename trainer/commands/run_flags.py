"""The flags by which commands are given a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

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
    meaning = "Directory of the run."
    flags.DEFINE_string("run_dir", None, meaning, required=required, module_name=group)
    if data_dir:
        meaning = "Where the run's data set is, if it has moved."
        flags.DEFINE_string("data_dir", None, meaning, module_name=group)
        meaning = "Where to write, if not into the run directory."
        flags.DEFINE_string("out_dir", None, meaning, module_name=group)
    if tta:
        meaning = "Test-time augmentation; by default that of the run."
        flags.DEFINE_enum("tta", None, ["none", "flip"], meaning, module_name=group)


def open_run(run_dir: str | None = None) -> "TrainedRun":
    """The run that the flags name, or another that the same flags are for.

    Raises:
      UsageError: There is no run.
      DataError: It is damaged.
    """
    from trainer.run_directory import runs  # imports TensorFlow

    given = flags.FLAGS.flag_values_dict()
    data_dir, out_dir = (given.get(name) for name in ("data_dir", "out_dir"))
    run = runs.open_run(
        Path(run_dir or given["run_dir"]),
        Path(data_dir) if data_dir else None,
        Path(out_dir) if out_dir else None,
    )
    return run.with_tta(given.get("tta"))
