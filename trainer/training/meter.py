"""How training goes within an epoch: on the bar, and as points of TensorBoard's curves."""

import datetime
import time
from collections.abc import Callable

from tqdm import tqdm

from trainer.run_directory.run_log import RunLog
from trainer.training.totals import Totals


class Meter:
    """Shows the means of the epoch so far on the bar, and those since the last point in curves.

    Every worker has to call the same of it at the same step, because all take part in reading a
    sum over replicas.

    Args:
      log: Where points go.
      totals: The sums since the epoch began.
      values: Gives what else belongs to a point, by the names that `run_log` has.
      batch_size: Drawings in a step.
      every_secs: Seconds between points; 0: only where `add_point` is called.
      last_step: Of the run, if nothing ends it early.
    """

    def __init__(
        self,
        log: RunLog,
        totals: Totals,
        values: Callable[[], dict[str, float]],
        *,
        batch_size: int,
        every_secs: float,
        last_step: int,
    ) -> None:
        self._log, self._totals, self._values = log, totals, values
        self._batch_size, self._every_secs, self._last_step = batch_size, every_secs, last_step
        self._compiled: tuple[int, float] | None = None  # the step after which, and when

    def begin(self, step: int) -> None:
        """Begins to measure, where an epoch begins or is resumed.

        Args:
          step: Number of steps taken in the run; so below.
        """
        self._step, self._sums, self._secs = step, self._totals.sums(), time.perf_counter()

    def update(self, bar: "tqdm[None]", step: int) -> None:
        """Shows how far it is; adds a point if it is time for one.

        Args:
          bar: The epoch's.
          step: Where it is now.
        """
        now = time.perf_counter()
        self._compiled = self._compiled or (step, now)
        means = Totals.means_of(self._totals.sums())
        bar.set_postfix_str(f"loss {means['loss']:.4f} top1 {means['top1']:.4f}{self._rest(step)}")
        if self._every_secs and now - self._secs >= self._every_secs:
            self.add_point(step)

    def add_point(self, step: int) -> None:
        """Adds a point to the curves, of the steps since the last one; none if there were none."""
        if step == self._step:
            return
        secs = time.perf_counter() - self._secs
        point = Totals.means_of(self._totals.sums() - self._sums)
        rate = (step - self._step) * self._batch_size / secs
        self._log.add_point(step, {**point, **self._values(), "examples_per_second": rate})
        self.begin(step)

    def _rest(self, step: int) -> str:
        """How long the run will take from here at most, with its validations."""
        first_step, start = self._compiled or (step, 0.0)
        if step == first_step:
            return ""
        secs_per_step = (time.perf_counter() - start) / (step - first_step)
        rest = datetime.timedelta(seconds=round((self._last_step - step) * secs_per_step))
        return f", run ends in {rest}"
