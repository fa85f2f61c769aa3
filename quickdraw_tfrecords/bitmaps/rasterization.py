"""From strokes to bitmaps, by the published method of the data set's makers.

    rasterize([[[[0, 255], [0, 128]]]], side=28)     # uint8[1, 784], ink high on 0

https://github.com/googlecreativelab/quickdraw-dataset/issues/19: cairo, a page of 256 units, a
line of 16 with round caps and joins, 16 of padding and half a line around; a drawing, which
is aligned to the top left, is centred. Each stroke is inked by itself.
"""

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps.polylines import Drawing, Polylines
from quickdraw_tfrecords.bitmaps.simplification import simplify

_EXTENT, _LINE_WIDTH, _PADDING = 256, 16, 16
_MARGIN = _PADDING + _LINE_WIDTH / 2
_PAGE = _EXTENT + 2 * _MARGIN

# cairo_path_data_t, two of which make a point (a header, then the point), and cairo_path_t.
_MOVE_TO, _LINE_TO = 0, 1
_POINT = np.dtype(
    [("type", np.intc), ("length", np.intc), ("unused", np.double), ("xy", np.double, 2)]
)
_PATH = np.dtype([("status", np.intc), ("data", np.uintp), ("num_data", np.intc)], align=True)


def parse(line: str | bytes) -> dict[str, Any]:
    """The fields of one line of an `.ndjson` file; `outline` checks the drawing itself.

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


def rasterize(drawings: Sequence[Drawing], side: int = 28, *, raw: bool = False) -> np.ndarray:
    """Draws the strokes of drawings as Google's bitmaps are drawn.

    Args:
      drawings: Lists of strokes, each a list [x, y] or [x, y, t] of lists of numbers.
      side: Height and width of a bitmap in pixels.
      raw: They are of any extent and are simplified first; else they are in the simplified
        form: within 0 to 255, at the top left.

    Returns:
      uint8[drawings, side * side], row-major, ink high on 0.

    Raises:
      DataError: One is no drawing, or not simplified; or cairo is not installed.
    """
    polylines = outline(drawings, raw=raw)
    return draw(simplify(polylines) if raw else polylines, side)


def outline(drawings: Sequence[Drawing], *, raw: bool = False) -> Polylines:
    """Checks drawings; the arguments and errors are those of `rasterize`."""
    polylines = Polylines.of(drawings)
    low, high = polylines.points.min(initial=0), polylines.points.max(initial=0)
    if not raw and (low < 0 or high > _EXTENT):
        raise DataError(
            f"coordinates from {low:g} to {high:g}, must be within 0 and 255: "
            "is it in the raw format, which is simplified first (--stroke_format=raw)?"
        )
    return polylines


def draw(polylines: Polylines, side: int) -> np.ndarray:
    """As `rasterize`, of drawings that are simplified and checked."""
    if not len(polylines.strokes):
        return np.empty((0, side * side), np.uint8)
    offsets = (_EXTENT - np.maximum.reduceat(polylines.points, polylines.drawing_starts)) / 2
    centred = polylines.points + np.repeat(offsets, polylines.sizes, axis=0)
    # Scaled here and not by cairo, which takes a tenth more time for it.
    points, paths = _paths((centred + _MARGIN) * (side / _PAGE), polylines)
    return _Canvas(side).draw(paths, polylines.strokes.tolist(), keep_alive=points)


def _paths(points: np.ndarray, polylines: Polylines) -> tuple[np.ndarray, np.ndarray]:
    """All strokes as `_POINT[points + strokes]`, which `_PATH[strokes]` refer to."""
    # Each begins with a move to its first point and a line to it, so that one point is a dot.
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
    """A cairo surface and its context, used again for every drawing."""

    def __init__(self, side: int) -> None:
        cairo = load_cairo()
        self._side, self._lib, self._ffi = side, cairo.cairo, cairo.ffi
        self._surface = cairo.ImageSurface(cairo.FORMAT_A8, side, side)
        self._context = cairo.Context(self._surface)
        self._context.set_source_rgba(1, 1, 1, 1)
        self._context.set_line_cap(cairo.LINE_CAP_ROUND)
        self._context.set_line_join(cairo.LINE_JOIN_ROUND)
        self._context.set_line_width(_LINE_WIDTH * side / _PAGE)

    def draw(self, paths: np.ndarray, strokes: list[int], *, keep_alive: np.ndarray) -> np.ndarray:
        """Draws `_PATH[n]`; `strokes` says how many make a drawing."""
        del keep_alive  # what the paths refer to: the caller's argument holds it until we return
        page = np.frombuffer(self._surface.get_data(), np.uint8).reshape(self._side, -1)
        visible = page[:, : self._side]  # the rows of a page are padded to whole words
        images = np.empty((len(strokes), self._side, self._side), np.uint8)
        # Whole paths, past cairocffi's own checks: a call for each point takes most of the time.
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
    """The package cairocffi, with the system library behind it.

    Raises:
      DataError: One of them is not installed; says how to.
    """
    try:
        import cairocffi
    except (ImportError, OSError):  # the second: it does not find the system's library
        raise DataError(
            "drawing strokes needs cairo: install it with 'pip install cairocffi', and the "
            "system's libcairo2 (apt-get install libcairo2, brew install cairo)"
        ) from None
    return cairocffi
