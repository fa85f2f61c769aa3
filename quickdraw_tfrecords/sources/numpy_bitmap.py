"""Google's per-class bitmap files: `<class>.npy`, uint8[n, side * side], ink high on 0.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import dataclasses
import math
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.sources.bitmap_files import BitmapFile, RemoteBitmapFile
from quickdraw_tfrecords.sources.download.provenance import Provenance
from quickdraw_tfrecords.sources.files import find_files
from quickdraw_tfrecords.sources.remote import find_class_files

_OPENED = 32  # objects whose headers are read at a time


@dataclasses.dataclass(frozen=True)
class NumpyBitmapSource:
    """A folder of `<class>.npy` files. See `Source` for the other attributes and methods.

    Attributes:
      files: One per class.
      provenances: For each file where its rows come from, if it was fetched.
    """

    class_names: tuple[str, ...]
    files: tuple[BitmapFile | RemoteBitmapFile, ...]
    provenances: tuple[Provenance | None, ...]

    @classmethod
    def open(cls, directory: Location, classes: Sequence[str] | None = None) -> "NumpyBitmapSource":
        """Opens the files of the wanted classes (all, if None).

        Raises:
          UsageError: The folder does not exist or holds no `.npy` file; a wanted class is
            unknown or listed twice.
          DataError: A file is damaged or of another form.
        """
        files: tuple[BitmapFile | RemoteBitmapFile, ...]
        if isinstance(directory, Store):
            found = find_class_files(directory, [".npy"], classes)
            remote = {name.removesuffix(".npy"): file for name, file in found.items()}
            chosen = names.select(remote, classes)
            with futures.ThreadPoolExecutor(_OPENED) as threads:
                files = tuple(threads.map(RemoteBitmapFile.open, map(remote.get, chosen)))
        else:
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
    def _provenance(file: BitmapFile | RemoteBitmapFile) -> Provenance | None:
        """Where the rows of a fetched file come from; None for any other file."""
        provenance = file.provenance()
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
