"""Searches for good flags: trains run after run, each with flags that Optuna suggests.

    quickdraw sweep --flagfile=compact --data_dir=data --space=space.toml --sweep_dir=sweeps/1

The space says what to choose from, an entry for each flag of quickdraw train:

    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    batch_size = { low = 64, high = 512, step = 64 }
    optimizer = ["adam", "adamw", "lamb"]

All other flags are those of every trial. A trial is an ordinary run, in <sweep_dir>/trial-0007 for
instance. The same command resumes a sweep that was stopped, and on other machines with the same
folder it shares the work. best.flags is the flagfile of the best trial; index.html shows all
trials, and which flags mattered.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from absl import flags

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli, setting_flags
from quickdraw_tfrecords.base.errors import Interrupted, UsageError
from quickdraw_tfrecords.base.settings import REQUIRED, setting
from trainer.commands import train
from trainer.config import Config

FLAGFILES = train.FLAGFILES

_GROUP = "sweep"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommandConfig:
    """What the command itself needs."""

    space: Path = setting(REQUIRED, "File of what to choose from.", group=_GROUP)
    sweep_dir: Path = setting(REQUIRED, "Where trials and results go.", group=_GROUP)
    trials: int = setting(40, "Trials, with those that there are.", group=_GROUP, minimum=1)
    sampler: Literal["tpe", "random", "qmc"] = setting(
        "tpe", "How values are suggested.", group=_GROUP
    )
    pruner: Literal["median", "hyperband", "none"] = setting(
        "median", "How hopeless trials are ended.", group=_GROUP
    )


def define_flags() -> None:
    """Defines the flags of this command: its own, and those of every trial."""
    setting_flags.define_flags(_CommandConfig)
    setting_flags.define_flags(Config)


def main() -> None:
    """Sweeps as the flags say."""
    command, base = setting_flags.from_flags(_CommandConfig), _base()
    try:
        from trainer.sweeping import page
        from trainer.sweeping import space as spaces
        from trainer.sweeping import sweep as sweeps
    except ModuleNotFoundError as error:
        remedy = "pip install 'quickdraw-tfrecords[sweep]'"
        raise UsageError(f"a sweep needs {error.name}: {remedy}") from None

    space = spaces.read(command.space, base)
    qt.open_dataset(base.data_dir)
    directory = command.sweep_dir
    sweep = sweeps.Sweep(directory, base, space, sampler=command.sampler, pruner=command.pruner)
    if ended := sweep.ended():
        print(f"{len(ended)} trials have ended before")
    try:
        sweep.run(command.trials, lambda line: print(line, flush=True))
    except Interrupted:
        print("stopped, and saved; the same command goes on with the trial under way")
        raise
    finally:
        if sweep.ended():
            best = f", {directory / sweeps.BEST_NAME}" if sweep.best() else ""
            print(f"{page.make(sweep)}{best}")


def _base() -> Config:
    """The settings of every trial."""
    given = flags.FLAGS
    if given["run_dir"].present:
        raise UsageError("--run_dir: each trial has one of its own, in --sweep_dir")
    given.run_dir = given.sweep_dir
    base = setting_flags.from_flags(Config)
    base.check()
    # The best run's report is made in seconds, by quickdraw report.
    return base if given["report"].present else dataclasses.replace(base, report=False)


if __name__ == "__main__":
    define_flags()
    cli.run(main, flagfiles=FLAGFILES)
