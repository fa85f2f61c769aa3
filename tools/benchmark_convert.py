"""Compares a conversion with a plain copy of its source's files.

    python -m tools.synthesize_bitmaps --out_dir=bitmaps --per_class=6450
    python -m tools.benchmark_convert --source_dir=bitmaps --scratch_dir=scratch

The conversion, and `cp -r` with `sync`, write to the same disk, in turns; each is timed from its
call to its end, the conversion with everything else it does: starting, checksums, syncing. What
it holds in memory is the proportional set size (PSS) of all its processes, five times a second.

Files with holes, as `tools.sparse_bitmaps` makes them, are copied in no time: for them say
--nocopy, and see how long a conversion takes that no disk slows down.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError

FLAGS = flags.FLAGS
flags.DEFINE_string("source_dir", None, "Folder of the source's files.", required=True)
flags.DEFINE_string("scratch_dir", None, "A new folder to write to.", required=True)
flags.DEFINE_enum("source", "numpy_bitmap", ["numpy_bitmap", "npz", "strokes"], "Which source.")
flags.DEFINE_string("per_class", "6450", "Drawings to take of each class, or 'all'.")
flags.DEFINE_integer("workers", os.cpu_count(), "Worker processes.", 1)
flags.DEFINE_boolean("copy", True, "Also time a copy of the files.")
flags.DEFINE_integer("rounds", 3, "Times that each is timed.", 1)

_SAMPLE_SECS = 0.2

Result = TypeVar("Result")


class _Conversion(NamedTuple):
    secs: float
    first_shard_secs: float
    cpu_secs: float
    peak_bytes: int


def main() -> None:
    """Prints times, memory, and the ratio to a copy; medians of the rounds."""
    scratch = Path(FLAGS.scratch_dir)
    if scratch.exists():
        raise UsageError(f"--scratch_dir={scratch}: already exists; name a new folder")
    conversions, copies = [], []
    for _ in range(FLAGS.rounds):
        conversions.append(_on_new_folder(scratch, _convert))
        if FLAGS.copy:
            copies.append(_on_new_folder(scratch, _copy))
    secs, first, cpu, peak = map(statistics.median, zip(*conversions, strict=True))
    print(f"first shard after {first:8.2f} s")
    print(f"conversion        {secs:8.2f} s")
    print(f"CPU               {cpu:8.2f} s")
    print(f"peak memory (PSS) {peak / 1e9:8.2f} GB")
    if copies:
        pairs = zip(conversions, copies, strict=True)
        ratio = statistics.median(conversion.secs / copy for conversion, copy in pairs)
        print(f"cp -r and sync    {statistics.median(copies):8.2f} s")
        print(f"conversion / copy {ratio:8.2f}   (median of {FLAGS.rounds} rounds)")


def _on_new_folder(scratch: Path, run: Callable[[Path], Result]) -> Result:
    scratch.mkdir(parents=True)
    try:
        os.sync()  # so that what the other one wrote is not still being written now
        return run(scratch)
    finally:
        shutil.rmtree(scratch)


def _copy(scratch: Path) -> float:
    start = time.perf_counter()
    subprocess.run(["cp", "-r", FLAGS.source_dir, scratch / "copy"], check=True)
    os.sync()
    return time.perf_counter() - start


def _convert(scratch: Path) -> _Conversion:
    """Runs the command, and watches it from outside."""
    command = [sys.executable, "-m", "quickdraw_tfrecords", f"--source={FLAGS.source}"]
    command += [f"--source_dir={FLAGS.source_dir}", f"--per_class={FLAGS.per_class}"]
    command += [f"--data_dir={scratch}", f"--workers={FLAGS.workers}"]
    log = scratch / "log.txt"
    start, cpu_start = time.perf_counter(), _cpu_secs()
    first, peak = None, 0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    while _is_running(process):
        if first is None and any(scratch.glob("quickdraw/*/quickdraw-*")):
            first = time.perf_counter() - start
        peak = max(peak, _pss_bytes(process.pid))
    secs = time.perf_counter() - start
    if process.returncode:
        raise DataError(f"the conversion failed: {log.read_text()[-1000:]}")
    return _Conversion(secs, secs if first is None else first, _cpu_secs() - cpu_start, peak)


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process still runs after a short wait, which ends with it."""
    try:
        process.wait(_SAMPLE_SECS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _cpu_secs() -> float:
    """What all processes that were waited for have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pss_bytes(pid: int) -> int:
    """The memory of a process and its children, in which shared pages count once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.NoSuchProcess:
        pass  # it has just ended
    return total


if __name__ == "__main__":
    cli.run(main)
