"""Compares this project's input pipelines with others, side by side in one run.

    python -m tools.benchmark_input --data_dir=data
    python -m tools.benchmark_input --data_dir=data --json --contenders=streaming,tfds
    python -m tools.benchmark_input --data_dir=data --cold --contenders=streaming

Every contender delivers the same: the training split, shuffled, as uint8 batches of 1024
with labels. Each repetition runs in a process of its own, and each round gives every
contender its turn, so that what disturbs the machine disturbs all of them alike; figures are
medians over rounds, and ratios are taken within a round. Contenders that cannot read
TFRecords get a copy in their own format in a temporary directory (TMPDIR): about 7 KB per
drawing for all of them.

Then the shuffles are compared with a true permutation (tools/shuffle_quality.py). Streaming
shuffles over a window; that table has a few window sizes (--windows_mib), to show what a
smaller one saves and costs.
"""

import dataclasses
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.stores import Location, locate
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from tools import benchmark_report, input_trial, shuffle_quality
from tools.input_peers import BATCH_SIZE, CONTENDERS, FILES, LIMIT, Split
from tools.input_trial import InputTrial

WINDOWS_MIB = (24, 6, 96)  # the reader's default, and what less and more memory give


@dataclasses.dataclass(frozen=True)
class InputBenchmark:
    """What to compare, and how.

    Attributes:
      contenders: Their names.
      rounds: Repetitions of each.
      secs: Length of one in seconds.
      cold: Drop the files from the page cache before each repetition.
      windows_mib: Windows of the streaming reader to compare; the first one is timed.
    """

    contenders: tuple[str, ...]
    rounds: int
    secs: float
    cold: bool
    windows_mib: tuple[float, ...]


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    if unknown := set(args.contenders) - set(CONTENDERS):
        raise UsageError(
            f"--contenders={','.join(sorted(unknown))}: must be of {', '.join(CONTENDERS)}"
        )
    references = {LIMIT, FILES} if args.cold else {LIMIT}
    names = tuple(name for name in CONTENDERS if name in {*references, *args.contenders})
    windows_mib = _windows_mib(args.windows_mib)
    settings = InputBenchmark(names, args.rounds, args.secs, args.cold, windows_mib)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copies are removed
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # batches are made on the CPU
    result = compare(locate(args.data_dir), settings)
    print(json.dumps(result, indent=2) if args.json else benchmark_report.text(result))
    if args.png:
        benchmark_report.chart(result, Path(args.png))


def _windows_mib(values: list[str]) -> tuple[float, ...]:
    try:
        windows_mib = tuple(map(float, values))
    except ValueError:
        windows_mib = ()
    if not windows_mib or min(windows_mib) <= 0:
        raise UsageError(f"--windows_mib={','.join(values)}: must be numbers above 0")
    return windows_mib


def compare(data_dir: Location, settings: InputBenchmark) -> dict[str, Any]:
    """Runs all contenders and returns what `benchmark_report` prints, as plain JSON values.

    Raises:
      UsageError: The training split is too small.
      DataError: There is no data set of this project's converter, or it is damaged.
    """
    info = qt.open_dataset(data_dir)
    with tempfile.TemporaryDirectory(prefix="benchmark_input_") as scratch:
        comparison = _Comparison(info, Path(scratch), settings)
        throughput = comparison.time_all()
        quality = comparison.examine_all()
    return {
        "data_dir": str(data_dir),
        "examples": comparison.split.examples,
        "batch_size": BATCH_SIZE,
        "processors": os.cpu_count(),
        **{key: getattr(settings, key) for key in ("rounds", "secs", "cold")},
        "throughput": throughput,
        "shuffle_quality": quality,
        "absent": comparison.absent,
        "bars": benchmark_report.bars(throughput, cold=settings.cold),
    }


class _Comparison:
    """The contenders of one run; those that fail on the way are left out and named."""

    def __init__(self, info: DatasetInfo, scratch: Path, settings: InputBenchmark) -> None:
        self.absent: dict[str, str] = {}
        self._settings = settings
        window_mib = settings.windows_mib[0]
        self.split = Split.create(info, scratch / "data", window_mib=window_mib)
        if self.split.examples <= BATCH_SIZE:
            raise UsageError(
                f"{info.directory}: {self.split.examples} training drawings are too few for "
                f"batches of {BATCH_SIZE}; convert more with --per_class"
            )
        self._labels = np.array(self.split.arrays()[1])
        stand_in = shuffle_quality.write_stand_in(info, self._labels, scratch / "stand_in")
        # A window is measured in bytes of pixels, and the stand-in's drawings have fewer.
        self._window_scale = (stand_in.side / info.side) ** 2
        self._stand_in = Split.create(
            stand_in,
            scratch / "stand_in_copies",
            window_mib=window_mib * self._window_scale,
        )
        self._folders = (self.split.directory, self.split.copies)

    def time_all(self) -> list[dict[str, Any]]:
        """Prepares and times all contenders, round by round."""
        preparation = {name: self._prepare(name) for name in self._settings.contenders}
        # How they are kept depends on how they came there; from now on all were read from disk.
        input_trial.drop_page_cache(self._folders)
        rounds = [dict(self._round(number)) for number in range(self._settings.rounds)]
        present = [name for name in self._settings.contenders if name not in self.absent]
        begin = input_trial.measure_first_batches
        return [
            {
                "name": name,
                "title": CONTENDERS[name].title,
                "preparation_secs": preparation[name],
                "first_batch_ms": self._try(name, begin, name, self.split),
                **_summary([turn[name] for turn in rounds], [turn[LIMIT] for turn in rounds]),
            }
            for name in present
        ]

    def examine_all(self) -> list[dict[str, Any]]:
        """Examines the shuffles of all contenders, and of streaming with other windows."""
        rows = []
        for name in filter(_shuffles, self._settings.contenders):
            windows = self._settings.windows_mib if name == "streaming" else [None]
            for window_mib in windows:
                split, title = self._stand_in, CONTENDERS[name].title
                if window_mib:
                    scaled = window_mib * self._window_scale
                    split = dataclasses.replace(split, window_mib=scaled)
                    title += f", {window_mib:g} MiB"
                quality = self._try(name, shuffle_quality.examine, name, split, self._labels)
                if quality:
                    rows.append({"name": name, "title": title, **dataclasses.asdict(quality)})
        return rows

    def _prepare(self, name: str) -> float:
        """Lets a contender write its copies; returns the seconds it took for the data."""
        contender = CONTENDERS[name]
        if contender.missing:
            self.absent[name] = f"not installed: {', '.join(contender.missing)}"
        if name in self.absent or not contender.prepare:
            return 0
        self._try(name, contender.prepare, self._stand_in)
        started = time.monotonic()
        self._try(name, contender.prepare, self.split)
        return time.monotonic() - started

    def _round(self, number: int) -> list[tuple[str, InputTrial]]:
        settings, trials = self._settings, []
        for name in tqdm(settings.contenders, desc=f"round {number + 1} of {settings.rounds}"):
            if settings.cold:
                input_trial.drop_page_cache(self._folders)
            else:
                input_trial.fill_page_cache(self._folders)
            arguments = (name, self.split, settings.secs, settings.cold, time.monotonic())
            if trial := self._try(name, input_trial.measure, *arguments):
                trials.append((name, trial))
        return trials

    def _try(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Calls in a new process; a peer of the `bench` extra that fails is left out."""
        if name in self.absent:
            return None
        try:
            return input_trial.in_fresh_process(function, *args)
        except Exception as error:
            if not CONTENDERS[name].requires:
                raise DataError(f"{CONTENDERS[name].title}: {error}") from error
            self.absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return None


def _shuffles(name: str) -> bool:
    return CONTENDERS[name].shuffles


def _summary(trials: list[InputTrial], limits: list[InputTrial]) -> dict[str, Any]:
    """Medians over rounds, and the ratios to the limit in the same round."""
    ratios = [
        trial.examples_per_sec / limit.examples_per_sec
        for trial, limit in zip(trials, limits, strict=True)
    ]
    medians = {
        field.name: statistics.median(getattr(trial, field.name) for trial in trials)
        for field in dataclasses.fields(InputTrial)
    }
    rates = [trial.examples_per_sec for trial in trials]
    return {**medians, "ratio": statistics.median(ratios), "ratios": ratios, "rates": rates}


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)
    flags.DEFINE_list(
        "contenders",
        [name for name in CONTENDERS if name != FILES],
        "Who takes part, besides the limit, and with --cold the bare files.",
    )
    flags.DEFINE_integer("rounds", 5, "Repetitions of each.", lower_bound=1)
    flags.DEFINE_float("secs", 3, "Length of a repetition.", lower_bound=0.01)
    flags.DEFINE_bool("cold", False, "Read from disk: drop the page cache before each repetition.")
    flags.DEFINE_list(
        "windows_mib",
        list(map(str, WINDOWS_MIB)),
        "Windows of streaming to examine; the first is timed.",
    )
    flags.DEFINE_bool("json", False, "Print JSON instead of tables.")
    flags.DEFINE_string("png", None, "File to draw a bar chart to.")
    cli.run(main)
