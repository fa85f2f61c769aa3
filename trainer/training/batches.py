"""The batches of a run for every replica: where they come from, and how many there are."""

import math

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading import in_memory, loading
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from quickdraw_tfrecords.reading.on_device import DeviceBatches
from trainer.config import Config
from trainer.training import distribution


class Batches:
    """Makes the batches of a data set, as a config and the strategy in scope ask.

    Attributes:
      steps_per_epoch: Steps of a training epoch; drawings that fill no batch are left out.
      cache: Where the training split is held, with --cache=auto decided.

    Raises:
      UsageError: A setting does not fit the data set or the devices.
      DataError: With --cache=device, the data set is damaged.
    """

    def __init__(self, config: Config, info: DatasetInfo) -> None:
        self._config, self._info = config, info
        self._strategy = tf.distribute.get_strategy()
        distribution.require_even_batch(self._strategy, config.batch_size)
        self.steps_per_epoch = _steps_per_epoch(config, info)
        self.cache = _resolve_cache(config, info)
        self._on_device = _device_batches(config, info, self._strategy)

    def train(
        self, *, epoch: int, start_step: int, cache: str
    ) -> tf.distribute.DistributedIterator | DeviceBatches:
        """Shuffled batches of the training split.

        Args:
          epoch: Which epoch's order.
          start_step: The first step to give.
          cache: Where the split is held.
        """
        if self._on_device:
            return self._on_device.begin(seed=self._config.seed, epoch=epoch, start_step=start_step)

        def make(context: tf.distribute.InputContext, batch_size: int) -> tf.data.Dataset:
            return loading.load(
                self._info,
                self._config.train_split,
                batch_size,
                shuffle=True,
                seed=self._config.seed,
                epoch=epoch,
                # A step takes a batch for each replica of the worker.
                start_step=start_step * _replicas_of_worker(context),
                drop_remainder=True,
                cache=cache,
                input_context=context,
            )

        return iter(distribution.distribute(self._strategy, make, self._config.batch_size))

    def evaluation_steps(self, split: str) -> int:
        """Steps that all drawings of a split take."""
        return math.ceil(self._info.num_examples[split] / self._config.batch_size)

    def evaluation(self, split: str) -> tf.distribute.DistributedIterator:
        """All drawings of a split once, in full batches: what `pad` has added does not count."""
        # Only the training split is worth its place on the device.
        cache = "auto" if self._on_device else self._config.cache
        steps = self.evaluation_steps(split)

        def make(context: tf.distribute.InputContext, batch_size: int) -> tf.data.Dataset:
            batches = loading.load(
                self._info, split, batch_size, cache=cache, input_context=context
            )
            return pad(batches, batch_size, steps * _replicas_of_worker(context))

        return iter(distribution.distribute(self._strategy, make, self._config.batch_size))


def pad(batches: tf.data.Dataset, batch_size: int, count: int) -> tf.data.Dataset:
    """Pads to `count` full batches, with black drawings of label -1.

    Replicas that have run out of drawings need batches too, as long as others have some.

    Args:
      batches: (uint8[<= batch_size, side, side, 1], int32[<= batch_size]).
      batch_size: Drawings in a batch.
      count: How many batches there are to be, no fewer than there are.
    """

    def pad_batch(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        missing = batch_size - tf.shape(labels)[0]
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        labels = tf.pad(labels, [[0, missing]], constant_values=-1)
        return (
            # Static shapes, so that the evaluation is compiled once.
            tf.ensure_shape(images, [batch_size, *images.shape[1:]]),
            tf.ensure_shape(labels, [batch_size]),
        )

    empty = tf.data.Dataset.from_tensors(
        tuple(tf.zeros([0, *spec.shape[1:]], spec.dtype) for spec in batches.element_spec)
    )
    return batches.concatenate(empty.repeat()).take(count).map(pad_batch)


def _replicas_of_worker(context: tf.distribute.InputContext) -> int:
    return int(context.num_replicas_in_sync // context.num_input_pipelines)


def _steps_per_epoch(config: Config, info: DatasetInfo) -> int:
    num_examples = info.count(config.train_split)
    if num_examples < config.batch_size:
        raise UsageError(
            f"--batch_size={config.batch_size} is more than the {num_examples:,} drawings of "
            f"--train_split={config.train_split}"
        )
    return num_examples // config.batch_size


def _resolve_cache(config: Config, info: DatasetInfo) -> str:
    """--cache, with auto decided: memory if the training split takes no more than its share."""
    if not info.manifest:
        return config.cache
    return in_memory.resolve_cache(config.cache, info.split_slice(config.train_split))


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
    return DeviceBatches(info.split_slice(config.train_split), config.batch_size)
