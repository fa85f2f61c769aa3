"""Google's per-class bitmap files: `<class>.npy`, uint8[n, side * side], ink high on 0.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download.provenance import Provenance, read_provenance
from quickdraw_tfrecords.sources.files import (
    FileVersion,
    find_files,
    open_unchanged,
)
from quickdraw_tfrecords.sources.npy_header import read_header

_SPAN_BYTES = 1 << 20  # that are read in one call, at most
_GAP_BYTES = 1 << 14  # between two drawings, that are rather read than skipped


@dataclasses.dataclass(frozen=True)
class BitmapFile:
    """A `.npy` file of drawings whose header has been checked.

    Attributes:
      path: The file.
      version: Which version of it.
      offset: Where the first drawing begins, in bytes.
      count: Number of drawings.
      pixels: Bytes of one drawing.
    """

    path: Path
    version: FileVersion
    offset: int
    count: int
    pixels: int

    @classmethod
    def open(cls, path: Path) -> "BitmapFile":
        """Reads and checks the header; reads no drawings, and unpickles nothing.

        Raises:
          DataError: It is not such a file, or is cut short; names it and says what is wrong.
          OSError: It cannot be opened.
        """
        with open_unchanged(path) as file:
            version, header = FileVersion.of(file), read_header(str(path), file)
        if header.dtype != np.uint8:
            raise DataError(f"{path}: dtype is {header.dtype}, must be uint8")
        shape = header.shape
        if len(shape) != 2 or shape[1] < 1 or math.isqrt(shape[1]) ** 2 != shape[1]:
            raise DataError(f"{path}: shape is {shape}, must be (drawings, side * side)")
        if header.fortran_order and min(shape) > 1:
            raise DataError(f"{path}: is in Fortran order, must be in C order")
        promised = header.size_bytes + math.prod(shape)
        if version.size_bytes != promised:
            raise DataError(
                f"{path}: {version.size_bytes:,} bytes, its header promises {promised:,}; "
                "it was cut short or changed: fetch it again"
            )
        return cls(path, version, header.size_bytes, *shape)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads the drawings int64[n] as uint8[n, pixels]; fast where they ascend.

        Raises:
          DataError: The file has changed since it was opened.
        """
        drawings = np.empty((len(rows), self.pixels), np.uint8)
        scratch = np.empty((max(1, _SPAN_BYTES // self.pixels), self.pixels), np.uint8)
        with open_unchanged(self.path, self.version, buffering=0) as file:
            for part in self._spans(rows):
                first, last = rows[part][[0, -1]].tolist()
                span = scratch[: last - first + 1]
                if not _read_at(file, self.offset + first * self.pixels, span.reshape(-1).data):
                    raise DataError(f"{self.path}: has become shorter; it was changed meanwhile")
                np.take(span, rows[part] - first, axis=0, out=drawings[part], mode="clip")
        return drawings

    def _spans(self, rows: NDArray[np.int64]) -> Iterator[slice]:
        """Cuts rows into ascending parts, each to be read in one call with what is in between.

        Not memory-mapped: to touch a page of a file that has been cut short meanwhile kills the
        process (SIGBUS). And not a call for each row: that costs more than the few rows that are
        read in vain.
        """
        gaps = np.diff(rows)
        is_far = (gaps < 0) | (gaps * self.pixels > _GAP_BYTES)
        fills_scratch = np.diff(rows // max(1, _SPAN_BYTES // self.pixels)) > 0
        bounds = [0, *(np.flatnonzero(is_far | fills_scratch) + 1).tolist(), len(rows)]
        return itertools.starmap(slice, itertools.pairwise(bounds)) if len(rows) else iter(())


def _read_at(file: BinaryIO, offset: int, out: memoryview) -> bool:
    """Fills memory with a file's bytes from an offset; false if the file ends before."""
    while out:
        count = os.preadv(file.fileno(), (out,), offset)
        if not count:
            return False
        out, offset = out[count:], offset + count
    return True


@dataclasses.dataclass(frozen=True)
class NumpyBitmapSource:
    """A folder of `<class>.npy` files. See `Source` for the other attributes and methods.

    Attributes:
      files: One per class.
      provenances: For each file where its rows come from, if it was fetched.
    """

    class_names: tuple[str, ...]
    files: tuple[BitmapFile, ...]
    provenances: tuple[Provenance | None, ...]

    @classmethod
    def open(cls, directory: Path, classes: Sequence[str] | None = None) -> "NumpyBitmapSource":
        """Opens the files of the wanted classes (all, if None).

        Raises:
          UsageError: The folder does not exist or holds no `.npy` file; a wanted class is
            unknown or listed twice.
          DataError: A file is damaged or of another form.
        """
        available = find_files(directory, ".npy")
        chosen = names.select(available, classes)
        files = tuple(BitmapFile.open(available[name]) for name in chosen)
        for file in files:
            if file.pixels != files[0].pixels:
                raise DataError(
                    f"{file.path}: drawings of {file.pixels} pixels, but {files[0].path} has "
                    f"{files[0].pixels}; all must have the same size"
                )
        return cls(chosen, files, tuple(map(cls._provenance, files)))

    @staticmethod
    def _provenance(file: BitmapFile) -> Provenance | None:
        """Where the rows of a fetched file come from; None for any other file."""
        provenance = read_provenance(file.path)
        return provenance if provenance and provenance.count == file.count else None

    @property
    def counts(self) -> tuple[int, ...]:
        """See `Source.counts`."""
        return tuple(file.count for file in self.files)

    @property
    def side(self) -> int:
        """See `Source.side`."""
        return math.isqrt(self.files[0].pixels)

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        return self.files[label].read(rows)

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source.source_rows`; for a file that `download` fetched, the rows in Google's."""
        provenance = self.provenances[label]
        return provenance.rows()[rows] if provenance else rows

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; reads no drawings, of which few may be wanted."""
        files: dict[str, dict[str, Any]] = {}
        for file, provenance in zip(self.files, self.provenances, strict=True):
            files[file.path.name] = {
                "drawings": file.count,
                "bytes": file.version.size_bytes,
                "version": list(file.version),
            }
            if provenance:
                files[file.path.name] |= {
                    "source_bytes": provenance.source.size_bytes,
                    "source_rows_crc32c": f"{google_crc32c.value(provenance.rows()):08x}",
                }
        return {"kind": "numpy_bitmap", "files": files}
