"""Copies on a local disk of shards that are in an object store.

A copy's name has the checksum of what is in it, so it fits any data set that has this shard, and no
other version of it. Several processes may share a cache: a copy appears only when it is whole,
one process fetches it while others wait, and what is deleted stays readable to who has it open.
"""

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write, delete_leftovers
from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.format.shards import ShardFile, ShardInfo, read_shard

LOCAL_CACHE_GIB = 50.0

_LOCKS = 64  # files to lock, of which a shard has one
_REMEDY = "delete this copy, and it is fetched again"


@dataclasses.dataclass(frozen=True)
class LocalCache:
    """A folder of copies.

    Attributes:
      directory: Where they are.
      max_bytes: What they may take; those that have not been opened for longest go first.
    """

    directory: Path
    max_bytes: int

    def open(self, store: Store, shard: ShardInfo, *, tag: str) -> ShardFile:
        """Opens the copy of a shard, fetched if there is none.

        Raises:
          DataError: There is no way to the shard, or it has changed.
          OSError: The copy cannot be written.
        """
        folder = self.directory / f"{shard.crc32c:08x}-{shard.bytes}"
        with self._locked(f"{shard.crc32c % _LOCKS:02}"):
            try:
                copy = ShardFile(folder, shard, remedy=_REMEDY)
            except DataError:  # there is none, or a power failure has cut it short
                _fetch(folder, store, shard, tag)
                copy = ShardFile(folder, shard, remedy=_REMEDY)
                self._make_room(keep=folder)
            os.utime(folder)
        return copy

    def _make_room(self, *, keep: Path) -> None:
        """Deletes what has not been opened for longest, until the rest fits."""
        with self._locked("room"):
            folders = [path for path in self.directory.iterdir() if path.is_dir()]
            folders.sort(key=lambda path: path.stat().st_mtime_ns)
            excess = sum(map(_size, folders)) - self.max_bytes
            for folder in folders:
                if excess > 0 and folder != keep:
                    excess -= _size(folder)
                    _delete(folder)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds a lock against other threads and processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / f".lock-{name}", "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            yield


def _fetch(folder: Path, store: Store, shard: ShardInfo, tag: str) -> None:
    matrix = read_shard(store, shard, tag=tag)
    folder.mkdir(parents=True, exist_ok=True)
    delete_leftovers(folder)
    with atomic_write(folder / shard.name, sync=False) as file:
        file.write(matrix.data)


def _size(folder: Path) -> int:
    """The bytes in a folder, from which others may be deleting."""
    total = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _delete(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody is just putting one there
        folder.rmdir()
