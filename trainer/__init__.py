"""Trains classifiers of Quick, Draw! drawings, and opens what was trained.

    import trainer

    config = trainer.Config(data_dir="data", run_dir="runs/1", epochs=2, batch_size=64)
    metrics = trainer.train(config)           # {"loss": ..., "top1": ..., "top3": ...}

    run = trainer.open_run("runs/1")
    losses = [row["validation_loss"] for row in run.history()]
    probabilities = run.predict(images)       # uint8[n, 28, 28] -> float32[n, classes]
    top5 = run.evaluate("test").metrics.top5

`quickdraw train --help` lists the settings of a `Config`.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from quickdraw_tfrecords.base import startup

startup.prepare(__name__)

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.opened_run import OpenedRun

__all__ = ["Config", "open_run", "train"]


def train(
    config: "Config", actions: Sequence[Callable[[dict[str, float]], object]] = ()
) -> dict[str, float] | None:
    """Trains, or resumes what `config.run_dir` holds, tests the best weights, makes the report.

    It prints an epoch per line, and tests in float32, whatever it trained in. It sets
    TensorFlow's random seeds, and where the config asks for it determinism and checks of all
    numbers, for the whole process. Ctrl-C and SIGTERM end the run once it is saved.

    Args:
      config: The settings.
      actions: Called after each epoch, in turn and on every worker, once all of it is saved,
        with what is logged of it: `epoch`, `learning_rate`, `train_loss`, `validation_top1` and
        so on. One that raises ends the run; the next call resumes it.

    Returns:
      `loss`, `top1` and `top3` on the test split; None if the run was interrupted.

    Raises:
      UsageError: A setting is impossible, contradicts another, or does not fit the data set, the
        devices, or the run that is there.
      DataError: The data set or a checkpoint is missing or damaged, or the loss is not finite.
    """
    from quickdraw_tfrecords.base.errors import Interrupted
    from trainer import session  # imports TensorFlow, as the next function does

    try:
        return session.train(config, actions)
    except Interrupted:
        return None


def open_run(
    run_dir: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
) -> "OpenedRun":
    """Opens a run directory, at its best checkpoint.

    Args:
      run_dir: What was `Config.run_dir`.
      data_dir: Where the run's data set is now, if it has moved.

    Raises:
      UsageError: There is no run.
      DataError: Its `run.json` is damaged.
    """
    from trainer import opened_run

    return opened_run.OpenedRun(run_dir, data_dir)


def __getattr__(name: str) -> Any:
    # Modules that need neither settings nor TensorFlow are imported without them.
    if name == "Config":
        from trainer.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
