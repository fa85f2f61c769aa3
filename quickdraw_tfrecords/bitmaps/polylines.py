"""The strokes of many drawings in three flat arrays, which are cheap to check and compute with.

A drawing is a list of strokes, a stroke a list [x, y] or [x, y, t] of equally long lists of
numbers, as in https://github.com/googlecreativelab/quickdraw-dataset#the-raw-moderated-dataset.
"""

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError

Drawing = Sequence[Sequence[Sequence[float]]]

MAX_POINTS = 20_000  # of a drawing; a player of the game had 20 seconds, so made a tenth of that
FURTHEST = 1e9  # from 0; beyond, the details of a drawing would be lost in rounding


@dataclasses.dataclass(frozen=True)
class Polylines:
    """Drawings as polylines. No drawing and no stroke is empty, and all numbers are finite.

    Two drawings, one of a stroke of two points and a dot, the other of a dot:

        points  = [[0, 0], [9, 5], [3, 3], [7, 7]]
        lengths = [2, 1, 1]     # points of each stroke
        strokes = [2, 1]        # strokes of each drawing

    Attributes:
      points: float64[points, 2], x and y of all points of all strokes, in order.
      lengths: int64[strokes], the number of points of each stroke.
      strokes: int64[drawings], the number of strokes of each drawing.
    """

    points: NDArray[np.float64]
    lengths: NDArray[np.int64]
    strokes: NDArray[np.int64]

    @classmethod
    def of(cls, drawings: Sequence[Drawing]) -> "Polylines":
        """Flattens drawings and leaves out any times.

        Raises:
          DataError: One of them is not a drawing; says which stroke is wrong, and how.
        """
        try:
            polylines = cls._flatten(drawings)
        except (TypeError, ValueError, OverflowError, LookupError):
            polylines = None
        if polylines is None or not polylines._is_sound():
            for drawing in drawings:
                check(drawing)
            raise DataError("the drawings must be lists of strokes")
        return polylines

    @classmethod
    def _flatten(cls, drawings: Sequence[Drawing]) -> "Polylines":
        # Fast and careless: what is wrong here makes `of` check each drawing by itself.
        xs: list[float] = []
        ys: list[float] = []
        lengths, strokes = [], []
        for drawing in drawings:
            for stroke in drawing:
                x, y = stroke[0], stroke[1]
                xs += x
                ys += y
                lengths.append(len(x) if len(x) == len(y) else 0)  # 0 will not be sound
            strokes.append(len(drawing))
        # `array` takes numbers only; NumPy would also accept strings of digits.
        points = np.stack([array("d", xs), array("d", ys)], axis=1)
        return cls(points, np.array(lengths, np.int64), np.array(strokes, np.int64))

    def _is_sound(self) -> bool:
        return bool(self.strokes.all() and self.lengths.all() and np.isfinite(self.points).all())

    def require_bounded(self) -> None:
        """Raises a `DataError` if a drawing is larger than a hand makes any.

        To simplify a drawing may take time that is quadratic in its points.
        """
        most = self.sizes.max(initial=0)
        if most > MAX_POINTS:
            raise DataError(f"the drawing has {most:,} points, must have {MAX_POINTS:,} at most")
        furthest = np.abs(self.points).max(initial=0)
        if furthest > FURTHEST:
            raise DataError(f"a coordinate is {furthest:g}, none must be beyond {FURTHEST:g}")

    @property
    def stroke_starts(self) -> NDArray[np.int64]:
        """int64[strokes], the index of each stroke's first point."""
        return _starts(self.lengths)

    @property
    def drawing_starts(self) -> NDArray[np.int64]:
        """int64[drawings], the index of each drawing's first point."""
        return self.stroke_starts[_starts(self.strokes)]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64[drawings], the number of points of each drawing."""
        return np.diff(self.drawing_starts, append=len(self.points))


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum(lengths)
    return ends - lengths


def check(drawing: Any) -> None:
    """Raises a `DataError` that says what is wrong with a drawing, if anything is."""
    if not isinstance(drawing, list | tuple):
        raise DataError(f"the drawing must be a list of strokes, not {_brief(drawing)}")
    if not drawing:
        raise DataError("the drawing is empty: it has no strokes")
    for number, stroke in enumerate(drawing, 1):
        if not isinstance(stroke, list | tuple) or len(stroke) not in (2, 3):
            raise DataError(
                f"stroke {number}: must be the lists x and y, and t in the raw format, "
                f"not {_brief(stroke)}"
            )
        x, y = (_numbers(f"stroke {number}: {name}", stroke[i]) for i, name in enumerate("xy"))
        if len(x) != len(y):
            raise DataError(f"stroke {number}: x has {len(x)} numbers, y has {len(y)}")
        if not len(x):
            raise DataError(f"stroke {number}: is empty")


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    try:
        numbers = np.array(array("d", values) if isinstance(values, list | tuple) else None, float)
    except (TypeError, OverflowError):
        numbers = np.array(np.nan)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DataError(f"{name} must be a list of finite numbers, not {_brief(values)}")
    return numbers


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
