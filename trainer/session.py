"""Sets TensorFlow up as the flags ask, and starts the run."""

import re
import sys
from pathlib import Path

import keras
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from trainer import models
from trainer.flags import Config
from trainer.run_directory import runs
from trainer.training import distribution, loop

# What stands around the line that tells what happened.
_NOT_TELLING = ("Graph execution error:", "Detected at node", "File ", "[[", "(")
_CHECKED_OPERATION = re.compile(r"node (?:while/)?(\S+)/CheckNumerics")


def run(config: Config) -> None:
    """Trains and makes the report, or prints the model.

    Raises:
      UsageError, DataError: As `loop.Run`; the reader's errors too, out of TensorFlow's.
    """
    tf.get_logger().setLevel("WARNING")  # MirroredStrategy tells of each reduction
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.check_numerics:
        tf.debugging.enable_check_numerics()
    strategy = distribution.create_strategy(config.strategy)
    if config.print_model:
        _print_model(config)
        return
    info = qt.open_dataset(config.data_dir)
    with strategy.scope():
        training = loop.Run(config, info)
        if distribution.is_chief():
            training.model.summary(line_length=79, print_fn=print)
        try:
            is_finished = training.train() is not None
        except tf.errors.OpError as error:
            raise DataError(_innermost(error)) from error
    if is_finished and config.report:
        if distribution.is_chief():
            _report(config.run_dir)
        # The others wait for it: a worker that ends would be taken for one that has died.
        distribution.mean_over_workers(strategy, 0.0)


def _report(run_dir: Path) -> None:
    """Makes the report. Whatever may go wrong in it, the run is done, and all of it saved."""
    try:
        from trainer.report import page  # takes seconds to import

        print(f"report: {page.make(runs.open_run(run_dir))}")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"warning: the run is complete, but its report could not be made ({reason}); "
            f"quickdraw report --run_dir={run_dir} tries again",
            file=sys.stderr,
        )


def _print_model(config: Config) -> None:
    """The model for the data set, or for the study's if none is named."""
    side, num_classes = 28, 345
    if config.data_dir:
        info = qt.open_dataset(config.data_dir)
        side, num_classes = info.side, len(info.class_names)
    model = models.get(config.model)(side=side, num_classes=num_classes, dropout=config.dropout)
    model.summary(line_length=79)


def _innermost(error: tf.errors.OpError) -> str:
    """The line of our own error that TensorFlow has wrapped, or the one that tells of its own."""
    lines = [line.strip() for line in error.message.splitlines()]
    marker = "DataError: "
    ours = [line.partition(marker)[2] for line in lines if marker in line]
    if ours:
        return ours[0]
    if checked := _CHECKED_OPERATION.search(error.message):
        return f"--check_numerics: NaN or infinity came out of the operation {checked[1]}"
    telling = [line for line in lines if line and not line.startswith(_NOT_TELLING)]
    return telling[0] if telling else type(error).__name__
