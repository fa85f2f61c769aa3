"""One process at a time in a directory, on file systems that have locks and on those that do not.

Where there are locks, the holder has one on the file `.lock`. The system lets go of it when the
process ends, however it ends, so what was killed can be resumed at once.

Where there are none, as on some network file systems, the file `.lease` is held instead: see
`leases`.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from quickdraw_tfrecords.base import leases
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.base.leases import LEASE_NAME, Holder, Lease

LOCK_NAME = ".lock"

_LOOK_SECS = 0.1

# What a file system without locks says.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def locked(directory: Path, *, work: str) -> Iterator[None]:
    """Holds a directory against other processes, until this one ends at the latest.

    On a file system without locks it may wait for `leases.LEASE_SECS`, to see whether a holder
    on another machine is still alive.

    Args:
      directory: What to hold; it must be there.
      work: What is done in it, for the error.

    Raises:
      UsageError: Another process holds it; says which.
      OSError: The directory cannot be written to.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_file_lock(directory / LOCK_NAME, work))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            (directory / LOCK_NAME).unlink(missing_ok=True)
            place = held.enter_context(_LeaseFile(directory))
            held.enter_context(Lease(place, work))
        yield


def is_held(directory: Path) -> bool:
    """Whether a process holds a directory, as far as can be told at once, by reading only.

    A lease of another machine counts, though whoever held it may have died there.
    """
    try:
        with open_regular(directory / LOCK_NAME) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, DataError):  # there is none, or there are no locks
        pass
    holder, _ = leases.parse(_read(directory / LEASE_NAME))
    return holder is not None and not holder.has_ended


@contextlib.contextmanager
def _file_lock(path: Path, work: str) -> Iterator[None]:
    try:
        try:
            descriptor = _open_locked(path)
        except BlockingIOError:
            time.sleep(_LOOK_SECS)  # it may only have been looked at: see `is_held`
            descriptor = _open_locked(path)
    except BlockingIOError:
        holder, _ = leases.parse(_read(path))
        raise leases.refusal(path.parent, holder, work) from None
    try:
        _write(descriptor, Holder.me().to_bytes(beat=0))
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so it is ours
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have deleted it after we opened it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


class _LeaseFile:
    """A lease in a directory; a context that ends when it is no longer written to."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._path = directory, directory / LEASE_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> "_LeaseFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __str__(self) -> str:
        return str(self._directory)

    def create(self, data: bytes) -> bool:
        self._close()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        _write(self._descriptor, data)
        return True

    def read(self) -> bytes | None:
        return _read(self._path) if self._path.exists() else None

    def write(self, data: bytes) -> None:
        # By the descriptor, so that never what another has made in the meantime is written to.
        assert self._descriptor is not None
        _write(self._descriptor, data)

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write(descriptor: int, data: bytes) -> None:
    """Writes a file in place: that needs no room on the disk, except for the first time."""
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _read(path: Path) -> bytes | None:
    """The first bytes of a file, if it can be read."""
    try:
        with open_regular(path) as file:
            return file.read(leases.MAX_BYTES)
    except (OSError, DataError):
        return None
