"""A run that was stopped at any moment resumes as if it had not been."""

import csv
import functools
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import quickdraw_tfrecords as qt
from tests.processes import ChildProcess, train
from trainer import models
from trainer.run_directory import checkpoints
from trainer.run_directory.checkpoints import CheckpointFiles
from trainer.training import state
from trainer.training.evaluation import Evaluator
from trainer.training.steps import TrainSteps

# Validation and test splits are no multiples of the batch; the rate falls every epoch.
FLAGS = (
    "--model=compact_cnn", "--deterministic", "--batch_size=64", "--epochs=3", "--cache=none",
    "--checkpoint_every_steps=4", "--steps_per_loop=3", "--plateau_patience=1",
    "--plateau_min_delta=100", "--early_stopping_patience=2", "--ema=0.8", "--seed=5",
    "--precision=float32",
)  # fmt: skip
TIMES = {"seconds", "examples_per_second"}


class Runner:
    """Runs the trainer in processes, one after the other."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self._directory, self._data_dir, self._count = directory, data_dir, 0

    def start(self, name: str, *flags: str, setup: Callable | None = None) -> ChildProcess:
        own = [f"--data_dir={self._data_dir}", f"--run_dir={self._directory / name}"]
        self._count += 1
        output = self._directory / f"process{self._count}"
        return ChildProcess(train, [*own, *flags], setup, output=output)

    def finish(self, name: str, *flags: str, code: int = 0, setup: Callable | None = None):
        process = self.start(name, *flags, setup=setup)
        assert process.wait() == code, process.stderr
        assert "Traceback" not in process.stderr
        return process


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runner(directory, data_dir) -> Runner:
    return Runner(directory, data_dir)


@pytest.fixture(scope="module")
def undisturbed(runner, directory) -> Path:
    runner.finish("undisturbed", *FLAGS)
    return directory / "undisturbed"


# Where the runs below are struck. Each is called in the process, before it trains.


@functools.cache
def _strike(number: signal.Signals) -> None:
    """Sends itself a signal, once."""
    os.kill(os.getpid(), number)


def _in_step(step: int, number: signal.Signals) -> None:
    original = TrainSteps.run

    def run(self, *arguments):
        original(self, *arguments)
        if self.step.numpy() >= step:
            _strike(number)

    TrainSteps.run = run


def _in_validation(number: signal.Signals) -> None:
    original = Evaluator.run

    def run(self, *arguments):
        original(self, *arguments)
        _strike(number)

    Evaluator.run = run


def _while_writing(kind: str) -> None:
    original = np.savez

    def savez(file, **arrays):
        if kind not in file.name:
            original(file, **arrays)
            return
        original(file, **dict(list(arrays.items())[: len(arrays) // 2]))
        file.flush()
        _strike(signal.SIGKILL)

    np.savez = savez


def _between_best_and_latest() -> None:
    state.RunState.save_latest = lambda _: _strike(signal.SIGKILL)


def _before_pruning() -> None:
    CheckpointFiles.prune = lambda _: _strike(signal.SIGKILL)


DISTURBANCES = (
    ("in an epoch", -signal.SIGKILL, functools.partial(_in_step, 6, signal.SIGKILL)),
    ("in validation", -signal.SIGKILL, functools.partial(_in_validation, signal.SIGKILL)),
    ("while writing best", -signal.SIGKILL, functools.partial(_while_writing, "/best/")),
    ("between best and latest", -signal.SIGKILL, _between_best_and_latest),
    ("terminated in an epoch", 143, functools.partial(_in_step, 14, signal.SIGTERM)),
    ("terminated in validation", 143, functools.partial(_in_validation, signal.SIGTERM)),
    ("while writing latest", -signal.SIGKILL, functools.partial(_while_writing, "/latest/")),
    ("before pruning", -signal.SIGKILL, _before_pruning),
    ("interrupted in an epoch", 130, functools.partial(_in_step, 25, signal.SIGINT)),
)


@pytest.fixture(scope="module")
def disturbed(runner, directory) -> Path:
    """The same run, stopped at each of the moments above and started again."""
    for name, code, setup in DISTURBANCES:
        process = runner.finish("disturbed", *FLAGS, code=code, setup=setup)
        if code > 0:
            assert "the same command resumes from here" in process.stdout, name
    assert "resuming at epoch 3" in runner.finish("disturbed", *FLAGS).stdout
    return directory / "disturbed"


def _checkpoint(run_dir: Path, kind: Callable) -> tuple[dict, dict]:
    return checkpoints.read(kind(run_dir, keep=1).newest())


def _history(run_dir: Path) -> list[dict[str, str]]:
    with open(run_dir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key not in TIMES} for row in rows]


def _without_times(saved: dict) -> dict:
    for row in saved.get("progress", {}).get("history", []):
        for name in TIMES:
            del row[name]
    return saved


def _curve(run_dir: Path, name: str, tag: str) -> tuple[list[int], list[float]]:
    """Steps and values of a curve, as TensorBoard shows them."""
    path = run_dir / "tensorboard"
    events = EventAccumulator(str(path), purge_orphaned_data=False)
    points = events.Reload().Tensors(f"{tag}/{name}")
    return [p.step for p in points], [float(tf.make_ndarray(p.tensor_proto)) for p in points]


RECIPE = (
    "--model=resnet_s", "--deterministic", "--batch_size=48", "--epochs=2", "--optimizer=muon",
    "--schedule=one_cycle", "--augment=flip,mixup,cutmix", "--train_sides=20,28", "--ema=0.9",
    "--checkpoint_every_steps=4", "--precision=mixed_bfloat16", "--tta=flip", "--noreport",
    "--early_stopping_patience=-1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 21], ids=["small", "whole"])
def test_a_run_with_all_of_a_recipe_ends_with_the_same_bits(runner, directory, undisturbed, step):
    """With drawings of either side; it learns from another run."""
    recipe = (*RECIPE, f"--teacher={undisturbed}")
    whole, parts = directory / "recipe", directory / f"recipe in parts {step}"
    if not whole.exists():
        runner.finish(whole.name, *recipe)
    struck = functools.partial(_in_step, step, signal.SIGKILL)
    runner.finish(parts.name, *recipe, code=-signal.SIGKILL, setup=struck)
    runner.finish(parts.name, *recipe)
    for kind in (checkpoints.latest, checkpoints.best):
        test_it_ends_with_the_same_bits(whole, parts, kind)
    refused = runner.finish(parts.name, *RECIPE, code=2)
    assert re.search("the teacher was '[0-9a-f]{8}', is None", refused.stderr)


def _stop_in_a_step() -> None:
    TrainSteps.run = lambda *_: _strike(signal.SIGSTOP)


@pytest.mark.slow
def test_a_second_trainer_is_told_of_the_first_and_changes_nothing(runner, directory):
    first = runner.start("both", *FLAGS, setup=_stop_in_a_step)
    leftover = directory / "both" / ".history.csv.99.tmp"
    first.wait_until((directory / "both" / "history.csv").exists)
    leftover.write_bytes(b"half")
    second = runner.finish("both", *FLAGS, "--resume=never", code=2)
    assert re.search(r"both: another training run is writing here \(process \d+ on", second.stderr)
    assert leftover.exists()
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    runner.finish("both", *FLAGS)  # at once
    assert not leftover.exists()
    assert not (directory / "both" / ".lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [checkpoints.latest, checkpoints.best])
def test_it_ends_with_the_same_bits(undisturbed, disturbed, kind):
    expected, expected_state = _checkpoint(undisturbed, kind)
    found, found_state = _checkpoint(disturbed, kind)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert _without_times(found_state) == _without_times(expected_state)


@pytest.mark.slow
def test_it_ends_with_the_same_history(undisturbed, disturbed):
    assert _history(disturbed) == _history(undisturbed)
    rates = [float(row["learning_rate"]) for row in _history(undisturbed)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4], rtol=1e-6)


@pytest.mark.slow
def test_it_leaves_the_same_files(undisturbed, disturbed):
    def names(run_dir: Path) -> list[str]:
        paths = (run_dir / "checkpoints").rglob("*")
        return sorted(str(path.relative_to(run_dir)) for path in paths)

    assert names(disturbed) == names(undisturbed)


@pytest.mark.slow
def test_its_curves_have_each_epoch_once(disturbed):
    for tag in ("loss", "top1", "top3"):
        steps, values = _curve(disturbed, "validation", tag)
        assert steps == [11, 22, 33]
        expected = [float(row[f"validation_{tag}"]) for row in _history(disturbed)]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.slow
def test_its_curves_have_what_was_trained_once(undisturbed, disturbed):
    """A process that resumes within an epoch adds a point for its part of it."""
    for tag in ("loss", "top1", "top3"):
        steps, values = _curve(disturbed, "train", tag)
        assert steps == sorted(set(steps))
        assert steps[-1] == 33
        lengths = np.diff([0, *steps])
        of_epochs = [float(row[f"train_{tag}"]) for row in _history(undisturbed)]
        np.testing.assert_allclose(np.dot(values, lengths), np.sum(of_epochs) * 11, rtol=1e-5)


@pytest.mark.slow
def test_the_test_is_of_the_best_weights_as_keras_evaluates_them(undisturbed, data_dir):
    info = qt.open_dataset(data_dir)
    model = models.get("compact_cnn")(side=28, num_classes=5, dropout=None)
    arrays, saved = _checkpoint(undisturbed, checkpoints.best)
    checkpoints.restore(checkpoints.named(model.variables), arrays, undisturbed)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3)],
    )
    ((images, labels),) = qt.load(data_dir, "test", info.num_examples["test"])
    expected = model.evaluate(images.numpy() / np.float32(255), labels.numpy(), verbose=0)

    for tag, value in zip(("loss", "top1", "top3"), expected, strict=True):
        steps, values = _curve(undisturbed, "test", tag)
        assert steps == [11 * saved["epoch"]]
        np.testing.assert_allclose(values, [value], rtol=1e-5)
    losses = [float(row["validation_loss"]) for row in _history(undisturbed)]
    assert saved["epoch"] == 1 + int(np.argmin(losses))
    assert saved["metric"] == min(losses)


@pytest.mark.slow
def test_a_finished_run_only_tests_again(runner, undisturbed, directory):
    shutil.copytree(undisturbed, directory / "finished")
    process = runner.finish("finished", *FLAGS)
    assert "trained already, for 3 epochs" in process.stdout
    assert "epoch   " not in process.stdout
    assert re.search(r"test loss \d\.\d+", process.stdout)
    assert len(_curve(directory / "finished", "test", "loss")[0]) == 1


def _killed_once_it_is_saved(run_dir: Path) -> None:
    original = TrainSteps.run

    def run(self, *arguments):
        original(self, *arguments)
        if checkpoints.latest(run_dir, keep=9).newest():
            _strike(signal.SIGKILL)

    TrainSteps.run = run


@pytest.mark.slow
def test_one_that_is_killed_in_its_first_epoch_resumes_from_the_clock(
    runner, directory, undisturbed
):
    """No checkpoint by steps, nor by epochs yet: only those that are written meanwhile."""
    flags = [flag for flag in FLAGS if "checkpoint_every" not in flag]
    flags += ["--checkpoint_every_secs=1e-6", "--steps_per_loop=1"]
    kill = functools.partial(_killed_once_it_is_saved, directory / "by time")
    runner.finish("by time", *flags, code=-signal.SIGKILL, setup=kill)
    newest = checkpoints.latest(directory / "by time", keep=1).newest()
    step = checkpoints.step_of(newest)
    assert 0 < step < 11
    process = runner.finish("by time", *flags)
    assert f"resuming at epoch 1, step {step} of 11" in process.stdout
    for kind in (checkpoints.latest, checkpoints.best):
        test_it_ends_with_the_same_bits(undisturbed, directory / "by time", kind)
    test_it_ends_with_the_same_history(undisturbed, directory / "by time")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 64
    path.write_bytes(content)


def _change_state(key: str, value: object, path: Path) -> None:
    arrays, saved = checkpoints.read(path)
    saved[key] = value
    np.savez(path, state=np.array(json.dumps(saved)), **arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip, "not a whole checkpoint"),
        (functools.partial(_change_state, "progress", []), "progress is [], must be an object"),
        (functools.partial(_change_state, "plateau", []), "plateau is [], state of ReduceLROnPlat"),
    ],
    ids=["a bit", "progress", "plateau"],
)
def test_a_damaged_checkpoint_is_skipped(runner, tmp_path, data_dir, undisturbed, damage, reason):
    """The older one is of the middle of the last epoch, before its best was saved."""
    run_dir = tmp_path / "mended"
    shutil.copytree(undisturbed, run_dir)
    older, newest = checkpoints.latest(run_dir, keep=2).paths()
    damage(newest)
    process = Runner(tmp_path, data_dir).finish("mended", *FLAGS)
    (warning,) = (line for line in process.stdout.splitlines() if "warning: " in line)
    assert f"warning: {newest}: {reason}" in warning
    assert f"resuming from {older.name}" in warning
    assert "resuming at epoch 3, step 8 of 11" in process.stdout
    test_it_ends_with_the_same_bits(undisturbed, run_dir, checkpoints.latest)
    test_it_ends_with_the_same_bits(undisturbed, run_dir, checkpoints.best)
    test_it_ends_with_the_same_history(undisturbed, run_dir)


@pytest.mark.slow
def test_where_no_checkpoint_is_whole_nothing_is_touched(runner, directory, undisturbed):
    run_dir = directory / "lost"
    shutil.copytree(undisturbed, run_dir)
    paths = checkpoints.latest(run_dir, keep=2).paths()
    for path in paths:
        _cut(path)

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    before = contents()
    message = runner.finish("lost", *FLAGS, code=1).stderr.splitlines()[-1]
    assert message.startswith(f"error: {paths[-1]}: not a whole checkpoint")
    assert "--resume=never" in message
    assert contents() == before


@pytest.mark.slow
def test_damaged_best_weights_are_not_silently_replaced(runner, directory, undisturbed):
    shutil.copytree(undisturbed, directory / "no best")
    older, best = checkpoints.best(directory / "no best", keep=2).paths()
    _cut(best)
    message = runner.finish("no best", *FLAGS, code=1).stderr.splitlines()[-1]
    assert message.startswith(f"error: {best}: not a whole checkpoint")
    assert "the best weights are lost" in message
    best.unlink()  # the remedy it names
    assert older.name in runner.finish("no best", *FLAGS).stdout


@pytest.mark.slow
def test_its_flagfile_repeats_it(undisturbed, directory):
    """As the README has it: with a run directory of its own, and no other flag."""
    flags = [f"--flagfile={undisturbed / 'flags.txt'}", f"--run_dir={directory}/2"]
    process = ChildProcess(train, flags, output=directory / "repeated")
    assert process.wait() == 0, process.stderr
    expected, _ = _checkpoint(undisturbed, checkpoints.latest)
    found, _ = _checkpoint(directory / "2", checkpoints.latest)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.slow
def test_what_would_change_the_run_is_refused(runner, undisturbed):
    changes = ("--model=study_cnn", "--batch_size=32", "--precision=mixed_bfloat16", "--seed=6")
    process = runner.finish("undisturbed", *FLAGS, *changes, code=2)
    message = process.stderr.splitlines()[-1]
    assert message.startswith("error: cannot resume from")
    for part in (
        "--model was 'compact_cnn', is 'study_cnn'",
        "--batch_size was 64, is 32",
        "--precision was 'float32', is 'mixed_bfloat16'",
        "--seed was 5, is 6",
        "--resume=never",
    ):
        assert part in message


def _slow_step() -> None:
    def run(*_):
        print("in a step", flush=True)
        time.sleep(300)

    TrainSteps.run = run


def test_a_second_ctrl_c_ends_it_at_once(runner):
    process = runner.start("slow", *FLAGS, setup=_slow_step)
    process.wait_until(lambda: "in a step" in process.stdout)
    process.send(signal.SIGINT)
    process.wait_until(lambda: "Ctrl-C ends it at once" in process.stderr)
    process.send(signal.SIGINT)
    assert process.wait(timeout_secs=60) == 130
    assert "Traceback" not in process.stderr


def _poison_in_epoch_2() -> None:
    original = TrainSteps.run

    def run(self, *arguments):
        if self.step.numpy() >= 13:
            (scale,) = (each for each in self.variables if each.name.startswith("loss_scale"))
            scale.assign(np.nan)
        original(self, *arguments)

    TrainSteps.run = run


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_it_and_leaves_good_checkpoints(
    runner, directory, undisturbed
):
    flags = [flag for flag in FLAGS if "checkpoint_every" not in flag]
    process = runner.finish("poisoned", *flags, code=1, setup=_poison_in_epoch_2)
    message = process.stderr.splitlines()[-1]
    assert re.match(r"error: .*NaN or infinite at step 1[4-6]\b.*--learning_rate", message)
    for kind in (checkpoints.latest, checkpoints.best):
        path = kind(directory / "poisoned", keep=1).newest()
        assert path.stem == "step-0000000011"
        assert all(np.isfinite(array).all() for array in checkpoints.read(path)[0].values())


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_damaged_shard_is_named_in_one_line(directory, data_dir, cache):
    damaged = directory / f"damaged-{cache}"
    shutil.copytree(data_dir, damaged)
    (shard,) = damaged.rglob("quickdraw-train.tfrecord-00002-of-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    process = Runner(damaged, damaged).finish("run", *FLAGS, f"--cache={cache}", code=1)
    message = process.stderr.splitlines()[-1]
    assert message.startswith("error: ")
    assert shard.name in message


def test_a_missing_data_set_is_named_in_one_line(directory):
    process = Runner(directory, directory / "nowhere").finish("x", *FLAGS, code=1)
    assert process.stderr.splitlines()[-1] == f"error: {directory / 'nowhere'}: no such directory"


def test_the_model_is_printed_without_data(directory):
    output = directory / "printed"
    process = ChildProcess(train, ["--print_model", "--model=study_cnn"], output=output)
    assert process.wait() == 0, process.stderr
    assert "8,031,385" in process.stdout
