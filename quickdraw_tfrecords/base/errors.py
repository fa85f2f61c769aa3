"""What can go wrong, in two kinds: the request was wrong, or the world was; and being stopped."""

import signal


class UsageError(ValueError):
    """A flag or argument that cannot be honoured. Commands exit with code 2."""


class DataError(RuntimeError):
    """Data that is missing, damaged or not what was promised. Commands exit with code 1."""


class MissingError(DataError):
    """An object, or its bucket, that is not in its store."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Work that a signal has ended, once all of it was saved and that was said.

    Commands exit with 128 and its number, as a shell has it: 130 after Ctrl-C, 143 after SIGTERM.

    Attributes:
      signal: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.signal = signal.Signals(number)
