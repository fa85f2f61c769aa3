"""Ctrl-C and SIGTERM: the first asks the run to save and end, a second Ctrl-C ends it at once."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

RESPONSE_SECS = 1.0

_EXIT_CODE = 128 + signal.SIGINT


class Interruption:
    """A context in which signals are noted instead of raised.

    Python's own handlers wait for TensorFlow to return from a call. A thread does not, so
    that a second Ctrl-C is obeyed even when a call hangs.

    Attributes:
      signal: The first signal that has asked the run to end; None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether the run has been asked to end."""
        return self.signal is not None

    def __enter__(self) -> "Interruption":
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer)
        self._handlers = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _note(self, number: int, *_: object) -> None:
        self.signal = self.signal or signal.Signals(number)

    def _watch(self) -> None:
        is_first = True
        while byte := os.read(self._reader, 1):  # nothing once the other end is closed
            if byte[0] == signal.SIGINT and not is_first:
                os._exit(_EXIT_CODE)
            if byte[0] in self._handlers and is_first:
                is_first = False
                print("finishing this step; Ctrl-C ends it at once", file=sys.stderr)


class Pace:
    """How many steps to run in one call, so that it lasts no longer than `RESPONSE_SECS`.

    The first call is one step, because it compiles. How steps are grouped into calls does
    not change what they compute.

    Args:
      limit: The most steps in a call; None: as many as the time allows.
      agree: Gives all workers the same value, made of those they call it with.
    """

    def __init__(self, limit: int | None, agree: Callable[[float], float]) -> None:
        self._limit, self._agree = limit or math.inf, agree
        self._steps = 1

    def call(self, run: Callable[[int], None], most: int) -> int:
        """Calls `run` with a number of steps.

        Args:
          run: Takes that many steps, and returns when they are done.
          most: Steps left before something else has to be done.

        Returns:
          How many steps were taken.
        """
        steps = min(self._steps, most)
        start = time.perf_counter()
        run(steps)
        secs = self._agree((time.perf_counter() - start) / steps)
        self._steps = int(max(1, min(self._limit, RESPONSE_SECS / max(secs, 1e-9))))
        return steps
