"""What opening a source of one file a class finds out about each file, in worker processes.

Files whose drawings do not stand at known places are read once when the source is opened. What
`read` needs to find them again goes into temporary files, because a source is sent to the
workers with every job.
"""

import atexit
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from absl import logging
from tqdm import tqdm

from quickdraw_tfrecords.base.errors import DataError, UsageError

_CHUNK_BYTES = 1 << 20
_NAMED = 10  # broken drawings of a file that are told of one by one


@dataclasses.dataclass(frozen=True)
class PreparedFile:
    """One class's file.

    Attributes:
      path: The file.
      count: Drawings that are wanted.
      broken: Drawings that cannot be read.
      examples: What is wrong with the first of them.
      size_bytes: Size of the file.
      crc32c: Checksum of the file.
      index: Where the wanted drawings are found, `<index>.<array's name>.npy` each.
    """

    path: Path
    count: int
    broken: int
    examples: tuple[str, ...]
    size_bytes: int
    crc32c: int
    index: Path

    @classmethod
    def save(
        cls, path: Path, index: Path, broken: Sequence[str], **arrays: np.ndarray
    ) -> "PreparedFile":
        """Writes the index; the first array has one entry a drawing."""
        for name, array in arrays.items():
            np.save(f"{index}.{name}.npy", array)
        count = len(next(iter(arrays.values())))
        size, crc = path.stat().st_size, checksum(path)
        return cls(path, count, len(broken), tuple(broken[:_NAMED]), size, crc, index)

    def load(self, name: str) -> np.ndarray:
        """An array of the index, mapped."""
        return np.load(f"{self.index}.{name}.npy", mmap_mode="r")

    def describe(self) -> dict[str, Any]:
        """What a manifest says of the file."""
        return {
            "drawings": self.count,
            "bytes": self.size_bytes,
            "crc32c": f"{self.crc32c:08x}",
        } | ({"broken": self.broken} if self.broken else {})


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """What sources of prepared files have in common. See `Source` for the other attributes.

    Attributes:
      files: One a class; the array `rows` of the index says where each drawing was in it.
    """

    class_names: tuple[str, ...]
    side: int
    files: tuple[PreparedFile, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Drawings of each class."""
        return tuple(file.count for file in self.files)

    def source_rows(self, label: int, rows: np.ndarray) -> np.ndarray:
        """See `Source.source_rows`; broken and unwanted drawings are counted too."""
        return self.files[label].load("rows")[rows].astype(np.int64)

    def describe_files(self) -> dict[str, Any]:
        """What a manifest says of the files; opening took the checksums."""
        return {file.path.name: file.describe() for file in self.files}


def find_files(directory: Path, suffix: str) -> dict[str, Path]:
    """The files `<class><suffix>` of a folder, by class.

    Raises:
      UsageError: The folder is not there, or holds none.
    """
    if not directory.is_dir():
        raise UsageError(f"--source_dir={directory}: no such directory")
    found = {path.name.removesuffix(suffix): path for path in directory.glob(f"*{suffix}")}
    if not found:
        raise UsageError(f"--source_dir={directory}: holds no {suffix} files")
    return found


def prepare(
    function: Callable[[Path, Path], PreparedFile],
    paths: Iterable[Path],
    *,
    pool: futures.Executor,
    max_bad: int,
) -> tuple[PreparedFile, ...]:
    """Prepares files in the pool's processes, and says which drawings are broken.

    Args:
      function: Takes a file and the name of its index.
      paths: The files.
      pool: Worker processes.
      max_bad: How many broken drawings, in all files, are passed over with a warning.

    Raises:
      DataError: There are more; names the first.
    """
    paths = list(paths)
    directory = temporary_directory()
    indices = [directory / str(number) for number in range(len(paths))]
    bar = tqdm(pool.map(function, paths, indices), total=len(paths), unit=" files", desc="opening")
    files = tuple(bar)
    broken = sum(file.broken for file in files)
    examples = [example for file in files for example in file.examples]
    if broken > max_bad:
        raise DataError(
            f"{examples[0]}; {broken:,} broken in all, --max_bad={max_bad} allows {max_bad}: "
            f"mend the files, or pass over them with --max_bad={broken}"
        )
    for example in examples:
        logging.warning("passed over: %s", example)
    if broken > len(examples):
        logging.warning("passed over: %d more", broken - len(examples))
    return files


def temporary_directory() -> Path:
    """A folder that is there until this process ends."""
    path = Path(tempfile.mkdtemp(prefix="quickdraw-index-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def checksum(path: Path) -> int:
    """CRC32C of a whole file."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = google_crc32c.extend(crc, chunk)
    return crc
