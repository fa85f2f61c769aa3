"""Sweeps, with a trainer that writes a history and nothing else; in the end with the real one."""

import csv
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from quickdraw_tfrecords.base import locks
from quickdraw_tfrecords.base.errors import DataError, Interrupted, UsageError
from tests.trainer.training.test_steps import make_config
from trainer.sweeping import page, sweep, trials
from trainer.sweeping.sweep import Sweep

# Trains an epoch in no time, or where there is a file "slow" beside the runs, in a second. Its loss
# is least for a rate of 0.01. It goes on from what its directory holds, as the real one does.
TRAINER = """
import csv, math, pathlib, signal, sys, time
flags = dict(
    line.strip().lstrip("-").partition("=")[::2]
    for argument in sys.argv[1:]
    for line in (open(argument.split("=")[1]) if "flagfile" in argument else [argument])
)
run_dir = pathlib.Path(flags["run_dir"])
history = run_dir / "history.csv"
rate, optimizer = float(flags["learning_rate"]), flags["optimizer"]
if optimizer == "sgd":
    print("error: the loss became NaN")
    sys.exit(1)
done = len(history.read_text().splitlines()) - 1 if history.exists() else 0
for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    signal.signal(number, lambda *_, code=code: sys.exit(code))
for epoch in range(done, int(flags["epochs"])):
    time.sleep(1 if (run_dir.parent / "slow").exists() else 0.01)
    loss = abs(math.log10(rate) + 2) + 1 / (epoch + 1)
    rows = ["epoch,validation_loss"] if not history.exists() else history.read_text().splitlines()
    temporary = run_dir / "temporary"
    temporary.write_text("\\n".join([*rows, f"{epoch + 1},{loss}"]) + "\\n")
    temporary.rename(history)
"""
BASE = make_config(model="compact_cnn", epochs=3)
SPACE = {"learning_rate": FloatDistribution(1e-4, 1.0, log=True)}


@pytest.fixture(autouse=True)
def trainer(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "fake_trainer.py"
    path.write_text(TRAINER)
    monkeypatch.setattr(trials, "_TRAINER", (sys.executable, str(path)))
    monkeypatch.setattr(trials, "_POLL_SECS", 0.02)
    return path


def _open(directory: Path, **options) -> Sweep:
    return Sweep(directory, **{"base": BASE, "space": SPACE, "pruner": "none", **options})


def test_trials_are_runs_and_the_best_leaves_its_flags(tmp_path):
    said = []
    found = _open(tmp_path / "sweep")
    found.run(6, said.append)
    assert len(said) == 6
    names = sorted(path.name for path in (tmp_path / "sweep").glob("trial-*"))
    assert names == [f"trial-{number:04}" for number in range(6)]
    values = {trial.number: trial.value for trial in found.study.trials}
    best = min(values, key=values.get)
    assert found.best().number == best
    assert said[best].startswith(f"trial {best:3}  done    validation_loss {values[best]:.4f}  --")
    assert said[best].endswith("best")
    lines = (tmp_path / "sweep" / "best.flags").read_text().splitlines()
    assert lines[0] == f"# Trial {best} of a sweep: validation_loss {values[best]}"
    assert f"--learning_rate={found.best().params['learning_rate']}" in lines
    assert "--epochs=3" in lines
    assert not any(line.startswith("--run_dir") for line in lines)


def test_a_sweep_goes_on_where_it_ended_and_draws_nothing_twice(tmp_path):
    _open(tmp_path / "sweep", sampler="random").run(3, [].append)
    said = []
    found = _open(tmp_path / "sweep", sampler="random")
    found.run(5, said.append)
    assert len(said) == 2
    assert len({trial.params["learning_rate"] for trial in found.study.trials}) == 5
    _open(tmp_path / "sweep").run(5, said.append)
    assert len(said) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_interrupted_goes_on_with_the_same_trial(tmp_path, number):
    directory = tmp_path / "sweep"
    directory.mkdir()
    (directory / "slow").touch()
    history = directory / "trial-0000" / "history.csv"

    def interrupt() -> None:
        while not history.exists():
            time.sleep(0.01)
        signal.raise_signal(number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted) as caught:
        _open(directory).run(2, [].append)
    thread.join()
    assert caught.value.signal == number
    rows = history.read_text().splitlines()
    assert len(rows) < 4
    (directory / "slow").unlink()
    found = _open(directory)
    (unfinished,) = found.study.trials
    assert unfinished.state is TrialState.RUNNING
    found.run(2, [].append)
    assert [trial.state for trial in found.study.trials] == [TrialState.COMPLETE] * 2
    assert history.read_text().splitlines()[: len(rows)] == rows
    assert found.study.trials[0].params == unfinished.params
    assert sorted(found.study.trials[0].intermediate_values) == [0, 1, 2]


def test_a_trial_of_another_process_is_left_to_it(tmp_path):
    first, second = _open(tmp_path / "sweep"), _open(tmp_path / "sweep")
    _, claim = first._take(3)
    with claim:
        second.run(3, [].append)
        states = [trial.state for trial in second.study.trials]
        assert states == [TrialState.RUNNING, TrialState.COMPLETE, TrialState.COMPLETE]
    second.run(3, [].append)  # it has died
    assert second.study.trials[0].state is TrialState.COMPLETE


def test_a_trial_whose_trainer_outlived_its_sweep_is_left_to_it(tmp_path):
    found = _open(tmp_path / "sweep")
    found._take(1)[1].close()
    run_dir = tmp_path / "sweep" / "trial-0000"
    run_dir.mkdir()
    with locks.locked(run_dir, work="training run"):
        found.run(1, [].append)
        assert found.study.trials[0].state is TrialState.RUNNING


def test_hopeless_trials_are_ended_and_saved(tmp_path, monkeypatch):
    pruners = {"median": lambda: optuna.pruners.ThresholdPruner(upper=2.5)}
    monkeypatch.setattr(sweep, "PRUNERS", pruners)
    directory, said = tmp_path / "sweep", []
    directory.mkdir()
    (directory / "slow").touch()
    space = {"learning_rate": CategoricalDistribution(("1.0", "0.01"))}
    found = _open(directory, space=space, pruner="median", sampler="random")
    found.study.enqueue_trial({"learning_rate": "1.0"})
    found.run(1, said.append)
    assert found.study.trials[0].state is TrialState.PRUNED
    assert said == ["trial   0  pruned  validation_loss 3.0000  --learning_rate=1.0"]
    assert len((directory / "trial-0000" / "history.csv").read_text().splitlines()) < 4


def test_a_failed_trial_says_why_and_the_others_go_on(tmp_path):
    space = {"optimizer": CategoricalDistribution(("adam", "sgd"))}
    found, said = _open(tmp_path / "sweep", space=space), []
    for name in ("sgd", "adam"):
        found.study.enqueue_trial({"optimizer": name})
    found.run(2, said.append)
    assert said[0] == "trial   0  failed  --optimizer=sgd  the loss became NaN"
    assert found.best().number == 1


@pytest.mark.parametrize(("wanted", "run"), [(40, 3), (2, 2)])
def test_where_all_fail_it_ends(tmp_path, wanted, run):
    found = _open(tmp_path / "sweep", space={"optimizer": CategoricalDistribution(("sgd",))})
    with pytest.raises(DataError, match=f"all {run} trials have failed: the loss became NaN"):
        found.run(wanted, [].append)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"base": make_config(model="compact_cnn", epochs=4)},
            "other flags (was --epochs=3, is --epochs=4)",
        ),
        ({"space": {"learning_rate": FloatDistribution(1e-4, 1.0)}}, "other space (was learning"),
    ],
)
def test_a_sweep_that_was_begun_otherwise_is_refused(tmp_path, options, message):
    _open(tmp_path / "sweep")
    with pytest.raises(UsageError) as caught:
        _open(tmp_path / "sweep", **options)
    assert message in str(caught.value)


def test_the_page_shows_trials_and_importance(tmp_path, open_page):
    space = {**SPACE, "optimizer": CategoricalDistribution(("adam", "lamb"))}
    found = _open(tmp_path / "sweep", space=space)
    found.run(6, [].append)
    tab = open_page(page.make(found))
    assert tab.title() == "sweep: a sweep of 6 trials"
    assert tab.locator("tbody tr").count() == 6
    assert tab.locator("img[alt='Importance of each flag']").count() == 1
    assert f"--learning_rate={found.best().params['learning_rate']}" in tab.inner_text("pre")
    assert tab.locator("tbody td.text").first.inner_text() == "done"


def test_a_page_of_one_trial_says_what_is_missing(tmp_path):
    found = _open(tmp_path / "sweep")
    found.run(1, [].append)
    assert "once more trials have ended" in page.make(found).read_text()


@pytest.mark.slow
def test_the_command_with_the_real_trainer(tmp_path, data_dir):
    (tmp_path / "space.toml").write_text("learning_rate = [0.001, 0.01]\n")
    command = [
        sys.executable, "-m", "trainer.commands.sweep", f"--data_dir={data_dir}",
        "--space=space.toml", "--sweep_dir=sweep", "--trials=2", "--epochs=1", "--batch_size=64",
        "--precision=float32", "--sampler=random",
    ]  # fmt: skip
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert [line[:16] for line in lines] == ["trial   0  done ", "trial   1  done "]
    assert last == "sweep/index.html, sweep/best.flags"
    for number in range(2):
        with open(tmp_path / f"sweep/trial-000{number}/history.csv", newline="") as file:
            assert f"{float(next(csv.DictReader(file))['validation_loss']):.4f}" in lines[number]
    done = subprocess.run([*command, "--run_dir=mine"], **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --run_dir: each trial has one of its own")
