"""Sources, and their iterations, by numbers: what TensorFlow can pass to a function of Python's."""

import atexit
import functools
import itertools
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

from quickdraw_tfrecords.reading.batches import Batches
from quickdraw_tfrecords.reading.columns import Columns

P = ParamSpec("P")
T = TypeVar("T")

_GRACE_SECS = 0.05  # for a thread of TensorFlow's to learn that there is no more

_sources: dict[int, Batches] = {}
_iterations: dict[int, "_Iteration"] = {}
_numbers = itertools.count()


def add(source: Batches) -> int:
    """The number of a source from now on."""
    number = next(_numbers)
    _sources[number] = source
    return number


def remove(number: int) -> None:
    """Forgets a source."""
    del _sources[number]


class _Calls:
    """The calls of Python by TensorFlow's threads that go on.

    A thread that is in Python while the interpreter shuts down never returns from it, and
    TensorFlow would wait for it forever: so nothing is begun once the main thread has ended, and
    `atexit` waits for what is going on.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def until_exit(self, function: Callable[P, T]) -> Callable[P, T]:
        """A function that ends an iteration where the interpreter exits."""

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            self._add(1)
            try:
                if threading.main_thread().is_alive():
                    return function(*args, **kwargs)
            except RuntimeError:  # the interpreter is exiting: threads take no more work
                if threading.main_thread().is_alive():
                    raise
            finally:
                self._add(-1)
            raise StopIteration

        return call

    def _add(self, change: int) -> None:
        with self._changed:
            self._count += change
            self._changed.notify_all()

    def wait(self) -> None:
        """Waits until none goes on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count)


# For `atexit`, which calls a function of no arguments.
_calls = _Calls()


def begin(source: np.int64) -> np.int64:
    """Begins an iteration of a source, and gives it a number."""
    number = next(_numbers)
    _iterations[number] = _Iteration(_sources[int(source)])
    return np.int64(number)


@_calls.until_exit
def plan(iteration: np.int64) -> np.ndarray:
    """The next chunk of an iteration: the number of the iteration, and its own."""
    return np.array([iteration, _iterations[int(iteration)].plan()])


@_calls.until_exit
def fill(numbers: np.ndarray) -> Columns:
    """A chunk; called by several threads, for one chunk each."""
    number, chunk = numbers.tolist()
    iteration = _iterations[number]
    try:
        return iteration.fill(chunk)
    finally:
        if iteration.is_over:
            _iterations.pop(number, None)


def end(number: np.int64) -> np.int64:
    """Ends an iteration; TensorFlow wants something back.

    It calls this when no more chunks are planned, and so while the last are still to be filled;
    or when an iterator is given up, and then no chunk is filled any more.
    """
    iteration = _iterations[int(number)]
    if iteration.is_over or not iteration.is_planned:
        _iterations.pop(int(number), None)
    return number


class _Iteration:
    """The chunks of an iteration of a source; TensorFlow passes numbers only.

    Attributes:
      is_planned: Whether there are no more chunks to plan.
    """

    def __init__(self, source: Batches) -> None:
        self._tasks = enumerate(source.tasks())
        self._to_fill: dict[int, Callable[[], Columns]] = {}
        self.is_planned = False

    @property
    def is_over(self) -> bool:
        """Whether no chunk will be planned or filled any more."""
        return self.is_planned and not self._to_fill

    def plan(self) -> int:
        """The number of the next chunk."""
        try:
            number, fill = next(self._tasks)
        except StopIteration:
            self.is_planned = True
            raise
        # The first is filled before others are begun: with other threads at work it takes longer.
        self._to_fill[number] = fill if number else _giving(fill())
        return number

    def fill(self, number: int) -> Columns:
        """The chunk of a number, once."""
        return self._to_fill.pop(number)()


def _giving(columns: Columns) -> Callable[[], Columns]:
    return lambda: columns


@atexit.register
def _end_all() -> None:
    if _iterations:
        _calls.wait()
        time.sleep(_GRACE_SECS)
