"""Ctrl-C and SIGTERM: the first asks the run to save and end, a second Ctrl-C ends it at once."""

import signal
from types import FrameType


class Interruption:
    """A context in which signals are noted instead of raised.

    Attributes:
      requested: Whether the run has been asked to end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends it at once
