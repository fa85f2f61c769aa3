"""The compiled part of training: many steps on the device for one call from Python.

Totals are summed in variables on the device, so nothing is fetched between steps.
"""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.tensorflow_internals import host_variable
from quickdraw_tfrecords.reading.on_device import DeviceBatches
from trainer.config import Config
from trainer.training import keras_internals, mixing
from trainer.training.averaging import WeightAverage
from trainer.training.objective import Objective, Part
from trainer.training.precision import LossScale
from trainer.training.totals import Totals


class TrainSteps:
    """Training steps on all replicas.

    Attributes:
      step: int64 variable, the number of steps taken; it counts skipped ones, which
        `optimizer.iterations` does not.
      totals: Means since the last reset.
      first_bad_step: int64 variable, the first step, from 1, whose loss was not finite, or
        whose gradient was not and has been applied all the same; 0: none.
      skipped: int64 variable, how many steps were skipped for a non-finite gradient.
      gradient_norm: float32 variable, of the last step.
      average: The moving average of the weights, with --ema.
      replica_step: The step of one replica, a function of its images and labels.
      input_secs: float64 variable, seconds spent waiting for batches since the last reset;
        not measured under --deterministic, where TensorFlow forbids to read the clock.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss_scale: LossScale,
        config: Config,
        *,
        flip_allowed: tf.Tensor | None = None,
        teacher: keras.Model | None = None,
        jit_compile: bool = False,
    ) -> None:
        self._model, self._optimizer, self._loss_scale = model, optimizer, loss_scale
        self._config, self._strategy = config, tf.distribute.get_strategy()
        replicas = self._strategy.num_replicas_in_sync
        mixing.require_pairs(config.augment, config.batch_size, replicas)
        self._objective = Objective(model, config, flip_allowed=flip_allowed, teacher=teacher)
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.totals = Totals("train")
        self.step = _counter("step", 0)
        self.first_bad_step = _counter("first_bad_step", 0)
        self.skipped = _counter("skipped", 0)
        self.gradient_norm = _counter("gradient_norm", 0, tf.float32)
        self.input_secs = host_variable(0.0, tf.float64, name="input_secs")
        # Gradients come to the optimizer reduced, once, so that clipping, the decision to
        # skip and the norm see the whole batch.
        keras_internals.take_gradients_as_reduced(optimizer)
        self._jit_compile = jit_compile
        if jit_compile and replicas > 1:
            keras_internals.let_replicas_count(optimizer)
        sides = {None, *config.train_sides}
        self._replica_steps = {side: self._make_replica_step(side) for side in sides}
        self.replica_step = self._replica_steps[None]

    @property
    def variables(self) -> list[tf.Variable]:
        """The state, for checkpoints."""
        own = [self.step, self.skipped, self.gradient_norm]
        averages = self.average.variables if self.average else []
        return [*own, *self.totals.variables, *self._loss_scale.variables, *averages]

    @tf.function
    def run(
        self, batches: Iterator | DeviceBatches, steps: tf.Tensor, side: int | None = None
    ) -> None:
        """Takes steps.

        Args:
          batches: Iterator over a distributed dataset of (uint8 images, int32 labels), or
            what gives such batches on the device.
          steps: int64[], how many; a tensor, so that a new number does not retrace.
          side: What of --train_sides to train at.
        """
        # A loop that counts in int64 does so on the GPU, and asks it before each step whether
        # to go on; int32 stays on the host.
        for _ in tf.range(tf.cast(steps, tf.int32)):
            batch, ready = self._next(batches)
            with tf.control_dependencies(ready):
                self._strategy.run(self._replica_steps[side], args=batch)

    def _next(self, batches: Iterator | DeviceBatches) -> tuple[tuple, list[tf.Tensor]]:
        """The next batch, and what is to be done before its step begins.

        Without an order of the two, a processor that has both to do may take the step first, and
        read the clock after it.
        """
        if self._config.deterministic:
            return next(batches), []
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(batches)
        with tf.control_dependencies(tf.nest.flatten(_local(self._strategy, batch))):
            ready = tf.timestamp()
        self.input_secs.assign_add(ready - start)
        return batch, [ready]

    def _make_replica_step(self, side: int | None) -> Callable[[tf.Tensor, tf.Tensor], None]:
        @tf.autograph.experimental.do_not_convert  # which takes longer than to trace it
        def step(images: tf.Tensor, labels: tf.Tensor) -> None:
            self._step(images, labels, side)

        return tf.function(step, jit_compile=True) if self._jit_compile else step

    def _step(self, images: tf.Tensor, labels: tf.Tensor, side: int | None = None) -> None:
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        part = Part(context.replica_id_in_sync_group, replicas)
        with tf.GradientTape() as tape:
            losses, logits = self._objective(images, labels, step=self.step, part=part, side=side)
            loss = tf.reduce_sum(losses) / tf.cast(tf.size(labels) * replicas, tf.float32)
            if self._model.losses:
                loss += tf.add_n(self._model.losses) / replicas
            scaled_loss = self._loss_scale.scale * loss
        variables = [variable.value for variable in self._model.trainable_variables]
        gradients = tape.gradient(scaled_loss, variables)
        loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        if self._loss_scale.is_dynamic:
            gradients = [gradient / self._loss_scale.scale for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        self._update(gradients, tf.math.is_finite(norm))
        self.totals.add(losses, labels, logits)
        self.gradient_norm.assign(norm)
        self.step.assign_add(1)
        if self.average:
            self.average.update(self.step)
        # A loss scale mends a gradient that overflows, but nothing mends a loss that does.
        good = tf.math.is_finite(loss if self._loss_scale.is_dynamic else loss + norm)
        is_first_bad = ~good & (self.first_bad_step == 0)
        self.first_bad_step.assign(tf.where(is_first_bad, self.step, self.first_bad_step))

    def _update(self, gradients: list[tf.Tensor], finite: tf.Tensor) -> None:
        """Applies reduced gradients; under loss scaling, only if all of them are finite."""
        if not self._loss_scale.is_dynamic:
            self._apply(gradients)
            return
        if self._jit_compile:
            self._apply_if(finite, gradients)
        elif self._strategy.num_replicas_in_sync == 1:
            tf.cond(finite, lambda: self._apply(gradients), lambda: None)
        else:
            # The optimizer leaves the replica context, which it cannot do inside a cond of
            # that context; so the cond is outside, and the replicas are entered again in it.
            tf.distribute.get_replica_context().merge_call(
                self._update_across_replicas, args=(gradients, finite)
            )
        self.skipped.assign_add(tf.cast(~finite, tf.int64))
        self._loss_scale.update(finite)

    def _update_across_replicas(
        self, strategy: tf.distribute.Strategy, gradients: list, finite: tf.Tensor
    ) -> None:
        # The gradients are reduced, so every replica has found the same.
        tf.cond(
            strategy.experimental_local_results(finite)[0],
            lambda: strategy.extended.call_for_each_replica(self._apply, args=(gradients,)),
            lambda: None,
        )

    def _apply_if(self, finite: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        """Applies gradients, and undoes it if they are not finite.

        XLA makes one pass of both. A `tf.cond` would wait until the host has seen `finite`.
        """
        variables = [*self._model.trainable_variables, *self._optimizer.variables]
        tensors = [variable.value for variable in variables]
        before = [_read(tensor) for tensor in tensors]
        self._apply(gradients)
        for tensor, value in zip(tensors, before, strict=True):
            chosen = tf.where(finite, _read(tensor), value)
            tf.raw_ops.AssignVariableOp(resource=tensor.handle, value=chosen)

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._optimizer.apply(gradients, self._model.trainable_variables)


def _counter(name: str, value: float, dtype: tf.DType = tf.int64) -> tf.Variable:
    """A variable that each replica assigns for itself; all assign the same.

    To spread the first replica's value would mean to leave the step, which XLA cannot.
    """
    return tf.Variable(value, dtype=dtype, name=name, trainable=False)


def _read(variable: tf.Variable) -> tf.Tensor:
    """The value on this replica, which for a mirrored variable `read_value` need not give."""
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def _local(strategy: tf.distribute.Strategy, batch: tuple) -> list:
    return [strategy.experimental_local_results(part) for part in batch]
