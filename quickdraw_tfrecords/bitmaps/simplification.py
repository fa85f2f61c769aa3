"""From raw strokes to simplified ones, in the four published steps.

https://github.com/googlecreativelab/quickdraw-dataset#simplified-drawing-files-ndjson: align to
the top left, scale to 0..255, resample at a spacing of 1, and simplify by Ramer, Douglas and
Peucker with epsilon 2.

A short raw stroke may be millions of units long once it is scaled, so the resampled points are
never all made. Of those on one straight segment, the first or the last is the furthest from any
chord. Ramer, Douglas and Peucker keep no others, so these two per segment are enough:

    raw         o-----------------o--------------o      3 points
    resampled   x--x--x--x--x--x--x--x--x--x--x--x      12 points
    made        x                 xx             x      4 points
"""

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.bitmaps.polylines import Polylines

_MAX_COORDINATE = 255
_EPSILON = 2.0
_GRAIN = 2.0**-20  # to which lengths are rounded
_LEAST_EXTENT = 1e-6  # of a raw drawing, in pixels; a smaller one is a dot
_LONG = 256  # points: a longer piece is cut by itself

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def simplify(polylines: Polylines) -> Polylines:
    """Simplifies drawings of any extent and density; coordinates become whole numbers."""
    if not len(polylines.strokes):
        return polylines
    dense = _resample(fit(polylines))
    kept = _significant(dense)
    lengths: Ints = np.add.reduceat(kept, dense.stroke_starts, dtype=np.int64)
    return Polylines(np.rint(dense.points[kept]), lengths, polylines.strokes)


def fit(polylines: Polylines, *, only_unfit: bool = False) -> Polylines:
    """Moves each drawing to the top left and scales its longer side to 255.

    Args:
      polylines: Drawings of any extent.
      only_unfit: Leave drawings as they are if they consist of whole numbers within 0 and 255,
        as simplified ones do.
    """
    points, starts, sizes = polylines.points, polylines.drawing_starts, polylines.sizes
    low = np.minimum.reduceat(points, starts)
    extents = (np.maximum.reduceat(points, starts) - low).max(axis=1, keepdims=True)
    has_extent = extents > _LEAST_EXTENT
    # An extent of next to nothing would make a scale that is not finite.
    scales = np.divide(_MAX_COORDINATE, extents, out=np.ones_like(extents), where=has_extent)
    if only_unfit:
        are_fit = (points >= 0) & (points <= _MAX_COORDINATE) & (points == np.rint(points))
        keep = np.logical_and.reduceat(are_fit.all(axis=1), starts)
        low[keep], scales[keep] = 0, 1
    fitted = (points - np.repeat(low, sizes, axis=0)) * np.repeat(scales, sizes, axis=0)
    return Polylines(fitted, polylines.lengths, polylines.strokes)


def _resample(polylines: Polylines) -> Polylines:
    """Resamples strokes at a spacing of 1; makes the first and last new point of each segment."""
    lengths = polylines.lengths
    starts, ends = polylines.stroke_starts, np.cumsum(lengths) - 1
    steps = np.hypot(*np.diff(polylines.points, axis=0, prepend=polylines.points[:1]).T)
    # So that sums are exact, and do not depend on the strokes before.
    steps = np.rint(steps / _GRAIN) * _GRAIN
    steps[starts] = 1  # between two strokes: their positions must not touch
    positions = np.cumsum(steps)
    # The new points of a stroke are at its start, every unit from there, and at its end. Those
    # of a segment are ceil(where it begins) to floor(where it ends), which may be none.
    origins = np.repeat(positions[starts], lengths)
    along = positions - origins
    first, last = np.ceil(along[:-1]), np.floor(along[1:])
    has_new = (first <= last) & (np.diff(origins) == 0)
    new = [(origins[:-1] + edge)[has_new] for edge in (first, last)]
    wanted = np.unique(np.concatenate([positions[starts], positions[ends], *new]))
    points = np.stack([np.interp(wanted, positions, axis) for axis in polylines.points.T], axis=1)
    # Positions of strokes do not touch, so each stroke's new points are a run of all of them.
    borders = np.searchsorted(wanted, positions[starts])
    return Polylines(points, np.diff(borders, append=len(wanted)), polylines.strokes)


def _significant(polylines: Polylines) -> NDArray[np.bool_]:
    """bool[points]: those that Ramer, Douglas and Peucker keep.

    A piece of a stroke is cut at the point that is furthest from the chord between its ends,
    and so are the two pieces, until no point is further than epsilon.
    """
    points = polylines.points
    kept = np.zeros(len(points), bool)
    first, last = polylines.stroke_starts, np.cumsum(polylines.lengths) - 1
    kept[first] = kept[last] = True
    first, last = _cut_long(points, first, last, kept)
    while len(first):
        first, last = _cut_short(points, first, last, kept)
    return kept


def _cut_long(
    points: Floats, first: Ints, last: Ints, kept: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Cuts pieces that are long, one by one, and returns all that are short.

    A drawing can be made so that each cut takes off a single point, in which case all others
    are looked at again. One slice is looked at far faster than `_cut_short` could.
    """
    pending, short = list(zip(first.tolist(), last.tolist(), strict=True)), []
    while pending:
        start, stop = pending.pop()
        if stop - start <= _LONG:
            short.append((start, stop))
            continue
        distances = _distances(points[start + 1 : stop], points[start], points[stop])
        cut = start + 1 + int(distances.argmax())
        if distances[cut - start - 1] > _EPSILON:
            kept[cut] = True
            pending += [(start, cut), (cut, stop)]
    ends = np.array(short, np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def _cut_short(
    points: Floats, first: Ints, last: Ints, kept: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Cuts all pieces once, and returns those that they are cut into."""
    inner = last - first - 1
    first, last, inner = first[inner > 0], last[inner > 0], inner[inner > 0]
    if not len(first):
        return first, last
    # All inner points of all pieces in one array, so that the pieces are cut all at once.
    piece = np.repeat(np.arange(len(first)), inner)
    index = first[piece] + 1 + _ranges(inner)
    distances = _distances(points[index], points[first[piece]], points[last[piece]])
    furthest = np.maximum.reduceat(distances, np.cumsum(inner) - inner)
    # Of several that are equally far the first counts, as in the published recursion.
    hits = np.flatnonzero(distances == furthest[piece])
    _, firsts = np.unique(piece[hits], return_index=True)
    cut, far = index[hits[firsts]], furthest > _EPSILON
    kept[cut[far]] = True
    return np.concatenate([first[far], cut[far]]), np.concatenate([cut[far], last[far]])


def _distances(points: Floats, start: Floats, end: Floats) -> Floats:
    """From points to the lines through start and end; to start, where both are one point."""
    chord, arm = end - start, points - start
    length = np.hypot(chord[..., 0], chord[..., 1])
    across = np.abs(chord[..., 0] * arm[..., 1] - chord[..., 1] * arm[..., 0])
    has_length = length > 0
    if has_length.all():  # nearly always
        distances: Floats = across / length
        return distances
    to_start = np.hypot(arm[..., 0], arm[..., 1])
    return np.where(has_length, across / np.where(has_length, length, 1), to_start)


def _ranges(lengths: Ints) -> Ints:
    """0, 1, ... for each length, one range after the other."""
    ends: Ints = np.cumsum(lengths)
    return np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
