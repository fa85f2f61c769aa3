"""Many drawings' strokes in three flat arrays, the form that is checked and computed with.

A drawing is a list of strokes, a stroke a list [x, y] or [x, y, t] of equally long lists of
numbers, as in https://github.com/googlecreativelab/quickdraw-dataset#the-raw-moderated-dataset.
"""

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from quickdraw_tfrecords.base.errors import DataError

Drawing = Sequence[Sequence[Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class Polylines:
    """Drawings as polylines. No drawing and no stroke is empty, and all numbers are finite.

    Attributes:
      points: float64[points, 2], x and y of all points of all strokes, in order.
      lengths: int64[strokes], the points of each stroke.
      strokes: int64[drawings], the strokes of each drawing.
    """

    points: np.ndarray
    lengths: np.ndarray
    strokes: np.ndarray

    @classmethod
    def of(cls, drawings: Sequence[Drawing]) -> "Polylines":
        """Flattens drawings; times, where there are any, are left out.

        Raises:
          DataError: What is given is no drawing; says which stroke of it is wrong, and how.
        """
        try:
            polylines = cls._flatten(drawings)
        except (TypeError, ValueError, OverflowError, LookupError):
            polylines = None
        if polylines is None or not polylines._is_sound():
            for drawing in drawings:
                check(drawing)
        return polylines

    @classmethod
    def _flatten(cls, drawings: Sequence[Drawing]) -> "Polylines":
        xs, ys, lengths, strokes = [], [], [], []
        for drawing in drawings:
            for stroke in drawing:
                x, y = stroke[0], stroke[1]
                xs += x
                ys += y
                lengths.append(len(x) if len(x) == len(y) else 0)  # 0 is not sound
            strokes.append(len(drawing))
        # An array takes numbers only, where numpy would read strings as numbers too.
        points = np.stack([array("d", xs), array("d", ys)], axis=1)
        return cls(points, np.array(lengths, np.int64), np.array(strokes, np.int64))

    def _is_sound(self) -> bool:
        return bool(self.strokes.all() and self.lengths.all() and np.isfinite(self.points).all())

    @property
    def stroke_starts(self) -> np.ndarray:
        """int64[strokes], the first point of each stroke."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def drawing_starts(self) -> np.ndarray:
        """int64[drawings], the first point of each drawing."""
        return self.stroke_starts[np.cumsum(self.strokes) - self.strokes]

    @property
    def sizes(self) -> np.ndarray:
        """int64[drawings], the points of each drawing."""
        return np.diff(self.drawing_starts, append=len(self.points))


def check(drawing: Any) -> None:
    """Raises a `DataError` that says what is wrong with a drawing, if something is."""
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


def _numbers(name: str, values: Any) -> np.ndarray:
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
