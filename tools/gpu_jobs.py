"""What `tools.gpu_check` has done in processes of their own: each job prints a line of JSON.

TensorFlow's determinism, devices and memory are set once for a process, so jobs that differ in
them cannot share one.
"""

import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import quickdraw_tfrecords as qt
import trainer
from quickdraw_tfrecords.base import startup
from tools import gpu_program
from trainer.config import Config
from trainer.run_directory import checkpoints
from trainer.training import distribution, gpus, precision
from trainer.training.batches import Batches

Result = dict[str, Any]

_CLASSES = 345
_DIVISOR = 96  # of the drawings that the check converts, so that none is left out
_STOP = "stopped on purpose"


def devices() -> Result:
    """What there is to train on."""
    found = tf.config.list_physical_devices("GPU")
    build = tf.sysconfig.get_build_info()
    return {
        "gpus": [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in found],
        "precision": precision.choose("auto", agree=float)[0],
        "tensorflow": tf.__version__,
        "cuda": build.get("cuda_version", "none"),
        "problem": None if found else gpus.why_none(),
    }


def steps(settings: Result, policy: str, xla: bool, count: int, timed: int = 0) -> Result:
    """Takes steps on one batch, without dropout; and times more of them."""
    config = _config(**settings)
    gpus.prepare(memory_growth=True, deterministic=config.deterministic)
    strategy = distribution.create_strategy(config.strategy)
    with strategy.scope():
        train_steps = gpu_program.make_steps(config, policy, classes=_CLASSES, jit_compile=xla)
        generator = np.random.default_rng(0)
        images = (generator.random([config.batch_size, 28, 28, 1]) < 0.2) * np.uint8(255)
        labels = generator.integers(0, _CLASSES, config.batch_size, np.int32)
        replicas = strategy.num_replicas_in_sync
        whole = tf.data.Dataset.from_tensor_slices((images, labels))
        batches = iter(
            distribution.distribute(
                strategy,
                lambda _, size: whole.batch(size, drop_remainder=True).repeat().prefetch(2),
                config.batch_size,
            )
        )
        train_steps.run(batches, tf.constant(count, tf.int64))
        result = {
            "replicas": replicas,
            "loss": train_steps.totals.means()["loss"],
            "norm": float(train_steps.gradient_norm.numpy()),
        }
        if timed:
            start = time.perf_counter()
            train_steps.run(batches, tf.constant(timed, tf.int64))
            train_steps.step.numpy()
            result["ms"] = (time.perf_counter() - start) / timed * 1e3
    return result


def placed_steps(settings: Result, policy: str) -> Result:
    """Takes a step without XLA; TensorFlow logs where each operation is placed."""
    tf.debugging.set_log_device_placement(True)
    return steps(settings, policy, xla=False, count=1)


def epoch(data_dir: str, cache: str) -> Result:
    """What the batches of an epoch add up to, whatever their order."""
    config = _config(data_dir=data_dir, batch_size=_DIVISOR, cache=cache)
    gpus.prepare(memory_growth=True, deterministic=False)
    info = qt.open_dataset(data_dir)
    pixels, labels = 0, np.zeros(info.num_classes, int)
    with distribution.create_strategy("one_device").scope():
        batches = Batches(config, info)
        found = batches.train(epoch=0, start_step=0, cache=cache)
        take = tf.function(lambda: next(found))
        for _ in range(batches.steps_per_epoch):
            images, batch_labels = take()
            pixels += int(images.numpy().sum(dtype=np.int64))
            labels += np.bincount(batch_labels.numpy(), minlength=info.num_classes)
    return {"pixels": pixels, "labels": labels.tolist(), "steps": batches.steps_per_epoch}


def train(settings: Result, stop: bool = False) -> Result:
    """Trains, or stops after an epoch; gives the loss and a checksum of all that is saved."""

    def stop_run(_: dict[str, float]) -> None:
        raise InterruptedError(_STOP)

    try:
        metrics = trainer.train(Config(**settings), [stop_run] if stop else [])
    except InterruptedError:
        return {}
    path = checkpoints.latest(Path(settings["run_dir"]), keep=1).newest()
    assert path is not None, "a run that has ended has a checkpoint"
    arrays, _ = checkpoints.read(path)
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
    return {"loss": (metrics or {}).get("loss"), "checksum": checksum}


def _config(**values: Any) -> Config:
    return Config(**{"data_dir": "unused", "run_dir": "unused", **values})


JOBS: dict[str, Callable[..., Result]] = {
    job.__name__: job for job in (devices, steps, placed_steps, epoch, train)
}

if __name__ == "__main__":
    startup.restore_interrupts()
    name, arguments = sys.argv[1:]
    print(json.dumps(JOBS[name](**json.loads(arguments))))
