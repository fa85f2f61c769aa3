"""The state of a run, and its checkpoints.

Everything that decides how a run continues is in `Progress`, in the two monitors and in
variables, and all of it is in every checkpoint: a run that was killed resumes as if it had
not been.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.json_values import JsonValue
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer.config import Config
from trainer.run_directory import checkpoints, starts
from trainer.run_directory.background import BackgroundWriter
from trainer.run_directory.checkpoints import Arrays, State
from trainer.training import distribution
from trainer.training.monitors import EarlyStopping, ReduceLROnPlateau
from trainer.training.steps import TrainSteps

_FORMER = {"best"}  # what earlier versions saved of the progress, too: the history says as much


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
      epoch: Epochs completed.
      step_in_epoch: Steps taken in the epoch under way.
      seconds: Time spent on the epoch under way.
      input_seconds: Time of that spent waiting for batches.
      history: One row per epoch, as in history.csv.
      stopped: Whether early stopping has ended the run.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0
    input_seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    stopped: bool = False


def precision_of_resumed(config: Config, directory: Path) -> str | None:
    """The dtype policy of the run that a config resumes; None if it begins one.

    What --precision=auto decides depends on how busy the machine is, and a run keeps to what it
    began with.
    """
    if config.resume == "never":
        return None
    for path in reversed(checkpoints.latest(directory, keep=config.keep).paths()):
        with contextlib.suppress(DataError):  # `RunState.begin` tells of it
            state = checkpoints.as_json(path, checkpoints.read_state(path))
            return state["run"]["--precision"].text()
    return None


class RunState:
    """What a run consists of beside its settings, saved and restored.

    A context that ends once all is written.

    Args:
      config: The settings.
      info: The data set.
      directory: The run directory, on this machine.
      policy: The dtype policy.
      cache: Where the training split is held.
      teacher: Checksum of the teacher's weights, if there is one.
      model, optimizer, train_steps: Whose variables are the state.
      agree: Gives all workers the same value, made of those they call it with.

    Attributes:
      progress: How far the run has come.
      cache: Where the training split is held: it decides the order of the drawings, so a run
        keeps to what it began with.
      plateau, early_stopping: The two monitors.
    """

    def __init__(
        self,
        config: Config,
        info: DatasetInfo,
        *,
        directory: Path,
        policy: str,
        cache: str,
        teacher: str | None,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        train_steps: TrainSteps,
        agree: Callable[[float], float],
    ) -> None:
        self._agree, self._writer = agree, BackgroundWriter()
        self._saved_at = time.monotonic()
        self._config, self._policy, self._info = config, policy, info
        self._teacher = teacher
        self._model, self._optimizer, self._train_steps = model, optimizer, train_steps
        self.cache = cache
        self.progress = Progress()
        self.plateau = ReduceLROnPlateau(
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            mode=config.mode,
            min_delta=config.plateau_min_delta,
            cooldown=config.plateau_cooldown,
            min_lr=config.min_learning_rate,
        )
        self.early_stopping = EarlyStopping(
            patience=max(config.early_stopping_patience, 0),
            mode=config.mode,
            min_delta=config.early_stopping_min_delta,
        )
        self._latest = checkpoints.latest(directory, keep=config.keep)
        self._best = checkpoints.best(directory, keep=config.keep)

    def __enter__(self) -> "RunState":
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def begin(self, *, warn: Callable[[str], None]) -> bool:
        """Takes the state from the latest checkpoint, or else the weights from --init_from.

        Args:
          warn: Called with a line for what is amiss but does not prevent the run.

        Returns:
          Whether it resumes.

        Raises:
          UsageError: The settings would change the run.
          DataError: All checkpoints to resume from, or that of --init_from, are damaged.
        """
        self._check_patience(warn)
        resumes = self._latest.newest() is not None and self._config.resume != "never"
        if resumes:
            self._restore(*self._latest.read_newest(warn, self._require_whole))
        elif self._config.init_from:
            with starts.weights(self._config.init_from) as path:
                checkpoints.restore_weights(self._model.variables, path)
        self._require_agreement()  # then all have read, also weights that are this run's own
        self._delete_after(self.step if resumes else -1)
        return resumes

    def _require_agreement(self) -> None:
        """Raises a DataError unless all workers resume from the same step."""
        if (mean := self._agree(self.step)) != self.step:
            raise DataError(
                f"the workers resume from different checkpoints: this one from step {self.step}, "
                f"and all on average from {mean:.1f}; start all of them anew"
            )

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return int(self._train_steps.step.numpy())

    def weights(self) -> Arrays:
        """What is trained, by name."""
        return checkpoints.to_arrays(checkpoints.named(self._model.trainable_variables))

    @property
    def is_save_due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch; the same on all workers."""
        every = self._config.checkpoint_every_secs
        is_due = every and time.monotonic() - self._saved_at >= every and not self._writer.is_busy
        # By the clock of the one that writes.
        return self._agree(bool(is_due) and distribution.is_chief()) > 0

    def save_latest(self, *, in_background: bool = False) -> None:
        """Saves all; with that, a best checkpoint saved before counts too.

        Args:
          in_background: Return as soon as the values are copied, and write them meanwhile.
        """
        state = {
            "run": self._fingerprint,
            "progress": dataclasses.asdict(self.progress),
            "plateau": self.plateau.state_dict(),
            "early_stopping": self.early_stopping.state_dict(),
        }
        # On every worker, because all of them take part in reading a sum over replicas.
        arrays, step = checkpoints.to_arrays(self._variables), self.step

        def write() -> None:
            self._latest.save(step, arrays, state)
            # Only now: before this checkpoint was complete, the older ones were still needed.
            self._latest.prune()
            self._best.prune()

        self._saved_at = time.monotonic()
        if distribution.is_chief():
            self._writer.start(write)
        if not in_background:
            self._writer.wait()

    def save_best(self, metric: float) -> None:
        """Saves the model as it is, as that of the best epoch so far."""
        state = {"run": self._fingerprint, "epoch": self.progress.epoch + 1, "metric": metric}
        arrays = checkpoints.to_arrays(checkpoints.named(self._model.variables))
        self._writer.wait()  # what it writes then deletes best checkpoints older than itself
        if distribution.is_chief():
            self._best.save(self.step, arrays, state)

    def _check_patience(self, warn: Callable[[str], None]) -> None:
        patience, config = self._config.early_stopping_patience, self._config
        if config.schedule == "plateau" and 0 <= patience <= config.plateau_patience:
            warn(
                f"warning: --early_stopping_patience={patience} ends the run before "
                f"--plateau_patience={config.plateau_patience} can lower the learning rate"
            )

    def _require_whole(self, state: JsonValue) -> None:
        """Raises a DataError unless `_restore` can take a state."""
        state["run"]["--cache"].text()
        progress = state["progress"]
        if progress.fields().keys() - _FORMER != {
            field.name for field in dataclasses.fields(Progress)
        }:
            raise progress.error("must be as this version saves it")
        for name in ("epoch", "step_in_epoch"):
            progress[name].whole()
        for name in ("seconds", "input_seconds"):
            progress[name].number(0, sys.float_info.max)
        for row in progress["history"].elements():
            for value in row.fields().values():
                value.any_number()
        progress["stopped"].flag()
        for name, monitor in (("plateau", self.plateau), ("early_stopping", self.early_stopping)):
            try:
                monitor.load_state_dict(state[name].value)
            except (ValueError, OverflowError) as error:
                raise state[name].error(str(error)) from None

    def _restore(self, path: Path, arrays: Arrays, state: State) -> None:
        # Otherwise "auto" could decide differently now that other memory is free, and the order of
        # the drawings would change in the middle of an epoch.
        if self._config.cache == "auto":
            self.cache = state["run"]["--cache"]
        checkpoints.require_same(path, state["run"], self._fingerprint)
        checkpoints.restore(self._variables, arrays, path)
        kept = state["progress"].items()
        self.progress = Progress(**{name: value for name, value in kept if name not in _FORMER})
        self.plateau.load_state_dict(state["plateau"])
        self.early_stopping.load_state_dict(state["early_stopping"])

    def _delete_after(self, step: int) -> None:
        """Deletes what a run that continues from `step` will write again, or not at all."""
        if distribution.is_chief():
            self._latest.delete_after(step)
            self._best.delete_after(step)

    @property
    def _variables(self) -> dict[str, Any]:
        parts = (self._model, self._optimizer, self._train_steps)
        return checkpoints.named([variable for part in parts for variable in part.variables])

    @property
    def _fingerprint(self) -> dict[str, Any]:
        """What must not change between the parts of one run."""
        flags = [
            "train_split", "model", "dropout", "batch_size", "optimizer", "learning_rate",
            "weight_decay", "label_smoothing", "ema", "schedule", "monitor", "seed",
            "teacher_share",
        ]  # fmt: skip
        # These depend on where the run ends; others may be prolonged.
        if self._config.schedule not in ("plateau", "constant") or self._config.train_sides:
            flags += ["epochs", "warmup_epochs"]
        lists = ("augment", "flip_classes", "train_sides")
        return {f"--{name}": getattr(self._config, name) for name in flags} | {
            **{f"--{name}": list(getattr(self._config, name)) for name in lists},
            "the teacher": self._teacher,
            "--cache": self.cache,
            "--precision": self._policy,
            "the number of classes": len(self._info.class_names),
            "the data set": self._info.fingerprint,
        }
