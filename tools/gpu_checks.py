"""The checks of `tools.gpu_check`: what each has done in processes of its own, and concludes."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quickdraw_tfrecords.base.errors import DataError, UsageError
from tools import gpu_forecast
from tools.gpu_roofline import CARDS
from trainer.config import Config

Result = dict[str, Any]

_JOB_LIMIT_SECS = 280
_PLACED = re.compile(r"placer\.cc:\d+\] \S+: \((\w+)\): \S*device:(\w+):\d")
# What is worth a GPU in a step. Anything else handles a few numbers.
_HEAVY = {
    "AddN", "BiasAdd", "BiasAddGrad", "Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput",
    "MatMul", "MaxPool", "MaxPoolGrad", "Relu", "ReluGrad", "ResourceApplyAdam", "SelectV2",
    "SparseSoftmaxCrossEntropyWithLogits",
}  # fmt: skip
# Relative, of a loss and a gradient norm after a few steps. A GPU multiplies float32 in TF32,
# with 10 bits of mantissa; bfloat16 has 7.
_TOLERANCE = {"float32": 5e-3, "mixed_float16": 1e-2, "mixed_bfloat16": 3e-2}


class JobError(Exception):
    """What a job said when it failed."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
      name: What was checked.
      verdict: "passed", "failed", "skipped" or "seen", of what cannot be right or wrong.
      detail: What was found.
    """

    name: str
    verdict: str
    detail: str


def checks(
    found: Result, folder: str, forecast_python: str | None
) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """All checks, by name.

    Args:
      found: What the job `devices` has found.
      folder: Where they may write.
      forecast_python: The Python that has JAX, if it is not this one.
    """
    is_gpu = bool(found["gpus"])
    small = {"model": "study_cnn" if is_gpu else "compact_cnn", "batch_size": 64, "dropout": 0.0}
    yield "placement", lambda: placement(small, is_gpu=is_gpu)
    yield "precisions", lambda: precisions(small)
    yield "cache", lambda: cache(folder)
    yield "same bits", lambda: same_bits(folder)
    yield "several GPUs", lambda: several(small, len(found["gpus"]))
    yield "step times", lambda: times(found, forecast_python)


def placement(settings: Result, *, is_gpu: bool) -> Iterator[Row]:
    """Whether what is heavy in a step without XLA is placed on the GPU."""
    log = run("placed_steps", {"settings": settings, "policy": "float32"})["log"]
    placed = [match.groups() for line in log if (match := _PLACED.search(line))]
    on_gpu = sum(device == "GPU" for _, device in placed)
    stray = sorted({kind for kind, device in placed if device == "CPU" and kind in _HEAVY})
    detail = f"{on_gpu} of {len(placed)} operations on the GPU"
    if not is_gpu:
        yield Row("placement", "skipped", f"no GPU; {len(placed)} operations seen")
    elif stray or not placed:
        yield Row("placement", "failed", f"{detail}; on the CPU: {', '.join(stray) or 'all'}")
    else:
        yield Row("placement", "passed", f"{detail}, all that are heavy among them")


def precisions(settings: Result) -> Iterator[Row]:
    """Steps in every precision, with XLA and without, against float32 on the CPU."""
    arguments = {"settings": settings | {"optimizer": "sgd"}, "count": 4}
    expected = run("steps", arguments | {"policy": "float32", "xla": False}, on_cpu=True)
    for policy, tolerance in _TOLERANCE.items():
        for xla in (False, True):
            name = f"{policy}, XLA {'on' if xla else 'off'}"
            try:
                steps = run("steps", arguments | {"policy": policy, "xla": xla})
            except JobError as failure:
                yield Row(name, "failed", str(failure))
                continue
            error = _difference(steps, expected)
            verdict = "passed" if error <= tolerance else "failed"
            yield Row(name, verdict, f"differs from the CPU by {error:.1e}, may by {tolerance:.0e}")


def cache(folder: str) -> Iterator[Row]:
    """Whether an epoch from the device holds what one from memory does."""
    data_dir = _data(folder)
    memory, device = (
        run("epoch", {"data_dir": data_dir, "cache": where}) for where in ("memory", "device")
    )
    same = all(memory[key] == device[key] for key in ("pixels", "labels", "steps"))
    detail = f"{device['steps']} batches, {'the same' if same else 'other'} drawings"
    yield Row("--cache=device", "passed" if same else "failed", detail)


def same_bits(folder: str) -> Iterator[Row]:
    """Two deterministic runs, and one that is interrupted, must save the same."""
    settings = {
        "data_dir": _data(folder), "batch_size": 96, "epochs": 2, "report": False,
        "deterministic": True, "model": "compact_cnn", "gpu_memory_growth": True,
    }  # fmt: skip

    def train(name: str, *, stop: bool = False) -> Result:
        named = settings | {"run_dir": f"{folder}/{name}"}
        return run("train", {"settings": named, "stop": stop})

    first, second = train("first"), train("second")
    train("third", stop=True)
    for name, other in (("deterministic twice", second), ("resumed", train("third"))):
        same = other["checksum"] == first["checksum"]
        detail = f"loss {other['loss']:.6f}, {'the same' if same else 'other'} bits"
        yield Row(name, "passed" if same else "failed", detail)


def several(settings: Result, gpus: int) -> Iterator[Row]:
    """All GPUs against one, with XLA and without."""
    if gpus < 2:
        yield Row("several GPUs", "skipped", f"there are {gpus}")
        return
    settings = settings | {"optimizer": "sgd", "batch_size": 64 * gpus}

    def steps(strategy: str, *, xla: bool) -> Result:
        named = settings | {"strategy": strategy}
        return run("steps", {"settings": named, "policy": "float32", "count": 4, "xla": xla})

    one = steps("one_device", xla=False)
    for xla in (False, True):
        name = f"{gpus} GPUs, XLA {'on' if xla else 'off'}"
        try:
            error = _difference(steps("mirrored", xla=xla), one)
        except JobError as error_of_job:
            yield Row(name, "failed", str(error_of_job))
            continue
        verdict = "passed" if error <= _TOLERANCE["float32"] else "failed"
        yield Row(name, verdict, f"differs from one by {error:.1e}")


def _difference(found: Result, expected: Result) -> float:
    """Relative, of loss or gradient norm."""
    return max(abs(found[key] / expected[key] - 1) for key in ("loss", "norm"))


def times(found: Result, forecast_python: str | None) -> Iterator[Row]:
    """Milliseconds of a step, beside the forecast."""
    is_gpu = bool(found["gpus"])
    model, count = ("study_cnn", 300) if is_gpu else ("compact_cnn", 3)
    settings = {"model": model, "batch_size": 1024, "strategy": "one_device"}
    for policy in dict.fromkeys((found["precision"], "float32")):
        for xla in (True, False) if is_gpu else (False,):
            arguments = {"policy": policy, "xla": xla, "count": 2, "timed": count}
            steps = run("steps", {"settings": settings, **arguments})
            expected = _forecast(found["gpus"][0], model, policy, forecast_python) if xla else ""
            name = f"{model}, batch 1024, {policy}, XLA {'on' if xla else 'off'}"
            yield Row(name, "seen", f"{steps['ms']:.2f} ms a step{expected}")


def _forecast(gpu: str, model: str, policy: str, python: str | None) -> str:
    """What to add to a time, where the card is known and JAX is there."""
    names = re.split(r"[ -]", gpu.lower())  # "nvidia a100-sxm4-80gb"
    card = next((card for key, card in CARDS.items() if key in names), None)
    config = Config(data_dir=Path("unused"), run_dir=Path("unused"), model=model)
    try:
        if card is None:
            return ""
        split, found = gpu_forecast.Split(), gpu_forecast.find_python(python)
        forecast = gpu_forecast.forecast(config, card, policy, split, found)
    except (UsageError, DataError):
        return ""
    return f", forecast {forecast.step_secs * 1e3:.2f} ms"


def _data(folder: str) -> str:
    """A small data set of synthetic drawings, made once."""
    data_dir = Path(folder, "data")
    if not data_dir.exists():
        command = [sys.executable, "-m", "quickdraw_tfrecords", "--source=synthetic"]
        settings = [f"--data_dir={data_dir}", "--classes=cat,tree,house,key", "--per_class=500"]
        result = subprocess.run([*command, *settings], capture_output=True, text=True)
        if result.returncode:
            raise JobError(result.stderr.strip().splitlines()[-1])
    return str(data_dir)


def run(job: str, arguments: Result | None = None, *, on_cpu: bool = False) -> Result:
    """Does a job of `tools.gpu_jobs` in a process of its own.

    Args:
      job: Its name.
      arguments: What it is called with, by name.
      on_cpu: Whether to hide all GPUs from it.

    Returns:
      What it printed; "log" is the lines of its stderr.

    Raises:
      JobError: It failed; with its last line.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    if on_cpu:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    command = [sys.executable, "-m", "tools.gpu_jobs", job, json.dumps(arguments or {})]
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_JOB_LIMIT_SECS
        )
    except subprocess.TimeoutExpired:
        raise JobError(f"took more than {_JOB_LIMIT_SECS} s") from None
    if result.returncode:
        raise JobError((result.stderr.strip() or "no message").splitlines()[-1])
    answer: Result = json.loads(result.stdout.splitlines()[-1])
    return answer | {"log": result.stderr.splitlines()}
