"""Results are found once, kept, and found anew when the weights are others."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, UsageError
from tests.trained import make_run, save_best
from trainer.report import page
from trainer.results import predictions, split_results
from trainer.run_directory import checkpoints, runs
from trainer.run_directory.runs import TrainedRun
from trainer.serving import exporter


@pytest.fixture
def run(tmp_path, data_dir) -> TrainedRun:
    return make_run(tmp_path / "run", data_dir)


def _never(*_: object) -> None:
    raise AssertionError("the model was asked again")


def test_what_is_written_is_what_was_found(run):
    found = split_results.evaluate(run, "validation")
    directory = run.directory / "evaluation" / "validation"
    facts = json.loads((directory / "metrics.json").read_text())
    assert facts["examples"] == run.num_examples["validation"] == 80
    assert facts["top3"] == found.metrics.top3
    assert facts["of"]["checkpoint"] == "checkpoints/best/step-0000000020.npz"
    confusion = np.load(directory / "confusion.npy")
    np.testing.assert_array_equal(confusion, found.metrics.confusion)
    with open(directory / "classes.csv", newline="") as file:
        assert sum(int(row["support"]) for row in csv.DictReader(file) if row["label"]) == 80
    assert (directory / "report.txt").read_text() == split_results.to_text(found, run.class_names)
    assert "after epoch 2" in found.weights
    kept = predictions.read(directory / "predictions.npz")
    np.testing.assert_array_equal(kept.classes, found.predictions.classes)


def test_what_a_kill_left_is_swept(run):
    directory = run.directory / "evaluation" / "test"
    directory.mkdir(parents=True)
    (directory / ".predictions.npz.99.tmp").write_bytes(b"half")
    split_results.evaluate(run, "test")
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]


def test_the_model_is_asked_once(run, monkeypatch):
    first = split_results.find(run, "test")
    monkeypatch.setattr(predictions, "predict", _never)
    again = split_results.find(run, "test")
    assert again.metrics.headline() == first.metrics.headline()
    assert again.weights == first.weights


def test_other_weights_of_the_same_name_are_evaluated_anew(run):
    first = split_results.find(run, "test")
    save_best(run, epoch=2, seed=9)
    assert split_results.find(run, "test").metrics.loss != first.metrics.loss


def _probabilities(run: TrainedRun, images: np.ndarray) -> np.ndarray:
    return keras.activations.softmax(run.load_model()(images)).numpy()


def test_test_time_augmentation_is_evaluated_anew(run, data_dir):
    """The mirrored probabilities are averaged: all five classes are Quick, Draw!'s."""
    plain = split_results.find(run, "test")
    flipped = split_results.find(run.with_tta("flip"), "test")
    assert flipped.weights == f"{plain.weights}, of each drawing and its mirror image"
    ((images, _),) = qt.load(data_dir, "test", 200)
    floats = images.numpy() / np.float32(255)
    expected = (_probabilities(run, floats) + _probabilities(run, floats[:, :, ::-1])) / 2
    found = flipped.predictions
    chosen = np.take_along_axis(expected, found.classes, axis=1)
    np.testing.assert_allclose(found.probabilities, chosen, rtol=1e-3)
    assert not np.array_equal(found.probabilities, plain.predictions.probabilities)


def test_several_runs_are_averaged(tmp_path, data_dir, run):
    other = make_run(tmp_path / "other", data_dir, seed=1)
    results = split_results.evaluate_together([run, other], "test")
    ((images, labels),) = qt.load(data_dir, "test", 200)
    floats = images.numpy() / np.float32(255)
    expected = (_probabilities(run, floats) + _probabilities(other, floats)) / 2
    right = (expected.argmax(axis=1) == labels.numpy()).mean()
    assert results.metrics.top1 == pytest.approx(right)
    losses = -np.log(expected[np.arange(200), labels.numpy()])
    assert results.metrics.loss == pytest.approx(losses.mean(), rel=1e-4)
    assert f"{run.directory}: checkpoints/best" in results.weights
    assert f"{other.directory}: checkpoints/best" in results.weights
    assert not (run.directory / "evaluation").exists()
    stranger = dataclasses.replace(other, fingerprint="else")
    with pytest.raises(UsageError, match="other was trained on another data set than"):
        split_results.evaluate_together([run, stranger], "test")


@pytest.mark.parametrize("flags", [[], ["--run_dir=a", "--run_dirs=b,c"]])
def test_the_command_wants_one_run_or_several(flags):
    command = [sys.executable, "-m", "trainer.commands.evaluate", *flags]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "name a run with --run_dir, or several with --run_dirs" in result.stderr


@pytest.mark.parametrize("content", [None, "", "{}", '{"of": 3}'])
def test_results_without_their_last_file_are_none(run, content):
    first = split_results.find(run, "test")
    stamp = run.directory / "evaluation" / "test" / "metrics.json"
    stamp.unlink()
    if content is not None:
        stamp.write_text(content)
    assert split_results.find(run, "test").metrics.headline() == first.metrics.headline()
    assert "of" in json.loads(stamp.read_text())


def test_an_evaluation_that_fails_midway_leaves_no_results(run, monkeypatch):
    split_results.evaluate(run, "test")
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", _never)
        with pytest.raises(AssertionError):
            split_results.evaluate(run, "test")
    directory = run.directory / "evaluation" / "test"
    assert not (directory / "metrics.json").exists()
    assert not list(directory.glob(".*"))


def test_of_an_interrupted_run_the_latest_weights_are_taken(run):
    (best,) = checkpoints.best(run.directory, keep=1).paths()
    arrays, _ = checkpoints.read(best)
    best.unlink()
    state = {"progress": {"epoch": 0}}
    extra = {"step": np.int64(7)}  # a checkpoint to resume from has more than the model
    checkpoints.latest(run.directory, keep=1).save(7, arrays | extra, state)
    found = split_results.evaluate(run, "test")
    assert found.weights == "checkpoints/latest/step-0000000007.npz, before the first epoch's end"


def test_a_run_without_a_checkpoint_has_no_results(tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir, epochs=0)
    with pytest.raises(UsageError, match="no checkpoint is there"):
        split_results.evaluate(run, "test")


def test_a_data_set_that_has_moved_can_be_named(tmp_path, data_dir):
    old = shutil.copytree(data_dir, tmp_path / "old")
    run = make_run(tmp_path / "run", old)
    expected = split_results.evaluate(run, "test").metrics.headline()
    old.rename(tmp_path / "new")
    with pytest.raises(DataError, match=r"old: no such directory.*name it with --data_dir"):
        split_results.evaluate(run, "test")
    moved = runs.open_run(run.directory, tmp_path / "new")
    assert split_results.evaluate(moved, "test").metrics.headline() == expected


@pytest.mark.slow
def test_the_command_prints_the_report(run):
    command = [sys.executable, "-m", "trainer.commands.evaluate", f"--run_dir={run.directory}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = run.directory / "evaluation" / "test" / "report.txt"
    assert done.stdout == report.read_text() + "\n"
    for name in run.class_names:
        assert name in done.stdout


def test_a_split_that_is_not_there_is_one_line(run):
    with pytest.raises(UsageError, match="--split=tset: must be one of train, validation, test"):
        split_results.evaluate(run, "tset")


def test_a_directory_that_is_no_run_is_misuse(tmp_path):
    with pytest.raises(UsageError, match=r"--run_dir=.*: holds no run\.json"):
        runs.open_run(tmp_path)


def _contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_results_go_elsewhere_where_that_is_asked(run, tmp_path, monkeypatch):
    before, out_dir = _contents(run.directory), tmp_path / "out"
    elsewhere = runs.open_run(run.directory, out_dir=out_dir)
    first = split_results.find(elsewhere, "test")
    assert (out_dir / "evaluation" / "test" / "metrics.json").exists()
    assert page.make(elsewhere) == out_dir / "report" / "index.html"
    exporter.export(elsewhere, "saved_model")
    assert (out_dir / "export" / "saved_model").is_dir()
    assert list((out_dir / "tensorboard").iterdir())
    assert _contents(run.directory) == before
    monkeypatch.setattr(predictions, "predict", _never)
    assert split_results.find(elsewhere, "test").metrics.headline() == first.metrics.headline()


def test_what_the_run_directory_has_kept_is_not_found_again(run, tmp_path, monkeypatch):
    split_results.find(run, "test")
    monkeypatch.setattr(predictions, "predict", _never)
    split_results.find(runs.open_run(run.directory, out_dir=tmp_path / "out"), "test")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        *((name, None, "cannot be written to; --out") for name in ("evaluate", "report", "export")),
        ("report", "file", "is a file, must be a directory"),
    ],
)
def test_where_nothing_can_be_written_is_refused(run, tmp_path, command, place, said):
    """Before TensorFlow is imported. The system's answer is ours, since root may write anywhere."""
    (tmp_path / "file").touch()
    flag = f"--out_dir={tmp_path / place}" if place else f"--run_dir={run.directory}"
    code = (
        "import os, sys; os.access = lambda path, mode: False\n"
        f"from trainer.commands import {command} as command\n"
        "from quickdraw_tfrecords.base import cli\n"
        "import atexit; atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        "command.define_flags(); cli.run(command.main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"--run_dir={run.directory}", flag],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr.startswith(f"error: {flag}: {said}")
