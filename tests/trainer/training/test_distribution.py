"""Several replicas and several workers compute what one device computes."""

import csv
import json
import os
import signal
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import mirrored_run, mirrored_strategy

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import UsageError
from tests.processes import ChildProcess, free_ports, train
from tests.trainer.training.test_steps import CLASSES, make_batches, make_config, make_steps, run
from trainer import models
from trainer.config import AUGMENTATIONS
from trainer.layers.dropout import Dropout
from trainer.layers.normalization import BatchNormalization
from trainer.run_directory import checkpoints
from trainer.training import distribution
from trainer.training.steps import TrainSteps

# At a rate at which rounding is not amplified; the splits are no multiples of the batch. Without
# dropout: the masks that replicas draw for their parts of a batch are not the one that one device
# draws for the whole. Augmentation is drawn for the whole batch wherever it is done.
FLAGS = (
    "--model=compact_cnn", "--batch_size=48", "--epochs=2", "--dropout=0", "--optimizer=sgd",
    "--learning_rate=0.00001", "--label_smoothing=0.1", "--precision=float32", "--deterministic",
    f"--augment={','.join(AUGMENTATIONS)}",
)  # fmt: skip


def _train(run_dir: Path, data_dir: Path, *flags: str, worker: int = 0, **kwargs) -> ChildProcess:
    own = [f"--data_dir={data_dir}", f"--run_dir={run_dir}", *FLAGS, *flags]
    setup = kwargs.pop("setup", None)
    return ChildProcess(train, own, setup, output=Path(f"{run_dir}-{worker}"), **kwargs)


def _finish(process: ChildProcess, code: int = 0) -> None:
    assert process.wait() == code, process.stderr
    assert "Traceback" not in process.stderr


def _latest(run_dir: Path) -> dict[str, np.ndarray]:
    return checkpoints.read(checkpoints.latest(run_dir, keep=1).newest())[0]


def _history(run_dir: Path) -> list[dict[str, float]]:
    with open(run_dir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    times = ("seconds", "examples_per_second")
    return [{k: float(v) for k, v in row.items() if v and k not in times} for row in rows]


def _assert_validation_counts_all_once(run_dir: Path, data_dir: Path) -> None:
    """The last epoch's validation is what Keras finds with the same weights."""
    model = models.get("compact_cnn")(side=28, num_classes=5, dropout=0.0)
    arrays, saved = checkpoints.read(checkpoints.best(run_dir, keep=1).newest())
    checkpoints.restore(checkpoints.named(model.variables), arrays, run_dir)
    ((images, labels),) = qt.load(data_dir, "validation", 1000)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = model.evaluate(images.numpy() / np.float32(255), labels.numpy(), verbose=0)
    row = _history(run_dir)[saved["epoch"] - 1]
    assert row["validation_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_two_and_three_devices_train_as_one(tmp_path, data_dir):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    processes = [
        _train(one, data_dir),
        _train(two, data_dir, "--strategy=mirrored", devices=2),
        _train(three, data_dir, "--strategy=mirrored", devices=3),
    ]
    for process in processes:
        _finish(process)
    expected = _latest(one)
    for devices, run_dir in ((2, two), (3, three)):
        assert f"{devices} x CPU" in processes[devices - 1].stdout
        found = _latest(run_dir)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(
                found[name], expected[name], rtol=1e-4, atol=2e-6, err_msg=name
            )
        for ours, theirs in zip(_history(run_dir), _history(one), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
        _assert_validation_counts_all_once(run_dir, data_dir)


# Called in a process with several devices.


def _make_smooth_model() -> keras.Model:
    """With batch norm and a regularizer; without ReLU, whose gradient at 0 rounding decides."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input([28, 28, 1]),
        keras.layers.Conv2D(8, 3, strides=2, name="conv"),
        BatchNormalization(name="norm"),
        keras.layers.Activation("gelu", name="gelu"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.01), name="logits"),
    ]
    return keras.Sequential(layers)


def check_steps_on_replicas(replicas: int) -> None:
    """Losses, norms and weights step by step, with all that could depend on the replica.

    Batch norm, a kernel regularizer, label smoothing, every augmentation and averaged weights;
    without dropout, for the reason above.
    """
    config = make_config(
        optimizer="sgd",
        learning_rate=0.01,
        batch_size=24,
        label_smoothing=0.1,
        augment=AUGMENTATIONS,
        ema=0.9,
    )
    results = []
    for count in (1, replicas):
        strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])
        with strategy.scope():
            model = _make_smooth_model()
            train_steps = make_steps(model, config)
            measured = []
            for batch in make_batches(6, 24):
                train_steps.totals.reset()
                run(train_steps, [batch])
                loss = train_steps.totals.means()["loss"]
                measured.append((loss, float(train_steps.gradient_norm.numpy())))
            variables = [*model.variables, *train_steps.average.variables]
            results.append((measured, [variable.numpy() for variable in variables]))
    (expected_measured, expected), (measured, found) = results
    np.testing.assert_allclose(measured, expected_measured, rtol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


def check_dropout_masks() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    ones = tf.ones([64, 256])
    with strategy.scope():
        layer = Dropout(0.25, seed=3)
        drop = tf.function(lambda: strategy.run(layer, args=(ones,), kwargs={"training": True}))
        masks = [mask for _ in range(2) for mask in strategy.experimental_local_results(drop())]
    for index, mask in enumerate(masks):
        np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.75])
        assert np.mean(mask == 0) == pytest.approx(0.25, abs=0.02)
        for other in masks[:index]:  # independent: both drop a unit with the product of the rates
            assert np.mean((mask == 0) & (other == 0)) == pytest.approx(0.0625, abs=0.02)


def check_an_overflow_on_one_replica() -> None:
    """Padding has no gradient, so with a great scale only the replica of drawings overflows."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    keras.mixed_precision.set_global_policy("mixed_float16")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        logits = keras.layers.Dense(5, name="hidden")
        layers = [keras.Input([28, 28, 1]), keras.layers.Flatten(), logits]
        layers.append(keras.layers.Activation("linear", dtype="float32"))
        model = keras.Sequential(layers)
        train_steps = make_steps(model, make_config(optimizer="adam"), "mixed_float16")
        optimizer, scale = train_steps._optimizer, train_steps._loss_scale.scale
        ((images, labels),) = make_batches(1, 8)
        half_padded = (images, np.where(np.arange(8) < 4, -1, labels).astype(np.int32))

        def replicas() -> list[list[np.ndarray]]:
            return [
                [value.numpy() for value in strategy.experimental_local_results(variable.value)]
                for variable in (*model.variables, *optimizer.variables)
            ]

        def steps_and_updates() -> tuple[int, int]:
            return int(train_steps.step.numpy()), int(optimizer.iterations.numpy())

        run(train_steps, [(images, labels)])
        assert steps_and_updates() == (1, 1)
        before = replicas()
        scale.assign(2.0**24)
        run(train_steps, [half_padded])
        for values, expected in zip(replicas(), before, strict=True):
            for value in values:
                np.testing.assert_array_equal(value, expected[0])
                assert np.isfinite(value).all()
        assert float(scale.numpy()) == 2.0**23
        assert steps_and_updates() == (2, 1)
        assert train_steps.skipped.numpy() == 1
        assert train_steps.first_bad_step.numpy() == 0

        scale.assign(2.0**10)
        run(train_steps, [half_padded, (images, labels)])
        assert steps_and_updates() == (4, 3)
        assert train_steps.skipped.numpy() == 1
        for values in replicas():
            np.testing.assert_array_equal(values[0], values[1])
            assert np.isfinite(values[0]).all()
        assert not np.array_equal(replicas()[0][0], before[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_steps_on_replicas_are_those_on_one(replicas, tmp_path):
    process = ChildProcess(
        check_steps_on_replicas, replicas, output=tmp_path / "process", devices=replicas
    )
    assert process.wait() == 0, process.stderr


def test_each_replica_draws_dropout_masks_of_its_own(tmp_path):
    process = ChildProcess(check_dropout_masks, output=tmp_path / "process", devices=2)
    assert process.wait() == 0, process.stderr


def test_an_overflow_on_one_replica(tmp_path):
    check = check_an_overflow_on_one_replica
    process = ChildProcess(check, output=tmp_path / "process", devices=2)
    assert process.wait() == 0, process.stderr


def _train_on_workers(
    run_dir: Path, data_dir: Path, *, setups=(None, None), report: bool = False
) -> list[ChildProcess]:
    workers = [f"localhost:{port}" for port in free_ports(2)]
    return [
        _train(
            run_dir,
            data_dir,
            "--strategy=multi_worker",
            "--checkpoint_every_steps=5",
            f"--report={report}",
            worker=index,
            setup=setup,
            env={
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
                )
            },
        )
        for index, setup in enumerate(setups)
    ]


def _killed_in_epoch_2() -> None:
    original = TrainSteps.run

    def run_steps(self, *arguments):
        original(self, *arguments)
        if self.step.numpy() >= 22:
            os.kill(os.getpid(), signal.SIGKILL)

    TrainSteps.run = run_steps


def _terminated_in_epoch_1() -> None:
    original = TrainSteps.run

    def run_steps(self, *arguments):
        original(self, *arguments)
        if self.step.numpy() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    TrainSteps.run = run_steps


@pytest.mark.slow
def test_two_workers_train_and_one_that_is_killed_resumes(tmp_path, data_dir):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for process in (processes := _train_on_workers(undisturbed, data_dir, report=True)):
        _finish(process)
    assert "epoch   2" in processes[0].stdout
    assert f"report: {undisturbed}/report/index.html" in processes[0].stdout
    assert "epoch" not in processes[1].stdout  # the chief alone reports
    _assert_validation_counts_all_once(undisturbed, data_dir)

    # A signal to one worker stops both; the death of one ends both.
    for process in _train_on_workers(disturbed, data_dir, setups=(None, _terminated_in_epoch_1)):
        _finish(process, code=143)
    processes = _train_on_workers(disturbed, data_dir, setups=(None, _killed_in_epoch_2))
    assert processes[1].wait() == -signal.SIGKILL
    assert processes[0].wait() == 1
    assert "Traceback" not in processes[0].stderr
    for process in (processes := _train_on_workers(disturbed, data_dir)):
        _finish(process)
    assert "resuming at epoch 2, step 5" in processes[0].stdout

    expected, found = _latest(undisturbed), _latest(disturbed)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert _history(disturbed) == _history(undisturbed)


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({}, {}, True),
        ({"worker": ["a", "b"]}, {"type": "worker", "index": 0}, True),
        ({"worker": ["a", "b"]}, {"type": "worker", "index": 1}, False),
        ({"chief": ["a"], "worker": ["b"]}, {"type": "chief", "index": 0}, True),
        ({"chief": ["a"], "worker": ["b"]}, {"type": "worker", "index": 0}, False),
    ],
)
def test_one_process_is_the_chief(monkeypatch, cluster, task, expected):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert distribution.is_chief() is expected


def test_a_tf_config_that_is_not_json_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(UsageError, match="TF_CONFIG is not JSON"):
        distribution.is_chief()


def test_several_workers_need_a_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UsageError, match="needs the environment variable TF_CONFIG"):
        distribution.create_strategy("multi_worker")


class Strategy:
    num_replicas_in_sync = 3


def check_xla_across_devices() -> None:
    """CPUs cannot; GPUs can, and `auto` leaves it. Then traces it as it would be on GPUs."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert not distribution.use_xla("auto", strategy)
    with pytest.raises(UsageError, match="--jit_compile=true: must be on one device, or on GPUs"):
        distribution.use_xla("true", strategy)
    for module in (mirrored_run, mirrored_strategy):
        module._is_gpu_device = lambda device: True
    with strategy.scope(), models.dtype_policy("mixed_float16"):
        model = models.get("compact_cnn")(side=28, num_classes=CLASSES, dropout=0.5)
        config = make_config(augment=AUGMENTATIONS)
        train_steps = make_steps(model, config, "mixed_float16", jit_compile=True)
        batches = iter(
            strategy.experimental_distribute_dataset(
                tf.data.Dataset.from_tensors(make_batches(1, 8)[0]).repeat()
            )
        )
        traced = train_steps.run.get_concrete_function(batches, tf.constant(2, tf.int64))
    steps = [
        {node.op for node in function.node_def}
        for function in traced.graph.as_graph_def().library.function
        if function.attr["_XlaMustCompile"].b
    ]
    assert len(steps) == 2
    assert all("CollectiveReduceV2" in ops for ops in steps)


def test_xla_across_devices(tmp_path):
    process = ChildProcess(check_xla_across_devices, output=tmp_path / "process", devices=2)
    assert process.wait() == 0, process.stderr


class Gpus(tf.distribute.MirroredStrategy):
    """Two that this machine need not have."""

    num_replicas_in_sync = 2

    def __init__(self) -> None:
        pass

    @property
    def extended(self) -> types.SimpleNamespace:
        devices = ["/job:localhost/replica:0/task:0/device:GPU:0", "/device:GPU:1"]
        return types.SimpleNamespace(worker_devices=devices)


def test_xla_across_gpus_is_by_choice():
    assert distribution.use_xla("true", Gpus())
    assert not distribution.use_xla("auto", Gpus())


def test_a_batch_has_to_be_shared_evenly():
    distribution.require_even_batch(Strategy(), 48)
    with pytest.raises(UsageError, match="--batch_size=64: must be a multiple of the 3 devices"):
        distribution.require_even_batch(Strategy(), 64)
