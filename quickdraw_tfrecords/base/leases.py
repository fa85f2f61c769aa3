"""One process at a time, where there are no locks: a lease, in which its holder counts.

A lease is a small file or object, which only one process can make. Every few seconds its holder
counts in it. A count that stands still for `LEASE_SECS` is that of a process that has died; on its
own machine that is known at once. Clocks are not compared: those of two hosts may differ, and any
clock may be set.

It says who holds it, so that whoever comes second can be told.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

import psutil

from quickdraw_tfrecords.base.errors import DataError, MissingError, UsageError
from quickdraw_tfrecords.base.stores import Store

LEASE_NAME = ".lease"
LEASE_SECS = 30.0
MAX_BYTES = 4096

_BEAT_SECS = 5.0
_POLL_SECS = 0.5
_SETTLE_SECS = 1.0


class Place(Protocol):
    """Where a lease is kept; its `str` is what is held.

    An OSError or a DataError of a method means that it could not be done now.
    """

    def create(self, data: bytes) -> bool:
        """Makes it with some bytes, or returns False if it is there."""

    def read(self) -> bytes | None:
        """Its bytes; None if it is not there."""

    def write(self, data: bytes) -> None:
        """Writes what was created anew, with as many bytes."""

    def delete(self) -> None:
        """Deletes it, if it is there."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds something, as is written there."""

    host: str
    machine: str
    pid: int
    started: float
    since: str
    token: str

    @classmethod
    def me(cls) -> "Holder":
        """This process; not the same twice."""
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
        if not self.is_of_this_machine:
            return False
        try:
            # Else its number has been given to another process.
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its process is, or was, one of this machine."""
        return self.machine == _machine()

    def to_bytes(self, beat: int) -> bytes:
        """What is written, with a count."""
        return json.dumps(dataclasses.asdict(self) | {"beat": f"{beat:012d}"}).encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def parse(data: bytes | None) -> tuple[Holder | None, str]:
    """The holder and their count; None if that is unreadable, perhaps as it is being written."""
    try:
        fields = json.loads(data or b"")
        beat = str(fields.pop("beat"))
        holder = Holder(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, ""
    is_fit = isinstance(holder.pid, int) and isinstance(holder.started, float)
    return (holder if is_fit and str(holder).isprintable() else None), beat


def refusal(held: object, holder: Holder | None, work: str) -> UsageError:
    """The error for one who comes second.

    Args:
      held: What is held.
      holder: By whom, if that is known.
      work: What is done there.
    """
    who = f" ({holder})" if holder else ""
    return UsageError(f"{held}: another {work} is writing here{who}; wait for it")


class LeaseObject:
    """A lease on a folder of an object store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __str__(self) -> str:
        return str(self._store)

    def create(self, data: bytes) -> bool:
        """See `Place`."""
        return self._store.create(LEASE_NAME, data)

    def read(self) -> bytes | None:
        """See `Place`."""
        try:
            return self._store.read(LEASE_NAME)
        except MissingError:
            return None

    def write(self, data: bytes) -> None:
        """See `Place`."""
        self._store.write(LEASE_NAME, data)

    def delete(self) -> None:
        """See `Place`."""
        self._store.delete(LEASE_NAME)


@dataclasses.dataclass(frozen=True)
class Claim:
    """Tells whether a lease is still held; also in another process, or on another machine.

    Attributes:
      place: Where it is kept.
      holder: By whom.
    """

    place: Place
    holder: Holder

    def holds(self) -> bool:
        """Whether it is, at this moment."""
        return parse(self.place.read())[0] == self.holder


class Lease:
    """A context in which a lease is held.

    To enter may take `LEASE_SECS`, to see whether a holder on another machine is still alive.

    Args:
      place: Where it is kept.
      work: What is done with what is held, for the error.

    Attributes:
      claim: What others can tell by whether it is still held.

    Raises:
      UsageError: When it is entered, and another process holds it; says which.
    """

    def __init__(self, place: Place, work: str) -> None:
        self._place, self._work = place, work
        self.claim = Claim(place, Holder.me())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> "Lease":
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError, DataError):  # then it ends by standing still
            if self.claim.holds():
                self._place.delete()

    def require(self) -> None:
        """Ends the process if another has the lease, which took this one for dead.

        At once: whatever else it wrote would be mixed with the other's.
        """
        holder, _ = parse(self._place.read())
        if holder != self.claim.holder:
            print(f"error: {self._place}: was taken over by another ({holder})", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)

    def _take(self) -> None:
        while True:
            is_new = self._place.create(self.claim.holder.to_bytes(beat=0))
            # Else a connection may have broken after it was made.
            if not is_new and not self.claim.holds():
                if not self._stands_still():
                    holder, _ = parse(self._place.read())
                    raise refusal(self._place, holder, self._work)
                self._place.delete()
                continue
            # Another may have seen the same standstill, and deleted this one instead of the old.
            time.sleep(_SETTLE_SECS)
            if self.claim.holds():
                return

    def _stands_still(self) -> bool:
        """Whether nobody counts anymore; waits for as long as it takes to know."""
        first = parse(self._place.read())
        holder = first[0]
        if holder and holder.is_of_this_machine:
            return holder.has_ended
        print(
            f"{self._place}: waiting to see whether it is still in use ({holder})", file=sys.stderr
        )
        deadline = time.monotonic() + LEASE_SECS
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECS)
            data = self._place.read()
            if parse(data) != first:
                return data is None
        return True

    def _keep(self) -> None:
        """Counts."""
        beat = 0
        while not self._ended.wait(_BEAT_SECS):
            with contextlib.suppress(OSError, DataError):  # it is tried again soon
                self.require()
                beat += 1
                self._place.write(self.claim.holder.to_bytes(beat))


def _machine() -> str:
    """Tells machines apart, and the containers on one, where a number is another process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()
