"""Sketch-RNN's files of strokes: `<class>.npz` or `<class>.full.npz`, rasterized to any side.

https://github.com/googlecreativelab/quickdraw-dataset#sketch-rnn-quickdraw-dataset: the arrays
train, valid and test, each of drawings as number[points, 3]: the step to a point in x and in y,
and 1 where the pen is lifted after it. Row r of a class is its r-th drawing in this order.

Opening the source unpacks each file into temporary ones: 20 MB for 75,000 of Google's drawings.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.bitmaps.polylines import FURTHEST, MAX_POINTS, Polylines
from quickdraw_tfrecords.bitmaps.simplification import fit
from quickdraw_tfrecords.sources import object_arrays
from quickdraw_tfrecords.sources.files import find_files, open_unchanged
from quickdraw_tfrecords.sources.indexed import IndexedFile, IndexedSource, index_files

SPLITS = ("train", "valid", "test")

_BATCH = 1024  # drawings read and drawn at once


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
            starts = np.where(batch > 0, ends[batch - 1], 0)  # the end of the drawing before
            drawings = [points[a:b] for a, b in zip(starts, stops, strict=True)]
            images[start : start + _BATCH] = rasterization.draw(_outline(drawings), self.side)
        return images

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`."""
        return {"kind": "npz", "side": self.side, "files": self.describe_files()}


def _unpack(path: Path, index: Path) -> IndexedFile:
    """Stores all drawings' points one after the other, and where each drawing ends."""
    points: list[NDArray[Any]] = [np.empty((0, 3), np.int16)]
    lengths: list[int] = []
    rows: list[int] = []
    broken: list[str] = []
    with open_unchanged(path) as file:
        named = _drawings(file)
        row = 0
        while batch := list(itertools.islice(named, _BATCH)):
            for (name, drawing), walked in zip(
                batch, _walk_all([drawing for _, drawing in batch]), strict=True
            ):
                if isinstance(walked, str):
                    broken.append(f"{path}: {name}: {walked}")
                else:
                    points.append(walked)
                    lengths.append(len(drawing))
                    rows.append(row)
                row += 1
        arrays = {
            "ends": np.cumsum(lengths, dtype=np.int64),
            "points": np.concatenate(points),
            "rows": np.array(rows, np.int32),
        }
        return IndexedFile.save(file, index, broken, **arrays)


def _drawings(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    path, found = file.name, False
    for split, drawings in object_arrays.read_arrays(file, SPLITS):
        found = True
        # Drawings of different lengths are a list, those of one length an array of 3 axes.
        if isinstance(drawings, np.ndarray) and drawings.ndim != 3:
            raise DataError(f"{path}: {split}: must be an array of drawings, not {drawings.shape}")
        yield from ((f"{split}, drawing {i}", drawing) for i, drawing in enumerate(drawings))
    if not found:
        raise DataError(f"{path}: must have one of the arrays {', '.join(SPLITS)}")


def _walk_all(drawings: list[Any]) -> list[NDArray[Any] | str]:
    """For each drawing its points, as from `_walk`, or what is wrong with it."""
    try:
        walked = _walk(drawings)
        # Sums are exact, and so do not depend on the drawings before, only of whole numbers.
        if len(drawings) == 1 or walked.dtype == np.int16:
            ends = np.cumsum([len(drawing) for drawing in drawings])
            return list(np.split(walked, ends[:-1]))
    except DataError as error:
        if len(drawings) == 1:
            return [str(error)]
    return [walked for drawing in drawings for walked in _walk_all([drawing])]


def _walk(drawings: list[Any]) -> NDArray[Any]:
    """Adds the steps of drawings up to places.

    Returns:
      int16[points, 3] if all steps are whole numbers and all places fit, else float64.

    Raises:
      DataError: One of them is broken.
    """
    for drawing in drawings:
        _require_steps(drawing)
    steps = np.concatenate(drawings, dtype=np.float64, casting="unsafe")
    if not (np.abs(steps) < FURTHEST).all():
        raise DataError("has numbers that are not finite, or far too large")
    lengths = [len(drawing) for drawing in drawings]
    sums = np.cumsum(steps[:, :2], axis=0)
    before = np.append([[0.0, 0.0]], sums[np.cumsum(lengths)[:-1] - 1], axis=0)
    points = np.empty_like(steps)
    points[:, :2] = sums - np.repeat(before, lengths, axis=0)
    points[:, 2] = steps[:, 2] > 0
    furthest = np.abs(points).max()
    if furthest > FURTHEST:
        raise DataError(f"goes {furthest:g} away from where it begins, at most {FURTHEST:g} may be")
    is_small = furthest <= 32767 and np.array_equal(steps[:, :2], np.rint(steps[:, :2]))
    return points.astype(np.int16 if is_small else np.float64)


def _require_steps(drawing: Any) -> None:
    if not isinstance(drawing, np.ndarray) or drawing.dtype.kind not in "iuf":
        raise DataError("must be an array of numbers")
    if drawing.ndim != 2 or drawing.shape[1] != 3 or not len(drawing):
        raise DataError(
            f"has the shape {drawing.shape}, must be (points, 3): steps in x and y, pen lifted"
        )
    if len(drawing) > MAX_POINTS:
        raise DataError(f"has {len(drawing):,} points, must have {MAX_POINTS:,} at most")


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
