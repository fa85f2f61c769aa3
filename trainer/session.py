"""Sets TensorFlow up as a config asks, makes the parts of a run, and runs it."""

import functools
import signal
import sys
from collections.abc import Sequence

import keras
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, Interrupted
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer import mirroring, models
from trainer.config import Config
from trainer.results import split_results
from trainer.run_directory import checkpoints, runs, starts
from trainer.run_directory.run_log import RunLog
from trainer.run_directory.runs import TrainedRun
from trainer.run_directory.workplace import Workplace
from trainer.training import (
    distribution,
    gpus,
    op_errors,
    optimizers,
    precision,
    resolution,
    teaching,
)
from trainer.training.batches import Batches
from trainer.training.evaluation import Evaluator
from trainer.training.loop import Action, Metrics, Run
from trainer.training.parts import Parts
from trainer.training.precision import LossScale
from trainer.training.profiling import StepProfiler
from trainer.training.state import RunState, precision_of_resumed
from trainer.training.steps import TrainSteps


def train(config: Config, actions: Sequence[Action] = ()) -> Metrics:
    """Trains, tests the best weights, and makes the report; see `trainer.train`.

    Raises:
      Interrupted: It was asked to end, and has saved.
      UsageError, DataError: As there.
    """
    config.check()
    starts.require(config)
    with Workplace(config.run_dir, is_chief=distribution.is_chief()) as place:
        strategy = _prepare(config)
        place.join(functools.partial(distribution.mean_over_workers, strategy, 0.0))
        info = config.open_dataset()
        with strategy.scope():
            parts = make_parts(config, info, place)
        with parts.log:
            try:
                with strategy.scope():
                    Run(config, parts, [lambda _: place.check(), *actions]).train()
            except tf.errors.OpError as error:
                raise DataError(op_errors.describe(error)) from error
            # The others wait for it: a worker that ends would be taken for one that has died.
            metrics = _test(config, place, parts.log) if distribution.is_chief() else {}
            return {
                name: distribution.from_chief(strategy, metrics.get(name, 0.0))
                for name in ("loss", "top1", "top3")
            }


def _test(config: Config, place: Workplace, log: RunLog) -> Metrics:
    """Loss, top1 and top3 of the best weights on the test split; makes the report.

    They are evaluated once, in float32, and kept: the report and the other commands show the same.
    """
    run = runs.open_run(place.directory)
    try:
        results = split_results.find(run, "test")
        found = results.metrics
        metrics = {"loss": found.loss, "top1": found.top1, "top3": found.top3}
        log.end(metrics, step=checkpoints.step_of(run.checkpoint()), weights=results.weights)
        if config.report:
            make_report(run, place)
    except KeyboardInterrupt:
        log.say("stopped in the test, with all saved; the same command tests again")
        raise Interrupted(signal.SIGINT) from None
    return metrics


def _prepare(config: Config) -> tf.distribute.Strategy:
    """Sets what is global in TensorFlow, and chooses the devices."""
    tf.get_logger().setLevel("WARNING")  # MirroredStrategy logs each reduction
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.check_numerics:
        tf.debugging.enable_check_numerics()
    gpus.prepare(memory_growth=config.gpu_memory_growth, deterministic=config.deterministic)
    return distribution.create_strategy(config.strategy)


def make_parts(config: Config, info: DatasetInfo, place: Workplace) -> Parts:
    """Makes the parts of a run, for the strategy in scope.

    Args:
      config: The settings.
      info: The data set.
      place: Where it goes.

    Raises:
      UsageError: A setting does not fit the data set, the devices or the versions installed.
      DataError: With --cache=device, the data set is damaged.
    """
    strategy = tf.distribute.get_strategy()
    agree = functools.partial(distribution.mean_over_workers, strategy)
    batches = Batches(config, info)
    policy, reason = precision.choose(
        config.precision,
        agree,
        resumed=precision_of_resumed(config, place.directory),
        deterministic=config.deterministic,
    )
    with models.dtype_policy(policy):
        model = models.get(config.model)(
            side=info.side, num_classes=len(info.class_names), dropout=config.dropout
        )
    resolution.check(config.train_sides, info.side)
    flip_allowed = mirroring.flippable(info.class_names, config.flip_classes)
    teacher, teacher_crc32c = teaching.load(config.teacher, info, policy)
    optimizer = optimizers.create(config, batches.steps_per_epoch)
    optimizer.build(model.trainable_variables)
    jit_compile = distribution.use_xla(config.jit_compile, strategy)
    loss_scale = LossScale(policy)
    train_steps = TrainSteps(
        model,
        optimizer,
        loss_scale,
        config,
        flip_allowed=tf.constant(flip_allowed),
        teacher=teacher,
        jit_compile=jit_compile,
    )
    state = RunState(
        config,
        info,
        directory=place.directory,
        policy=policy,
        cache=batches.cache,
        teacher=teacher_crc32c,
        model=model,
        optimizer=optimizer,
        train_steps=train_steps,
        agree=agree,
    )
    log = RunLog(place.directory, enabled=distribution.is_chief(), shown=place.shown)
    devices = distribution.describe(strategy)
    log.say(
        f"{devices}, precision {policy} ({reason}), XLA {'on' if jit_compile else 'off'}, "
        f"{batches.steps_per_epoch} steps per epoch"
    )
    decided = config.with_decided(precision=policy)
    return Parts(
        model=model,
        optimizer=optimizer,
        loss_scale=loss_scale,
        batches=batches,
        train_steps=train_steps,
        evaluator=Evaluator(model, sides=config.train_sides, jit_compile=jit_compile),
        state=state,
        log=log,
        facts=runs.describe(
            decided, info, directory=place.directory, precision=policy, devices=devices
        ),
        profiler=StepProfiler(place.directory / "tensorboard", config.profile_steps),
        agree=agree,
    )


def make_report(run: TrainedRun, place: Workplace) -> None:
    """Makes the report. Whatever may go wrong in it, the run is done, and all of it saved."""
    try:
        from trainer.report import page  # takes seconds to import

        print(f"report: {place.shown(str(page.make(run)))}")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"warning: the run is complete, but its report could not be made ({reason}); "
            f"quickdraw report --run_dir={place.shown(str(run.directory))} tries again",
            file=sys.stderr,
        )


def print_model(name: str, *, dropout: float | None, data_dir: Location | None) -> None:
    """Prints the layers of a model for a data set, or for the study's if none is named.

    Raises:
      UsageError: There is no such model.
      DataError: There is no such data set.
    """
    side, num_classes = 28, 345
    if data_dir:
        info = qt.open_dataset(data_dir)
        side, num_classes = info.side, len(info.class_names)
    model = models.get(name)(side=side, num_classes=num_classes, dropout=dropout)
    model.summary(line_length=79)
