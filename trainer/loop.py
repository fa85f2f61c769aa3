"""One training run: train an epoch, validate, plateau, early stop, checkpoint, log; then test."""

import math
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from quickdraw_tfrecords import dataset, resident
from quickdraw_tfrecords.dataset import DatasetInfo
from quickdraw_tfrecords.errors import DataError, UsageError
from quickdraw_tfrecords.reader import Part, Share
from quickdraw_tfrecords.resident import DeviceBatches
from trainer import (
    augmentation,
    distribution,
    evaluation,
    models,
    optimizers,
    precision,
    state,
    summaries,
)
from trainer.evaluation import Evaluator
from trainer.flags import Config
from trainer.interruption import Interruption, Pace
from trainer.plateau import is_improvement
from trainer.precision import LossScale
from trainer.profiling import StepProfiler
from trainer.state import RunState
from trainer.steps import TrainSteps


class Run:
    """A training run: its model, its state, and its files.

    Attributes:
      model: What is trained.
    """

    def __init__(self, config: Config, info: DatasetInfo) -> None:
        self._config, self._info = config, info
        self._strategy = tf.distribute.get_strategy()
        distribution.require_even_batch(self._strategy, config.batch_size)
        self._steps_per_epoch = _steps_per_epoch(config, info)
        policy, reason = precision.choose(config.precision)
        keras.mixed_precision.set_global_policy(policy)
        self.model = build_model(config, side=info.side, num_classes=len(info.class_names))
        self._optimizer = optimizers.create(config, self._steps_per_epoch)
        self._optimizer.build(self.model.trainable_variables)
        jit_compile = _use_xla(config, self._strategy)
        self._loss_scale = LossScale(policy)
        self._train_steps = TrainSteps(
            self.model,
            self._optimizer,
            self._loss_scale,
            config,
            flip_allowed=_flip_allowed(config, info),
            jit_compile=jit_compile,
        )
        self._evaluator = Evaluator(self.model, jit_compile=jit_compile)
        self._state = RunState(
            config,
            info,
            policy=policy,
            cache=_resolve_cache(config, info),
            model=self.model,
            optimizer=self._optimizer,
            train_steps=self._train_steps,
        )
        self._device_batches = _device_batches(config, info, self._strategy)
        self._interruption = Interruption()
        self._profiler = StepProfiler(config.run_dir / "tensorboard", config.profile_steps)
        self._log = summaries.RunLog(config.run_dir, enabled=distribution.is_chief())
        self._log.say(
            f"{self._strategy.num_replicas_in_sync} device(s), "
            f"precision {policy} ({reason}), XLA {'on' if jit_compile else 'off'}, "
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
        resumes, progress = self._state.begin(), self._state.progress
        if resumes and self._is_finished:
            self._log.say(f"trained already, for {progress.epoch} epochs; testing again")
        elif resumes:
            self._log.say(
                f"resuming at epoch {progress.epoch + 1}, "
                f"step {progress.step_in_epoch} of {self._steps_per_epoch}"
            )
        patience, config = self._config.early_stopping_patience, self._config
        if config.schedule == "plateau" and 0 <= patience <= config.plateau_patience:
            self._log.say(
                f"warning: --early_stopping_patience={patience} ends the run before "
                f"--plateau_patience={config.plateau_patience} can lower the learning rate"
            )
        self._log.begin(config, progress.history)

    def _train_epoch(self) -> bool:
        """Trains the rest of the epoch under way; False if interrupted."""
        progress, every = self._state.progress, self._config.checkpoint_every_steps
        batches = self._train_batches()
        pace = self._pace()
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

    def _run(self, batches: tf.distribute.DistributedIterator, steps: int) -> None:
        self._train_steps.run(batches, tf.constant(steps, tf.int64))
        if bad := int(self._train_steps.first_bad_step.numpy()):
            raise DataError(
                f"the loss or its gradient became NaN or infinite at step {bad}. Nothing was "
                "saved since; the checkpoints before are good. Try a lower --learning_rate, "
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

    def _pace(self) -> Pace:
        agree = self._mean_over_workers
        return Pace(self._config.steps_per_loop, agree)

    def _is_interrupted(self) -> bool:
        return self._mean_over_workers(self._interruption.requested) > 0

    def _mean_over_workers(self, value: float) -> float:
        return distribution.mean_over_workers(self._strategy, value)

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
        self._log_epoch(row, improved=improved)
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
        progress, train = self._state.progress, self._train_steps.totals.means()
        return {
            "epoch": progress.epoch + 1,
            "learning_rate": self._learning_rate,
            **{f"train_{name}": value for name, value in train.items()},
            **{f"validation_{name}": value for name, value in validation.items()},
            "seconds": progress.seconds,
            "examples_per_second": (
                self._steps_per_epoch * self._config.batch_size / progress.seconds
            ),
        }

    def _log_epoch(self, row: dict[str, float], *, improved: bool) -> None:
        weights = state.named(self.model.trainable_variables) if self._config.histograms else {}
        progress = self._state.progress
        self._log.epoch(
            row,
            improved=improved,
            input_share=(
                None if self._config.deterministic else progress.input_seconds / progress.seconds
            ),
            gradient_norm=float(self._train_steps.gradient_norm.numpy()),
            loss_scale=float(self._loss_scale.scale.numpy()),
            weights=state.to_arrays(weights),
        )

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
        left = math.ceil(self._info.num_examples[split] / self._config.batch_size)
        pace = self._pace()
        self._evaluator.begin(self._batches(split))
        while left:
            left -= pace.call(self._evaluator.run, left)
            if self._is_interrupted():
                return None
        metrics = self._evaluator.means()
        if not math.isfinite(metrics["loss"]):
            raise DataError(
                f"the {split} loss is {metrics['loss']} after step {self._state.step}, which was "
                "not saved; the checkpoints before are good. Try a lower --learning_rate"
            )
        return metrics

    def _train_batches(self) -> tf.distribute.DistributedIterator | DeviceBatches:
        """What is left of the epoch under way."""
        progress = self._state.progress
        if not self._device_batches:
            return iter(self._batches("train", start_step=progress.step_in_epoch))
        return self._device_batches.begin(
            seed=self._config.seed, epoch=progress.epoch, start_step=progress.step_in_epoch
        )

    @property
    def _evaluation_cache(self) -> str:
        return "auto" if self._device_batches else self._config.cache

    def _batches(self, split: str, start_step: int = 0) -> tf.distribute.DistributedDataset:
        """What is left of the epoch of a split, from a step on, for every replica."""
        training, config = split == "train", self._config
        steps = math.ceil(self._info.num_examples[split] / config.batch_size)

        def make(context: tf.distribute.InputContext, batch_size: int) -> tf.data.Dataset:
            replicas = context.num_replicas_in_sync // context.num_input_pipelines
            batches = dataset.load(
                config.data_dir,
                split,
                batch_size,
                shuffle=training,
                seed=config.seed,
                epoch=self._state.progress.epoch if training else 0,
                start_step=start_step * replicas,
                drop_remainder=training,
                cache=self._state.cache if training else self._evaluation_cache,
                input_context=context,
            )
            return batches if training else evaluation.pad(batches, batch_size, steps * replicas)

        return distribution.distribute(self._strategy, make, config.batch_size)


def build_model(config: Config, *, side: int, num_classes: int) -> keras.Model:
    """The model that the flags name."""
    build: Callable[..., keras.Model] = models.get(config.model)
    return build(side=side, num_classes=num_classes, dropout=config.dropout)


def _steps_per_epoch(config: Config, info: DatasetInfo) -> int:
    num_examples = info.num_examples["train"]
    if num_examples < config.batch_size:
        raise UsageError(
            f"--batch_size={config.batch_size} is more than the {num_examples:,} drawings of the "
            "training split"
        )
    return num_examples // config.batch_size


def _resolve_cache(config: Config, info: DatasetInfo) -> str:
    """--cache, with auto decided: memory if the training split takes no more than its share."""
    if config.cache != "auto" or not info.manifest:
        return config.cache
    return "memory" if resident.fits(_whole_training_split(info)) else "none"


def _device_batches(
    config: Config, info: DatasetInfo, strategy: tf.distribute.Strategy
) -> DeviceBatches | None:
    """The training split on the device; None unless it is asked for."""
    if config.cache != "device":
        return None
    if strategy.num_replicas_in_sync > 1 or not info.manifest:
        raise UsageError(
            "--cache=device needs one device, and a data set of this project's converter"
        )
    return DeviceBatches(_whole_training_split(info), config.batch_size)


def _whole_training_split(info: DatasetInfo) -> Part:
    share = Share.of(info.num_examples["train"], None)
    return Part.of(info.directory, info.manifest, "train", share)


def _flip_allowed(config: Config, info: DatasetInfo) -> tf.Tensor | None:
    """bool[classes], which may be mirrored; None if none is to be."""
    if "flip" not in config.augment:
        return None
    return tf.constant(augmentation.flippable(info.class_names))


def _use_xla(config: Config, strategy: tf.distribute.Strategy) -> bool:
    """XLA pays on a GPU; across replicas the step leaves the compiled function to reduce."""
    one_gpu = strategy.num_replicas_in_sync == 1 and tf.config.list_logical_devices("GPU")
    if config.jit_compile == "true" and strategy.num_replicas_in_sync > 1:
        raise UsageError("--jit_compile=true works on one device only: drop it or --strategy")
    return config.jit_compile == "true" or (config.jit_compile == "auto" and bool(one_gpu))
