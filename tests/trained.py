"""Runs for tests of what comes after training: made in no time, with weights that guess."""

import csv
from pathlib import Path

import keras
import numpy as np

import quickdraw_tfrecords as qt
from tests.trainer.training.test_steps import make_config
from trainer import models
from trainer.run_directory import checkpoints, runs
from trainer.run_directory.run_log import COLUMNS
from trainer.run_directory.runs import TrainedRun


def make_run(
    run_dir: Path, data_dir: Path, *, epochs: int = 3, seed: int = 0, **values: object
) -> TrainedRun:
    """A run of some epochs whose weights are random, and the best after the second epoch.

    Args:
      run_dir: Where it goes.
      data_dir: The data set.
      epochs: How many were finished; 0: the run was stopped before its first checkpoint.
      seed: Of the weights.
      values: Settings of the run that are not the default ones.
    """
    values = {"model": "compact_cnn", "epochs": 9, **values}
    config = make_config(data_dir=data_dir, run_dir=run_dir, **values)
    info = qt.open_dataset(data_dir)
    run = runs.describe(config, info, directory=run_dir, precision="float32", devices="1 x CPU")
    runs.write(run)
    if epochs:
        write_history(run_dir, epochs)
        save_best(run, epoch=min(epochs, 2), seed=seed)
    return run


def write_history(run_dir: Path, epochs: int) -> None:
    """A loss that is least in the second epoch, and a rate that falls before the third."""
    losses = [0.9, 0.5, *np.linspace(0.6, 0.7, 30)]
    with open(run_dir / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for epoch, loss in enumerate(losses[:epochs], start=1):
            row = dict.fromkeys(COLUMNS, 0.25) | {"epoch": epoch, "validation_loss": loss}
            writer.writerow(row | {"learning_rate": 1e-3 if epoch < 3 else 1e-4})


def save_best(run: TrainedRun, *, epoch: int, seed: int) -> Path:
    """Saves random weights as the run's best."""
    keras.utils.set_random_seed(seed)
    build = models.get(run.config.model)
    model = build(side=run.side, num_classes=len(run.class_names), dropout=None)
    arrays = checkpoints.to_arrays(checkpoints.named(model.variables))
    state = {"epoch": epoch, "metric": 0.5}
    return checkpoints.best(run.directory, keep=9).save(10 * epoch, arrays, state)
