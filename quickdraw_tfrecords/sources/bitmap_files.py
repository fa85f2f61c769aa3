"""A class's file of bitmaps, on disk or in an object store: `.npy`, uint8[n, side * side]."""

import dataclasses
import io
import itertools
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.sources.download.provenance import (
    Provenance,
    journal_path,
    read_provenance,
)
from quickdraw_tfrecords.sources.files import FileVersion, open_unchanged
from quickdraw_tfrecords.sources.npy_header import MAX_HEADER_BYTES, read_header
from quickdraw_tfrecords.sources.remote import RemoteFile, RemoteVersion

_SPAN_BYTES = 1 << 20  # that are read in one call, at most
_GAP_BYTES = 1 << 14  # between two drawings, that are rather read than skipped
_RANGE_BYTES = 1 << 21  # that are asked for in one request, at most
_REMOTE_GAP_BYTES = 1 << 16  # as _GAP_BYTES, from a store


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
            version = FileVersion.of(file)
            return cls(path, version, *_read_shape(str(path), file, version.size_bytes))

    def provenance(self) -> Provenance | None:
        """Where the rows of a fetched file come from; None for any other file."""
        return read_provenance(self.path)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads the drawings int64[n] as uint8[n, pixels]; fast where they ascend.

        Raises:
          DataError: The file has changed since it was opened.
        """
        drawings = np.empty((len(rows), self.pixels), np.uint8)
        scratch = np.empty((max(1, _SPAN_BYTES // self.pixels), self.pixels), np.uint8)
        with open_unchanged(self.path, self.version, buffering=0) as file:
            for part in _spans(rows, self.pixels, span_bytes=_SPAN_BYTES, gap_bytes=_GAP_BYTES):
                first, last = rows[part][[0, -1]].tolist()
                span = scratch[: last - first + 1]
                if not _read_at(file, self.offset + first * self.pixels, span.reshape(-1).data):
                    raise DataError(f"{self.path}: has become shorter; it was changed meanwhile")
                np.take(span, rows[part] - first, axis=0, out=drawings[part], mode="clip")
        return drawings


@dataclasses.dataclass(frozen=True)
class RemoteBitmapFile:
    """As `BitmapFile`, in an object store.

    Attributes:
      file: The object.
      offset: Where the first drawing begins, in bytes.
      count: Number of drawings.
      pixels: Bytes of one drawing.
    """

    file: RemoteFile
    offset: int
    count: int
    pixels: int

    @classmethod
    def open(cls, file: RemoteFile) -> "RemoteBitmapFile":
        """As `BitmapFile.open`."""
        head = io.BytesIO(file.read(MAX_HEADER_BYTES))
        return cls(file, *_read_shape(str(file), head, file.entry.size))

    @property
    def path(self) -> Store:
        """Where it is."""
        return self.file.store / self.file.name

    @property
    def version(self) -> RemoteVersion:
        """Which version of it."""
        return RemoteVersion(self.file.entry.tag, self.file.entry.size)

    def provenance(self) -> Provenance | None:
        """As `BitmapFile.provenance`; it is read from a copy of the journal beside the file."""
        name = journal_path(Path(self.file.name)).name
        if not (entry := self.file.store.entry(name)):
            return None
        with tempfile.TemporaryDirectory() as folder:
            RemoteFile(self.file.store, name, entry).copy(Path(folder))
            return read_provenance(Path(folder) / self.file.name)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As `BitmapFile.read`."""
        drawings = np.empty((len(rows), self.pixels), np.uint8)
        parts = list(
            _spans(rows, self.pixels, span_bytes=_RANGE_BYTES, gap_bytes=_REMOTE_GAP_BYTES)
        )
        ends = [(int(rows[part][0]), int(rows[part][-1]) + 1) for part in parts]
        ranges = [
            (self.offset + first * self.pixels, self.offset + stop * self.pixels)
            for first, stop in ends
        ]
        for part, (first, _), data in zip(parts, ends, self.file.ranges(ranges), strict=True):
            span = np.frombuffer(data, np.uint8).reshape(-1, self.pixels)
            np.take(span, rows[part] - first, axis=0, out=drawings[part], mode="clip")
        return drawings


def _read_shape(name: str, file: BinaryIO, size_bytes: int) -> tuple[int, int, int]:
    """The size of a file's header, how many drawings follow it, and the bytes of one.

    Raises:
      DataError: It is not such a file, or is cut short.
    """
    header = read_header(name, file)
    if header.dtype != np.uint8:
        raise DataError(f"{name}: dtype is {header.dtype}, must be uint8")
    shape = header.shape
    if len(shape) != 2 or shape[1] < 1 or math.isqrt(shape[1]) ** 2 != shape[1]:
        raise DataError(f"{name}: shape is {shape}, must be (drawings, side * side)")
    if header.fortran_order and min(shape) > 1:
        raise DataError(f"{name}: is in Fortran order, must be in C order")
    promised = header.size_bytes + math.prod(shape)
    if size_bytes != promised:
        raise DataError(
            f"{name}: {size_bytes:,} bytes, its header promises {promised:,}; "
            "it was cut short or changed: fetch it again"
        )
    return header.size_bytes, *shape


def _spans(
    rows: NDArray[np.int64], row_bytes: int, *, span_bytes: int, gap_bytes: int
) -> Iterator[slice]:
    """Cuts rows into ascending parts, each to be read in one call with what is in between.

    Not memory-mapped: to touch a page of a file that has been cut short meanwhile kills the
    process (SIGBUS). And not a call for each row: that costs more than the few rows that are
    read in vain.
    """
    gaps = np.diff(rows)
    is_far = (gaps < 0) | (gaps * row_bytes > gap_bytes)
    fills_span = np.diff(rows // max(1, span_bytes // row_bytes)) > 0
    bounds = [0, *(np.flatnonzero(is_far | fills_span) + 1).tolist(), len(rows)]
    return itertools.starmap(slice, itertools.pairwise(bounds)) if len(rows) else iter(())


def _read_at(file: BinaryIO, offset: int, out: memoryview) -> bool:
    """Fills memory with a file's bytes from an offset; false if the file ends before."""
    while out:
        count = os.preadv(file.fileno(), (out,), offset)
        if not count:
            return False
        out, offset = out[count:], offset + count
    return True
