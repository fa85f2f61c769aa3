"""Compares a conversion with a plain copy of its source's files, and with one on a cluster.

    python -m tools.synthesize_bitmaps --out_dir=bitmaps --per_class=6450
    python -m tools.benchmark_convert --source_dir=bitmaps --scratch_dir=scratch

The conversion, and `cp -r` with `sync`, write to the same disk, in turns; each is timed from its
call to its end, the conversion with everything else it does: starting, checksums, syncing. What
it holds in memory is the proportional set size (PSS) of all its processes, five times a second.

With --cluster, so does a Dask cluster on this machine that has as many workers as the pool has
processes. Its workers are there already, as those of a cluster are; what they hold is counted.

Files with holes, as `tools.sparse_bitmaps` makes them, are copied in no time: for them say
--nocopy, and see how long a conversion takes that no disk slows down.
"""

import contextlib
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
flags.DEFINE_boolean("cluster", False, "Also time a Dask cluster.")
flags.DEFINE_integer("rounds", 3, "Times that each is timed.", 1)

_SAMPLE_SECS = 0.2

Result = TypeVar("Result")


class _Conversion(NamedTuple):
    secs: float
    first_shard_secs: float
    cpu_secs: float
    peak_bytes: int


class _Cluster(NamedTuple):
    address: str
    workers: list[psutil.Process]


def main() -> None:
    """Prints times, memory, and the ratios; medians of the rounds."""
    scratch = Path(FLAGS.scratch_dir)
    if scratch.exists():
        raise UsageError(f"--scratch_dir={scratch}: already exists; name a new folder")
    conversions, copies, on_cluster = [], [], []
    with _cluster() if FLAGS.cluster else contextlib.nullcontext() as cluster:
        for _ in range(FLAGS.rounds):
            conversions.append(_on_new_folder(scratch, _convert))
            if FLAGS.copy:
                copies.append(_on_new_folder(scratch, _copy))
            if cluster:
                on_cluster.append(_on_new_folder(scratch, lambda at: _convert(at, cluster)))
    _print_conversions("", conversions)
    secs = [conversion.secs for conversion in conversions]
    if on_cluster:
        _print_conversions("cluster: ", on_cluster)
        _print_ratio("pool / cluster", secs, [conversion.secs for conversion in on_cluster])
    if copies:
        print(f"{'cp -r and sync':<28}{statistics.median(copies):8.2f} s")
        _print_ratio("conversion / copy", secs, copies)


def _print_conversions(prefix: str, conversions: Sequence[_Conversion]) -> None:
    secs, first, cpu, peak = map(statistics.median, zip(*conversions, strict=True))
    print(f"{prefix + 'first shard after':<28}{first:8.2f} s")
    print(f"{prefix + 'conversion':<28}{secs:8.2f} s")
    print(f"{prefix + 'CPU':<28}{cpu:8.2f} s")
    print(f"{prefix + 'peak memory (PSS)':<28}{peak / 1e9:8.2f} GB")


def _print_ratio(what: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    print(f"{what:<28}{ratio:8.2f}   (median of {FLAGS.rounds} rounds)")


@contextlib.contextmanager
def _cluster() -> Iterator[_Cluster]:
    """A scheduler in this process, and workers in others."""
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.WARNING)
    with LocalCluster(
        n_workers=FLAGS.workers, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield _Cluster(cluster.scheduler_address, psutil.Process().children(recursive=True))


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


def _convert(scratch: Path, cluster: _Cluster | None = None) -> _Conversion:
    """Runs the command, and watches it from outside."""
    command = [sys.executable, "-m", "quickdraw_tfrecords", f"--source={FLAGS.source}"]
    command += [f"--source_dir={FLAGS.source_dir}", f"--per_class={FLAGS.per_class}"]
    command += [f"--data_dir={scratch}"]
    command += [f"--scheduler={cluster.address}" if cluster else f"--workers={FLAGS.workers}"]
    workers = cluster.workers if cluster else []
    log = scratch / "log.txt"
    start, cpu_start = time.perf_counter(), _cpu_secs(workers)
    first, peak = None, 0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    while _is_running(process):
        if first is None and any(scratch.glob("quickdraw/*/quickdraw-*")):
            first = time.perf_counter() - start
        peak = max(peak, _pss_bytes([process.pid, *(worker.pid for worker in workers)]))
    secs = time.perf_counter() - start
    if process.returncode:
        raise DataError(f"the conversion failed: {log.read_text()[-1000:]}")
    cpu_secs = _cpu_secs(workers) - cpu_start
    return _Conversion(secs, secs if first is None else first, cpu_secs, peak)


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process still runs after a short wait, which ends with it."""
    try:
        process.wait(_SAMPLE_SECS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _cpu_secs(workers: Sequence[psutil.Process]) -> float:
    """What workers have used, and all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = [worker.cpu_times() for worker in workers]
    return usage.ru_utime + usage.ru_stime + sum(time.user + time.system for time in times)


def _pss_bytes(pids: Sequence[int]) -> int:
    """The memory of processes and their children, in which shared pages count once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            parent = psutil.Process(pid)
            for process in [parent, *parent.children(recursive=True)]:
                total += process.memory_full_info().pss
    return total


if __name__ == "__main__":
    cli.run(main)
