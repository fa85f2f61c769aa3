"""Sets TensorFlow up as a config asks, makes the parts of a run, and runs it."""

import contextlib
import functools
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, Interrupted
from quickdraw_tfrecords.base.files import delete_leftovers
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer import mirroring, models
from trainer.config import Config
from trainer.results import split_results
from trainer.run_directory import checkpoints, runs
from trainer.run_directory.run_log import RunLog
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
    checkpoints.require_start(config)
    with _held(config.run_dir):
        strategy = _prepare(config)
        info = config.open_dataset()
        with strategy.scope():
            parts = make_parts(config, info)
        with parts.log:
            try:
                with strategy.scope():
                    Run(config, parts, actions).train()
            except tf.errors.OpError as error:
                raise DataError(op_errors.describe(error)) from error
            # The others wait for it: a worker that ends would be taken for one that has died.
            metrics = _test(config, parts.log) if distribution.is_chief() else {}
            return {
                name: distribution.from_chief(strategy, metrics.get(name, 0.0))
                for name in ("loss", "top1", "top3")
            }


def _test(config: Config, log: RunLog) -> Metrics:
    """Loss, top1 and top3 of the best weights on the test split; makes the report.

    They are evaluated once, in float32, and kept: the report and the other commands show the same.
    """
    run = runs.open_run(config.run_dir)
    try:
        results = split_results.find(run, "test")
        found = results.metrics
        metrics = {"loss": found.loss, "top1": found.top1, "top3": found.top3}
        log.end(metrics, step=checkpoints.step_of(run.checkpoint()), weights=results.weights)
        if config.report:
            make_report(config.run_dir)
    except KeyboardInterrupt:
        log.say("stopped in the test, with all saved; the same command tests again")
        raise Interrupted(signal.SIGINT) from None
    return metrics


@contextlib.contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    """Holds a run directory against other trainers, whose files would mix with this one's.

    Only the chief writes there, so it holds the directory for all workers.
    """
    if not distribution.is_chief():
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with locked(run_dir, work="training run"):
        for directory in (run_dir, *(run_dir / "tensorboard").glob("**/")):
            delete_leftovers(directory)
        yield


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


def make_parts(config: Config, info: DatasetInfo) -> Parts:
    """Makes the parts of a run, for the strategy in scope.

    Raises:
      UsageError: A setting does not fit the data set, the devices or the versions installed.
      DataError: With --cache=device, the data set is damaged.
    """
    strategy = tf.distribute.get_strategy()
    agree = functools.partial(distribution.mean_over_workers, strategy)
    batches = Batches(config, info)
    policy, reason = precision.choose(config.precision, agree, resumed=precision_of_resumed(config))
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
        policy=policy,
        cache=batches.cache,
        teacher=teacher_crc32c,
        model=model,
        optimizer=optimizer,
        train_steps=train_steps,
        agree=agree,
    )
    log = RunLog(config.run_dir, enabled=distribution.is_chief())
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
        facts=runs.describe(decided, info, precision=policy, devices=devices),
        profiler=StepProfiler(config.run_dir / "tensorboard", config.profile_steps),
        agree=agree,
    )


def make_report(run_dir: Path) -> None:
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
