"""Drawings made by a procedure; none of them is Google's.

    >>> source = SyntheticSource(("cat", "tree"), seed=0)
    >>> source.read(label=1, rows=np.array([0, 17, 100_000])).shape    # uint8, ink high on 0
    (3, 784)

A class is a symbol grown from its name alone, so other classes do not change it. A drawing is
the symbol in a hurried hand: strokes are displaced, turned and left open, lines waver, the whole
leans; a stroke may be missing or one too many, and a few drawings are unfinished or of another
class. Ink, line width and margins are as in Google's bitmaps.

A drawing is a pure function of (seed, class, row): every random number in it is a hash of those
three. It is computed with +, -, *, / and square roots only, which round alike on any machine and
at any place in an array, so its bytes do not depend on how rows are split over calls.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.bitmaps.page import EXTENT, LINE_WIDTH, PAGE_SIZE
from quickdraw_tfrecords.sources.symbols import (
    PIECE_POINTS,
    PIECES,
    STROKES,
    WRONG_CLASSES,
    stacked_symbols,
)

Floats = NDArray[np.floating[Any]]  # float32 all of them, which mypy cannot infer

GENERATOR_VERSION = 1  # to be raised with any change to the drawings
DRAWINGS_PER_CLASS = 131_072
NOTE = "synthetic drawings made by a procedure; not Google's Quick, Draw! drawings"

_GAIN, _OFFSET = 1.25, 0.11  # sharpen the edges of lines, which the splat leaves soft

# How far a hurried hand strays; a symbol's body has a radius of about 1.
_TURN, _SHIFT, _DRIFT, _WAVER, _LEAN, _BEND = 0.15, 0.11, 0.2, 0.06, 0.25, 0.15
_EXTRA_SWING = 5  # how much more the extra stroke, a short line at first, is displaced
_MISSING, _EXTRA, _UNFINISHED, _WRONG = 0.1, 0.15, 0.05, 0.06

# Shapes of the random numbers that one drawing needs.
_NUMBERS = {
    "fate": (4,),  # wrong class or not, which, unfinished or not, how hurried
    "presence": (STROKES,),
    "jitter": (8, STROKES),
    "waver": (2, PIECES + 1),
    "lean": (6,),
}
_JITTER = np.repeat([_TURN, _SHIFT, _DRIFT], (4, 2, 2)).astype(np.float32)[:, None]


@dataclasses.dataclass(frozen=True, init=False)
class SyntheticSource:
    """A `Source` of synthetic drawings.

    Attributes:
      class_names: In label order.
      seed: Each seed gives other drawings of the same symbols.
      side: Height and width of a drawing in pixels.
    """

    class_names: tuple[str, ...]
    seed: int
    side: int

    def __init__(
        self, class_names: Sequence[str] | None = None, seed: int = 0, side: int = 28
    ) -> None:
        """Checks what is asked for; draws nothing.

        Args:
          class_names: Any names; the 345 of Quick, Draw! if None.
          seed: 0 or more.
          side: 20 or more.

        Raises:
          UsageError: A bad seed, side or class name, a name given twice, or no name.
        """
        if seed < 0:
            raise UsageError(f"seed: {seed} is negative; it must be 0 or more")
        if side < 20:
            raise UsageError(
                f"side: {side} pixels is too few for a line of one pixel; 20 is the least"
            )
        wanted = names.quickdraw_class_names() if class_names is None else class_names
        if not wanted:
            raise UsageError("class_names: there are none; name at least one class")
        vars(self).update(class_names=names.select(wanted, None), seed=seed, side=side)

    @property
    def counts(self) -> tuple[int, ...]:
        """See `Source.counts`: `DRAWINGS_PER_CLASS` for each class."""
        return (DRAWINGS_PER_CLASS,) * len(self.class_names)

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        name = self.class_names[label]
        images = np.empty((len(rows), self.side**2), np.uint8)
        chunk = max(1, 200_000 // self.side**2)  # as many drawings as fit the processor's cache
        for start in range(0, len(rows), chunk):
            some = slice(start, start + chunk)
            numbers = _numbers(_hash(f"{self.seed}/{name}"), rows[some])
            images[some] = _rasterize(*_trace(name, **numbers), self.side)
        return images

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source.source_rows`."""
        return rows

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; also says that the drawings are synthetic."""
        return {
            "kind": "synthetic",
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "side": self.side,
            "note": NOTE,
        }


def _hash(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), which scatters a counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _numbers(key: np.uint64, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Uniform float32[n, *shape] in [-1, 1) for each of `_NUMBERS`, hashed from key and row."""
    sizes = [math.prod(shape) for shape in _NUMBERS.values()]
    counters = np.arange(1, sum(sizes) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    # A state per drawing, and a number per state and counter: no generator is ever seeded.
    states = _mix(np.asarray(rows).astype(np.uint64) ^ key)
    bits = _mix(states[:, None] + counters) >> np.uint64(40)
    # 24 bits, which is what a float32 holds exactly.
    uniform = bits.astype(np.float32) * np.float32(2**-23) - np.float32(1)
    parts = np.split(uniform, np.cumsum(sizes)[:-1], axis=1)
    return {
        name: part.reshape(-1, *shape)
        for part, (name, shape) in zip(parts, _NUMBERS.items(), strict=True)
    }


def _trace(
    name: str,
    *,
    fate: Floats,
    presence: Floats,
    jitter: Floats,
    waver: Floats,
    lean: Floats,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Traces a class's symbol once for each row of the `_numbers` given.

    Returns:
      float32[n, 2, points], the pen's path, x before y.
      bool[n, points], whether the pen is down from a point to the next.
    """
    symbols, which = stacked_symbols(name), _which_symbol(fate)
    strokes = symbols.strokes[which]
    # Few people hurry a lot, hence the square.
    hurry = (0.7 + 1.2 * fate[:, 3] * fate[:, 3])[:, None, None]
    jitter = jitter * (_JITTER * hurry)
    jitter[..., -1] *= _EXTRA_SWING
    # From one number per stroke to one per piece.
    jitter = np.take_along_axis(jitter, strokes[:, None], axis=2)[..., None]
    arms = symbols.arms[which]
    # 0 to 3 are a linear map about the center of each stroke, which turns and stretches it; 4 and
    # 5 shift it, 6 and 7 make it drift along its way.
    points = symbols.points[which] + jitter[:, 0:2] * arms[:, :1] + jitter[:, 2:4] * arms[:, 1:]
    points += jitter[:, 4:6] + jitter[:, 6:8] * symbols.progress[which][:, None]
    points += _smooth(waver * (_WAVER * hurry))
    return _leaning(points.reshape(len(points), 2, -1), lean), _pen_down(fate, presence, strokes)


def _which_symbol(fate: Floats) -> NDArray[np.intp]:
    """intp[n]: 0 for the class itself, k for the k-th wrong class."""
    wrong = fate[:, 0] < 2 * _WRONG - 1
    return np.where(wrong, 1 + (fate[:, 1] + 1) * (len(WRONG_CLASSES) / 2), 0).astype(np.intp)


def _smooth(knots: Floats) -> Floats:
    """Curves through knots at the ends of pieces: float32[n, 2, pieces, piece points]."""
    t = np.arange(PIECE_POINTS, dtype=np.float32) / PIECE_POINTS
    rise = t * t * (3 - 2 * t)  # level at both ends, so that there is no kink at a knot
    return knots[..., :-1, None] + (knots[..., 1:, None] - knots[..., :-1, None]) * rise


def _leaning(points: Floats, lean: Floats) -> Floats:
    """Stretches, shears and bends whole drawings."""
    x, y = points[:, 0], points[:, 1]
    a, b, c, d = (lean[:, :4].T * _LEAN)[..., None]
    e, f = (lean[:, 4:].T * _BEND)[..., None]
    return np.stack([x + a * x + b * y + e * y * y, y + c * x + d * y + f * x * x], axis=1)


def _pen_down(fate: Floats, presence: Floats, strokes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """bool[n, points]: whether the pen is down from a point to the next."""
    drawn = presence > 2 * _MISSING - 1
    drawn[:, -1] = presence[:, -1] > 1 - 2 * _EXTRA
    drawn[:, 0] = True  # so that no drawing is empty
    drawn = np.take_along_axis(drawn, strokes, axis=1)
    # An unfinished drawing has the first half of the pen's path.
    drawn[:, PIECES // 2 :] &= fate[:, 2:3] > 2 * _UNFINISHED - 1
    down = np.repeat(drawn[..., None], PIECE_POINTS, axis=2)
    # Between the last point of a piece and the first of the next it is down within a stroke only.
    down[:, :-1, -1] &= drawn[:, 1:] & (strokes[:, :-1] == strokes[:, 1:])
    down[:, -1, -1] = False
    return down.reshape(len(down), -1)


def _rasterize(points: Floats, pen_down: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Inks paths, fitted and centered as Google does, as uint8[n, side * side]."""
    pixel = side / PAGE_SIZE
    low = np.where(pen_down[:, None], points, np.inf).min(axis=2, keepdims=True)
    high = np.where(pen_down[:, None], points, -np.inf).max(axis=2, keepdims=True)
    points = (points - (low + high) / 2) * (
        EXTENT * pixel / (high - low).max(axis=1, keepdims=True)
    )
    steps = points[..., 1:] - points[..., :-1]
    lengths = np.sqrt(steps[:, 0] * steps[:, 0] + steps[:, 1] * steps[:, 1])
    # Where the pen is up the path may leave the page, so those points are moved to its middle;
    # they have no weight.
    middles = (points[..., :-1] + steps / 2) * pen_down[:, None, :-1] + np.float32((side - 1) / 2)
    # A line of no width is spread over pixels, then widened: far cheaper than drawing it.
    ink = _widen(_splat(middles, lengths * pen_down[:, :-1], side), LINE_WIDTH * pixel)
    ink = np.clip(ink * _GAIN - _OFFSET, 0, 1)
    images: NDArray[np.uint8] = (ink * 255 + np.float32(0.5)).astype(np.uint8)
    return images.reshape(len(images), -1)


def _splat(points: Floats, weights: Floats, side: int) -> Floats:
    """Spreads each weight over the four pixels around its point: float32[n, side, side]."""
    cells = points.astype(np.intp)  # rounds down, as no point is negative
    across, down = (points - cells).astype(np.float32).transpose(1, 0, 2)
    first = (np.arange(len(points)) * side**2)[:, None] + cells[:, 1] * side + cells[:, 0]
    right, below = weights * across, weights * down
    corner = right * down
    quarters = (weights - right - below + corner, right - corner, below - corner, corner)
    grids = (
        np.bincount((first + offset).ravel(), quarter.ravel(), len(points) * side**2)
        for offset, quarter in zip((0, 1, side, side + 1), quarters, strict=True)
    )
    total = functools.reduce(np.add, grids)
    return total.astype(np.float32).reshape(-1, side, side)


def _widen(ink: Floats, width: float) -> Floats:
    """Box-filters along both axes, so that a line of density 1 becomes `width` pixels wide."""
    # As many whole pixels as fit the width, and a fraction of one at either end.
    reach = math.ceil((width - 1) / 2)
    edge = width / 2 - reach + 0.5
    for axis in (1, 2):
        inner = sum(np.roll(ink, k, axis) for k in range(1 - reach, reach))
        ink = inner + edge * (np.roll(ink, -reach, axis) + np.roll(ink, reach, axis))
    return ink / width
