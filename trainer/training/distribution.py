"""Devices to train on, and how batches reach them."""

import json
import os
from collections.abc import Callable

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError


def create_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy that --strategy names.

    `auto` is multi_worker where TF_CONFIG names several workers, mirrored on several GPUs,
    else one_device.

    Raises:
      UsageError: multi_worker without a TF_CONFIG.
    """
    if name == "multi_worker" and not _num_workers():
        raise UsageError("--strategy=multi_worker needs the environment variable TF_CONFIG")
    if name == "multi_worker" or (name == "auto" and _num_workers() > 1):
        # Before any device is asked for, which would start TensorFlow without the others.
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def describe(strategy: tf.distribute.Strategy) -> str:
    """How many devices of which kind, "2 x NVIDIA TITAN Xp" for instance."""
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    kind = details.get("device_name", "GPU") if gpus else "CPU"
    return f"{strategy.num_replicas_in_sync} x {kind}"


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    task = _tf_config().get("task", {})
    return task.get("type", "chief") == "chief" or (
        "chief" not in _tf_config().get("cluster", {}) and task.get("index", 0) == 0
    )


def distribute(
    strategy: tf.distribute.Strategy,
    make: Callable[[tf.distribute.InputContext, int], tf.data.Dataset],
    batch_size: int,
) -> tf.distribute.DistributedDataset | tf.data.Dataset:
    """Batches for every replica.

    Args:
      strategy: What distributes them.
      make: Makes a worker's dataset of batches of one replica, given its input context and
        the size of such a batch.
      batch_size: Drawings in a step, over all replicas.
    """
    if _is_one_cpu(strategy):
        # Nothing to copy to a device, and a distributed batch would cost 0.2 ms more.
        return make(tf.distribute.InputContext(), batch_size)
    replicas = strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(
        lambda context: make(context, batch_size // replicas)
    )


def _is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    is_one_device = isinstance(strategy, tf.distribute.OneDeviceStrategy)
    return is_one_device and not tf.config.list_logical_devices("GPU")


def require_even_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises UsageError if the replicas cannot share a batch evenly."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UsageError(f"--batch_size={batch_size}: must be a multiple of the {replicas} devices")


def use_xla(requested: str, strategy: tf.distribute.Strategy) -> bool:
    """Whether to compile the steps with XLA, which pays on a GPU.

    Across replicas that are GPUs of one machine each replica's step is compiled, and reduces
    within. That has not been seen on several GPUs yet, so `auto` leaves it. Replicas on CPUs
    leave the step to reduce, which XLA cannot.

    Args:
      requested: The value of --jit_compile.
      strategy: What distributes the steps.

    Raises:
      UsageError: It is asked for across replicas that are no GPUs of one machine.
    """
    is_one_device = strategy.num_replicas_in_sync == 1
    if requested == "true" and not (is_one_device or _is_gpus_of_one_machine(strategy)):
        raise UsageError(
            "--jit_compile=true: must be on one device, or on GPUs of one machine; drop it or "
            "--strategy"
        )
    if requested == "auto":
        return is_one_device and bool(tf.config.list_logical_devices("GPU"))
    return requested == "true"


def _is_gpus_of_one_machine(strategy: tf.distribute.Strategy) -> bool:
    devices = strategy.extended.worker_devices
    is_mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    return is_mirrored and all(":GPU:" in device for device in devices)


def mean_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """The mean of what all workers call it with, the same on each; all have to call it.

    Workers that acted on numbers of their own would wait for each other for ever.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    values = strategy.run(lambda: tf.constant(value, tf.float64))
    return float(strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None))


def from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """What the chief calls it with, on all workers; all have to call it."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    return mean_over_workers(strategy, value if is_chief() else 0.0) * _num_workers()


def _num_workers() -> int:
    cluster = _tf_config().get("cluster", {})
    return len(cluster.get("worker", [])) + len(cluster.get("chief", []))


def _tf_config() -> dict:
    try:
        return json.loads(os.environ.get("TF_CONFIG", "{}"))
    except json.JSONDecodeError as error:
        raise UsageError(f"the environment variable TF_CONFIG is not JSON: {error}") from None
