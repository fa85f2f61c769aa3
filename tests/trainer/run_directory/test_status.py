"""How far runs have come, and how they are found and listed."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.locks import locked
from tests.trained import make_run, write_history
from trainer.results import split_results
from trainer.run_directory import checkpoints, finding, runs, status
from trainer.run_directory.runs import TrainedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    """3 of 9 epochs."""
    return make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)


def _save_latest(run: TrainedRun, *, stopped: bool) -> None:
    state = {"progress": {"epoch": 3, "stopped": stopped}}
    checkpoints.latest(run.directory, keep=1).save(30, {}, state)


def test_a_run_that_may_go_on_was_stopped(run):
    found = status.of(run)
    assert (found.state, found.epochs, found.max_epochs) == ("stopped", 3, 9)
    assert found.unfinished == "was stopped early, after 3 of at most 9 epochs"
    assert (found.validation_loss, found.validation_top1) == (0.5, 0.25)  # of the second epoch
    assert found.seconds == 0.75


@pytest.mark.parametrize(("stopped", "state"), [(True, "done"), (False, "stopped")])
def test_a_run_that_ended_itself_is_done(tmp_path, data_dir, stopped, state):
    run = make_run(tmp_path / "run", data_dir)
    _save_latest(run, stopped=stopped)
    assert status.of(run).state == state


def test_a_run_with_all_its_epochs_is_done(tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir)
    write_history(run.directory, 9)
    assert status.of(run).state == "done"
    assert status.of(run).unfinished is None


def test_a_run_is_running_while_it_is_held(run):
    with locked(run.directory, work="training run"):
        found = status.of(run)
        assert found.state == "running"
        assert found.unfinished == "is still being trained, after 3 of at most 9 epochs"
    assert status.of(run).state == "stopped"


def test_the_test_is_told_only_of_the_present_weights(tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir)
    assert status.of(run).test_top1 is None
    expected = split_results.evaluate(run, "test").metrics.top1
    assert status.of(run).test_top1 == expected
    arrays, state = checkpoints.read(run.checkpoint())
    checkpoints.best(run.directory, keep=2).save(99, arrays, state)
    assert status.of(run).test_top1 is None


def test_a_run_that_goes_by_accuracy_is_best_where_that_is_highest(run):
    config = dataclasses.replace(run.config, monitor="validation_top1")
    by_accuracy = dataclasses.replace(run, config=config)
    assert status.of(by_accuracy).validation_loss == 0.9  # all have the same; the first counts


def test_a_run_without_an_epoch_has_no_metrics(tmp_path, data_dir):
    found = status.of(make_run(tmp_path / "run", data_dir, epochs=0))
    assert (found.epochs, found.validation_loss, found.test_top1) == (0, None, None)


def _make_folders(root: Path) -> None:
    for name in ("b", "a/1", "a/2", "a/2/inside", "empty"):
        (root / name).mkdir(parents=True, exist_ok=True)
        if name != "empty":
            (root / name / runs.FILE_NAME).write_text("{}")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["."], ["a/1", "a/2", "b"]),
        (["b", "a"], ["b", "a/1", "a/2"]),
        (["a/*"], ["a/1", "a/2"]),
        (["a/2", "a"], ["a/2", "a/1"]),
        (["?"], ["a/1", "a/2", "b"]),
    ],
)
def test_runs_are_found_by_name_folder_and_pattern(tmp_path, monkeypatch, places, expected):
    _make_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert set(finding.find(places, "")) == set(map(Path, expected))
    absolute = [str(tmp_path / place) for place in places]
    assert finding.find(absolute, "") == [tmp_path / name for name in expected]


@pytest.mark.parametrize("place", ["empty", "nowhere", "x*"])
def test_a_place_without_runs_is_named(tmp_path, monkeypatch, place):
    _make_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        finding.find([place], "--run_dirs=")
    assert str(caught.value) == f"--run_dirs={place}: no run is there; a run has a run.json"


def _list(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    code = (
        "import sys; sys.argv[0] = 'runs'; from trainer.commands import runs as command\n"
        "from quickdraw_tfrecords.base import cli\n"
        "import atexit; atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        "command.define_flags(); cli.run(command.main)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )


def test_runs_are_listed_without_tensorflow(tmp_path, data_dir):
    for name, epochs in (("short", 1), ("long", 9)):
        make_run(tmp_path / "runs" / name, data_dir, epochs=epochs)
    done = _list("--sort=epochs", cwd=tmp_path)
    header, first, second, imported = done.stdout.splitlines()
    assert header.split()[:4] == ["run", "model", "data", "epochs"]
    assert first.split()[0] == "runs/long"
    assert first.split()[-1] == "done"
    assert second.split()[0] == "runs/short"
    assert imported == "False"
    done = _list("--json", "runs/s*", cwd=tmp_path)
    facts = json.loads(done.stdout.splitlines()[0])
    assert (facts["run"], facts["epochs"], facts["test_top1"]) == ("runs/short", 1, None)


def test_a_damaged_run_is_named_and_the_others_are_listed(tmp_path, data_dir):
    make_run(tmp_path / "runs" / "good", data_dir)
    damaged = make_run(tmp_path / "runs" / "bad", data_dir)
    (damaged.directory / "run.json").write_text("{")
    done = _list(cwd=tmp_path)
    assert done.returncode == 1
    assert "runs/good" in done.stdout
    assert done.stderr.startswith("error: runs/bad/run.json: not JSON")
