"""A run of a contender of the accuracy benchmark, in a process of its own, from nothing to a test.

Each has a folder, and in it trial.json once it is done; what is done is not done again.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.base.stores import Location
from tools import peak_memory
from tools.accuracy_fit import RESULT
from trainer.run_directory import runs

_DONE, _LOG, _RUN = "trial.json", "output.txt", "run"
_POLL_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something that trains and tests.

    Attributes:
      name: For --contenders, and of its folders.
      title: In the table.
      module: What Python runs.
      arguments: What that is given beside --data_dir, --run_dir and --seed.
    """

    name: str
    title: str
    module: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a run went.

    Attributes:
      contender: Its name.
      seed: Its seed.
      sitting: When the sitting began that it was of.
      secs: From the start of its process to the end.
      peak_bytes: The largest resident set of that process.
      failure: What it said when it failed, else ""; the rest is then of no meaning.
      loss: Of the test split, as are top1 and top3.
      curve: For each epoch, seconds from the start of the process to the epoch's end, and top-1
        of the validation split.
    """

    contender: str
    seed: int
    sitting: str
    secs: float
    peak_bytes: int
    failure: str = ""
    loss: float = 0.0
    top1: float = 0.0
    top3: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()

    def secs_to(self, top1: float) -> float | None:
        """Seconds to the end of the first epoch of at least that top-1; None if none was."""
        return next((secs for secs, value in self.curve if value >= top1), None)


def find(folder: Path) -> Trial | None:
    """What was done before in a folder, unless it failed."""
    path = folder / _DONE
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    values["curve"] = tuple(map(tuple, values["curve"]))
    trial = Trial(**values)
    return None if trial.failure else trial


def require_success(trials: Iterable[Trial]) -> None:
    """Raises DataError if trials have failed; names them."""
    if failed := [f"{trial.contender}, seed {trial.seed}" for trial in trials if trial.failure]:
        raise DataError(f"failed: {'; '.join(failed)}; the same command tries them again")


def run(
    contender: Contender, seed: int, *, data_dir: Location, folder: Path, sitting: str
) -> Trial:
    """Runs a contender; what it leaves is in the folder, its output in output.txt."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [
        sys.executable, "-m", contender.module, *contender.arguments,
        f"--data_dir={data_dir}", f"--run_dir={folder / _RUN}", f"--seed={seed}",
    ]  # fmt: skip
    started = time.time()
    with (folder / _LOG).open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as it:
        peak_bytes = _wait(it)
    trial = Trial(contender.name, seed, sitting, time.time() - started, peak_bytes)
    if it.returncode:
        lines = (folder / _LOG).read_text(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), f"exit {it.returncode}")
        trial = dataclasses.replace(trial, failure=said)
    else:
        trial = dataclasses.replace(trial, **_outcome(folder / _RUN, started))
    with atomic_write(folder / _DONE) as file:
        file.write(json.dumps(dataclasses.asdict(trial)).encode())
    return trial


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end; returns the peak of its memory."""
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = peak_memory.of_process(process.pid) or peak_bytes
        time.sleep(_POLL_SECS)
    return peak_bytes


def _outcome(run_dir: Path, started: float) -> dict[str, Any]:
    """What a run has found, its curve in seconds since the start."""
    if (run_dir / RESULT).exists():
        found = json.loads((run_dir / RESULT).read_text())
    else:
        # Imports TensorFlow, which has much to say unless the command has begun.
        from trainer.results import split_results

        tested = split_results.find(runs.open_run(run_dir), "test").metrics
        found = {"loss": tested.loss, "top1": tested.top1, "top3": tested.top3}
        found["curve"] = _curve(run_dir / "tensorboard")
    curve = tuple((when - started, float(top1)) for when, top1 in found["curve"])
    return {**found, "curve": curve}


def _curve(directory: Path) -> list[tuple[float, float]]:
    """When each epoch's validation ended, in seconds since 1970, and its top-1."""
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(directory), size_guidance={TENSORS: 0})
    events.Reload()
    return [
        (event.wall_time, float(tensor_util.make_ndarray(event.tensor_proto)))
        for event in events.Tensors("top1/validation")
    ]
