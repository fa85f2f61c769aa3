"""What a run leaves for people: console lines, history.csv, and TensorBoard's curves."""

import csv
import io
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import keras
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.plugins.hparams import api as hparams
from tqdm import tqdm

from quickdraw_tfrecords.base.files import atomic_write
from trainer.config import Config
from trainer.run_directory import choices, event_files, runs
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
# Each of these is a group, with a chart for each split.
_METRICS = ("loss", "top1", "top3")
_CHARTS = {
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
    "loss_scale": "optimizer",
    "examples_per_second": "speed",
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
      shown: Gives a line as it is to be printed.
    """

    def __init__(
        self, run_dir: Path, *, enabled: bool, shown: Callable[[str], str] = lambda line: line
    ) -> None:
        self._run_dir, self._enabled, self._shown = run_dir, enabled, shown
        self._curves = run_dir / "tensorboard"
        self._writer: tf.summary.SummaryWriter | None = None
        self._history: list[dict[str, float]] = []

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def say(self, line: str) -> None:
        """Prints a line, without breaking a progress bar."""
        if self._enabled:
            tqdm.write(self._shown(line))
            sys.stdout.flush()

    def bar(self, description: str, *, initial: int, total: int) -> "tqdm[NoReturn]":
        """A live bar of steps where the output is a terminal, else nothing."""
        return tqdm(
            desc=description,
            initial=initial,
            total=total,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}{postfix}]",
            dynamic_ncols=True,
            leave=False,
            disable=None if self._enabled else True,
        )

    def begin(
        self,
        run: TrainedRun,
        history: list[dict[str, float]],
        *,
        step: int,
        epochs_end: int,
        model: keras.Model | None = None,
    ) -> None:
        """Begins or resumes: writes what the run is, and drops points beyond the checkpoint.

        Args:
          run: What is remembered of the run.
          history: The rows of the epochs completed.
          step: Number of steps taken.
          epochs_end: Of those in the epochs completed.
          model: What TensorBoard draws the graph of.
        """
        self._history = list(history)
        if not self._enabled:
            return
        self._run_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._run_dir / "flags.txt") as file:
            file.write(run.config.to_flagfile().encode())
        runs.write(run)
        self._write_history()

        def is_unwanted(event_step: int, tag: str) -> bool:
            # At step 0 stands what the run is, which is written anew.
            return not 0 < event_step <= (step if _is_within_epoch(tag) else epochs_end)

        event_files.drop_points(self._curves, is_unwanted)
        self._writer = tf.summary.create_file_writer(str(self._curves))
        with self._writer.as_default(step=0):
            self._write_flags(run.config)
            event_files.write_layout(_METRICS, ("train", "validation"))
            if model:
                event_files.write_graph(model)

    def add_point(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to the curves of the training split.

        Args:
          step: Number of steps taken.
          values: Means of the metrics over some steps, and of the charts what is known.
        """
        tags = {f"{metric}/train": values[metric] for metric in _METRICS}
        tags |= {f"{_CHARTS[name]}/{name}": values[name] for name in _CHARTS.keys() & values}
        self._add_scalars(step, tags)

    def epoch(
        self,
        row: dict[str, float],
        *,
        step: int,
        improved: bool,
        weights: dict[str, NDArray[Any]],
    ) -> None:
        """Logs an epoch.

        Args:
          row: Values by the names of `COLUMNS`; what was not measured is left out.
          step: Number of steps taken.
          improved: Whether it is the best so far.
          weights: Arrays to draw histograms of, by name.
        """
        self._history.append(row)
        if not self._enabled:
            return
        self._write_history()
        tags = {f"{metric}/validation": row[f"validation_{metric}"] for metric in _METRICS}
        if "input_wait_share" in row:
            tags["speed/input_wait_share"] = row["input_wait_share"]
        self._add_scalars(step, tags, weights)
        self.say(_line(row) + ("  best" if improved else ""))

    def end(self, metrics: dict[str, float], *, step: int, weights: str) -> None:
        """Logs the result on the test split.

        Args:
          metrics: The result, in float32.
          step: The step whose weights were tested.
          weights: Those, in words.
        """
        self.say(
            f"test loss {metrics['loss']:.4f}  top1 {metrics['top1']:.4f}  "
            f"top3 {metrics['top3']:.4f}  (in float32, with {weights})"
        )
        if self._enabled:
            event_files.drop_points(self._curves, lambda _, tag: tag.endswith("/test"))
            self._writer = tf.summary.create_file_writer(str(self._curves))
            self._add_scalars(step, {f"{metric}/test": metrics[metric] for metric in _METRICS})

    def _add_scalars(
        self,
        step: int,
        values: Mapping[str, float],
        weights: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Adds scalars by tag, and histograms of weights by name."""
        if not (self._enabled and self._writer):
            return
        with self._writer.as_default(step=step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
            for name, array in (weights or {}).items():
                tf.summary.histogram(f"weights/{name}", array)
        self._writer.flush()

    def _write_flags(self, config: Config) -> None:
        """Shows the flags as a flagfile, and beside the results of other runs."""
        tf.summary.text("flags", textwrap.indent(config.to_flagfile(), " " * 4))
        # Where nothing says which columns to show, those that differ come first.
        folder, _, name = str(config.run_dir).rpartition("/")
        hparams.hparams(_hyperparameters(config), trial_id=f"{name} in {folder or '.'}")

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._history)
        with atomic_write(self._run_dir / choices.HISTORY) as file:
            file.write(text.getvalue().encode())


def _is_within_epoch(tag: str) -> bool:
    """Whether `RunLog.add_point` adds points of this tag, not what follows an epoch."""
    group, _, name = tag.partition("/")
    return name == "train" or _CHARTS.get(name) == group


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
