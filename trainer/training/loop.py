"""One training run: train an epoch, validate, plateau, early stop, checkpoint, log."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.errors import DataError, Interrupted
from quickdraw_tfrecords.reading.on_device import DeviceBatches
from trainer import epochs
from trainer.config import Config
from trainer.training.interruption import Interruption, Pace
from trainer.training.meter import Meter
from trainer.training.parts import Parts

Metrics = dict[str, float]
Action = Callable[[Metrics], object]


class Run:
    """A training run.

    Args:
      config: Its settings.
      parts: What it works with; `trainer.session` makes them.
      actions: Called after each epoch, in turn, once all of it is saved, with what is logged
        of it: `epoch`, `learning_rate`, `train_loss`, `validation_top1` and so on. One that
        raises ends the run.
    """

    def __init__(self, config: Config, parts: Parts, actions: Sequence[Action] = ()) -> None:
        self._config, self._parts, self._actions = config, parts, actions
        self._state, self._log, self._agree = parts.state, parts.log, parts.agree
        self._steps_per_epoch = parts.batches.steps_per_epoch
        self._interruption = Interruption()
        self._meter = Meter(
            parts.log,
            parts.train_steps.totals,
            self._rates,
            batch_size=config.batch_size,
            every_secs=config.log_every_secs,
            last_step=config.epochs * self._steps_per_epoch,
        )

    def train(self) -> None:
        """Trains to the end.

        Raises:
          Interrupted: It was asked to end, and has saved.
          DataError: The loss became non-finite, or the data set is damaged.
          UsageError: The run directory holds a run that these settings would change.
        """
        self._begin()
        with self._interruption, self._parts.profiler, self._state:
            while not self._is_finished:
                if not (self._train_epoch() and self._finish_epoch()):
                    self._state.save_latest()
                    self._log.say(
                        f"stopped after step {self._state.step}, and saved; "
                        "the same command resumes from here"
                    )
                    # Another worker's signal, if it was not one of this process.
                    raise Interrupted(self._interruption.signal or signal.SIGTERM)

    @property
    def _is_finished(self) -> bool:
        progress = self._state.progress
        return progress.stopped or progress.epoch >= self._config.epochs

    def _begin(self) -> None:
        resumes = self._state.begin(warn=self._log.say)
        progress = self._state.progress
        if resumes and self._is_finished:
            self._log.say(f"trained already, for {progress.epoch} epochs")
        elif resumes:
            self._log.say(
                f"resuming at epoch {progress.epoch + 1}, "
                f"step {progress.step_in_epoch} of {self._steps_per_epoch}"
            )
        # A resumed run keeps to the cache it began with, so only now is everything decided.
        facts = self._parts.facts
        config = facts.config.with_decided(cache=self._state.cache)
        self._log.begin(
            dataclasses.replace(facts, config=config),
            progress.history,
            step=self._state.step,
            epochs_end=progress.epoch * self._steps_per_epoch,
            model=self._parts.model,
        )

    def _train_epoch(self) -> bool:
        """Trains the rest of the epoch under way; False if interrupted."""
        progress, every = self._state.progress, self._config.checkpoint_every_steps
        profiler, is_interrupted = self._parts.profiler, False
        batches = self._parts.batches.train(
            epoch=progress.epoch, start_step=progress.step_in_epoch, cache=self._state.cache
        )
        pace = Pace(self._config.steps_per_loop, self._agree)
        self._meter.begin(self._state.step)
        with self._log.bar(
            f"epoch {progress.epoch + 1}/{self._config.epochs}",
            initial=progress.step_in_epoch,
            total=self._steps_per_epoch,
        ) as bar:
            while progress.step_in_epoch < self._steps_per_epoch:
                profiler.update(self._state.step)
                start = time.perf_counter()
                steps = pace.call(lambda steps: self._run(batches, steps), self._steps_ahead())
                progress.step_in_epoch += steps
                progress.seconds += time.perf_counter() - start
                bar.update(steps)
                self._meter.update(bar, self._state.step)
                if is_interrupted := self._is_interrupted():
                    break
                if every and progress.step_in_epoch % every == 0:
                    self._save_within_epoch(in_background=False)
                elif self._state.is_save_due:
                    self._save_within_epoch(in_background=True)
        self._meter.add_point(self._state.step)
        profiler.update(self._state.step)
        return not is_interrupted

    def _save_within_epoch(self, *, in_background: bool) -> None:
        # A run that resumes here draws its next point of what comes from here on.
        self._meter.add_point(self._state.step)
        self._state.save_latest(in_background=in_background)

    def _run(self, batches: tf.distribute.DistributedIterator | DeviceBatches, steps: int) -> None:
        train_steps = self._parts.train_steps
        train_steps.run(batches, tf.constant(steps, tf.int64), self._side)
        if bad := int(train_steps.first_bad_step.numpy()):
            raise DataError(
                f"the loss or its gradient became NaN or infinite at step {bad}. Nothing was "
                "saved since: what checkpoints there are, are good. Try a lower --learning_rate, "
                "or let --check_numerics name the operation"
            )
        self._state.progress.input_seconds += float(train_steps.input_secs.numpy())
        train_steps.input_secs.assign(0.0)

    @property
    def _side(self) -> int | None:
        """What of --train_sides the epoch under way is at."""
        config = self._config
        return epochs.side_of_epoch(config.train_sides, self._state.progress.epoch, config.epochs)

    def _steps_ahead(self) -> int:
        """Steps until the next thing that Python has to do."""
        done = self._state.progress.step_in_epoch
        ahead = [self._steps_per_epoch - done]
        if every := self._config.checkpoint_every_steps:
            ahead.append(every - done % every)
        if steps := self._parts.profiler.steps_left(self._state.step):
            ahead.append(steps)
        return min(ahead)

    def _is_interrupted(self) -> bool:
        return self._agree(self._interruption.requested) > 0

    def _finish_epoch(self) -> bool:
        """Validates, and does what the metrics call for; False if interrupted."""
        progress, config = self._state.progress, self._config
        average = self._parts.train_steps.average
        with average.in_model() if average else contextlib.nullcontext():
            validation = self._validate()
            if not validation:
                return False
            row = self._row(validation)
            progress.history.append(row)
            metric = row[config.monitor]
            improved = epochs.best(progress.history, config) is row
            if improved:
                self._state.save_best(metric)
        progress.stopped = self._adapt(metric)
        weights = self._state.weights() if config.histograms else {}
        self._log.epoch(row, step=self._state.step, improved=improved, weights=weights)
        self._parts.train_steps.totals.reset()
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.seconds = progress.input_seconds = 0.0
        self._state.save_latest()
        for action in self._actions:
            action(dict(row))
        return True

    def _adapt(self, metric: float) -> bool:
        """Sets the next learning rate; returns whether to stop."""
        if self._config.schedule == "plateau":
            rate = self._state.plateau.update(metric, self._learning_rate)
            self._parts.optimizer.learning_rate = rate
        stop = self._state.early_stopping.update(self._state.progress.epoch, metric)
        return stop and self._config.early_stopping_patience >= 0

    @property
    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self._parts.optimizer.learning_rate))

    def _rates(self) -> Metrics:
        """What is known of the last step, by the names that `run_log` has."""
        return {
            "learning_rate": self._learning_rate,
            "gradient_norm": float(self._parts.train_steps.gradient_norm.numpy()),
            "loss_scale": float(self._parts.loss_scale.scale.numpy()),
        }

    def _row(self, validation: Metrics) -> Metrics:
        """What is logged of an epoch, by the names that `run_log` has."""
        progress, train_steps = self._state.progress, self._parts.train_steps
        drawings = self._steps_per_epoch * self._config.batch_size
        row = {
            "epoch": progress.epoch + 1,
            **self._rates(),
            **{f"train_{name}": value for name, value in train_steps.totals.means().items()},
            **{f"validation_{name}": value for name, value in validation.items()},
            "seconds": progress.seconds,
            "examples_per_second": drawings / progress.seconds,
        }
        if not self._config.deterministic:
            row["input_wait_share"] = progress.input_seconds / progress.seconds
        return row

    def _validate(self) -> Metrics | None:
        """Loss, top1 and top3 of the validation split; None if interrupted.

        Raises:
          DataError: The loss is not finite.
        """
        evaluator = self._parts.evaluator
        left = self._parts.batches.evaluation_steps("validation")
        batches = self._parts.batches.evaluation("validation")
        pace = Pace(self._config.steps_per_loop, self._agree)
        evaluator.totals.reset()
        while left:
            left -= pace.call(
                lambda steps: evaluator.run(batches, tf.constant(steps, tf.int64), self._side),
                left,
            )
            if self._is_interrupted():
                return None
        metrics = evaluator.totals.means()
        if not math.isfinite(metrics["loss"]):
            raise DataError(
                f"the validation loss is {metrics['loss']} after step {self._state.step}. Nothing "
                "was saved since: what checkpoints there are, are good. Try a lower "
                "--learning_rate"
            )
        return metrics
