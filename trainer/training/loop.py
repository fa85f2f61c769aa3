"""One training run: train an epoch, validate, plateau, early stop, checkpoint, log; then test."""

import functools
import math
import time

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from quickdraw_tfrecords.reading.on_device import DeviceBatches
from trainer import models
from trainer.flags import Config
from trainer.run_directory import run_log, runs
from trainer.training import augmentation, distribution, evaluation, optimizers, precision
from trainer.training.batches import Batches
from trainer.training.evaluation import Evaluator
from trainer.training.interruption import Interruption, Pace
from trainer.training.monitors import is_improvement
from trainer.training.precision import LossScale
from trainer.training.profiling import StepProfiler
from trainer.training.state import RunState
from trainer.training.steps import TrainSteps


class Run:
    """A training run: its model, its state, and its files.

    Attributes:
      model: What is trained.
    """

    def __init__(self, config: Config, info: DatasetInfo) -> None:
        self._config = config
        self._strategy = tf.distribute.get_strategy()
        self._agree = functools.partial(distribution.mean_over_workers, self._strategy)
        self._batches = Batches(config, info)
        self._steps_per_epoch = self._batches.steps_per_epoch
        policy, reason = precision.choose(config.precision, self._agree)
        keras.mixed_precision.set_global_policy(policy)
        self.model = models.get(config.model)(
            side=info.side, num_classes=len(info.class_names), dropout=config.dropout
        )
        self._optimizer = optimizers.create(config, self._steps_per_epoch)
        self._optimizer.build(self.model.trainable_variables)
        jit_compile = distribution.use_xla(config.jit_compile, self._strategy)
        self._loss_scale = LossScale(policy)
        self._train_steps = TrainSteps(
            self.model,
            self._optimizer,
            self._loss_scale,
            config,
            flip_allowed=tf.constant(augmentation.flippable(info.class_names)),
            jit_compile=jit_compile,
        )
        self._evaluator = Evaluator(self.model, jit_compile=jit_compile)
        self._state = RunState(
            config,
            info,
            policy=policy,
            cache=self._batches.cache,
            model=self.model,
            optimizer=self._optimizer,
            train_steps=self._train_steps,
        )
        self._interruption = Interruption()
        self._profiler = StepProfiler(config.run_dir / "tensorboard", config.profile_steps)
        self._log = run_log.RunLog(config.run_dir, enabled=distribution.is_chief())
        devices = distribution.describe(self._strategy)
        self._facts = runs.describe(config, info, precision=policy, devices=devices)
        self._log.say(
            f"{devices}, precision {policy} ({reason}), XLA {'on' if jit_compile else 'off'}, "
            f"{self._steps_per_epoch} steps an epoch"
        )

    def train(self) -> dict[str, float] | None:
        """Trains to the end and tests the best weights.

        Returns:
          loss, top1 and top3 on the test split; None if interrupted, having saved.

        Raises:
          DataError: The loss became non-finite, or the data set is damaged.
          UsageError: The run directory holds a run that these flags would change.
        """
        self._begin()
        with self._log, self._interruption, self._profiler:
            while not self._is_finished:
                if not (self._train_epoch() and self._finish_epoch()):
                    self._state.save_latest()
                    self._log.say(
                        f"stopped after step {self._state.step}, and saved; "
                        "the same command goes on from here"
                    )
                    return None
            return self._test()

    @property
    def _is_finished(self) -> bool:
        progress = self._state.progress
        return progress.stopped or progress.epoch >= self._config.epochs

    def _begin(self) -> None:
        resumes = self._state.begin(warn=self._log.say)
        progress = self._state.progress
        if resumes and self._is_finished:
            self._log.say(f"trained already, for {progress.epoch} epochs; testing again")
        elif resumes:
            self._log.say(
                f"resuming at epoch {progress.epoch + 1}, "
                f"step {progress.step_in_epoch} of {self._steps_per_epoch}"
            )
        self._log.begin(self._config, progress.history)
        if distribution.is_chief():
            runs.write(self._facts)

    def _train_epoch(self) -> bool:
        """Trains the rest of the epoch under way; False if interrupted."""
        progress, every = self._state.progress, self._config.checkpoint_every_steps
        batches = self._batches.train(
            epoch=progress.epoch, start_step=progress.step_in_epoch, cache=self._state.cache
        )
        pace = Pace(self._config.steps_per_loop, self._agree)
        with self._log.bar(
            f"epoch {progress.epoch + 1}/{self._config.epochs}",
            initial=progress.step_in_epoch,
            total=self._steps_per_epoch,
        ) as bar:
            while progress.step_in_epoch < self._steps_per_epoch:
                self._profiler.update(self._state.step)
                start = time.perf_counter()
                steps = pace.call(lambda steps: self._run(batches, steps), self._steps_ahead())
                progress.step_in_epoch += steps
                progress.seconds += time.perf_counter() - start
                bar.update(steps)
                if self._is_interrupted():
                    return False
                if every and progress.step_in_epoch % every == 0:
                    self._state.save_latest()
        self._profiler.update(self._state.step)
        return True

    def _run(self, batches: tf.distribute.DistributedIterator | DeviceBatches, steps: int) -> None:
        self._train_steps.run(batches, tf.constant(steps, tf.int64))
        if bad := int(self._train_steps.first_bad_step.numpy()):
            raise DataError(
                f"the loss or its gradient became NaN or infinite at step {bad}. Nothing was "
                "saved since: what checkpoints there are, are good. Try a lower --learning_rate, "
                "or let --check_numerics name the operation"
            )
        progress = self._state.progress
        progress.input_seconds += float(self._train_steps.input_secs.numpy())
        self._train_steps.input_secs.assign(0.0)

    def _steps_ahead(self) -> int:
        """Steps until the next thing that Python has to do."""
        done = self._state.progress.step_in_epoch
        ahead = [self._steps_per_epoch - done]
        if every := self._config.checkpoint_every_steps:
            ahead.append(every - done % every)
        if steps := self._profiler.steps_left(self._state.step):
            ahead.append(steps)
        return min(ahead)

    def _is_interrupted(self) -> bool:
        return self._agree(self._interruption.requested) > 0

    def _finish_epoch(self) -> bool:
        """Validates, and does what the metrics call for; False if interrupted."""
        progress, config = self._state.progress, self._config
        with evaluation.averaged_weights(self.model, self._optimizer):
            validation = self._evaluate("validation")
            if not validation:
                return False
            metric = validation[config.monitor.removeprefix("validation_")]
            improved = progress.best is None or is_improvement(
                metric, progress.best, mode=config.mode
            )
            if improved:
                self._state.save_best(metric)
        row = self._row(validation)
        progress.history.append(row)
        progress.stopped = self._adapt(metric)
        weights = self._state.weights() if config.histograms else {}
        self._log.epoch(row, improved=improved, weights=weights)
        self._train_steps.totals.reset()
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.seconds = progress.input_seconds = 0.0
        self._state.save_latest()
        return True

    def _adapt(self, metric: float) -> bool:
        """Sets the next learning rate; returns whether to stop."""
        if self._config.schedule == "plateau":
            self._optimizer.learning_rate = self._state.plateau.update(metric, self._learning_rate)
        stop = self._state.early_stopping.update(self._state.progress.epoch, metric)
        return stop and self._config.early_stopping_patience >= 0

    @property
    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))

    def _row(self, validation: dict[str, float]) -> dict[str, float]:
        """What is logged of an epoch, by the names that `summaries` has."""
        progress, train_steps = self._state.progress, self._train_steps
        drawings = self._steps_per_epoch * self._config.batch_size
        row = {
            "epoch": progress.epoch + 1,
            "learning_rate": self._learning_rate,
            **{f"train_{name}": value for name, value in train_steps.totals.means().items()},
            **{f"validation_{name}": value for name, value in validation.items()},
            "seconds": progress.seconds,
            "examples_per_second": drawings / progress.seconds,
            "gradient_norm": float(train_steps.gradient_norm.numpy()),
            "loss_scale": float(self._loss_scale.scale.numpy()),
        }
        if not self._config.deterministic:
            row["input_wait_share"] = progress.input_seconds / progress.seconds
        return row

    def _test(self) -> dict[str, float] | None:
        """Evaluates the best weights on the test split."""
        epoch, path = self._state.restore_best()
        metrics = self._evaluate("test")
        if metrics:
            self._log.end(metrics, best_epoch=epoch, checkpoint=path)
        else:
            self._log.say("stopped in the test, with all saved; the same command tests again")
        return metrics

    def _evaluate(self, split: str) -> dict[str, float] | None:
        """Loss, top1 and top3 of a split; None if interrupted.

        Raises:
          DataError: The loss is not finite.
        """
        left = self._batches.evaluation_steps(split)
        pace = Pace(self._config.steps_per_loop, self._agree)
        self._evaluator.begin(self._batches.evaluation(split))
        while left:
            left -= pace.call(self._evaluator.run, left)
            if self._is_interrupted():
                return None
        metrics = self._evaluator.means()
        if not math.isfinite(metrics["loss"]):
            raise DataError(
                f"the {split} loss is {metrics['loss']} after step {self._state.step}. Nothing was "
                "saved since: what checkpoints there are, are good. Try a lower --learning_rate"
            )
        return metrics
