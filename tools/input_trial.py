"""Measures one contender of the input benchmark, in a process of its own.

A process of its own, because peak memory, CPU time and imported libraries belong to a process,
and because what one contender leaves behind must not help or hurt the next.
"""

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from quickdraw_tfrecords.base import workers
from tools import peak_memory
from tools.input_peers import BATCH_SIZE, CONTENDERS, Split

T = TypeVar("T")

_UNCOUNTED_EPOCHS, _COUNTED_EPOCHS = 3, 9
_PAUSE_SECS = 0.2  # so that nothing is still at work on what was left of the epoch before


@dataclasses.dataclass(frozen=True)
class InputTrial:
    """One repetition of one contender.

    Attributes:
      examples_per_sec: Drawings delivered in a second.
      start_up_secs: From the start of the process to the first batch.
      cpu_secs_per_million: CPU time of all its processes for a million drawings.
      peak_bytes: The process' largest resident set, libraries included, and what its
        worker processes hold for themselves at the end.
    """

    examples_per_sec: float
    start_up_secs: float
    cpu_secs_per_million: float
    peak_bytes: int


def in_fresh_process(function: Callable[..., T], *args: Any) -> T:
    """Calls a function in a new process, whose standard output goes to standard error."""
    with workers.pool(1) as pool:
        return pool.submit(_quietly, function, *args).result()


def _quietly(function: Callable[..., T], *args: Any) -> T:
    os.dup2(2, 1)  # what a library prints must not get into our JSON
    return function(*args)


def measure(name: str, split: Split, secs: float, cold: bool, started: float) -> InputTrial:
    """Takes batches for some seconds.

    Warm, the files are in the page cache; the clock starts after the first batch and runs
    over the ends of epochs. Cold, it starts before the first batch and stops at the end of
    the epoch, as the next one would find the files in the page cache.

    Args:
      name: Of the contender.
      split: What to read.
      secs: For how long.
      cold: Whether the page cache is without the files; else it has them.
      started: `time.monotonic()` before this process was started.
    """
    batches = CONTENDERS[name].open(split)
    begin, cpu_begin = time.monotonic(), _cpu_secs()
    images, labels = next(batches)
    start_up = time.monotonic() - started
    if CONTENDERS[name].shuffles:
        _require_batch(name, split, images, labels)
    count, most = len(labels), split.examples
    if not cold:
        begin, cpu_begin, count, most = time.monotonic(), _cpu_secs(), 0, sys.maxsize
    elapsed = time.monotonic() - begin
    while not count or (elapsed < secs and count < most):
        count += len(next(batches)[1])
        elapsed = time.monotonic() - begin
    cpu = _cpu_secs() - cpu_begin
    return InputTrial(count / elapsed, start_up, cpu / count * 1e6, _peak_bytes())


def measure_first_batches(name: str, split: Split) -> float | None:
    """The median time from asking for an epoch to its first batch, in milliseconds.

    The data set is open, and the first epochs are not counted, as in a training run. None if
    the contender does not say how to begin an epoch.
    """
    if (open_epochs := CONTENDERS[name].epoch) is None:
        return None
    begin, times = open_epochs(split), []
    for epoch in range(_UNCOUNTED_EPOCHS + _COUNTED_EPOCHS):
        started = time.perf_counter()
        batches = iter(begin(epoch))
        next(batches)
        times.append(1000 * (time.perf_counter() - started))
        del batches
        time.sleep(_PAUSE_SECS)
    return statistics.median(times[_UNCOUNTED_EPOCHS:])


def _require_batch(name: str, split: Split, images: Any, labels: Any) -> None:
    """Checks that a contender delivers what the others deliver."""
    pixels = np.asarray(images)
    expected = min(BATCH_SIZE, split.examples)
    if pixels.dtype != np.uint8 or pixels.size != expected * split.side**2:
        raise RuntimeError(f"{name}: gave images {pixels.dtype}{list(pixels.shape)}")
    if len(labels) != expected:
        raise RuntimeError(f"{name}: gave {len(labels)} labels, must be {expected}")


def _cpu_secs() -> float:
    """CPU time of this process and of its workers, those that have ended included."""
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:4]) for member in family)


def _peak_bytes() -> int:
    children = psutil.Process().children(recursive=True)
    return (peak_memory.of_process() or 0) + sum(child.memory_full_info().uss for child in children)


def drop_page_cache(folders: Iterable[Path]) -> None:
    """Makes the kernel forget the files in some folders, so that they are read from disk."""
    for descriptor in _descriptors(folders):
        os.fsync(descriptor)  # pages not yet written cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def fill_page_cache(folders: Iterable[Path]) -> None:
    """Reads the files in some folders front to back, so that nobody has to wait for the disk.

    In pieces of 256 KiB, as the first epoch of our reader does: Linux then reads ahead, and keeps
    the files in large pages, as it does those that it has just written. From what was asked for
    in larger pieces it copies at two thirds to a half of that speed.
    """
    scratch = bytearray(2**18)
    for descriptor in _descriptors(folders):
        while os.readv(descriptor, [scratch]):
            pass


def _descriptors(folders: Iterable[Path]) -> Iterator[int]:
    """Each file, open for reading until the next is asked for."""
    for folder in folders:
        for path in filter(Path.is_file, folder.rglob("*")):
            with path.open("rb", buffering=0) as file:
                yield file.fileno()
