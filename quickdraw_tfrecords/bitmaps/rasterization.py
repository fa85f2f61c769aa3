"""From strokes to bitmaps, by the published method of the data set's makers.

    >>> line = [[[0, 255], [0, 128]]]                # one stroke: its x, its y
    >>> rasterize([line], side=28).shape             # uint8, ink high on 0
    (1, 784)

https://github.com/googlecreativelab/quickdraw-dataset/issues/19: cairo draws lines with round
caps and joins on the page of `page.py`, and the drawing, which is aligned to the top left, is
centered. Each stroke is inked by itself.
"""

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps.page import EXTENT, LINE_WIDTH, MARGIN, PAGE_SIZE
from quickdraw_tfrecords.bitmaps.polylines import Drawing, Polylines
from quickdraw_tfrecords.bitmaps.simplification import simplify

# cairo's C structs: a point is two cairo_path_data_t, a header and then the point itself; a path
# is a cairo_path_t.
_MOVE_TO, _LINE_TO = 0, 1
_POINT = np.dtype(
    [("type", np.intc), ("length", np.intc), ("unused", np.double), ("xy", np.double, 2)]
)
_PATH = np.dtype([("status", np.intc), ("data", np.uintp), ("num_data", np.intc)], align=True)


def parse(line: str | bytes) -> dict[str, Any]:
    """Reads one line of an `.ndjson` file into its fields; `outline` checks the drawing itself.

    Raises:
      DataError: It is not a JSON object with the key 'drawing'; says what is wrong.
    """
    try:
        # json decodes bytes too, but looks for other encodings first.
        record = json.loads(line if isinstance(line, str) else line.decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(record, dict) or "drawing" not in record:
        raise DataError("must be a JSON object with the key 'drawing'")
    return record


def rasterize(
    drawings: Sequence[Drawing], side: int = 28, *, raw: bool = False
) -> NDArray[np.uint8]:
    """Draws the strokes of drawings as Google's bitmaps are drawn.

    Args:
      drawings: Lists of strokes, each a list [x, y] or [x, y, t] of lists of numbers.
      side: Height and width of a bitmap in pixels.
      raw: The drawings have any extent and are simplified first. Otherwise they must be in
        the simplified form: within 0 to 255, at the top left.

    Returns:
      uint8[drawings, side * side], row-major, ink high on 0.

    Raises:
      DataError: One is not a drawing, or not simplified; or cairo is not installed.
    """
    polylines = outline(drawings, raw=raw)
    return draw(simplify(polylines) if raw else polylines, side)


def outline(drawings: Sequence[Drawing], *, raw: bool = False) -> Polylines:
    """Checks drawings; takes the arguments of `rasterize` and raises its errors."""
    polylines = Polylines.of(drawings)
    polylines.require_bounded()
    low, high = polylines.points.min(initial=0), polylines.points.max(initial=0)
    if not raw and (low < 0 or high > EXTENT):
        raise DataError(
            f"coordinates from {low:g} to {high:g}, must be within 0 and 255: "
            "is it in the raw format, which is simplified first (--stroke_format=raw)?"
        )
    return polylines


def draw(polylines: Polylines, side: int) -> NDArray[np.uint8]:
    """Does the work of `rasterize`, for drawings that are simplified and checked."""
    if not len(polylines.strokes):
        return np.empty((0, side * side), np.uint8)
    offsets = (EXTENT - np.maximum.reduceat(polylines.points, polylines.drawing_starts)) / 2
    centered = polylines.points + np.repeat(offsets, polylines.sizes, axis=0)
    # Scaled here rather than by cairo, which would take a tenth more time.
    points, paths = _paths((centered + MARGIN) * (side / PAGE_SIZE), polylines)
    return _Canvas(side).draw(paths, polylines.strokes.tolist(), keep_alive=points)


def _paths(
    points: NDArray[np.float64], polylines: Polylines
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """All strokes as `_POINT[points + strokes]`, and `_PATH[strokes]` that point into it."""
    # A stroke begins with a move to its first point and a line to the same point. So a stroke
    # of a single point has a line of no length, which cairo caps to a dot.
    starts = polylines.stroke_starts
    moves = starts + np.arange(len(starts))
    drawn = np.empty(len(points) + len(starts), _POINT)
    drawn["type"], drawn["length"] = _LINE_TO, 2
    drawn["type"][moves] = _MOVE_TO
    drawn["xy"] = np.insert(points, starts, points[starts], axis=0)
    paths = np.zeros(len(starts), _PATH)
    paths["data"] = drawn.ctypes.data + moves * _POINT.itemsize
    paths["num_data"] = 2 * (polylines.lengths + 1)
    return drawn, paths


class _Canvas:
    """A cairo surface and its context, reused for every drawing."""

    def __init__(self, side: int) -> None:
        cairo = load_cairo()
        self._side, self._lib, self._ffi = side, cairo.cairo, cairo.ffi
        self._surface = cairo.ImageSurface(cairo.FORMAT_A8, side, side)
        self._context = cairo.Context(self._surface)
        self._context.set_source_rgba(1, 1, 1, 1)
        self._context.set_line_cap(cairo.LINE_CAP_ROUND)
        self._context.set_line_join(cairo.LINE_JOIN_ROUND)
        self._context.set_line_width(LINE_WIDTH * side / PAGE_SIZE)

    def draw(
        self, paths: NDArray[np.void], strokes: list[int], *, keep_alive: NDArray[np.void]
    ) -> NDArray[np.uint8]:
        """Draws `_PATH[n]`; `strokes` says how many make up each drawing.

        Args:
          paths: Point into other memory.
          strokes: Their sum is n.
          keep_alive: The memory that the paths point into, which must not go before we return.
        """
        del keep_alive  # the caller still holds it
        page = np.frombuffer(self._surface.get_data(), np.uint8).reshape(self._side, -1)
        visible = page[:, : self._side]  # cairo pads the rows of a page to whole words
        images = np.empty((len(strokes), self._side, self._side), np.uint8)
        # cairocffi takes points one by one, and those calls would be most of the time. So we call
        # the C library below it with whole paths.
        append_path, stroke = self._lib.cairo_append_path, self._lib.cairo_stroke
        context = self._context._pointer
        path = self._ffi.cast("cairo_path_t *", self._ffi.from_buffer(paths))
        for image, count in zip(images, strokes, strict=True):
            page[:] = 0
            for _ in range(count):
                append_path(context, path)
                stroke(context)
                path += 1
            image[:] = visible
        self._context._check_status()
        return images.reshape(len(strokes), -1)


def load_cairo() -> ModuleType:
    """Imports cairocffi, which loads the system library behind it.

    Raises:
      DataError: One of them is not installed; says how to install it.
    """
    try:
        import cairocffi
    except (ImportError, OSError):  # an OSError: it did not find the system's library
        raise DataError(
            "drawing strokes needs cairo: install it with 'pip install cairocffi', and the "
            "system's libcairo2 (apt-get install libcairo2, brew install cairo)"
        ) from None
    module: ModuleType = cairocffi
    return module
