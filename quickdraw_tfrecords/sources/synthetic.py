"""Procedural sketches: synthetic drawings, not Google's.

    source = SyntheticSource(seed=0)
    images = source.read(label=3, rows=np.array([0, 17, 100_000]))  # uint8[3, 784]

A class is a symbol grown from its name alone, so other classes do not change it. A
drawing is the symbol in a hurried hand: strokes are displaced, turned and left open,
lines waver, the whole leans; a stroke may be missing or one too many, and a few
drawings are unfinished or of another class. Ink, line width and margins are as in
Google's bitmaps.

Drawing (seed, class, row) is a pure function: every number it needs is a hash of those
three. A drawing is made with +, -, *, / and square roots only, which round alike on any
machine and at any place in an array, so its bytes do not depend on how rows are split
over calls.
"""

import dataclasses
import functools
import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from quickdraw_tfrecords import class_names as names
from quickdraw_tfrecords.errors import UsageError

GENERATOR_VERSION = 1  # To be raised with any change to the drawings.
DRAWINGS_PER_CLASS = 131_072
NOTE = "synthetic drawings made by a procedure; not Google's Quick, Draw! drawings"

# Google's proportions (googlecreativelab/quickdraw-dataset#19): a drawing fits a box of
# 256, its line is 16 wide, and outside the line there is a padding of 16.
_BOX, _LINE_WIDTH, _PADDING = 256, 16, 16
_PAGE = _BOX + _LINE_WIDTH + 2 * _PADDING
_GAIN, _OFFSET = 1.25, 0.11  # Sharpen the edge of a line, which the splat leaves soft.

# A drawing is 200 points and an extra stroke, in pieces of 10. A stroke is a run of pieces,
# so what varies by stroke or slowly along the pen's path is random by piece.
_PIECES, _PIECE_POINTS = 21, 10
_STROKES = 13  # At most; the last is the extra one.

# How far a hurried hand strays, where a symbol's body has about unit radius.
_TURN, _SHIFT, _DRIFT, _WAVER, _LEAN, _BEND = 0.15, 0.11, 0.2, 0.06, 0.25, 0.15
_EXTRA_SWING = 5  # The extra stroke starts as a short line and is displaced this much more.
_MISSING_SHARE, _EXTRA_SHARE, _UNFINISHED_SHARE, _WRONG_SHARE = 0.1, 0.15, 0.05, 0.06

# What people draw when they draw something else. A fixed list, since with the source's
# own classes a drawing would depend on which other classes there are.
_WRONG_CLASSES = (
    *("apple", "car", "cat", "circle", "cloud", "face", "fish", "flower", "hand", "house"),
    *("line", "moon", "square", "squiggle", "star", "sun", "tree", "triangle", "zigzag"),
)

# Shapes of the random numbers that one drawing takes.
_NUMBERS = {
    "fate": (4,),  # Wrong, which wrong class, unfinished, how hurried.
    "presence": (_STROKES,),
    "jitter": (8, _STROKES),
    "waver": (2, _PIECES + 1),
    "lean": (6,),
}
_JITTER = np.repeat([_TURN, _SHIFT, _DRIFT], (4, 2, 2)).astype(np.float32)[:, None]


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """A `Source` of synthetic sketches; none of them is Google's.

    Attributes:
      class_names: Any names; None stands for the 345 of Quick, Draw!.
      seed: Non-negative; each seed gives other drawings of the same symbols.
      side: Height and width of a drawing in pixels, 20 or more.

    Raises:
      UsageError: A bad seed, side or class name, a name given twice, or no name.
    """

    class_names: tuple[str, ...] | None = None
    seed: int = 0
    side: int = 28

    def __post_init__(self):
        if self.seed < 0:
            raise UsageError(f"seed: {self.seed} is negative; it must be 0 or more")
        if self.side < 20:
            raise UsageError(
                f"side: {self.side} pixels is too few for a line of one pixel; 20 is the least"
            )
        wanted = names.quickdraw_class_names() if self.class_names is None else self.class_names
        if not wanted:
            raise UsageError("class_names: there are none; name at least one class")
        object.__setattr__(self, "class_names", names.select(wanted, None))

    @property
    def counts(self) -> tuple[int, ...]:
        """`DRAWINGS_PER_CLASS` for each class."""
        return (DRAWINGS_PER_CLASS,) * len(self.class_names)

    def read(self, label: int, rows: np.ndarray) -> np.ndarray:
        """Draws the rows of one class as uint8[n, side * side]; see `Source.read`."""
        name = self.class_names[label]
        images = np.empty((len(rows), self.side**2), np.uint8)
        chunk = max(1, 200_000 // self.side**2)  # Stays within the processor's cache.
        for start in range(0, len(rows), chunk):
            some = slice(start, start + chunk)
            numbers = _numbers(_hash(f"{self.seed}/{name}"), rows[some])
            images[some] = _rasterise(*_sketch(name, **numbers), self.side)
        return images

    def describe(self) -> dict[str, Any]:
        """What the drawings depend on, and that they are synthetic."""
        return {
            "kind": "synthetic",
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "side": self.side,
            "note": NOTE,
        }


def _hash(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), which scatters a counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _numbers(key: np.uint64, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Uniform float32[n, *shape] in [-1, 1) for each of `_NUMBERS`, hashed from key and row."""
    sizes = [math.prod(shape) for shape in _NUMBERS.values()]
    counters = np.arange(1, sum(sizes) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    states = _mix(np.asarray(rows).astype(np.uint64) ^ key)
    bits = _mix(states[:, None] + counters) >> np.uint64(40)
    uniform = bits.astype(np.float32) * np.float32(2**-23) - np.float32(1)
    parts = np.split(uniform, np.cumsum(sizes)[:-1], axis=1)
    return {
        name: part.reshape(-1, *shape)
        for part, (name, shape) in zip(parts, _NUMBERS.items(), strict=True)
    }


def _sketch(
    name: str,
    *,
    fate: np.ndarray,
    presence: np.ndarray,
    jitter: np.ndarray,
    waver: np.ndarray,
    lean: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a class once for each row of the `_numbers` given.

    Returns:
      float32[n, 2, points], the pen's path, x before y.
      bool[n, points], whether the pen is down from a point to the next.
    """
    symbols, which = _symbols(name), _which_symbol(fate)
    strokes = symbols.strokes[which]
    hurry = (0.7 + 1.2 * fate[:, 3] * fate[:, 3])[:, None, None]
    jitter = jitter * (_JITTER * hurry)
    jitter[..., -1] *= _EXTRA_SWING
    jitter = np.take_along_axis(jitter, strokes[:, None], axis=2)[..., None]
    arms = symbols.arms[which]
    points = symbols.points[which] + jitter[:, 0:2] * arms[:, :1] + jitter[:, 2:4] * arms[:, 1:]
    points += jitter[:, 4:6] + jitter[:, 6:8] * symbols.progress[which][:, None]
    points += _smooth(waver * (_WAVER * hurry))
    return _leaning(points.reshape(len(points), 2, -1), lean), _pen_down(fate, presence, strokes)


def _which_symbol(fate: np.ndarray) -> np.ndarray:
    """intp[n]: 0 for the class itself, k for the k-th wrong class."""
    wrong = fate[:, 0] < 2 * _WRONG_SHARE - 1
    return np.where(wrong, 1 + (fate[:, 1] + 1) * (len(_WRONG_CLASSES) / 2), 0).astype(np.intp)


def _smooth(knots: np.ndarray) -> np.ndarray:
    """Curves through knots at the ends of pieces: float32[n, 2, pieces, piece points]."""
    t = np.arange(_PIECE_POINTS, dtype=np.float32) / _PIECE_POINTS
    rise = t * t * (3 - 2 * t)
    return knots[..., :-1, None] + (knots[..., 1:, None] - knots[..., :-1, None]) * rise


def _leaning(points: np.ndarray, lean: np.ndarray) -> np.ndarray:
    """Stretches, shears and bends whole drawings."""
    x, y = points[:, 0], points[:, 1]
    a, b, c, d = (lean[:, :4].T * _LEAN)[..., None]
    e, f = (lean[:, 4:].T * _BEND)[..., None]
    return np.stack([x + a * x + b * y + e * y * y, y + c * x + d * y + f * x * x], axis=1)


def _pen_down(fate: np.ndarray, presence: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """bool[n, points]: whether the pen is down from a point to the next."""
    drawn = presence > 2 * _MISSING_SHARE - 1
    drawn[:, -1] = presence[:, -1] > 1 - 2 * _EXTRA_SHARE
    drawn[:, 0] = True  # So that no drawing is empty.
    drawn = np.take_along_axis(drawn, strokes, axis=1)
    drawn[:, _PIECES // 2 :] &= fate[:, 2:3] > 2 * _UNFINISHED_SHARE - 1
    down = np.repeat(drawn[..., None], _PIECE_POINTS, axis=2)
    down[:, :-1, -1] &= drawn[:, 1:] & (strokes[:, :-1] == strokes[:, 1:])
    down[:, -1, -1] = False
    return down.reshape(len(down), -1)


def _rasterise(points: np.ndarray, pen_down: np.ndarray, side: int) -> np.ndarray:
    """Inks paths, fitted and centred as Google does, on uint8[n, side * side]."""
    pixel = side / _PAGE
    low = np.where(pen_down[:, None], points, np.inf).min(axis=2, keepdims=True)
    high = np.where(pen_down[:, None], points, -np.inf).max(axis=2, keepdims=True)
    points = (points - (low + high) / 2) * (_BOX * pixel / (high - low).max(axis=1, keepdims=True))
    steps = points[..., 1:] - points[..., :-1]
    lengths = np.sqrt(steps[:, 0] * steps[:, 0] + steps[:, 1] * steps[:, 1])
    # Where the pen is up the path may leave the page; there it is moved to the middle.
    middles = (points[..., :-1] + steps / 2) * pen_down[:, None, :-1] + np.float32((side - 1) / 2)
    ink = _widen(_splat(middles, lengths * pen_down[:, :-1], side), _LINE_WIDTH * pixel)
    ink = np.clip(ink * _GAIN - _OFFSET, 0, 1)
    return (ink * 255 + np.float32(0.5)).astype(np.uint8).reshape(len(ink), -1)


def _splat(points: np.ndarray, weights: np.ndarray, side: int) -> np.ndarray:
    """Shares each weight among the four pixels around its point: float32[n, side, side]."""
    cells = points.astype(np.intp)
    across, down = (points - cells).astype(np.float32).transpose(1, 0, 2)
    first = (np.arange(len(points)) * side**2)[:, None] + cells[:, 1] * side + cells[:, 0]
    right, below = weights * across, weights * down
    corner = right * down
    shares = (weights - right - below + corner, right - corner, below - corner, corner)
    grids = (
        np.bincount((first + offset).ravel(), share.ravel(), len(points) * side**2)
        for offset, share in zip((0, 1, side, side + 1), shares, strict=True)
    )
    return sum(grids).astype(np.float32).reshape(-1, side, side)


def _widen(ink: np.ndarray, width: float) -> np.ndarray:
    """Box-filters along both axes, so that a line of density 1 becomes `width` pixels wide."""
    reach = math.ceil((width - 1) / 2)
    edge = width / 2 - reach + 0.5
    for axis in (1, 2):
        inner = sum(np.roll(ink, k, axis) for k in range(1 - reach, reach))
        ink = inner + edge * (np.roll(ink, -reach, axis) + np.roll(ink, reach, axis))
    return ink / width


class _Symbol(NamedTuple):
    """What all drawings of a class have in common.

    Attributes:
      points: float32[2, pieces, piece points], the pen's path.
      arms: The same, each stroke from its own centre.
      progress: float32[pieces, piece points], from -0.5 to 0.5 along each stroke.
      strokes: intp[pieces], the stroke of each piece.
    """

    points: np.ndarray
    arms: np.ndarray
    progress: np.ndarray
    strokes: np.ndarray


@functools.lru_cache(maxsize=1)
def _symbols(name: str) -> _Symbol:
    """The symbol of a class, then those of the wrong classes, stacked."""
    return _Symbol(*map(np.stack, zip(*map(_symbol, (name, *_WRONG_CLASSES)), strict=True)))


@functools.cache
def _symbol(name: str) -> _Symbol:
    outlines = _outlines(random.Random(name))
    pieces = _share_pieces([_length(outline) for outline in outlines])
    outlines.append(np.array([-0.2, 0.2], complex))  # The extra stroke.
    pieces.append(1)
    paths = [_resample(z, k * _PIECE_POINTS) for z, k in zip(outlines, pieces, strict=True)]
    return _Symbol(
        points=_planes(paths),
        arms=_planes([_centred(path) for path in paths]),
        progress=_planes([np.linspace(-0.5, 0.5, len(path)) for path in paths])[0],
        strokes=np.repeat([*range(len(paths) - 1), _STROKES - 1], pieces),
    )


def _planes(paths: list[np.ndarray]) -> np.ndarray:
    """Complex paths as float32[2, pieces, piece points]."""
    path = np.concatenate(paths).reshape(_PIECES, _PIECE_POINTS)
    # Rounded, as the last bit of a sine differs between machines.
    return np.round([path.real, path.imag], 4).astype(np.float32)


def _share_pieces(lengths: list[float]) -> list[int]:
    """Shares all pieces but the extra stroke's among strokes, by their length."""
    pieces = [1] * len(lengths)
    while sum(pieces) < _PIECES - 1:
        longest = max(range(len(pieces)), key=lambda k: lengths[k] / pieces[k])
        pieces[longest] += 1
    return pieces


def _resample(path: np.ndarray, count: int) -> np.ndarray:
    along = np.append(0, np.abs(np.diff(path)).cumsum())
    return np.interp(np.linspace(0, along[-1], count), along, path)


def _length(path: np.ndarray) -> float:
    return round(float(np.abs(np.diff(path)).sum()), 6)


def _radii(path: np.ndarray) -> tuple[float, float]:
    """Half the width and half the height of a path."""
    return float(np.ptp(path.real)) / 2, float(np.ptp(path.imag)) / 2


def _centred(path: np.ndarray) -> np.ndarray:
    rx, ry = _radii(path)
    return path - complex(path.real.min() + rx, path.imag.min() + ry)


def _outlines(rng: random.Random) -> list[np.ndarray]:
    """Grows a symbol: a body and what is in and around it, as complex paths, y downwards."""
    body = _closed(rng) if rng.random() < 0.8 else _open(rng)
    body = body + _unit(rng.random()) * body**2 / 8  # Egg-shaped this way or that.
    body = _centred(body * _unit(_choose(rng, (0, 0, 0, 1 / 8, -1 / 8, 1 / 4))))
    squash = rng.uniform(0.5, 1)
    rx, ry = _choose(rng, ((1, 1), (1, squash), (squash, 1)))
    strokes = [body.real * rx + 1j * body.imag * ry]
    for _ in range(_choose(rng, (2, 3, 3, 4))):
        detail = _choose(rng, _DETAILS)(rng, *_radii(strokes[0]))
        if len(strokes + detail) < _STROKES and _inkiness(strokes + detail) < _MAX_INKINESS:
            strokes += detail
    return strokes


def _inkiness(strokes: list[np.ndarray]) -> float:
    """Length of all lines against the size of the drawing."""
    return sum(map(_length, strokes)) / (2 * max(_radii(np.concatenate(strokes))))


def _choose(rng: random.Random, options: Sequence[Any]) -> Any:
    return options[int(rng.random() * len(options))]  # Of `rng`, only random() is for ever.


def _unit(turns: Any) -> Any:
    return np.exp(2j * np.pi * turns)


def _arc(stop: float, points: int = 97) -> np.ndarray:
    """Part of the unit circle, as `points` corners."""
    return _unit(np.linspace(0, stop, points))


def _closed(rng: random.Random) -> np.ndarray:
    corners, circle = _choose(rng, (3, 4, 4, 5, 6)), _arc(1)
    bumps = np.abs(np.sin(np.linspace(0, corners * np.pi, 97)))
    shapes = {
        "circle": circle,
        "ellipse": circle.real + 0.7j * circle.imag,
        "polygon": _arc(1, corners + 1) * _unit(0.5 / corners - 0.25),
        "star": _arc(1, 2 * corners + 1) * np.resize([-1j, -0.45j], 2 * corners + 1),
        "cloud": circle * (0.75 + 0.3 * bumps),
        "drop": circle.imag * (0.5 + 0.5 * circle.real) - 1j * circle.real,
        "half": np.append(_arc(0.5), 1),
    }
    return _choose(rng, list(shapes.values()))


def _open(rng: random.Random) -> np.ndarray:
    turns, x = _choose(rng, (2, 3, 4, 5)), np.linspace(-1, 1, 97)
    shapes = {
        "line": np.array([-1, 1], complex),
        "arc": _arc(0.5) + 0.2j,
        "zigzag": np.linspace(-1, 1, turns + 2) + 1j * np.resize([-0.4, 0.4], turns + 2),
        "wave": x + 0.35j * np.sin(x * np.pi * turns / 2),
        "spiral": _arc(turns / 2) * np.linspace(0.1, 1, 97),
        "hook": np.append(-1.5j, _arc(0.5) - 0.5) * 0.7,
    }
    return _choose(rng, list(shapes.values()))


def _any_shape(rng: random.Random, low: float, high: float) -> np.ndarray:
    shape = _closed(rng) if rng.random() < 0.5 else _open(rng)
    return _centred(shape) * rng.uniform(low, high)


def _row(rng: random.Random, most: int) -> np.ndarray:
    """One to `most` places, evenly in [-1, 1]."""
    count = 1 + int(rng.random() * most)
    return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


def _inside(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    places = _row(rng, 3)
    shape = _any_shape(rng, 0.3, 0.5) / len(places) ** 0.8
    height = 1j * ry * rng.uniform(-0.35, 0.35)
    return [shape + 0.5 * x * rx + height for x in places]


def _across(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    line, places = np.array([-0.9, 0.9]), _row(rng, 3) * 0.4 + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.5:
        return [line * rx + 1j * y * ry for y in places]
    return [x * rx + 1j * line * ry for x in places]


def _above(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    places = _row(rng, 4) * rng.uniform(0.4, 0.8)
    legs = np.array([0.5j, -0.5j]) * rng.uniform(0.4, 1)
    shape = legs if rng.random() < 0.5 else _any_shape(rng, 0.4, 0.8) / len(places) ** 0.8
    return [shape + x * rx - 1j * (0.9 * ry + _radii(shape)[1]) for x in places]


def _below(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    return [stroke.conj() for stroke in _above(rng, rx, ry)]


def _sides(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    shape = _any_shape(rng, 0.25, 0.6) * _unit(rng.uniform(-0.2, 0.2))
    right = shape + 0.9 * rx + _radii(shape)[0] + 1j * ry * rng.uniform(-0.8, 0.6)
    return [right, -right.conj()]


def _ring(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    ray = np.array([1.1, 1.1 + rng.uniform(0.3, 0.7)])
    directions = _arc(1, 6 + int(rng.random() * 3))[:-1]
    return [ray * complex(d.real * rx, d.imag * ry) for d in directions]


def _tail(rng: random.Random, rx: float, ry: float) -> list[np.ndarray]:
    tail = _open(rng)
    tail = (tail - tail[0]) / np.abs(tail - tail[0]).max() * _unit(rng.uniform(-0.15, 0.15))
    tail = tail + 0.95 * rx + 1j * ry * rng.uniform(-0.4, 0.4)
    return [_choose(rng, (tail, -tail.conj()))]


_DETAILS = (_inside, _inside, _across, _above, _above, _below, _below, _sides, _ring, _tail)
_MAX_INKINESS = 6  # As few of Google's drawings exceed.
