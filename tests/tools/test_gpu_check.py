"""The verdicts of the checks, on jobs that answer as they are told; and once on real ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import DataError
from tools import gpu_check, gpu_checks
from tools.gpu_checks import JobError, Row

ROOT = Path(__file__).parents[2]
SETTINGS = {"model": "compact_cnn", "batch_size": 64}
GOOD = {"loss": 2.0, "norm": 1.0, "ms": 1.5}


def _answer(monkeypatch, answer) -> list[tuple]:
    """Makes jobs answer with what a function of their name and arguments gives; notes them."""
    calls = []

    def run(job: str, arguments: dict | None = None, *, on_cpu: bool = False) -> dict:
        calls.append((job, arguments, on_cpu))
        found = answer(job, arguments or {}, on_cpu)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(gpu_checks, "run", run)
    return calls


def _verdicts(rows) -> dict[str, str]:
    return {row.name: row.verdict for row in rows}


@pytest.mark.parametrize(
    ("device", "expected"), [("GPU", "passed"), ("CPU", "failed")], ids=["gpu", "cpu"]
)
def test_a_convolution_on_the_cpu_fails(monkeypatch, device, expected):
    line = "I0000 00:00:1.1 7 placer.cc:162] step/{}: ({}): /job:x/replica:0/task:0/device:{}:0"
    log = [
        line.format("conv1/Conv2D", "Conv2D", device),
        line.format("mul", "Mul", "CPU"),
        "conv1/Conv2D: (Conv2D): /job:x/replica:0/task:0/device:GPU:0",
        "something else",
    ]
    _answer(monkeypatch, lambda *_: GOOD | {"log": log})
    (row,) = gpu_checks.placement(SETTINGS, is_gpu=True)
    assert row.verdict == expected
    assert ("Conv2D" in row.detail) == (expected == "failed")
    (row,) = gpu_checks.placement(SETTINGS, is_gpu=False)
    assert row.verdict == "skipped"


def test_a_log_without_placements_fails(monkeypatch):
    _answer(monkeypatch, lambda *_: GOOD | {"log": []})
    (row,) = gpu_checks.placement(SETTINGS, is_gpu=True)
    assert row.verdict == "failed"


def test_each_precision_is_compared_with_the_cpu(monkeypatch):
    def answer(_, arguments: dict, on_cpu: bool) -> dict | Exception:
        if on_cpu:
            return GOOD
        if arguments["policy"] == "mixed_float16":
            return JobError("INVALID_PTX")
        far = arguments["policy"] == "float32" and arguments["xla"]
        return GOOD | {"norm": 1.01 if far else 1.001}

    calls = _answer(monkeypatch, answer)
    rows = list(gpu_checks.precisions(SETTINGS))
    assert _verdicts(rows) == {
        "float32, XLA off": "passed",
        "float32, XLA on": "failed",
        "mixed_float16, XLA off": "failed",
        "mixed_float16, XLA on": "failed",
        "mixed_bfloat16, XLA off": "passed",
        "mixed_bfloat16, XLA on": "passed",
    }
    assert "INVALID_PTX" in rows[2].detail
    assert [on_cpu for *_, on_cpu in calls] == [True, *[False] * 6]


@pytest.mark.parametrize("labels", [[3, 4], [4, 3]])
def test_an_epoch_of_other_drawings_fails(monkeypatch, labels):
    monkeypatch.setattr(gpu_checks, "_data", lambda _: "data")

    def answer(_, arguments: dict, on_cpu: bool) -> dict:
        found = {"memory": [3, 4], "device": labels}[arguments["cache"]]
        return {"pixels": 7, "labels": found, "steps": 2, "log": [arguments["cache"]]}

    _answer(monkeypatch, answer)
    (row,) = gpu_checks.cache("folder")
    assert row.verdict == ("passed" if labels == [3, 4] else "failed")


@pytest.mark.parametrize("resumed", [1, 2])
def test_other_bits_fail(monkeypatch, resumed):
    monkeypatch.setattr(gpu_checks, "_data", lambda _: "data")

    def answer(_, arguments: dict, on_cpu: bool) -> dict:
        if arguments["stop"]:
            return {}
        third = arguments["settings"]["run_dir"].endswith("third")
        return {"loss": 1.0, "checksum": resumed if third else 1}

    _answer(monkeypatch, answer)
    verdicts = _verdicts(gpu_checks.same_bits("folder"))
    last = "passed" if resumed == 1 else "failed"
    assert verdicts == {"deterministic twice": "passed", "resumed": last}


def test_several_gpus_are_compared_with_one(monkeypatch):
    (row,) = gpu_checks.several(SETTINGS, 1)
    assert row.verdict == "skipped"

    def answer(_, arguments: dict, on_cpu: bool) -> dict | Exception:
        assert arguments["settings"]["batch_size"] == 128
        return JobError("merge_call") if arguments["xla"] else GOOD

    _answer(monkeypatch, answer)
    rows = list(gpu_checks.several(SETTINGS, 2))
    assert _verdicts(rows) == {"2 GPUs, XLA off": "passed", "2 GPUs, XLA on": "failed"}


def test_step_times_stand_beside_the_forecast(monkeypatch):
    _answer(monkeypatch, lambda *_: GOOD)
    monkeypatch.setattr(gpu_checks, "_forecast", lambda *_: ", forecast 1.53 ms")
    found = {"gpus": ["NVIDIA H100 80GB HBM3"], "precision": "mixed_bfloat16"}
    rows = list(gpu_checks.times(found, None))
    assert len(rows) == 4
    assert rows[0].name == "study_cnn, batch 1024, mixed_bfloat16, XLA on"
    assert rows[0].detail == "1.50 ms a step, forecast 1.53 ms"
    assert rows[1].detail == "1.50 ms a step"


FOUND = {"gpus": [], "problem": None, "tensorflow": "2.21.0", "cuda": "12.5.1"}


@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_the_table_comes_before_the_failure(monkeypatch, capsys, verdict):
    row = Row("cache", verdict, "as it should be")
    monkeypatch.setattr(gpu_check, "_with_progress", lambda _: iter([row]))
    _answer(monkeypatch, lambda *_: FOUND)
    if verdict == "failed":
        with pytest.raises(DataError, match="failed: cache"):
            gpu_check.main()
    else:
        gpu_check.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no GPU; TensorFlow 2.21.0, CUDA 12.5.1"
    assert lines[-1] == f"| cache | {verdict} | as it should be |"


@pytest.mark.slow
def test_a_job_that_fails_is_quoted():
    with pytest.raises(JobError, match="no_such_job"):
        gpu_checks.run("no_such_job")


@pytest.mark.slow
def test_jobs_answer_in_json():
    answer = gpu_checks.run(
        "steps",
        {"settings": SETTINGS | {"batch_size": 8}, "policy": "float32", "xla": False, "count": 1},
        on_cpu=True,
    )
    assert answer["replicas"] == 1
    assert answer["loss"] > 0


@pytest.mark.slow
def test_everything_passes_on_a_cpu():
    command = [sys.executable, "-m", "tools.gpu_check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "| resumed | passed |" in result.stdout
    assert "| --cache=device | passed |" in result.stdout
    assert "failed" not in result.stdout
