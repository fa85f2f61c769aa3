"""Google's per-class bitmap files: `<class>.npy`, uint8[n, side * side], ink high on 0.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import dataclasses
import math
import mmap
import os
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download.partial_file import Provenance, read_provenance
from quickdraw_tfrecords.sources.files import checksum, find_files

_READ = mmap.PROT_READ


@dataclasses.dataclass(frozen=True)
class BitmapFile:
    """A `.npy` file of drawings whose header has been checked.

    Attributes:
      path: The file.
      offset: Where the first drawing begins, in bytes.
      count: Number of drawings.
      pixels: Bytes of one drawing.
    """

    path: Path
    offset: int
    count: int
    pixels: int

    @classmethod
    def open(cls, path: Path) -> "BitmapFile":
        """Reads and checks the header; reads no drawings, and unpickles nothing.

        Raises:
          DataError: It is not such a file, or is cut short; names it and says what is wrong.
        """
        with open(path, "rb") as file:
            shape, fortran_order, dtype = read_header(str(path), file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
        if dtype != np.uint8:
            raise DataError(f"{path}: dtype is {dtype}, must be uint8")
        if len(shape) != 2 or shape[1] < 1 or math.isqrt(shape[1]) ** 2 != shape[1]:
            raise DataError(f"{path}: shape is {shape}, must be (drawings, side * side)")
        if fortran_order and min(shape) > 1:
            raise DataError(f"{path}: is in Fortran order, must be in C order")
        if size != offset + math.prod(shape):
            raise DataError(
                f"{path}: {size:,} bytes, its header promises {offset + math.prod(shape):,}; "
                "it was cut short or changed: fetch it again"
            )
        return cls(path, offset, *shape)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads the drawings int64[n] as uint8[n, pixels].

        Raises:
          DataError: The file ends before a row; it has changed since it was opened.
        """
        # Mapped for this read only, so that the file's pages do not count as this process' memory.
        try:
            with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=_READ) as view:
                drawings = np.frombuffer(view, np.uint8, self.count * self.pixels, self.offset)
                taken: NDArray[np.uint8] = drawings.reshape(self.count, self.pixels)[rows]
                del drawings  # a map cannot be closed while an array refers to it
                return taken
        except ValueError:
            raise DataError(f"{self.path}: has become shorter; it was changed meanwhile") from None


def read_header(name: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads the header of a `.npy` file, and leaves the file at the first drawing.

    Args:
      name: What to call the file in an error.
      file: At its beginning.

    Returns:
      The shape, whether it is in Fortran order, and the dtype.

    Raises:
      DataError: It is not such a file.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # NumPy parses the header as a Python literal, and does not wrap what that raises.
        raise DataError(f"{name}: not a .npy file: {error}") from None


@dataclasses.dataclass(frozen=True)
class NumpyBitmapSource:
    """A folder of `<class>.npy` files. See `Source` for the attributes and methods."""

    class_names: tuple[str, ...]
    files: tuple[BitmapFile, ...]

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
        return cls(chosen, files)

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
        provenance = self._provenance(label)
        return provenance.rows()[rows] if provenance else rows

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; reads every file once for its checksum."""
        files = {}
        for label, file in enumerate(self.files):
            files[file.path.name] = {
                "drawings": file.count,
                "bytes": file.offset + file.count * file.pixels,
                "crc32c": f"{checksum(file.path):08x}",
            }
            if provenance := self._provenance(label):
                files[file.path.name] |= {
                    "source_bytes": provenance.source.size_bytes,
                    "source_rows_crc32c": f"{google_crc32c.value(provenance.rows()):08x}",
                }
        return {"kind": "numpy_bitmap", "files": files}

    def _provenance(self, label: int) -> Provenance | None:
        """Where the rows of a fetched file come from; None for any other file."""
        file = self.files[label]
        provenance = read_provenance(file.path)
        return provenance if provenance and provenance.count == file.count else None
