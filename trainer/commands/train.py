"""Trains a model on a data set, or resumes a run that was interrupted.

    quickdraw train --data_dir=data --run_dir=runs/1 --flagfile=study_2019
    quickdraw train --data_dir=data --run_dir=runs/2 --flagfile=runs/1/flags.txt   # repeats runs/1

Ctrl-C saves and ends; the same command resumes. The run directory receives checkpoints,
history.csv, TensorBoard's curves, and at the end a report. The flagfiles fast, balanced, best,
compact, demo, and study_2019 come along, and are found by name.
"""

from pathlib import Path

from absl import flags

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli, setting_flags
from quickdraw_tfrecords.base.errors import UsageError
from trainer.config import Config
from trainer.run_directory import starts

FLAGFILES = Path(__file__).parents[1] / "flagfiles"


def define_flags() -> None:
    """Defines the flags of this command: the settings of a run, and what else it can do."""
    setting_flags.define_flags(Config)
    flags.DEFINE_bool(
        "print_model", False, "Print the model's layers and exit.", module_name="model"
    )


def main() -> None:
    """Trains as the flags say."""
    if flags.FLAGS.print_model:
        _print_model()
        return
    config = setting_flags.from_flags(Config)
    config.check()
    if isinstance(config.run_dir, Path) and config.run_dir.is_file():
        raise UsageError(f"--run_dir={config.run_dir}: is a file, must be a directory")
    starts.require(config)
    qt.open_dataset(config.data_dir)
    from trainer import session  # imports TensorFlow: only once the flags are known to be good

    session.train(config)


def _print_model() -> None:
    from trainer import models, session

    given = flags.FLAGS
    models.check_name(given.model)
    session.print_model(given.model, dropout=given.dropout, data_dir=given.data_dir)


if __name__ == "__main__":
    define_flags()
    cli.run(main, flagfiles=FLAGFILES)
