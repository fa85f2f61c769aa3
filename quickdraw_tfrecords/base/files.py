"""Files: opened only if regular, written atomically, synced to disk, checksummed."""

import contextlib
import ctypes
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from quickdraw_tfrecords.base.errors import DataError

_CHUNK_BYTES = 128 * 1024
_LARGE_BYTES = 64 * 1024  # of which a CRC takes long enough for other threads to wait


def open_regular(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Opens a file for reading; to open a FIFO, a device or a socket is an error.

    A FIFO would make us wait for whoever writes to it, and a device may never end.

    Args:
      path: The file, or a link to it.
      buffering: As for `open`.

    Raises:
      DataError: It is not a regular file.
      OSError: It cannot be opened.
    """
    # O_NONBLOCK does nothing to a regular file, and keeps `open` from waiting for a writer.
    opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK)  # noqa: E731
    file = open(path, "rb", buffering, opener=opener)  # noqa: SIM115, the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{path}: is not a regular file")
    return file


@contextlib.contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only once it is complete.

    Args:
      path: The file.
      sync: Also put it on disk before it appears, so that it survives a power failure.
    """
    # Beside the file, because a rename is atomic only within a file system. Processes of several
    # machines may be at it, so its own number would not do.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            sync_to_disk(path.parent)  # the name, too, is data: the directory's
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename or temporary) == str(temporary):
            error.filename = str(path)  # the name that people know; a failed write has none at all
        raise


def delete_leftovers(directory: Path) -> None:
    """Deletes the unfinished files of a killed `atomic_write`; nobody else may be writing there."""
    for leftover in directory.glob(".*.tmp"):
        if leftover.is_file():
            leftover.unlink()


def write_in_chunks(file: BinaryIO, data: np.ndarray) -> None:
    """Writes contiguous uint8 in pieces that fit a processor's cache.

    The page cache takes many small writes several times faster than one of many megabytes.
    """
    view = data.reshape(-1).data
    for start in range(0, len(view), _CHUNK_BYTES):
        file.write(view[start : start + _CHUNK_BYTES])


def sync_to_disk(path: Path) -> None:
    """Puts a file's bytes, or a directory's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_space(directory: Path, needed_bytes: int, *, remedy: str) -> None:
    """Checks that a directory's file system has room for more bytes.

    Args:
      directory: It must exist.
      needed_bytes: Without what is there already.
      remedy: What to do if there is no room, for the error.

    Raises:
      DataError: It does not.
    """
    free = shutil.disk_usage(directory).free
    if needed_bytes > free:
        raise DataError(
            f"{directory}: needs {needed_bytes / 2**20:,.1f} MiB more, "
            f"{free / 2**20:,.1f} MiB are free; {remedy}"
        )


def crc32c(data: np.ndarray | bytes, crc: int = 0) -> int:
    """CRC32C of contiguous bytes.

    Args:
      data: The bytes.
      crc: CRC32C of what comes before them.
    """
    if _extend and isinstance(data, np.ndarray) and _is_large(data):
        return int(_extend(crc, data.ctypes.data, data.nbytes))
    return int(google_crc32c.extend(crc, data))


def _is_large(data: np.ndarray) -> bool:
    return data.nbytes >= _LARGE_BYTES and data.flags.c_contiguous


def _find_extend() -> Callable[[int, int, int], int] | None:
    """`crc32c_extend` of libcrc32c, that google_crc32c calls without letting other threads run.

    None where it is not found, as on Windows.
    """
    try:
        extend = ctypes.CDLL(google_crc32c._crc32c.__file__).crc32c_extend
    except (AttributeError, OSError):
        return None
    extend.argtypes, extend.restype = (
        [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t],
        ctypes.c_uint32,
    )
    return extend


_extend = _find_extend()


def os_reason(error: OSError) -> str:
    """What the system says of an error, without the file's name."""
    return os.strerror(error.errno) if error.errno else str(error)
