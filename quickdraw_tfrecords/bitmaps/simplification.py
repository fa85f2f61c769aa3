"""From raw strokes to simplified ones, in the four published steps.

https://github.com/googlecreativelab/quickdraw-dataset#simplified-drawing-files-ndjson: align to
the top left, scale to 0..255, resample at a spacing of 1, and simplify by Ramer, Douglas and
Peucker with epsilon 2.
"""

import numpy as np

from quickdraw_tfrecords.bitmaps.polylines import Polylines

_EXTENT = 255
_EPSILON = 2.0
_GRAIN = 2.0**-20  # to which lengths are rounded


def simplify(polylines: Polylines) -> Polylines:
    """Drawings of any extent and density, simplified; coordinates become whole numbers."""
    dense = _resample(fit(polylines))
    kept = _significant(dense)
    lengths = np.add.reduceat(kept, dense.stroke_starts, dtype=np.int64)
    return Polylines(np.rint(dense.points[kept]), lengths, polylines.strokes)


def fit(polylines: Polylines, *, only_unfit: bool = False) -> Polylines:
    """Moves each drawing to the top left and scales its longer side to 255.

    Args:
      polylines: Drawings of any extent.
      only_unfit: Leave those as they are that are whole numbers within 0 and 255, as
        simplified drawings are.
    """
    points, starts, sizes = polylines.points, polylines.drawing_starts, polylines.sizes
    low = np.minimum.reduceat(points, starts)
    extents = (np.maximum.reduceat(points, starts) - low).max(axis=1, keepdims=True)
    scales = np.divide(_EXTENT, extents, out=np.ones_like(extents), where=extents > 0)
    if only_unfit:
        are_fit = (points >= 0) & (points <= _EXTENT) & (points == np.rint(points))
        keep = np.logical_and.reduceat(are_fit.all(axis=1), starts)
        low[keep], scales[keep] = 0, 1
    fitted = (points - np.repeat(low, sizes, axis=0)) * np.repeat(scales, sizes, axis=0)
    return Polylines(fitted, polylines.lengths, polylines.strokes)


def _resample(polylines: Polylines) -> Polylines:
    """Points at a spacing of 1 along each stroke, and its last point."""
    starts, ends = polylines.stroke_starts, np.cumsum(polylines.lengths) - 1
    steps = np.hypot(*np.diff(polylines.points, axis=0, prepend=polylines.points[:1]).T)
    # So that sums are exact, and do not depend on the strokes before.
    steps = np.rint(steps / _GRAIN) * _GRAIN
    steps[starts] = 1  # between two strokes: their positions must not touch
    positions = np.cumsum(steps)
    lengths = np.ceil(positions[ends] - positions[starts]).astype(np.int64) + 1
    wanted = np.repeat(positions[starts], lengths) + _ranges(lengths)
    wanted = np.minimum(wanted, np.repeat(positions[ends], lengths))
    points = np.stack([np.interp(wanted, positions, axis) for axis in polylines.points.T], axis=1)
    return Polylines(points, lengths, polylines.strokes)


def _significant(polylines: Polylines) -> np.ndarray:
    """bool[points]: what Ramer, Douglas and Peucker keep.

    All pieces of all strokes are cut at once, at the point that is furthest from the chord,
    until no point is further than epsilon.
    """
    points = polylines.points
    kept = np.zeros(len(points), bool)
    first, last = polylines.stroke_starts, np.cumsum(polylines.lengths) - 1
    kept[first] = kept[last] = True
    while len(first):
        inner = last - first - 1
        first, last, inner = first[inner > 0], last[inner > 0], inner[inner > 0]
        if not len(first):
            break
        piece = np.repeat(np.arange(len(first)), inner)
        index = first[piece] + 1 + _ranges(inner)
        distances = _distances(points[index], points[first[piece]], points[last[piece]])
        furthest = np.maximum.reduceat(distances, np.cumsum(inner) - inner)
        hits = np.flatnonzero(distances == furthest[piece])
        _, firsts = np.unique(piece[hits], return_index=True)
        cut, far = index[hits[firsts]], furthest > _EPSILON
        kept[cut[far]] = True
        first, last = (
            np.concatenate([first[far], cut[far]]),
            np.concatenate([cut[far], last[far]]),
        )
    return kept


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From points to the lines through start and end; to start, where both are one point."""
    chord, arm = end - start, points - start
    length = np.hypot(*chord.T)
    across = np.abs(chord[:, 0] * arm[:, 1] - chord[:, 1] * arm[:, 0])
    return np.where(length > 0, across / np.where(length > 0, length, 1), np.hypot(*arm.T))


def _ranges(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... of each length, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
