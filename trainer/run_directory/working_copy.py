"""A run directory in an object store, by a folder on this machine that stands for it.

What a command needs is pulled into the folder when it begins; what it writes there is pushed.
So all that reads and writes runs has files, which appear whole, grow, and are renamed.

The store has no renames, and a process may be killed between two objects. So what is pushed is what
the folder held at one moment: first what nothing refers to, in the order in which it was written,
then what refers to it, and only then those are deleted that are no longer there. A checkpoint is
one object, and in the store before the one that it replaces is not. A folder of several objects,
such as a SavedModel, has one without which nobody takes it for whole: that is deleted first and put
last.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.base.stores import Entry, Store
from quickdraw_tfrecords.base.temporary_folders import TemporaryFolder
from trainer.run_directory.choices import LATEST, Names

_THREADS = 8
_TRIES = 5
_END_BYTES = 2**20

# What the files of a folder are found by, so it must never stand beside older or missing ones: of
# results, a SavedModel, a page, and exports.
_HEADS = ("metrics.json", "saved_model.pb", "index.html", "README.md")

# Grows all the time; an object is always put as a whole.
_CURVES = "events.out.tfevents."


class _Seen(NamedTuple):
    """What tells that a file is another than before."""

    mtime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Seen":
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


class WorkingCopy:
    """A folder that stands for one in a store; it is deleted with this object.

    Attributes:
      store: The folder in the store.
      directory: The one on this machine.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folder = TemporaryFolder("quickdraw-run-")
        # With the URL in it, so that an error that names a file says what file that is.
        self.directory = Path(self._folder.path, str(store))
        self.directory.mkdir(parents=True)
        self._known: dict[str, _Seen] = {}
        self._curves_put_at = time.monotonic()

    def keep(self) -> Path:
        """Leaves the folder where it is when this object is no more."""
        self._folder.keep()
        return self.directory

    def shown(self, text: str) -> str:
        """A text, with the URL in place of the folder that stands for it."""
        return text.replace(str(self.directory), str(self.store))

    def pull(self, choose: Callable[[Names], Names]) -> None:
        """Reads objects into the folder.

        Args:
          choose: Given the names of all that can be files in a folder, says which.

        Raises:
          DataError: There is no way to them.
        """
        for _ in range(_TRIES):
            entries = self.store.entries()
            names = [name for name in entries if _is_inside(name)]
            chosen = [name for name in choose(names) if name not in self._known]
            with ThreadPoolExecutor(_THREADS) as threads:
                if all(list(threads.map(self._read, chosen, map(entries.__getitem__, chosen)))):
                    return
        raise DataError(f"{self.store}: changes all the time: try again when nothing writes there")

    def pull_ends(self, choose: Callable[[Names], Names]) -> None:
        """Makes files of which only the ends are read: what is between is zeros.

        That is enough to read the state of a checkpoint, which may be large. Whoever takes such a
        file for whole is told by the CRCs that it is not. What has been pulled stays as it is.

        Args:
          choose: As of `pull`.
        """
        entries = self.store.entries()
        for name in choose(list(entries)):
            path, size = self.directory / name, entries[name].size
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                for start, stop in _ends(size):
                    file.seek(start)
                    file.write(self.store.read(name, start, stop, tag=entries[name].tag))
            self._known[name] = _Seen.of(path.stat())

    def push(
        self, *, curves_every_secs: float = 0.0, require: Callable[[], None] = lambda: None
    ) -> None:
        """Puts what is new in the folder, and deletes what is no longer there.

        Args:
          curves_every_secs: Where nothing but curves has grown, wait for as long since the last.
          require: Called before anything is changed in the store.

        Raises:
          DataError: There is no way to the store.
        """
        found = self._look()
        changed = [name for name in found if found[name] != self._known.get(name)]
        deleted = self._known.keys() - found.keys()
        is_urgent = deleted or any(_CURVES not in name for name in changed)
        since = time.monotonic() - self._curves_put_at
        if not (is_urgent or (changed and since >= curves_every_secs)):
            return
        require()
        self._curves_put_at = time.monotonic()
        for name in filter(_is_head, changed):
            self._delete(name)  # also one that another process has put
        for name in sorted(changed, key=lambda name: (_refers(name), found[name])):
            if not self._put(name):
                return  # deleted meanwhile: what there is now, is for the next time
        for name in sorted(deleted, key=_refers, reverse=True):
            self._delete(name)

    def _read(self, name: str, entry: Entry) -> bool:
        """Reads an object into its file; False if it is no longer there as it was listed."""
        try:
            data = self.store.read(name, 0, entry.size, tag=entry.tag)
        except DataError:
            if self.store.entry(name) == entry:
                raise
            return False
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=False) as file:
            file.write(data)
        self._known[name] = _Seen.of(path.stat())
        return True

    def _put(self, name: str) -> bool:
        """Puts a file; False if it is no longer there."""
        try:
            with open(self.directory / name, "rb") as file:
                seen, data = _Seen.of(os.fstat(file.fileno())), file.read()
        except FileNotFoundError:
            return False
        self.store.write(name, data)
        self._known[name] = seen
        return True

    def _delete(self, name: str) -> None:
        self.store.delete(name)
        self._known.pop(name, None)

    def _look(self) -> dict[str, _Seen]:
        """The files, as they were at one moment: two looks in a row saw the same."""
        last, found = None, dict(self._files())
        while found != last:
            last, found = found, dict(self._files())
        return found

    def _files(self) -> Iterator[tuple[str, _Seen]]:
        """All but the hidden ones: locks, and what is being written."""
        for folder, subfolders, names in os.walk(self.directory):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for path in (Path(folder, name) for name in names if not name.startswith(".")):
                try:
                    yield str(path.relative_to(self.directory)), _Seen.of(path.stat())
                except FileNotFoundError:
                    continue


def _is_inside(name: str) -> bool:
    """Whether a name, which may be anybody's, is that of a file below the folder."""
    return {"", ".", ".."}.isdisjoint(name.split("/"))


def _is_head(name: str) -> bool:
    return name.rpartition("/")[2] in _HEADS


def _refers(name: str) -> bool:
    """Whether others must be there first: the best checkpoint, points of the curves, a folder."""
    return name.startswith(LATEST) or _is_head(name)


def _ends(size: int) -> list[tuple[int, int]]:
    """The first and the last bytes, as start and stop; all of what is small."""
    if size <= 2 * _END_BYTES:
        return [(0, size)]
    return [(0, _END_BYTES), (size - _END_BYTES, size)]
