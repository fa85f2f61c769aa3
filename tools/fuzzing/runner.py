"""Runs a target in a process of its own, which a hostile input may crash, hang or fill."""

import contextlib
import importlib
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol

import psutil

from quickdraw_tfrecords.base.errors import DataError, UsageError

MEMORY_BYTES = 1 << 30  # that inputs of some kB may make a parser take
CASE_SECS = 20

_GRACE_SECS = 60  # to start, and to end

_context = multiprocessing.get_context("spawn")


class Target(Protocol):
    """A parser of something from outside."""

    def make(self, numbers: random.Random) -> bytes:
        """A hostile input."""

    def run(self, data: bytes) -> None:
        """Parses it; only a `DataError` or a `UsageError` may be raised."""


class Outcome(NamedTuple):
    """What came of a target.

    Attributes:
      cases: How many inputs were tried.
      refused: How many of them were refused, as they should be.
      failure: What went wrong with the last one; empty if nothing did.
      data: The last input.
    """

    cases: int
    refused: int
    failure: str
    data: bytes


class _TooLong(BaseException):
    """Not an Exception, or a parser might catch it."""


def run(target: str, *, seed: str, secs: float) -> Outcome:
    """Tries inputs on a target until one fails, or the time is up.

    Args:
      target: `module:class`; the class is given a folder to write to.
      seed: Decides all inputs.
      secs: How long.
    """
    receiver, sender = _context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="quickdraw-fuzz-") as scratch:
        current = Path(scratch) / "current"
        args = (sender, target, Path(scratch), current, seed, secs)
        process = _context.Process(target=_work, args=args)
        process.start()
        sender.close()
        outcome: Outcome | None = None
        with contextlib.suppress(EOFError):  # it has ended without a word
            if receiver.poll(secs + CASE_SECS + _GRACE_SECS):
                outcome = receiver.recv()
        process.join(CASE_SECS)
        process.kill()
        process.join()
        if outcome is None:
            data = current.read_bytes() if current.exists() else b""
            outcome = Outcome(0, 0, f"the process ended with code {process.exitcode}", data)
    return outcome


def replay(target: str, data: bytes) -> None:
    """Runs one input in this process, without limits, so that its error can be looked at."""
    with tempfile.TemporaryDirectory(prefix="quickdraw-fuzz-") as scratch:
        _make(target, Path(scratch)).run(data)


def _make(target: str, folder: Path) -> Target:
    module, _, name = target.partition(":")
    made: Target = getattr(importlib.import_module(module), name)(folder)
    return made


def _work(
    pipe: connection.Connection,
    target: str,
    scratch: Path,
    current: Path,
    seed: str,
    secs: float,
) -> None:
    folder = scratch / "files"
    folder.mkdir()
    made = _make(target, folder)
    _limit_memory()
    deadline, cases, refused, failure, data = time.monotonic() + secs, 0, 0, "", b""
    while not failure and time.monotonic() < deadline:
        data = made.make(random.Random(f"{seed}/{cases}"))
        current.write_bytes(data)  # for the case that this process does not survive
        cases += 1
        try:
            with _time_limit():
                made.run(data)
        except (DataError, UsageError) as error:
            refused += 1
            failure = _hidden_failure(error)
        except (Exception, _TooLong):
            failure = traceback.format_exc()
    pipe.send(Outcome(cases, refused, failure, data))


def _hidden_failure(error: BaseException | None) -> str:
    """A lack of memory that was taken for a damaged file."""
    while error:
        if isinstance(error, MemoryError):
            return "".join(traceback.format_exception(error))
        error = error.__context__
    return ""


def _limit_memory() -> None:
    now_bytes = psutil.Process().memory_info().vms
    if sys.platform != "darwin":  # which does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (now_bytes + MEMORY_BYTES,) * 2)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise _TooLong(f"more than {CASE_SECS} s")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, CASE_SECS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
