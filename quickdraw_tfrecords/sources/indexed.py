"""Sources of one file per class that must be read through before a drawing can be found in it.

Worker processes read each file once when the source is opened, and write what `read` needs to
find the drawings again to temporary files. It is not kept in the source itself, because that
is sent to the workers with every batch of shards.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from absl import logging
from numpy.typing import NDArray

from quickdraw_tfrecords.base import progress
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.files import FileVersion, checksum, temporary_directory

_NAMED = 10  # broken drawings of a file that are reported one by one


@dataclasses.dataclass(frozen=True)
class IndexedFile:
    """One class's file.

    Attributes:
      path: The file.
      count: Number of drawings that are wanted.
      version: Which version of it was indexed.
      crc32c: Checksum of the file.
      broken: Number of drawings that cannot be read.
      examples: What is wrong with the first of them.
      index: Each array of the index is the file `<index>.<name>.npy`.
    """

    path: Path
    count: int
    version: FileVersion
    crc32c: int
    broken: int
    examples: tuple[str, ...]
    index: Path

    @classmethod
    def save(
        cls, file: BinaryIO, index: Path, broken: Sequence[str], **arrays: NDArray[Any]
    ) -> "IndexedFile":
        """Writes the index of a file that has been read through, and takes its checksum.

        Args:
          file: As from `open_unchanged`.
          index: The name for the index.
          broken: What is wrong with each drawing that cannot be read.
          **arrays: The index; the first array has one entry per drawing.
        """
        for name, array in arrays.items():
            np.save(f"{index}.{name}.npy", array)
        count = len(next(iter(arrays.values())))
        file.seek(0)
        crc = checksum(file)
        examples = tuple(broken[:_NAMED])
        path, version = Path(file.name), FileVersion.of(file)
        return cls(path, count, version, crc, len(broken), examples, index)

    def load(self, name: str) -> NDArray[Any]:
        """An array of the index, memory-mapped."""
        array: NDArray[Any] = np.load(f"{self.index}.{name}.npy", mmap_mode="r")
        return array

    def describe(self) -> dict[str, Any]:
        """The file's entry in a manifest."""
        return {
            "drawings": self.count,
            "bytes": self.version.size_bytes,
            "crc32c": f"{self.crc32c:08x}",
        } | ({"broken": self.broken} if self.broken else {})


@dataclasses.dataclass(frozen=True)
class IndexedSource:
    """What sources of indexed files have in common. See `Source` for the other attributes.

    Attributes:
      files: One per class; the array `rows` of an index says where each drawing was in its file.
    """

    class_names: tuple[str, ...]
    side: int
    files: tuple[IndexedFile, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """See `Source.counts`."""
        return tuple(file.count for file in self.files)

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source.source_rows`; broken and unwanted drawings are counted too."""
        return self.files[label].load("rows")[rows].astype(np.int64)

    def describe_files(self) -> dict[str, Any]:
        """The files' entries in a manifest."""
        return {file.path.name: file.describe() for file in self.files}


def index_files(
    function: Callable[[Path, Path], IndexedFile],
    paths: Iterable[Path],
    *,
    pool: futures.Executor,
    max_bad: int,
) -> tuple[IndexedFile, ...]:
    """Indexes files in the pool's processes, and reports the drawings that are broken.

    Args:
      function: Takes a file and the name for its index.
      paths: The files.
      pool: Worker processes.
      max_bad: How many broken drawings, over all files, to skip with a warning.

    Raises:
      DataError: More than `max_bad` are broken; names the first.
    """
    paths = list(paths)
    directory = temporary_directory()
    indices = [directory / str(number) for number in range(len(paths))]
    opened = pool.map(function, paths, indices)
    files = tuple(progress.bar("opening", opened, total=len(paths), unit="files"))
    broken = sum(file.broken for file in files)
    report_broken([example for file in files for example in file.examples], broken, max_bad)
    return files


def report_broken(examples: Sequence[str], broken: int, max_bad: int) -> None:
    """Warns of the broken drawings that are skipped.

    Args:
      examples: The first of them, and what is wrong with them.
      broken: How many there are.
      max_bad: How many may be skipped.

    Raises:
      DataError: There are more; names the first.
    """
    if broken > max_bad:
        raise DataError(
            f"{examples[0]}; {broken:,} broken in all, --max_bad={max_bad} allows {max_bad}: "
            f"fix the files, or skip the broken drawings with --max_bad={broken}"
        )
    for example in examples:
        logging.warning("skipped: %s", example)
    if broken > len(examples):
        logging.warning("skipped: %d more", broken - len(examples))
