"""Sketch-RNN's files of strokes: `<class>.npz` or `<class>.full.npz`, rasterized to any side.

https://github.com/googlecreativelab/quickdraw-dataset#sketch-rnn-quickdraw-dataset: the arrays
train, valid and test, each of drawings as number[points, 3]: the step to a point in x and in y,
and 1 where the pen is lifted after it. Row r of a class is its r-th drawing in this order.

Opening the source unpacks each file into temporary ones: 20 MB for 75,000 of Google's drawings.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.bitmaps.polylines import Polylines
from quickdraw_tfrecords.bitmaps.simplification import fit
from quickdraw_tfrecords.sources import object_arrays
from quickdraw_tfrecords.sources.files import find_files
from quickdraw_tfrecords.sources.indexed import IndexedFile, IndexedSource, index_files

SPLITS = ("train", "valid", "test")

_BATCH = 1024  # drawings read and drawn at once
_LONGEST_STEP = 1e9  # with longer ones, sums would lose a drawing's details


@dataclasses.dataclass(frozen=True)
class NpzSource(IndexedSource):
    """A folder of Sketch-RNN files. See `Source` for the attributes and methods."""

    @classmethod
    def open(
        cls,
        directory: Path,
        classes: Sequence[str] | None = None,
        *,
        pool: futures.Executor,
        side: int = 28,
        max_bad: int = 0,
    ) -> "NpzSource":
        """Checks and unpacks the files of the wanted classes (all, if None).

        Args:
          directory: Folder of `<class>.npz` or `<class>.full.npz` files.
          classes: Class names.
          pool: Worker processes, which take one file each.
          side: Height and width of the bitmaps to draw.
          max_bad: How many broken drawings, over all files, to skip.

        Raises:
          UsageError: The folder does not exist or holds no such file; a wanted class is
            unknown or listed twice.
          DataError: A file is damaged or of another form, a class has two files, or more
            drawings than `max_bad` are broken.
        """
        rasterization.load_cairo()
        available: dict[str, Path] = {}
        for stem, path in sorted(find_files(directory, ".npz").items()):
            name = stem.removesuffix(".full")
            if name in available:
                raise DataError(f"{path}: is of the same class as {available[name].name}; keep one")
            available[name] = path
        chosen = names.select(available, classes)
        paths = [available[name] for name in chosen]
        return cls(chosen, side, index_files(_unpack, paths, pool=pool, max_bad=max_bad))

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        images = np.empty((len(rows), self.side**2), np.uint8)
        ends, points = self.files[label].load("ends"), self.files[label].load("points")
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            stops = ends[batch]
            starts = np.where(batch > 0, ends[batch - 1], 0)
            drawings = [points[a:b] for a, b in zip(starts, stops, strict=True)]
            images[start : start + _BATCH] = rasterization.draw(_outline(drawings), self.side)
        return images

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`."""
        return {"kind": "npz", "side": self.side, "files": self.describe_files()}


def _unpack(path: Path, index: Path) -> IndexedFile:
    """Stores all drawings' points one after the other, and where each drawing ends."""
    drawings: list[NDArray[Any]] = []
    rows: list[int] = []
    broken: list[str] = []
    for row, (name, drawing) in enumerate(_drawings(path)):
        try:
            drawings.append(_walk(drawing))
            rows.append(row)
        except DataError as error:
            broken.append(f"{path}: {name}: {error}")
    ends = np.cumsum([len(drawing) for drawing in drawings], dtype=np.int64)
    points = np.concatenate(drawings) if drawings else np.empty((0, 3), np.int16)
    return IndexedFile.save(
        path, index, broken, ends=ends, points=points, rows=np.array(rows, np.int32)
    )


def _drawings(path: Path) -> Iterator[tuple[str, Any]]:
    found = False
    for split, array in object_arrays.read_arrays(path, SPLITS):
        found = True
        # Drawings of different lengths are an array of arrays, those of one length a 3-D array.
        if array.ndim not in (1, 3):
            raise DataError(f"{path}: {split}: must be an array of drawings, not {array.shape}")
        yield from ((f"{split}, drawing {i}", drawing) for i, drawing in enumerate(array))
    if not found:
        raise DataError(f"{path}: must have one of the arrays {', '.join(SPLITS)}")


def _walk(drawing: Any) -> NDArray[Any]:
    """Adds steps up to places; int16[points, 3] where these are whole, else float64."""
    if not isinstance(drawing, np.ndarray) or drawing.dtype.kind not in "iuf":
        raise DataError("must be an array of numbers")
    if drawing.ndim != 2 or drawing.shape[1] != 3 or not len(drawing):
        raise DataError(
            f"has the shape {drawing.shape}, must be (points, 3): steps in x and y, pen lifted"
        )
    if not (np.abs(drawing.astype(np.float64)) < _LONGEST_STEP).all():
        raise DataError("has numbers that are not finite, or far too large")
    points = drawing.astype(np.float64)
    points[:, :2] = np.cumsum(points[:, :2], axis=0)
    points[:, 2] = points[:, 2] > 0
    is_small = np.abs(points).max() <= 32767 and np.array_equal(points, np.rint(points))
    return points.astype(np.int16) if is_small else points


def _outline(drawings: list[NDArray[Any]]) -> Polylines:
    """Splits drawings into strokes where the pen is lifted, and moves them to the top left."""
    sizes = np.array([len(drawing) for drawing in drawings])
    points = np.concatenate(drawings).astype(np.float64)
    ends = np.cumsum(sizes)
    lifted = points[:, 2] > 0
    lifted[ends - 1] = True  # also where a file does not say so
    lengths = np.diff(np.flatnonzero(lifted) + 1, prepend=0)
    counts = np.add.reduceat(lifted, ends - sizes, dtype=np.int64)
    return fit(Polylines(points[:, :2], lengths, counts), only_unfit=True)
