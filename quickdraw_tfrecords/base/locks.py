"""One process at a time in a directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from quickdraw_tfrecords.base.errors import UsageError


@contextlib.contextmanager
def locked(directory: Path, *, work: str) -> Iterator[None]:
    """Holds a directory against other processes, until this one ends at the latest.

    Args:
      directory: What to hold; it must be there.
      work: What is done in it, for the error.

    Raises:
      UsageError: Another process holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{directory}: another {work} is writing here; wait for it") from None
    finally:
        os.close(descriptor)
