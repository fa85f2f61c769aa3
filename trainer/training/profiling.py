"""A profile of some steps, for TensorBoard's Profile tab."""

from pathlib import Path

import tensorflow as tf


class StepProfiler:
    """Profiles steps `first` to `last` of a run; a context that ends the profile at its end.

    Args:
      directory: TensorBoard's.
      steps: (first, last), counted from 1; () profiles nothing.
    """

    def __init__(self, directory: Path, steps: tuple[int, ...]) -> None:
        self._directory = directory
        self._begin, self._end = (steps[0] - 1, steps[1]) if steps else (0, 0)
        self._active = False

    def __enter__(self) -> "StepProfiler":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def steps_left(self, step: int) -> int | None:
        """Steps until the profile has to begin or end; None if neither is to come."""
        ahead = [end - step for end in (self._begin, self._end) if end > step]
        return min(ahead, default=None)

    def update(self, step: int) -> None:
        """Begins or ends the profile where it is time.

        Args:
          step: Number of steps taken.
        """
        inside = self._begin <= step < self._end
        if inside and not self._active:
            tf.profiler.experimental.start(str(self._directory))
            self._active = True
        elif not inside:
            self._stop()

    def _stop(self) -> None:
        if self._active:
            tf.profiler.experimental.stop()
            self._active = False
