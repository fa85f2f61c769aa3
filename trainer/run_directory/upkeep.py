"""Keeps a run directory in an object store up to date while the run goes on."""

import sys
import threading
import time
from collections.abc import Callable

from quickdraw_tfrecords.base.errors import DataError, UsageError
from trainer.run_directory.working_copy import WorkingCopy

PATIENCE_SECS = 600.0

_ROUND_SECS = 1.0
_CURVES_SECS = 30.0


class Upkeep:
    """A context in which a thread pushes what is written; at its end all is in the store.

    A step never waits for it: where the network is slower than the run, checkpoints that have been
    replaced meanwhile are left out. Where there is no way to the store, the run goes on, and the
    thread tries again.

    Args:
      copy: What stands for the run directory.
      require: Called before something is pushed; ends the process if that would do harm.
    """

    def __init__(self, copy: WorkingCopy, require: Callable[[], None]) -> None:
        self._copy, self._require = copy, require
        self._failing_since: float | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="upkeep")

    def __enter__(self) -> "Upkeep":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._push()
        except (DataError, UsageError) as failure:
            lost = f"{failure}; what it lacks is in {self._copy.keep()}: copy that there"
            if error is None:
                raise DataError(lost) from None
            print(f"error: {lost}", file=sys.stderr)

    def check(self) -> None:
        """Raises a DataError if there has been no way to the store for `PATIENCE_SECS`."""
        since, error = self._failing_since, self._error
        if since is not None and error and time.monotonic() - since > PATIENCE_SECS:
            raise DataError(str(error))

    def _keep(self) -> None:
        while not self._ended.wait(_ROUND_SECS):
            try:
                self._push(curves_every_secs=_CURVES_SECS)
                self._failing_since = self._error = None
            except (DataError, UsageError, OSError) as error:
                if not self._error:
                    print(f"warning: {error}; the run goes on, and tries again", file=sys.stderr)
                    self._failing_since = time.monotonic()
                self._error = error

    def _push(self, *, curves_every_secs: float = 0.0) -> None:
        self._copy.push(curves_every_secs=curves_every_secs, require=self._require)
