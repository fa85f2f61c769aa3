"""One process at a time in a directory, on file systems that have locks and on those that do not.

Where there are locks, the holder has one on the file `.lock`. The system lets go of it when the
process ends, however it ends, so what was killed can be resumed at once.

Where there are none, as on some network file systems, the file `.lease` is held instead: every
few seconds its holder counts in it. A count that stands still for `LEASE_SECS` is that of a process
that has died; on its own machine that is known at once. Clocks are not compared: those of two
hosts may differ, and any clock may be set.

Either way the file says who holds the directory, so that whoever comes second can be told.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular

LOCK_NAME, LEASE_NAME = ".lock", ".lease"
LEASE_SECS = 30.0

_BEAT_SECS = 5.0
_POLL_SECS = 0.5
_SETTLE_SECS = 1.0
_LOOK_SECS = 0.1
_MAX_BYTES = 4096

# What a file system without locks says.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclasses.dataclass(frozen=True)
class _Holder:
    """What a lock's file says of who holds it."""

    host: str
    machine: str
    pid: int
    started: float
    since: str
    token: str

    @classmethod
    def me(cls) -> "_Holder":
        since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            since=since,
            token=secrets.token_hex(8),
        )

    @property
    def has_ended(self) -> bool:
        """Whether its process is known to have ended; false if it is not of this machine."""
        if self.machine != _machine():
            return False
        try:
            # Else its number has been given to another process.
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def _machine() -> str:
    """Tells machines apart, and the containers on one, where a number is another process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


@contextlib.contextmanager
def locked(directory: Path, *, work: str) -> Iterator[None]:
    """Holds a directory against other processes, until this one ends at the latest.

    On a file system without locks it may wait for `LEASE_SECS`, to see whether a holder on
    another machine is still alive.

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
            held.enter_context(_lease(directory / LEASE_NAME, work))
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
    holder, _ = _read(directory / LEASE_NAME)
    return holder is not None and not holder.has_ended


def _refusal(path: Path, work: str) -> UsageError:
    holder, _ = _read(path)
    who = f" ({holder})" if holder else ""
    return UsageError(f"{path.parent}: another {work} is writing here{who}; wait for it")


@contextlib.contextmanager
def _file_lock(path: Path, work: str) -> Iterator[None]:
    try:
        try:
            descriptor = _open_locked(path)
        except BlockingIOError:
            time.sleep(_LOOK_SECS)  # it may only have been looked at: see `is_held`
            descriptor = _open_locked(path)
    except BlockingIOError:
        raise _refusal(path, work) from None
    try:
        _write(descriptor, _Holder.me(), beat=0)
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


@contextlib.contextmanager
def _lease(path: Path, work: str) -> Iterator[None]:
    me = _Holder.me()
    descriptor = _take_lease(path, me, work)
    ended = threading.Event()
    beat = threading.Thread(target=_keep, args=(descriptor, path, me, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        os.close(descriptor)
        if _read(path)[0] == me:
            path.unlink()


def _take_lease(path: Path, me: _Holder, work: str) -> int:
    """Makes the file, of which only one process can be the maker; returns its descriptor."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _stands_still(path):
                raise _refusal(path, work) from None
            path.unlink(missing_ok=True)
            continue
        _write(descriptor, me, beat=0)
        # Another may have seen the same standstill, and deleted this file instead of the old one.
        time.sleep(_SETTLE_SECS)
        if _read(path)[0] == me:
            return descriptor
        os.close(descriptor)


def _stands_still(path: Path) -> bool:
    """Whether nobody counts in a lease anymore; waits for as long as it takes to know."""
    first = _read(path)
    holder = first[0]
    if holder and holder.has_ended:
        return True
    if holder and holder.machine == _machine():
        return False
    print(f"{path.parent}: waiting to see whether it is still in use ({holder})", file=sys.stderr)
    deadline = time.monotonic() + LEASE_SECS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECS)
        if _read(path) != first:
            return not path.exists()
    return True


def _keep(descriptor: int, path: Path, me: _Holder, ended: threading.Event) -> None:
    """Counts in a lease; ends the process if another has it, which took this one for dead."""
    beat = 0
    while not ended.wait(_BEAT_SECS):
        holder, _ = _read(path)
        if holder != me:
            print(f"error: {path.parent}: was taken over by another ({holder})", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # at once: whatever else it wrote would be mixed with the other's
        beat += 1
        with contextlib.suppress(OSError):  # it is tried again soon
            _write(descriptor, me, beat)


def _write(descriptor: int, holder: _Holder, beat: int) -> None:
    """Writes the file in place: that needs no room on the disk, except for the first time."""
    text = json.dumps(dataclasses.asdict(holder) | {"beat": f"{beat:012d}"})
    os.pwrite(descriptor, text.encode(), 0)
    os.ftruncate(descriptor, len(text))


def _read(path: Path) -> tuple[_Holder | None, str]:
    """Who holds it, and their count; None if that is unreadable, perhaps as it is being written."""
    try:
        with open_regular(path) as file:
            fields = json.loads(file.read(_MAX_BYTES))
        beat = str(fields.pop("beat"))
        holder = _Holder(**fields)
    except (OSError, DataError, ValueError, TypeError, KeyError, AttributeError):
        return None, ""
    is_fit = isinstance(holder.pid, int) and isinstance(holder.started, float)
    return (holder if is_fit and str(holder).isprintable() else None), beat
