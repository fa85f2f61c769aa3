"""What a run leaves for people: console lines, history.csv, and TensorBoard's curves."""

import csv
import io
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.plugins.hparams import api as hparams
from tqdm import tqdm

from quickdraw_tfrecords.base.files import atomic_write
from trainer.config import Config
from trainer.run_directory import event_files, runs
from trainer.run_directory.runs import TrainedRun

COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_top1",
    "train_top3",
    "validation_loss",
    "validation_top1",
    "validation_top3",
    "seconds",
    "examples_per_second",
)

# TensorBoard groups charts by what stands before the slash, and opens the first two groups.
# Train, validation and test share these charts:
_METRICS = ("loss", "top1", "top3")
# These have one line per run.
_CHARTS = {
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
    "loss_scale": "optimizer",
    "examples_per_second": "speed",
    "input_wait_share": "speed",
}
# Columns of TensorBoard's table of runs, beside the results.
_HYPERPARAMETERS = (
    "model", "optimizer", "learning_rate", "batch_size", "schedule", "weight_decay", "dropout",
    "label_smoothing", "ema", "augment", "precision", "seed",
)  # fmt: skip


class RunLog:
    """Writes everything but checkpoints to a run directory.

    Args:
      run_dir: The directory.
      enabled: False on all workers but the chief: nothing is written or printed.
    """

    def __init__(self, run_dir: Path, *, enabled: bool) -> None:
        self._run_dir, self._enabled = run_dir, enabled
        self._curves = run_dir / "tensorboard"
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._history: list[dict[str, float]] = []

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def say(self, line: str) -> None:
        """Prints a line, without breaking a progress bar."""
        if self._enabled:
            tqdm.write(line)
            sys.stdout.flush()

    def bar(self, description: str, *, initial: int, total: int) -> "tqdm[NoReturn]":
        """A live bar where the output is a terminal, else nothing."""
        return tqdm(
            desc=description,
            initial=initial,
            total=total,
            unit=" steps",
            leave=False,
            disable=None if self._enabled else True,
        )

    def begin(self, run: TrainedRun, history: list[dict[str, float]]) -> None:
        """Begins or resumes: writes what the run is, and drops points beyond the checkpoint.

        Args:
          run: What is remembered of the run.
          history: The rows of the epochs completed.
        """
        self._history = list(history)
        if not self._enabled:
            return
        self._run_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._run_dir / "flags.txt") as file:
            file.write(run.config.to_flagfile().encode())
        runs.write(run)
        self._write_history()
        step = len(history) + 1
        for name in ("train", "validation"):
            event_files.drop_points(self._curves / name, from_step=step)
            self._writers[name] = tf.summary.create_file_writer(str(self._curves / name))
        self._write_flags(run.config)

    def epoch(
        self, row: dict[str, float], *, improved: bool, weights: dict[str, NDArray[Any]]
    ) -> None:
        """Logs an epoch.

        Args:
          row: Values by the names of `COLUMNS` and of the charts; the gradient norm and the
            loss scale are the last step's, and what was not measured is left out.
          improved: Whether it is the best so far.
          weights: Arrays to draw histograms of, by name.
        """
        self._history.append(row)
        if not self._enabled:
            return
        self._write_history()
        for split, writer in self._writers.items():
            with writer.as_default(step=row["epoch"]):
                for metric in _METRICS:
                    tf.summary.scalar(f"metrics/{metric}", row[f"{split}_{metric}"])
        with self._writers["train"].as_default(step=row["epoch"]):
            for name in _CHARTS.keys() & row.keys():
                tf.summary.scalar(f"{_CHARTS[name]}/{name}", row[name])
            for name, array in weights.items():
                tf.summary.histogram(f"weights/{name}", array)
        for writer in self._writers.values():
            writer.flush()
        self.say(_line(row) + ("  best" if improved else ""))

    def end(self, metrics: dict[str, float], *, best_epoch: int, checkpoint: Path) -> None:
        """Logs the result on the test split."""
        self.say(
            f"test loss {metrics['loss']:.4f}  top1 {metrics['top1']:.4f}  "
            f"top3 {metrics['top3']:.4f}  (weights of epoch {best_epoch}, {checkpoint})"
        )
        if not self._enabled:
            return
        event_files.drop_points(self._curves / "test", from_step=0)
        writer = self._writers["test"] = tf.summary.create_file_writer(str(self._curves / "test"))
        with writer.as_default(step=best_epoch):
            for name, value in metrics.items():
                tf.summary.scalar(f"metrics/{name}", value)

    def _write_flags(self, config: Config) -> None:
        """Shows the flags as a flagfile, and beside the results of other runs."""
        event_files.drop_points(self._curves, from_step=0)
        writer = tf.summary.create_file_writer(str(self._curves))
        with writer.as_default(step=0):
            tf.summary.text("flags", textwrap.indent(config.to_flagfile(), " " * 4))
            # Where nothing says which columns to show, those that differ come first.
            hparams.hparams(
                _hyperparameters(config), trial_id=f"{self._run_dir.name} in {self._run_dir.parent}"
            )
        writer.close()

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._history)
        with atomic_write(self._run_dir / "history.csv") as file:
            file.write(text.getvalue().encode())


def _line(row: dict[str, float]) -> str:
    wait = row.get("input_wait_share")
    return (
        f"epoch {row['epoch']:3d}  "
        f"loss {row['train_loss']:.4f} top1 {row['train_top1']:.4f}  "
        f"validation loss {row['validation_loss']:.4f} top1 {row['validation_top1']:.4f} "
        f"top3 {row['validation_top3']:.4f}  "
        f"lr {row['learning_rate']:.2g}  {row['seconds']:.0f} s  "
        f"{row['examples_per_second']:,.0f} drawings/s"
        f"{'' if wait is None else f'  input wait {wait:.1%}'}"
    )


def _hyperparameters(config: Config) -> dict[str, float | str]:
    values = {name: getattr(config, name) for name in _HYPERPARAMETERS}
    values["augment"] = ",".join(config.augment) or "none"
    return {name: "default" if value is None else value for name, value in values.items()}
