"""The files of a source: found, opened unchanged, checksummed; and where their indexes are kept."""

import atexit
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.base.temporary_folders import TemporaryFolder

_CHUNK_BYTES = 1 << 20


class FileVersion(NamedTuple):
    """What tells whether a file is still the one that was opened first, and was not written to.

    A file is read many times in a conversion, by many processes. All of them must see what the
    manifest's checksum is of, or the data set would be a mixture that looks sound.
    """

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int  # which, unlike the time of modification, nobody can set

    @classmethod
    def of(cls, file: Path | BinaryIO) -> "FileVersion":
        """The version of a file that is there now, or is open."""
        status = os.stat(file if isinstance(file, Path) else file.fileno())
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextlib.contextmanager
def open_unchanged(
    path: Path, version: FileVersion | None = None, *, buffering: int = -1
) -> Iterator[BinaryIO]:
    """Opens a file for reading, and checks it once it has been read.

    Args:
      path: The file.
      version: What it was when it was opened first; None if that is now.
      buffering: As for `open`.

    Raises:
      DataError: It is another version, so what was read must not be used.
      OSError: It cannot be opened.
    """
    with open_regular(path, buffering=buffering) as file:
        version = version or FileVersion.of(file)
        yield file
        # Only now: a change before or during the reading shows afterwards, too.
        if FileVersion.of(file) != version:
            raise DataError(
                f"{path}: was changed while it was being read; run the same command again when "
                "nothing writes to it any more"
            )


def find_files(directory: Path, suffix: str) -> dict[str, Path]:
    """The files `<class><suffix>` of a folder, by class.

    Raises:
      UsageError: The folder does not exist, or holds none.
    """
    if not directory.is_dir():
        raise UsageError(f"--source_dir={directory}: no such directory")
    found = {path.name.removesuffix(suffix): path for path in directory.glob(f"*{suffix}")}
    if not found:
        raise UsageError(f"--source_dir={directory}: holds no {suffix} files")
    return found


def checksum(file: BinaryIO) -> int:
    """CRC32C of a file from its position to its end."""
    crc = 0
    while chunk := file.read(_CHUNK_BYTES):
        crc = google_crc32c.extend(crc, chunk)
    return crc


def temporary_directory() -> Path:
    """A new folder, which is deleted when this process ends."""
    folder = TemporaryFolder("quickdraw-index-")
    atexit.register(folder.delete)  # which refers to it until then
    return folder.path
