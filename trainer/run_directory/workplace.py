"""Where a run is trained: its directory, held against other trainers, whose files would mix."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from quickdraw_tfrecords.base.files import delete_leftovers
from quickdraw_tfrecords.base.leases import Lease, LeaseObject
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.stores import Location, Store
from trainer.run_directory import choices
from trainer.run_directory.upkeep import Upkeep
from trainer.run_directory.working_copy import WorkingCopy

_WORK = "training run"


class Workplace:
    """A context in which a run directory is this run's alone.

    Of several workers only the chief writes there, and holds it for all. Where it is in an object
    store, each has a working copy: the chief's is kept up, the others' are to resume from.

    Args:
      location: The run directory.
      is_chief: Whether this process is the one that writes.

    Attributes:
      directory: The folder on this machine.

    Raises:
      UsageError: When it is entered, and another trainer holds it; says which.
    """

    def __init__(self, location: Location, *, is_chief: bool) -> None:
        self._location, self._is_chief = location, is_chief
        self._copy = WorkingCopy(location) if isinstance(location, Store) else None
        self.directory = self._copy.directory if self._copy else Path(str(location))
        self._upkeep: Upkeep | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Workplace":
        if self._is_chief:
            with contextlib.ExitStack() as held:
                self._hold(held)
                self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._held.__exit__(*error)  # type: ignore[arg-type]

    def join(self, wait: Callable[[], object]) -> None:
        """Lets the workers that do not write have what the chief resumes from.

        Args:
          wait: Returns once every worker has called it.
        """
        wait()  # for the chief: before it holds the directory, another may still write there
        if self._copy and not self._is_chief:
            self._copy.pull(choices.to_resume)

    def check(self) -> None:
        """Raises a DataError if for long there has been no way to where the run is to be kept."""
        if self._upkeep:
            self._upkeep.check()

    def shown(self, text: str) -> str:
        """A text that names files of the run, as its user knows them."""
        return self._copy.shown(text) if self._copy else text

    def _hold(self, held: contextlib.ExitStack) -> None:
        if self._copy:
            lease = held.enter_context(Lease(LeaseObject(self._copy.store), _WORK))
            self._copy.pull(choices.to_go_on)
            self._upkeep = held.enter_context(Upkeep(self._copy, lease.require))
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(self.directory, work=_WORK))
        for directory in (self.directory, *(self.directory / "tensorboard").glob("**/")):
            delete_leftovers(directory)
