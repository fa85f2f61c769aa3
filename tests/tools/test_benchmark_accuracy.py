"""The accuracy benchmark: what it runs, keeps, and concludes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import UsageError
from tests.trainer.training.test_steps import make_config
from tools import accuracy_report, accuracy_trial, benchmark_accuracy, keras_fit
from tools.accuracy_trial import Contender, Trial
from tools.train_contenders import with_layers_of_keras
from trainer import models
from trainer.epochs import side_of_epoch

ROOT = Path(__file__).parents[2]

# Does what a run does, in no time: notes that it ran, and finds what its seed says.
FAKE = """
import json, pathlib, sys, time
given = dict(argument.removeprefix("--").split("=") for argument in sys.argv[1:])
run_dir, seed, top1 = pathlib.Path(given["run_dir"]), int(given["seed"]), float(given["top1"])
with open(given["data_dir"], "a") as file:
    file.write(f"{top1} {seed}\\n")
if top1 > 1:
    sys.exit("what is no share cannot be reached\\n")
run_dir.mkdir()
curve = [(time.time() + 10 * epoch, top1 - 0.2 + 0.1 * epoch) for epoch in (1, 2)]
result = {"loss": 1 - top1, "top1": top1 + seed / 100, "top3": 1.0, "curve": curve}
(run_dir / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], Contender]:
    """Makes contenders that reach a top-1, and fail above 1."""
    (tmp_path / "fake_run.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, top1: Contender(name, name.title(), "fake_run", (f"--top1={top1}",))


def _trial(contender: str, **values: object) -> Trial:
    defaults = {"seed": 0, "sitting": "today", "secs": 100.0, "peak_bytes": 2**20}
    return Trial(contender, **defaults | values)


def test_what_is_done_is_not_done_again_and_a_failure_is(tmp_path, fake):
    contenders = [fake("fit", 0.5), fake("broken", 2.0), fake("fast", 0.6)]
    notes = tmp_path / "notes"

    def sit(seeds: int) -> list[Trial]:
        return benchmark_accuracy.sit(contenders, seeds, data_dir=notes, out_dir=tmp_path / "out")

    first = sit(1)
    assert [trial.failure for trial in first] == ["", "what is no share cannot be reached", ""]
    assert (first[0].top1, first[0].loss, first[0].top3) == (0.5, 0.5, 1.0)
    assert first[0].secs > 0
    assert [top1 for _, top1 in first[0].curve] == pytest.approx([0.4, 0.5])
    assert 10 < first[0].curve[0][0] < first[0].curve[1][0] < 10 + 2 * 60
    second = sit(2)
    assert second[0] == first[0]
    assert [trial.seed for trial in second] == [0, 0, 0, 1, 1, 1]
    ran = notes.read_text().splitlines()
    assert ran == ["0.5 0", "2.0 0", "0.6 0", "2.0 0", "0.5 1", "2.0 1", "0.6 1"]


def test_the_table_has_means_spreads_and_ratios():
    curve = ((10.0, 0.5), (20.0, 0.8), (40.0, 0.9))
    fast = ((2.0, 0.7), (5.0, 0.95))
    slow = ((2.0, 0.7), (9.0, 0.85))
    trials = [
        _trial("fit", top1=0.9, curve=curve),
        _trial("fit", top1=0.8, curve=curve, seed=1),
        _trial("fast", top1=0.91, secs=20.0, curve=fast),
        _trial("fast", top1=0.93, secs=30.0, curve=slow, seed=1, sitting="tomorrow"),
        _trial("lost", failure="no disk"),
    ]
    contenders = [Contender(name, name, "m", ()) for name in ("fit", "fast", "lost")]
    text = accuracy_report.text(contenders, trials)
    rows = {line.split("  ")[0]: line for line in text.splitlines() if line}
    assert "0.8500 ± 0.0707" in rows["fit"]
    assert "40 ± 0" in rows["fit"]
    assert "25 ± 7" in rows["fast"]
    assert "5 (1)" in rows["fast"]  # only one run got there
    assert rows["fast"].split()[-3:-1] == ["4.00", "8.00"]
    assert "fit's top-1: 0.9000" in text
    assert "2 sittings" in text
    assert "failed: lost, seed 0: no disk" in text


def test_without_fit_there_is_nothing_to_compare_with():
    text = accuracy_report.text([Contender("fast", "fast", "m", ())], [_trial("fast")])
    assert "fit's" not in text.splitlines()[-1]


def test_the_chart_is_a_picture(tmp_path):
    path = tmp_path / "chart.png"
    trials = [_trial(name, top1=0.9, curve=((1.0, 0.5), (9.0, 0.9))) for name in ("fit", "fast")]
    contenders = [Contender(name, name, "m", ()) for name in ("fit", "fast", "lost")]
    accuracy_report.chart(contenders, trials, path)
    assert path.read_bytes().startswith(b"\x89PNG")


@given(epochs=st.integers(1, 30), sides=st.lists(st.integers(4, 28), max_size=5))
def test_fit_has_the_sides_of_the_trainers_epochs(epochs, sides):
    sides = tuple(sorted({*sides, 28}))
    found = {
        epoch: side
        for side, first, end in keras_fit.parts(sides, epochs)
        for epoch in range(first, end)
    }
    assert found == {e: side_of_epoch(sides, e, epochs) for e in range(epochs)}


@pytest.mark.parametrize("name", models.names())
def test_the_peer_has_the_layers_of_keras(name):
    model = models.get(name)(side=28, num_classes=3, dropout=None)
    copy = with_layers_of_keras(model)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    for layer in copy.layers:
        assert hasattr(keras.layers, type(layer).__name__) is type(layer).__module__.startswith(
            "keras."
        ), layer


def test_contenders_are_found_by_name_and_others_refused(tmp_path):
    assert benchmark_accuracy.contender("fit").module == "tools.accuracy_fit"
    assert benchmark_accuracy.contender("compact").arguments == ("--flagfile=compact",)
    (tmp_path / "own.flags").write_text("--epochs=1\n")
    assert benchmark_accuracy.contender(f"{tmp_path}/own.flags").name == "own"
    varied = benchmark_accuracy.contender("fast --train_sides=20,28 --init_from=runs/1")
    assert varied.arguments == ("--flagfile=fast", "--train_sides=20,28", "--init_from=runs/1")
    assert varied.name == "fast --train_sides=20,28 --init_from=runs_1"
    assert varied.title == "quickdraw train, fast --train_sides=20,28 --init_from=runs/1"
    with pytest.raises(UsageError, match=r"--contenders=fats: must be of fit, .*study_2019"):
        benchmark_accuracy.contender("fats")


def test_a_recipe_that_fit_does_not_know_is_refused():
    command = [sys.executable, "-m", "tools.accuracy_fit", "--data_dir=no", "--run_dir=no"]
    result = subprocess.run([*command, "--ema=0.9"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "--ema: Keras' fit does not do this here" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        {"model": "compact_cnn", "schedule": "plateau"},
        {
            "model": "resnet_s", "optimizer": "muon", "schedule": "warmup_cosine",
            "warmup_epochs": 0.3, "label_smoothing": 0.1, "monitor": "validation_top1",
            "train_sides": (16, 28), "early_stopping_patience": -1,
        },
    ],
)  # fmt: skip
def test_fit_learns(tmp_path, data_dir, recipe):
    config = make_config(data_dir=data_dir, run_dir=tmp_path, batch_size=32, epochs=4, **recipe)
    result = keras_fit.fit(config, tuned=recipe["model"] == "resnet_s")
    assert json.loads(json.dumps(result))["top1"] == result["top1"] > 0.4
    assert result["top1"] <= result["top3"] <= 1
    assert len(result["curve"]) == 4
    times = [when for when, _ in result["curve"]]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_run_of_the_trainer_gives_what_it_found(tmp_path, data_dir):
    flagfile = tmp_path / "few.flags"
    flagfile.write_text("--model=compact_cnn\n--epochs=2\n--batch_size=64\n--noreport\n")
    (trial,) = benchmark_accuracy.sit(
        [benchmark_accuracy.contender(str(flagfile))], 1, data_dir=data_dir, out_dir=tmp_path
    )
    assert trial.failure == ""
    assert 0 < trial.top1 <= trial.top3 <= 1
    assert trial.peak_bytes > 100 * 2**20
    (first, _), (second, top1) = trial.curve
    assert 0 < first < second < trial.secs
    history = (tmp_path / "few-0" / "run" / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("validation_top1")
    assert float(history[-1].split(",")[column]) == pytest.approx(top1, abs=1e-4)
    assert accuracy_trial.find(tmp_path / "few-0") == trial
