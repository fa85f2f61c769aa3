"""One training run: train an epoch, validate, plateau, early stop, checkpoint, log; then test.

Everything that decides how the run goes on is in `Progress` and in variables, and both are
in every checkpoint: a run that was killed goes on as if it had not been.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from quickdraw_tfrecords import dataset
from quickdraw_tfrecords.dataset import DatasetInfo
from quickdraw_tfrecords.errors import DataError, UsageError
from trainer import checkpoints, distribution, evaluation, models, optimizers, precision, summaries
from trainer.checkpoints import CheckpointFiles
from trainer.evaluation import Evaluator
from trainer.flags import Config
from trainer.interruption import Interruption
from trainer.plateau import EarlyStopping, ReduceLROnPlateau, is_improvement
from trainer.precision import LossScale
from trainer.steps import TrainSteps


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
      epoch: Epochs completed.
      step_in_epoch: Steps taken in the epoch under way.
      seconds: Time spent on the epoch under way, in earlier processes.
      history: One row an epoch, as in history.csv.
      best: Value of the monitored metric at the best checkpoint.
      stopped: Whether early stopping has ended the run.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: float | None = None
    stopped: bool = False


class Run:
    """A training run: its model, its state, and its files."""

    def __init__(self, config: Config, info: DatasetInfo) -> None:
        self._config, self._info = config, info
        self._strategy = tf.distribute.get_strategy()
        self._steps_per_epoch = info.num_examples["train"] // config.batch_size
        if not self._steps_per_epoch:
            raise UsageError(
                f"--batch_size={config.batch_size} is more than the "
                f"{info.num_examples['train']:,} drawings of the training split"
            )
        policy, reason = precision.choose(config.precision)
        keras.mixed_precision.set_global_policy(policy)
        self.model = build_model(config, side=info.side, num_classes=len(info.class_names))
        self._optimizer = optimizers.create(config, self._steps_per_epoch)
        self._optimizer.build(self.model.trainable_variables)
        jit_compile = _use_xla(config, self._strategy)
        self._loss_scale = LossScale(policy)
        self._train_steps = TrainSteps(
            self.model, self._optimizer, self._loss_scale, config, jit_compile=jit_compile
        )
        self._evaluator = Evaluator(self.model, jit_compile=jit_compile)
        self._plateau = ReduceLROnPlateau(
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            mode=config.mode,
            min_delta=config.plateau_min_delta,
            cooldown=config.plateau_cooldown,
            min_lr=config.min_learning_rate,
        )
        self._early_stopping = EarlyStopping(
            patience=max(config.early_stopping_patience, 0),
            mode=config.mode,
            min_delta=config.early_stopping_min_delta,
        )
        self._progress = Progress()
        directory = config.run_dir / "checkpoints"
        self._latest = CheckpointFiles(directory / "latest", keep=config.keep)
        self._best = CheckpointFiles(directory / "best", keep=1)
        self._log = summaries.RunLog(config.run_dir, enabled=distribution.is_chief())
        self._log.say(
            f"{self._strategy.num_replicas_in_sync} device(s), "
            f"precision {policy} ({reason}), XLA {'on' if jit_compile else 'off'}, "
            f"{self._steps_per_epoch} steps an epoch"
        )
        self._fingerprint = _fingerprint(config, info, policy)

    def train(self) -> dict[str, float] | None:
        """Trains to the end and tests the best weights.

        Returns:
          loss, top1 and top3 on the test split; None if interrupted, having saved.

        Raises:
          DataError: The loss became non-finite, or the data set is damaged.
          UsageError: The run directory holds a run that these flags would change.
        """
        self._begin()
        with Interruption() as interruption:
            while self._progress.epoch < self._config.epochs and not self._progress.stopped:
                if not self._train_epoch(interruption):
                    self._save_latest()
                    self._log.say(
                        f"stopped after step {self._train_steps.step.numpy()}, and saved; "
                        "the same command goes on from here"
                    )
                    return None
                self._finish_epoch()
        return self._test()

    def _begin(self) -> None:
        newest = self._latest.newest()
        if self._config.resume == "never":
            for path in self._latest.paths() + self._best.paths():
                path.unlink()
        elif newest:
            self._restore(newest)
        elif self._config.resume == "must":
            raise UsageError(f"--resume=must, but {self._config.run_dir} has no checkpoint")
        elif self._config.init_from:
            path = checkpoints.find(self._config.init_from)
            arrays, _ = checkpoints.read(path)
            weights = _named(self.model.variables)
            checkpoints.restore(weights, {n: arrays[n] for n in weights if n in arrays}, path)
        self._log.begin(self._config, self._progress.history, self._train_steps.step.numpy())

    def _train_epoch(self, interruption: Interruption) -> bool:
        """Trains the rest of the epoch under way; False if interrupted."""
        progress, config = self._progress, self._config
        batches = iter(self._batches("train", start_step=progress.step_in_epoch))
        started, earlier_secs = time.perf_counter(), progress.seconds
        with self._log.bar(
            f"epoch {progress.epoch + 1}/{config.epochs}",
            initial=progress.step_in_epoch,
            total=self._steps_per_epoch,
        ) as bar:
            while progress.step_in_epoch < self._steps_per_epoch:
                steps = self._next_steps()
                self._train_steps.run(batches, tf.constant(steps, tf.int64))
                self._require_finite()
                progress.step_in_epoch += steps
                progress.seconds = earlier_secs + time.perf_counter() - started
                bar.update(steps)
                if interruption.requested:
                    return False
                every = config.checkpoint_every_steps
                if every and progress.step_in_epoch % every == 0:
                    self._save_latest()
        return True

    def _next_steps(self) -> int:
        """Steps until the next thing that Python has to do."""
        done = self._progress.step_in_epoch
        ends = [self._steps_per_epoch, done + self._config.steps_per_loop]
        if every := self._config.checkpoint_every_steps:
            ends.append((done // every + 1) * every)
        return min(ends) - done

    def _require_finite(self) -> None:
        bad = int(self._train_steps.first_bad_step.numpy())
        if bad >= 0:
            raise DataError(
                f"the loss became NaN or infinite at step {bad}, "
                "and nothing was saved since. Try a lower --learning_rate, or look for the "
                "operation with --check_numerics; the checkpoints before are good"
            )

    def _finish_epoch(self) -> None:
        """Validates, and does what the metrics call for."""
        progress, config = self._progress, self._config
        learning_rate = float(self._optimizer.learning_rate)
        with evaluation.averaged_weights(self.model, self._optimizer):
            validation = self._evaluate("validation")
            metric = validation[config.monitor.removeprefix("validation_")]
            row = self._row(learning_rate, validation)
            progress.history.append(row)
            improved = progress.best is None or is_improvement(
                metric, progress.best, mode=config.mode
            )
            if improved:
                self._save_best(metric)
        if config.schedule == "plateau":
            self._optimizer.learning_rate = self._plateau.update(metric, learning_rate)
        stop = self._early_stopping.update(progress.epoch, metric)
        progress.stopped = stop and config.early_stopping_patience >= 0
        train_steps = self._train_steps
        self._log.epoch(
            row,
            improved=improved,
            input_share=float(train_steps.input_secs.numpy()) / max(progress.seconds, 1e-9),
            gradient_norm=float(train_steps.gradient_norm.numpy()),
            loss_scale=float(self._loss_scale.scale.numpy()),
            weights=_arrays(_named(self.model.trainable_variables)) if config.histograms else {},
        )
        train_steps.totals.reset()
        train_steps.input_secs.assign(0.0)
        progress.epoch, progress.step_in_epoch, progress.seconds = progress.epoch + 1, 0, 0.0
        self._save_latest()

    def _row(self, learning_rate: float, validation: dict[str, float]) -> dict[str, float]:
        examples = self._steps_per_epoch * self._config.batch_size
        return {
            "epoch": self._progress.epoch + 1,
            "learning_rate": learning_rate,
            **{f"train_{name}": v for name, v in self._train_steps.totals.means().items()},
            **{f"validation_{name}": value for name, value in validation.items()},
            "seconds": self._progress.seconds,
            "examples_per_second": examples / self._progress.seconds,
        }

    def _test(self) -> dict[str, float]:
        """Evaluates the best weights on the test split."""
        path = self._best.newest()
        arrays, state = checkpoints.read(path)
        checkpoints.restore(_named(self.model.variables), arrays, path)
        metrics = self._evaluate("test")
        self._log.end(metrics, best_epoch=state["epoch"], checkpoint=path)
        return metrics

    def _evaluate(self, split: str) -> dict[str, float]:
        steps = math.ceil(self._info.num_examples[split] / self._config.batch_size)
        return self._evaluator.evaluate(self._batches(split), steps)

    def _batches(self, split: str, start_step: int = 0) -> tf.distribute.DistributedDataset:
        """What is left of the epoch of a split, from a step on, for every replica."""
        training, config = split == "train", self._config

        def make(context: tf.distribute.InputContext, batch_size: int) -> tf.data.Dataset:
            replicas = context.num_replicas_in_sync // context.num_input_pipelines
            batches = dataset.load(
                config.data_dir,
                split,
                batch_size,
                shuffle=training,
                seed=config.seed,
                epoch=self._progress.epoch if training else 0,
                start_step=start_step * replicas,
                drop_remainder=training,
                cache=config.cache,
                input_context=context,
            )
            return batches if training else evaluation.pad(batches, batch_size)

        return distribution.distribute(self._strategy, make, config.batch_size)

    @property
    def _variables(self) -> dict[str, Any]:
        return _named(
            [
                *self.model.variables,
                *self._optimizer.variables,
                *self._train_steps.variables,
            ]
        )

    def _save_latest(self) -> None:
        state = {
            "flags": self._fingerprint,
            "progress": dataclasses.asdict(self._progress),
            "plateau": self._plateau.state_dict(),
            "early_stopping": self._early_stopping.state_dict(),
        }
        self._save(self._latest, self._variables, state)

    def _save_best(self, metric: float) -> None:
        """Saves the weights that were just evaluated, and only then takes them for the best."""
        state = {"flags": self._fingerprint, "epoch": self._progress.epoch + 1, "metric": metric}
        self._save(self._best, _named(self.model.variables), state)
        self._progress.best = metric

    def _save(self, files: CheckpointFiles, variables: dict[str, Any], state: dict) -> None:
        arrays = _arrays(variables)  # on every worker: reading a replicated sum is collective
        if distribution.is_chief():
            files.save(int(self._train_steps.step.numpy()), arrays, state)

    def _restore(self, path: Path) -> None:
        arrays, state = checkpoints.read(path)
        checkpoints.require_same(path, state["flags"], self._fingerprint)
        checkpoints.restore(self._variables, arrays, path)
        self._progress = Progress(**state["progress"])
        self._plateau.load_state_dict(state["plateau"])
        self._early_stopping.load_state_dict(state["early_stopping"])
        self._log.say(
            f"resuming at epoch {self._progress.epoch + 1}, "
            f"step {self._progress.step_in_epoch} of {self._steps_per_epoch}"
        )


def build_model(config: Config, *, side: int, num_classes: int) -> keras.Model:
    """The model that the flags name."""
    build = models.get(config.model)
    return build(side=side, num_classes=num_classes, dropout=config.dropout)


def _use_xla(config: Config, strategy: tf.distribute.Strategy) -> bool:
    """XLA pays on a GPU; across replicas the step leaves the compiled function to reduce."""
    one_gpu = strategy.num_replicas_in_sync == 1 and tf.config.list_logical_devices("GPU")
    if config.jit_compile == "true" and strategy.num_replicas_in_sync > 1:
        raise UsageError("--jit_compile=true works on one device only: drop it or --strategy")
    return config.jit_compile == "true" or (config.jit_compile == "auto" and bool(one_gpu))


def _fingerprint(config: Config, info: DatasetInfo, policy: str) -> dict[str, Any]:
    """What must not change between the parts of one run."""
    fixed = (
        "model", "dropout", "batch_size", "optimizer", "learning_rate", "weight_decay",
        "label_smoothing", "ema", "schedule", "warmup_epochs", "seed",
    )  # fmt: skip
    fingerprint = {name: getattr(config, name) for name in fixed}
    if config.schedule in ("cosine", "warmup_cosine"):
        fingerprint["epochs"] = config.epochs
    return fingerprint | {
        "augment": list(config.augment),
        "precision": policy,
        "data_dir": info.fingerprint,
    }


def _named(variables: Sequence[Any]) -> dict[str, Any]:
    """Variables by name; Keras calls the unique one `path`."""
    named = {getattr(v, "path", None) or v.name: v for v in variables}
    if len(named) != len(variables):
        raise ValueError("two variables have one name: name the model's layers")
    return named


def _arrays(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable.numpy()) for name, variable in variables.items()}
