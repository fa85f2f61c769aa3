"""The files of a source: found, checksummed, and where their indexes are kept."""

import atexit
import shutil
import tempfile
from pathlib import Path

import google_crc32c

from quickdraw_tfrecords.base.errors import UsageError

_CHUNK_BYTES = 1 << 20


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


def checksum(path: Path) -> int:
    """CRC32C of a whole file."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = google_crc32c.extend(crc, chunk)
    return crc


def temporary_directory() -> Path:
    """A new folder, which is deleted when this process ends."""
    path = Path(tempfile.mkdtemp(prefix="quickdraw-index-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
